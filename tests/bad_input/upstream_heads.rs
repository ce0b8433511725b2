//! Answers of services: only a right 101 opens a session, a refusal passes whole and once, and everything else is a 502.
//! Rows U1 to U9 of the duties, and what a service that lies would try. Behind each offer waits a frame that no service
//! may see before its 101.

use crate::stand::{Case, Run, Stand, WAYS, Way, offer};
use crate::support::{BINARY, FIN, TEXT, Wire, accept_for, frame, masked};
use crate::upstream_refusals;

/// What the client gets.
#[derive(Clone, Debug)]
pub(crate) enum Client {
    /// 502 with a reason, and the end.
    BadGateway,
    /// This answer and body, and the end.
    Gets(u16, &'static str),
    /// This status, and an end before the end of the body.
    Cut(u16),
    /// As [`Client::Cut`], or 502 if the fault was there before anything had gone out.
    Spoilt(u16),
    /// A 101 with these lines and without those words, then these bytes.
    Opens { has: &'static [&'static str], lacks: &'static [&'static str], then: Vec<u8> },
}

/// An answer; `{accept}` in it is the right value for the offer.
pub(crate) struct Row {
    name: &'static str,
    offered: &'static str,
    answer: Vec<u8>,
    client: Client,
}

const RIGHT: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n";
const ACCEPT: &str = "{accept}";
const PROTOCOLS: &str = "Sec-WebSocket-Protocol: mqtt, chat";
const DEFLATE: &str = "Sec-WebSocket-Extensions: permessage-deflate";

pub(crate) fn row(name: &'static str, answer: impl Into<Vec<u8>>, client: Client) -> Row {
    Row { name, offered: "", answer: answer.into(), client }
}

/// No answer to this offer, or none at all.
pub(crate) fn bad(name: &'static str, answer: impl Into<Vec<u8>>) -> Row {
    row(name, answer, Client::BadGateway)
}

/// A 101 of these lines, separated by `|`, that must not open.
fn wrong(name: &'static str, lines: &str) -> Row {
    bad(name, switch(lines))
}

/// A right 101 with one more line that must not open; `offered` is what the client has offered.
fn unoffered(name: &'static str, offered: &'static str, line: &str) -> Row {
    Row { offered, ..bad(name, right(line)) }
}

/// A right 101 with more lines, and what behind it reaches the client.
fn opens(name: &'static str, lines: &str, has: &'static [&'static str], lacks: &'static [&'static str]) -> Row {
    let then = frame(FIN | TEXT, b"greetings, all of it frames");
    row(name, [right(lines).into_bytes(), then.clone()].concat(), Client::Opens { has, lacks, then })
}

pub(crate) fn joined(lines: &str) -> String {
    lines.split('|').filter(|line| !line.is_empty()).flat_map(|line| [line, "\r\n"]).collect()
}

fn switch(lines: &str) -> String {
    format!("HTTP/1.1 101 Switching Protocols\r\n{}\r\n", joined(lines))
}

pub(crate) fn right(more: &str) -> String {
    format!("HTTP/1.1 101 Switching Protocols\r\n{RIGHT}{}\r\n", joined(more))
}

fn lies() -> Vec<Row> {
    let upgrade = "Upgrade: websocket|Connection: Upgrade";
    let accept = |value: &str| format!("{upgrade}|Sec-WebSocket-Accept: {value}");
    let started = |start: &str| right("").replace("HTTP/1.1 101 Switching Protocols", start);
    vec![
        wrong("U1 no Upgrade", "Connection: Upgrade|Sec-WebSocket-Accept: {accept}"),
        wrong("U1 no Connection", "Upgrade: websocket|Sec-WebSocket-Accept: {accept}"),
        wrong("U1 nothing", ""),
        wrong("U1 another protocol", "Upgrade: h2c|Connection: Upgrade|Sec-WebSocket-Accept: {accept}"),
        wrong("U1 two protocols", "Upgrade: websocket, h2c|Connection: Upgrade|Sec-WebSocket-Accept: {accept}"),
        wrong("U1 two lines", &format!("Upgrade: h2c|{}", accept(ACCEPT))),
        wrong("U1 the same twice", &format!("Upgrade: websocket|{}", accept(ACCEPT))),
        wrong("U1 a version", "Upgrade: websocket/13|Connection: Upgrade|Sec-WebSocket-Accept: {accept}"),
        wrong("U1 Connection closes", "Upgrade: websocket|Connection: close|Sec-WebSocket-Accept: {accept}"),
        bad("U1 HTTP/1.0", started("HTTP/1.0 101 Switching Protocols")),
        bad("U1 HTTP/2", started("HTTP/2.0 101 Switching Protocols")),
        Row {
            offered: DEFLATE,
            ..wrong(
                "U1 Connection takes away the extensions",
                &format!("{}|{DEFLATE}|Connection: Sec-WebSocket-Extensions", accept(ACCEPT)),
            )
        },
        Row {
            offered: PROTOCOLS,
            ..wrong(
                "U1 Connection takes away the subprotocol",
                &format!("{}|Sec-WebSocket-Protocol: chat|Connection: sec-websocket-protocol", accept(ACCEPT)),
            )
        },
        wrong("U2 none", upgrade),
        wrong("U2 empty", &accept("")),
        wrong("U2 of another key", &accept("HSmrc0sMlYUkAGmm5OPpG2HaGWk=")),
        wrong("U2 two", &format!("{}|Sec-WebSocket-Accept: {{accept}}", accept(ACCEPT))),
        wrong("U2 a right one before a wrong one", &format!("{}|Sec-WebSocket-Accept: x", accept(ACCEPT))),
        wrong("U2 a wrong one before a right one", &format!("{}|Sec-WebSocket-Accept: {{accept}}", accept("x"))),
        wrong("U2 a list", &accept("{accept}, {accept}")),
        wrong("U2 quoted", &accept("\"{accept}\"")),
        wrong("U2 more behind it", &accept("{accept}=")),
        wrong("U2 the key itself", &accept("dGhlIHNhbXBsZSBub25jZQ==")),
        wrong("U2 by underscores", &format!("{upgrade}|Sec_WebSocket_Accept: {{accept}}")),
        wrong("U2 folded", &format!("{upgrade}|Sec-WebSocket-Accept:| {{accept}}")),
        unoffered("U3 a subprotocol, none offered", "", "Sec-WebSocket-Protocol: mqtt"),
        unoffered("U3 an empty subprotocol, none offered", "", "Sec-WebSocket-Protocol:"),
        unoffered("U3 an empty subprotocol", PROTOCOLS, "Sec-WebSocket-Protocol:"),
        unoffered("U3 another subprotocol", PROTOCOLS, "Sec-WebSocket-Protocol: soap"),
        unoffered("U3 another case", PROTOCOLS, "Sec-WebSocket-Protocol: MQTT"),
        unoffered("U3 two subprotocols", PROTOCOLS, "Sec-WebSocket-Protocol: mqtt, chat"),
        unoffered("U3 two lines", PROTOCOLS, "Sec-WebSocket-Protocol: mqtt|Sec-WebSocket-Protocol: chat"),
        unoffered("U3 the same twice", PROTOCOLS, "Sec-WebSocket-Protocol: mqtt|Sec-WebSocket-Protocol: mqtt"),
        unoffered("U3 an extension, none offered", "", DEFLATE),
        unoffered("U3 an empty list of extensions", "", "Sec-WebSocket-Extensions:"),
        unoffered("U3 another extension", DEFLATE, "Sec-WebSocket-Extensions: x-other"),
        unoffered("U3 one more extension", DEFLATE, "Sec-WebSocket-Extensions: permessage-deflate, x-other"),
        unoffered(
            "U3 one more on another line",
            DEFLATE,
            "Sec-WebSocket-Extensions: permessage-deflate|Sec-WebSocket-Extensions: x-other",
        ),
        unoffered("U3 a malformed list", DEFLATE, "Sec-WebSocket-Extensions: permessage-deflate;;"),
        row(
            "U1 a 200 with every line of a 101",
            format!("HTTP/1.1 200 OK\r\n{RIGHT}Content-Length: 5\r\n\r\nhello"),
            Client::Gets(200, "hello"),
        ),
        row(
            "U1 a 201 without a length",
            format!("HTTP/1.1 201 Created\r\n{RIGHT}\r\nto the end"),
            Client::Gets(201, "to the end"),
        ),
        row(
            "U1 a 204 with every line of a 101",
            format!("HTTP/1.1 204 No Content\r\n{RIGHT}\r\n"),
            Client::Gets(204, ""),
        ),
        row(
            "U1 a 426 with every line of a 101",
            format!("HTTP/1.1 426 Upgrade Required\r\n{RIGHT}Content-Length: 0\r\n\r\n"),
            Client::Gets(426, ""),
        ),
        bad("U1 a 100 with every line of a 101", started("HTTP/1.1 100 Continue")),
        bad("U1 a 199 with every line of a 101", started("HTTP/1.1 199 Odd")),
    ]
}

fn malformed() -> Vec<Row> {
    let with = |line: &str| right(line);
    vec![
        bad("U8 nothing", ""),
        bad("U8 only an end", "\r\n\r\n"),
        bad("U8 half a head", "HTTP/1.1 101 Switch"),
        bad("U8 a head without its end", right("").trim_end()),
        bad("U8 another protocol", "SSH-2.0-OpenSSH_9.9\r\n\r\n"),
        bad("U8 another protocol's alert", [0x15, 3, 3, 0, 2, 2, 40]),
        bad("U8 settings of HTTP/2", [0, 0, 0, 4, 0, 0, 0, 0, 0]),
        bad("U8 a page without a head", "<html>\r\n\r\n</html>"),
        bad("U8 a frame instead of a head", frame(FIN | TEXT, b"hello")),
        bad("U8 a frame before the head", [frame(FIN | TEXT, b"hello"), right("").into_bytes()].concat()),
        bad("U8 an empty line before the head", format!("\r\n{}", right(""))),
        bad("U8 a space before the head", format!(" {}", right(""))),
        bad("U8 a request", "GET / HTTP/1.1\r\n\r\n"),
        bad("U8 bare LF", right("").replace("\r\n", "\n")),
        bad("U8 bare LF at the end", right("").replace("\r\n\r\n", "\r\n\n")),
        bad("U8 bare LF in a refusal", "HTTP/1.1 403 Forbidden\nContent-Length: 0\n\n"),
        bad("U8 bare CR", right("").replace("\r\n", "\r")),
        bad("U8 a bare CR in a value", with("X-A: b\rSet-Cookie: planted=1")),
        bad("U8 a bare LF in a value", with("X-A: b\nSet-Cookie: planted=1")),
        bad("U8 a folded line", with("X-A: b| c")),
        bad("U8 a folded refusal", "HTTP/1.1 403 Forbidden\r\nX-A: b\r\n c\r\nContent-Length: 0\r\n\r\n"),
        bad("U8 a NUL in a value", with("X-A: \0")),
        bad("U8 a NUL in a name", with("X-\0: b")),
        bad("U8 a NUL in the reason", right("").replace("Switching", "Switch\0ing")),
        bad("U8 a space before the colon", with("X-A : b")),
        bad("U8 no colon", with("X-A")),
        bad("U8 no name", with(": b")),
        bad("U8 high bytes in a name", with("X-\u{e4}: b")),
        bad("U8 no status", "HTTP/1.1 OK\r\n\r\n"),
        bad("U8 a status of two digits", "HTTP/1.1 99 Odd\r\n\r\n"),
        bad("U8 a status of four digits", right("").replace("101 ", "1010 ")),
        bad("U8 a status with a zero", right("").replace("101 ", "0101 ")),
        bad("U8 a signed status", right("").replace("101 ", "+101 ")),
        bad("U8 a status of 600", "HTTP/1.1 600 Odd\r\nContent-Length: 0\r\n\r\n"),
        bad("U8 a status of 0", "HTTP/1.1 000 Odd\r\nContent-Length: 0\r\n\r\n"),
        bad("U8 two spaces", right("").replace("HTTP/1.1 101", "HTTP/1.1  101")),
        bad("U8 a tab", right("").replace("HTTP/1.1 101", "HTTP/1.1\t101")),
        bad("U8 case of the version", right("").replace("HTTP", "http")),
        bad("U8 ICY", "ICY 200 OK\r\nContent-Length: 0\r\n\r\n"),
        bad("U8 an endless line", format!("HTTP/1.1 101 Switching Protocols\r\nX: {}", "y".repeat(70_000))),
        bad("U8 an endless first line", format!("HTTP/1.1 101 {}", "y".repeat(70_000))),
        bad("U8 endless lines", format!("HTTP/1.1 101 Switching Protocols\r\n{}", "X: y\r\n".repeat(20_000))),
        bad("U8 more lines than there may be", with(&"X: y|".repeat(120))),
        bad("U8 a head larger than it may be", with(&format!("X: {}", "y".repeat(17_000)))),
        bad("U6 interim answers without end", "HTTP/1.1 102 Processing\r\n\r\n".repeat(100)),
        bad("U6 an interim answer only", "HTTP/1.1 103 Early Hints\r\n\r\n"),
        bad("U6 a malformed interim answer", format!("HTTP/1.1 103 Early Hints\r\nX : y\r\n\r\n{}", right(""))),
        bad(
            "U6 an interim answer with a body",
            format!("HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\nhello{}", right("")),
        ),
        bad("U6 a wrong 101 before a right one", format!("{}{}", switch(""), right(""))),
    ]
}

fn right_ones() -> Vec<Row> {
    let frames =
        [frame(FIN | TEXT, b"hello"), frame(FIN | BINARY, &vec![9; 70_000]), frame(FIN | TEXT, b"there")].concat();
    let after = |name, before: &str| {
        let then = frame(FIN | TEXT, b"first");
        let lacks: &[&str] = &["103", "102", "style"];
        row(name, [before.as_bytes(), right("").as_bytes(), &then].concat(), Client::Opens { has: &[], lacks, then })
    };
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n";
    vec![
        opens("U1 as it should be", "", &["Upgrade: websocket", "Connection: Upgrade"], &[]),
        row(
            "U1 every spelling",
            "HTTP/1.1 101\r\nUPGRADE: WebSocket\r\nconnection: keep-alive, upgrade\r\nsec-websocket-accept:{accept}\r\n\r\n",
            Client::Opens {
                has: &["Upgrade: websocket", "Connection: Upgrade"],
                lacks: &["WebSocket\r\n", "keep-alive"],
                then: vec![],
            },
        ),
        Row {
            offered: PROTOCOLS,
            ..opens(
                "U3 an offered subprotocol",
                "Sec-WebSocket-Protocol: chat",
                &["Sec-WebSocket-Protocol: chat"],
                &["mqtt"],
            )
        },
        Row { offered: DEFLATE, ..opens("U3 an offered extension", DEFLATE, &[DEFLATE], &[]) },
        opens("U5 a length of zero", "Content-Length: 0", &[], &["ontent-"]),
        opens("U5 a length", "Content-Length: 5", &[], &["ontent-"]),
        opens("U5 chunked", "Transfer-Encoding: chunked", &[], &["ransfer-"]),
        opens("U5 both", "Content-Length: 5|Transfer-Encoding: chunked", &[], &["ontent-", "ransfer-"]),
        opens(
            "U5 what ends at this hop",
            "Connection: X-Hop|X-Hop: planted|Keep-Alive: timeout=5",
            &[],
            &["planted", "eep-"],
        ),
        opens(
            "U7 lines of its own",
            "X-Node: 7|Set-Cookie: a=1|Set-Cookie: b=2",
            &["X-Node: 7", "Set-Cookie: a=1", "Set-Cookie: b=2"],
            &[],
        ),
        after("U6 hints before", hints),
        after(
            "U6 interim answers before",
            &format!("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n{hints}"),
        ),
        row(
            "U7 many frames glued to it",
            [right("").into_bytes(), frames.clone()].concat(),
            Client::Opens { has: &[], lacks: &[], then: frames },
        ),
        row(
            "U6 hints before a refusal",
            format!("{hints}HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"),
            Client::Gets(403, "no"),
        ),
    ]
}

/// Whether the answer comes at once or byte by byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    AtOnce,
    Trickling,
}

/// Answers an offer as `row` says and looks at both sides.
fn answered(run: &Run<'_>, row: &Row, pace: Pace) {
    let early = masked(FIN | TEXT, b"before the 101");
    let mut client = run.send(&[offer(row.offered), early.clone()].concat());
    let mut upstream = run.claim();
    let accept = accept_for(&upstream.head());
    let answer = replaced(&row.answer, accept.as_bytes());
    // The proxy may hang up on a bad answer before it is all sent.
    let _ = match pace {
        Pace::AtOnce => upstream.try_send(&answer),
        Pace::Trickling => answer.iter().try_for_each(|byte| upstream.try_send([*byte])),
    };
    if let Client::Opens { has, lacks, then } = &row.client {
        let head = String::from_utf8(client.take_through(b"\r\n\r\n")).expect("text");
        assert!(head.starts_with("HTTP/1.1 101 "), "{head:?}");
        assert!(has.iter().all(|line| head.contains(&format!("\r\n{line}\r\n"))), "lacks one of {has:?}: {head:?}");
        assert!(!lacks.iter().any(|word| head.contains(word)), "has one of {lacks:?}: {head:?}");
        assert_eq!(head.matches("Sec-WebSocket-Accept").count(), 1, "{head:?}");
        assert!(client.take(then.len()) == *then, "what came behind the 101 is lost or changed");
        assert_eq!(upstream.take(early.len()), early, "what the client had sent goes first");
        return;
    }
    upstream.finish();
    judge(&row.client, &mut client);
    assert_eq!(String::from_utf8_lossy(&upstream.gone()), "", "reached a service that has opened nothing");
}

/// Looks at what the client gets of an answer that opens nothing.
fn judge(expected: &Client, client: &mut Wire) {
    match expected {
        Client::BadGateway => {
            let answer = client.answer();
            assert_eq!(answer.head.status(), 502, "{answer:?}");
            assert!(answer.body.len() > 10, "has a reason to read: {answer:?}");
            assert_eq!(client.rest(), b"", "closes after its answer");
        }
        Client::Gets(status @ (204 | 304), _) => {
            assert_eq!(client.head().status(), *status);
            assert_eq!(client.rest(), b"", "closes after its answer");
        }
        Client::Gets(status, body) => {
            let answer = client.answer();
            assert_eq!((answer.head.status(), &*answer.body), (*status, *body), "{answer:?}");
            assert!(answer.head.lists("Connection", "close"), "{answer:?}");
            assert_eq!(answer.head.get("Sec-WebSocket-Accept"), None, "{answer:?}");
            assert_eq!(client.rest(), b"", "closes after its answer");
        }
        Client::Cut(status) | Client::Spoilt(status) => {
            let head = client.head();
            if matches!(expected, Client::Spoilt(_)) && head.status() == 502 {
                assert!(head.lists("Connection", "close"), "{head:?}");
                return;
            }
            assert_eq!(head.status(), *status, "{head:?}");
            let body = client.gone();
            let shown = String::from_utf8_lossy(&body);
            assert!(!shown.ends_with("0\r\n\r\n"), "seems whole: {shown:?}");
            assert!(head.get("Content-Length").is_none_or(|length| length != body.len().to_string()), "seems whole");
            assert!(!shown.contains("planted"), "{shown:?}");
        }
        Client::Opens { .. } => unreachable!("looked at where the session is"),
    }
}

fn replaced(bytes: &[u8], accept: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    while let Some(at) = out.windows(ACCEPT.len()).position(|found| found == ACCEPT.as_bytes()) {
        out.splice(at..at + ACCEPT.len(), accept.iter().copied());
    }
    out
}

#[test]
fn only_a_right_101_opens_and_a_refusal_passes_once() {
    let rows: Vec<Row> = [lies(), malformed(), upstream_refusals::rows(), right_ones()].into_iter().flatten().collect();
    let case = |way, row, pace| {
        let row: &Row = row;
        Case::new(format!("{} ({pace:?})", row.name), way, move |run| answered(run, row, pace))
    };
    let mut cases: Vec<_> = WAYS.iter().flat_map(|way| rows.iter().map(|row| case(*way, row, Pace::AtOnce))).collect();
    let short = || rows.iter().filter(|row| row.answer.len() < 1000);
    cases.extend(
        [Way::Clear, Way::TlsToTheService].iter().flat_map(|way| short().map(|row| case(*way, row, Pace::Trickling))),
    );
    Stand::new("", |_| {}).judge(&cases);
}
