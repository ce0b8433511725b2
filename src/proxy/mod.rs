//! The data plane: from an accepted connection to the end of its session.

mod acceptance;
pub mod answer;
pub mod balance;
mod dial;
pub mod fields;
mod forward;
pub mod handshake;
pub mod head;
mod negotiation;
pub mod pass;
pub mod peer;
mod target;
pub mod transport;
pub mod upstream;
mod upstream_tls;

pub use acceptance::AcceptanceFault;
pub use dial::DialError;
pub use target::PathFault;
pub use upstream_tls::UpstreamTlsConfigs;
