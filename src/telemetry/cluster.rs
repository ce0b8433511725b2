//! The metrics of the controller: how the API server is followed and what is written to it. Only a process that follows
//! a cluster has them.

use prometheus::{Gauge, GaugeVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The families. Made by [`super::Metrics::cluster`].
#[derive(Debug)]
pub struct ClusterMetrics {
    stale: Gauge,
    watch_errors: IntCounterVec,
    watch_events: GaugeVec,
    status_writes: IntCounterVec,
    statuses_due: IntGauge,
    leader: IntGauge,
    outdated: IntGaugeVec,
}

impl ClusterMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        use super::metrics::register;
        let errors = Opts::new("sheave_watch_errors_total", "Failures of watches, by the resource watched.");
        let events = Opts::new(
            "sheave_watch_last_event_timestamp_seconds",
            "When a watch last brought something, by the resource watched.",
        );
        let writes = Opts::new("sheave_status_writes_total", "Statuses written, by whether that worked.");
        let outdated = Opts::new(
            "sheave_crd_outdated",
            "Whether the cluster's CRD lacks fields that this Sheave knows, by resource: 1 or 0.",
        );
        let metrics = Self {
            stale: register(
                registry,
                Gauge::new(
                    "sheave_config_stale_seconds",
                    "For how long the API server has not answered every watch; 0 while it does.",
                ),
            ),
            watch_errors: register(registry, IntCounterVec::new(errors, &["kind"])),
            watch_events: register(registry, GaugeVec::new(events, &["kind"])),
            status_writes: register(registry, IntCounterVec::new(writes, &["result"])),
            statuses_due: register(
                registry,
                IntGauge::new(
                    "sheave_statuses_due",
                    "Statuses in the cluster that differ from what this process says, whether or not it writes them.",
                ),
            ),
            leader: register(
                registry,
                IntGauge::new("sheave_leader", "Whether this process holds the lease and writes statuses: 1 or 0."),
            ),
            outdated: register(registry, IntGaugeVec::new(outdated, &["kind"])),
        };
        for result in ["ok", "error"] {
            metrics.status_writes.with_label_values(&[result]).reset();
        }
        metrics
    }

    /// A watch of `kind` brought something.
    pub fn watch_heard(&self, kind: &str) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.watch_events.with_label_values(&[kind]).set(now.as_secs_f64());
        self.watch_errors.with_label_values(&[kind]).inc_by(0);
    }

    /// A watch of `kind` failed.
    pub fn watch_failed(&self, kind: &str) {
        self.watch_errors.with_label_values(&[kind]).inc();
    }

    /// For how long what is known may have been out of date.
    pub fn stale(&self, since: Duration) {
        self.stale.set(since.as_secs_f64());
    }

    /// A status was written, or could not be.
    pub fn status_written(&self, ok: bool) {
        self.status_writes.with_label_values(&[if ok { "ok" } else { "error" }]).inc();
    }

    /// How many statuses differ from what this process says.
    pub fn statuses_due(&self, due: usize) {
        self.statuses_due.set(i64::try_from(due).unwrap_or(i64::MAX));
    }

    /// Whether this process holds the lease.
    pub fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// Whether the CRD of `kind` lacks fields.
    pub fn outdated(&self, kind: &str, outdated: bool) {
        self.outdated.with_label_values(&[kind]).set(i64::from(outdated));
    }
}
