//! Records of sessions: one `open` (opt-in), one `close`, and one `reject` for a refused handshake.
//!
//! Field words are those of metrics and table. What a client may have put a secret into is shown without it: query
//! parameters by name only, subprotocols without what looks like a token ([`super::redact`]). Of other headers only
//! `Origin` has a place here. A record is kept for the life of its session, so it holds one copy of what it needs.

use super::labels::{CloseReason, HandshakeReason, Initiator};
use crate::routing::{Address, Backend, Rule, Scheme};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Who a client was found to be, as far as it is known. Names, never credentials.
#[derive(Clone, Debug, Default)]
pub struct Who {
    /// Its name.
    pub consumer: Option<Arc<str>>,
    /// The provider that found it out, or that refused it.
    pub provider: Option<Arc<str>>,
}

/// What records say of a handshake; already redacted.
#[derive(Clone, Debug)]
pub struct Handshake<'a> {
    /// Unique in this process; 0 for one that was refused before it was registered.
    pub id: u64,
    /// The client.
    pub peer: SocketAddr,
    /// Who that is.
    pub who: Who,
    /// The rule it reached.
    pub rule: Option<Arc<Rule>>,
    /// Backend and endpoint that were chosen.
    pub upstream: Option<(Arc<Backend>, Address)>,
    /// What only its request said.
    pub said: &'a Said,
}

/// What a handshake said that nothing else of its session knows; kept as long as that lives, so it is kept small.
#[derive(Clone, Debug)]
pub struct Said {
    /// `ws` or `wss`.
    pub scheme: Scheme,
    /// The load balancer that named the client, if one did. Boxed, for most have none.
    pub via: Option<Box<SocketAddr>>,
    /// The class of its route.
    pub class: Option<Arc<str>>,
    /// From the accepted connection to the answer.
    pub took: Duration,
    /// The words of its request.
    pub words: Words,
}

/// The words of a request that records show, one behind the other: five allocations would cost more than they hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    text: Box<str>,
    /// Where each but the last ends.
    ends: [u32; 4],
}

impl Words {
    /// Of `Host` without its port, the path with the names of query parameters, `Origin`, the offered subprotocols and
    /// the client's or our own `X-Request-Id`.
    pub fn new(words: [&str; 5]) -> Self {
        let mut end = 0;
        let ends = std::array::from_fn(|at| {
            end += words[at].len();
            end as u32
        });
        Self { text: words.concat().into(), ends }
    }

    /// The same, in the same order.
    pub fn all(&self) -> [&str; 5] {
        let end = |at: usize| self.ends.get(at).map_or(self.text.len(), |end| *end as usize);
        std::array::from_fn(|at| &self.text[at.checked_sub(1).map_or(0, end)..end(at)])
    }
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
        if !tracing::enabled!(target: "sheave::access", tracing::Level::INFO) {
            return; // what follows writes text
        }
        let h: &Handshake<'_> = $h;
        let [host, path, origin, subprotocols, request_id] = h.said.words.all();
        let (backend, endpoint) = match &h.upstream {
            Some((backend, endpoint)) => (Some(backend.id.to_string()), Some(endpoint.to_string())),
            None => (None, None),
        };
        tracing::info!(
            target: "sheave::access",
            event = $event,
            conn = h.id,
            class = h.said.class.as_deref(),
            route = h.rule.as_ref().map(|rule| rule.id.route.to_string()),
            rule = h.rule.as_ref().map(|rule| &*rule.id.rule),
            backend,
            endpoint,
            client.address = %h.peer,
            via = h.said.via.as_deref().map(tracing::field::display),
            consumer = h.who.consumer.as_deref(),
            provider = h.who.provider.as_deref(),
            scheme = h.said.scheme.as_str(),
            host = some(host),
            path = some(path),
            origin = some(origin),
            subprotocol = some(subprotocols),
            request_id = some(request_id),
            handshake_ms = millis(h.said.took),
            $($own)*
        );
    }};
}

fn some(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// Records that a session has opened.
pub fn open(h: &Handshake<'_>) {
    record!("open", h, "session opened");
}

/// Records that a session has ended.
pub fn close(h: &Handshake<'_>, end: &End) {
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
pub fn reject(h: &Handshake<'_>, reason: HandshakeReason, status: u16, detail: &str) {
    record!("reject", h, reason = reason.as_str(), status, detail, "handshake refused");
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back_as_they_were() {
        for words in [["a.example", "/x", "https://b", "mqtt", "id"], ["", "/", "", "", "id"], [""; 5]] {
            assert_eq!(Words::new(words).all(), words);
        }
    }
}
