//! Parsed key material. A certificate is compared, shown and serialised by its fingerprint, never by its key.

use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;
use serde::{Serialize, Serializer};
use std::fmt;
use std::sync::Arc;

/// A certificate chain with its private key, ready for rustls.
#[derive(Clone)]
pub struct Certificate {
    /// The chain and the signing key.
    pub key: Arc<CertifiedKey>,
    /// First 16 hexadecimal digits of SHA-256 over the chain and the private key.
    pub fingerprint: Box<str>,
    /// DNS names and addresses of the leaf, lower case, as written (`*.example.com` included), sorted.
    pub names: Vec<Box<str>>,
    /// End of validity, seconds since 1970.
    pub not_after: i64,
    /// `namespace/name` of the Secret it came from, or what made it.
    pub source: Box<str>,
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint && self.source == other.source
    }
}

impl Eq for Certificate {}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({} {})", self.source, self.fingerprint)
    }
}

impl Serialize for Certificate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{} {}", self.source, self.fingerprint))
    }
}

/// Which authorities an upstream certificate may come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Roots {
    /// Exactly these, as DER.
    Certificates(Vec<CertificateDer<'static>>),
    /// The roots of the system the proxy runs on.
    System,
}

/// How a WSS backend is trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamTls {
    /// Sent as SNI and required of the certificate.
    pub hostname: Box<str>,
    /// Who may have signed it.
    pub roots: Roots,
    /// What we show when asked.
    pub client: Option<Arc<Certificate>>,
    /// First 16 hexadecimal digits of SHA-256 over everything above: equal settings share one TLS configuration.
    pub fingerprint: Box<str>,
}

impl Serialize for UpstreamTls {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let roots = match &self.roots {
            Roots::Certificates(roots) => format!("{} CA certificates", roots.len()),
            Roots::System => "System".to_owned(),
        };
        let client = self.client.as_ref().map_or("none", |c| &c.fingerprint);
        serializer.collect_str(&format_args!(
            "hostname {}, roots {roots}, client certificate {client}, fingerprint {}",
            self.hostname, self.fingerprint
        ))
    }
}
