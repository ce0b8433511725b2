//! From a compiled table to the readers of the table: publishes it if it differs.

use crate::api::status::{OVERLAPPING_TLS_CONFIG, PARTIALLY_INVALID};
use crate::compile::{Verdict, Verdicts};
use crate::routing::RoutingTable;
use crate::telemetry::Metrics;
use std::sync::Arc;
use tokio::sync::watch;

/// The kind whose verdicts are counted as routes.
const ROUTE: &str = "WebSocketRoute";

/// Publishes `table` if it differs from the one before or is the `first`, and says whether it did. Readers of an equal
/// table are left in peace: they would look every live session over for nothing.
pub fn publish(table: RoutingTable, first: bool, tables: &watch::Sender<Arc<RoutingTable>>, metrics: &Metrics) -> bool {
    if !first && **tables.borrow() == table {
        return false;
    }
    let table = Arc::new(table);
    let _before = tables.send_replace(Arc::clone(&table)); // dropped last: what only it holds takes a while to free
    metrics.published(&table);
    true
}

/// How many routes were accepted, and how many were not.
pub(super) fn count_routes(verdicts: &Verdicts) -> (usize, usize) {
    let routes = verdicts.iter().filter(|verdict| verdict.object.kind == ROUTE);
    routes.fold(
        (0, 0),
        |(accepted, refused), verdict| {
            if verdict.accepted() { (accepted + 1, refused) } else { (accepted, refused + 1) }
        },
    )
}

/// What is wrong with an object, one line for each condition that is not as its owner would wish.
pub(super) fn complaints(verdict: &Verdict) -> impl Iterator<Item = String> {
    let bad = |kind| matches!(kind, OVERLAPPING_TLS_CONFIG | PARTIALLY_INVALID);
    let wrong = verdict.conditions.iter().filter(move |c| c.status == bad(c.kind) && !c.message.is_empty());
    wrong.map(|c| format!("{}: {} is {}, {}: {}", verdict.object, c.kind, c.status, c.reason, c.message))
}
