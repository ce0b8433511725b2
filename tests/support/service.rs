//! The service behind the route: a listener that does nothing until the test takes a connection from it.
//!
//! Connections that nobody took stay in its backlog, which is how a test sees that a refused handshake reached
//! nobody: a dial is in the backlog before the proxy can answer anything about it.

use super::head::Head;
use super::wire::{DEADLINE, Wire};
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};

/// A listener behind the route.
pub struct Service {
    listener: TcpListener,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Service {
    /// Listens on a free port.
    pub fn start() -> Self {
        Self::at(([127, 0, 0, 1], 0).into()).expect("a free port")
    }

    /// Listens at `address`.
    ///
    /// # Errors
    /// It is taken.
    pub fn at(address: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        socket2::SockRef::from(&listener).set_read_timeout(Some(DEADLINE))?; // bounds accept as well
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Two on one port of two loopback addresses: the endpoints of one slice.
    pub fn twins() -> (Self, Self) {
        let pair = || {
            let first = Self::start();
            let second = Self::at(([127, 0, 0, 2], first.address.port()).into()).ok()?;
            Some((first, second))
        };
        (0..100).find_map(|_| pair()).expect("a port that is free on both")
    }

    /// Takes the next connection.
    pub fn accept(&self) -> Wire {
        let (stream, _) = self.listener.accept().expect("the proxy dials");
        Wire::plain(stream)
    }

    /// Takes the next connection and the request on it.
    pub fn request(&self) -> (Wire, Head) {
        let mut wire = self.accept();
        let head = wire.head();
        (wire, head)
    }

    /// Whether nobody has dialled since the last connection was taken.
    pub fn is_untouched(&self) -> bool {
        self.listener.set_nonblocking(true).expect("a socket");
        let accepted = self.listener.accept();
        self.listener.set_nonblocking(false).expect("a socket");
        matches!(accepted, Err(e) if e.kind() == ErrorKind::WouldBlock)
    }
}

/// `Sec-WebSocket-Accept` for the key of `request`, by an implementation that is not ours.
pub fn accept_for(request: &Head) -> String {
    let key = request.get("Sec-WebSocket-Key").expect("a key");
    tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes())
}

/// A right answer to `request` with more header lines, separated by `|`.
pub fn switching(request: &Head, with: &str) -> Vec<u8> {
    let more: String = with.split('|').filter(|l| !l.is_empty()).flat_map(|l| [l, "\r\n"]).collect();
    let accept = accept_for(request);
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n{more}\r\n"
    )
    .into_bytes()
}
