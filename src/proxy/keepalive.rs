//! Pings of our own on the chosen legs: when one is due, whether its pong came, when a peer counts as dead.
//!
//! A pong is ours when it carries our nonce (RFC 6455 §5.5.3). Other bytes from the peer renew the wait: one that
//! is busy sending a large frame cannot put a pong into it. Pings do not count against the idle timeout.

use crate::routing;
use crate::telemetry::Direction;
use std::time::Duration;
use tokio::time::Instant;

/// What is due for one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beat {
    /// Send this ping in that direction.
    Ping(Direction, [u8; 8]),
    /// The peer that frames of that direction go to is dead.
    Silent(Direction),
}

/// The state of one pinged peer.
#[derive(Clone, Copy, Debug)]
struct Pulse {
    /// When the next ping is due; while one is out, when its pong is.
    due: Instant,
    nonce: [u8; 8],
    sent: Option<Instant>,
    queued: bool,
    heard: bool,
}

/// Pings of one session; how often and for how long, its rule says each time.
#[derive(Debug)]
pub(super) struct Keepalive {
    client: Option<Pulse>,
    service: Option<Pulse>,
}

impl Keepalive {
    /// `None` when the rule asks for none.
    pub(super) fn new(policy: &routing::Keepalive, now: Instant) -> Option<Self> {
        let pulse = |wanted: bool| {
            wanted.then(|| Pulse {
                due: now + jittered(policy.interval),
                nonce: [0; 8],
                sent: None,
                queued: false,
                heard: false,
            })
        };
        let (client, service) = (pulse(policy.mode.downstream()), pulse(policy.mode.upstream()));
        (client.is_some() || service.is_some()).then_some(Self { client, service })
    }

    /// The peer whose frames travel in `direction`.
    fn sender(&mut self, direction: Direction) -> Option<&mut Pulse> {
        match direction {
            Direction::In => self.client.as_mut(),
            Direction::Out => self.service.as_mut(),
        }
    }

    /// The nonce a pong in `direction` must carry to be ours.
    pub(super) fn awaited(&self, direction: Direction) -> Option<[u8; 8]> {
        let pulse = match direction {
            Direction::In => self.client.as_ref(),
            Direction::Out => self.service.as_ref(),
        };
        pulse.filter(|p| p.sent.is_some()).map(|p| p.nonce)
    }

    /// Bytes came in `direction`.
    pub(super) fn heard(&mut self, direction: Direction) {
        if let Some(pulse) = self.sender(direction) {
            pulse.heard = true;
        }
    }

    /// The pong came in `direction`; gives the round trip time.
    pub(super) fn answered(
        &mut self,
        direction: Direction,
        policy: &routing::Keepalive,
        now: Instant,
    ) -> Option<Duration> {
        let interval = jittered(policy.interval);
        let pulse = self.sender(direction)?;
        let sent = pulse.sent.take()?;
        pulse.due = sent + interval;
        Some(now - sent)
    }

    /// The ping that was due went out in `direction`: the wait for its pong begins.
    pub(super) fn sent(&mut self, direction: Direction, policy: &routing::Keepalive, now: Instant) {
        if let Some(pulse) = self.sender(opposite(direction)) {
            pulse.sent = Some(now);
            pulse.queued = false;
            pulse.heard = false;
            pulse.due = now + policy.timeout;
        }
    }

    /// The next moment at which something is due.
    pub(super) fn next(&self) -> Option<Instant> {
        let due = |p: &Option<Pulse>| p.as_ref().filter(|p| !p.queued).map(|p| p.due);
        due(&self.client).into_iter().chain(due(&self.service)).min()
    }

    /// What is due now.
    pub(super) fn beats(&mut self, policy: &routing::Keepalive, now: Instant) -> impl Iterator<Item = Beat> + use<> {
        let timeout = policy.timeout;
        let client = self.client.as_mut().and_then(|p| p.beat(now, timeout, Direction::Out));
        let service = self.service.as_mut().and_then(|p| p.beat(now, timeout, Direction::In));
        client.into_iter().chain(service)
    }
}

impl Pulse {
    fn beat(&mut self, now: Instant, timeout: Duration, direction: Direction) -> Option<Beat> {
        if self.queued || now < self.due {
            return None;
        }
        if self.sent.is_none() {
            self.nonce = fastrand::u64(..).to_ne_bytes();
            self.queued = true;
            return Some(Beat::Ping(direction, self.nonce));
        }
        if std::mem::take(&mut self.heard) {
            self.due = now + timeout;
            return None;
        }
        self.queued = true; // nothing more is due for a dead peer
        Some(Beat::Silent(direction))
    }
}

fn opposite(direction: Direction) -> Direction {
    match direction {
        Direction::In => Direction::Out,
        Direction::Out => Direction::In,
    }
}

/// A tenth more or less, so that sessions opened together do not ping together.
fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(0.9 + 0.2 * fastrand::f64())
}
