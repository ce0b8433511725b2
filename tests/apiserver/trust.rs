//! What the API server proves itself with and what it signs tokens of service accounts with, made anew for each.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::path::Path;

/// The authority that signed the server's certificate.
pub struct Trust {
    /// As clients of kube want it.
    pub der: Vec<u8>,
    /// As a kubeconfig wants it.
    pub pem: String,
}

/// Writes `server.crt`, `server.key`, `sa.key` and `sa.pub` into `folder`.
pub fn write(folder: &Path) -> Trust {
    let put = |name: &str, text: &str| std::fs::write(folder.join(name), text).expect("the folder is writable");
    let key = || KeyPair::generate().expect("keys can be made");
    let mut authority = CertificateParams::new(Vec::new()).expect("no names are valid");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = key();
    let root = authority.self_signed(&authority_key).expect("signed");
    let issuer = Issuer::new(authority, authority_key);
    let server_key = key();
    let names = ["127.0.0.1", "localhost", "kubernetes.default.svc"].map(str::to_owned);
    let server = CertificateParams::new(names).expect("these names are valid");
    let server = server.signed_by(&server_key, &issuer).expect("signed");
    put("server.crt", &server.pem());
    put("server.key", &server_key.serialize_pem());
    let tokens = key();
    put("sa.key", &tokens.serialize_pem());
    put("sa.pub", &tokens.public_key_pem());
    Trust { der: root.der().to_vec(), pem: root.pem() }
}
