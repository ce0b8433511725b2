//! Records of sessions: one `open` (opt-in), one `close`, and one `reject` for a refused handshake.
//!
//! Field words are those of metrics and table. What a client may have put a secret into is shown without it: query
//! parameters by name only, subprotocols without what looks like a token. Headers are never shown, but `Origin`.

use super::labels::{CloseReason, HandshakeReason, Initiator};
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
    /// `namespace/route/rule`, empty when none was found.
    pub rule: Box<str>,
    /// Class of the route.
    pub class: Arc<str>,
    /// `namespace/service:port`, empty when none was chosen.
    pub backend: Box<str>,
    /// Address of the endpoint, empty when none was chosen.
    pub endpoint: Box<str>,
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
    /// Payload bytes from and to the client.
    pub bytes: (u64, u64),
    /// From the accepted connection.
    pub duration: Duration,
}

/// Records that a session has opened.
pub fn open(h: &Handshake) {
    tracing::info!(
        target: "sheave::access", event = "open", id = h.id, class = %h.class, rule = %h.rule, backend = %h.backend,
        endpoint = %h.endpoint, client.address = %h.peer, scheme = h.scheme, host = %h.host, path = %h.path,
        origin = %h.origin, subprotocols = %h.subprotocols, request_id = %h.request_id,
        handshake_ms = millis(h.took), "session opened"
    );
}

/// Records that a session has ended.
pub fn close(h: &Handshake, end: &End) {
    tracing::info!(
        target: "sheave::access", event = "close", id = h.id, class = %h.class, rule = %h.rule, backend = %h.backend,
        endpoint = %h.endpoint, client.address = %h.peer, scheme = h.scheme, host = %h.host, path = %h.path,
        origin = %h.origin, subprotocols = %h.subprotocols, request_id = %h.request_id,
        handshake_ms = millis(h.took), reason = end.reason.as_str(), initiator = end.initiator.as_str(),
        code = end.code.unwrap_or_default(), forced = end.forced, messages_in = end.messages.0,
        messages_out = end.messages.1, bytes_in = end.bytes.0, bytes_out = end.bytes.1,
        duration_ms = millis(end.duration), "session closed"
    );
}

/// Records that a handshake was refused; `status` 0 means that nobody was left to answer.
pub fn reject(h: &Handshake, reason: HandshakeReason, status: u16, detail: &str) {
    tracing::info!(
        target: "sheave::access", event = "reject", id = h.id, class = %h.class, rule = %h.rule, backend = %h.backend,
        endpoint = %h.endpoint, client.address = %h.peer, scheme = h.scheme, host = %h.host, path = %h.path,
        origin = %h.origin, subprotocols = %h.subprotocols, request_id = %h.request_id,
        handshake_ms = millis(h.took), reason = reason.as_str(), status, detail, "handshake refused"
    );
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Path and query with every value replaced: tokens travel in query parameters of any name.
pub fn redact_query(path: &str, query: Option<&str>) -> Box<str> {
    let Some(query) = query else { return path.into() };
    let mut out = format!("{path}?");
    for (at, pair) in query.split('&').enumerate() {
        if at > 0 {
            out.push('&');
        }
        match pair.split_once('=') {
            Some((name, _)) => out.extend([name, "=…"]),
            None if pair.len() > LONGEST_PLAIN => out.push('…'), // a bare token
            None => out.push_str(pair),
        }
    }
    out.into()
}

/// The longest subprotocol that is shown; tokens are longer, registered names are not.
const LONGEST_PLAIN: usize = 32;

/// What token conventions begin with.
const TOKEN_PREFIXES: [&str; 6] =
    ["base64url.bearer.", "bearer.", "openai-insecure-api-key.", "xai-client-secret.", "header-", "rt_"];

/// Names behind which the next element is the secret.
const TOKEN_NAMES: [&str; 4] = ["token", "access_token", "bearer", "authorization"];

/// Offered subprotocols, without what looks like a credential.
pub fn redact_subprotocols<'a>(offered: impl IntoIterator<Item = &'a str>) -> Box<str> {
    let mut out = String::new();
    let mut secret_next = false;
    for protocol in offered {
        if !out.is_empty() {
            out.push(',');
        }
        let lower = protocol.to_ascii_lowercase();
        let secret = std::mem::replace(&mut secret_next, TOKEN_NAMES.contains(&lower.as_str()));
        if secret || protocol.len() > LONGEST_PLAIN || TOKEN_PREFIXES.iter().any(|prefix| lower.starts_with(prefix)) {
            out.push('…');
        } else {
            out.push_str(protocol);
        }
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_values_are_never_shown() {
        assert_eq!(&*redact_query("/ws", Some("token=hunter2&v=1&flag")), "/ws?token=…&v=…&flag");
        assert_eq!(&*redact_query("/ws", Some(&"x".repeat(40))), "/ws?…");
        assert_eq!(&*redact_query("/ws", None), "/ws");
    }

    #[test]
    fn subprotocols_that_look_like_tokens_are_never_shown() {
        let long = "x".repeat(33);
        let offered = ["mqtt", "bearer.hunter2", "access_token", "hunter2", &long, "v1"];
        assert_eq!(&*redact_subprotocols(offered), "mqtt,…,access_token,…,…,v1");
    }
}
