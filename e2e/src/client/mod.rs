//! The client side, on tokio-tungstenite: single sockets ([`dial`]), many at once ([`fleet`]), handshakes that go on
//! all the time ([`probe`]), and the certificates to do it over TLS ([`certificate`]).

pub mod certificate;
pub mod dial;
pub mod fleet;
pub mod probe;
mod tail;
pub mod token;

use std::time::Instant;

/// How a connection ended, as the client saw it.
#[derive(Clone, Debug)]
pub struct Ending {
    /// The code of the Close as it was on the wire; 1005 without one, 1006 when the connection ended without a Close.
    pub code: u16,
    /// The Close's reason, or what broke.
    pub reason: String,
    /// When.
    pub at: Instant,
}
