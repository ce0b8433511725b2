//! A backend that sends back what it gets, and keeps the headers of the handshakes that reached it.

use futures_util::{SinkExt, StreamExt};
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio_tungstenite::accept_hdr_async;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderMap;

/// A running one.
pub(super) struct Echo {
    /// Where it listens.
    pub(super) port: u16,
    heads: Arc<Mutex<Vec<HeaderMap>>>,
    listening: tokio::task::JoinHandle<()>,
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl Echo {
    /// Starts one on a free port.
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("the loopback has a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let heads = Arc::<Mutex<Vec<HeaderMap>>>::default();
        let log = Arc::clone(&heads);
        let listening = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let log = Arc::clone(&log);
                tokio::spawn(async move {
                    #[expect(clippy::result_large_err, reason = "the callback's type is the library's")]
                    let note = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
                        log.lock().expect("no test panics with it").push(request.headers().clone());
                        Ok(response)
                    };
                    let Ok(mut socket) = accept_hdr_async(stream, note).await else { return };
                    while let Some(Ok(message)) = socket.next().await {
                        if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { port, heads, listening }
    }

    /// How many handshakes have reached it.
    pub(super) fn count(&self) -> usize {
        self.heads.lock().expect("no test panics with it").len()
    }

    /// A header of the last handshake.
    pub(super) fn header(&self, name: &str) -> Option<String> {
        let heads = self.heads.lock().expect("no test panics with it");
        heads.last()?.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
    }
}
