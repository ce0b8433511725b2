//! One end of a connection: sends what it is told, reads with a deadline, and fails with what it has seen so far.

use super::frame::Frame;
use super::head::{Answer, Head};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// How long a test waits for anything.
pub const DEADLINE: Duration = Duration::from_secs(10);

trait Duplex: Read + Write + Send {}
impl<T: Read + Write + Send> Duplex for T {}

/// One end of a connection.
pub struct Wire {
    stream: Box<dyn Duplex>,
    tcp: TcpStream,
    received: Vec<u8>,
}

impl Wire {
    /// Wraps an end in clear.
    pub fn plain(tcp: TcpStream) -> Self {
        let stream = tcp.try_clone().expect("another descriptor");
        Self::over(Box::new(stream), tcp)
    }

    /// Connects in clear.
    pub fn connect(address: SocketAddr) -> Self {
        Self::plain(TcpStream::connect(address).expect("the listener accepts"))
    }

    /// Connects by TLS, whatever certificate is shown.
    pub fn connect_tls(address: SocketAddr) -> Self {
        Self::connect_tls_as(address, None)
    }

    /// As [`Wire::connect_tls`], with a certificate of the client's own and its key.
    pub fn connect_tls_as(address: SocketAddr, own: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let trust = Arc::new(AnyCertificate(Arc::clone(&provider)));
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider's own versions")
            .dangerous()
            .with_custom_certificate_verifier(trust);
        let config = match own {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => {
                config.with_client_auth_cert(vec![certificate], key).expect("the key is the certificate's")
            }
        };
        let name = "chat.example.com".try_into().expect("a host name");
        let connection = rustls::ClientConnection::new(Arc::new(config), name).expect("a valid configuration");
        let tcp = TcpStream::connect(address).expect("the listener accepts");
        let stream = rustls::StreamOwned::new(connection, tcp.try_clone().expect("another descriptor"));
        Self::over(Box::new(stream), tcp)
    }

    /// Takes a connection on which the peer begins TLS.
    pub fn accept_tls(tcp: TcpStream, config: Arc<rustls::ServerConfig>) -> Self {
        let connection = rustls::ServerConnection::new(config).expect("a valid configuration");
        let stream = rustls::StreamOwned::new(connection, tcp.try_clone().expect("another descriptor"));
        Self::over(Box::new(stream), tcp)
    }

    fn over(stream: Box<dyn Duplex>, tcp: TcpStream) -> Self {
        tcp.set_nodelay(true).expect("a TCP socket");
        tcp.set_read_timeout(Some(DEADLINE)).expect("a TCP socket");
        tcp.set_write_timeout(Some(DEADLINE)).expect("a TCP socket");
        Self { stream, tcp, received: Vec::new() }
    }

    /// Sends all of `bytes` at once.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("the peer takes it");
    }

    /// Sends to a peer that may be gone.
    ///
    /// # Errors
    /// It is gone.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref())?;
        self.stream.flush()
    }

    /// Waits so long from now on, in place of [`DEADLINE`].
    pub fn wait_at_most(&self, time: Duration) {
        self.tcp.set_read_timeout(Some(time)).expect("a TCP socket");
        self.tcp.set_write_timeout(Some(time)).expect("a TCP socket");
    }

    /// Ends our half of the TCP connection.
    pub fn finish(&self) {
        // A peer that is gone already has nothing left to be told.
        let _ = self.tcp.shutdown(Shutdown::Write);
    }

    /// Ends the TCP connection by a reset, as a machine that crashed would in the end.
    pub fn reset(self) {
        socket2::SockRef::from(&self.tcp).set_linger(Some(Duration::ZERO)).expect("a TCP socket");
    }

    /// The same end in clear once more, so that one thread can send while another reads.
    pub fn again(&self) -> Self {
        Self::plain(self.tcp.try_clone().expect("another descriptor"))
    }

    /// Reads a head.
    pub fn head(&mut self) -> Head {
        Head::read(self)
    }

    /// Reads an answer.
    pub fn answer(&mut self) -> Answer {
        Answer::read(self)
    }

    /// Reads a frame.
    pub fn frame(&mut self) -> Frame {
        Frame::read(self)
    }

    /// Reads `size` bytes.
    pub fn take(&mut self, size: usize) -> Vec<u8> {
        while self.received.len() < size {
            assert!(self.fill(), "the peer ended, wanted {size} bytes, got {}", self.seen());
        }
        self.received.drain(..size).collect()
    }

    /// Reads up to and with the first `end`.
    pub fn take_through(&mut self, end: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = self.received.windows(end.len()).position(|w| w == end) {
                return self.received.drain(..at + end.len()).collect();
            }
            assert!(self.fill(), "the peer ended, wanted {:?}, got {}", String::from_utf8_lossy(end), self.seen());
        }
    }

    /// Reads to the peer's FIN. A reset fails: what ends on purpose ends properly.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.fill() {}
        std::mem::take(&mut self.received)
    }

    /// Reads until the peer's end is gone, by FIN or by reset; gives what came before.
    pub fn gone(&mut self) -> Vec<u8> {
        while self.hears() {}
        std::mem::take(&mut self.received)
    }

    /// Reads once; false when the peer's end is gone, by FIN or by reset.
    pub fn hears(&mut self) -> bool {
        let mut scratch = [0; 4096];
        match self.stream.read(&mut scratch) {
            Ok(length) => {
                self.received.extend_from_slice(&scratch[..length]);
                length > 0
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("still open after {}", self.seen())
            }
            Err(_) => false,
        }
    }

    /// What was read and not taken yet.
    pub fn heard(&self) -> &[u8] {
        &self.received
    }

    /// Whether nothing comes for `time`, bytes read before included. It can miss a late byte, never invent one.
    pub fn is_quiet(&mut self, time: Duration) -> bool {
        if !self.received.is_empty() {
            return false;
        }
        self.tcp.set_read_timeout(Some(time)).expect("a TCP socket");
        let mut scratch = [0; 4096];
        let quiet = match self.stream.read(&mut scratch) {
            Ok(length) => {
                self.received.extend_from_slice(&scratch[..length]);
                false
            }
            Err(e) => matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        };
        self.tcp.set_read_timeout(Some(DEADLINE)).expect("a TCP socket");
        quiet
    }

    /// Reads once; false at the peer's FIN.
    fn fill(&mut self) -> bool {
        let mut scratch = [0; 16 << 10];
        match self.stream.read(&mut scratch) {
            Ok(length) => {
                self.received.extend_from_slice(&scratch[..length]);
                length > 0
            }
            Err(error) => panic!("{error} after {}", self.seen()),
        }
    }

    fn seen(&self) -> String {
        let shown = &self.received[..self.received.len().min(400)];
        format!("{} bytes: {:?}", self.received.len(), String::from_utf8_lossy(shown))
    }
}

/// Accepts every certificate: these tests are about frames, not about trust.
#[derive(Debug)]
struct AnyCertificate(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &rustls::pki_types::ServerName<'_>,
        _ocsp: &[u8],
        _now: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
