//! Heads that a proxy and a service could read in two ways: bodies that are none, lines that end otherwise, paths that mean
//! another one. Rows C6 to C9, C16 and C18 of the duties, in the spellings of request smuggling.

use crate::client_heads::{Refused, line, more, raw, target};
use crate::stand::{ROW, handshake, offer};

/// All of them.
pub(crate) fn rows() -> Vec<Refused> {
    [bodies(), header_lines(), paths()].into_iter().flatten().collect()
}

/// A right handshake behind which `bytes` follow at once, and `with` among its lines.
fn followed(name: &'static str, with: &str, bytes: &str) -> Refused {
    raw(name, [offer(with), bytes.as_bytes().to_vec()].concat(), 400)
}

/// What a smuggler would have the service read: another whole handshake.
pub(crate) fn smuggled() -> String {
    String::from_utf8(handshake(&format!("GET /admin/{ROW} HTTP/1.1"), "", "")).expect("text")
}

fn bodies() -> Vec<Refused> {
    let chunk = format!("5\r\nhello\r\n0\r\n\r\n{}", smuggled());
    let inside = smuggled();
    let size = inside.len() - ROW.len() - ROW.len() + 2;
    vec![
        more("C6 length", "Content-Length: 5"),
        more("C6 two lengths", "Content-Length: 0|Content-Length: 0"),
        more("C6 two lengths that differ", "Content-Length: 0|Content-Length: 5"),
        more("C6 signed length", "Content-Length: +0"),
        more("C6 negative length", "Content-Length: -0"),
        more("C6 a length of zeros", "Content-Length: 00"),
        more("C6 hexadecimal length", "Content-Length: 0x0"),
        more("C6 a length of a fraction", "Content-Length: 0.0"),
        more("C6 a list of lengths", "Content-Length: 0, 0"),
        more("C6 a length and a comma", "Content-Length: 0,"),
        more("C6 a parameter", "Content-Length: 0;x"),
        more("C6 an empty length", "Content-Length:"),
        more("C6 a length beyond 64 bits", "Content-Length: 18446744073709551616"),
        more("C6 digits of another script", "Content-Length: \u{660}"),
        more("C6 case", "cOnTeNt-LeNgTh: 5"),
        more("C6 length by underscores", "Content_Length: 5"),
        more("C6 chunked", "Transfer-Encoding: chunked"),
        more("C6 case of chunked", "transfer-encoding: CHUNKED"),
        more("C6 an unknown coding", "Transfer-Encoding: identity"),
        more("C6 another unknown coding", "Transfer-Encoding: xchunked"),
        more("C6 an empty coding", "Transfer-Encoding:"),
        more("C6 a coding by underscores", "Transfer_Encoding: chunked"),
        more("C6 two codings", "Transfer-Encoding: chunked|Transfer-Encoding: x"),
        more("C6 a list of codings", "Transfer-Encoding: gzip, chunked"),
        more("C6 a coding that ends otherwise", "Transfer-Encoding: chunked, identity"),
        more("C6 a quoted coding", "Transfer-Encoding: \"chunked\""),
        more("C6 a coding with a parameter", "Transfer-Encoding: chunked;q=1"),
        more("C6 a coding behind a tab", "Transfer-Encoding:\tchunked"),
        more("C6 a coding behind a vertical tab", "Transfer-Encoding:\x0bchunked"),
        more("C6 a coding before a NUL", "Transfer-Encoding: chunked\0"),
        more("C6 a space before the colon of a coding", "Transfer-Encoding : chunked"),
        more("C6 a tab before the colon of a coding", "Transfer-Encoding\t: chunked"),
        more("C6 a space before a coding's name", " Transfer-Encoding: chunked"),
        more("C6 a folded coding", "Transfer-Encoding:| chunked"),
        more("C6 a coding behind a fold", "X-A: b|\tTransfer-Encoding: chunked"),
        more("C6 a coding behind a bare CR", "X-A: b\rTransfer-Encoding: chunked"),
        more("C6 a coding behind a bare LF", "X-A: b\nTransfer-Encoding: chunked"),
        more("C6 a high byte in a coding's name", "Transfer-Encod\u{ef}ng: chunked"),
        more("C7 length first", "Content-Length: 0|Transfer-Encoding: chunked"),
        more("C7 coding first", "Transfer-Encoding: chunked|Content-Length: 5"),
        followed("C6 CL.0", &format!("Content-Length: {size}"), &inside),
        followed("C6 TE.0", "Transfer-Encoding: chunked", &format!("{:x}\r\n{inside}\r\n0\r\n\r\n", inside.len())),
        followed("C7 CL.TE", "Content-Length: 6|Transfer-Encoding: chunked", &format!("0\r\n\r\n{inside}")),
        followed("C7 TE.CL", "Content-Length: 4|Transfer-Encoding: chunked", &chunk),
        followed("C7 TE.TE", "Transfer-Encoding: chunked|Transfer-encoding: cow", &chunk),
        followed("C7 a length of 0 and a request behind", "Content-Length: 0|Transfer-Encoding: chunked", &inside),
        followed("C6 two lengths and a request between", "Content-Length: 0|Content-Length: 9", &inside),
        followed("C6 an odd length and a request behind", "Content-Length: +0", &inside),
        raw(
            "C16 behind our own refusal",
            [handshake("GET /chat HTTP/1.1", "Sec-WebSocket-Key", ""), inside.into_bytes()].concat(),
            400,
        ),
    ]
}

fn header_lines() -> Vec<Refused> {
    vec![
        more("C8 folded", "X-A: b| c"),
        more("C8 folded by a tab", "X-A: b|\tc"),
        more("C8 folded and empty", "X-A: b| "),
        more("C8 space before the colon", "X-A : b"),
        more("C8 tab before the colon", "X-A\t: b"),
        more("C8 a space in a name", "X A: b"),
        more("C8 no colon", "X-A"),
        more("C8 no name", ": b"),
        more("C8 a name as HTTP/2 has it", ":authority: evil.test"),
        more("C8 a name that is no token", "X(A): b"),
        more("C8 a quoted name", "\"X-A\": b"),
        more("C8 a slash in a name", "X/A: b"),
        more("C8 high bytes in a name", "X-\u{e4}: b"),
        more("C8 a NUL in a name", "X-\0: b"),
        more("C8 bare CR", "X-A: b\rc"),
        more("C8 two CRs", "X-A: b\r"),
        more("C8 bare LF", "X-A: b\nX-B: c"),
        more("C8 NUL", "X-A: b\0"),
        more("C8 DEL", "X-A: b\x7f"),
        more("C8 ESC", "X-A: \x1b[2J"),
        more("C8 a vertical tab", "X-A: b\x0bc"),
        more("C8 a form feed", "X-A: b\x0cc"),
        more("C8 a backspace", "X-A: b\x08"),
        raw("C8 LF only", text(&offer("")).replace("\r\n", "\n"), 400),
        raw("C8 LF only at the end", text(&offer("")).replace("\r\n\r\n", "\r\n\n"), 400),
        raw("C8 two LFs at the end", text(&offer("")).replace("\r\n\r\n", "\n\n"), 400),
        raw("C8 CR only", text(&offer("")).replace("\r\n", "\r"), 400),
        raw("C8 LF CR", text(&offer("")).replace("\r\n", "\n\r"), 400),
        raw("C8 CR CR LF", text(&offer("")).replace("\r\n", "\r\r\n"), 400),
        more("C9 one long line", &format!("X-A: {}", "b".repeat(17_000))),
        more("C9 one long name", &format!("{}: b", "X".repeat(17_000))),
        more("C9 many lines", &"X-A: b|".repeat(120)),
        more("C9 many lines of nothing", &"X:|".repeat(2_000)),
        raw("C9 lines without end", [b"GET /{row} HTTP/1.1\r\n".to_vec(), b"X-A: b\r\n".repeat(50_000)].concat(), 431),
    ]
    .into_iter()
    .map(|row| if row.name.starts_with("C9") { Refused { status: 431, ..row } } else { row })
    .collect()
}

fn paths() -> Vec<Refused> {
    vec![
        target("C18 dot segments", "/ws/../admin"),
        target("C18 at the end", "/ws/.."),
        target("C18 at the start", "/../admin"),
        target("C18 one dot", "/./ws"),
        target("C18 one dot at the end", "/ws/."),
        target("C18 dots before a query", "/ws/..?x"),
        target("C18 escaped dots", "/%2e%2E/admin"),
        target("C18 half escaped dots", "/.%2e/admin"),
        target("C18 one escaped dot", "/ws%2eadmin"),
        target("C18 escaped slash", "/ws%2fadmin"),
        target("C18 dots and an escaped slash", "/ws/..%2fadmin"),
        target("C18 escaped backslash", "/ws%5Cadmin"),
        target("C18 backslash", "/ws\\admin"),
        target("C18 dots and a backslash", "/ws/..\\admin"),
        target("C18 escaped twice", "/ws%252fadmin"),
        target("C18 dots escaped twice", "/%252e%252e/admin"),
        target("C18 escaped NUL", "/ws%00"),
        target("C18 escaped CRLF", "/ws%0d%0aX-Injected:1"),
        target("C18 escaped LF", "/ws%0aX"),
        target("C18 escaped tab", "/ws%09"),
        target("C18 escaped DEL", "/ws%7f"),
        target("C18 broken escape", "/ws%2"),
        target("C18 no escape", "/ws%zz"),
        target("C18 a percent sign at the end", "/ws%"),
        target("C18 another way to escape", "/ws%u002fadmin"),
        target("C18 empty segment", "//admin"),
        target("C18 empty segment inside", "/ws//admin"),
        target("C18 empty segment at the end", "/ws//"),
        target("C18 an authority that is none", "//evil.test/admin"),
        target("C18 parameter", "/ws;x/admin"),
        target("C18 parameter behind dots", "/ws/..;/admin"),
        target("C18 escaped parameter", "/ws%3bx/admin"),
        target("C18 fragment", "/ws#x"),
        target("C18 fragment in the query", "/ws?a#x"),
        target("C18 fragment first", "#x"),
        target("C18 asterisk", "*"),
        target("C18 no slash", "ws"),
        target("C18 a query only", "?x"),
        target("C18 dots in an absolute form", "http://chat.example.com:8080/ws/../admin"),
        target("C18 empty segment in an absolute form", "http://chat.example.com:8080//admin"),
        target("C18 fragment in an absolute form", "http://chat.example.com:8080#x"),
        line("C18 CRLF in the path", "GET /ws\r\nX-Injected: 1 HTTP/1.1", 400),
        line("C18 CRLF in the query", "GET /ws?a=b\r\nX-Injected: 1\r\nX: HTTP/1.1", 400),
        line("C18 a whole request in the query", "GET /ws?a=b HTTP/1.1\r\n\r\nGET /admin HTTP/1.1", 400),
    ]
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}
