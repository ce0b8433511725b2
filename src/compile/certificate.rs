//! Secrets of type `kubernetes.io/tls` to certificates: parsed once, checked, told when they are out of date.
//!
//! A certificate that has expired is still served: a client may accept it, and taking the host away helps nobody.
//! What a certificate may be used for (which host, by default, towards a backend) is decided by the caller.

use super::secret::SecretContent;
use super::snapshot::{ObjectKey, Snapshot};
use super::verdict::Fault;
use crate::api::status::reason;
use crate::routing::{Certificate, HostPattern};
use aws_lc_rs::digest;
use k8s_openapi::jiff::Timestamp;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::{Error as PemError, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The entry of a TLS Secret that holds the chain.
pub(super) const CHAIN_KEY: &str = "tls.crt";

/// The entry of a TLS Secret that holds the private key.
pub(super) const PRIVATE_KEY: &str = "tls.key";

/// Why PEM text is no certificate with its key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// The chain holds no certificate, or one that cannot be read.
    #[error("tls.crt holds no readable certificate ({0}): put the PEM chain there, the server's own certificate first")]
    Chain(String),
    /// The key belongs to another certificate.
    #[error(
        "tls.key does not fit the first certificate of tls.crt: put the key there that the certificate was issued for"
    )]
    KeyMismatch,
    /// The key is missing or cannot be read.
    #[error(
        "tls.key holds no usable private key ({0}): put an unencrypted PEM key there (PKCS #8, PKCS #1 or SEC 1; RSA, ECDSA or Ed25519)"
    )]
    Key(String),
}

/// Reads a certificate chain and its private key from PEM. `source` is kept to say where it came from.
///
/// # Errors
/// Which of the two cannot be used, and that they must fit each other.
pub fn from_pem(chain: &[u8], key: &[u8], source: &str) -> Result<Certificate, CertificateError> {
    let chain = certificates_from_pem(chain).map_err(CertificateError::Chain)?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| CertificateError::Key(pem_reason(&e)))?;
    let (_, leaf) = X509Certificate::from_der(&chain[0]).map_err(|e| CertificateError::Chain(e.to_string()))?;
    let (names, not_after) = (names(&leaf), leaf.validity().not_after.timestamp());
    let fingerprint = fingerprint(chain.iter().map(AsRef::as_ref).chain([key.secret_der()]));
    let signing = any_supported_type(&key).map_err(|e| CertificateError::Key(e.to_string()))?;
    let certified = CertifiedKey::new(chain, signing);
    certified.keys_match().map_err(|_| CertificateError::KeyMismatch)?;
    Ok(Certificate { key: Arc::new(certified), fingerprint, names, not_after, source: source.into() })
}

/// The certificates of a PEM text: one at least, each readable.
pub(super) fn certificates_from_pem(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let certificates = read.map_err(|e| pem_reason(&e))?;
    if certificates.is_empty() {
        return Err("no PEM block CERTIFICATE".to_owned());
    }
    for certificate in &certificates {
        X509Certificate::from_der(certificate).map_err(|e| e.to_string())?;
    }
    Ok(certificates)
}

/// A PEM error in words that quote nothing of the text.
fn pem_reason(error: &PemError) -> String {
    match error {
        PemError::NoItemsFound => "no PEM block of the kind".to_owned(),
        PemError::MissingSectionEnd { .. } => "a PEM block has no END line".to_owned(),
        PemError::Base64Decode(_) => "a PEM block is not base64".to_owned(),
        _ => "malformed PEM".to_owned(),
    }
}

/// The first 16 hexadecimal digits of SHA-256 over `parts`, each with its length.
pub(super) fn fingerprint<'p>(parts: impl IntoIterator<Item = &'p [u8]>) -> Box<str> {
    let mut digest = digest::Context::new(&digest::SHA256);
    for part in parts {
        digest.update(&(part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    let mut text = String::with_capacity(16);
    for byte in &digest.finish().as_ref()[..8] {
        write!(text, "{byte:02x}").expect("a String takes everything");
    }
    text.into()
}

/// The names of the subject alternative name extension, lower case, sorted (RFC 6125 §6.4.4: the common name is
/// no longer looked at).
fn names(leaf: &X509Certificate<'_>) -> Vec<Box<str>> {
    let extension = leaf.subject_alternative_name().ok().flatten();
    let general = extension.iter().flat_map(|e| &e.value.general_names);
    let mut names: Vec<Box<str>> = general
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase().into()),
            GeneralName::IPAddress(bytes) => address(bytes).map(|ip| ip.to_string().into()),
            _ => None,
        })
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// Whether a client that asks for a host of `pattern` will find it named (RFC 6125 §6.4.3: a star is one label).
pub(super) fn names_host(certificate: &Certificate, pattern: &HostPattern) -> bool {
    let has = |name: &str| certificate.names.iter().any(|n| **n == *name);
    match pattern {
        HostPattern::Any => true,
        HostPattern::Exact(host) => {
            has(host) || host.split_once('.').is_some_and(|(_, parent)| has(&format!("*.{parent}")))
        }
        HostPattern::Wildcard(suffix) => has(&format!("*.{suffix}")),
    }
}

/// A certificate that can be served, with what is nevertheless wrong about it.
#[derive(Clone, Debug)]
pub(super) struct Usable {
    pub(super) certificate: Arc<Certificate>,
    pub(super) stale: Option<Fault>,
}

/// The certificates of Secrets, each parsed at most once, judged by one moment.
#[derive(Debug, Default)]
pub(super) struct Certificates {
    read: BTreeMap<ObjectKey, Result<Parsed, Fault>>,
    now: i64,
}

#[derive(Debug)]
struct Parsed {
    certificate: Arc<Certificate>,
    /// Start of validity, seconds since 1970.
    not_before: i64,
}

/// How a moment judges a certificate.
#[derive(PartialEq, Eq)]
enum Validity {
    Early,
    Expired,
    Valid,
}

impl Certificates {
    /// Judges by another moment from now on, and returns the Secrets for which that makes a difference.
    pub(super) fn move_to(&mut self, now: i64) -> impl Iterator<Item = ObjectKey> {
        let before = std::mem::replace(&mut self.now, now);
        let differs = move |parsed: &Parsed| parsed.validity(before) != parsed.validity(now);
        let differing = self.read.iter().filter(move |(_, read)| read.as_ref().is_ok_and(differs));
        differing.map(|(key, _)| key.clone())
    }

    /// The certificate of a Secret. A fault's message lacks the field that named the Secret.
    pub(super) fn of(&mut self, snapshot: &Snapshot, key: &ObjectKey) -> Result<Usable, Fault> {
        let read = self.read.entry(key.clone()).or_insert_with(|| {
            let result = match snapshot.secrets.get(key) {
                Some(secret) => read(key, secret),
                None => Err(format!("there is no Secret {key}: create it, or correct the name")),
            };
            result.map_err(|message| Fault::new(reason::INVALID_CERTIFICATE_REF, message))
        });
        let parsed = read.as_ref().map_err(Clone::clone)?;
        Ok(Usable { certificate: Arc::clone(&parsed.certificate), stale: parsed.stale(key, self.now) })
    }

    pub(super) fn forget(&mut self, key: &ObjectKey) {
        self.read.remove(key);
    }
}

fn read(key: &ObjectKey, secret: &SecretContent) -> Result<Parsed, String> {
    let kind = &*secret.kind;
    if kind != "kubernetes.io/tls" {
        return Err(format!("Secret {key} is of type {kind}: make it kubernetes.io/tls, with tls.crt and tls.key"));
    }
    let entry = |name| secret.entry(name).ok_or_else(|| format!("Secret {key} has no {name}: add it"));
    let certificate = from_pem(entry(CHAIN_KEY)?, entry(PRIVATE_KEY)?, &key.to_string());
    let certificate = certificate.map_err(|e| format!("Secret {key}: {e}"))?;
    let leaf = certificate.key.cert.first().and_then(|leaf| X509Certificate::from_der(leaf).ok());
    let not_before = leaf.map_or(i64::MIN, |(_, leaf)| leaf.validity().not_before.timestamp());
    Ok(Parsed { not_before, certificate: Arc::new(certificate) })
}

impl Parsed {
    fn validity(&self, now: i64) -> Validity {
        if now > self.certificate.not_after {
            Validity::Expired
        } else if now < self.not_before {
            Validity::Early
        } else {
            Validity::Valid
        }
    }

    fn stale(&self, key: &ObjectKey, now: i64) -> Option<Fault> {
        let date =
            |seconds| Timestamp::from_second(seconds).map_or_else(|_| "an unknown date".to_owned(), |t| t.to_string());
        let message = match self.validity(now) {
            Validity::Valid => return None,
            Validity::Expired => format!(
                "the certificate of Secret {key} expired at {}: renew it; it is served all the same",
                date(self.certificate.not_after)
            ),
            Validity::Early => format!(
                "the certificate of Secret {key} is valid only from {}: check the date it was issued with; it is \
                 served all the same",
                date(self.not_before)
            ),
        };
        Some(Fault::new(reason::INVALID_CERTIFICATE_REF, message))
    }
}
