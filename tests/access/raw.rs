//! Services and handshakes byte by byte, for what a WebSocket library does not let a test see or send.

#![allow(unreachable_pub)] // `pub` here says what a test may use

use crate::living::within;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// What a service does with a request.
pub enum Does {
    /// Sends this.
    Answer(String),
    /// Keeps the connection open and says nothing.
    Nothing,
    /// Sends this and closes.
    Break(&'static str),
}

/// A service that speaks HTTP/1.1 as far as it is told to, and notes what it was sent.
pub struct Server {
    pub port: u16,
    heads: Arc<Mutex<Vec<String>>>,
    connections: Arc<Mutex<usize>>,
    closed: Arc<Mutex<usize>>,
    listening: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl Server {
    pub async fn start(does: impl Fn(&str) -> Does + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("the loopback has a free port");
        Self::on(listener, does)
    }

    pub fn on(listener: TcpListener, does: impl Fn(&str) -> Does + Send + Sync + 'static) -> Self {
        let port = listener.local_addr().expect("it is bound").port();
        let (heads, connections) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<Mutex<usize>>::default());
        let (log, count, does) = (Arc::clone(&heads), Arc::clone(&connections), Arc::new(does));
        let closed = Arc::<Mutex<usize>>::default();
        let ends = Arc::clone(&closed);
        let listening = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                *count.lock().expect("no test panics with it") += 1;
                let (log, does, ends) = (Arc::clone(&log), Arc::clone(&does), Arc::clone(&ends));
                tokio::spawn(async move {
                    while let Some(head) = head(&mut stream).await {
                        log.lock().expect("no test panics with it").push(head.clone());
                        match does(&head) {
                            Does::Answer(answer) => {
                                if stream.write_all(answer.as_bytes()).await.is_err() {
                                    return;
                                }
                            }
                            Does::Nothing => {}
                            Does::Break(answer) => {
                                let _ = stream.write_all(answer.as_bytes()).await;
                                drop(stream);
                                *ends.lock().expect("no test panics with it") += 1;
                                return;
                            }
                        }
                    }
                });
            }
        });
        Self { port, heads, connections, closed, listening }
    }

    /// A backend: opens every session.
    pub async fn backend() -> Self {
        Self::start(|head| {
            let accept = derive_accept_key(value(head, "sec-websocket-key").unwrap_or_default().as_bytes());
            Does::Answer(format!(
                "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
            ))
        })
        .await
    }

    /// The heads that came.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("no test panics with it").clone()
    }

    /// How many connections it has closed on its own.
    pub fn closed(&self) -> usize {
        *self.closed.lock().expect("no test panics with it")
    }

    pub fn connections(&self) -> usize {
        *self.connections.lock().expect("no test panics with it")
    }
}

/// Reads one head; `None` at the end.
pub async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).expect("a head of UTF-8"))
}

/// The values of a header, joined.
pub fn value(head: &str, name: &str) -> Option<String> {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    let values: Vec<&str> = lines.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect();
    (!values.is_empty()).then(|| values.join(" | "))
}

/// Offers a handshake with more header lines; the head and the body of the answer, and the connection.
pub async fn offer_to(at: SocketAddr, host: &str, target: &str, lines: &[&str]) -> (String, String, TcpStream) {
    within("a handshake", async {
        let mut stream = TcpStream::connect(at).await.expect("Sheave listens");
        let more: String = lines.iter().flat_map(|line| [line, "\r\n"]).collect();
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
        );
        stream.write_all(request.as_bytes()).await.expect("a handshake can be sent");
        let head = head(&mut stream).await.expect("an answer");
        let mut body = String::new();
        if status(&head) != 101 {
            stream.read_to_string(&mut body).await.expect("a whole answer");
        }
        (head, body, stream)
    })
    .await
}

pub fn status(head: &str) -> u16 {
    head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("no status: {head}"))
}

pub fn ok(more: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n{more}\r\nfine")
}

/// As [`offer_to`], to `chat.test`.
pub async fn offer(at: SocketAddr, target: &str, lines: &[&str]) -> (String, String) {
    let (head, body, _) = offer_to(at, "chat.test", target, lines).await;
    (head, body)
}
