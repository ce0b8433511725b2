//! The data plane: from an accepted connection to the end of its session.

pub mod answer;
pub mod balance;
pub mod fields;
pub mod handshake;
pub mod head;
mod negotiation;
pub mod pass;
pub mod peer;
mod target;
pub mod transport;
pub mod upstream;
