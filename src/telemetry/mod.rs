//! What the rest of the world can see of Sheave: metrics, the log, and one record for each session.
//!
//! The same field words are used in metrics, records, the table and the admin listener. Label values come from the
//! closed sets in [`labels`]; nothing a client sends ever becomes one. What is counted for each message is counted in
//! memory that belongs to its session ([`counters`]), so that the data path shares nothing between cores.

pub mod access;
pub mod cluster;
pub mod counters;
mod exposition;
pub mod labels;
pub mod log;
pub mod metrics;
pub mod overload;
mod process;
mod published;
mod redact;
pub mod rules;

pub use redact::{redact_query, redact_subprotocols};

pub use counters::SessionCounters;
pub use labels::{
    CloseReason, ConnectReason, ControlOpcode, DataOpcode, Direction, HandshakePhase, HandshakeReason, Initiator,
    OverloadCause, Side,
};
pub use metrics::Metrics;
pub use overload::OverloadMetrics;
pub use rules::RuleMetrics;
