//! The data plane: accepts, upgrades and relays, by the table it is handed and nothing else.
//!
//! ```text
//! listener ─ PROXY header ─ tls ─ handshake ─ table.find ─ overload, access ─ sessions ─ upstream ─ 101 ─ relay ─ close record
//!                                       │            │               │                      │
//!                                       └── refuse ──┴───────────────┴──────────────────────┘   HTTP status
//! ```
//!
//! [`connection`] shows one connection's whole life. Nothing here knows Kubernetes or where the table comes from.

mod acceptance;
mod access;
mod allowance;
pub mod answer;
mod backlog;
pub mod balance;
mod bucket;
pub mod buckets;
mod close;
pub mod connection;
mod dial;
pub mod downstream_tls;
pub mod expiry;
pub mod fields;
pub mod forward;
#[doc(hidden)]
pub mod frame;
#[doc(hidden)]
pub mod gauge;
mod gcra;
pub mod handshake;
pub mod head;
pub mod hops;
mod insert;
mod keepalive;
mod leg;
pub mod listener;
mod negotiation;
pub mod overload;
pub mod pass;
pub mod peer;
pub mod proxy_protocol;
mod relay;
pub mod sessions;
mod target;
pub mod tls;
pub mod transport;
pub mod upstream;
mod upstream_tls;
pub mod workers;

pub use acceptance::{Acceptance, AcceptanceFault, check as check_acceptance};
pub use access::{Ambiguous, Credential, Edits, Inquiries, find_credential};
pub use dial::DialError;
pub use target::PathFault;
pub use upstream_tls::UpstreamTlsConfigs;

use crate::drain::Draining;
use crate::feedback::Reporter;
use crate::routing::RoutingTable;
use crate::telemetry::Metrics;
use access::{Rates, Verifier};
use allowance::Allowances;
use head::HeadLimits;
use overload::Overload;
use sessions::Sessions;
use std::sync::Arc;
use std::time::Duration;
use tls::TlsServer;
use tokio::sync::watch;
use upstream::Dialer;

/// Bounds that hold before a route is known.
#[derive(Clone, Copy, Debug)]
pub struct ListenerLimits {
    /// For the TLS handshake. Default 5 s.
    pub tls_handshake: Duration,
    /// For everything up to the answer, until the route's own `timeouts.handshake` is known. Default 10 s.
    pub handshake: Duration,
    /// Of the request head.
    pub head: HeadLimits,
}

impl Default for ListenerLimits {
    fn default() -> Self {
        Self { tls_handshake: Duration::from_secs(5), handshake: Duration::from_secs(10), head: HeadLimits::default() }
    }
}

/// What every connection shares.
pub struct Proxy {
    /// The table of the moment.
    pub table: watch::Receiver<Arc<RoutingTable>>,
    /// Live sessions.
    pub sessions: Arc<Sessions>,
    /// The way to endpoints, with their load.
    pub dialer: Dialer,
    /// TLS towards clients.
    pub tls: TlsServer,
    /// Bounds before a route is known.
    pub limits: ListenerLimits,
    /// Whether sessions are also recorded when they open.
    pub record_open: bool,
    /// Every metric.
    pub metrics: Arc<Metrics>,
    /// How far the stop has come.
    pub draining: Draining,
    /// Where the control wing is told of what only this wing can see.
    pub reporter: Reporter,
    /// What is counted to judge the next handshake by.
    pub counts: Counts,
    /// The way to services that decide about handshakes.
    pub inquiries: Inquiries,
    /// What the process as a whole can carry.
    pub overload: Overload,
}

/// Handshakes, as limits count them. Sessions are counted where they are registered.
#[derive(Debug, Default)]
pub struct Counts {
    rates: Rates,
    verifier: Verifier,
    allowances: Allowances,
}
