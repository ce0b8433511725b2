//! Connects to one endpoint: name lookup, TCP, what is sent before all else, and TLS where the backend asks for it.
//!
//! Decides how long one attempt may take. Which endpoint, and whether another is tried, is decided in `upstream`.

use super::transport::{Transport, tune_upstream};
use super::upstream_tls::UpstreamTlsConfigs;
use crate::routing::{Address, UpstreamTls};
use crate::telemetry::ConnectReason;
use std::io;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

/// Why an endpoint could not be connected to. No byte of the request has been sent.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// No connection.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// The process is at the end of its means.
    #[error("no descriptor or memory is left to connect with: {0}")]
    Exhausted(io::Error),
    /// Every local port is taken towards this endpoint; other endpoints have ports of their own.
    #[error(
        "no local port is left to connect from, or no address of this family: {0}; widen net.ipv4.ip_local_port_range, \
         or add endpoints or replicas"
    )]
    NoPort(io::Error),
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
    /// What a failed connect means.
    fn of_connect(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EADDRNOTAVAIL) => Self::NoPort(error),
            Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => Self::Exhausted(error),
            _ => Self::Connect(error),
        }
    }

    /// Whether the lack is ours and not the endpoint's.
    pub(super) fn is_ours(&self) -> bool {
        matches!(self, Self::Exhausted(_) | Self::NoPort(_))
    }

    /// The label of metrics.
    pub(super) fn label(&self) -> ConnectReason {
        let error = match self {
            Self::Connect(error) => error,
            Self::Exhausted(_) => return ConnectReason::Exhausted,
            Self::NoPort(_) => return ConnectReason::NoPort,
            Self::Resolve(_) => return ConnectReason::Resolve,
            Self::Timeout => return ConnectReason::Timeout,
            Self::Tls(_) => return ConnectReason::Tls,
        };
        match error.kind() {
            io::ErrorKind::ConnectionRefused => ConnectReason::Refused,
            io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => ConnectReason::Reset,
            io::ErrorKind::TimedOut => ConnectReason::Timeout,
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkDown | io::ErrorKind::NetworkUnreachable => {
                ConnectReason::Unreachable
            }
            _ => ConnectReason::Other,
        }
    }
}

/// Connects to `address` before `deadline`, sends `preface` if there is one, and begins TLS if `tls` has settings.
pub(super) async fn dial(
    address: &Address,
    preface: Option<&[u8]>,
    tls: Option<&UpstreamTls>,
    configs: &UpstreamTlsConfigs,
    deadline: Instant,
) -> Result<Transport, DialError> {
    let connected = async {
        let mut tcp = match address {
            Address::Socket(address) => TcpStream::connect(address).await.map_err(DialError::of_connect)?,
            Address::Name(name, port) => by_name(name, *port).await?,
        };
        tune_upstream(&tcp).map_err(DialError::Connect)?;
        if let Some(preface) = preface {
            tcp.write_all(preface).await.map_err(DialError::Connect)?;
        }
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
            Err(error) => last = DialError::of_connect(error),
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_process_lacks_is_told_from_what_the_endpoint_does() {
        let of = |number| DialError::of_connect(io::Error::from_raw_os_error(number));
        for (number, label, ours) in [
            (libc::EADDRNOTAVAIL, ConnectReason::NoPort, true),
            (libc::EMFILE, ConnectReason::Exhausted, true),
            (libc::ENOBUFS, ConnectReason::Exhausted, true),
            (libc::ECONNREFUSED, ConnectReason::Refused, false),
            (libc::EHOSTUNREACH, ConnectReason::Unreachable, false),
            (libc::EACCES, ConnectReason::Other, false),
        ] {
            assert_eq!((of(number).label(), of(number).is_ours()), (label, ours), "{number}");
        }
        assert!(of(libc::EADDRNOTAVAIL).to_string().contains("widen net.ipv4.ip_local_port_range"));
    }
}
