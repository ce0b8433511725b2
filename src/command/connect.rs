//! `sheave connect URL`: opens a WebSocket, sends a message, wants it back, and closes with 1000.
//!
//! What a person and `helm test` use to see that a route works. Until the 101 everything that may pass (no route yet,
//! no endpoint yet, nobody listening yet) is tried again as long as there is time; from the 101 on every fault is
//! final. Each step is a sentence; exit code 0 only when all of them went well.

use crate::settings::{Connect, SocketUrl};
use anyhow::Context;
use futures_util::{SinkExt, StreamExt};
use rustls::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue, StatusCode};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(250);

/// A byte stream that may be encrypted.
trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}
type Socket = WebSocketStream<Box<dyn Stream>>;

/// Why an attempt came to nothing.
enum Missed {
    /// It may go better in a moment.
    ForNow(String),
    /// Asking again would bring the same.
    ForGood(String),
}

/// Does what the module says, and says on `out` how it goes.
///
/// # Errors
/// When the output cannot be written or TLS cannot be set up. A route that does not work is no error but
/// [`ExitCode::FAILURE`].
pub fn run(connect: &Connect, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        let mut reached = "no answer yet".to_owned();
        let whole = converse(connect, out, &mut reached);
        match tokio::time::timeout(connect.timeout, whole).await {
            Ok(outcome) => outcome,
            Err(_) => Ok(Err(format!("not done within {:?}: {reached}", connect.timeout))),
        }
    });
    runtime.shutdown_background(); // a name that is still being looked up holds nobody up
    match outcome? {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(fault) => {
            writeln!(out, "failed: {fault}")?;
            Ok(ExitCode::FAILURE)
        }
    }
}

/// The whole exchange. `reached` is kept at what a timeout should tell.
async fn converse(connect: &Connect, out: &mut dyn Write, reached: &mut String) -> anyhow::Result<Result<(), String>> {
    let tls = connect.url.tls.then(|| tls(connect.insecure)).transpose()?;
    let mut socket = loop {
        match open(connect, tls.as_ref()).await {
            Ok(socket) => break socket,
            Err(Missed::ForGood(fault)) => return Ok(Err(fault)),
            Err(Missed::ForNow(fault)) => {
                if *reached != fault {
                    writeln!(out, "not yet: {fault}; trying again")?;
                    *reached = fault;
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    };
    writeln!(out, "open: {}", connect.url)?;

    "the echo has not come".clone_into(reached);
    let sent = Instant::now();
    if let Err(error) = socket.send(Message::text(connect.message.as_str())).await {
        return Ok(Err(format!("the message could not be sent: {error}")));
    }
    writeln!(out, "sent: {:?}", connect.message)?;
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) if text.as_str() == connect.message => break,
            Some(Ok(Message::Text(_) | Message::Binary(_))) => {
                writeln!(out, "passed over: a message that is not the echo")?;
            }
            Some(Ok(Message::Close(frame))) => return Ok(Err(format!("closed before the echo, {}", told(frame)))),
            Some(Ok(_)) => {}
            Some(Err(error)) => return Ok(Err(format!("broken before the echo: {error}"))),
            None => return Ok(Err("ended before the echo".to_owned())),
        }
    }
    writeln!(out, "echoed: after {:.1} ms", sent.elapsed().as_secs_f64() * 1000.0)?;

    "the Close has not been answered".clone_into(reached);
    if let Err(error) = socket.close(Some(CloseFrame { code: CloseCode::Normal, reason: "done".into() })).await {
        return Ok(Err(format!("the Close could not be sent: {error}")));
    }
    loop {
        match socket.next().await {
            Some(Ok(Message::Close(Some(CloseFrame { code: CloseCode::Normal, .. })))) => break,
            Some(Ok(Message::Close(frame))) => return Ok(Err(format!("our Close 1000 was answered {}", told(frame)))),
            Some(Ok(_)) => {}
            Some(Err(error)) => return Ok(Err(format!("broken before the answer to our Close: {error}"))),
            None => return Ok(Err("ended without an answer to our Close".to_owned())),
        }
    }
    writeln!(out, "closed: with 1000, from both sides")?;
    Ok(Ok(()))
}

fn told(frame: Option<CloseFrame>) -> String {
    frame.map_or_else(|| "without a code".to_owned(), |f| format!("with {} {:?}", u16::from(f.code), f.reason.as_str()))
}

/// One attempt, up to the 101.
async fn open(connect: &Connect, tls: Option<&TlsConnector>) -> Result<Socket, Missed> {
    let url = &connect.url;
    let request = request(connect).map_err(Missed::ForGood)?;
    let stream = TcpStream::connect((url.host.as_str(), url.port)).await;
    let stream = stream.map_err(|e| Missed::ForNow(format!("cannot connect to {}:{}: {e}", url.host, url.port)))?;
    let _ = stream.set_nodelay(true);
    let stream: Box<dyn Stream> = match tls {
        None => Box::new(stream),
        Some(tls) => {
            let name = ServerName::try_from(url.host.clone());
            let name = name.map_err(|_| Missed::ForGood(format!("no certificate can name {:?}", url.host)))?;
            let stream = tls.connect(name, stream).await;
            Box::new(stream.map_err(|e| Missed::ForNow(format!("no TLS with {}: {e}", url.host)))?)
        }
    };
    match tokio_tungstenite::client_async(request, stream).await {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(answer)) => {
            let body = answer.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
            let fault = format!("refused with {}: {}", answer.status(), body.trim());
            let passes = answer.status().is_server_error()
                || matches!(answer.status(), StatusCode::NOT_FOUND | StatusCode::TOO_MANY_REQUESTS);
            Err(if passes { Missed::ForNow(fault) } else { Missed::ForGood(fault) })
        }
        Err(error) => Err(Missed::ForNow(format!("no WebSocket: {error}"))),
    }
}

/// The handshake: the library's headers, and then those that were asked for, `Host` included.
fn request(connect: &Connect) -> Result<Request, String> {
    let SocketUrl { text, .. } = &connect.url;
    let mut request = text.as_str().into_client_request().map_err(|e| format!("{text} cannot be asked for: {e}"))?;
    for (name, value) in &connect.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|e| format!("header {name:?}: {e}"))?;
        let value = HeaderValue::from_str(value).map_err(|e| format!("header {name}: {e}"))?;
        request.headers_mut().insert(name, value);
    }
    Ok(request)
}

/// Trusts the system's authorities, or anyone when told so.
fn tls(insecure: bool) -> anyhow::Result<TlsConnector> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let config = if insecure {
        config.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider))).with_no_client_auth()
    } else {
        let mut roots = rustls::RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            let why = found.errors.first().map_or_else(|| "there are none".to_owned(), ToString::to_string);
            return Err(anyhow::anyhow!("{why}"))
                .context("no authority of this system can be read; set SSL_CERT_FILE, or give --insecure");
        }
        config.with_root_certificates(roots).with_no_client_auth()
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Takes every certificate; still wants the peer to hold its key.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
