//! Who is at the other end of a downstream connection.

use std::net::SocketAddr;

/// The two ends of a downstream connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The client's.
    pub address: SocketAddr,
    /// Ours: the listener's, or the one the connection was accepted on.
    pub local: SocketAddr,
}
