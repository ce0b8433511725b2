//! What is known of one session: its plan, what both ends counted, and which disturbances it may be ended by.
//!
//! Decides nothing; `judge` reads it when the session is over.

use crate::message::{Damage, Sequence};
use crate::plan::{Plan, Route};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Which Sheave a session goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// The one that lives as long as the run.
    Steady,
    /// The one that is drained and replaced again and again.
    Rolling,
}

/// What may end a session besides its plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Excuses(u8);

impl Excuses {
    /// Sheave stops: 1001.
    pub(crate) const DRAIN: Self = Self(1);
    /// Its backend restarts: 1012 of its own, 1014, or a cut within a frame.
    pub(crate) const RESTART: Self = Self(2);
    /// Its key is revoked: 1008.
    pub(crate) const REVOKED: Self = Self(4);
    /// Its token expires: 1008.
    pub(crate) const EXPIRED: Self = Self(8);
    /// Its route or its endpoint goes: 1012.
    pub(crate) const MOVED: Self = Self(16);

    pub(crate) fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(crate) fn is_none(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Whether nothing but these is among them.
    pub(crate) fn only(self, others: &[Self]) -> bool {
        others.iter().fold(self.0, |left, other| left & !other.0) == 0
    }
}

/// Whom a disturbance meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    Backend(usize),
    Consumer(usize),
    Proxy(Which),
    Route(Route),
}

/// How the client saw its session end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The connection ended without a Close; within a frame or between two.
    Cut { within: bool, reset: bool },
    /// A Close came.
    Close(u16, String),
    /// There was no answer to the handshake; after this time.
    NoAnswer(String, Duration),
    /// The handshake was refused.
    Refused(u16),
    /// The client itself left without waiting.
    Left,
    /// Nothing happened for so long that it was given up.
    Stuck,
}

/// The counts of one session.
#[allow(clippy::struct_excessive_bools)] // independent facts
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) excuses: Excuses,
    pub(crate) client: Option<SocketAddr>,
    /// How often its handshake reached a backend, and which.
    pub(crate) reached: u32,
    pub(crate) backend: Option<usize>,
    /// Whether the backend is through with it.
    pub(crate) served: bool,
    pub(crate) upgraded: bool,
    /// Messages that the client sent whole, that came to the backend, that it sent back, that came back.
    pub(crate) sent: u64,
    pub(crate) got: u64,
    pub(crate) echoed: u64,
    pub(crate) returned: u64,
    /// Payload bytes that came to the backend and to the client.
    pub(crate) bytes: u64,
    pub(crate) pings: u64,
    /// Pongs that were awaited in vain, by the client and by the backend.
    pub(crate) unanswered: (u64, u64),
    pub(crate) stalled: u64,
    pub(crate) up: Damage,
    pub(crate) down: Damage,
    /// The code of the Close that came to the backend.
    pub(crate) told: Option<u16>,
    /// Whether a Close came to the client within a message.
    pub(crate) torn: bool,
    /// Whether the load came to rest before its plan was through.
    pub(crate) rested: bool,
}

/// One session.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) id: u64,
    pub(crate) which: Which,
    pub(crate) plan: Plan,
    facts: Mutex<Facts>,
    done: Notify,
}

impl Ledger {
    pub(crate) fn new(id: u64, which: Which, plan: Plan) -> Self {
        Self { id, which, plan, facts: Mutex::default(), done: Notify::new() }
    }

    pub(crate) fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a disturbance may meet it.
    pub(crate) fn is_in(&self, scope: Scope) -> bool {
        match scope {
            Scope::Backend(backend) => {
                let reached = self.facts().backend;
                reached.map_or_else(|| self.plan.route.backends().contains(&backend), |one| one == backend)
            }
            Scope::Consumer(consumer) => self.plan.consumer == Some(consumer),
            Scope::Proxy(which) => self.which == which,
            Scope::Route(route) => self.plan.route == route,
        }
    }

    /// Notes a message that came to the backend.
    pub(crate) fn arrived(&self, sequence: &Sequence, size: usize) {
        let mut facts = self.facts();
        (facts.got, facts.up) = (sequence.next, sequence.damage);
        facts.bytes += size as u64;
    }

    /// Notes a message that came back to the client.
    pub(crate) fn came_back(&self, sequence: &Sequence, size: usize) {
        let mut facts = self.facts();
        (facts.returned, facts.down) = (sequence.next, sequence.damage);
        facts.bytes += size as u64;
    }

    /// Says that the backend is through with it.
    pub(crate) fn served(&self) {
        self.facts().served = true;
        self.done.notify_one();
    }

    /// Waits until the backend is through with it, if it ever reached one.
    pub(crate) async fn settled(&self) {
        loop {
            let waits = {
                let facts = self.facts();
                facts.reached > 0 && !facts.served
            };
            if !waits {
                return;
            }
            self.done.notified().await;
        }
    }
}
