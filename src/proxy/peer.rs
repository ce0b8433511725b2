//! Who is at the other end of a downstream connection.

use std::net::SocketAddr;

/// The two ends of a downstream connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The client's; the port is 0 when only its address is known.
    pub address: SocketAddr,
    /// Ours: the listener's, or the one the connection was accepted on.
    pub local: SocketAddr,
    /// The load balancer's, when the client's is what that says.
    pub via: Option<SocketAddr>,
}

impl Peer {
    /// That of a connection.
    pub fn new(address: SocketAddr, local: SocketAddr) -> Self {
        Self { address, local, via: None }
    }
}
