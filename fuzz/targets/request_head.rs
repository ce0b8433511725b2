//! A client's request head: one that is accepted reads the same to another strict parser, and what goes upstream for it
//! is one good handshake that asks for the same and carries nothing that was the client's with this hop alone.
//!
//! Input: a byte for the limits and the pieces; then what the client sends.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use sheave::proxy::Edits;
use sheave::proxy::forward::{Forwarded, request_head};
use sheave::proxy::handshake::Offer;
use sheave::proxy::head::{HeadLimits, RequestHead, Scan};
use sheave::proxy::peer::Peer;
use sheave::routing::Scheme;

const NARROW: HeadLimits = HeadLimits { max_bytes: 600, max_fields: 12, max_target_bytes: 60 };

/// What ends at this hop (RFC 9110 §7.6.1), and what is ours to say.
const NOT_THEIRS: [&str; 18] = [
    "client-cert",
    "client-cert-chain",
    "connection",
    "content-length",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-real-ip",
    "x-request-id",
    "sec-websocket-key",
    "sec-websocket-version",
];
const NOT_THEIRS_FROM: [&str; 4] = ["x-forwarded", "ssl-client-", "x-client-cert", "x-ssl-"];

/// A request as httparse reads it.
struct Read<'h> {
    method: &'h str,
    target: &'h str,
    fields: Vec<(String, &'h [u8])>,
}

impl<'h> Read<'h> {
    fn of(head: &'h [u8]) -> Self {
        let mut lines = [httparse::EMPTY_HEADER; 160];
        let mut request = httparse::Request::new(&mut lines);
        let read = request.parse(head);
        assert_eq!(read, Ok(httparse::Status::Complete(head.len())), "{}", head.escape_ascii());
        assert_eq!(request.version, Some(1));
        let fields = request.headers.iter().map(|line| (line.name.to_ascii_lowercase(), line.value)).collect();
        Self { method: request.method.unwrap_or_default(), target: request.path.unwrap_or_default(), fields }
    }

    fn all(&self, name: &str) -> Vec<&'h [u8]> {
        self.fields.iter().filter(|(known, _)| known == name).map(|(_, value)| *value).collect()
    }

    /// The elements of a list over all its lines.
    fn list(&self, name: &str) -> Vec<&'h [u8]> {
        self.all(name).iter().flat_map(|value| value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii).collect()
    }
}

/// Path and query of a target, whose absolute form names `authority` (RFC 9112 §3.2).
fn origin_form(target: &str, authority: &str) -> String {
    match target.split_once("://").filter(|_| !target.starts_with('/')) {
        None => target.to_owned(),
        Some((_, rest)) => {
            let rest = &rest[authority.len()..];
            if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") }
        }
    }
}

/// The offer, however the head arrives; and how long the head is.
fn offer(bytes: &[u8], limits: &HeadLimits, step: usize) -> Option<(Offer, usize)> {
    let mut scan = Scan::default();
    let mut shown = 0;
    let length = loop {
        shown = (shown + step).min(bytes.len());
        if let Some(length) = scan.advance(&bytes[..shown], limits).ok()? {
            break length;
        }
        if shown == bytes.len() {
            return None;
        }
    };
    let head = RequestHead::parse(Bytes::copy_from_slice(&bytes[..length]), limits).ok()?;
    Some((Offer::check(head, Bytes::new(), Scheme::Wss).ok()?, length))
}

fuzz_target!(|bytes: &[u8]| {
    let Some((how, bytes)) = bytes.split_first() else { return };
    let limits = if how & 1 == 0 { HeadLimits::default() } else { NARROW };
    let whole = offer(bytes, &limits, bytes.len().max(1));
    let pieces = offer(bytes, &limits, usize::from(how >> 1) + 1);
    let length = |offer: &Option<(Offer, usize)>| offer.as_ref().map(|(_, length)| *length);
    assert_eq!(length(&whole), length(&pieces), "in pieces of {}", (how >> 1) + 1);
    let Some((offer, length)) = whole else { return };
    assert!(length <= limits.max_bytes);

    let came = Read::of(&bytes[..length]);
    assert!(came.fields.len() <= limits.max_fields && came.target.len() <= limits.max_target_bytes);
    assert_eq!((came.method, came.all("host")), ("GET", vec![offer.authority.as_bytes()]));
    assert_eq!(offer.target(), origin_form(came.target, &offer.authority));
    assert!(
        came.all("transfer-encoding").is_empty() && came.all("content-length").iter().all(|length| *length == b"0")
    );

    let peer = Peer::new(([192, 0, 2, 1], 7).into(), ([127, 0, 0, 1], 443).into());
    let head = request_head(Forwarded { offer: &offer, peer: &peer, edits: &Edits::default() });
    let sent = Read::of(&head);
    assert_eq!((sent.method, sent.target), ("GET", offer.target()));
    assert_eq!(sent.all("host"), came.all("host"));
    for (name, value) in [("connection", "Upgrade"), ("upgrade", "websocket"), ("sec-websocket-version", "13")] {
        assert_eq!(sent.all(name), [value.as_bytes()], "{name}");
    }
    assert_eq!(sent.all("sec-websocket-key"), came.all("sec-websocket-key"));
    assert_eq!(sent.list("sec-websocket-protocol"), came.list("sec-websocket-protocol"));
    assert_eq!(sent.all("sec-websocket-extensions"), came.all("sec-websocket-extensions"));
    let plain = |value: &&[u8]| !value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0));
    assert!(sent.fields.iter().all(|(_, value)| plain(value)));

    // Of the client's own lines those pass that are neither of this hop nor ours to say; in order, and no others.
    let nominated = came.list("connection");
    let passes = |name: &str| {
        let folded = name.replace('_', "-");
        !NOT_THEIRS.contains(&&*folded)
            && !NOT_THEIRS_FROM.iter().any(|start| folded.starts_with(start))
            && !folded.starts_with("sec-websocket-")
            && !nominated.iter().any(|nominated| nominated.eq_ignore_ascii_case(name.as_bytes()))
    };
    let theirs: Vec<_> = came.fields.iter().filter(|(name, _)| passes(name)).collect();
    let carried: Vec<_> = sent.fields.iter().filter(|(name, _)| passes(name)).collect();
    assert_eq!(carried, theirs);
    for ours in
        ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "forwarded", "x-request-id"]
    {
        assert_eq!(sent.all(ours).len(), 1, "{ours}");
    }
    // Of what is neither carried nor ours there is nothing: six lines say where it comes from, the rest is the handshake.
    let handshake = 5 + 6 + usize::from(!sent.all("sec-websocket-protocol").is_empty());
    assert_eq!(sent.fields.len(), carried.len() + handshake + sent.all("sec-websocket-extensions").len());
});
