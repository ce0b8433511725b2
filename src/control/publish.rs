//! From a compiled table to the readers of the table: publishes it if it differs, and says what is in it.

use crate::api::status::{OVERLAPPING_TLS_CONFIG, PARTIALLY_INVALID};
use crate::compile::{Compiled, Verdict};
use crate::routing::{BackendTarget, EndpointState, RoutingTable};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::{BackendEndpoints, Published};
use std::collections::HashSet;
use std::sync::Arc;
use tokio::sync::watch;

/// The kind whose verdicts are counted as routes.
const ROUTE: &str = "WebSocketRoute";

/// Publishes `table` if it differs from the one before or is the `first`, and says whether it did. Readers of an equal
/// table are left in peace: they would look every live session over for nothing.
pub(super) fn publish(
    table: RoutingTable,
    first: bool,
    tables: &watch::Sender<Arc<RoutingTable>>,
    metrics: &Metrics,
) -> bool {
    if !first && **tables.borrow() == table {
        return false;
    }
    metrics.published(published(&table));
    tables.send_replace(Arc::new(table));
    true
}

/// How many routes were accepted, and how many were not.
pub(super) fn count_routes(compiled: &Compiled) -> (usize, usize) {
    let routes = || compiled.verdicts.iter().filter(|verdict| verdict.object.kind == ROUTE);
    let accepted = routes().filter(|verdict| verdict.accepted()).count();
    (accepted, routes().count() - accepted)
}

/// What is wrong with an object, one line for each condition that is not as its owner would wish.
pub(super) fn complaints(verdict: &Verdict) -> impl Iterator<Item = String> {
    let bad = |kind| matches!(kind, OVERLAPPING_TLS_CONFIG | PARTIALLY_INVALID);
    let wrong = verdict.conditions.iter().filter(move |c| c.status == bad(c.kind) && !c.message.is_empty());
    wrong.map(|c| format!("{}: {} is {}, {}: {}", verdict.object, c.kind, c.status, c.reason, c.message))
}

fn published(table: &RoutingTable) -> Published {
    let mut content = Published::default();
    for rule in table.routes().flat_map(|route| &route.rules) {
        content.rules.insert(rule.id.clone());
        for weighted in &rule.backends {
            let BackendTarget::Service(backend) = &weighted.target else { continue };
            content.backends.entry(backend.id.clone()).or_insert_with(|| {
                let count = |state| backend.endpoints.iter().filter(|endpoint| endpoint.state == state).count();
                BackendEndpoints {
                    draining: count(EndpointState::Draining),
                    not_ready: count(EndpointState::NotReady),
                    ready: count(EndpointState::Ready),
                }
            });
        }
    }
    let mut seen = HashSet::new();
    for certificate in table.certificates().filter(|certificate| seen.insert(certificate.source.clone())) {
        content.certificates.insert(certificate.source.clone(), certificate.not_after);
    }
    content
}
