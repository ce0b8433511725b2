//! The data plane: accepts, upgrades and relays, by the table it is handed and nothing else.
//!
//! ```text
//! listener ─ tls ─ handshake ─ table.find ─ sessions ─ upstream ─ answer 101 ─ relay ─ close record
//!                      │            │                      │
//!                      └── refuse ──┴──────────────────────┘   HTTP status, nothing reaches a backend
//! ```
//!
//! [`connection`] shows one connection's whole life. Nothing here knows Kubernetes or where the table comes from.

mod acceptance;
pub mod answer;
pub mod balance;
mod close;
pub mod connection;
mod dial;
pub mod fields;
mod forward;
mod frame;
pub mod handshake;
pub mod head;
mod keepalive;
mod leg;
pub mod listener;
mod negotiation;
pub mod pass;
pub mod peer;
mod relay;
pub mod sessions;
mod target;
pub mod tls;
pub mod transport;
pub mod upstream;
mod upstream_tls;
pub mod workers;

pub use acceptance::AcceptanceFault;
pub use dial::DialError;
pub use target::PathFault;
pub use upstream_tls::UpstreamTlsConfigs;

use crate::drain::Draining;
use crate::routing::RoutingTable;
use crate::telemetry::Metrics;
use head::HeadLimits;
use sessions::Sessions;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
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
    pub tls: TlsAcceptor,
    /// Bounds before a route is known.
    pub limits: ListenerLimits,
    /// Whether sessions are also recorded when they open.
    pub record_open: bool,
    /// Every metric.
    pub metrics: Arc<Metrics>,
    /// How far the stop has come.
    pub draining: Draining,
}
