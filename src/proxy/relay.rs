//! The relay: from the 101 to the end of both connections.
//!
//! Two legs carry the frames; this file decides who gets a turn and what is due when. In which order the sides are told
//! of an end is in [`ending`].
//!
//! Timers: one per session, re-armed only when it fires or an earlier deadline appears; a message never touches it.

mod ending;

use super::allowance::Allowance;
use super::close::{Cause, Closed};
use super::frame::{FrameRules, Reserved, Stop};
use super::insert::{Insert, ping_frame};
use super::keepalive::{Beat, Keepalive};
use super::leg::{Leg, Output, Seen};
use super::sessions::Session;
use super::transport::Transport;
use crate::routing::access::Revoked;
use crate::telemetry::{Direction, Metrics, Side};
use bytes::Bytes;
use ending::Ending;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// Reads a session may do before its neighbours get their turn.
const ROUNDS: usize = 16;

/// What came of a leg's turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// Something that may concern the other leg, too.
    Changed,
    /// Bytes moved; there may be more.
    Moved,
    /// It waits for one of its peers.
    Waits,
}

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

/// Both legs of a session, and what is known of its end.
pub(crate) struct Relay {
    downstream: Transport,
    upstream: Transport,
    /// Client to service.
    up: Leg,
    /// Service to client.
    down: Leg,
    reserved: Reserved,
    /// What the client may send in a time; `None` where nothing is bounded.
    allowance: Option<Box<Allowance>>,
    last_frame: Instant,
    /// When what let the session in expires, by the wall clock as it was last seen.
    expires: Option<Instant>,
    keepalive: Option<Box<Keepalive>>,
    /// Boxed, for it has none as long as it lives.
    ending: Option<Box<Ending>>,
    outcome: Option<Closed>,
    /// Whether the timer holds the waker of the session's task.
    armed: bool,
    /// Whether something may be due earlier than the timer says.
    hurries: bool,
}

impl Relay {
    /// Takes over two upgraded connections.
    pub(crate) fn new(mut ends: Ends, session: &Session, allowance: Option<Box<Allowance>>) -> Self {
        for side in [&mut ends.downstream, &mut ends.upstream] {
            let limits = &session.rule.policy.messages;
            side.bound(limits.buffer_limit_bytes, limits.slow_consumer);
        }
        let policy = &session.rule.policy;
        let now = Instant::now();
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
            allowance,
            last_frame: now,
            expires: session.expires(),
            keepalive: Keepalive::new(&policy.keepalive, now).map(Box::new),
            ending: None,
            outcome: None,
            armed: false,
            hurries: true,
        }
    }

    /// The timer that [`Self::run`] is to have.
    pub(crate) fn timer(&self, session: &Session) -> Sleep {
        tokio::time::sleep_until(self.next_deadline(session))
    }

    /// Relays until both sides are done. No `async fn`: that would keep each of its arguments twice.
    ///
    /// # Cancel safety
    /// Dropping the relay cuts both connections.
    pub(crate) fn run<'a>(
        &'a mut self,
        mut timer: Pin<&'a mut Sleep>,
        session: &'a Session,
        metrics: &'a Metrics,
    ) -> impl Future<Output = Closed> + Send + use<'a> {
        std::future::poll_fn(move |cx| {
            let closed = ready!(self.poll(cx, timer.as_mut(), session, metrics));
            self.leave(cx);
            if let Some(held) = self.allowance.as_ref().and_then(|allowance| allowance.held_for()) {
                session.metrics.throttled(held);
            }
            Poll::Ready(closed)
        })
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut sleep: Pin<&mut Sleep>,
        session: &Session,
        metrics: &Metrics,
    ) -> Poll<Closed> {
        session.watch(cx);
        loop {
            if session.takes_clock_set() {
                self.expires = session.expires();
                self.hurries = true;
            }
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
            let rings = sleep.is_elapsed();
            if rings || std::mem::take(&mut self.hurries) {
                let due = self.next_deadline(session);
                if rings || due < sleep.deadline() {
                    sleep.as_mut().reset(due);
                    self.armed = false;
                }
            }
            if self.armed {
                return Poll::Pending;
            }
            self.armed = true;
            ready!(sleep.as_mut().poll(cx));
            self.armed = false;
            if let Some(closed) = self.on_time(session) {
                return Poll::Ready(closed);
            }
            self.hurries = true;
        }
    }

    /// Moves what can be moved. True when there may be more.
    fn pump(&mut self, cx: &mut Context<'_>, session: &Session, metrics: &Metrics) -> bool {
        // A leg that waits for its peers is asked again only when the other one has changed something for it.
        let (mut up, mut down) = (Turn::Changed, Turn::Changed);
        for _ in 0..ROUNDS {
            up = if up == Turn::Waits { up } else { self.step(cx, Direction::In, session, metrics) };
            down = if down == Turn::Waits && up != Turn::Changed {
                down
            } else {
                self.step(cx, Direction::Out, session, metrics)
            };
            match (up, down) {
                (Turn::Waits, Turn::Waits) => return false,
                (Turn::Waits, Turn::Changed) => up = Turn::Changed,
                _ => {}
            }
        }
        true
    }

    /// Polls one leg once and acts on what it saw.
    fn step(&mut self, cx: &mut Context<'_>, direction: Direction, session: &Session, metrics: &Metrics) -> Turn {
        let answers = direction == Direction::Out && self.has_client_closed();
        let (leg, from, to) = match direction {
            Direction::In => (&mut self.up, &mut self.downstream, &mut self.upstream),
            Direction::Out => (&mut self.down, &mut self.upstream, &mut self.downstream),
        };
        if leg.rests(from) {
            return Turn::Waits;
        }
        let rules = FrameRules {
            direction,
            reserved: self.reserved,
            limits: &session.rule.policy.messages,
            allowance: self.allowance.as_deref().filter(|_| direction == Direction::In && leg.output == Output::Open),
            nonce: self.keepalive.as_ref().and_then(|k| k.awaited(direction)),
            stop: Stop::Never,
            answers,
        };
        let seen = leg.poll(cx, from, to, &rules, &session.counters);
        if direction == Direction::In
            && let Some(allowance) = &mut self.allowance
        {
            if leg.is_held {
                allowance.hold();
            } else if (seen == Seen::Blocked || leg.rests(from)) && leg.drained() {
                allowance.rest();
            }
            self.hurries = true;
        }
        self.hurries |= !leg.drained();
        match seen {
            Seen::Blocked => return Turn::Waits,
            Seen::Moved => {
                let rests = leg.rests(from);
                self.heard(direction);
                return if rests { Turn::Waits } else { Turn::Moved };
            }
            Seen::Inserted { closes: false } => {
                if let Some(keepalive) = &mut self.keepalive {
                    keepalive.sent(direction, &session.rule.policy.keepalive, Instant::now());
                }
            }
            Seen::Inserted { closes: true } => {}
            Seen::Pong => {
                let policy = &session.rule.policy.keepalive;
                let rtt = self.keepalive.as_mut().and_then(|k| k.answered(direction, policy, Instant::now()));
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
        self.hurries = true;
        Turn::Changed
    }

    /// Notes a sign of life.
    fn heard(&mut self, direction: Direction) {
        self.last_frame = Instant::now();
        if let Some(keepalive) = &mut self.keepalive {
            keepalive.heard(direction);
        }
    }

    /// The next moment at which something is due.
    fn next_deadline(&self, session: &Session) -> Instant {
        let far = self.last_frame + Duration::from_secs(86_400);
        let held = self.allowance.as_ref().and_then(|allowance| allowance.next());
        if let Some(ending) = &self.ending {
            return held.into_iter().chain([self.next_of(ending)]).fold(far, Instant::min);
        }
        let idle = session.rule.policy.timeouts.idle.map(|idle| self.last_frame + idle);
        let ping = self.keepalive.as_ref().and_then(|keepalive| keepalive.next());
        let slow = session.rule.policy.messages.slow_consumer.and_then(|bound| {
            let stalled = self.up.stalled_since().into_iter().chain(self.down.stalled_since()).min();
            stalled.map(|since| since + bound)
        });
        let ordered = session.ending().map(|order| order.at);
        [held, idle, session.max_age, self.expires, ordered, ping, slow].into_iter().flatten().fold(far, Instant::min)
    }

    /// Does what is due now. Some when nothing is left to wait for.
    fn on_time(&mut self, session: &Session) -> Option<Closed> {
        let now = Instant::now();
        if let Some(held) = self.allowance.as_mut().and_then(|allowance| allowance.release(now)) {
            self.up.is_held = false;
            session.metrics.throttled(held);
        }
        if self.ending.is_some() {
            return self.end_on_time(session, now);
        }
        let policy = &session.rule.policy;
        let stalled = |leg: &Leg| {
            let since = leg.stalled_since().zip(policy.messages.slow_consumer);
            since.is_some_and(|(since, bound)| now >= since + bound)
        };
        if self.expires.is_some_and(|at| now >= at) {
            self.begin(Cause::Refused(Revoked::Expired), session, None);
        } else if policy.timeouts.idle.is_some_and(|idle| now >= self.last_frame + idle) {
            self.begin(Cause::Idle, session, None);
        } else if session.max_age.is_some_and(|at| now >= at) {
            self.begin(Cause::MaxDuration, session, None);
        } else if self.allowance.as_ref().is_some_and(|allowance| allowance.exhausted(now)) {
            self.begin(Cause::RateLimited, session, None);
        } else if stalled(&self.down) {
            self.begin(Cause::SlowDownstream, session, None);
        } else if stalled(&self.up) {
            self.begin(Cause::SlowUpstream, session, None);
        } else if let Some(keepalive) = &mut self.keepalive {
            // Whom we do not read, we cannot hear: that is no silence of theirs.
            for (leg, direction) in [(&self.up, Direction::In), (&self.down, Direction::Out)] {
                if leg.is_deaf() {
                    keepalive.heard(direction);
                }
            }
            for beat in keepalive.beats(&policy.keepalive, now) {
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
}
