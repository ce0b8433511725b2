//! Frames that break a rule whoever sends them: rows F2 to F8 of the duties and what an attacker makes of them.

use crate::support::{
    BINARY, CLOSE, CONTINUATION, FIN, Half, PING, PONG, RSV1, RSV2, RSV3, TEXT, close_body, frame, masked,
};

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    Client,
    Service,
}

impl Sender {
    /// A right frame of this sender.
    pub(crate) fn frame(self, (first, payload): Half<'_>) -> Vec<u8> {
        if self == Self::Client { masked(first, payload) } else { frame(first, payload) }
    }

    fn frames(self, frames: &[Half<'_>]) -> Vec<u8> {
        frames.iter().flat_map(|half| self.frame(*half)).collect()
    }

    /// The header alone of a frame with `length` as it stands: a byte, or the byte and more.
    pub(crate) fn header(self, first: u8, length: &[u8]) -> Vec<u8> {
        let (bit, key) = if self == Self::Client { (0x80, &[1, 2, 3, 4][..]) } else { (0, &[][..]) };
        [&[first, bit | length[0]], &length[1..], key].concat()
    }
}

/// Frames that pass, then bytes that break a rule, and the code that names the fault to who sent them.
pub(crate) struct Violation {
    pub(crate) name: String,
    /// What both sides have agreed on.
    pub(crate) extensions: &'static str,
    pub(crate) good: Vec<u8>,
    pub(crate) bad: Vec<u8>,
    pub(crate) code: u16,
}

pub(crate) fn violation(name: impl Into<String>, good: Vec<u8>, bad: Vec<u8>, code: u16) -> Violation {
    Violation { name: name.into(), extensions: "", good, bad, code }
}

const DEFLATE: &str = "Sec-WebSocket-Extensions: permessage-deflate";
const GOOD: &[Half<'_>] = &[(FIN | TEXT, b"good")];

/// Within the default bounds.
pub(crate) fn of(sender: Sender) -> Vec<Violation> {
    let row =
        |name: &str, good: &[Half<'_>], bad: Half<'_>| violation(name, sender.frames(good), sender.frame(bad), 1002);
    let deflate =
        |name: &str, good: &[Half<'_>], bad: Half<'_>| Violation { extensions: DEFLATE, ..row(name, good, bad) };
    let lie = |name: &str, first: u8, length: &[u8], code: u16| {
        violation(name, sender.frames(GOOD), sender.header(first, length), code)
    };
    let raw = |name: &str, bad: &[u8]| violation(name, sender.frames(GOOD), bad.to_vec(), 1002);
    let mut rows = vec![
        row("F2 RSV1 without deflate", &[], (FIN | RSV1 | TEXT, b"x")),
        row("F2 RSV2", GOOD, (FIN | RSV2 | TEXT, b"x")),
        row("F2 RSV3", &[], (FIN | RSV3 | BINARY, b"x")),
        row("F2 every bit", &[], (0xff, b"x")),
        row("F2 RSV1 on a ping", &[], (FIN | RSV1 | PING, b"")),
        row("F2 RSV3 on a pong", &[], (FIN | RSV3 | PONG, b"")),
        row("F2 RSV2 on a Close", &[], (FIN | RSV2 | CLOSE, b"")),
        row("F2 RSV1 on a continuation", &[(TEXT, b"a")], (FIN | RSV1 | CONTINUATION, b"b")),
        deflate("F2 deflate: RSV1 on a continuation", &[(RSV1 | TEXT, b"a")], (FIN | RSV1 | CONTINUATION, b"b")),
        deflate("F2 deflate: RSV1 on a ping", &[], (FIN | RSV1 | PING, b"")),
        deflate("F2 deflate: RSV1 on a Close", &[], (FIN | RSV1 | CLOSE, &[3, 0xe8])),
        deflate("F2 deflate: RSV2", &[], (FIN | RSV2 | TEXT, b"x")),
        deflate("F2 deflate: RSV1 and RSV3", &[], (FIN | RSV1 | RSV3 | TEXT, b"x")),
        row("F3 fragmented ping", &[], (PING, b"x")),
        row("F3 fragmented pong", &[], (PONG, b"x")),
        row("F3 fragmented Close", &[], (CLOSE, b"")),
        row("F3 ping of 126 bytes", &[], (FIN | PING, &[0; 126])),
        row("F3 pong of 65536 bytes", &[], (FIN | PONG, &[0; 65_536])),
        row("F3 Close of 126 bytes", &[], (FIN | CLOSE, &[3; 126])),
        row("F4 a stray continuation", &[], (FIN | CONTINUATION, b"x")),
        row("F4 a stray fragment", &[], (CONTINUATION, b"x")),
        row("F4 an empty stray fragment", GOOD, (CONTINUATION, b"")),
        row(
            "F4 a continuation behind the last",
            &[(TEXT, b"a"), (FIN | CONTINUATION, b"b")],
            (FIN | CONTINUATION, b"c"),
        ),
        row("F4 text inside a message", &[(TEXT, b"a")], (FIN | TEXT, b"b")),
        row("F4 text inside an empty message", &[(TEXT, b"")], (TEXT, b"")),
        row("F4 binary inside a message", &[(TEXT, b"a"), (FIN | PING, b"")], (BINARY, b"b")),
        lie("F3 a ping that says 64 bits", FIN | PING, &[127, 0, 0, 0, 0, 0, 0, 0, 5], 1002),
        lie("F5 16 bits for 0", FIN | BINARY, &[126, 0, 0], 1002),
        lie("F5 16 bits for 5", FIN | BINARY, &[126, 0, 5], 1002),
        lie("F5 16 bits for 125", FIN | BINARY, &[126, 0, 125], 1002),
        lie("F5 64 bits for 5", FIN | BINARY, &[127, 0, 0, 0, 0, 0, 0, 0, 5], 1002),
        lie("F5 64 bits for 65535", FIN | BINARY, &[127, 0, 0, 0, 0, 0, 0, 0xff, 0xff], 1002),
        lie("F5 the top bit", FIN | BINARY, &[127, 0x80, 0, 0, 0, 0, 0, 0, 0], 1002),
        lie("F5 the top bit and a little", FIN | TEXT, &[127, 0x80, 0, 0, 0, 0, 1, 0, 0], 1002),
        lie("F5 all bits", FIN | BINARY, &[127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], 1002),
        lie("F6 exabytes", FIN | BINARY, &[127, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], 1009),
        lie("F6 four gigabytes", FIN | BINARY, &[127, 0, 0, 0, 1, 0, 0, 0, 0], 1009),
        lie("F6 a fragment of exabytes", BINARY, &[127, 0x40, 0, 0, 0, 0, 0, 0, 0], 1009),
        raw("a request", b"GET /admin HTTP/1.1\r\nHost: chat.example.com:8080\r\n\r\n"),
        raw("an answer", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"),
        raw("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        raw("the start of TLS", &[0x16, 3, 1, 2, 0, 1]),
        raw("an end of chunks", b"0\r\n\r\n"),
        raw("line ends", b"\r\n\r\n"),
        raw("two bytes that tell enough", &[FIN | 0x3, 0]),
        violation("F6 fragments without end", endless(sender), sender.frame((CONTINUATION, b"")), 1009),
    ];
    for opcode in [0x3, 0x4, 0x5, 0x6, 0x7, 0xb, 0xc, 0xd, 0xe, 0xf] {
        rows.push(row(&format!("F3 opcode {opcode:#x}"), GOOD, (FIN | opcode, b"x")));
        rows.push(row(&format!("F3 opcode {opcode:#x} inside a message"), &[(TEXT, b"a")], (opcode, b"")));
    }
    let codes = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1999, 2000, 2999, 5000, 65_535];
    let mut bodies: Vec<Vec<u8>> = codes.iter().map(|code| close_body(*code, "")).collect();
    bodies.extend([vec![3], vec![3, 0xe8, 0xff], vec![3, 0xe8, 0xed, 0xa0, 0x80], vec![3, 0xe8, b'a', 0xc3]]);
    rows.extend(bodies.iter().map(|body| row(&format!("F8 a Close of {body:?}"), GOOD, (FIN | CLOSE, body))));
    rows
}

/// As many fragments as there may be by default.
fn endless(sender: Sender) -> Vec<u8> {
    [sender.frame((TEXT, b"")), sender.frame((CONTINUATION, b"")).repeat(16_383)].concat()
}

/// The bounds of [`beyond`].
pub(crate) const BOUNDS: &str = "messages: {maxFrameBytes: 1000, maxMessageBytes: 2000, maxFragments: 4}";

/// Just beyond [`BOUNDS`]: told as soon as the header is there, no byte of the payload having come.
pub(crate) fn beyond(sender: Sender) -> Vec<Violation> {
    let kilobyte = [5; 1000];
    let header = |first: u8, length: u16| {
        let [high, low] = length.to_be_bytes();
        sender.header(first, &[126, high, low])
    };
    let row = |name: &str, good: &[Half<'_>], bad: Vec<u8>| violation(name, sender.frames(good), bad, 1009);
    vec![
        row("F6 frame", GOOD, header(FIN | BINARY, 1001)),
        row("F6 first fragment", GOOD, header(TEXT, 1001)),
        row(
            "F6 message of two frames",
            &[(BINARY, &[5; 900]), (CONTINUATION, &[5; 900])],
            header(FIN | CONTINUATION, 201),
        ),
        row("F6 full message", &[(BINARY, &kilobyte), (CONTINUATION, &kilobyte)], header(CONTINUATION, 126)),
        row(
            "F6 one byte beyond a full message",
            &[(BINARY, &kilobyte), (CONTINUATION, &kilobyte)],
            sender.frame((FIN | CONTINUATION, b"x")),
        ),
        row(
            "F6 fragments",
            &[(TEXT, b""), (CONTINUATION, b""), (CONTINUATION, b"a"), (CONTINUATION, b"b")],
            header(CONTINUATION, 200),
        ),
        row(
            "F6 fragments between pings",
            &[
                (TEXT, b""),
                (FIN | PING, b""),
                (CONTINUATION, b""),
                (CONTINUATION, b""),
                (FIN | PONG, b""),
                (CONTINUATION, b""),
            ],
            sender.frame((FIN | CONTINUATION, b"")),
        ),
    ]
}
