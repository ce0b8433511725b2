//! The ground both wings stand on: plain, immutable values that say where a handshake goes.
//!
//! `compile` writes a [`RoutingTable`], `proxy` reads it, and the two never meet. Nothing here does I/O,
//! reads a clock, logs, or knows Kubernetes.
//!
//! Glossary, used strictly everywhere: a *route* is one `WebSocketRoute`; it has *hosts* and *rules*; a rule
//! has *matches* and *backends*; a backend (what an object names) has *endpoints* (one address each).
//! *Downstream* is the client's side of the proxy, *upstream* the service's.

pub mod access;
mod certificate;
mod endpoint;
mod explain;
mod host;
mod index;
mod matching;
mod policy;
mod request;
mod rule;
mod table;

pub use access::Access;
pub use certificate::{Certificate, Roots, UpstreamTls};
pub use endpoint::{
    Address, Backend, BackendId, BackendTarget, Endpoint, EndpointState, Protocol, ProxyVersion, WeightedBackend,
};
pub use explain::{Considered, Explanation, Mismatch};
pub use host::HostPattern;
pub use matching::{FieldMatch, Match, PathMatch, Pattern, Text};
pub use policy::{
    Drain, Keepalive, KeepaliveMode, LoadBalancing, MessageLimits, OnEndpointTerminating, OnExceed, Plaintext, Policy,
    Rates, SessionRates, Timeouts,
};
pub use request::{Request, Scheme, decode_query};
pub use rule::{Route, RouteId, Rule, RuleId};
pub use table::{Found, Holding, NoRoute, RoutingTable, Standing};
