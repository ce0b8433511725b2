//! One socket: how it is opened, and what can be done with it.

use super::Ending;
use super::tail::Tail;
use crate::backend::session::Hello;
use anyhow::{Context, Result, bail, ensure};
use futures_util::{SinkExt, StreamExt};
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Response;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

/// The longest that one step of a connection may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

trait Bytestream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytestream for T {}

/// Where and how to open sockets.
#[derive(Clone)]
pub struct Target {
    address: String,
    host: String,
    path: String,
    headers: Vec<(String, String)>,
    proxied: Option<String>,
    tls: Option<Arc<ClientConfig>>,
}

/// Why there is no socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// An HTTP answer other than 101, with its body.
    Status(u16, String),
    /// No HTTP answer at all.
    Broken(String),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status, body) => write!(f, "status {status}: {}", body.trim()),
            Self::Broken(what) => write!(f, "no answer: {what}"),
        }
    }
}

impl std::error::Error for Refused {}

impl Refused {
    /// The status, if there was one.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Status(status, _) => Some(*status),
            Self::Broken(_) => None,
        }
    }
}

impl Target {
    /// Handshakes in clear for `host` at `address` (host:port).
    pub fn new(address: &str, host: &str) -> Self {
        let (address, host) = (address.to_owned(), host.to_owned());
        Self { address, host, path: "/".to_owned(), headers: Vec::new(), proxied: None, tls: None }
    }

    /// Path and query.
    #[must_use]
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }

    /// One more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// As a load balancer that says the client is at `address` (PROXY protocol, version 1).
    #[must_use]
    pub fn proxied(mut self, address: &str) -> Self {
        self.proxied = Some(address.to_owned());
        self
    }

    /// Over TLS; the host is the server name, too.
    #[must_use]
    pub fn tls(mut self, config: &Arc<ClientConfig>) -> Self {
        self.tls = Some(Arc::clone(config));
        self
    }

    /// Opens a socket.
    pub async fn open(&self) -> Result<Socket, Refused> {
        match tokio::time::timeout(PATIENCE, self.handshake()).await {
            Ok(answer) => answer,
            Err(_) => Err(Refused::Broken(format!("none within {PATIENCE:?}"))),
        }
    }

    async fn handshake(&self) -> Result<Socket, Refused> {
        let broken = |error: &dyn fmt::Display| Refused::Broken(error.to_string());
        let mut stream = TcpStream::connect(&self.address).await.map_err(|error| broken(&error))?;
        let _slower_without = stream.set_nodelay(true);
        if let Some(client) = &self.proxied {
            let header = format!("PROXY TCP4 {client} 192.0.2.1 50000 80\r\n");
            stream.write_all(header.as_bytes()).await.map_err(|error| broken(&error))?;
        }
        let stream: Box<dyn Bytestream> = match &self.tls {
            None => Box::new(stream),
            Some(config) => Box::new(self.wrap(stream, config).await.map_err(|error| broken(&error))?),
        };
        let uri = format!("ws://{}{}", self.host, self.path);
        let mut request = uri.into_client_request().map_err(|error| broken(&error))?;
        for (name, value) in &self.headers {
            let name = HeaderName::try_from(name).map_err(|error| broken(&error))?;
            request.headers_mut().append(name, HeaderValue::from_str(value).map_err(|error| broken(&error))?);
        }
        let config = WebSocketConfig::default().read_buffer_size(4096);
        match client_async_with_config(request, Tail::new(stream), Some(config)).await {
            Ok((stream, answer)) => Ok(Socket { stream, answer }),
            Err(Error::Http(answer)) => {
                let body = answer.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
                Err(Refused::Status(answer.status().as_u16(), body.into_owned()))
            }
            Err(error) => Err(broken(&error)),
        }
    }

    async fn wrap(&self, stream: TcpStream, config: &Arc<ClientConfig>) -> Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(self.host.clone())?;
        Ok(TlsConnector::from(Arc::clone(config)).connect(name, stream).await?)
    }

    /// The certificate that is shown for the host; fails when it is not trusted.
    pub async fn certificate(&self) -> Result<CertificateDer<'static>> {
        let config = self.tls.as_ref().context("a certificate needs TLS")?;
        let shown = async {
            let stream = self.wrap(TcpStream::connect(&self.address).await?, config).await?;
            let chain = stream.get_ref().1.peer_certificates().context("no certificate")?;
            chain.first().map(|first| first.clone().into_owned()).context("an empty chain")
        };
        tokio::time::timeout(PATIENCE, shown).await?
    }

    /// The status of a handshake that is expected to be refused.
    pub async fn status(&self) -> Result<u16> {
        match self.open().await {
            Ok(_) => Ok(101),
            Err(Refused::Status(status, _)) => Ok(status),
            Err(Refused::Broken(what)) => bail!("{}{}: no answer: {what}", self.host, self.path),
        }
    }

    /// Opens a socket that says hello, and what it said.
    pub async fn hello(&self) -> Result<(Socket, Hello)> {
        let mark = if self.path.contains('?') { '&' } else { '?' };
        let target = self.clone().path(format!("{}{mark}hello", self.path));
        let mut socket = target.open().await.with_context(|| format!("{}{}", self.host, self.path))?;
        let hello = socket.hello().await?;
        Ok((socket, hello))
    }
}

/// An open socket.
pub struct Socket {
    stream: WebSocketStream<Tail<Box<dyn Bytestream>>>,
    answer: Response,
}

impl Socket {
    /// A header of the 101.
    pub fn answered(&self, header: &str) -> Option<&str> {
        self.answer.headers().get(header)?.to_str().ok()
    }

    /// Sends a message.
    pub async fn send(&mut self, message: Message) -> Result<()> {
        Ok(tokio::time::timeout(PATIENCE, self.stream.send(message)).await.context("sending takes too long")??)
    }

    /// The next message or the end, however long it takes.
    ///
    /// # Cancel safety
    /// May be dropped and called again.
    pub async fn next(&mut self) -> Result<Message, Ending> {
        let ending = |code, reason| Ending { code, reason, at: Instant::now() };
        match self.stream.next().await {
            Some(Ok(Message::Close(frame))) => {
                let told = frame.map(|frame| (u16::from(frame.code), frame.reason.to_string()));
                let (code, reason) = self.stream.get_ref().close().or(told).unwrap_or((1005, String::new()));
                Err(ending(code, reason))
            }
            Some(Ok(message)) => Ok(message),
            Some(Err(error)) => Err(ending(1006, error.to_string())),
            None => Err(ending(1006, "the connection ended".to_owned())),
        }
    }

    /// The next text or binary message.
    pub async fn data(&mut self) -> Result<Message> {
        let data = async {
            loop {
                match self.next().await {
                    Ok(message) if message.is_text() || message.is_binary() => return Ok(message),
                    Ok(_) => {}
                    Err(end) => bail!("{} {:?} while a message was awaited", end.code, end.reason),
                }
            }
        };
        tokio::time::timeout(PATIENCE, data).await.context("no message in time")?
    }

    /// What a backend that was asked to say hello says first.
    pub async fn hello(&mut self) -> Result<Hello> {
        let text = self.data().await?.into_text()?;
        serde_json::from_str(&text).with_context(|| format!("not a hello: {text}"))
    }

    /// Sends a text and wants it back.
    pub async fn echo(&mut self, text: &str) -> Result<()> {
        self.send(Message::text(text)).await?;
        let back = self.data().await?;
        ensure!(back == Message::text(text), "{text:?} came back as {back:?}");
        Ok(())
    }

    /// Reads until the end, which must come within `ceiling`.
    pub async fn ended(mut self, ceiling: Duration) -> Result<Ending> {
        let end = async {
            loop {
                if let Err(end) = self.next().await {
                    return end;
                }
            }
        };
        let end = tokio::time::timeout(ceiling, end).await.with_context(|| format!("still open after {ceiling:?}"))?;
        self.leave().await;
        Ok(end)
    }

    /// Closes with a code and wants it back.
    pub async fn close(mut self, code: u16) -> Result<()> {
        self.send(Message::Close(Some(CloseFrame { code: code.into(), reason: "".into() }))).await?;
        let end = self.ended(PATIENCE).await?;
        ensure!(end.code == code, "Close {code} was answered with {} {:?}", end.code, end.reason);
        Ok(())
    }

    /// After a Close has come: lets the answer out and waits for the peer to end the connection.
    pub(super) async fn leave(&mut self) {
        let answered = async { while let Some(Ok(_)) = self.stream.next().await {} };
        let _late = tokio::time::timeout(Duration::from_secs(5), answered).await;
    }
}
