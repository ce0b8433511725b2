//! Records of sessions: one `open` (opt-in), one `close`, and one `reject` for a refused handshake.
//!
//! Field words are those of metrics and table. What a client may have put a secret into is shown without it: query
//! parameters by name only, subprotocols without what looks like a token ([`super::redact`]). Of other headers only
//! `Origin` has a place here. A record is kept for the life of its session, so it holds one copy of what it needs.

use super::labels::{CloseReason, HandshakeReason, Initiator};
use crate::routing::{Address, Backend, Rule};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// What records say of a handshake; already redacted.
#[derive(Clone, Debug)]
pub struct Handshake {
    /// Unique in this process; 0 for one that was refused before it was registered.
    pub id: u64,
    /// The client.
    pub peer: SocketAddr,
    /// `ws` or `wss`.
    pub scheme: &'static str,
    /// `Host` without its port.
    pub host: Box<str>,
    /// Path and the names of query parameters.
    pub path: Box<str>,
    /// `Origin`.
    pub origin: Box<str>,
    /// Offered subprotocols.
    pub subprotocols: Box<str>,
    /// The client's or our own `X-Request-Id`.
    pub request_id: Box<str>,
    /// The rule it reached.
    pub rule: Option<Arc<Rule>>,
    /// The class of its route.
    pub class: Option<Arc<str>>,
    /// Backend and endpoint that were chosen.
    pub upstream: Option<(Arc<Backend>, Address)>,
    /// From the accepted connection to the answer.
    pub took: Duration,
}

/// How a session ended, and what had passed.
#[derive(Clone, Copy, Debug)]
pub struct End {
    /// Label of the metric.
    pub reason: CloseReason,
    /// Whose doing it was.
    pub initiator: Initiator,
    /// The code of the Close frame.
    pub code: Option<u16>,
    /// Whether a peer was cut off.
    pub forced: bool,
    /// Messages from and to the client.
    pub messages: (u64, u64),
    /// Bytes on the wire from and to the client.
    pub bytes: (u64, u64),
    /// From the accepted connection.
    pub duration: Duration,
}

/// Writes a record with the fields of the handshake, then its own. Absent values leave their field out.
macro_rules! record {
    ($event:literal, $h:expr, $($own:tt)*) => {{
        let h: &Handshake = $h;
        let (backend, endpoint) = match &h.upstream {
            Some((backend, endpoint)) => (Some(backend.id.to_string()), Some(endpoint.to_string())),
            None => (None, None),
        };
        tracing::info!(
            target: "sheave::access",
            event = $event,
            conn = h.id,
            class = h.class.as_deref(),
            route = h.rule.as_ref().map(|rule| rule.id.route.to_string()),
            rule = h.rule.as_ref().map(|rule| &*rule.id.rule),
            backend,
            endpoint,
            client.address = %h.peer,
            scheme = h.scheme,
            host = some(&h.host),
            path = some(&h.path),
            origin = some(&h.origin),
            subprotocol = some(&h.subprotocols),
            request_id = some(&h.request_id),
            handshake_ms = millis(h.took),
            $($own)*
        );
    }};
}

fn some(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// Records that a session has opened.
pub fn open(h: &Handshake) {
    record!("open", h, "session opened");
}

/// Records that a session has ended.
pub fn close(h: &Handshake, end: &End) {
    record!(
        "close",
        h,
        reason = end.reason.as_str(),
        initiator = end.initiator.as_str(),
        code = end.code,
        forced = end.forced,
        messages_in = end.messages.0,
        messages_out = end.messages.1,
        bytes_in = end.bytes.0,
        bytes_out = end.bytes.1,
        duration_ms = millis(end.duration),
        "session closed"
    );
}

/// Records that a handshake was refused; `status` 0 means that nobody was left to answer.
pub fn reject(h: &Handshake, reason: HandshakeReason, status: u16, detail: &str) {
    record!("reject", h, reason = reason.as_str(), status, detail, "handshake refused");
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
