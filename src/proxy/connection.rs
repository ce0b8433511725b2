//! The whole life of one connection, top to bottom: read this file first.
//!
//! Everything up to the 101 happens in [`open`], whose state is dropped before the relay starts, so that an idle
//! session holds none of it. Each early exit is one refusal: an HTTP status with a reason, and a `reject` record.

use super::Proxy;
use super::access::{self as admission, Admitted, PresentedCertificate};
use super::answer::{self, Refusal};
use super::balance::Lease;
use super::close::Closed;
use super::forward::Forwarded;
use super::handshake::{self, Offer};
use super::overload::{Place, Turned};
use super::pass;
use super::peer::Peer;
use super::proxy_protocol::{self, ProxyHeader};
use super::relay::{Ends, Relay};
use super::sessions::{Entry, Registered, Session, Sessions};
use super::transport::Transport;
use super::upstream::ConnectError;
use crate::routing::{Address, Backend, Found, NoRoute, Plaintext, Rule, Scheme};
use crate::telemetry::access::{Who, Words};
use crate::telemetry::rules::BackendConnection;
use crate::telemetry::{Direction, HandshakePhase, HandshakeReason, access, redact_query, redact_subprotocols};
use http::StatusCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// A session whose client has its 101. Small: it is what an idle session consists of.
struct Opened {
    session: Registered,
    relay: Relay,
    lease: Lease,
    counted: BackendConnection,
    /// What only its handshake said, for its records.
    said: Box<access::Said>,
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
        opened.session.metrics.opened();
        if proxy.record_open {
            access::open(&told(&opened.session, &opened.said));
        }
        let timer = std::pin::pin!(opened.relay.timer(&opened.session));
        let closed = opened.relay.run(timer, &opened.session, &proxy.metrics).await;
        drop((opened.lease, opened.counted));
        let session = &opened.session;
        let duration = session.accepted.elapsed();
        let since_101 = duration.saturating_sub(opened.said.took);
        session.metrics.closed(&session.counters, (closed.reason, closed.initiator, closed.code), since_101);
        if closed.forced {
            proxy.metrics.drain_forced();
        }
        access::close(&told(session, &opened.said), &end(session, closed, duration));
        drop(connected);
        if let Some(upstream) = opened.relay.into_open_upstream() {
            drop(opened.session);
            Box::pin(farewell(upstream)).await;
        }
    }
}

/// A connection whose handshake has been read.
struct Arrived {
    downstream: Transport,
    presented: Option<PresentedCertificate>,
    header: Option<ProxyHeader>,
    offer: Offer,
}

/// Brings a connection from its first byte to the 101, or refuses it.
async fn open(stream: TcpStream, peer: Peer, scheme: Scheme, proxy: &Arc<Proxy>, accepted: Instant) -> Option<Opened> {
    let mut story =
        Story { proxy, peer, scheme, accepted, offer: None, rule: None, session: None, who: Who::default() };
    let Arrived { mut downstream, presented, header, mut offer } = arrive(stream, &story).await?;
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

    let peer = match admission::detect(&rule.access.detection, &peer, header.as_ref(), &offer) {
        Ok(peer) => peer,
        Err(denial) => return story.deny(downstream, denial).await,
    };
    story.peer = peer;
    let deadline = accepted + rule.policy.timeouts.handshake;
    let judged = judge(&story, &downstream, (&rule, &offer), presented.as_ref(), deadline).await;
    let (place, Admitted { admission, edits, slots }) = match judged {
        Ok(judged) => judged,
        Err(Turned::Away(denial)) => return story.deny(downstream, denial).await,
        Err(Turned::Gone) => {
            return story.unanswered(HandshakeReason::ClientGone, "the client left while it waited for its turn");
        }
    };

    // Registered before anything is dialled: whatever happens from here on is seen, counted and can be ended.
    let metrics = proxy.metrics.rule(&rule.id, &class);
    let session = proxy.sessions.enter(Entry {
        rule: Arc::clone(&rule),
        host,
        peer: peer.address,
        accepted,
        metrics,
        origin: if admission.is_none() { admission::origin(&offer).map(Box::from) } else { None },
        secure: scheme == Scheme::Wss,
        admission,
        slots,
        place,
    });
    story.session = Some(&session);

    let mut chosen = |backend: &Arc<Backend>, endpoint: &Address| session.chose(backend, endpoint);
    let forwarded = Forwarded { offer: &offer, peer: &peer, edits: &edits };
    let upstream = match proxy.dialer.connect(&rule, forwarded, deadline, &mut chosen).await {
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

    let answer = answer::switching_protocols(&upstream.head);
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
        session.count_under(&current);
        Sessions::recheck(&current, &session);
    }
    let said = Box::new(story.said());
    let ends = Ends {
        downstream,
        downstream_leftover: leftover,
        upstream: upstream.transport,
        upstream_leftover: upstream.leftover,
        deflate: upstream.deflate,
        foreign_extensions: upstream.other_extensions,
    };
    let counted = proxy.metrics.backend(&upstream.backend.id).connected();
    let relay = Relay::new(ends, &session, proxy.counts.allowances.open(&session));
    Some(Opened { session, relay, lease: upstream.lease, counted, said })
}

/// Reads what comes before any routing: PROXY header, TLS, the offer.
async fn arrive(mut stream: TcpStream, story: &Story<'_>) -> Option<Arrived> {
    let (proxy, scheme) = (story.proxy, story.scheme);
    let deadline = story.accepted + proxy.limits.handshake;
    let in_time = if scheme == Scheme::Wss { story.accepted + proxy.limits.tls_handshake } else { deadline };
    let reads_header = proxy.table.borrow().reads_proxy_protocol(story.peer.address.ip());
    let header = if reads_header { proxy_protocol::take(&mut stream, in_time).await } else { Ok(None) };
    let header = match header {
        Ok(header) => header,
        Err(error) => return story.unanswered(HandshakeReason::ProxyProtocol, &error.to_string()),
    };
    let (mut downstream, presented) = match scheme {
        Scheme::Ws => (Transport::Plain(stream), None),
        Scheme::Wss => match proxy.tls.accept(stream, in_time).await {
            Ok(accepted) => accepted,
            Err(error) => return story.unanswered(HandshakeReason::Tls, &error.to_string()),
        },
    };
    match handshake::read_offer(&mut downstream, scheme, deadline, &proxy.limits.head).await {
        Ok(offer) => Some(Arrived { downstream, presented, header, offer }),
        Err(error) => match error.refusal() {
            Some(refusal) => story.refuse(downstream, error.reason(), &refusal).await,
            None => story.unanswered(error.reason(), &error.to_string()),
        },
    }
}

/// Whether the process can carry one more, and whether access lets it in; in the order of what a question costs.
async fn judge(
    story: &Story<'_>,
    downstream: &Transport,
    (rule, offer): (&Rule, &Offer),
    presented: Option<&PresentedCertificate>,
    deadline: Instant,
) -> Result<(Place, Admitted), Turned> {
    let (proxy, client) = (story.proxy, story.peer.address.ip());
    let place = proxy.overload.enter(proxy, downstream).map_err(Turned::Away)?;
    admission::screen(proxy, rule, offer, client).map_err(Turned::Away)?;
    proxy.overload.turn(proxy, downstream, deadline).await?;
    let admitted = admission::admit(proxy, rule, offer, client, presented, deadline).await;
    Ok((place, admitted.map_err(Turned::Away)?))
}

/// How long a backend's own answer may take to reach the client once it has begun.
const PASS_ON: Duration = Duration::from_secs(30);

/// How long a service may take to end a connection on which all is said.
const FAREWELL: Duration = Duration::from_secs(1);

/// What is known of a handshake so far, for its record.
struct Story<'a> {
    proxy: &'a Proxy,
    peer: Peer,
    scheme: Scheme,
    accepted: Instant,
    offer: Option<&'a Offer>,
    rule: Option<(&'a Arc<Rule>, Arc<str>)>,
    session: Option<&'a Registered>,
    /// Of a client that access has refused; of any other its session knows.
    who: Who,
}

impl Story<'_> {
    /// Answers with `refusal` and closes; records it first, so that a slow client delays no record.
    async fn refuse<T>(&self, downstream: Transport, reason: HandshakeReason, refusal: &Refusal) -> Option<T> {
        self.record(reason, refusal.status.as_u16(), &refusal.text);
        answer::refuse(downstream, refusal).await;
        None
    }

    /// Answers with what access says.
    async fn deny(&mut self, downstream: Transport, denial: admission::Denial) -> Option<Opened> {
        self.who = denial.who.map(|who| *who).unwrap_or_default();
        self.record(denial.reason, denial.refusal.status.as_u16(), &denial.detail);
        answer::refuse(downstream, &denial.refusal).await;
        None
    }

    /// Records an end that nobody is left to be told of. A client that came and went without a byte is no event.
    fn unanswered<T>(&self, reason: HandshakeReason, detail: &str) -> Option<T> {
        self.record(reason, 0, detail);
        None
    }

    fn record(&self, reason: HandshakeReason, status: u16, detail: &str) {
        self.count(reason);
        let said = self.said();
        let unregistered = || access::Handshake {
            id: 0,
            peer: self.peer.address,
            who: self.who.clone(),
            rule: self.rule.as_ref().map(|(rule, _)| Arc::clone(rule)),
            upstream: None,
            said: &said,
        };
        let told = self.session.map_or_else(unregistered, |session| told(session, &said));
        access::reject(&told, reason, status, detail);
    }

    fn count(&self, reason: HandshakeReason) {
        self.proxy.metrics.handshake_took(HandshakePhase::Total, self.accepted.elapsed());
        match (self.session, &self.rule) {
            (Some(session), _) => session.metrics.handshake(reason),
            (None, Some((rule, class))) => self.proxy.metrics.rule(&rule.id, class).handshake(reason),
            (None, None) => self.proxy.metrics.unrouted_handshake(reason),
        }
    }

    /// The offered subprotocols, without what is said in those in which the rule looks for a credential.
    fn subprotocols(&self) -> String {
        let Some(offer) = self.offer else { return String::new() };
        let credentials = self.rule.as_ref().map(|(rule, _)| admission::subprotocols(&rule.access, offer));
        let credentials = credentials.unwrap_or_default();
        let carries = |name: &str| credentials.iter().any(|credential| **credential == *name);
        redact_subprotocols(offer.subprotocols.iter().map(|name| &**name), carries)
    }

    fn said(&self) -> access::Said {
        let offer = self.offer;
        let origin = offer.and_then(|o| o.head.fields.all("origin").next()).and_then(|v| std::str::from_utf8(v).ok());
        let path = offer.map(|o| redact_query(o.head.target())).unwrap_or_default();
        let text = |text: fn(&Offer) -> &str| offer.map(text).unwrap_or_default();
        let (host, request_id) = (text(|o| &o.host), text(|o| &o.request_id));
        access::Said {
            scheme: self.scheme,
            via: self.peer.via.map(Box::new),
            class: self.rule.as_ref().map(|(_, class)| Arc::clone(class)),
            took: self.accepted.elapsed(),
            words: Words::new([host, &path, origin.unwrap_or_default(), &self.subprotocols(), request_id]),
        }
    }
}

/// Waits a little for a service that has said its Close to end the connection. As its client we let it go first (RFC
/// 6455 §7.1.1): whoever goes first has the port in `TIME_WAIT` for a minute, and it has only one.
async fn farewell(mut upstream: Transport) {
    let mut scratch = [0; 64];
    let end = async { while matches!(upstream.read(&mut scratch).await, Ok(length) if length > 0) {} };
    let _ = tokio::time::timeout(FAREWELL, end).await;
}

/// What records say of the handshake of a session.
fn told<'a>(session: &Session, said: &'a access::Said) -> access::Handshake<'a> {
    let who = session.admission.as_deref().map(|admission| Who {
        consumer: admission.consumer().map(Arc::clone),
        provider: admission.identity.as_ref().map(|identity| Arc::clone(&identity.provider)),
    });
    access::Handshake {
        id: session.id,
        peer: session.peer,
        who: who.unwrap_or_default(),
        rule: Some(Arc::clone(&session.rule)),
        upstream: session.upstream(),
        said,
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
    use crate::proxy::downstream_tls::DownstreamTls;

    fn size<F: Future>(_: impl Fn(TcpStream, Peer, Scheme, Arc<Proxy>) -> F) -> usize {
        size_of::<F>()
    }

    /// What an idle session consists of besides its two sockets, on a 64-bit machine. Today it is 504 and 576 bytes.
    ///
    /// Memory is given out in sizes 128 bytes apart: tokio adds 104 bytes to the future, so that up to 536 it has 640 of
    /// them, and the register's count adds 16 to the session, so that up to 624 it has 640, too. A byte more in either
    /// costs 128 in each idle session.
    #[test]
    fn the_state_of_a_session_stays_within_its_budget() {
        const WHAT_TO_DO: &str = "box what few sessions have, or leave it where it is known already (the rule, the \
            session); else raise the bound here, and see that tests/memory.rs and `make bench` still hold theirs";
        for (what, size, bound) in [
            ("the future of a connection", size(serve), 536),
            ("a registered session", size_of::<Session>(), 624),
            ("what is kept of a handshake", size_of::<access::Said>(), 80),
            ("a connection by TLS", size_of::<DownstreamTls>(), 1_280),
        ] {
            assert!(size <= bound, "{what} has grown to {size} bytes, of {bound}: {WHAT_TO_DO}");
        }
    }
}
