//! Certificates made on the spot, and clients that trust them.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use rustls::client::Resumption;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use rustls_pki_types::CertificateDer;
use std::sync::Arc;

/// A self-signed certificate.
pub struct Made {
    /// What a handshake shows.
    pub der: CertificateDer<'static>,
    /// In PEM.
    pub certificate: String,
    /// Its key in PEM.
    pub key: String,
}

/// Makes one for these names.
pub fn make(names: &[&str]) -> Made {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let made = rcgen::generate_simple_self_signed(names).expect("these names are valid");
    Made { der: made.cert.der().clone(), certificate: made.cert.pem(), key: made.signing_key.serialize_pem() }
}

impl Made {
    /// As a Secret.
    pub fn secret(&self, name: &str) -> String {
        let (certificate, key) = (BASE64_STANDARD.encode(&self.certificate), BASE64_STANDARD.encode(&self.key));
        format!(
            "---\napiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\nmetadata: {{name: {name}}}\n\
             data: {{tls.crt: {certificate}, tls.key: {key}}}\n"
        )
    }
}

/// A client configuration that trusts these and remembers up to 32 sessions.
pub fn trusting(made: &[&Made]) -> Arc<ClientConfig> {
    trusting_with(made, rustls::DEFAULT_VERSIONS)
}

/// As [`trusting`], for some versions of TLS only.
pub fn trusting_with(made: &[&Made], versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for one in made {
        roots.add(one.der.clone()).expect("a made certificate can be trusted");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("the provider has these versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::in_memory_sessions(32);
    Arc::new(config)
}
