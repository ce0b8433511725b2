//! Secrets of type `kubernetes.io/tls` to certificates: parsed once, checked, told when they are out of date.
//!
//! A certificate that has expired is still served: a client may accept it, and taking the host away helps nobody.
//! What a certificate may be used for (which host, by default, towards a backend) is decided by the caller.

use super::snapshot::{ObjectKey, Snapshot, secret_entry};
use super::verdict::Fault;
use crate::api::status::reason;
use crate::routing::{Certificate, HostPattern};
use aws_lc_rs::digest;
use k8s_openapi::api::core::v1::Secret;
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

/// The certificates of a snapshot, each parsed at most once.
pub(super) struct Certificates<'s> {
    snapshot: &'s Snapshot,
    read: BTreeMap<ObjectKey, Result<Usable, Fault>>,
}

impl<'s> Certificates<'s> {
    pub(super) fn new(snapshot: &'s Snapshot) -> Self {
        Self { snapshot, read: BTreeMap::new() }
    }

    /// The certificate of a Secret. A fault's message lacks the field that named the Secret.
    pub(super) fn of(&mut self, key: &ObjectKey) -> Result<Usable, Fault> {
        if let Some(known) = self.read.get(key) {
            return known.clone();
        }
        let result = match self.snapshot.secrets.get(key) {
            Some(secret) => read(key, secret, self.snapshot.taken_at),
            None => Err(format!("there is no Secret {key}: create it, or correct the name")),
        };
        let result = result.map_err(|message| Fault::new(reason::INVALID_CERTIFICATE_REF, message));
        self.read.insert(key.clone(), result.clone());
        result
    }
}

fn read(key: &ObjectKey, secret: &Secret, now: i64) -> Result<Usable, String> {
    let kind = secret.type_.as_deref().unwrap_or("Opaque");
    if kind != "kubernetes.io/tls" {
        return Err(format!("Secret {key} is of type {kind}: make it kubernetes.io/tls, with tls.crt and tls.key"));
    }
    let entry = |name| {
        let bytes = secret_entry(secret, name).filter(|bytes| !bytes.is_empty());
        bytes.ok_or_else(|| format!("Secret {key} has no {name}: add it"))
    };
    let certificate = from_pem(entry("tls.crt")?, entry("tls.key")?, &key.to_string());
    let certificate = certificate.map_err(|e| format!("Secret {key}: {e}"))?;
    Ok(Usable { stale: stale(key, &certificate, now), certificate: Arc::new(certificate) })
}

fn stale(key: &ObjectKey, certificate: &Certificate, now: i64) -> Option<Fault> {
    let (_, leaf) = X509Certificate::from_der(certificate.key.cert.first()?).ok()?;
    let not_before = leaf.validity().not_before.timestamp();
    let date =
        |seconds| Timestamp::from_second(seconds).map_or_else(|_| "an unknown date".to_owned(), |t| t.to_string());
    let message = if now > certificate.not_after {
        format!(
            "the certificate of Secret {key} expired at {}: renew it; it is served all the same",
            date(certificate.not_after)
        )
    } else if now < not_before {
        format!(
            "the certificate of Secret {key} is valid only from {}: check the date it was issued with; it is served all the same",
            date(not_before)
        )
    } else {
        return None;
    };
    Some(Fault::new(reason::INVALID_CERTIFICATE_REF, message))
}
