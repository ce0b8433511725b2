//! TLS towards clients: which certificate answers, who is asked for one of theirs, and how sessions resume.
//!
//! The certificate is looked up in the table of the moment at each handshake (RFC 6066 §3), so a swap reaches the
//! next client and touches no live one. Resumption is by tickets that only this process can open; a ticket names
//! the server name it was given under and rustls refuses it under another (RFC 8446 §4.6.1, RFC 6066 §3).
//!
//! Clients are asked for a certificate only under the server names of routes that want to see one, for a browser asks
//! its user. What they show is held to prove possession of the key and to nothing else: whether it is valid is the
//! route's question, and the route is not known before the request. A resumed session keeps the certificate it began
//! with, and the route judges that again. Those who are asked have tickets of their own, so that no session that began
//! without the question resumes where it is asked.

use super::access::PresentedCertificate;
use super::downstream_tls::{DownstreamTls, more};
use super::transport::Transport;
use crate::routing::RoutingTable;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{Acceptor, ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};
use std::io;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// Looks certificates up in the current table.
#[derive(Debug)]
struct Resolver(watch::Receiver<Arc<RoutingTable>>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.borrow().certificate(hello.server_name()).map(|certificate| Arc::clone(&certificate.key))
    }
}

/// Asks for a certificate, takes any or none, and has the client prove that it holds the key.
#[derive(Debug)]
struct Possession(WebPkiSupportedAlgorithms);

impl ClientCertVerifier for Possession {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// None: which authorities count is known only with the route.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// Why a TLS handshake came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsError {
    #[error("TLS handshake failed: {0}")]
    Failed(#[from] io::Error),
    #[error("TLS handshake not finished in time")]
    Timeout,
}

/// TLS with the clients of a table.
#[derive(Clone, Debug)]
pub struct TlsServer {
    table: watch::Receiver<Arc<RoutingTable>>,
    plain: Arc<ServerConfig>,
    asking: Arc<ServerConfig>,
}

impl TlsServer {
    /// One that follows `table`.
    ///
    /// # Errors
    /// When the cryptography library has no randomness for the ticket keys.
    pub fn new(table: watch::Receiver<Arc<RoutingTable>>) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let resolver: Arc<dyn ResolvesServerCert> = Arc::new(Resolver(table.clone()));
        let possession = Arc::new(Possession(provider.signature_verification_algorithms));
        Ok(Self {
            table,
            plain: Arc::new(config(&provider, Arc::clone(&resolver), None)?),
            asking: Arc::new(config(&provider, resolver, Some(possession))?),
        })
    }

    /// Does the handshake within `deadline`, and says what the client has shown.
    ///
    /// # Errors
    /// [`TlsError`]; the client has been sent the alert that TLS has for it.
    pub(super) async fn accept(
        &self,
        stream: TcpStream,
        deadline: Instant,
    ) -> Result<(Transport, Option<PresentedCertificate>), TlsError> {
        let handshake = async {
            let (mut stream, mut hello) = (stream, Vec::new());
            let config = self.greet(&mut stream, &mut hello).await?;
            DownstreamTls::accept(stream, config, hello).await
        };
        let accepted = timeout_at(deadline, handshake).await.map_err(|_| TlsError::Timeout)??;
        let chain = accepted.session().peer_certificates();
        let presented = chain.map(|chain| PresentedCertificate { chain: chain.to_vec().into() });
        Ok((Transport::Downstream(Box::new(accepted)), presented))
    }

    /// Reads what a client begins with into `hello`, and says how it is answered.
    async fn greet(&self, stream: &mut TcpStream, hello: &mut Vec<u8>) -> io::Result<Arc<ServerConfig>> {
        let mut acceptor = Acceptor::default();
        let mut seen = 0;
        loop {
            if seen == hello.len() {
                more(stream, hello).await?;
            }
            seen += acceptor.read_tls(&mut &hello[seen..])?;
            match acceptor.accept() {
                Ok(None) => {}
                Ok(Some(greeted)) => {
                    let asks = self.table.borrow().asks_certificate(greeted.client_hello().server_name());
                    return Ok(Arc::clone(if asks { &self.asking } else { &self.plain }));
                }
                Err((error, mut alert)) => {
                    let mut told = Vec::new();
                    alert.write_all(&mut told)?;
                    let _ = stream.write_all(&told).await; // whoever has left need not be told
                    return Err(io::Error::new(io::ErrorKind::InvalidData, error));
                }
            }
        }
    }
}

fn config(
    provider: &Arc<CryptoProvider>,
    resolver: Arc<dyn ResolvesServerCert>,
    possession: Option<Arc<Possession>>,
) -> Result<ServerConfig, rustls::Error> {
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider)).with_safe_default_protocol_versions()?;
    let builder = match possession {
        None => builder.with_no_client_auth(),
        Some(possession) => builder.with_client_cert_verifier(possession),
    };
    let mut config = builder.with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
    // One ticket a handshake: a WebSocket client opens one connection, and each ticket costs memory until sent.
    config.send_tls13_tickets = 1;
    Ok(config)
}
