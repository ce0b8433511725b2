//! Overload: what the process as a whole can carry. New handshakes are turned away at its bounds; live sessions go on.
//!
//! ```text
//! accept ─ TLS ─ head ─ route ─ places, descriptors, memory ─ address, origin, rate ─ turn ─ credential ... backend
//!    │                                    │                                           │
//!    └ last descriptors: close            └ 503                                       └ wait in line; 503 if it is full
//! ```
//!
//! A client can be told 503 only once its TLS handshake is paid for and its request is read, so that is where bounds are
//! asked: a refusal names its cause and when to come back, at random within [`LONGEST_WAIT`], so that those refused
//! together do not come back together. Only when descriptors have all but run out is a connection closed as it is
//! accepted, without a word, for the control wing needs the last ones. What is refused for reasons of its own waits in
//! no line, and whoever has a place in line has a place among the sessions, too: nobody waits in vain.
//!
//! Readiness does not know of this module. Were it to turn with the load, every pod would leave its Service in a storm,
//! one after the other, and each would leave a larger storm to the rest.

mod descriptors;
mod memory;
mod pace;

pub use memory::Memory;

use super::Proxy;
use super::access::Denial;
use super::transport::Transport;
use crate::telemetry::{HandshakePhase, HandshakeReason, OverloadCause};
use descriptors::Descriptors;
use futures_util::FutureExt;
use http::StatusCode;
use pace::{NoTurn, Pace};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// The longest, in seconds, that a client is told to wait.
const LONGEST_WAIT: u32 = 30;

/// How often memory is looked at, and the gauges are brought up to date.
const SAMPLE: Duration = Duration::from_millis(250);

/// The bounds of the process.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Live sessions; `None` for as many as the limit of open files allows.
    pub max_connections: Option<usize>,
    /// Of the memory that the control group may have, 1 to 100; 0 for no bound. Default 90.
    pub max_memory_percent: u8,
    /// Handshakes that go on in a second; `None` for no pace.
    pub handshakes_per_second: Option<u32>,
    /// Handshakes that may wait for their turn. Default 4096.
    pub handshake_queue: usize,
    /// What memory there is; asked four times a second. Default that of the control group.
    pub memory: fn() -> Option<Memory>,
    /// How many descriptors the process may have open; `None` for any number. Default `RLIMIT_NOFILE`.
    pub descriptors: Option<u64>,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            max_connections: None,
            max_memory_percent: 90,
            handshakes_per_second: None,
            handshake_queue: 4096,
            memory: memory::of_control_group,
            descriptors: descriptors::limit(),
        }
    }
}

/// What the process carries, beside its bounds.
#[derive(Debug)]
pub struct Overload {
    sessions: Option<usize>,
    live: Arc<AtomicUsize>,
    descriptors: Option<Descriptors>,
    memory: fn() -> Option<Memory>,
    memory_percent: u8,
    memory_full: AtomicBool,
    pace: Option<Pace>,
}

/// A place among the sessions there may be; given back when dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why a handshake does not get its turn.
#[derive(Debug)]
pub(super) enum Turned {
    /// It is refused.
    Away(Denial),
    /// Its client left meanwhile.
    Gone,
}

impl Overload {
    /// Takes the bounds, and says in the log where they contradict each other.
    pub fn new(bounds: &Bounds) -> Self {
        let descriptors = bounds.descriptors.map(Descriptors::new);
        if let (Some(wanted), Some(descriptors)) = (bounds.max_connections, descriptors)
            && wanted > descriptors.sessions()
        {
            tracing::warn!(
                max_connections = wanted,
                open_files = bounds.descriptors,
                "so many connections need two descriptors each: raise the limit of open files, or lower the number"
            );
        }
        Self {
            sessions: bounds.max_connections.or(descriptors.map(Descriptors::sessions)),
            live: Arc::default(),
            descriptors,
            memory: bounds.memory,
            memory_percent: bounds.max_memory_percent,
            memory_full: AtomicBool::new(false),
            pace: bounds.handshakes_per_second.map(|limit| Pace::new(limit, bounds.handshake_queue)),
        }
    }

    /// Whether `stream`, just accepted, took one of the last descriptors: the kernel gives the lowest one that is free.
    pub(super) fn is_last(&self, stream: &TcpStream) -> bool {
        self.descriptors.is_some_and(|descriptors| descriptors.are_out(stream.as_raw_fd()))
    }

    /// Takes a place for the handshake on `downstream`.
    pub(super) fn enter(&self, proxy: &Proxy, downstream: &Transport) -> Result<Place, Denial> {
        if self.descriptors.is_some_and(|descriptors| descriptors.are_scarce(downstream.tcp().as_raw_fd())) {
            return Err(refuse(
                proxy,
                OverloadCause::Descriptors,
                "few descriptors are left: raise the limit of files",
            ));
        }
        if self.memory_full.load(Ordering::Relaxed) {
            return Err(refuse(proxy, OverloadCause::Memory, "memory is near its bound"));
        }
        let most = self.sessions.unwrap_or(usize::MAX);
        let one_more = |live: usize| (live < most).then_some(live + 1);
        match self.live.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more) {
            Ok(_) => Ok(Place(Arc::clone(&self.live))),
            Err(_) => Err(refuse(proxy, OverloadCause::Connections, format!("{most} connections are open"))),
        }
    }

    /// Waits for the handshake's turn, first come, first served.
    pub(super) async fn turn(&self, proxy: &Proxy, downstream: &Transport, deadline: Instant) -> Result<(), Turned> {
        let Some(pace) = &self.pace else { return Ok(()) };
        let began = Instant::now();
        let away = |detail| Err(Turned::Away(refuse(proxy, OverloadCause::Queue, detail)));
        match pace.turn(deadline).await {
            Ok(false) => Ok(()),
            Ok(true) => {
                proxy.metrics.handshake_took(HandshakePhase::Queue, began.elapsed());
                if is_gone(downstream.tcp()) {
                    pace.give_back();
                    return Err(Turned::Gone);
                }
                Ok(())
            }
            Err(NoTurn::Full) => away("as many handshakes wait as may"),
            Err(NoTurn::Late) => away("its turn did not come in time"),
        }
    }

    /// Which bounds are reached at the moment.
    fn reached(&self, cause: OverloadCause) -> bool {
        match cause {
            OverloadCause::Connections => self.sessions.is_some_and(|most| self.live.load(Ordering::Relaxed) >= most),
            OverloadCause::Descriptors => self.descriptors.is_some_and(Descriptors::look),
            OverloadCause::Memory => self.memory_full.load(Ordering::Relaxed),
            OverloadCause::Queue => self.pace.as_ref().is_some_and(Pace::is_full),
        }
    }

    /// Looks at memory and brings the gauges up to date, for ever.
    async fn sample(&self, proxy: &Proxy) {
        let mut before = [false; OverloadCause::ALL.len()];
        let mut ticks = tokio::time::interval(SAMPLE);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if self.memory_percent > 0 {
                let full = (self.memory)().is_some_and(|memory| memory.is_above(self.memory_percent));
                self.memory_full.store(full, Ordering::Relaxed);
            }
            let metrics = proxy.metrics.overload();
            metrics.queued(self.pace.as_ref().map_or(0, Pace::waiting));
            for (cause, before) in OverloadCause::ALL.iter().zip(&mut before) {
                let now = self.reached(*cause);
                metrics.reached(*cause, now);
                match (std::mem::replace(before, now), now) {
                    (false, true) => tracing::warn!(%cause, "overloaded: new handshakes get 503, live sessions go on"),
                    (true, false) => tracing::info!(%cause, "no longer overloaded"),
                    _ => {}
                }
            }
        }
    }
}

/// Everything that goes on beside the handshakes, for ever. Belongs to one worker.
pub(super) async fn run(proxy: Arc<Proxy>) {
    let overload = &proxy.overload;
    let deal = async {
        match &overload.pace {
            Some(pace) => pace.deal().await,
            None => std::future::pending().await,
        }
    };
    tokio::join!(overload.sample(&proxy), deal);
}

fn refuse(proxy: &Proxy, cause: OverloadCause, detail: impl Into<std::borrow::Cow<'static, str>>) -> Denial {
    proxy.metrics.overload().refused(cause);
    let text = "overloaded: try again later";
    let mut denial = Denial::new(StatusCode::SERVICE_UNAVAILABLE, HandshakeReason::Overloaded, text);
    denial.refusal = denial.refusal.retry_after(fastrand::u32(1..=LONGEST_WAIT));
    denial.detailed(detail)
}

/// Whether the peer has closed or reset. One that has only shut down its half counts as gone: it cannot speak
/// WebSocket any more.
fn is_gone(tcp: &TcpStream) -> bool {
    matches!(tcp.peek(&mut [0]).now_or_never(), Some(Ok(0) | Err(_)))
}
