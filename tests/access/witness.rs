//! A backend that keeps every byte of a handshake, and clients that write theirs byte by byte.

#![allow(unreachable_pub)] // `pub` here says what a test may use

use super::living::client::Bytestream;
use super::living::within;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use std::net::{IpAddr, SocketAddr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;

/// A key of RFC 6455 §1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// A service that accepts every handshake and then only waits for the end.
pub struct Witness {
    /// Where it listens.
    pub port: u16,
    heads: watch::Receiver<Vec<Vec<u8>>>,
    listening: tokio::task::JoinHandle<()>,
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl Witness {
    /// Starts one on a free port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("the loopback has a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let (log, heads) = watch::channel(Vec::new());
        let listening = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let log = log.clone();
                tokio::spawn(async move {
                    let head = head(&mut stream).await;
                    log.send_modify(|heads| heads.push(head));
                    let answer = format!(
                        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                         Sec-WebSocket-Accept: {}\r\n\r\n",
                        accept()
                    );
                    let _ = stream.write_all(answer.as_bytes()).await;
                    let _ = stream.read_to_end(&mut Vec::new()).await;
                });
            }
        });
        Self { port, heads, listening }
    }

    /// How many handshakes have reached it.
    pub fn count(&self) -> usize {
        self.heads.borrow().len()
    }

    /// What came first in the last connection, as bytes.
    pub fn last(&self) -> Vec<u8> {
        self.heads.borrow().last().cloned().unwrap_or_default()
    }

    /// The values of a header in the last handshake.
    pub fn header(&self, name: &str) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.last()).into_owned();
        let lines = text.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned()).collect()
    }
}

/// The answer to [`KEY`] (RFC 6455 §4.2.2).
fn accept() -> String {
    let text = format!("{KEY}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    BASE64_STANDARD.encode(digest)
}

/// Reads up to the end of a request's head, whatever comes before it.
async fn head(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let begun = bytes.windows(4).position(|window| window == b"GET ");
        if begun.is_some() && bytes.ends_with(b"\r\n\r\n") {
            return bytes;
        }
        match stream.read_u8().await {
            Ok(byte) => bytes.push(byte),
            Err(_) => return bytes,
        }
    }
}

/// A connection from an address of this machine.
pub async fn from(source: &str, to: SocketAddr) -> TcpStream {
    let source: IpAddr = source.parse().expect("an address");
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::new(source, 0)).expect("every address of 127.0.0.0/8 is of the loopback");
    within("a connection", socket.connect(to)).await.expect("it is accepted")
}

/// What a client is answered.
#[derive(Debug)]
pub struct Answer {
    /// The status; 0 when the connection ended without an answer.
    pub status: u16,
}

/// Sends a handshake for `host` with more header lines, each ending in CRLF.
pub async fn ask(stream: &mut (impl Bytestream + ?Sized), host: &str, lines: &str) -> Answer {
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: {KEY}\r\n{lines}\r\n"
    );
    // A connection that is refused for its first bytes may be gone before the rest is written.
    let _ = stream.write_all(request.as_bytes()).await;
    let _ = stream.flush().await;
    let mut bytes = Vec::new();
    within("an answer", async {
        while !bytes.ends_with(b"\r\n\r\n") || !bytes.starts_with(b"HTTP/1.1 101") {
            match stream.read_u8().await {
                Ok(byte) => bytes.push(byte),
                Err(_) => break,
            }
        }
    })
    .await;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Answer { status }
}
