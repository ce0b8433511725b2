//! Compile: all objects of one moment to one routing table, and a verdict on each object.
//!
//! Infallible, deterministic: no I/O, no clock, no log; equal snapshots give equal tables. One bad object costs
//! itself and nothing else. [`compile`] works from nothing; a [`Compiler`] remembers, and differs in nothing but time.
//!
//! ```text
//! Snapshot -> class  -> route (matching, policy, backend, certificate, trust) -> conflict -> RoutingTable
//!    |          \________________ findings of each object ________________________/ \----> Verdicts
//!    \-> changes, inputs: which of the routes are to be read anew
//! ```

mod access;
mod backend;
mod certificate;
mod changes;
mod class;
mod compiler;
mod conflict;
mod grant;
mod inputs;
mod joint;
mod key_source;
mod matching;
mod policy;
mod reference;
mod register;
mod route;
mod secret;
mod snapshot;
mod trust;
mod verdict;

pub use access::is_key_set;
pub use certificate::{CertificateError, from_pem};
pub use compiler::Compiler;
pub use key_source::KeySource;
pub use reference::{Reference, Refers, Selection};
pub use secret::{Key, Protected, SecretContent};
pub use snapshot::{KeySet, ObjectKey, Snapshot, Unreadable};
pub use verdict::{Condition, ObjectRef, Verdict, Verdicts};

use crate::routing::{Certificate, RoutingTable};
use std::net::IpAddr;
use std::sync::Arc;

/// What depends on where the objects come from rather than on what they say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Whether a Service may name a host outside (`externalName`).
    pub allow_external_name: bool,
    /// Whether endpoints may be loopback, link-local or multicast addresses.
    pub allow_local_endpoints: bool,
    /// The name of a default class that stands in while there is no `WebSocketClass` at all.
    pub builtin_class: Option<String>,
    /// Answers for server names that no object has a certificate for.
    pub fallback_certificate: Option<Arc<Certificate>>,
    /// Addresses of the proxy itself: an endpoint there would lead a session in a circle.
    pub own_addresses: Vec<IpAddr>,
    /// Whether somebody fetches the keys that routes name by URL and puts them into the next snapshot.
    pub fetches_keys: bool,
}

impl Options {
    /// The options of a cluster, where many own the objects and none may aim the proxy at itself or its machine.
    pub fn cluster(allow_external_name: bool, own_addresses: Vec<IpAddr>) -> Self {
        Self { allow_external_name, own_addresses, fetches_keys: true, ..Self::default() }
    }

    /// The options of a folder: one user owns everything in it. Nobody fetches keys.
    pub fn folder() -> Self {
        Self {
            allow_external_name: true,
            allow_local_endpoints: true,
            builtin_class: Some("websocket".to_owned()),
            fallback_certificate: None,
            own_addresses: Vec::new(),
            fetches_keys: false,
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
    /// URLs whose keys are wanted, each once, in the order of their names.
    pub key_sources: Vec<KeySource>,
}

/// Compiles a snapshot from nothing.
pub fn compile(snapshot: &Snapshot, options: &Options) -> Compiled {
    Compiler::default().compile(snapshot, options)
}
