//! The register of live sessions: who is connected through which rule to which endpoint, and who must leave.
//!
//! A session is entered before its upstream is dialled and leaves the register when its guard drops, whatever
//! ended it. The register decides *when* a session is asked to end, spread over its route's drain window; *how*
//! it ends is the relay's business.

use super::close::Cause;
use crate::routing::{
    Address, Backend, Drain, Holding, HostPattern, OnEndpointTerminating, RoutingTable, Rule, Standing,
};
use crate::telemetry::{RuleMetrics, SessionCounters};
use futures_util::task::AtomicWaker;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::SystemTime;
use tokio::sync::watch;
use tokio::time::Instant;

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
    /// What has passed.
    pub counters: SessionCounters,
    /// Its rule's metrics.
    pub metrics: Arc<RuleMetrics>,
    asked: AtomicBool,
    ending: Mutex<Option<Ending>>,
    waker: AtomicWaker,
}

impl Session {
    /// What it holds of the table, once it has an endpoint.
    fn holding(&self) -> Option<Holding> {
        let (_, endpoint) = self.upstream()?;
        Some(Holding { rule: Arc::clone(&self.rule), host: self.host.clone(), endpoint })
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
        if self.asked.load(Ordering::Acquire) { *lock(&self.ending) } else { None }
    }

    /// Whether it has been asked to end.
    pub fn is_ending(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }

    /// Has the relay's task woken when an ending is asked.
    pub(crate) fn watch(&self, cx: &Context<'_>) {
        self.waker.register(cx.waker());
    }

    /// Asks it to end, unless it is to end sooner already.
    pub(crate) fn end(&self, ending: Ending) {
        let mut current = lock(&self.ending);
        if current.is_some_and(|earlier| earlier.at <= ending.at && earlier.cut <= ending.cut) {
            return;
        }
        *current = Some(ending);
        drop(current);
        self.asked.store(true, Ordering::Release);
        if let Some(waker) = self.waker.take() {
            Waker::wake(waker);
        }
    }
}

/// All live sessions of the process.
#[derive(Debug)]
pub struct Sessions {
    live: Mutex<HashMap<u64, Arc<Session>>>,
    next: AtomicU64,
    count: AtomicUsize,
    connections: watch::Sender<usize>,
    draining: Mutex<Option<Instant>>,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            live: Mutex::default(),
            next: AtomicU64::new(1),
            count: AtomicUsize::new(0),
            connections: watch::Sender::new(0),
            draining: Mutex::default(),
        }
    }
}

/// What a session is entered with.
pub(crate) struct Entry {
    pub rule: Arc<Rule>,
    pub host: HostPattern,
    pub peer: SocketAddr,
    pub accepted: Instant,
    pub metrics: Arc<RuleMetrics>,
}

/// Keeps a session in the register until dropped.
#[derive(Debug)]
pub struct Registered {
    session: Arc<Session>,
    sessions: Arc<Sessions>,
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
        live.remove(&self.session.id);
        let left = live.len();
        drop(live);
        self.sessions.count.store(left, Ordering::Relaxed);
    }
}

impl Sessions {
    /// Enters a session.
    pub(crate) fn enter(self: &Arc<Self>, entry: Entry) -> Registered {
        let session = Arc::new(Session {
            id: self.next.fetch_add(1, Ordering::Relaxed),
            rule: entry.rule,
            host: entry.host,
            peer: entry.peer,
            accepted: entry.accepted,
            started: SystemTime::now(),
            upstream: Mutex::default(),
            counters: SessionCounters::default(),
            metrics: entry.metrics,
            asked: AtomicBool::new(false),
            ending: Mutex::new(None),
            waker: AtomicWaker::new(),
        });
        let mut live = lock(&self.live);
        live.insert(session.id, Arc::clone(&session));
        self.count.store(live.len(), Ordering::Relaxed);
        drop(live);
        if let Some(since) = *lock(&self.draining) {
            session.end(Ending { cause: Cause::Drain, at: since, cut: since + session.drain().timeout });
        }
        Registered { session, sessions: Arc::clone(self) }
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
    pub fn for_each(&self, see: impl FnMut(&Arc<Session>)) {
        lock(&self.live).values().for_each(see);
    }

    /// Asks the sessions that `table` has no place for to end, each within its own route's window.
    pub fn apply(&self, table: &RoutingTable) {
        let mut leaving = Vec::new();
        self.for_each(|session| {
            if let Some(cause) = verdict(table, session) {
                leaving.push((Arc::clone(session), cause));
            }
        });
        leaving.retain(|(session, _)| session.ending().is_none());
        spread(leaving, Instant::now());
    }

    /// Asks one session to end if `table` has no place for it: for a session that was entered under an older
    /// table and found its endpoint after this one had been applied.
    pub(crate) fn recheck(table: &RoutingTable, session: &Arc<Session>) {
        if let Some(cause) = verdict(table, session)
            && session.ending().is_none()
        {
            spread(vec![(Arc::clone(session), cause)], Instant::now());
        }
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
    pub fn longest_drain(&self) -> std::time::Duration {
        let mut longest = std::time::Duration::ZERO;
        self.for_each(|session| longest = longest.max(session.drain().timeout));
        longest
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

/// Why `session` has no place in `table`, if so.
fn verdict(table: &RoutingTable, session: &Session) -> Option<Cause> {
    match table.standing(&session.holding()?) {
        Standing::Kept => None,
        Standing::RuleGone => Some(Cause::RuleGone),
        Standing::EndpointGone => Some(Cause::EndpointGone),
        Standing::EndpointDraining => {
            let close = session.drain().on_endpoint_terminating == OnEndpointTerminating::CloseAfterGrace;
            close.then_some(Cause::EndpointGone)
        }
    }
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
