//! Handshakes byte by byte: a client that offers one, a backend that notes what came, and Secrets to judge it by.

use crate::living::within;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// A backend that opens every session, keeps it open, and notes the handshakes it was sent.
pub(crate) struct Backend {
    pub(crate) port: u16,
    heads: Arc<Mutex<Vec<String>>>,
    listening: JoinHandle<()>,
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl Backend {
    /// One that chooses the first subprotocol it is offered.
    pub(crate) async fn start() -> Self {
        Self::choosing(|offered| offered.split(", ").next().filter(|name| !name.is_empty()).map(str::to_owned)).await
    }

    /// One that chooses of the list it is offered as told.
    pub(crate) async fn choosing(choose: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("the loopback has a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let (log, choose) = (Arc::clone(&heads), Arc::new(choose));
        let listening = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (log, choose) = (Arc::clone(&log), Arc::clone(&choose));
                tokio::spawn(async move {
                    let Some(head) = head(&mut stream).await else { return };
                    log.lock().expect("no test panics with it").push(head.clone());
                    let accept = derive_accept_key(value(&head, "sec-websocket-key").unwrap_or_default().as_bytes());
                    let chosen = choose(&value(&head, "sec-websocket-protocol").unwrap_or_default());
                    let chosen = chosen.map(|name| format!("Sec-WebSocket-Protocol: {name}\r\n")).unwrap_or_default();
                    let answer = format!(
                        "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{chosen}\
                         Sec-WebSocket-Accept: {accept}\r\n\r\n"
                    );
                    let _ = stream.write_all(answer.as_bytes()).await;
                    let _ = stream.read_to_end(&mut Vec::new()).await;
                });
            }
        });
        Self { port, heads, listening }
    }

    /// The handshakes that came.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("no test panics with it").clone()
    }

    /// The last one.
    pub(crate) fn last(&self) -> String {
        self.heads().pop().expect("a handshake came")
    }
}

/// Reads one head; `None` at the end.
async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).expect("a head of UTF-8"))
}

/// The values of a header, joined.
pub(crate) fn value(head: &str, name: &str) -> Option<String> {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    let values: Vec<&str> = lines.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect();
    (!values.is_empty()).then(|| values.join(" | "))
}

/// Offers a handshake for `chat.test` with more header lines; the head of the answer. The connection ends with it.
pub(crate) async fn offer(at: SocketAddr, target: &str, lines: &[&str]) -> String {
    within("a handshake", async {
        let mut stream = TcpStream::connect(at).await.expect("Sheave listens");
        let more: String = lines.iter().flat_map(|line| [line, "\r\n"]).collect();
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: chat.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
        );
        stream.write_all(request.as_bytes()).await.expect("a handshake can be sent");
        head(&mut stream).await.expect("an answer")
    })
    .await
}

pub(crate) fn status(head: &str) -> u16 {
    head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("no status: {head}"))
}

/// A Secret with these entries and labels.
pub(crate) fn secret(name: &str, labels: &str, entries: &[(&str, &str)]) -> String {
    let data = entries.iter().map(|(name, content)| format!("{name}: {}", BASE64_STANDARD.encode(content)));
    let data = data.collect::<Vec<_>>().join(", ");
    format!("---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, labels: {{{labels}}}}}\ndata: {{{data}}}\n")
}

/// The block of one provider `p`.
pub(crate) fn provider(kind: &str, block: &str, more: &str) -> String {
    format!("authentication: {{providers: [{{name: p, type: {kind}, {block}{more}}}]}}")
}
