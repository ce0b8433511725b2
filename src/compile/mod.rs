//! Compile: all objects of one moment to one routing table, and a verdict on each object.
//!
//! Pure, infallible, deterministic: no I/O, no clock, no log; equal snapshots give equal tables. One bad object
//! costs itself and nothing else. Everything is rebuilt each time: no index survives, so none can be stale.
//!
//! ```text
//! Snapshot -> class  -> route (matching, policy, backend, certificate, trust) -> conflict -> RoutingTable
//!               \________________ findings of each object ________________________/ \----> Verdicts
//! ```

mod backend;
mod certificate;
mod class;
mod conflict;
mod matching;
mod policy;
mod route;
mod snapshot;
mod trust;
mod verdict;

pub use certificate::{CertificateError, from_pem};
pub use snapshot::{ObjectKey, Snapshot};
pub use verdict::{Condition, ObjectRef, Verdict, Verdicts};

use crate::routing::{Certificate, RoutingTable};
use backend::Backends;
use certificate::Certificates;
use class::{Claim, Classes};
use route::Draft;
use std::sync::Arc;
use trust::Bundles;

/// What depends on where the objects come from rather than on what they say.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Whether a Service may name a host outside (`externalName`).
    pub allow_external_name: bool,
    /// Whether endpoints may be loopback, link-local or multicast addresses.
    pub allow_local_endpoints: bool,
    /// The name of a default class that stands in while there is no `WebSocketClass` at all.
    pub builtin_class: Option<String>,
    /// Answers for server names that no object has a certificate for.
    pub fallback_certificate: Option<Arc<Certificate>>,
    /// Whether a route of no class is told so; otherwise it is taken for another controller's.
    pub report_unclaimed: bool,
}

impl Options {
    /// The options of a folder: one user owns everything in it.
    pub fn folder() -> Self {
        Self {
            allow_external_name: true,
            allow_local_endpoints: true,
            builtin_class: Some("websocket".to_owned()),
            fallback_certificate: None,
            report_unclaimed: true,
        }
    }
}

/// What a snapshot came to.
#[derive(Clone, Debug, Default)]
pub struct Compiled {
    /// The table.
    pub table: RoutingTable,
    /// What to tell each object.
    pub verdicts: Verdicts,
}

/// What routes may refer to, read on first use and shared.
struct References<'s> {
    backends: Backends<'s>,
    bundles: Bundles<'s>,
    certificates: Certificates<'s>,
}

/// Compiles a snapshot.
pub fn compile(snapshot: &Snapshot, options: &Options) -> Compiled {
    let mut verdicts = Verdicts::default();
    let mut references = References {
        backends: Backends::new(snapshot, options),
        bundles: Bundles::new(snapshot),
        certificates: Certificates::new(snapshot),
    };
    let classes = Classes::read(snapshot, options, &mut references.certificates, &mut verdicts);

    let mut drafts: Vec<Draft> = Vec::with_capacity(snapshot.routes.len());
    for (key, object) in &snapshot.routes {
        match classes.claim(object.spec.class_name.as_deref(), options) {
            Claim::NotOurs => {}
            Claim::Nobody(fault) => drafts.push(route::unclaimed(key, object, fault)),
            Claim::Ours(class) => drafts.push(route::draft(key, object, class, &mut references)),
        }
    }
    conflict::by_age(&mut drafts);
    conflict::settle(&mut drafts);
    let certificates = conflict::certificates(&mut drafts);

    let mut routes = Vec::with_capacity(drafts.len());
    for draft in drafts {
        let programmed = draft.accepted();
        verdicts.add(Verdict {
            object: ObjectRef {
                kind: "WebSocketRoute",
                namespace: draft.route.id.namespace.to_string(),
                name: draft.route.id.name.to_string(),
            },
            generation: draft.generation,
            conditions: draft.findings.conditions(Some(programmed)),
            notes: draft.findings.notes,
        });
        if programmed {
            routes.push(draft.route);
        }
    }
    Compiled { table: RoutingTable::new(routes, certificates, classes.certificate), verdicts }
}
