//! JSON Web Tokens: which ones let a client in, what the others get, and what the backend is told.

mod issuer;
mod local;
mod remote;
mod status;

use crate::living::folder::{Folder, served};
use crate::living::{Sheave, within};
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine as _};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderMap, HeaderValue};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async, client_async};

/// Seconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    i64::try_from(since.as_secs()).expect("it is not that late")
}

/// A key that signs tokens.
struct Key {
    kid: &'static str,
    algorithm: Algorithm,
    signs: EncodingKey,
    jwk: Value,
}

impl Key {
    /// A new one; its algorithm says of which kind.
    fn new(kid: &'static str, algorithm: Algorithm) -> Self {
        let family = match algorithm {
            Algorithm::ES256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            Algorithm::ES384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            Algorithm::EdDSA => &rcgen::PKCS_ED25519,
            _ => &rcgen::PKCS_RSA_SHA256,
        };
        let made = rcgen::KeyPair::generate_for(family).expect("a key can be made");
        let pem = made.serialize_pem();
        let signs = match algorithm {
            Algorithm::ES256 | Algorithm::ES384 => EncodingKey::from_ec_pem(pem.as_bytes()),
            Algorithm::EdDSA => EncodingKey::from_ed_pem(pem.as_bytes()),
            _ => EncodingKey::from_rsa_pem(pem.as_bytes()),
        };
        let signs = signs.expect("a made key can be read");
        let mut jwk = if algorithm == Algorithm::EdDSA {
            // Of a key in PKCS#8 version 2, as made here, the crate knows no public part.
            let x = BASE64_URL_SAFE_NO_PAD.encode(made.public_key_raw());
            json!({"kty": "OKP", "crv": "Ed25519", "x": x})
        } else {
            let jwk = Jwk::from_encoding_key(&signs, algorithm).expect("a key has a public part");
            serde_json::to_value(jwk).expect("JSON")
        };
        jwk.as_object_mut().expect("an object").remove("alg");
        jwk["kid"] = json!(kid);
        jwk["use"] = json!("sig");
        Self { kid, algorithm, signs, jwk }
    }

    /// Its public part. It does not say for which algorithm.
    fn jwk(&self) -> Value {
        self.jwk.clone()
    }

    /// A token of its own algorithm that names it.
    fn token(&self, claims: &Value) -> String {
        let header = Header { kid: Some(self.kid.to_owned()), ..Header::new(self.algorithm) };
        encode(&header, claims, &self.signs).expect("a token can be signed")
    }
}

/// The key set of these keys.
fn key_set(keys: &[&Key]) -> String {
    json!({"keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>()}).to_string()
}

/// Claims of `sub` alice, good for five minutes, with these further ones.
fn claims(further: &Value) -> Value {
    let mut claims = json!({"sub": "alice", "exp": now() + 300});
    for (name, value) in further.as_object().expect("claims are an object") {
        claims[name] = value.clone();
    }
    claims
}

/// A Secret with one entry.
fn secret(name: &str, entry: &str, content: &[u8]) -> String {
    let content = BASE64_STANDARD.encode(content);
    format!("---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\ndata: {{{entry}: {content}}}\n")
}

/// A route of host `chat.test` whose provider has this `jwt` block, in flow YAML, and its service.
fn route(jwt: &str, port: u16) -> String {
    let provider = format!("authentication: {{providers: [{{name: tokens, type: JWT, jwt: {{{jwt}}}}}]}}");
    crate::living::folder::route("chat", "chat.test", &[&provider], &[("chat", 1)]) + &served("chat", port)
}

/// A service that notes the headers of each handshake and sends messages back.
struct Backend {
    port: u16,
    heads: Arc<Mutex<Vec<HeaderMap>>>,
    listening: tokio::task::JoinHandle<()>,
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl Backend {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("the loopback has a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let heads: Arc<Mutex<Vec<HeaderMap>>> = Arc::default();
        let log = Arc::clone(&heads);
        let listening = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let log = Arc::clone(&log);
                tokio::spawn(async move {
                    #[allow(clippy::result_large_err)] // the callback's type is tungstenite's
                    let note = |request: &Request, answer: Response| -> Result<Response, ErrorResponse> {
                        log.lock().expect("no test panics with it").push(request.headers().clone());
                        Ok(answer)
                    };
                    let Ok(mut socket) = accept_hdr_async(stream, note).await else { return };
                    while let Some(Ok(message)) = futures_util::StreamExt::next(&mut socket).await {
                        if message.is_text() && futures_util::SinkExt::send(&mut socket, message).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { port, heads, listening }
    }

    /// The heads of the handshakes so far.
    fn heads(&self) -> Vec<HeaderMap> {
        self.heads.lock().expect("no test panics with it").clone()
    }
}

type Socket = WebSocketStream<TcpStream>;

/// An answer other than 101.
#[derive(Debug)]
struct Refused {
    status: u16,
    challenge: Option<String>,
}

/// Opens a session of `chat.test` with this token, if there is one, and further headers.
async fn open(at: SocketAddr, token: Option<&str>, headers: &[(&'static str, &str)]) -> Result<Socket, Refused> {
    let mut request = "ws://chat.test/".into_client_request().expect("a request");
    let value = |text: &str| HeaderValue::from_str(text).expect("a header's value");
    if let Some(token) = token {
        request.headers_mut().insert("Authorization", value(&format!("Bearer {token}")));
    }
    for (name, text) in headers {
        request.headers_mut().append(*name, value(text));
    }
    let stream = TcpStream::connect(at).await.expect("Sheave listens");
    match within("an answer", client_async(request, stream)).await {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(answer)) => {
            let challenge = answer.headers().get("www-authenticate").map(|v| v.to_str().expect("text").to_owned());
            Err(Refused { status: answer.status().as_u16(), challenge })
        }
        Err(error) => panic!("no answer: {error}"),
    }
}

/// The status that a token gets; 101 if it is let in.
async fn status(sheave: &Sheave, token: Option<&str>) -> u16 {
    open(sheave.ws, token, &[]).await.map_or_else(|refused| refused.status, |_| 101)
}

/// The code and the reason of the Close that ends a session.
async fn closed(socket: &mut Socket) -> (u16, String) {
    let ended = async {
        while let Some(Ok(message)) = futures_util::StreamExt::next(socket).await {
            if let Message::Close(Some(frame)) = message {
                return (frame.code.into(), frame.reason.to_string());
            }
        }
        (1006, String::new())
    };
    within("the end of the session", ended).await
}

/// Whether a session still relays.
async fn relays(socket: &mut Socket) -> bool {
    futures_util::SinkExt::send(socket, Message::text("still here")).await.is_ok()
        && matches!(
            within("a message", futures_util::StreamExt::next(socket)).await,
            Some(Ok(message)) if message == Message::text("still here")
        )
}

/// A Sheave on a route with this `jwt` block and further objects, and its backend.
async fn start(jwt: &str, objects: &str) -> (Sheave, Backend, Folder) {
    let backend = Backend::start().await;
    let folder = Folder::with(&route(jwt, backend.port));
    folder.write("more.yaml", objects);
    (Sheave::start(&folder), backend, folder)
}
