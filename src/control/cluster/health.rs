//! Health of the watches: which have been answered yet, which fail, and since when.
//!
//! It decides whether the first table may be built and what `/readyz` says until then; nothing here touches
//! traffic. A watch that fails later leaves its objects as they were.

use super::watch::Watch;
use crate::telemetry::cluster::ClusterMetrics;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A watch that has not failed again for this long works again: a failing one is retried more often.
const RECOVERED: Duration = Duration::from_secs(20);

/// How one watch does.
#[derive(Clone, Debug, Default)]
struct Standing {
    listed: bool,
    /// When its failures began.
    failing: Option<Instant>,
    last_failure: Option<Instant>,
    message: Option<String>,
}

/// How all watches do. Shared by them, the admin listener and the metrics.
#[derive(Debug)]
pub struct Health {
    watches: Mutex<BTreeMap<Watch, Standing>>,
    metrics: Arc<ClusterMetrics>,
}

impl Health {
    /// Of no watch yet; counts in `metrics`.
    pub fn new(metrics: Arc<ClusterMetrics>) -> Self {
        Self { watches: Mutex::default(), metrics }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Watch, Standing>> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that there is such a watch.
    pub(super) fn expect(&self, watch: &Watch) {
        self.lock().entry(watch.clone()).or_default();
    }

    /// A watch has brought something.
    pub(super) fn heard(&self, watch: &Watch) {
        self.metrics.watch_heard(watch.kind.plural());
        let mut watches = self.lock();
        let standing = watches.entry(watch.clone()).or_default();
        if standing.failing.take().is_some() {
            tracing::info!(watch = %watch, "the watch works again");
        }
        standing.message = None;
    }

    /// A watch has brought everything there is.
    pub(super) fn listed(&self, watch: &Watch) {
        self.lock().entry(watch.clone()).or_default().listed = true;
    }

    /// A watch has failed. Logged when it is news.
    pub(super) fn failed(&self, watch: &Watch, message: String) {
        self.metrics.watch_failed(watch.kind.plural());
        let now = Instant::now();
        let mut watches = self.lock();
        let standing = watches.entry(watch.clone()).or_default();
        standing.last_failure = Some(now);
        // While the API server is away it is away in several ways by turns; one of them is enough.
        let known = standing.failing.is_some() && standing.listed || standing.message.as_ref() == Some(&message);
        standing.failing.get_or_insert(now);
        if known {
            standing.message = Some(message);
            return;
        }
        if watch.kind.is_optional() {
            tracing::warn!(watch = %watch, "{message}; Sheave serves without");
        } else if standing.listed {
            tracing::warn!(watch = %watch, "{message}; what is known of it stays in use");
        } else {
            tracing::error!(watch = %watch, "{message}");
        }
        standing.message = Some(message);
    }

    /// Why not every watch has brought everything yet, `None` once each has.
    pub fn waiting(&self) -> Option<String> {
        let mut text = String::new();
        for (watch, standing) in self.lock().iter().filter(|(_, standing)| !standing.listed) {
            let why = standing.message.as_deref().unwrap_or("no answer from the API server yet");
            let separator = if text.is_empty() { "" } else { "; " };
            let _ = write!(text, "{separator}{watch}: {why}");
        }
        (!text.is_empty()).then_some(text)
    }

    /// For how long what is known may have been out of date: since the first watch that still fails began to.
    pub(super) fn stale(&self) -> Duration {
        let now = Instant::now();
        let mut longest = Duration::ZERO;
        for (watch, standing) in self.lock().iter_mut() {
            let Some(since) = standing.failing else { continue };
            if standing.last_failure.is_none_or(|last| now.duration_since(last) > RECOVERED) {
                standing.failing = None;
                standing.message = None;
                tracing::info!(watch = %watch, "the watch works again");
            } else if !watch.kind.is_optional() {
                longest = longest.max(now.duration_since(since));
            }
        }
        longest
    }
}

#[cfg(test)]
mod tests {
    use super::super::watch::Kind;
    use super::*;
    use crate::telemetry::Metrics;

    #[test]
    fn says_what_is_waited_for_and_forgets_a_failure_that_is_over() {
        let health = Health::new(Metrics::new(1).cluster());
        let secrets = Watch { kind: Kind::Secret, namespace: Some("shop".into()) };
        health.expect(&secrets);
        assert_eq!(health.waiting().unwrap(), "secrets in shop: no answer from the API server yet");
        health.failed(&secrets, "forbidden".to_owned());
        assert_eq!(health.waiting().unwrap(), "secrets in shop: forbidden");
        assert!(health.stale() > Duration::ZERO);
        health.heard(&secrets);
        health.listed(&secrets);
        assert_eq!((health.waiting(), health.stale()), (None, Duration::ZERO));
    }
}
