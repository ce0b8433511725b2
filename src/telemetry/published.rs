//! What the published table holds, as far as metrics go: worked out at the first scrape that asks, not at a change.

use crate::routing::{BackendId, BackendTarget, EndpointState, RoutingTable};
use std::collections::BTreeMap;

/// How many endpoints of a backend are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct BackendEndpoints {
    /// Terminating.
    pub(super) draining: usize,
    /// Neither ready nor terminating.
    pub(super) not_ready: usize,
    /// Open for new sessions.
    pub(super) ready: usize,
}

/// The part of a table that has series of its own.
#[derive(Debug, Default)]
pub(super) struct Content {
    /// Endpoints of every backend.
    pub(super) backends: BTreeMap<BackendId, BackendEndpoints>,
    /// End of validity of every certificate by its source, seconds since 1970.
    pub(super) certificates: BTreeMap<Box<str>, i64>,
}

impl Content {
    pub(super) fn of(table: &RoutingTable) -> Self {
        let mut content = Self::default();
        let weighted = table.routes().flat_map(|route| &route.rules).flat_map(|rule| &rule.backends);
        for weighted in weighted {
            let BackendTarget::Service(backend) = &weighted.target else { continue };
            if !content.backends.contains_key(&backend.id) {
                let count = |state| backend.endpoints.iter().filter(|endpoint| endpoint.state == state).count();
                let endpoints = BackendEndpoints {
                    draining: count(EndpointState::Draining),
                    not_ready: count(EndpointState::NotReady),
                    ready: count(EndpointState::Ready),
                };
                content.backends.insert(backend.id.clone(), endpoints);
            }
        }
        for certificate in table.certificates() {
            content.certificates.entry(certificate.source.clone()).or_insert(certificate.not_after);
        }
        content
    }
}
