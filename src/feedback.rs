//! Feedback: what the data plane tells the control wing, so that a condition or a fresh fetch can follow from it.
//!
//! One bounded channel that never waits: a report that finds it full is dropped, for the next handshake repeats it.

use crate::routing::RouteId;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Reports that may wait to be read.
const WAITING: usize = 256;

/// Something that only the data plane can see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// A token names a key that is not among those at `uri`.
    UnknownKey {
        /// Where its issuer's keys are.
        uri: Arc<str>,
    },
    /// What has become of a provider that asks a service.
    Provider {
        /// The route.
        route: RouteId,
        /// The provider.
        provider: Arc<str>,
        /// Why it cannot decide; `None` when it can again.
        trouble: Option<Arc<str>>,
    },
}

/// Where reports go.
#[derive(Clone, Debug)]
pub struct Reporter(mpsc::Sender<Report>);

impl Reporter {
    /// Says so, unless too much waits already; then it is false, and the report is lost.
    pub fn report(&self, report: Report) -> bool {
        self.0.try_send(report).is_ok()
    }
}

/// A way from the data plane to the control wing.
pub fn channel() -> (Reporter, mpsc::Receiver<Report>) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (Reporter(sender), receiver)
}
