//! The other ways to prove who one is: a certificate, a password, and a service that decides.
//!
//! Makes what clients show and what the folder says of it. Keys and tokens are simpler and in `objects` and `world`.

use crate::certificate::Made;
use crate::world::World;
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::PrivateKeyDer;
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The password of `user`.
const PASSWORD: &str = "a password";

/// The authority of clients, and what a client of it shows.
pub(crate) struct Certified {
    authority: String,
    chain: rustls_pki_types::CertificateDer<'static>,
    key: Vec<u8>,
}

impl Certified {
    pub(crate) fn new() -> Self {
        let generate = || KeyPair::generate().expect("a key");
        let (key, mut params) = (generate(), CertificateParams::default());
        params.distinguished_name.push(DnType::CommonName, "clients of the soak");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = params.self_signed(&key).expect("a certificate").pem();
        let issuer = Issuer::new(params, key);
        let (key, mut params) = (generate(), CertificateParams::default());
        params.distinguished_name.push(DnType::CommonName, "a client of the soak");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let chain = params.signed_by(&key, &issuer).expect("it can be signed").der().clone();
        Self { authority, chain, key: key.serialize_der() }
    }

    /// The authority as a `ConfigMap`.
    pub(crate) fn bundle(&self) -> String {
        let pem = self.authority.replace("\r\n", "\n").trim_end().replace('\n', "\n    ");
        format!("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: clients}}\ndata:\n  ca.crt: |\n    {pem}\n")
    }

    /// A client that trusts these and shows its certificate.
    pub(crate) fn config(&self, made: [&Made; 2]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        for one in made {
            roots.add(one.der.clone()).expect("a made certificate can be trusted");
        }
        let key = PrivateKeyDer::try_from(self.key.clone()).expect("a key");
        let config = ClientConfig::builder().with_root_certificates(roots);
        Arc::new(config.with_client_auth_cert(vec![self.chain.clone()], key).expect("a key of its certificate"))
    }
}

/// The line of the password file.
pub(crate) fn htpasswd() -> String {
    let digest = digest(&SHA1_FOR_LEGACY_USE_ONLY, PASSWORD.as_bytes());
    format!("user:{{SHA}}{}\n", BASE64_STANDARD.encode(digest.as_ref()))
}

/// The header of a login.
pub(crate) fn login(is_wrong: bool) -> String {
    let password = if is_wrong { "another" } else { PASSWORD };
    format!("Authorization: Basic {}\r\n", BASE64_STANDARD.encode(format!("user:{password}")))
}

/// The header that the service which decides looks for.
pub(crate) fn pass(is_wrong: bool) -> String {
    format!("Cookie: pass={}\r\n", if is_wrong { "no" } else { "yes" })
}

/// The service that decides: yes to `pass=yes`. It keeps a connection for as long as a client may come by it: there is no
/// second try when it closes one that is just being used.
pub(crate) async fn decide(world: Arc<World>, port: u16) -> io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(answer(Arc::clone(&world), stream));
    }
}

async fn answer(world: Arc<World>, mut stream: TcpStream) -> io::Result<()> {
    let mut head = Vec::new();
    let mut which = None;
    loop {
        head.clear();
        while !head.ends_with(b"\r\n\r\n") {
            tokio::select! {
                byte = stream.read_u8() => head.push(byte?),
                () = world.rested(which) => return Ok(()),
            }
        }
        let text = String::from_utf8_lossy(&head);
        let id = text.strip_prefix("GET /s/").and_then(|rest| rest.split('?').next());
        which = id.and_then(|id| world.find(id)).map(|ledger| ledger.which);
        let status = if text.contains("pass=yes") { "200 OK" } else { "401 Unauthorized" };
        let answer = format!("HTTP/1.1 {status}\r\nX-User: somebody\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await?;
    }
}
