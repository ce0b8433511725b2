//! An issuer: an HTTPS server with a key set, and the private authority that has signed its certificate.

use super::*;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer as Signer, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

/// How it answers.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) header: String,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn keys(keys: &[&Key]) -> Self {
        Self { status: 200, header: String::new(), body: key_set(keys) }
    }

    pub(super) fn status(status: u16) -> Self {
        Self { status, header: String::new(), body: String::new() }
    }
}

/// A running issuer.
pub(super) struct Issuer {
    pub(super) port: u16,
    /// The authority in PEM.
    pub(super) ca: String,
    answer: Arc<Mutex<Answer>>,
    asked: watch::Receiver<usize>,
    listening: tokio::task::JoinHandle<()>,
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl Issuer {
    /// One on a free port of `localhost`.
    pub(super) async fn start(answer: Answer) -> Self {
        let ca_key = KeyPair::generate().expect("a key");
        let mut ca = CertificateParams::new(Vec::new()).expect("no names");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let own = ca.self_signed(&ca_key).expect("a certificate");
        let key = KeyPair::generate().expect("a key");
        let leaf = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        let leaf = leaf.signed_by(&key, &Signer::from_params(&ca, &ca_key)).expect("a certificate");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
            .expect("the key fits");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("the loopback has a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let answer = Arc::new(Mutex::new(answer));
        let (count, asked) = watch::channel(0);
        let shared = Arc::clone(&answer);
        let listening = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, shared, count) = (acceptor.clone(), Arc::clone(&shared), count.clone());
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let Ok(byte) = stream.read_u8().await else { return };
                        head.push(byte);
                    }
                    assert!(head.starts_with(b"GET /keys?v=1 HTTP/1.1\r\n"), "{}", String::from_utf8_lossy(&head));
                    let Answer { status, header, body } = shared.lock().expect("no test panics with it").clone();
                    let length = body.len();
                    let text = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n{header}\r\n{body}");
                    let _ = stream.write_all(text.as_bytes()).await;
                    let _ = stream.shutdown().await;
                    count.send_modify(|count| *count += 1);
                });
            }
        });
        Self { port, ca: own.pem(), answer, asked, listening }
    }

    /// Its `jwt` block, with these further fields of it and of `remoteJWKS`.
    pub(super) fn block(&self, fields: &str, remote: &str) -> String {
        let uri = format!("https://localhost:{}/keys?v=1", self.port);
        format!("remoteJWKS: {{uri: '{uri}', caCertificateRefs: [{{name: issuer-ca}}]{remote}}}{fields}")
    }

    /// The `ConfigMap` with its authority.
    pub(super) fn trust(&self) -> String {
        let pem = self.ca.trim_end().replace('\n', "\n    ");
        format!("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: issuer-ca}}\ndata:\n  ca.crt: |\n    {pem}\n")
    }

    /// Answers so from now on.
    pub(super) fn answers(&self, answer: Answer) {
        *self.answer.lock().expect("no test panics with it") = answer;
    }

    /// How often it has answered.
    pub(super) fn asked(&self) -> usize {
        *self.asked.borrow()
    }

    /// Waits until it has answered so often.
    pub(super) async fn is_asked(&self, times: usize) {
        let mut asked = self.asked.clone();
        let enough = within("the issuer to be asked", asked.wait_for(|asked| *asked >= times)).await;
        enough.expect("the issuer lives");
    }
}
