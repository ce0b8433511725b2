//! The records of sessions: `open` (only if asked for), `close` and `reject`, one log event each.
//!
//! The words are those of metrics and table. What a client sent goes through [`super::redact`] here and nowhere else,
//! so that a caller cannot forget it; cookies and `Authorization` have no place in a record at all.

use super::counters::Tally;
use super::labels::{CloseReason, DataOpcode, Direction, HandshakeReason, Initiator};
use super::redact::{redact_query, redact_subprotocols, shorten};
use crate::routing::{Address, BackendId, RuleId};
use std::net::SocketAddr;
use std::time::Duration;

/// An origin or host longer than this many bytes is cut.
const LONGEST_NAME: usize = 256;

/// What is known of a handshake, as far as it got. Borrowed from wherever it was read.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The session's id, the same everywhere.
    pub conn: u64,
    /// The client's address.
    pub client: SocketAddr,
    /// As sent; cut here.
    pub host: Option<&'a str>,
    /// The request target as sent, query included; redacted here.
    pub target: Option<&'a str>,
    /// As sent; cut here.
    pub origin: Option<&'a str>,
    /// The subprotocols offered, or the one chosen; redacted here.
    pub subprotocols: &'a [&'a str],
    /// The rule it reached.
    pub rule: Option<(&'a RuleId, &'a str)>,
    /// The backend that was chosen.
    pub backend: Option<&'a BackendId>,
    /// The endpoint that was chosen.
    pub endpoint: Option<&'a Address>,
}

impl<'a> Subject<'a> {
    /// A handshake of which nothing is known but where it came from.
    pub fn new(conn: u64, client: SocketAddr) -> Self {
        Self {
            conn,
            client,
            host: None,
            target: None,
            origin: None,
            subprotocols: &[],
            rule: None,
            backend: None,
            endpoint: None,
        }
    }

    fn host(&self) -> Option<String> {
        self.host.map(|host| shorten(host, LONGEST_NAME).into_owned())
    }

    fn path(&self) -> Option<String> {
        self.target.map(redact_query)
    }

    fn origin(&self) -> Option<String> {
        // An origin has no path (RFC 6454 §6.2); whatever else is there is not ours to record.
        self.origin.map(|origin| redact_query(&shorten(origin, LONGEST_NAME)))
    }

    fn subprotocol(&self) -> Option<String> {
        (!self.subprotocols.is_empty()).then(|| redact_subprotocols(self.subprotocols.iter().copied()))
    }

    fn class(&self) -> Option<&'a str> {
        self.rule.map(|(_, class)| class)
    }

    fn route(&self) -> Option<String> {
        self.rule.map(|(id, _)| id.route.to_string())
    }

    fn rule(&self) -> Option<&'a str> {
        self.rule.map(|(id, _)| &*id.rule)
    }
}

/// How a session ended.
#[derive(Clone, Copy, Debug)]
pub struct Ending {
    /// Why.
    pub reason: CloseReason,
    /// By whom.
    pub initiator: Initiator,
    /// What the Close frame said, if there was one.
    pub code: Option<u16>,
    /// Since the 101.
    pub duration: Duration,
    /// From the accepted connection to the 101.
    pub handshake: Duration,
    /// What has passed.
    pub tally: Tally,
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Writes a record with the subject's fields, then the given ones. Absent values leave their field out.
macro_rules! record {
    ($level:ident, $event:literal, $subject:expr, $($own:tt)*) => {{
        let s: &Subject<'_> = $subject;
        let (host, path, origin, subprotocol) = (s.host(), s.path(), s.origin(), s.subprotocol());
        let (route, backend) = (s.route(), s.backend.map(ToString::to_string));
        let endpoint = s.endpoint.map(ToString::to_string);
        tracing::$level!(
            target: "sheave::access",
            event = $event,
            conn = s.conn,
            class = s.class(),
            route = route.as_deref(),
            rule = s.rule(),
            backend = backend.as_deref(),
            endpoint = endpoint.as_deref(),
            client.address = %s.client,
            host = host.as_deref(),
            path = path.as_deref(),
            origin = origin.as_deref(),
            subprotocol = subprotocol.as_deref(),
            $($own)*
        );
    }};
}

/// Records that a session was opened.
pub fn open(subject: &Subject<'_>, handshake: Duration) {
    record!(info, "open", subject, handshake_ms = milliseconds(handshake));
}

/// Records that a session ended.
pub fn close(subject: &Subject<'_>, ending: &Ending) {
    let (inward, outward) = (ending.tally.direction(Direction::In), ending.tally.direction(Direction::Out));
    record!(
        info,
        "close",
        subject,
        reason = ending.reason.as_str(),
        initiator = ending.initiator.as_str(),
        code = ending.code,
        duration_ms = milliseconds(ending.duration),
        handshake_ms = milliseconds(ending.handshake),
        messages_in = inward.messages(),
        messages_out = outward.messages(),
        text_in = inward.messages_of(DataOpcode::Text),
        text_out = outward.messages_of(DataOpcode::Text),
        bytes_in = inward.bytes,
        bytes_out = outward.bytes,
    );
}

/// Records that a handshake was refused, or given up when there was nobody to answer (`status` is `None`). `advice`
/// is for the operator: our own words, or an error of the system or of TLS.
pub fn reject(subject: &Subject<'_>, reason: HandshakeReason, status: Option<u16>, advice: &str, handshake: Duration) {
    record!(
        info,
        "reject",
        subject,
        outcome = reason.outcome().as_str(),
        reason = reason.as_str(),
        http.status = status,
        detail = advice,
        handshake_ms = milliseconds(handshake),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::RouteId;
    use std::io::Write;
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::fmt::MakeWriter;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Lines {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    fn recorded(write: impl FnOnce()) -> serde_json::Value {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::fmt().json().flatten_event(true).with_writer(lines.clone()).finish();
        tracing::subscriber::with_default(subscriber, write);
        let bytes = lines.0.lock().unwrap().clone();
        serde_json::from_slice(&bytes).unwrap()
    }

    #[test]
    fn a_close_record_says_where_why_and_how_much_and_nothing_secret() {
        let id = RuleId { route: RouteId { namespace: "ns".into(), name: "chat".into() }, rule: "0".into() };
        let subject = Subject {
            host: Some("chat.example.com"),
            target: Some("/ws?token=s3cr3t"),
            origin: Some("https://example.com/?s3cr3t"),
            subprotocols: &["mqtt", "bearer.s3cr3t"],
            rule: Some((&id, "websocket")),
            ..Subject::new(7, "[::1]:5000".parse().unwrap())
        };
        let ending = Ending {
            reason: CloseReason::Drain,
            initiator: Initiator::Proxy,
            code: Some(1001),
            duration: Duration::from_millis(1500),
            handshake: Duration::from_micros(1999),
            tally: Tally::default(),
        };
        let record = recorded(|| close(&subject, &ending));
        assert_eq!(record["event"], "close");
        assert_eq!((&record["conn"], &record["code"], &record["duration_ms"]), (&7.into(), &1001.into(), &1500.into()));
        assert_eq!((&record["route"], &record["rule"]), (&"ns/chat".into(), &"0".into()));
        assert_eq!((&record["reason"], &record["initiator"]), (&"drain".into(), &"proxy".into()));
        assert_eq!(record["path"], "/ws?token=[redacted]");
        assert!(record.get("backend").is_none(), "what is not known is left out");
        assert!(!record.to_string().contains("s3cr3t"), "{record}");
    }

    #[test]
    fn a_reject_record_says_the_status_and_the_reason() {
        let subject = Subject::new(8, "127.0.0.1:1".parse().unwrap());
        let record = recorded(|| {
            reject(&subject, HandshakeReason::NoRoute, Some(404), "no route for this host", Duration::ZERO)
        });
        assert_eq!((&record["outcome"], &record["reason"]), (&"rejected".into(), &"no_route".into()));
        assert_eq!((&record["http.status"], &record["client.address"]), (&404.into(), &"127.0.0.1:1".into()));
    }
}
