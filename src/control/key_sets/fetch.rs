//! One question to a key source: an HTTPS GET that follows no redirect and reads no more than a mebibyte.
//!
//! What goes wrong is told in words that stay the same while the trouble does, for they reach a status.

use crate::compile::{KeySource, is_key_set};
use crate::routing::Roots;
use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use thiserror::Error;
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;

/// The longest answer, in bytes.
const LONGEST: usize = 1 << 20;

/// Why there is no good answer.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum Trouble {
    #[error("its answer breaks off, or is no HTTP")]
    Broken,
    #[error("it does not answer in time")]
    Late,
    #[error("its host has local addresses only, which a route may not have Sheave ask")]
    Local,
    #[error("the system that Sheave runs on has no CA certificates: name the authority in caCertificateRefs")]
    NoRoots,
    #[error("its answer is no JSON Web Key Set (RFC 7517)")]
    NotKeys,
    #[error("it answers with a redirect ({0}), which is not followed: name the URL that it leads to")]
    Redirect(u16),
    #[error("it answers with status {0}")]
    Status(u16),
    #[error("TLS with it fails")]
    Tls,
    #[error("its answer is longer than 1 MiB")]
    TooLong,
    #[error("no connection to it can be made")]
    Unreachable,
    #[error("its host has no address")]
    Unresolved,
    #[error("its certificate is not accepted: {0}")]
    Untrusted(&'static str),
    #[error("its URL cannot be used")]
    Url,
}

/// Asks sources.
#[derive(Debug)]
pub(super) struct Fetcher {
    allow_local: bool,
    system: OnceCell<Arc<RootCertStore>>,
}

impl Fetcher {
    pub(super) fn new(allow_local: bool) -> Self {
        Self { allow_local, system: OnceCell::new() }
    }

    /// The answer of `source`, which is a key set.
    pub(super) async fn fetch(&self, source: &KeySource) -> Result<Box<str>, Trouble> {
        let answer = tokio::time::timeout(source.timeout, self.ask(source)).await;
        let body = answer.unwrap_or(Err(Trouble::Late))?;
        let text = std::str::from_utf8(&body).map_err(|_| Trouble::NotKeys)?;
        if is_key_set(text) { Ok(text.into()) } else { Err(Trouble::NotKeys) }
    }

    async fn ask(&self, source: &KeySource) -> Result<Bytes, Trouble> {
        let uri: Uri = source.uri.parse().map_err(|_| Trouble::Url)?;
        let (Some(authority), Some("https")) = (uri.authority(), uri.scheme_str()) else { return Err(Trouble::Url) };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned()).map_err(|_| Trouble::Url)?;
        let config = self.config(&source.roots).await?;
        let tcp = self.connect(host, authority.port_u16().unwrap_or(443)).await?;
        let tls = TlsConnector::from(config).connect(name, tcp).await.map_err(|error| untrusted(&error))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(tls)).await.map_err(|_| Trouble::Broken)?;
        // Ends with the sender, when this has ended.
        tokio::spawn(connection);
        let target = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let request = Request::get(target)
            .header(header::HOST, authority.as_str())
            .header(header::ACCEPT, "application/jwk-set+json, application/json")
            .header(header::USER_AGENT, concat!("sheave/", env!("CARGO_PKG_VERSION")))
            .body(Empty::<Bytes>::new())
            .map_err(|_| Trouble::Url)?;
        let answer = sender.send_request(request).await.map_err(|_| Trouble::Broken)?;
        match answer.status() {
            StatusCode::OK => {}
            other if other.is_redirection() => return Err(Trouble::Redirect(other.as_u16())),
            other => return Err(Trouble::Status(other.as_u16())),
        }
        let body = Limited::new(answer.into_body(), LONGEST).collect().await;
        let body = body.map_err(|error| {
            if error.is::<http_body_util::LengthLimitError>() { Trouble::TooLong } else { Trouble::Broken }
        })?;
        Ok(body.to_bytes())
    }

    /// To the first address of `host` that takes a connection.
    async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, Trouble> {
        let found: Vec<SocketAddr> = lookup_host((host, port)).await.map_err(|_| Trouble::Unresolved)?.collect();
        if found.is_empty() {
            return Err(Trouble::Unresolved);
        }
        let allowed: Vec<_> = found.into_iter().filter(|at| self.allow_local || !is_local(at.ip())).collect();
        if allowed.is_empty() {
            return Err(Trouble::Local);
        }
        TcpStream::connect(&*allowed).await.map_err(|_| Trouble::Unreachable)
    }

    async fn config(&self, roots: &Roots) -> Result<Arc<ClientConfig>, Trouble> {
        let roots = match roots {
            Roots::Certificates(certificates) => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(certificates.iter().cloned());
                Arc::new(roots)
            }
            Roots::System => Arc::clone(self.system.get_or_try_init(system_roots).await?),
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|_| Trouble::Tls)?;
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// Whether an address leads to this machine, to its own network segment, or to nobody in particular.
fn is_local(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    let link_local = match ip {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    link_local || ip.is_loopback() || ip.is_unspecified() || ip.is_multicast()
}

/// Reads the roots of the system off the event loop.
async fn system_roots() -> Result<Arc<RootCertStore>, Trouble> {
    let found = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.map_err(|_| Trouble::NoRoots)?.certs);
    if roots.is_empty() { Err(Trouble::NoRoots) } else { Ok(Arc::new(roots)) }
}

/// What a failed TLS handshake means. The library's own words hold times, which change.
fn untrusted(error: &io::Error) -> Trouble {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::InvalidCertificate(why)) = inner else { return Trouble::Tls };
    Trouble::Untrusted(match why {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "it is not valid yet",
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => "it is for another name",
        CertificateError::UnknownIssuer => {
            "no trusted authority has signed it; name the one that has in caCertificateRefs"
        }
        _ => "it is not valid",
    })
}
