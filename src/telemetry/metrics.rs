//! Every metric family of Sheave, and the handles that the other modules count with.
//!
//! Labels `class`, `route_namespace`, `route` and `rule` come from configuration and are bounded by a cap on rules:
//! what comes after it is counted under `_overflow`. A rule's series go [`FORGET_AFTER`] after the rule has left the
//! table and its last session has ended. How the numbers become text is in [`super::exposition`].

use super::cluster::ClusterMetrics;
use super::counters::{SIZE_BUCKETS, SessionCounters};
use super::exposition;
use super::labels::{HandshakePhase, HandshakeReason, Side};
use super::overload::OverloadMetrics;
use super::published::Content;
use super::rules::{BackendMetrics, Ledger, RuleLabels, RuleMetrics};
use crate::routing::{BackendId, RoutingTable, RuleId};
use prometheus::{
    Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::runtime::Handle;

/// How many rules get series of their own unless said otherwise.
pub const MAX_RULES: usize = 5000;

/// How long the series of a rule stay after it has left the table.
pub const FORGET_AFTER: Duration = Duration::from_secs(15 * 60);

const HANDSHAKE_SECONDS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
const CONNECTION_SECONDS: [f64; 12] =
    [1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14_400.0, 43_200.0, 86_400.0];
const PING_SECONDS: [f64; 11] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

/// Shows every live session's counters to its argument.
pub type Live = dyn Fn(&mut dyn FnMut(&RuleMetrics, &SessionCounters)) + Send + Sync;

/// What became of one reading of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reload {
    /// Documents that could not be read; 0 is success.
    pub problems: usize,
    /// Routes that were accepted and that were not; `None` when the last good table was kept.
    pub routes: Option<(usize, usize)>,
    /// From the start of the reading to the compiled table.
    pub build: Duration,
}

/// Every family. One for the process; shared by `Arc`.
pub struct Metrics {
    registry: Registry,
    pub(super) state: Mutex<State>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) live: OnceLock<Box<Live>>,
    unrouted: Arc<RuleMetrics>,
    handshake_duration: HistogramVec,
    ping_rtt: HistogramVec,
    config: Config,
    certificates: IntGaugeVec,
    draining: IntGauge,
    drain_forced: IntCounter,
    accept_errors: IntCounter,
    series_dropped: IntCounter,
    overload: OverloadMetrics,
    cluster: OnceLock<Arc<ClusterMetrics>>,
    /// The runtime of each thread, by the thread's name.
    runtimes: Mutex<Vec<(String, Handle)>>,
    max_rules: usize,
}

struct Config {
    generation: IntGauge,
    last_success: Gauge,
    last_successful: IntGauge,
    build: Gauge,
    problems: IntGauge,
    routes: IntGaugeVec,
}

/// What comes and goes with configuration.
#[derive(Default)]
pub(super) struct State {
    pub(super) rules: HashMap<RuleId, Arc<RuleMetrics>>,
    pub(super) overflow: Option<Arc<RuleMetrics>>,
    pub(super) backends: BTreeMap<BackendId, Arc<BackendMetrics>>,
    table: Arc<RoutingTable>,
    /// What is in the table, once it was asked for.
    content: Option<Arc<Content>>,
    gone: HashMap<RuleId, Instant>,
    numbers: u64,
}

impl State {
    fn rule(&mut self, labels: RuleLabels, ledger: &Arc<Ledger>) -> Arc<RuleMetrics> {
        self.numbers += 1;
        Arc::new(RuleMetrics::new(self.numbers, labels, Arc::clone(ledger)))
    }

    /// Drops the series of rules and backends that have left the table, whose content is `content`, and have nothing
    /// left to count.
    pub(super) fn forget(&mut self, now: Instant, content: &Content) {
        let Self { rules, backends, table, gone, .. } = self;
        gone.retain(|id, _| !table.has_rule(id));
        rules.retain(|id, rule| {
            if table.has_rule(id) {
                return true;
            }
            let since = *gone.entry(id.clone()).or_insert(now);
            // A second owner is a handshake under way that has yet to be counted.
            let unused = rule.active() == 0 && Arc::strong_count(rule) == 1;
            !unused || now.duration_since(since) < FORGET_AFTER
        });
        gone.retain(|id, _| rules.contains_key(id));
        backends.retain(|id, backend| content.backends.contains_key(id) || Arc::strong_count(backend) > 1);
    }
}

/// Registers a family. Names are literals of this file, each used once: a failure is a fault of the program.
pub(super) fn register<C: prometheus::core::Collector + Clone + 'static>(
    registry: &Registry,
    made: Result<C, prometheus::Error>,
) -> C {
    let family = made.expect("the names and labels of metric families are valid literals");
    registry.register(Box::new(family.clone())).expect("no two metric families share a name");
    family
}

fn buckets(name: &str, help: &str, bounds: &[f64]) -> HistogramOpts {
    HistogramOpts::new(name, help).buckets(bounds.to_vec())
}

impl Metrics {
    /// Makes every family; at most `max_rules` rules get series of their own ([`MAX_RULES`] by default).
    ///
    /// # Panics
    /// Never: the names of families are literals that a test registers.
    pub fn new(max_rules: usize) -> Arc<Self> {
        let registry = Registry::new();
        let r = &registry;
        let gauge = |name: &str, help: &str| register(r, IntGauge::new(name, help));
        let counter = |name: &str, help: &str| register(r, IntCounter::new(name, help));
        let seconds = |name: &str, help: &str| register(r, Gauge::new(name, help));
        let gauges =
            |name: &str, help: &str, label: &str| register(r, IntGaugeVec::new(Opts::new(name, help), &[label]));
        let timer = |name: &str, help: &str, bounds: &[f64], label: &str| {
            register(r, HistogramVec::new(buckets(name, help, bounds), &[label]))
        };
        let durations = buckets(
            "sheave_connection_duration_seconds",
            "How long ended sessions lasted, from the 101 on.",
            &CONNECTION_SECONDS,
        );
        let codes =
            Opts::new("sheave_close_code_total", "Ended sessions by close code; others than 1000-1015 by family.");
        let ledger = Arc::new(Ledger {
            gate: RwLock::new(()),
            sizes: Mutex::default(),
            durations: register(r, Histogram::with_opts(durations)),
            codes: register(r, IntCounterVec::new(codes, &["code"])),
        });
        let info = gauges("sheave_build_info", "Always 1; the label says which version runs.", "version");
        info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let config = Config {
            generation: gauge("sheave_config_generation", "How many tables have been published."),
            last_success: seconds(
                "sheave_config_last_success_timestamp_seconds",
                "When the configuration was last read without a problem, or 0.",
            ),
            last_successful: gauge(
                "sheave_config_last_reload_successful",
                "Whether the last reading had no problem: 1 or 0.",
            ),
            build: seconds("sheave_config_build_seconds", "How long the last reading took to become a table."),
            problems: gauge("sheave_config_problems", "Documents of the last reading that could not be read."),
            routes: gauges("sheave_routes", "Routes of the last table, by whether they were accepted.", "accepted"),
        };
        let metrics = Arc::new(Self {
            unrouted: Arc::new(RuleMetrics::new(0, RuleLabels::all(""), Arc::clone(&ledger))),
            handshake_duration: timer(
                "sheave_handshake_duration_seconds",
                "How long the parts of handshakes took.",
                &HANDSHAKE_SECONDS,
                "phase",
            ),
            ping_rtt: timer("sheave_ping_rtt_seconds", "From our pings to their pongs.", &PING_SECONDS, "side"),
            certificates: gauges(
                "sheave_certificate_not_after_timestamp_seconds",
                "When the certificates in use cease to be valid.",
                "secret",
            ),
            draining: gauge("sheave_draining", "Whether Sheave is stopping: 1 or 0."),
            drain_forced: counter("sheave_drain_forced_total", "Sessions cut because a drain ran out of time."),
            accept_errors: counter("sheave_accept_errors_total", "Connections that the system could not hand over."),
            series_dropped: counter(
                "sheave_metrics_series_dropped_total",
                "Times a rule was counted under _overflow because the cap on rules was reached.",
            ),
            overload: OverloadMetrics::new(r),
            config,
            ledger,
            state: Mutex::default(),
            live: OnceLock::new(),
            cluster: OnceLock::new(),
            runtimes: Mutex::default(),
            max_rules,
            registry: registry.clone(),
        });
        let collector = exposition::Collected::of(&metrics);
        registry.register(Box::new(collector)).expect("no two metric families share a name");
        metrics
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says how to reach the counters of live sessions. The first callback stays. It runs at each scrape, while no
    /// session can be folded; a session is to be shown from before its 101 until after [`RuleMetrics::closed`].
    pub fn watch_live(&self, live: Box<Live>) {
        let _first = self.live.set(live);
    }

    /// Has the tasks of a thread's runtime counted at each scrape, under the thread's name.
    pub fn watch_tasks(&self, thread: &str, runtime: &Handle) {
        self.runtimes().push((thread.to_owned(), runtime.clone()));
    }

    pub(super) fn runtimes(&self) -> MutexGuard<'_, Vec<(String, Handle)>> {
        self.runtimes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The counters of a rule. Takes a lock: call it once for each session and keep the handle.
    pub fn rule(&self, id: &RuleId, class: &Arc<str>) -> Arc<RuleMetrics> {
        let mut state = self.lock();
        if let Some(rule) = state.rules.get(id)
            && rule.labels.class == *class
        {
            return Arc::clone(rule);
        }
        // A rule that moved to another class starts anew under the same place.
        if state.rules.len() < self.max_rules || state.rules.contains_key(id) {
            let rule = state.rule(RuleLabels::of(id, class), &self.ledger);
            state.rules.insert(id.clone(), Arc::clone(&rule));
            return rule;
        }
        self.series_dropped.inc();
        if let Some(overflow) = &state.overflow {
            return Arc::clone(overflow);
        }
        let overflow = state.rule(RuleLabels::all("_overflow"), &self.ledger);
        state.overflow = Some(Arc::clone(&overflow));
        overflow
    }

    /// Where handshakes are counted that reached no rule; its labels are empty.
    pub fn unrouted(&self) -> &Arc<RuleMetrics> {
        &self.unrouted
    }

    /// The counters of a backend. Takes a lock: call it once for each session.
    pub fn backend(&self, id: &BackendId) -> Arc<BackendMetrics> {
        let mut state = self.lock();
        if let Some(backend) = state.backends.get(id) {
            return Arc::clone(backend);
        }
        Arc::clone(state.backends.entry(id.clone()).or_default())
    }

    /// Counts a handshake that reached no rule.
    pub fn unrouted_handshake(&self, reason: HandshakeReason) {
        self.unrouted.handshake(reason);
    }

    /// Records how long a part of a handshake took.
    pub fn handshake_took(&self, phase: HandshakePhase, duration: Duration) {
        self.handshake_duration.with_label_values(&[phase.as_str()]).observe(duration.as_secs_f64());
    }

    /// Records the round trip of a ping of ours.
    pub fn ping_took(&self, side: Side, rtt: Duration) {
        self.ping_rtt.with_label_values(&[side.as_str()]).observe(rtt.as_secs_f64());
    }

    /// Counts a connection that the system could not hand over.
    pub fn accept_failed(&self) {
        self.accept_errors.inc();
    }

    /// The metrics of the bounds of the process.
    pub fn overload(&self) -> &OverloadMetrics {
        &self.overload
    }

    /// Says that the process is stopping.
    pub fn drain_started(&self) {
        self.draining.set(1);
    }

    /// Counts a session that was cut because a drain ran out of time.
    pub fn drain_forced(&self) {
        self.drain_forced.inc();
    }

    /// Records what became of a reading of the configuration.
    pub fn reloaded(&self, reload: &Reload) {
        let successful = reload.problems == 0;
        self.config.last_successful.set(i64::from(successful));
        self.config.problems.set(count(reload.problems));
        self.config.build.set(reload.build.as_secs_f64());
        if let Some((accepted, refused)) = reload.routes {
            self.config.routes.with_label_values(&["true"]).set(count(accepted));
            self.config.routes.with_label_values(&["false"]).set(count(refused));
        }
        if successful {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            self.config.last_success.set(now.as_secs_f64());
        }
    }

    /// Takes note of a table that has just been published. What is in it is looked at by the next scrape.
    pub fn published(&self, table: &Arc<RoutingTable>) {
        self.config.generation.inc();
        let mut state = self.lock();
        let before = (std::mem::replace(&mut state.table, Arc::clone(table)), state.content.take());
        drop(state);
        drop(before); // takes its time, which no handshake shall wait for
    }

    /// The metrics of a process that follows a cluster, made at the first call.
    pub fn cluster(&self) -> Arc<ClusterMetrics> {
        Arc::clone(self.cluster.get_or_init(|| Arc::new(ClusterMetrics::new(&self.registry))))
    }

    /// What is in the published table. Worked out without the lock, for handshakes take it.
    pub(super) fn content(&self) -> Arc<Content> {
        let state = self.lock();
        if let Some(content) = &state.content {
            return Arc::clone(content);
        }
        let table = Arc::clone(&state.table);
        drop(state);
        let content = Arc::new(Content::of(&table));
        self.certificates.reset();
        for (source, not_after) in &content.certificates {
            self.certificates.with_label_values(&[source]).set(*not_after);
        }
        let mut state = self.lock();
        if Arc::ptr_eq(&state.table, &table) {
            state.content = Some(Arc::clone(&content));
        }
        content
    }

    /// Everything as Prometheus text, version 0.0.4. Takes time in proportion to routes, rules and live sessions.
    pub fn expose(&self) -> String {
        let content = self.content();
        self.lock().forget(Instant::now(), &content);
        let mut text = String::new();
        let encoded = prometheus::TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text);
        if let Err(error) = encoded {
            tracing::error!(%error, "cannot write metrics; this is a fault of Sheave");
        }
        text
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.get() != 0
    }

    pub(super) fn unrouted_ref(&self) -> &RuleMetrics {
        &self.unrouted
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Bounds of the message size buckets as Prometheus wants them.
pub(super) fn size_bounds() -> impl Iterator<Item = f64> {
    SIZE_BUCKETS.iter().map(|bound| *bound as f64)
}
