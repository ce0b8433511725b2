//! The metrics of overload: which bounds of the process are reached, how many were refused for it, and who waits.

use super::labels::OverloadCause;
use super::metrics::register;
use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

/// The families.
#[derive(Debug)]
pub struct OverloadMetrics {
    reached: IntGaugeVec,
    refused: IntCounterVec,
    queued: IntGauge,
}

impl OverloadMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let reached = Opts::new("sheave_overload", "Whether a bound of the process is reached, by which one: 1 or 0.");
        let refused = Opts::new(
            "sheave_overload_refused_total",
            "Connections refused because a bound of the process was reached.",
        );
        let queued = IntGauge::new("sheave_handshakes_queued", "Handshakes that wait for their turn.");
        let metrics = Self {
            reached: register(registry, IntGaugeVec::new(reached, &["cause"])),
            refused: register(registry, IntCounterVec::new(refused, &["cause"])),
            queued: register(registry, queued),
        };
        for cause in OverloadCause::ALL {
            metrics.reached(*cause, false);
            metrics.refused.with_label_values(&[cause.as_str()]).reset();
        }
        metrics
    }

    /// Says whether a bound is reached.
    pub fn reached(&self, cause: OverloadCause, reached: bool) {
        self.reached.with_label_values(&[cause.as_str()]).set(i64::from(reached));
    }

    /// Counts a connection that was refused.
    pub fn refused(&self, cause: OverloadCause) {
        self.refused.with_label_values(&[cause.as_str()]).inc();
    }

    /// Says how many handshakes wait for their turn.
    pub fn queued(&self, count: usize) {
        self.queued.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}
