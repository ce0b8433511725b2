//! What is counted for one rule or one backend, through handles that a session takes once.
//!
//! Ended sessions live on as totals here; live ones are read where they are. [`Ledger::gate`] keeps a scrape from
//! seeing a session both as live and as ended, or as neither, which a counter would show as a fall.

use super::counters::{SIZE_BUCKETS, SessionCounters, Tally};
use super::labels::{CloseReason, CodeClass, ConnectReason, HandshakeReason, Initiator, code_label};
use crate::routing::RuleId;
use prometheus::{Histogram, IntCounterVec};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

/// What the sessions of all rules add up in.
pub(super) struct Ledger {
    /// Held for reading while a session is folded, for writing while a scrape adds up.
    pub(super) gate: RwLock<()>,
    /// Message sizes of ended sessions by direction, of rules that are gone, too.
    pub(super) sizes: Mutex<[Sizes; 2]>,
    pub(super) durations: Histogram,
    pub(super) codes: IntCounterVec,
}

/// Message sizes of one direction.
#[derive(Clone, Copy, Default)]
pub(super) struct Sizes {
    pub(super) counts: [u64; SIZE_BUCKETS.len() + 1],
    pub(super) payload: u64,
}

impl Sizes {
    pub(super) fn add(both: &mut [Self; 2], tally: &Tally) {
        for direction in super::labels::Direction::ALL {
            let (sizes, tally) = (&mut both[*direction as usize], tally.direction(*direction));
            sizes.counts.iter_mut().zip(tally.sizes).for_each(|(a, b)| *a += b);
            sizes.payload = sizes.payload.wrapping_add(tally.payload);
        }
    }
}

/// Who a rule's series belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RuleLabels {
    pub(super) class: Arc<str>,
    pub(super) namespace: Arc<str>,
    pub(super) route: Arc<str>,
    pub(super) rule: Arc<str>,
}

impl RuleLabels {
    pub(super) fn of(id: &RuleId, class: &Arc<str>) -> Self {
        Self {
            class: Arc::clone(class),
            namespace: Arc::clone(&id.route.namespace),
            route: Arc::clone(&id.route.name),
            rule: Arc::clone(&id.rule),
        }
    }

    /// The same word in every place: `_overflow`, or nothing for handshakes that reached no rule.
    pub(super) fn all(word: &str) -> Self {
        let word: Arc<str> = word.into();
        Self { class: Arc::clone(&word), namespace: Arc::clone(&word), route: Arc::clone(&word), rule: word }
    }
}

/// How many sessions ended, and how.
pub(super) type Endings = BTreeMap<(CloseReason, Initiator, CodeClass), u64>;

/// What is known of ended sessions.
#[derive(Clone, Default)]
pub(super) struct Totals {
    pub(super) tally: Tally,
    pub(super) endings: Endings,
}

/// The counters of one rule. Cheap to clone the `Arc` of; taken once for each session.
pub struct RuleMetrics {
    pub(super) number: u64,
    pub(super) labels: RuleLabels,
    pub(super) totals: Mutex<Totals>,
    opened: AtomicU64,
    ended: AtomicU64,
    handshakes: [AtomicU64; HandshakeReason::ALL.len()],
    /// Nanoseconds.
    throttled: AtomicU64,
    ledger: Arc<Ledger>,
}

impl RuleMetrics {
    pub(super) fn new(number: u64, labels: RuleLabels, ledger: Arc<Ledger>) -> Self {
        Self {
            number,
            labels,
            totals: Mutex::default(),
            opened: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            handshakes: std::array::from_fn(|_| AtomicU64::new(0)),
            throttled: AtomicU64::new(0),
            ledger,
        }
    }

    /// Counts the outcome of a handshake, [`HandshakeReason::Accepted`] included.
    pub fn handshake(&self, reason: HandshakeReason) {
        self.handshakes[reason as usize].fetch_add(1, Relaxed);
    }

    /// Counts the time for which a client that was over its rate was held back.
    pub fn throttled(&self, held: Duration) {
        self.throttled.fetch_add(held.as_nanos() as u64, Relaxed);
    }

    /// Counts a session from its 101 on. Each call is to be followed by one of [`Self::closed`].
    pub fn opened(&self) {
        self.opened.fetch_add(1, Relaxed);
    }

    /// Counts the end of a session and folds its counters into the rule's totals. `code` is what the Close frame
    /// said, if there was one; `duration` is from the 101 on. A second call for the same counters does nothing.
    ///
    /// Must not be called under a lock that the callback of [`super::metrics::Metrics::watch_live`] takes.
    pub fn closed(
        &self,
        counters: &SessionCounters,
        (reason, initiator, code): (CloseReason, Initiator, Option<u16>),
        duration: Duration,
    ) {
        let _fold = self.ledger.gate.read().unwrap_or_else(PoisonError::into_inner);
        if !counters.fold_once() {
            return;
        }
        let tally = counters.read();
        Sizes::add(&mut self.ledger.sizes.lock().unwrap_or_else(PoisonError::into_inner), &tally);
        {
            let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
            totals.tally += tally;
            *totals.endings.entry((reason, initiator, CodeClass::of(code))).or_default() += 1;
        }
        self.ended.fetch_add(1, Relaxed);
        self.ledger.durations.observe(duration.as_secs_f64());
        self.ledger.codes.with_label_values(&[code_label(code)]).inc();
    }

    /// Sessions that were opened and have not ended.
    pub fn active(&self) -> u64 {
        // In this order, so that a session that ends in between cannot make it negative.
        let ended = self.ended.load(Relaxed);
        self.opened.load(Relaxed).saturating_sub(ended)
    }

    pub(super) fn opened_total(&self) -> u64 {
        self.opened.load(Relaxed)
    }

    pub(super) fn throttled_total(&self) -> Duration {
        Duration::from_nanos(self.throttled.load(Relaxed))
    }

    pub(super) fn handshakes_total(&self, reason: HandshakeReason) -> u64 {
        self.handshakes[reason as usize].load(Relaxed)
    }
}

impl fmt::Debug for RuleMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RuleMetrics({:?})", self.labels)
    }
}

/// The counters of one backend.
#[derive(Debug, Default)]
pub struct BackendMetrics {
    active: AtomicI64,
    errors: [AtomicU64; ConnectReason::ALL.len()],
}

impl BackendMetrics {
    /// Counts a session at one of its endpoints until the guard is dropped.
    pub fn connected(self: Arc<Self>) -> BackendConnection {
        self.active.fetch_add(1, Relaxed);
        BackendConnection(self)
    }

    /// Counts a connection that could not be made.
    pub fn connect_failed(&self, reason: ConnectReason) {
        self.errors[reason as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn active(&self) -> i64 {
        self.active.load(Relaxed)
    }

    pub(super) fn errors_total(&self, reason: ConnectReason) -> u64 {
        self.errors[reason as usize].load(Relaxed)
    }
}

/// One session of a backend; see [`BackendMetrics::connected`].
#[derive(Debug)]
pub struct BackendConnection(Arc<BackendMetrics>);

impl Drop for BackendConnection {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Relaxed);
    }
}
