//! Certificates made on the spot, and clients that trust them.

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;

/// A self-signed certificate.
#[derive(Clone, Debug)]
pub struct Made {
    /// What a handshake shows.
    pub der: CertificateDer<'static>,
    /// In PEM.
    pub certificate: String,
    /// Its key in PEM.
    pub key: String,
}

/// Makes one for these names.
pub fn make(names: &[&str]) -> Result<Made> {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let made = rcgen::generate_simple_self_signed(names)?;
    Ok(Made { der: made.cert.der().clone(), certificate: made.cert.pem(), key: made.signing_key.serialize_pem() })
}

/// An authority that issues certificates to clients.
pub struct Authority {
    /// Its own certificate in PEM.
    pub certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A client's certificate and key.
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Authority {
    /// A new one of this name.
    pub fn new(name: &str) -> Result<Self> {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.distinguished_name = named(name);
        let key = KeyPair::generate()?;
        let certificate = parameters.self_signed(&key)?.pem();
        Ok(Self { certificate, issuer: Issuer::new(parameters, key) })
    }

    /// A certificate for the client of this name.
    pub fn issue(&self, name: &str) -> Result<Identity> {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = named(name);
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate()?;
        let certificate = parameters.signed_by(&key, &self.issuer)?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
        Ok(Identity { chain: vec![certificate.der().clone()], key })
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// A client configuration that trusts these and never resumes: every handshake shows the certificate.
pub fn trusting(made: &[&Made]) -> Result<Arc<ClientConfig>> {
    trusting_as(made, None)
}

/// As [`trusting`], of a client with a certificate of its own.
pub fn trusting_as(made: &[&Made], identity: Option<Identity>) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    for one in made {
        roots.add(one.der.clone())?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let mut config = match identity {
        None => config.with_no_client_auth(),
        Some(identity) => config.with_client_auth_cert(identity.chain, identity.key)?,
    };
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}
