//! How a session ends: in which order its sides are told, and how long each is waited for.
//!
//! How the proxy ends a session (`begin`): the client gets our Close at a message boundary, after half the wait at
//! a frame boundary. What it sent before its own Close still goes upstream, so nothing that reached us is lost,
//! and its Close passes on as the service's; one of ours goes upstream when the client's does not come in time.
//! Then both sockets end. A side that broke the protocol is no longer listened to, and is told so: a service at once, a
//! client when the service has answered what came before, as if the service had found the fault itself.
//!
//! How a peer ends it: its Close passes, the answer passes back, the client's connection is shut by us as RFC 6455
//! §7.1.1 asks of the server. A client that vanishes shuts the upstream at once. An upstream that vanishes between
//! two frames becomes a Close 1014; inside a frame only the end of the stream can tell the client.

use super::Relay;
use crate::proxy::close::{Cause, Closed};
use crate::proxy::frame::Stop;
use crate::proxy::insert::{Insert, close_frame};
use crate::proxy::leg::{Input, Leg, Output};
use crate::proxy::sessions::Session;
use crate::proxy::transport::Transport;
use crate::routing::Scheme;
use crate::telemetry::{CloseReason, Direction, Initiator};
use std::pin::Pin;
use std::task::Context;
use std::time::Duration;
use tokio::io::AsyncWrite;
use tokio::time::Instant;

/// How long a stream that ended without a Close is waited for on its other side.
const LINGER: Duration = Duration::from_secs(5);

/// How long the service may take to answer what came before a client's fault.
const ANSWERS: Duration = Duration::from_secs(1);

/// How long a Close that is said after the wait may take to get out.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// The end that is under way.
#[derive(Debug)]
pub(super) struct Ending {
    /// `None` when a peer began it.
    cause: Option<Cause>,
    /// When our Close settles for a frame boundary.
    grace: Instant,
    /// When what is left is cut.
    deadline: Instant,
    /// Whether the last words were said after the deadline.
    spoke: bool,
}

impl Relay {
    /// Looks for an order to end, and begins when it is due.
    pub(super) fn obey(&mut self, session: &Session) {
        let Some(order) = session.ending() else { return };
        self.hurries = true;
        if let Some(ending) = &mut self.ending {
            ending.deadline = ending.deadline.min(order.cut.max(order.at));
        } else if order.at <= Instant::now() {
            self.begin(order.cause, session, Some(order.cut));
        }
    }

    /// Begins to end the session for `cause`.
    pub(super) fn begin(&mut self, cause: Cause, session: &Session, cut: Option<Instant>) {
        if self.ending.as_ref().is_some_and(|ending| ending.cause.is_some()) {
            return;
        }
        let policy = &session.rule.policy;
        let now = Instant::now();
        let wait = policy.timeouts.close;
        let deadline = cut.map_or(now + wait, |cut| cut.min(now + wait));
        let keeps = cause.keeps_downstream();
        let at = match cause {
            _ if keeps => Stop::Message,
            // A service that has nothing more to say, or cannot be asked, is not waited for.
            Cause::DownstreamViolation(_) if self.down.input == Input::Open && self.up.output == Output::Open => {
                Stop::Close
            }
            _ => Stop::Frame,
        };
        let grace = if at == Stop::Close { ANSWERS.min(wait / 2) } else { wait / 2 };
        self.ending = Some(Box::new(Ending { cause: Some(cause), grace: now + grace, deadline, spoke: false }));

        let (code, reason) = cause.downstream(&policy.drain);
        put(&mut self.down, Direction::Out, code, &reason, at);
        match cause {
            Cause::UpstreamViolation(_) | Cause::UpstreamSilent => self.down.input = Input::Discard,
            Cause::SlowUpstream => {
                // What waits for it is dropped, so that the client's answer behind it can be read.
                self.upstream.abandon();
                self.up.break_off(Direction::In, &session.counters);
                if self.down.at_frame_boundary() {
                    self.down.input = Input::Ended;
                }
            }
            _ if cause.lost_upstream() => self.up.break_off(Direction::In, &session.counters),
            _ => {}
        }
        if !keeps && !cause.lost_upstream() {
            let (code, reason) = cause.upstream(&policy.drain);
            put(&mut self.up, Direction::In, code, &reason, Stop::Frame);
        }
        if self.outcome.is_none() {
            let told = self.down.insert.is_some().then_some(code);
            self.conclude(cause.reason(), cause.initiator(), told);
        }
    }

    /// A Close came from a peer and, unless ours went first, has passed on.
    pub(super) fn peer_closed(&mut self, direction: Direction, code: u16, session: &Session) {
        let initiator = if direction == Direction::In { Initiator::Client } else { Initiator::Backend };
        let reason = match code {
            1000 | 1005 => CloseReason::Normal,
            1001 => CloseReason::GoingAway,
            _ => CloseReason::OtherCode,
        };
        self.conclude(reason, initiator, Some(code));
        if self.ending.is_none() {
            let now = Instant::now();
            let deadline = now + session.rule.policy.timeouts.close;
            self.ending = Some(Box::new(Ending { cause: None, grace: now, deadline, spoke: false }));
        }
    }

    /// A peer's stream ended.
    pub(super) fn stream_ended(&mut self, direction: Direction, session: &Session) {
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
                Some(code) if self.down.at_frame_boundary() => {
                    put(&mut self.down, Direction::Out, code, "", Stop::Frame);
                }
                // The client ended first; that the service follows it is no loss.
                None if self.up.input == Input::Ended => self.down.shut = true,
                None if self.down.at_frame_boundary() => {
                    // A pod that is killed before all its sessions had their turn is no accident: they move, as planned.
                    let planned = session.ending().is_some_and(|order| order.cause == Cause::EndpointGone);
                    let cause = if planned { Cause::EndpointLost } else { Cause::UpstreamLost };
                    self.begin(cause, session, None);
                }
                // Within a frame nothing more can be said, whoever has closed.
                _ => {
                    self.conclude(CloseReason::BackendReset, Initiator::Backend, None);
                    self.down.insert = None;
                    self.down.shut = true;
                    self.up.break_off(Direction::In, &session.counters);
                    self.up.input = Input::Discard;
                    self.linger();
                }
            },
        }
    }

    /// Lets a Close of ours that waits for something go out now. False when none waits.
    fn hurried(&mut self) -> bool {
        let waiting = self.down.insert.as_mut().filter(|insert| insert.closes);
        waiting.map(|insert| insert.at = Stop::Frame).is_some()
    }

    /// A peer takes nothing any more. What it may still have to say is read to its end.
    pub(super) fn write_failed(&mut self, direction: Direction) {
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
        let begin = || Box::new(Ending { cause: None, grace: now, deadline, spoke: true });
        let ending = self.ending.get_or_insert_with(begin);
        ending.deadline = ending.deadline.min(deadline);
    }

    /// Keeps the first reason: what follows is its consequence.
    fn conclude(&mut self, reason: CloseReason, initiator: Initiator, code: Option<u16>) {
        self.outcome.get_or_insert(Closed { reason, initiator, code, forced: false });
    }

    /// Whether the client has nothing more to say.
    pub(super) fn has_client_closed(&self) -> bool {
        self.up.close_seen.is_some() || self.up.input != Input::Open
    }

    /// Shuts our half of the client's connection once it has our last frame. True when that is new.
    pub(super) fn settle(&mut self) -> bool {
        let said = self.down.output == Output::Closed && self.down.drained();
        let due = said && self.has_client_closed() && !self.down.shut;
        self.down.shut |= due;
        due
    }

    /// Tells a service over TLS that its connection ends here and was not cut on the way (RFC 8446 §6.1), if it can be
    /// told at once. In clear the end of the socket says so.
    pub(super) fn leave(&mut self, cx: &mut Context<'_>) {
        if self.upstream.scheme() == Scheme::Wss && !self.up.is_shut && self.up.output != Output::Broken {
            let _ = Pin::new(&mut self.upstream).poll_shutdown(cx);
        }
    }

    /// How it ended, once both sides are done.
    pub(super) fn finished(&self) -> Option<Closed> {
        let gone = |leg: &Leg| leg.input == Input::Ended;
        let vanished = self.up.close_seen.is_none() && (gone(&self.up) || self.down.output == Output::Broken);
        let client_done = vanished || (self.down.is_shut && (self.up.close_seen.is_some() || gone(&self.up)));
        let told = self.up.drained() && (self.up.output != Output::Open || self.up.is_shut);
        let service_done = told && (self.down.close_seen.is_some() || gone(&self.down));
        (client_done && service_done).then(|| self.outcome()).filter(|_| self.ending.is_some())
    }

    /// The service's connection, if both Closes have passed on it and it has not ended yet.
    pub(crate) fn into_open_upstream(self) -> Option<Transport> {
        let said = self.down.close_seen.is_some() && self.up.output == Output::Closed && self.up.drained();
        (said && self.down.input != Input::Ended).then_some(self.upstream)
    }

    fn outcome(&self) -> Closed {
        let lost =
            Closed { reason: CloseReason::BackendReset, initiator: Initiator::Backend, code: None, forced: false };
        self.outcome.unwrap_or(lost)
    }

    /// When something of `ending` is due.
    pub(super) fn next_of(&self, ending: &Ending) -> Instant {
        let unsettled = self.down.insert.as_ref().is_some_and(|insert| insert.closes && insert.at != Stop::Frame);
        if unsettled { ending.deadline.min(ending.grace) } else { ending.deadline }
    }

    /// Does what is due of the end. Some when nothing is left to wait for.
    pub(super) fn end_on_time(&mut self, session: &Session, now: Instant) -> Option<Closed> {
        let ending = self.ending.as_ref()?;
        if now >= ending.deadline {
            return self.give_up(session, now);
        }
        if now >= ending.grace
            && let Some(insert) = &mut self.down.insert
        {
            insert.at = Stop::Frame;
        }
        None
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
        if self.down.stalled_since().is_some() {
            self.downstream.abandon();
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
