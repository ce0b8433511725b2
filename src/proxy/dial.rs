//! Connects to one endpoint: name lookup, TCP, and TLS where the backend asks for it.
//!
//! Decides how long one attempt may take. Which endpoint, and whether another is tried, is decided in `upstream`.

use super::transport::{Transport, tune};
use super::upstream_tls::UpstreamTlsConfigs;
use crate::routing::{Address, UpstreamTls};
use crate::telemetry::ConnectReason;
use std::io;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

/// Why an endpoint could not be connected to. No byte of the request has been sent.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// No connection.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// The name has no address.
    #[error("cannot resolve the name: {0}")]
    Resolve(io::Error),
    /// Not within `timeouts.backendConnect`.
    #[error("not connected in time")]
    Timeout,
    /// TLS failed, or its settings did not fit.
    #[error("TLS failed: {0}")]
    Tls(io::Error),
}

impl DialError {
    /// The label of metrics.
    pub(super) fn label(&self) -> ConnectReason {
        let error = match self {
            Self::Connect(error) => error,
            Self::Resolve(_) => return ConnectReason::Resolve,
            Self::Timeout => return ConnectReason::Timeout,
            Self::Tls(_) => return ConnectReason::Tls,
        };
        match error.kind() {
            io::ErrorKind::ConnectionRefused => ConnectReason::Refused,
            io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => ConnectReason::Reset,
            io::ErrorKind::TimedOut => ConnectReason::Timeout,
            io::ErrorKind::AddrNotAvailable
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::NetworkUnreachable => ConnectReason::Unreachable,
            _ => ConnectReason::Other,
        }
    }
}

/// Connects to `address` before `deadline`, with TLS if `tls` has settings.
pub(super) async fn dial(
    address: &Address,
    tls: Option<&UpstreamTls>,
    configs: &UpstreamTlsConfigs,
    deadline: Instant,
) -> Result<Transport, DialError> {
    let connected = async {
        let tcp = match address {
            Address::Socket(address) => TcpStream::connect(address).await.map_err(DialError::Connect)?,
            Address::Name(name, port) => by_name(name, *port).await?,
        };
        tune(&tcp).map_err(DialError::Connect)?;
        match tls {
            None => Ok(Transport::Plain(tcp)),
            Some(settings) => configs.connect(tcp, settings).await.map_err(DialError::Tls),
        }
    };
    timeout_at(deadline, connected).await.unwrap_or(Err(DialError::Timeout))
}

/// Tries each address of a name in the resolver's order.
async fn by_name(name: &str, port: u16) -> Result<TcpStream, DialError> {
    let mut last = DialError::Resolve(io::Error::new(io::ErrorKind::NotFound, "no address"));
    for address in tokio::net::lookup_host((name, port)).await.map_err(DialError::Resolve)? {
        match TcpStream::connect(address).await {
            Ok(tcp) => return Ok(tcp),
            Err(error) => last = DialError::Connect(error),
        }
    }
    Err(last)
}
