//! TLS towards the upstream: one client configuration per set of settings, shared by all that are equal.
//!
//! Decides what is verified and what is shown. When and where to dial is the dialer's business.

use super::transport::Transport;
use crate::routing::{Roots, UpstreamTls};
use rustls::client::ResolvesClientCert;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;

/// Configurations kept; beyond it all are forgotten and made again on demand.
const MAX_CONFIGS: usize = 1024;

/// TLS client configurations by the fingerprint of their settings, and the system's roots, loaded when first
/// needed.
#[derive(Debug, Default)]
pub struct UpstreamTlsConfigs {
    configs: Mutex<HashMap<Box<str>, Arc<ClientConfig>>>,
    system: OnceCell<Arc<RootCertStore>>,
}

impl UpstreamTlsConfigs {
    /// Speaks TLS on a connected socket.
    ///
    /// # Errors
    /// Settings rustls does not take, or a handshake that failed; the message says which.
    pub(super) async fn connect(&self, tcp: TcpStream, settings: &UpstreamTls) -> io::Result<Transport> {
        let name = ServerName::try_from(settings.hostname.to_string()).map_err(io::Error::other)?;
        let config = self.config(settings).await?;
        let tls = TlsConnector::from(config).connect(name, tcp).await?;
        Ok(Transport::Tls(Box::new(tls)))
    }

    async fn config(&self, settings: &UpstreamTls) -> io::Result<Arc<ClientConfig>> {
        let known = self.configs.lock().unwrap_or_else(PoisonError::into_inner).get(&settings.fingerprint).cloned();
        if let Some(config) = known {
            return Ok(config);
        }
        let roots = match &settings.roots {
            Roots::Certificates(certificates) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates {
                    roots.add(certificate.clone()).map_err(io::Error::other)?;
                }
                Arc::new(roots)
            }
            Roots::System => Arc::clone(self.system.get_or_try_init(system_roots).await?),
        };
        let config = Arc::new(make_config(settings, roots).map_err(io::Error::other)?);
        let mut configs = self.configs.lock().unwrap_or_else(PoisonError::into_inner);
        if configs.len() >= MAX_CONFIGS {
            configs.clear();
        }
        // The first one made stays: it may already hold sessions to resume.
        Ok(Arc::clone(configs.entry(settings.fingerprint.clone()).or_insert(config)))
    }
}

fn make_config(settings: &UpstreamTls, roots: Arc<RootCertStore>) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let mut config = match &settings.client {
        Some(client) => {
            let shown: Arc<dyn ResolvesClientCert> = Arc::new(SingleCertAndKey::from(Arc::clone(&client.key)));
            builder.with_client_cert_resolver(shown)
        }
        None => builder.with_no_client_auth(),
    };
    // A backend that prefers HTTP/2 must not choose it: the handshake is HTTP/1.1.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Reads the roots of the system off the event loop.
async fn system_roots() -> io::Result<Arc<RootCertStore>> {
    let found = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await.map_err(io::Error::other)?;
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        return Err(io::Error::other("the system has no CA certificates: install them, or name a CA in backendTLS"));
    }
    Ok(Arc::new(roots))
}
