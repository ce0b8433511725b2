//! Clients: tokio-tungstenite over a TCP or TLS connection to a given address.

use super::within;
use futures_util::{SinkExt, StreamExt};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, client_async};

/// A byte stream in clear or over TLS.
pub trait Bytestream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytestream for T {}

/// A connected client.
pub struct Client(pub WebSocketStream<Box<dyn Bytestream>>);

/// How a connection ended, from the client's view.
#[derive(Debug)]
pub struct Ended {
    /// Messages that came before.
    pub messages: Vec<Message>,
    /// The code of the Close; 1005 without one, 1006 when the connection ended without a Close.
    pub code: u16,
    /// The Close's reason.
    pub reason: String,
}

/// Opens a WebSocket in clear at `host`, path included (`echo.test/`).
pub async fn try_open(at: SocketAddr, host: &str) -> Result<Client, Error> {
    within("opening handshake", async {
        let stream: Box<dyn Bytestream> = Box::new(TcpStream::connect(at).await?);
        Ok(Client(client_async(format!("ws://{host}"), stream).await?.0))
    })
    .await
}

/// As [`try_open`], and expects it to work.
pub async fn open(at: SocketAddr, host: &str) -> Client {
    try_open(at, host).await.unwrap_or_else(|error| panic!("{host} opens: {error}"))
}

/// The status with which the handshake is refused.
pub async fn refused(at: SocketAddr, host: &str) -> u16 {
    match try_open(at, host).await {
        Err(Error::Http(answer)) => answer.status().as_u16(),
        Err(error) => panic!("{host}: no answer: {error}"),
        Ok(_) => panic!("{host} is not refused"),
    }
}

/// A TLS connection with this server name.
pub async fn tls(at: SocketAddr, name: &str, config: &Arc<ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(name.to_owned()).expect("a test's server name is valid");
    within("TLS handshake", async {
        TlsConnector::from(Arc::clone(config)).connect(name, TcpStream::connect(at).await?).await
    })
    .await
}

/// Opens a WebSocket over TLS.
pub async fn open_tls(at: SocketAddr, host: &str, config: &Arc<ClientConfig>) -> Client {
    let stream = tls(at, host, config).await.unwrap_or_else(|error| panic!("TLS to {host}: {error}"));
    upgrade(Box::new(stream), host).await
}

/// Opens a WebSocket on a connection.
pub async fn upgrade(stream: Box<dyn Bytestream>, host: &str) -> Client {
    let opened = within("opening handshake", client_async(format!("ws://{host}/"), stream)).await;
    Client(opened.unwrap_or_else(|error| panic!("{host} opens: {error}")).0)
}

impl Client {
    /// Sends a message.
    pub async fn send(&mut self, message: Message) {
        within("sending", self.0.send(message)).await.expect("the client can send");
    }

    /// Sends a text.
    pub async fn say(&mut self, text: impl Into<Utf8Bytes>) {
        self.send(Message::Text(text.into())).await;
    }

    /// The next message of any kind.
    pub async fn next(&mut self) -> Message {
        let next = within("a message", self.0.next()).await;
        next.expect("the connection goes on").unwrap_or_else(|error| panic!("no message: {error}"))
    }

    /// The next text or binary message.
    pub async fn data(&mut self) -> Message {
        loop {
            let message = self.next().await;
            if message.is_text() || message.is_binary() {
                return message;
            }
            assert!(!message.is_close(), "closed while a message was awaited: {message:?}");
        }
    }

    /// Sends a text and waits for it to come back.
    pub async fn echo(&mut self, text: &str) {
        self.say(text).await;
        assert_eq!(self.data().await, Message::text(text));
    }

    /// Reads until the connection ends, answering pings and the Close.
    pub async fn ended(&mut self) -> Ended {
        let mut ended = Ended { messages: Vec::new(), code: 1006, reason: String::new() };
        within("the end of the connection", async {
            while let Some(Ok(message)) = self.0.next().await {
                match message {
                    Message::Close(Some(frame)) => {
                        ended.code = frame.code.into();
                        ended.reason = frame.reason.to_string();
                    }
                    Message::Close(None) => ended.code = 1005,
                    message => ended.messages.push(message),
                }
            }
        })
        .await;
        ended
    }

    /// Reads a Close from the wire: tungstenite takes 1014 (IANA close code registry) for a fault and reports 1002.
    pub async fn close_frame(&mut self) -> (u16, String) {
        let stream = self.0.get_mut();
        within("a Close", async {
            let mut head = [0; 4];
            stream.read_exact(&mut head).await.expect("a Close comes before the end");
            assert_eq!(head[0], 0x88, "not a Close: {head:?}");
            let mut reason = vec![0; usize::from(head[1]) - 2];
            stream.read_exact(&mut reason).await.expect("the Close is whole");
            let reason = String::from_utf8(reason).expect("a reason is UTF-8");
            (u16::from_be_bytes([head[2], head[3]]), reason)
        })
        .await
    }

    /// Closes with a code and waits for the end.
    pub async fn close(mut self, code: u16) -> Ended {
        use tokio_tungstenite::tungstenite::protocol::CloseFrame;
        self.send(Message::Close(Some(CloseFrame { code: code.into(), reason: "".into() }))).await;
        self.ended().await
    }
}

/// Opens `count` clients of `host` and has each exchange its number with the service.
pub async fn many(sheave: &super::Sheave, host: &str, count: usize) -> Vec<Client> {
    let mut clients = Vec::new();
    for number in 0..count {
        let mut client = open(sheave.ws, host).await;
        client.echo(&number.to_string()).await;
        clients.push(client);
    }
    clients
}
