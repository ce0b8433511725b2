//! The relay: from the 101 to the end of both connections.
//!
//! Two legs carry the frames; this file decides when a session ends and in which order its sides are told.
//!
//! How the proxy ends a session (`begin`): the client gets our Close at a message boundary, after half the wait at
//! a frame boundary. What it sent before its own Close still goes upstream, so nothing that reached us is lost,
//! and its Close passes on as the service's; one of ours goes upstream when the client's does not come in time.
//! Then both sockets end. A side that broke the protocol is told so and no longer listened to.
//!
//! How a peer ends it: its Close passes, the answer passes back, the client's connection is shut by us as RFC 6455
//! §7.1.1 asks of the server. A client that vanishes shuts the upstream at once. An upstream that vanishes between
//! two frames becomes a Close 1014; inside a frame only the end of the stream can tell the client.
//!
//! Timers: one per session, re-armed only when it fires or an earlier deadline appears; a message never touches it.

use super::close::{Cause, Closed};
use super::frame::{FrameRules, Reserved, Stop, close_frame, ping_frame};
use super::keepalive::{Beat, Keepalive};
use super::leg::{Input, Insert, Leg, Output, Seen};
use super::sessions::Session;
use super::transport::Transport;
use crate::telemetry::{CloseReason, Direction, Initiator, Metrics, Side};
use bytes::Bytes;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// Reads a session may do before its neighbours get their turn.
const ROUNDS: usize = 16;

/// How long a stream that ended without a Close is waited for on its other side.
const LINGER: Duration = Duration::from_secs(5);

/// How long a Close that is said after the wait may take to get out.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// The two upgraded connections.
pub(crate) struct Ends {
    /// The client's.
    pub downstream: Transport,
    /// Bytes the client sent behind its handshake.
    pub downstream_leftover: Bytes,
    /// The service's.
    pub upstream: Transport,
    /// Bytes the service sent behind its 101.
    pub upstream_leftover: Bytes,
    /// Whether `permessage-deflate` was accepted.
    pub deflate: bool,
    /// Whether an extension we do not know was accepted: then its reserved bits are not ours to judge.
    pub foreign_extensions: bool,
}

/// Relays until both sides are done.
///
/// # Cancel safety
/// Dropping it cuts both connections.
pub(crate) async fn relay(ends: Ends, session: &Session, metrics: &Metrics) -> Closed {
    let mut relay = Relay::new(ends, session);
    let sleep = tokio::time::sleep_until(relay.next_deadline());
    tokio::pin!(sleep);
    let mut armed = false;
    std::future::poll_fn(|cx| relay.poll(cx, sleep.as_mut(), &mut armed, session, metrics)).await
}

/// The end that is under way.
#[derive(Debug)]
struct Ending {
    /// `None` when a peer began it.
    cause: Option<Cause>,
    /// When our Close settles for a frame boundary.
    grace: Instant,
    /// When what is left is cut.
    deadline: Instant,
    /// Whether the last words were said after the deadline.
    spoke: bool,
}

struct Relay {
    downstream: Transport,
    upstream: Transport,
    /// Client to service.
    up: Leg,
    /// Service to client.
    down: Leg,
    reserved: Reserved,
    idle: Option<Duration>,
    last_frame: Instant,
    max_age: Option<Instant>,
    ordered: Option<Instant>,
    keepalive: Option<Box<Keepalive>>,
    ending: Option<Ending>,
    outcome: Option<Closed>,
}

impl Relay {
    fn new(ends: Ends, session: &Session) -> Self {
        let policy = &session.rule.policy;
        let now = Instant::now();
        let max_age = policy.timeouts.max_connection_duration.map(|bound| {
            let jitter = f64::from(policy.timeouts.max_connection_duration_jitter_percent.min(100)) / 100.0;
            session.accepted + bound.mul_f64(1.0 - jitter * fastrand::f64())
        });
        Self {
            downstream: ends.downstream,
            upstream: ends.upstream,
            up: Leg::starting_with(&ends.downstream_leftover),
            down: Leg::starting_with(&ends.upstream_leftover),
            reserved: match (ends.foreign_extensions, ends.deflate) {
                (true, _) => Reserved::Any,
                (false, true) => Reserved::Deflate,
                (false, false) => Reserved::None,
            },
            idle: policy.timeouts.idle,
            last_frame: now,
            max_age,
            ordered: None,
            keepalive: Keepalive::new(&policy.keepalive, now).map(Box::new),
            ending: None,
            outcome: None,
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut sleep: Pin<&mut Sleep>,
        armed: &mut bool,
        session: &Session,
        metrics: &Metrics,
    ) -> Poll<Closed> {
        session.watch(cx);
        loop {
            self.obey(session);
            if self.pump(cx, session, metrics) {
                cx.waker().wake_by_ref(); // the rounds are used up: others first
            }
            if let Some(closed) = self.finished() {
                return Poll::Ready(closed);
            }
            if self.settle() {
                continue;
            }
            let due = self.next_deadline();
            if due < sleep.deadline() || sleep.is_elapsed() {
                sleep.as_mut().reset(due);
                *armed = false;
            }
            if *armed {
                return Poll::Pending; // the timer holds this task's waker already
            }
            *armed = true;
            ready!(sleep.as_mut().poll(cx));
            *armed = false;
            if let Some(closed) = self.on_time(session) {
                return Poll::Ready(closed);
            }
        }
    }

    /// Moves what can be moved. True when there may be more.
    fn pump(&mut self, cx: &mut Context<'_>, session: &Session, metrics: &Metrics) -> bool {
        for _ in 0..ROUNDS {
            let up = self.step(cx, Direction::In, session, metrics);
            let down = self.step(cx, Direction::Out, session, metrics);
            if !up && !down {
                return false;
            }
        }
        true
    }

    /// Polls one leg once and acts on what it saw. False when it waits for a peer.
    fn step(&mut self, cx: &mut Context<'_>, direction: Direction, session: &Session, metrics: &Metrics) -> bool {
        let (leg, from, to) = match direction {
            Direction::In => (&mut self.up, &mut self.downstream, &mut self.upstream),
            Direction::Out => (&mut self.down, &mut self.upstream, &mut self.downstream),
        };
        let rules = FrameRules {
            direction,
            reserved: self.reserved,
            limits: &session.rule.policy.messages,
            nonce: self.keepalive.as_ref().and_then(|k| k.awaited(direction)),
            stop: Stop::Never,
        };
        let seen = leg.poll(cx, from, to, &rules, &session.counters);
        match seen {
            Seen::Blocked => return false,
            Seen::Moved => self.heard(direction),
            Seen::Inserted { closes: false } => {
                if let Some(keepalive) = &mut self.keepalive {
                    keepalive.sent(direction, Instant::now());
                }
            }
            Seen::Inserted { closes: true } => {}
            Seen::Pong => {
                let rtt = self.keepalive.as_mut().and_then(|k| k.answered(direction, Instant::now()));
                if let Some(rtt) = rtt {
                    let side = if direction == Direction::In { Side::Client } else { Side::Backend };
                    metrics.ping_took(side, rtt);
                }
            }
            Seen::Close(code) => self.peer_closed(direction, code, session),
            Seen::Violation(violation) => {
                let cause = match direction {
                    Direction::In => Cause::DownstreamViolation(violation),
                    Direction::Out => Cause::UpstreamViolation(violation),
                };
                self.begin(cause, session, None);
            }
            Seen::End { .. } => self.stream_ended(direction, session),
            Seen::WriteFailed => self.write_failed(direction),
        }
        true
    }

    /// Notes a sign of life.
    fn heard(&mut self, direction: Direction) {
        self.last_frame = Instant::now();
        if let Some(keepalive) = &mut self.keepalive {
            keepalive.heard(direction);
        }
    }

    /// Looks for an order to end, and begins when it is due.
    fn obey(&mut self, session: &Session) {
        let Some(order) = session.ending() else { return };
        self.ordered = Some(order.at);
        if let Some(ending) = &mut self.ending {
            ending.deadline = ending.deadline.min(order.cut.max(order.at));
        } else if order.at <= Instant::now() {
            self.begin(order.cause, session, Some(order.cut));
        }
    }

    /// Begins to end the session for `cause`.
    fn begin(&mut self, cause: Cause, session: &Session, cut: Option<Instant>) {
        if self.ending.as_ref().is_some_and(|ending| ending.cause.is_some()) {
            return;
        }
        let policy = &session.rule.policy;
        let now = Instant::now();
        let wait = policy.timeouts.close;
        let deadline = cut.map_or(now + wait, |cut| cut.min(now + wait));
        let keeps = cause.keeps_downstream();
        self.ending = Some(Ending { cause: Some(cause), grace: now + wait / 2, deadline, spoke: false });

        let (code, reason) = cause.downstream(&policy.drain);
        let at = if keeps { Stop::Message } else { Stop::Frame };
        put(&mut self.down, Direction::Out, code, &reason, at);
        match cause {
            Cause::UpstreamViolation(_) | Cause::UpstreamSilent => self.down.input = Input::Discard,
            Cause::UpstreamLost => self.up.output = Output::Broken,
            _ => {}
        }
        if !keeps && cause != Cause::UpstreamLost {
            let (code, reason) = cause.upstream(&policy.drain);
            put(&mut self.up, Direction::In, code, &reason, Stop::Frame);
        }
        if self.outcome.is_none() {
            let told = self.down.insert.is_some().then_some(code);
            self.conclude(cause.reason(), cause.initiator(), told);
        }
    }

    /// A Close came from a peer and, unless ours went first, has passed on.
    fn peer_closed(&mut self, direction: Direction, code: u16, session: &Session) {
        let initiator = if direction == Direction::In { Initiator::Client } else { Initiator::Backend };
        let reason = if code == 1001 { CloseReason::GoingAway } else { CloseReason::Normal };
        self.conclude(reason, initiator, Some(code));
        if self.ending.is_none() {
            let now = Instant::now();
            let deadline = now + session.rule.policy.timeouts.close;
            self.ending = Some(Ending { cause: None, grace: now, deadline, spoke: false });
        }
    }

    /// A peer's stream ended.
    fn stream_ended(&mut self, direction: Direction, session: &Session) {
        match direction {
            Direction::In => {
                if self.up.close_seen.is_none() {
                    self.conclude(CloseReason::ClientReset, Initiator::Client, None);
                }
                self.up.insert = None;
                self.up.shut = true;
                self.linger();
            }
            Direction::Out if self.down.output != Output::Open || self.down.close_seen.is_some() => {}
            Direction::Out if self.down.at_frame_boundary() && self.hurried() => {}
            Direction::Out => match self.up.close_seen {
                // The client closed first and the service hung up instead of answering: answer for it.
                Some(code) => {
                    put(&mut self.down, Direction::Out, code, "", Stop::Frame);
                }
                // The client ended first; that the service follows it is no loss.
                None if self.up.input == Input::Ended => self.down.shut = true,
                None if self.down.at_frame_boundary() => self.begin(Cause::UpstreamLost, session, None),
                None => {
                    self.conclude(CloseReason::BackendReset, Initiator::Backend, None);
                    self.down.insert = None;
                    self.down.shut = true;
                    self.up.output = Output::Broken;
                    self.up.input = Input::Discard;
                    self.linger();
                }
            },
        }
    }

    /// Lets a Close of ours that waits for the end of a message go out now. False when none waits.
    fn hurried(&mut self) -> bool {
        let waiting = self.down.insert.as_mut().filter(|insert| insert.closes);
        waiting.map(|insert| insert.at = Stop::Frame).is_some()
    }

    /// A peer takes nothing any more. What it may still have to say is read to its end.
    fn write_failed(&mut self, direction: Direction) {
        match direction {
            Direction::In => {}
            Direction::Out => {
                if self.up.close_seen.is_none() {
                    self.conclude(CloseReason::ClientReset, Initiator::Client, None);
                }
                self.up.shut = true;
            }
        }
        self.linger();
    }

    /// Bounds the wait for a side that has nobody left to talk to.
    fn linger(&mut self) {
        let now = Instant::now();
        let deadline = now + LINGER;
        let ending = self.ending.get_or_insert(Ending { cause: None, grace: now, deadline, spoke: true });
        ending.deadline = ending.deadline.min(deadline);
    }

    /// Keeps the first reason: what follows is its consequence.
    fn conclude(&mut self, reason: CloseReason, initiator: Initiator, code: Option<u16>) {
        self.outcome.get_or_insert(Closed { reason, initiator, code, forced: false });
    }

    /// Shuts our half of the client's connection once it has our last frame. True when that is new.
    fn settle(&mut self) -> bool {
        let answered = self.up.close_seen.is_some() || self.up.input != Input::Open;
        let said = self.down.output == Output::Closed && self.down.drained();
        let due = said && answered && !self.down.shut;
        self.down.shut |= due;
        due
    }

    /// How it ended, once both sides are done.
    fn finished(&self) -> Option<Closed> {
        let gone = |leg: &Leg| leg.input == Input::Ended;
        let vanished = self.up.close_seen.is_none() && (gone(&self.up) || self.down.output == Output::Broken);
        let client_done = vanished || (self.down.is_shut && (self.up.close_seen.is_some() || gone(&self.up)));
        let told = self.up.drained() && (self.up.output != Output::Open || self.up.is_shut);
        let service_done = told && (self.down.close_seen.is_some() || gone(&self.down));
        (client_done && service_done).then(|| self.outcome()).filter(|_| self.ending.is_some())
    }

    fn outcome(&self) -> Closed {
        let lost =
            Closed { reason: CloseReason::BackendReset, initiator: Initiator::Backend, code: None, forced: false };
        self.outcome.unwrap_or(lost)
    }

    /// The next moment at which something is due.
    fn next_deadline(&self) -> Instant {
        let far = self.last_frame + Duration::from_secs(86_400);
        if let Some(ending) = &self.ending {
            let unsettled = self.down.insert.as_ref().is_some_and(|insert| insert.at == Stop::Message);
            return if unsettled { ending.deadline.min(ending.grace) } else { ending.deadline };
        }
        let idle = self.idle.map(|idle| self.last_frame + idle);
        let ping = self.keepalive.as_ref().and_then(|keepalive| keepalive.next());
        [idle, self.max_age, self.ordered, ping].into_iter().flatten().fold(far, Instant::min)
    }

    /// Does what is due now. Some when nothing is left to wait for.
    fn on_time(&mut self, session: &Session) -> Option<Closed> {
        let now = Instant::now();
        if let Some(ending) = &self.ending {
            if now >= ending.deadline {
                return self.give_up(session, now);
            }
            if now >= ending.grace
                && let Some(insert) = &mut self.down.insert
            {
                insert.at = Stop::Frame;
            }
            return None;
        }
        if self.idle.is_some_and(|idle| now >= self.last_frame + idle) {
            self.begin(Cause::Idle, session, None);
        } else if self.max_age.is_some_and(|at| now >= at) {
            self.begin(Cause::MaxDuration, session, None);
        } else if let Some(keepalive) = &mut self.keepalive {
            for beat in keepalive.beats(now) {
                self.beat(beat, session);
            }
        }
        None
    }

    fn beat(&mut self, beat: Beat, session: &Session) {
        match beat {
            Beat::Ping(direction, nonce) => {
                let leg = if direction == Direction::In { &mut self.up } else { &mut self.down };
                let frame = ping_frame(direction, nonce);
                leg.insert.get_or_insert_with(|| Box::new(Insert { frame, at: Stop::Frame, closes: false }));
            }
            Beat::Silent(Direction::Out) => self.begin(Cause::DownstreamSilent, session, None),
            Beat::Silent(Direction::In) => self.begin(Cause::UpstreamSilent, session, None),
        }
    }

    /// The wait is over: says the Close that a peer still lacks, then, a moment later, cuts.
    fn give_up(&mut self, session: &Session, now: Instant) -> Option<Closed> {
        let ending = self.ending.as_mut()?;
        let cause = ending.cause;
        if !ending.spoke {
            ending.spoke = true;
            ending.deadline = now + LAST_WORDS;
            let (code, reason) = match (cause, self.outcome) {
                (Some(cause), _) => cause.upstream(&session.rule.policy.drain),
                (None, outcome) => (outcome.and_then(|o| o.code).unwrap_or(1001), String::new()),
            };
            put(&mut self.up, Direction::In, code, &reason, Stop::Frame);
            if cause.is_none() {
                put(&mut self.down, Direction::Out, code, &reason, Stop::Frame);
            }
            return None;
        }
        let forced = cause.is_some() && self.up.close_seen.is_none() && self.up.input != Input::Ended;
        Some(Closed { forced, ..self.outcome() })
    }
}

/// Has a Close of ours go out at its boundary, in place of a ping that may be waiting there.
fn put(leg: &mut Leg, direction: Direction, code: u16, reason: &str, at: Stop) {
    if leg.output == Output::Open {
        leg.insert = Some(Box::new(Insert { frame: close_frame(direction, code, reason), at, closes: true }));
    }
}
