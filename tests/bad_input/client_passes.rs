//! Heads of clients that pass although they are odd: the service must read one request, in one way, and nothing behind it
//! before its 101.

use crate::smuggling::smuggled;
use crate::stand::{Case, Stand, WAYS, Way, handshake};
use crate::support::{FIN, TEXT, masked};

/// A request that may pass, and what of it the service must read: lines it must have, and words it must not.
struct Passes {
    name: &'static str,
    bytes: Vec<u8>,
    has: Vec<String>,
    lacks: &'static [&'static str],
}

fn passes(
    name: &'static str,
    line: &str,
    without: &str,
    with: &str,
    has: &[&str],
    lacks: &'static [&'static str],
) -> Passes {
    let has = has.iter().map(|line| format!("{line}\r\n")).collect();
    Passes { name, bytes: handshake(line, without, with), has, lacks }
}

fn passing() -> Vec<Passes> {
    let get = "GET /chat?room=1 HTTP/1.1";
    let upgrade: &[&str] = &["Connection: Upgrade", "Upgrade: websocket"];
    let mut rows = vec![
        passes(
            "C2 an absolute target",
            "GET ws://chat.example.com:8080/chat?a HTTP/1.1",
            "",
            "",
            &["GET /chat?a HTTP/1.1", "Host: chat.example.com:8080"],
            &["ws://"],
        ),
        passes(
            "C2 an absolute target without a path",
            "GET HTTP://chat.example.com:8080?a HTTP/1.1",
            "",
            "",
            &["GET /?a HTTP/1.1"],
            &["HTTP://"],
        ),
        passes("C3 case", get, "Connection", "cOnNeCtIoN: uPgRaDe", upgrade, &["uPgRaDe"]),
        passes("C3 a list", get, "Connection", "Connection: keep-alive , Upgrade", upgrade, &["keep-alive"]),
        passes(
            "C3 several lines",
            get,
            "Connection",
            "Connection: keep-alive|Connection: Upgrade",
            upgrade,
            &["keep-alive"],
        ),
        passes("C3 empty elements", get, "Connection", "Connection: ,, Upgrade,", upgrade, &[",,"]),
        passes("C6 a length of 0", get, "", "Content-Length: 0", upgrade, &["ontent-"]),
        passes("C6 a length of 0 and blanks", get, "", "Content-Length: \t0 ", upgrade, &["ontent-"]),
        passes("C15 h2c behind", get, "Upgrade", "Upgrade: websocket, h2c", upgrade, &["h2c"]),
        passes("C15 h2c before", get, "Upgrade", "Upgrade: h2c, websocket", upgrade, &["h2c"]),
        passes("C15 TLS beside", get, "", "Upgrade: TLS/1.2", upgrade, &["TLS"]),
        passes("C15 settings", get, "", "HTTP2-Settings: AAM|Connection: HTTP2-Settings", upgrade, &["AAM"]),
    ];
    rows.extend(passing_values());
    rows.extend(passing_behind());
    rows
}

/// Values that are none of the proxy's business, and some that are.
fn passing_values() -> Vec<Passes> {
    let get = "GET /chat?room=1 HTTP/1.1";
    let upgrade: &[&str] = &["Connection: Upgrade", "Upgrade: websocket"];
    vec![
        passes(
            "C12 a header of ours by underscores",
            get,
            "",
            "X_Forwarded_For: 6.6.6.6|X-Real_IP: 6.6.6.6",
            &[],
            &["6.6.6.6"],
        ),
        passes(
            "C12 other keys by underscores",
            get,
            "",
            "Sec_WebSocket_Key: planted|Sec_WebSocket_Protocol: planted",
            &[],
            &["planted"],
        ),
        passes(
            "C11 what is nominated ends here",
            get,
            "",
            "Connection: X-Hop|X-Hop: planted",
            upgrade,
            &["planted", "X-Hop"],
        ),
        passes(
            "CR and LF as escapes in a query",
            "GET /chat?a=%0d%0aX-Injected:%201 HTTP/1.1",
            "",
            "",
            &["GET /chat?a=%0d%0aX-Injected:%201 HTTP/1.1"],
            &["\nX-Injected"],
        ),
        passes(
            "a path that a query holds",
            "GET /chat?a=/../%2f//;x HTTP/1.1",
            "",
            "",
            &["GET /chat?a=/../%2f//;x HTTP/1.1"],
            &[],
        ),
        passes(
            "CR and LF as escapes in a value",
            get,
            "",
            "X-A: a%0d%0aX-Injected: 1",
            &["X-A: a%0d%0aX-Injected: 1"],
            &["\nX-Injected"],
        ),
        passes(
            "letters that end in the bytes of CR and LF",
            get,
            "",
            "X-A: \u{560d}\u{560a}X-Injected: 1",
            &["X-A: \u{560d}\u{560a}X-Injected: 1"],
            &["\nX-Injected"],
        ),
        passes(
            "escapes in a subprotocol",
            get,
            "",
            "Sec-WebSocket-Protocol: a%0d%0ab",
            &["Sec-WebSocket-Protocol: a%0d%0ab"],
            &["\nb"],
        ),
        passes(
            "a request within a value",
            get,
            "",
            "X-A: GET /admin HTTP/1.1",
            &["X-A: GET /admin HTTP/1.1"],
            &["\nGET"],
        ),
        passes("blanks around a value", get, "", "X-A: \t b\t ", &["X-A: b"], &[]),
        passes("Expect", get, "", "Expect: 100-continue", upgrade, &[]),
    ]
}

/// What comes at once behind a right head.
fn passing_behind() -> [Passes; 3] {
    let get = "GET /chat?room=1 HTTP/1.1";
    let upgrade: &[&str] = &["Connection: Upgrade", "Upgrade: websocket"];
    let mut early = passes("C16 a frame behind the head", get, "", "", upgrade, &["early"]);
    early.bytes.extend(masked(FIN | TEXT, b"early"));
    let mut pipelined = passes("C16 a request behind the head", get, "", "", upgrade, &["admin"]);
    pipelined.bytes.extend(smuggled().into_bytes());
    let mut ended = passes("C16 an end of chunks behind the head", get, "", "Content-Length: 0", upgrade, &["admin"]);
    ended.bytes.extend([b"0\r\n\r\n".to_vec(), smuggled().into_bytes()].concat());
    [early, pipelined, ended]
}

#[test]
fn what_passes_is_one_request_to_the_service_and_nothing_behind_it_goes_before_the_101() {
    let rows = passing();
    let case = |way: Way, row: &'_ Passes| {
        let (bytes, has, lacks) = (row.bytes.clone(), row.has.clone(), row.lacks);
        Case::new(row.name, way, move |run| {
            let mut client = run.send(&bytes);
            let mut upstream = run.claim();
            let head = text(&upstream.take_through(b"\r\n\r\n"));
            for line in &has {
                assert!(head.contains(&**line), "the service lacks {line:?}: {head:?}");
            }
            for word in lacks {
                assert!(!head.contains(word), "the service has {word:?}: {head:?}");
            }
            upstream.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
            let answer = client.answer();
            assert_eq!((answer.head.status(), &*answer.body), (403, "no"), "{answer:?}");
            assert_eq!(client.rest(), b"", "one answer, then the end");
            assert_eq!(text(&upstream.gone()), "", "bytes behind the head");
        })
    };
    let cases: Vec<_> = WAYS.iter().flat_map(|way| rows.iter().map(|row| case(*way, row))).collect();
    Stand::new("", |_| {}).judge(&cases);
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}
