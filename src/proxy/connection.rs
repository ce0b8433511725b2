//! The whole life of one connection, top to bottom: read this file first.
//!
//! Everything up to the 101 happens in [`open`], whose state is dropped before the relay starts, so that an idle
//! session holds none of it. Each early exit is one refusal: an HTTP status with a reason, and a `reject` record.

use super::Proxy;
use super::answer::{self, Refusal};
use super::balance::Lease;
use super::close::Closed;
use super::handshake::{self, Offer};
use super::pass;
use super::peer::Peer;
use super::relay::{Ends, Relay};
use super::sessions::{Entry, Registered, Session, Sessions};
use super::tls;
use super::transport::Transport;
use super::upstream::ConnectError;
use crate::routing::{Address, Backend, Found, NoRoute, Plaintext, Rule, Scheme};
use crate::telemetry::rules::BackendConnection;
use crate::telemetry::{Direction, HandshakePhase, HandshakeReason, access, redact_query, redact_subprotocols};
use http::StatusCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// A session whose client has its 101. Small: it is what an idle session consists of.
struct Opened {
    session: Registered,
    relay: Relay,
    lease: Lease,
    counted: BackendConnection,
    /// What its records say of the handshake.
    story: Box<access::Handshake>,
}

/// Serves one accepted connection to its end.
///
/// # Cancel safety
/// Dropping it cuts the connection; the register and the balancer are told.
pub fn serve(stream: TcpStream, peer: Peer, scheme: Scheme, proxy: Arc<Proxy>) -> impl Future<Output = ()> + Send {
    let accepted = Instant::now();
    let connected = proxy.sessions.connected();
    let shared = Arc::clone(&proxy);
    // Boxed before the future exists: an argument would stay in it for as long as the session lives.
    let opening = Box::pin(async move { open(stream, peer, scheme, &shared, accepted).await });
    async move {
        let Some(mut opened) = opening.await else { return };
        let session = &opened.session;
        session.metrics.opened();
        if proxy.record_open {
            access::open(&opened.story);
        }
        let closed = opened.relay.run(session, &proxy.metrics).await;
        drop((opened.lease, opened.counted));
        let duration = accepted.elapsed();
        let since_101 = duration.saturating_sub(opened.story.took);
        session.metrics.closed(&session.counters, (closed.reason, closed.initiator, closed.code), since_101);
        if closed.forced {
            proxy.metrics.drain_forced();
        }
        access::close(&opened.story, &end(session, closed, duration));
        drop(connected);
    }
}

/// Brings a connection from its first byte to the 101, or refuses it.
async fn open(stream: TcpStream, peer: Peer, scheme: Scheme, proxy: &Arc<Proxy>, accepted: Instant) -> Option<Opened> {
    let mut story = Story { proxy, peer, scheme, accepted, offer: None, rule: None, session: None };

    let mut downstream = match scheme {
        Scheme::Ws => Transport::Plain(stream),
        Scheme::Wss => match tls::accept(&proxy.tls, stream, accepted + proxy.limits.tls_handshake).await {
            Ok(transport) => transport,
            Err(error) => return story.unanswered(HandshakeReason::Tls, &error.to_string()),
        },
    };

    let deadline = accepted + proxy.limits.handshake;
    let mut offer = match handshake::read_offer(&mut downstream, scheme, deadline, &proxy.limits.head).await {
        Ok(offer) => offer,
        Err(error) => match error.refusal() {
            Some(refusal) => return story.refuse(downstream, error.reason(), &refusal).await,
            None => return story.unanswered(error.reason(), &error.to_string()),
        },
    };
    let leftover = std::mem::take(&mut offer.leftover);
    story.offer = Some(&offer);

    let table = Arc::clone(&proxy.table.borrow());
    let Found { rule, host } = match offer.with_request(|request| table.find(request)) {
        Ok(found) => found,
        Err(none) => {
            let reason = if none == NoRoute::Host { HandshakeReason::NoRoute } else { HandshakeReason::NoRule };
            return story.refuse(downstream, reason, &Refusal::new(StatusCode::NOT_FOUND, none.to_string())).await;
        }
    };
    let class = table.class(&rule.id.route).unwrap_or_default();
    story.rule = Some((&rule, Arc::clone(&class)));
    if scheme == Scheme::Ws && rule.plaintext == Plaintext::Reject {
        let refusal = Refusal::new(StatusCode::FORBIDDEN, "this route is served over TLS only: connect with wss://");
        return story.refuse(downstream, HandshakeReason::PlaintextRejected, &refusal).await;
    }

    // Registered before anything is dialled: whatever happens from here on is seen, counted and can be ended.
    let metrics = proxy.metrics.rule(&rule.id, &class);
    let session = proxy.sessions.enter(Entry { rule: Arc::clone(&rule), host, peer: peer.address, accepted, metrics });
    story.session = Some(&session);

    let deadline = accepted + rule.policy.timeouts.handshake;
    let mut chosen = |backend: &Arc<Backend>, endpoint: &Address| session.chose(backend, endpoint);
    let upstream = match proxy.dialer.connect(&rule, &offer, &peer, deadline, &mut chosen).await {
        Ok(upstream) => upstream,
        Err(ConnectError::Answered(answered)) => {
            story.record(HandshakeReason::BackendStatus, answered.head.status, "the backend refused");
            // Its answer is the client's, whole; a client that leaves meanwhile has lost nothing.
            let _ = pass::pass_on(*answered, downstream, deadline.max(Instant::now() + PASS_ON)).await;
            return None;
        }
        Err(error) => {
            // The record names endpoint and cause; the client, a stranger, is told neither.
            let refusal = error.refusal();
            story.record(error.reason(), refusal.status.as_u16(), &error.to_string());
            answer::refuse(downstream, &refusal).await;
            return None;
        }
    };

    let answer = answer::switching_protocols(&offer, &upstream.head);
    let written = async {
        downstream.write_all(&answer).await?;
        downstream.flush().await
    };
    if !matches!(tokio::time::timeout_at(deadline, written).await, Ok(Ok(()))) {
        return story.unanswered(HandshakeReason::ClientGone, "the client left before the answer");
    }
    story.count(HandshakeReason::Accepted);

    let current = Arc::clone(&proxy.table.borrow());
    if !Arc::ptr_eq(&table, &current) {
        Sessions::recheck(&current, &session);
    }
    let told = Box::new(story.tell());
    let ends = Ends {
        downstream,
        downstream_leftover: leftover,
        upstream: upstream.transport,
        upstream_leftover: upstream.leftover,
        deflate: upstream.deflate,
        foreign_extensions: upstream.other_extensions,
    };
    let counted = proxy.metrics.backend(&upstream.backend.id).connected();
    let relay = Relay::new(ends, &session);
    Some(Opened { session, relay, lease: upstream.lease, counted, story: told })
}

/// How long a backend's own answer may take to reach the client once it has begun.
const PASS_ON: Duration = Duration::from_secs(30);

/// What is known of a handshake so far, for its record.
struct Story<'a> {
    proxy: &'a Proxy,
    peer: Peer,
    scheme: Scheme,
    accepted: Instant,
    offer: Option<&'a Offer>,
    rule: Option<(&'a Arc<Rule>, Arc<str>)>,
    session: Option<&'a Registered>,
}

impl Story<'_> {
    /// Answers with `refusal` and closes; records it first, so that a slow client delays no record.
    async fn refuse(&self, downstream: Transport, reason: HandshakeReason, refusal: &Refusal) -> Option<Opened> {
        self.record(reason, refusal.status.as_u16(), &refusal.text);
        answer::refuse(downstream, refusal).await;
        None
    }

    /// Records an end that nobody is left to be told of. A client that came and went without a byte is no event.
    fn unanswered(&self, reason: HandshakeReason, detail: &str) -> Option<Opened> {
        self.record(reason, 0, detail);
        None
    }

    fn record(&self, reason: HandshakeReason, status: u16, detail: &str) {
        self.count(reason);
        access::reject(&self.tell(), reason, status, detail);
    }

    fn count(&self, reason: HandshakeReason) {
        self.proxy.metrics.handshake_took(HandshakePhase::Total, self.accepted.elapsed());
        match (self.session, &self.rule) {
            (Some(session), _) => session.metrics.handshake(reason),
            (None, Some((rule, class))) => self.proxy.metrics.rule(&rule.id, class).handshake(reason),
            (None, None) => self.proxy.metrics.unrouted_handshake(reason),
        }
    }

    fn tell(&self) -> access::Handshake {
        let offer = self.offer;
        let text = |text: Option<&str>| Box::from(text.unwrap_or_default());
        let origin = offer.and_then(|o| o.head.fields.all("origin").next()).and_then(|v| std::str::from_utf8(v).ok());
        access::Handshake {
            id: self.session.map_or(0, |session| session.id),
            peer: self.peer.address,
            scheme: self.scheme.as_str(),
            host: text(offer.map(|o| &*o.host)),
            path: offer.map(|o| redact_query(o.head.target()).into()).unwrap_or_default(),
            origin: text(origin),
            subprotocols: redact_subprotocols(offer.iter().flat_map(|o| o.subprotocols.iter().map(|p| &**p))).into(),
            request_id: text(offer.map(|o| &*o.request_id)),
            rule: self.rule.as_ref().map(|(rule, _)| Arc::clone(rule)),
            class: self.rule.as_ref().map(|(_, class)| Arc::clone(class)),
            upstream: self.session.and_then(|session| session.upstream()),
            took: self.accepted.elapsed(),
        }
    }
}

/// How a session ended, for its record.
fn end(session: &Session, closed: Closed, duration: Duration) -> access::End {
    let tally = session.counters.read();
    let (from, to) = (tally.direction(Direction::In), tally.direction(Direction::Out));
    access::End {
        reason: closed.reason,
        initiator: closed.initiator,
        code: closed.code,
        forced: closed.forced,
        messages: (from.messages(), to.messages()),
        bytes: (from.bytes, to.bytes),
        duration,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size<F: Future>(_: impl Fn(TcpStream, Peer, Scheme, Arc<Proxy>) -> F) -> usize {
        size_of::<F>()
    }

    /// What an idle session costs besides its sockets. A larger figure is a decision, not an accident.
    #[test]
    fn the_state_of_a_session_stays_within_its_budget() {
        assert!(size(serve) <= 720, "the future of a connection has grown to {} bytes", size(serve));
        assert!(size_of::<Session>() <= 544, "a registered session has grown to {} bytes", size_of::<Session>());
    }
}
