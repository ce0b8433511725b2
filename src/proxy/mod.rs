//! The data plane: from an accepted connection to the end of its session.

pub mod answer;
pub mod balance;
pub mod handshake;
pub mod head;
pub mod pass;
pub mod peer;
pub mod transport;
pub mod upstream;
