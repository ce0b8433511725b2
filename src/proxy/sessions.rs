//! The register of live sessions: who is connected through which rule to which endpoint, and who must leave.
//!
//! A session is entered before its upstream is dialled and leaves the register when its guard drops, whatever
//! ended it. The register decides *when* a session is asked to end, spread over its route's drain window; *how*
//! it ends is the relay's business.

use super::access::{Slots, SlotsHeld, seconds};
use super::close::Cause;
use super::expiry;
use super::overload::Place;
use crate::routing::access::{Admission, ConnectionLimits};
use crate::routing::{
    Address, Backend, Drain, Holding, HostPattern, OnEndpointTerminating, RoutingTable, Rule, Standing,
};
use crate::telemetry::{RuleMetrics, SessionCounters};
use std::borrow::Cow;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Waker};
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tokio::time::Instant;

/// A sign to a session: it is asked to end.
const ASKED: u8 = 1;
/// The wall clock has been set.
const CLOCK_SET: u8 = 2;

/// That a session is asked to end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending {
    /// Why.
    pub cause: Cause,
    /// When its Close is due.
    pub at: Instant,
    /// When it is cut if the peers have not closed by then.
    pub cut: Instant,
}

/// One live session.
#[derive(Debug)]
pub struct Session {
    /// Unique in this process, the same in every record.
    pub id: u64,
    /// The rule that let it in, as it was then.
    pub rule: Arc<Rule>,
    /// The host pattern under which it was found.
    pub host: HostPattern,
    /// The client's address.
    pub peer: SocketAddr,
    /// When its connection was accepted.
    pub accepted: Instant,
    /// The same on the wall clock, for people.
    pub started: SystemTime,
    upstream: Mutex<Option<(Arc<Backend>, Address)>>,
    /// What let it in; `None` where nothing was asked.
    pub admission: Option<Box<Admission>>,
    /// `Origin` as it came, where nothing was asked: it may be asked for later.
    origin: Option<Box<str>>,
    secure: bool,
    /// When it is as old as it may get.
    pub(crate) max_age: Option<Instant>,
    /// What has passed.
    pub counters: SessionCounters,
    /// Its rule's metrics.
    pub metrics: Arc<RuleMetrics>,
    /// [`ASKED`] and [`CLOCK_SET`].
    signs: AtomicU8,
    /// Boxed, for most are never asked.
    ending: Mutex<Option<Box<Ending>>>,
    /// Of the task that relays it, from when it does.
    waker: OnceLock<Waker>,
    /// Whether it is counted in what its route bounds.
    counted: AtomicBool,
}

impl Session {
    /// Why it has no place in `table`, if so; known only once it has an endpoint.
    fn verdict(&self, table: &RoutingTable, now: i64) -> Option<Cause> {
        let (_, endpoint) = self.upstream()?;
        let admission = || match self.admission.as_deref() {
            Some(kept) => Cow::Borrowed(kept),
            None => Cow::Owned(Admission::bare(self.peer.ip(), self.origin.clone(), self.secure)),
        };
        let holding = Holding { rule: &self.rule, host: &self.host, endpoint, admission: &admission };
        match table.standing(&holding, now) {
            Standing::Kept => None,
            Standing::Refused(revoked) => Some(Cause::Refused(revoked)),
            Standing::RuleGone => Some(Cause::RuleGone),
            Standing::EndpointGone => Some(Cause::EndpointGone),
            Standing::EndpointDraining => {
                let close = self.drain().on_endpoint_terminating == OnEndpointTerminating::CloseAfterGrace;
                close.then_some(Cause::EndpointGone)
            }
        }
    }

    /// Where it went, once chosen.
    pub fn upstream(&self) -> Option<(Arc<Backend>, Address)> {
        lock(&self.upstream).clone()
    }

    /// Notes where it is being connected to; a failed endpoint is followed by another.
    pub(crate) fn chose(&self, backend: &Arc<Backend>, endpoint: &Address) {
        *lock(&self.upstream) = Some((Arc::clone(backend), endpoint.clone()));
    }

    fn drain(&self) -> &Drain {
        &self.rule.policy.drain
    }

    /// The ending asked of it, if any. One atomic load while there is none.
    pub(crate) fn ending(&self) -> Option<Ending> {
        if self.is_ending() { lock(&self.ending).as_deref().copied() } else { None }
    }

    /// Whether it has been asked to end.
    pub fn is_ending(&self) -> bool {
        self.signs.load(Ordering::Acquire) & ASKED != 0
    }

    /// When what let it in expires.
    pub(crate) fn expires(&self) -> Option<Instant> {
        self.admission.as_deref().and_then(|admission| expiry::of(admission, &self.rule))
    }

    /// Whether the wall clock has been set since this was last asked. One atomic load while it has not.
    pub(crate) fn takes_clock_set(&self) -> bool {
        self.signs.load(Ordering::Relaxed) & CLOCK_SET != 0
            && self.signs.fetch_and(!CLOCK_SET, Ordering::Relaxed) & CLOCK_SET != 0
    }

    /// Has the relay's task woken when an ending is asked. It stays the same one for life.
    pub(crate) fn watch(&self, cx: &Context<'_>) {
        if self.waker.get().is_none() {
            let _ = self.waker.set(cx.waker().clone());
            // Either the sign is seen by who watches, or the waker by who signs.
            fence(Ordering::SeqCst);
        }
    }

    /// Asks it to end, unless it is to end sooner already.
    pub(crate) fn end(&self, ending: Ending) {
        let mut current = lock(&self.ending);
        if current.as_ref().is_some_and(|earlier| earlier.at <= ending.at && earlier.cut <= ending.cut) {
            return;
        }
        *current = Some(Box::new(ending));
        drop(current);
        self.sign(ASKED);
    }

    fn sign(&self, sign: u8) {
        self.signs.fetch_or(sign, Ordering::Release);
        fence(Ordering::SeqCst);
        if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
    }
}

/// All live sessions of the process.
#[derive(Debug)]
pub struct Sessions {
    live: Mutex<HashMap<u64, Listed>>,
    next: AtomicU64,
    count: AtomicUsize,
    connections: watch::Sender<usize>,
    draining: Mutex<Option<Instant>>,
    /// The places that sessions hold in what their routes bound.
    pub(super) slots: Slots,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            live: Mutex::default(),
            next: AtomicU64::new(1),
            count: AtomicUsize::new(0),
            connections: watch::Sender::new(0),
            draining: Mutex::default(),
            slots: Slots::default(),
        }
    }
}

/// A session in the register.
#[derive(Debug)]
struct Listed {
    session: Arc<Session>,
    /// Its places in what its route bounds. They go when it leaves the register, not with the session itself, which
    /// whoever looks at it may hold for longer.
    slots: SlotsHeld,
}

/// What a session is entered with.
pub(crate) struct Entry {
    pub rule: Arc<Rule>,
    pub host: HostPattern,
    pub peer: SocketAddr,
    pub accepted: Instant,
    pub metrics: Arc<RuleMetrics>,
    pub admission: Option<Box<Admission>>,
    pub origin: Option<Box<str>>,
    pub secure: bool,
    pub(super) slots: SlotsHeld,
    pub(super) place: Place,
}

/// Keeps a session in the register until dropped.
#[derive(Debug)]
pub struct Registered {
    session: Arc<Session>,
    sessions: Arc<Sessions>,
    /// Given back with it.
    _place: Place,
}

impl Registered {
    /// Has it counted where `table` bounds what was not bounded when it came.
    pub(super) fn count_under(&self, table: &RoutingTable) {
        self.sessions.count(table, &self.session);
    }
}

impl std::ops::Deref for Registered {
    type Target = Arc<Session>;

    fn deref(&self) -> &Arc<Session> {
        &self.session
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut live = lock(&self.sessions.live);
        let listed = live.remove(&self.session.id);
        let left = live.len();
        drop(live);
        self.sessions.count.store(left, Ordering::Relaxed);
        drop(listed);
    }
}

impl Sessions {
    /// Enters a session.
    pub(crate) fn enter(self: &Arc<Self>, entry: Entry) -> Registered {
        let timeouts = &entry.rule.policy.timeouts;
        let max_age = timeouts.max_connection_duration.map(|bound| {
            let jitter = f64::from(timeouts.max_connection_duration_jitter_percent.min(100)) / 100.0;
            entry.accepted + bound.mul_f64(1.0 - jitter * fastrand::f64())
        });
        let session = Arc::new(Session {
            id: self.next.fetch_add(1, Ordering::Relaxed),
            host: entry.host,
            peer: entry.peer,
            accepted: entry.accepted,
            started: SystemTime::now(),
            upstream: Mutex::default(),
            max_age,
            admission: entry.admission,
            origin: entry.origin,
            rule: entry.rule,
            secure: entry.secure,
            counters: SessionCounters::default(),
            metrics: entry.metrics,
            signs: AtomicU8::new(0),
            ending: Mutex::new(None),
            waker: OnceLock::new(),
            counted: AtomicBool::new(!entry.slots.is_empty()),
        });
        let mut live = lock(&self.live);
        live.insert(session.id, Listed { session: Arc::clone(&session), slots: entry.slots });
        self.count.store(live.len(), Ordering::Relaxed);
        drop(live);
        if let Some(since) = *lock(&self.draining) {
            session.end(Ending { cause: Cause::Drain, at: since, cut: since + session.drain().timeout });
        }
        Registered { session, sessions: Arc::clone(self), _place: entry.place }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Calls `see` for every live session, in no order, while the register is held.
    pub fn for_each(&self, mut see: impl FnMut(&Arc<Session>)) {
        lock(&self.live).values().for_each(|listed| see(&listed.session));
    }

    /// Asks the sessions that `table` has no place for to end, each within its own route's window.
    pub fn apply(&self, table: &RoutingTable) {
        // Judged with the register released, for handshakes enter it meanwhile; they have the newer table, or recheck.
        let live: Vec<_> = lock(&self.live).values().map(|listed| Arc::clone(&listed.session)).collect();
        for session in &live {
            self.count(table, session);
        }
        let now = seconds();
        let judged = live.into_iter().filter_map(|session| session.verdict(table, now).map(|cause| (session, cause)));
        ask(judged.collect(), Instant::now());
    }

    /// Has a session counted where `table` bounds what was not bounded when it came.
    fn count(&self, table: &RoutingTable, session: &Session) {
        let route = &session.rule.id.route;
        let bounded = || table.connections(route).is_some_and(ConnectionLimits::counts_sessions);
        if session.counted.load(Ordering::Relaxed) || !bounded() {
            return;
        }
        let mut live = lock(&self.live);
        let Some(listed) = live.get_mut(&session.id) else { return }; // it has just left
        if listed.slots.is_empty() {
            let consumer = session.admission.as_ref().and_then(|admission| admission.consumer());
            listed.slots = self.slots.count(route, session.peer.ip(), consumer);
            session.counted.store(true, Ordering::Relaxed);
        }
    }

    /// Asks one session to end if `table` has no place for it: for a session that was entered under an older
    /// table and found its endpoint after this one had been applied.
    pub(crate) fn recheck(table: &RoutingTable, session: &Arc<Session>) {
        let cause = session.verdict(table, seconds());
        ask(cause.map(|cause| (Arc::clone(session), cause)).into_iter().collect(), Instant::now());
    }

    /// Asks every session to end, and every later one at once.
    pub fn drain(&self) {
        let now = Instant::now();
        *lock(&self.draining) = Some(now);
        let mut leaving = Vec::new();
        self.for_each(|session| leaving.push((Arc::clone(session), Cause::Drain)));
        spread(leaving, now);
    }

    /// The longest drain timeout among the live sessions.
    pub fn longest_drain(&self) -> Duration {
        let mut longest = Duration::ZERO;
        self.for_each(|session| longest = longest.max(session.drain().timeout));
        longest
    }

    /// Has every session that may expire look anew at when it does.
    pub fn clock_was_set(&self) {
        self.for_each(|session| {
            if session.admission.is_some() {
                session.sign(CLOCK_SET);
            }
        });
    }

    /// Has every session cut at once.
    pub fn cut(&self) {
        let now = Instant::now();
        self.for_each(|session| session.end(Ending { cause: Cause::Drain, at: now, cut: now }));
    }

    /// Counts a connection from its first byte on, session or not yet.
    pub(crate) fn connected(self: &Arc<Self>) -> Connected {
        self.connections.send_modify(|open| *open += 1);
        Connected(Arc::clone(self))
    }

    /// Waits until no connection is open, those still in their handshake included.
    ///
    /// # Cancel safety
    /// May be dropped and called again.
    pub async fn emptied(&self) {
        // The sender lives in self, so waiting cannot fail while we are borrowed.
        let _ = self.connections.subscribe().wait_for(|open| *open == 0).await;
    }
}

/// Counts one open connection until dropped.
pub(crate) struct Connected(Arc<Sessions>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.connections.send_modify(|open| *open -= 1);
    }
}

/// Asks those who have no place any more to end: who may not be there at once, the others in turn.
fn ask(leaving: Vec<(Arc<Session>, Cause)>, now: Instant) {
    let (refused, moved): (Vec<_>, Vec<_>) =
        leaving.into_iter().partition(|(_, cause)| matches!(cause, Cause::Refused(_)));
    for (session, cause) in refused {
        session.end(Ending { cause, at: now, cut: now + session.rule.policy.timeouts.close });
    }
    spread(moved.into_iter().filter(|(session, _)| session.ending().is_none()).collect(), now);
}

/// Gives each session its turn within its route's window: evenly, with jitter, in random order, the first at once,
/// so that clients that reconnect do not do so in the same second.
fn spread(leaving: Vec<(Arc<Session>, Cause)>, now: Instant) {
    let mut groups: HashMap<_, Vec<_>> = HashMap::new();
    for (session, cause) in leaving {
        let drain = session.drain();
        groups.entry((drain.spread, drain.timeout)).or_default().push((session, cause));
    }
    for ((window, timeout), mut group) in groups {
        fastrand::shuffle(&mut group);
        let share = window.min(timeout).div_f64(group.len() as f64);
        for (turn, (session, cause)) in group.into_iter().enumerate() {
            let jitter = if turn == 0 { 0.0 } else { fastrand::f64() };
            let at = now + share.mul_f64(turn as f64 + jitter);
            session.end(Ending { cause, at, cut: now + timeout });
        }
    }
}

/// A poisoned lock means a panic elsewhere; the plain data behind it is still whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
