//! TLS towards clients: which certificate answers, and how sessions resume.
//!
//! The certificate is looked up in the table of the moment at each handshake (RFC 6066 §3), so a swap reaches the
//! next client and touches no live one. Resumption is by tickets that only this process can open; a ticket names
//! the server name it was given under and rustls refuses it under another (RFC 8446 §4.6.1, RFC 6066 §3).

use super::transport::Transport;
use crate::routing::RoutingTable;
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

/// Looks certificates up in the current table.
#[derive(Debug)]
struct Resolver(watch::Receiver<Arc<RoutingTable>>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.borrow().certificate(hello.server_name()).map(|certificate| Arc::clone(&certificate.key))
    }
}

/// Why a TLS handshake came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("TLS handshake failed: {0}")]
    Failed(#[from] std::io::Error),
    #[error("TLS handshake not finished in time")]
    Timeout,
}

/// An acceptor that follows `table`.
///
/// # Errors
/// When the cryptography library has no randomness for the ticket key.
pub fn acceptor(table: watch::Receiver<Arc<RoutingTable>>) -> Result<TlsAcceptor, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Resolver(table)));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
    // One ticket a handshake: a WebSocket client opens one connection, and each ticket costs memory until sent.
    config.send_tls13_tickets = 1;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Does the handshake within `deadline`.
///
/// # Errors
/// [`TlsError`]; the client has been sent the alert that TLS has for it.
pub(crate) async fn accept(
    acceptor: &TlsAcceptor,
    stream: TcpStream,
    deadline: Instant,
) -> Result<Transport, TlsError> {
    let accepted = tokio::time::timeout_at(deadline, acceptor.accept(stream)).await.map_err(|_| TlsError::Timeout)?;
    Ok(Transport::Tls(Box::new(accepted?.into())))
}
