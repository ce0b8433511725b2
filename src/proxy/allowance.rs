//! Allowances: how much a client may send in a time, in one session and in all sessions of a consumer together.
//!
//! A frame takes its share of each bucket when its header is there and is told when it may pass. One that must wait has
//! taken it all the same: many sessions of one consumer thus get their turns in the order they asked, and none is woken
//! in vain. It is held whole, and nothing behind it is read: what a client may have under way is one read of its socket.
//!
//! Nothing here allocates, locks or reads the clock for a message; the clock is read once for each read of a socket
//! that brought the start of a frame.

use super::bucket::{Buckets, Kind};
use super::sessions::Session;
use crate::routing::{OnExceed, Rates, RouteId, SessionRates};
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long a session that is to be closed may be held back without pause.
const PATIENCE: Duration = Duration::from_secs(1);

/// What all sessions of one consumer on a route have together.
#[derive(Debug)]
pub(super) struct Shared {
    rates: Rates,
    buckets: Buckets<AtomicU64>,
}

impl Shared {
    fn of(rates: Rates) -> Self {
        Self { rates, buckets: Buckets::of(&rates) }
    }

    /// Whether everything is full again: whoever comes then may as well begin anew.
    fn is_full(&self, now: u64) -> bool {
        self.buckets.full().is_none_or(|full| full <= now)
    }
}

/// The allowances of consumers. One for the process.
///
/// An entry stays while a session uses it and, so that coming again is no way to a new one, until it is full.
#[derive(Debug)]
pub(super) struct Allowances {
    epoch: Instant,
    consumers: Mutex<Consumers>,
}

#[derive(Debug, Default)]
struct Consumers {
    known: HashMap<(RouteId, Arc<str>), Arc<Shared>>,
    /// At how many those are looked for that may go: twice as many as stayed the last time.
    sweep_at: usize,
}

impl Default for Allowances {
    fn default() -> Self {
        Self { epoch: Instant::now(), consumers: Mutex::default() }
    }
}

impl Allowances {
    /// Entries below which none is looked for that may go.
    const FEW: usize = 64;

    /// What the client of `session` may send; `None` where nothing is bounded.
    pub(super) fn open(&self, session: &Session) -> Option<Box<Allowance>> {
        let consumer = session.admission.as_ref().and_then(|admission| admission.consumer());
        self.of(session.rule.policy.rates.as_deref()?, &session.rule.id.route, consumer)
    }

    /// What one session of `consumer` on `route` may send.
    pub(super) fn of(
        &self,
        rates: &SessionRates,
        route: &RouteId,
        consumer: Option<&Arc<str>>,
    ) -> Option<Box<Allowance>> {
        let consumer = consumer.filter(|_| !rates.consumer.is_none());
        let shared = consumer.map(|consumer| self.shared(route, consumer, rates.consumer, nanos(self.epoch)));
        if shared.is_none() && rates.session.is_none() {
            return None;
        }
        Some(Box::new(Allowance {
            epoch: self.epoch,
            own: Buckets::of(&rates.session),
            shared,
            closes: rates.on_exceed == OnExceed::Close,
            now: Cell::new(0),
            paid: Cell::new(false),
            passes: Cell::new(0),
            pressed: None,
            held: None,
        }))
    }

    fn shared(&self, route: &RouteId, consumer: &Arc<str>, rates: Rates, now: u64) -> Arc<Shared> {
        let mut consumers = self.consumers.lock().unwrap_or_else(PoisonError::into_inner);
        let Consumers { known, sweep_at } = &mut *consumers;
        if known.len() >= *sweep_at {
            known.retain(|_, shared| Arc::strong_count(shared) > 1 || !shared.is_full(now));
            *sweep_at = (2 * known.len()).max(Self::FEW);
        }
        let shared = known.entry((route.clone(), Arc::clone(consumer))).or_insert_with(|| Arc::new(Shared::of(rates)));
        if shared.rates != rates {
            *shared = Arc::new(Shared::of(rates)); // the route says otherwise since; older sessions keep theirs
        }
        Arc::clone(shared)
    }
}

/// Nanoseconds since `epoch`, at least 1.
fn nanos(epoch: Instant) -> u64 {
    u64::try_from(epoch.elapsed().as_nanos()).unwrap_or(u64::MAX / 4).max(1)
}

/// What the client of one session may send.
#[derive(Debug)]
pub(super) struct Allowance {
    epoch: Instant,
    own: Buckets<Cell<u64>>,
    shared: Option<Arc<Shared>>,
    closes: bool,
    /// When the bytes at hand were read; 0 as long as nobody asked.
    now: Cell<u64>,
    /// Whether the frame that is held back has taken its share.
    paid: Cell<bool>,
    /// When it may pass.
    passes: Cell<u64>,
    /// Since when the client has had more to send than it may, without pause.
    pressed: Option<Instant>,
    /// Since when a frame is held back.
    held: Option<Instant>,
}

impl Allowance {
    /// New bytes are at hand: the clock is to be read again.
    pub(super) fn look(&self) {
        self.now.set(0);
    }

    /// Takes what a frame of `size` bytes costs. False when it is to be held back and presented again.
    #[inline]
    pub(super) fn admits(&self, kind: Kind, size: u64) -> bool {
        if self.now.get() == 0 {
            self.now.set(nanos(self.epoch));
            if self.paid.take() {
                return true;
            }
        }
        let now = self.now.get();
        let mut passes = self.own.take(now, kind, size);
        if let Some(shared) = &self.shared {
            passes = passes.max(shared.buckets.take(now, kind, size));
        }
        passes <= now || self.refuse(passes)
    }

    /// Has the frame, which has taken its share, wait until `passes`.
    #[cold]
    fn refuse(&self, passes: u64) -> bool {
        self.passes.set(passes);
        self.paid.set(true);
        false
    }

    /// A frame has been held back.
    pub(super) fn hold(&mut self) {
        if self.held.is_none() {
            let now = Instant::now();
            self.held = Some(now);
            self.pressed.get_or_insert(now);
        }
    }

    /// Whether the frame that was held back may pass; then for how long it was.
    pub(super) fn release(&mut self, now: Instant) -> Option<Duration> {
        let due = self.held.is_some() && now >= self.passes();
        due.then(|| now - self.held.take().unwrap_or(now))
    }

    /// The client has nothing more to send at the moment.
    pub(super) fn rest(&mut self) {
        self.pressed = None;
    }

    fn passes(&self) -> Instant {
        self.epoch + Duration::from_nanos(self.passes.get())
    }

    fn patience(&self) -> Option<Instant> {
        self.pressed.filter(|_| self.closes).map(|since| since + PATIENCE)
    }

    /// Whether the client has been over its rate for too long.
    pub(super) fn exhausted(&self, now: Instant) -> bool {
        self.patience().is_some_and(|at| now >= at)
    }

    /// The next moment at which something is due.
    pub(super) fn next(&self) -> Option<Instant> {
        let passes = self.held.map(|_| self.passes());
        passes.into_iter().chain(self.patience()).min()
    }

    /// For how long the frame that is held back has been.
    pub(super) fn held_for(&self) -> Option<Duration> {
        self.held.map(|since| since.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::super::bucket::tests::{MS, messages, rate};
    use super::*;

    fn ids() -> (RouteId, Arc<str>) {
        (RouteId { namespace: "ns".into(), name: "chat".into() }, "app".into())
    }

    #[test]
    fn sessions_of_one_consumer_share_and_get_turns_of_their_own() {
        let allowances = Allowances::default();
        let (route, app) = ids();
        let rates = messages(rate(10, 2));
        let (one, two) = (allowances.shared(&route, &app, rates, 1), allowances.shared(&route, &app, rates, 1));
        let now = 5_000 * MS;
        assert!(one.buckets.take(now, Kind::Message, 1) <= now);
        assert!(two.buckets.take(now, Kind::Message, 1) <= now);
        assert_eq!(one.buckets.take(now, Kind::Message, 1), now + 100 * MS);
        assert_eq!(two.buckets.take(now, Kind::Message, 1), now + 200 * MS, "each is woken for its own turn");
        let other = allowances.shared(&route, &"other".into(), rates, now);
        assert!(other.buckets.take(now, Kind::Message, 1) <= now, "another consumer has its own");
        let changed = allowances.shared(&route, &app, messages(rate(20, 2)), now);
        assert!(changed.buckets.take(now, Kind::Message, 1) <= now, "another rate is another bucket");
    }

    #[test]
    fn turns_are_exact_when_threads_take_them_together() {
        let shared = Shared::of(messages(rate(1000, 1)));
        let now = 5_000 * MS;
        let mut turns: Vec<u64> = std::thread::scope(|scope| {
            let take = || (0..500).map(|_| shared.buckets.take(now, Kind::Message, 1)).collect::<Vec<_>>();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        turns.sort_unstable();
        let wanted: Vec<u64> = (0..2000).map(|turn| (now + turn * MS) - 4 * MS).collect();
        assert_eq!(turns, wanted);
    }

    #[test]
    fn an_allowance_goes_with_its_last_session_once_it_is_full() {
        let allowances = Allowances::default();
        let (route, _) = ids();
        let rates = messages(rate(10, 1));
        let known = || allowances.consumers.lock().unwrap().known.len();
        let name = |at: usize| Arc::<str>::from(at.to_string());
        let spent = allowances.shared(&route, &name(0), rates, 1);
        for _ in 0..20 {
            spent.buckets.take(1, Kind::Message, 1);
        }
        let kept = allowances.shared(&route, &name(1), rates, 1);
        drop(spent);
        for at in 2..10_000 {
            drop(allowances.shared(&route, &name(at), rates, 1));
        }
        assert!(known() <= 2 * Allowances::FEW, "{} consumers are remembered", known());
        let again = allowances.shared(&route, &name(0), rates, 1);
        assert!(again.buckets.take(1, Kind::Message, 1) > 1000 * MS, "coming again gives no new allowance");
        assert!(Arc::ptr_eq(&kept, &allowances.shared(&route, &name(1), rates, 1)));
    }
}
