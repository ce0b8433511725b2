//! Heads of clients that are no handshake: each is refused and reaches no service. Rows C1 to C14 of the duties; what could
//! be read in two ways is in [`smuggling`].

use crate::smuggling;
use crate::stand::{Case, Stand, WAYS, Way, handshake, offer};
use crate::support::{FIN, KEY, TEXT, refusal};

/// A request that must be refused with `status`.
pub(crate) struct Refused {
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
    pub(crate) status: u16,
}

/// A right handshake but for its first line.
pub(crate) fn line(name: &'static str, line: &str, status: u16) -> Refused {
    Refused { name, bytes: handshake(line, "", ""), status }
}

/// A right handshake without the lines that start with `without` and with those of `with`, separated by `|`.
pub(crate) fn lines(name: &'static str, without: &str, with: &str, status: u16) -> Refused {
    Refused { name, bytes: handshake("GET /chat?room=1 HTTP/1.1", without, with), status }
}

/// A right handshake with one more line.
pub(crate) fn more(name: &'static str, with: &str) -> Refused {
    lines(name, "", with, 400)
}

/// A right handshake with this `Host` instead.
pub(crate) fn host(name: &'static str, host: &str) -> Refused {
    lines(name, "Host", &format!("Host: {host}"), 400)
}

/// A right handshake to this target.
pub(crate) fn target(name: &'static str, target: &str) -> Refused {
    line(name, &format!("GET {target} HTTP/1.1"), 400)
}

pub(crate) fn raw(name: &'static str, bytes: impl Into<Vec<u8>>, status: u16) -> Refused {
    Refused { name, bytes: bytes.into(), status }
}

fn first_lines() -> Vec<Refused> {
    vec![
        line("C1 POST", "POST /chat HTTP/1.1", 405),
        line("C1 HEAD", "HEAD /chat HTTP/1.1", 405),
        line("C1 OPTIONS", "OPTIONS * HTTP/1.1", 405),
        line("C1 TRACE", "TRACE /chat HTTP/1.1", 405),
        line("C1 CONNECT", "CONNECT chat.example.com:8080 HTTP/1.1", 405),
        line("C1 methods have case", "get /chat HTTP/1.1", 405),
        line("C1 a method that begins so", "GETX /chat HTTP/1.1", 405),
        line("C1 a method that is no token", "G(T /chat HTTP/1.1", 400),
        line("C1 a method of high bytes", "G\u{c9}T /chat HTTP/1.1", 400),
        line("C1 HTTP/1.0", "GET /chat HTTP/1.0", 505),
        line("C1 HTTP/0.9 by name", "GET /chat HTTP/0.9", 505),
        line("C1 HTTP/1.2", "GET /chat HTTP/1.2", 505),
        line("C1 HTTP/2.0", "GET /chat HTTP/2.0", 505),
        line("C1 HTTP/2", "GET /chat HTTP/2", 400),
        line("C1 two digits", "GET /chat HTTP/1.10", 400),
        line("C1 a leading zero", "GET /chat HTTP/01.1", 400),
        line("C1 case of the version", "GET /chat http/1.1", 400),
        line("C1 another protocol", "GET /chat ICAP/1.1", 400),
        line("C1 no version", "GET /chat", 400),
        line("C1 no target", "GET HTTP/1.1", 400),
        line("C1 an empty target", "GET  HTTP/1.1", 400),
        line("C1 no request line", "hello", 400),
        raw("C1 HTTP/0.9", "GET /{row}\r\n\r\n", 400),
        raw("C1 the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", 505),
        raw("C1 an answer", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n", 400),
        raw("C1 nothing but an end", "\r\n\r\n", 400),
        raw("C1 an empty line before it", [b"\r\n".to_vec(), offer("")].concat(), 400),
        raw("C1 a bare LF before it", [b"\n".to_vec(), offer("")].concat(), 400),
        raw("C1 a NUL before it", [b"\0".to_vec(), offer("")].concat(), 400),
        raw("C1 a byte order mark before it", [b"\xef\xbb\xbf".to_vec(), offer("")].concat(), 400),
        raw(
            "C1 a PROXY line nobody asked for",
            [b"PROXY TCP4 1.2.3.4 5.6.7.8 9 80\r\n".to_vec(), offer("")].concat(),
            400,
        ),
        raw(
            "C1 a binary PROXY header",
            [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec(), vec![1; 12], offer("")].concat(),
            400,
        ),
        raw("C1 a frame", crate::support::frame(FIN | TEXT, b"hi"), 400),
        raw("C1 the start of TLS", [0x16, 3, 1, 2, 0, 1], 400),
        raw("C1 another protocol's greeting", "SSH-2.0-OpenSSH_9.9\r\n\r\n", 400),
        line("C8 two spaces", "GET  /chat HTTP/1.1", 400),
        line("C8 a space in the target", "GET /chat room HTTP/1.1", 400),
        line("C8 a second version", "GET /chat HTTP/1.1 HTTP/1.1", 400),
        line("C8 a space before the method", " GET /chat HTTP/1.1", 400),
        line("C8 a space after the version", "GET /chat HTTP/1.1 ", 400),
        line("C8 a tab", "GET\t/chat HTTP/1.1", 400),
        line("C8 a tab in the target", "GET /chat\troom HTTP/1.1", 400),
        line("C8 a vertical tab", "GET\x0b/chat HTTP/1.1", 400),
        line("C8 a bare CR in the target", "GET /chat\rX HTTP/1.1", 400),
        line("C8 a NUL in the target", "GET /chat\0 HTTP/1.1", 400),
        line("C8 DEL in the target", "GET /chat\x7f HTTP/1.1", 400),
        line("C8 high bytes in the target", "GET /ch\u{e4}t HTTP/1.1", 400),
        line("C9 target", &format!("GET /{} HTTP/1.1", "a".repeat(9000)), 414),
        line("C9 query", &format!("GET /?{} HTTP/1.1", "a".repeat(9000)), 414),
        raw("C9 a target without end", format!("GET /{{row}}{}", "a".repeat(40_000)), 414),
        raw("C9 a method without end", "G".repeat(40_000), 414),
    ]
}

fn hosts() -> Vec<Refused> {
    vec![
        lines("C2 none", "Host", "", 400),
        more("C2 two", "Host: other.example.com"),
        more("C2 twice the same", "Host: chat.example.com:8080"),
        more("C2 two in another case", "hOST: chat.example.com:8080"),
        host("C2 empty", ""),
        host("C2 a list", "a.example.com, b.example.com"),
        host("C2 user information", "user@chat.example.com"),
        host("C2 a port that is none", "chat.example.com:http"),
        host("C2 a port too large", "chat.example.com:65536"),
        host("C2 a signed port", "chat.example.com:+80"),
        host("C2 two ports", "chat.example.com:80:80"),
        host("C2 no port after the colon", "chat.example.com:"),
        host("C2 a path", "chat.example.com/x"),
        host("C2 a query", "chat.example.com?x"),
        host("C2 a fragment", "chat.example.com#x"),
        host("C2 a backslash", "chat.example.com\\x"),
        host("C2 a space", "chat.example.com x"),
        host("C2 a tab", "chat.example.com\tx"),
        host("C2 an escape", "chat%2eexample.com"),
        host("C2 an escaped NUL", "chat.example.com%00.evil.test"),
        host("C2 high bytes", "ch\u{e4}t.example.com"),
        host("C2 an open bracket", "[::1"),
        host("C2 no address in brackets", "[chat]:80"),
        host("C2 a zone", "[fe80::1%25eth0]"),
        host("C2 two dots", "chat..example.com"),
        host("C2 a quote", "\"chat.example.com\""),
        lines("C2 a space before the colon", "Host", "Host : chat.example.com:8080", 400),
        lines("C2 folded", "Host", "Host:| chat.example.com:8080", 400),
        target("C2 another authority", "http://other.example.com/{row}"),
        target("C2 another port", "http://chat.example.com:81/{row}"),
        target("C2 no port", "http://chat.example.com/{row}"),
        target("C2 user information in the target", "http://chat.example.com:8080@evil.test/{row}"),
        target("C2 a backslash in the authority", "http://chat.example.com:8080\\@evil.test/{row}"),
        target("C2 an empty authority", "http:///{row}"),
        target("C2 a trailing dot", "http://chat.example.com.:8080/{row}"),
        target("C2 authority form", "chat.example.com:8080"),
        target("C2 another scheme", "ftp://chat.example.com:8080/{row}"),
        target("C2 a scheme of a file", "file:///etc/passwd"),
        target("C2 one slash", "http:/{row}"),
        target("C2 a scheme only", "http://"),
        target("C2 a target within a target", "http://http://chat.example.com:8080/{row}"),
    ]
}

fn upgrades() -> Vec<Refused> {
    let key = "Sec-WebSocket-Key";
    let version = "Sec-WebSocket-Version";
    vec![
        lines("C3 no Connection", "Connection", "", 426),
        lines("C3 no Upgrade", "Upgrade", "", 426),
        lines("C3 Connection without upgrade", "Connection", "Connection: keep-alive", 426),
        lines("C3 another word that holds it", "Connection", "Connection: upgraded", 426),
        lines("C3 quoted", "Connection", "Connection: \"Upgrade\"", 426),
        lines("C3 separated otherwise", "Connection", "Connection: keep-alive; Upgrade", 426),
        lines("C3 another protocol", "Upgrade", "Upgrade: h2c", 426),
        lines("C3 another word that begins so", "Upgrade", "Upgrade: websockets", 426),
        lines("C3 with a version", "Upgrade", "Upgrade: websocket/13", 426),
        lines(
            "C15 h2c alone, with its settings",
            "Upgrade",
            "Upgrade: h2c|HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA",
            426,
        ),
        lines("C4 none", key, "", 400),
        more("C4 two", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
        more("C4 another in another case", "sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA=="),
        lines("C4 empty", key, "Sec-WebSocket-Key:", 400),
        lines("C4 15 bytes", key, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j", 400),
        lines("C4 18 bytes in 24 characters", key, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZWFi", 400),
        lines("C4 no padding", key, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ", 400),
        lines("C4 bits after the end", key, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZR==", 400),
        lines("C4 not base64", key, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub2*jZQ==", 400),
        lines("C4 not that base64", key, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub2-jZQ==", 400),
        lines("C4 a space inside", key, "Sec-WebSocket-Key: dGhlIHNhbXBs ZSBub25jZQ==", 400),
        lines("C4 quoted", key, &format!("Sec-WebSocket-Key: \"{KEY}\""), 400),
        lines("C4 a list", key, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==, x", 400),
        lines("C4 by underscores", key, &format!("Sec_WebSocket_Key: {KEY}"), 400),
        lines("C5 none", version, "", 426),
        lines("C5 8", version, "Sec-WebSocket-Version: 8", 426),
        lines("C5 013", version, "Sec-WebSocket-Version: 013", 426),
        lines("C5 empty", version, "Sec-WebSocket-Version:", 426),
        lines("C5 a fraction", version, "Sec-WebSocket-Version: 13.0", 426),
        lines("C5 a list", version, "Sec-WebSocket-Version: 13, 8", 400),
        more("C5 twice", "Sec-WebSocket-Version: 13"),
        more("C5 two lines", "Sec-WebSocket-Version: 8"),
        more("C13 a space", "Sec-WebSocket-Protocol: a b"),
        more("C13 an empty element", "Sec-WebSocket-Protocol: a,,b"),
        more("C13 empty", "Sec-WebSocket-Protocol:"),
        more("C13 a duplicate", "Sec-WebSocket-Protocol: a, b, a"),
        more("C13 a duplicate on another line", "Sec-WebSocket-Protocol: a|Sec-WebSocket-Protocol: a"),
        more("C13 no token", "Sec-WebSocket-Protocol: a/b"),
        more("C13 quoted", "Sec-WebSocket-Protocol: \"a\""),
        more("C13 high bytes", "Sec-WebSocket-Protocol: \u{e4}"),
        more("C13 a bare CR", "Sec-WebSocket-Protocol: a\rX-Injected: 1"),
        more("C13 a bare LF", "Sec-WebSocket-Protocol: a\nX-Injected: 1"),
        more("C13 an end of the head inside", "Sec-WebSocket-Protocol: a\n\nGET /admin HTTP/1.1"),
        more("C14 an empty parameter", "Sec-WebSocket-Extensions: a;;b"),
        more("C14 empty", "Sec-WebSocket-Extensions:"),
        more("C14 a space", "Sec-WebSocket-Extensions: a b"),
        more("C14 no value", "Sec-WebSocket-Extensions: a; b="),
        more("C14 an open quote", "Sec-WebSocket-Extensions: a; b=\"c"),
        more("C14 a trailing comma", "Sec-WebSocket-Extensions: permessage-deflate,"),
        more("C14 a quoted CR", "Sec-WebSocket-Extensions: a; b=\"c\rd\""),
    ]
}

fn nominations() -> Vec<Refused> {
    let names = [
        "X-Forwarded-For",
        "x_forwarded_for",
        "X-Forwarded-Proto",
        "Forwarded",
        "X-Real-IP",
        "Host",
        "Origin",
        "authorization",
        "Cookie",
        "Sec-WebSocket-Key",
        "Sec-WebSocket-Version",
        "Sec-WebSocket-Protocol",
        "Sec_WebSocket_Extensions",
        "Content-Length",
        "Transfer-Encoding",
        "X-Request-Id",
    ];
    let mut rows: Vec<Refused> = names
        .iter()
        .flat_map(|name| {
            [
                more(name, &format!("Connection: {name}")),
                lines(name, "Connection", &format!("Connection: Upgrade ,{name}"), 400),
            ]
        })
        .collect();
    rows.push(more("C11 a long list", &format!("Connection: {}", "a,".repeat(40))));
    rows
}

#[test]
fn what_is_no_handshake_or_two_of_them_is_refused_and_reaches_nobody() {
    let rows: Vec<Refused> =
        [first_lines(), hosts(), upgrades(), nominations(), smuggling::rows()].into_iter().flatten().collect();
    let case = |way, row: &'_ Refused| {
        let (name, bytes, status) = (row.name, row.bytes.clone(), row.status);
        Case::new(name, way, move |run| {
            let answer = refusal(&mut run.send(&bytes), "", status);
            match status {
                405 => assert_eq!(answer.head.get("Allow"), Some("GET")),
                426 => {
                    assert_eq!(answer.head.get("Upgrade"), Some("websocket"));
                    assert!(answer.head.lists("Connection", "upgrade"), "{answer:?}");
                    let version = name.starts_with("C5").then_some("13");
                    assert_eq!(answer.head.get("Sec-WebSocket-Version"), version);
                }
                _ => {}
            }
        })
    };
    let cases: Vec<_> = WAYS.iter().flat_map(|way| rows.iter().map(|row| case(*way, row))).collect();
    Stand::new("", |_| {}).judge(&cases);
}

#[test]
fn a_client_that_leaves_in_the_middle_of_its_head_reaches_nobody() {
    let whole = offer("");
    let cuts = || (0..whole.len()).step_by(5).chain([whole.len() - 2, whole.len() - 1]);
    let finishes = cuts().map(|cut| {
        let part = &whole[..cut];
        Case::new(format!("the end behind {cut} bytes"), Way::Clear, move |run| {
            let mut client = run.connect();
            client.send(part); // the marker's placeholder may be cut, too
            client.finish();
            if part.is_empty() {
                assert_eq!(client.rest(), b"", "left without a word");
            } else {
                refusal(&mut client, "cut", 400);
            }
        })
    });
    let breaks = WAYS.into_iter().flat_map(|way| cuts().map(move |cut| (way, cut))).map(|(way, cut)| {
        let part = &whole[..cut];
        Case::new(format!("a reset behind {cut} bytes"), way, move |run| {
            let mut client = run.connect();
            client.send(part);
            client.reset();
        })
    });
    Stand::new("", |_| {}).judge(&finishes.chain(breaks).collect::<Vec<_>>());
}

#[test]
fn what_is_sent_beneath_tls_reaches_nobody() {
    let http = offer("");
    let rows: [(&str, &[u8]); 5] = [
        ("a handshake in clear", &http),
        ("a record of another version", &[0x16, 9, 9, 0, 1, 1]),
        ("a record that is too large", &[0x16, 3, 1, 0xff, 0xff, 1, 0, 0, 1]),
        ("an alert", &[0x15, 3, 1, 0, 2, 2, 40]),
        ("data before the handshake", &[0x17, 3, 3, 0, 5, b'h', b'e', b'l', b'l', b'o']),
    ];
    let cases = rows.map(|(name, bytes)| {
        Case::new(name, Way::TlsFromTheClient, move |run| {
            let mut client = run.connect_beneath_tls();
            client.send(run.marked(bytes));
            let answer = client.gone();
            assert!(!answer.starts_with(b"HTTP"), "an answer in clear: {answer:?}");
        })
    });
    Stand::new("", |_| {}).judge(&cases);
}
