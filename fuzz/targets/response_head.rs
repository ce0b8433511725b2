//! A service's answer to a handshake: only a 101 that answers this very offer is taken, another strict parser reads the
//! same in it, and what the client gets is one good 101 with nothing of the service's connection in it.
//!
//! Input: a byte that says what was offered; then what the service sends.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use sheave::proxy::answer::switching_protocols;
use sheave::proxy::forward::Forwarded;
use sheave::proxy::handshake::Offer;
use sheave::proxy::head::{HeadLimits, RequestHead, ResponseHead, Scan};
use sheave::proxy::peer::Peer;
use sheave::proxy::{AcceptanceFault, Edits, check_acceptance};
use sheave::routing::Scheme;

/// The key and its answer of RFC 6455 §1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &[u8] = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// What ends at this hop (RFC 9110 §7.6.1) or is void in a 101 (RFC 9112 §6.1).
const NOT_THEIRS: [&str; 11] = [
    "connection",
    "content-length",
    "http2-settings",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "sec-websocket-accept",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

const SUBPROTOCOLS: [&str; 4] = ["", "mqtt", "chat, mqtt, Superchat", "bearer.t, chat"];
const EXTENSIONS: [&str; 4] =
    ["", "permessage-deflate", "permessage-deflate; client_max_window_bits, x-a", "x-a; b=\"c\""];

fn offer(bits: u8) -> (Offer, &'static str, &'static str) {
    let subprotocols = SUBPROTOCOLS[usize::from(bits & 3)];
    let extensions = EXTENSIONS[usize::from(bits >> 2 & 3)];
    let line = |name: &str, value: &str| if value.is_empty() { String::new() } else { format!("{name}: {value}\r\n") };
    let head = format!(
        "GET /ws HTTP/1.1\r\nHost: chat.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{}{}\r\n",
        line("Sec-WebSocket-Protocol", subprotocols),
        line("Sec-WebSocket-Extensions", extensions),
    );
    let head = RequestHead::parse(head.into(), &HeadLimits::default()).expect("a good head");
    (Offer::check(head, Bytes::new(), Scheme::Wss).expect("a good offer"), subprotocols, extensions)
}

/// A response as httparse reads it.
struct Read<'h> {
    status: u16,
    version: u8,
    reason: &'h str,
    fields: Vec<(String, &'h [u8])>,
}

impl<'h> Read<'h> {
    fn of(head: &'h [u8]) -> Self {
        let mut lines = [httparse::EMPTY_HEADER; 160];
        let mut response = httparse::Response::new(&mut lines);
        let read = response.parse(head);
        assert_eq!(read, Ok(httparse::Status::Complete(head.len())), "{}", head.escape_ascii());
        let fields = response.headers.iter().map(|line| (line.name.to_ascii_lowercase(), line.value)).collect();
        let (status, version) = (response.code.unwrap_or_default(), response.version.unwrap_or_default());
        Self { status, version, reason: response.reason.unwrap_or_default(), fields }
    }

    fn all(&self, name: &str) -> Vec<&'h [u8]> {
        self.fields.iter().filter(|(known, _)| known == name).map(|(_, value)| *value).collect()
    }

    /// The elements of a list over all its lines.
    fn list(&self, name: &str) -> Vec<&'h [u8]> {
        self.all(name).iter().flat_map(|value| value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii).collect()
    }
}

/// The head, however it arrives.
fn parsed(bytes: &[u8], step: usize) -> Option<(ResponseHead, usize)> {
    let limits = HeadLimits::default();
    let mut scan = Scan::default();
    let mut shown = 0;
    let length = loop {
        shown = (shown + step).min(bytes.len());
        if let Some(length) = scan.advance(&bytes[..shown], &limits).ok()? {
            break length;
        }
        if shown == bytes.len() {
            return None;
        }
    };
    let head = ResponseHead::parse(&Bytes::copy_from_slice(&bytes[..length]), &limits).ok()?;
    Some((head, length))
}

/// Whether one of `list`, which another wrote, is `name`, whatever its parameters.
fn names(list: &str, name: &str) -> bool {
    list.split(',').any(|one| one.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(name))
}

fuzz_target!(|bytes: &[u8]| {
    let Some((bits, bytes)) = bytes.split_first() else { return };
    let whole = parsed(bytes, bytes.len().max(1));
    let pieces = parsed(bytes, usize::from(bits >> 4) + 1);
    assert_eq!(whole.as_ref().map(|(_, length)| length), pieces.as_ref().map(|(_, length)| length));
    let Some((head, length)) = whole else { return };

    let came = Read::of(&bytes[..length]);
    assert_eq!((head.status, head.is_http_1_1), (came.status, came.version == 1));
    // It leaves out a reason with other bytes.
    if head.reason.is_ascii() {
        assert_eq!(came.reason.as_bytes(), &head.reason[..]);
    }
    let fields: Vec<_> = head.fields.iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
    assert_eq!(fields, came.fields);

    // As a caller does: nothing but a 101 is judged.
    if head.status != 101 {
        return;
    }
    let (offer, subprotocols, extensions) = offer(*bits);
    let peer = Peer::new(([192, 0, 2, 1], 7).into(), ([127, 0, 0, 1], 443).into());
    let edits = Edits { without_subprotocols: vec!["bearer.t".into()], ..Edits::default() };
    let acceptance = match check_acceptance(&head, Forwarded { offer: &offer, peer: &peer, edits: &edits }) {
        Ok(acceptance) => acceptance,
        Err(AcceptanceFault::Accept) => return assert_ne!(came.all("sec-websocket-accept"), [ACCEPT]),
        Err(_) => return,
    };
    assert_eq!(came.version, 1);
    assert_eq!(came.all("sec-websocket-accept"), [ACCEPT]);
    assert!(matches!(came.all("upgrade")[..], [one] if one.eq_ignore_ascii_case(b"websocket")));
    assert!(came.list("connection").iter().any(|one| one.eq_ignore_ascii_case(b"upgrade")));
    match (&acceptance.subprotocol, &came.all("sec-websocket-protocol")[..]) {
        (None, []) => {}
        (Some(chosen), [one]) => {
            assert_eq!(chosen.as_bytes(), *one);
            assert!(subprotocols.split(", ").any(|offered| offered == &**chosen) && !chosen.starts_with("bearer."));
        }
        (chosen, lines) => panic!("{chosen:?} of {} lines", lines.len()),
    }
    let deflate = "permessage-deflate";
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let accepted = came.all("sec-websocket-extensions").iter().map(|value| text(value)).collect::<Vec<_>>().join(",");
    assert_eq!(acceptance.deflate, names(&accepted, deflate));
    assert!(!acceptance.deflate || names(extensions, deflate));
    // The value of a parameter is a token, so it holds no comma and no semicolon.
    for one in accepted.split(',').filter(|one| !one.is_empty()) {
        assert!(names(extensions, one.split(';').next().unwrap_or_default().trim()), "{one:?} was not offered");
    }

    let written = switching_protocols(&head);
    let sent = Read::of(&written);
    assert_eq!((sent.status, sent.version), (101, 1));
    for (name, value) in [("connection", &b"Upgrade"[..]), ("upgrade", b"websocket"), ("sec-websocket-accept", ACCEPT)]
    {
        assert_eq!(sent.all(name), [value], "{name}");
    }
    assert_eq!(sent.all("sec-websocket-protocol"), came.all("sec-websocket-protocol"), "what was agreed is told");
    assert_eq!(sent.all("sec-websocket-extensions"), came.all("sec-websocket-extensions"), "what was agreed is told");
    // A longer list is noise.
    let nominated: Vec<_> = came.list("connection").into_iter().filter(|one| !one.is_empty()).take(32).collect();
    let passes = |name: &str| {
        !NOT_THEIRS.contains(&&*name.replace('_', "-"))
            && !nominated.iter().any(|nominated| nominated.eq_ignore_ascii_case(name.as_bytes()))
    };
    let carried: Vec<_> = came.fields.iter().filter(|(name, _)| passes(name)).collect();
    assert_eq!(sent.fields[3..].iter().collect::<Vec<_>>(), carried);
});
