//! One connection from its handshake to its end.

use super::Pod;
use super::script::Script;
use futures_util::{SinkExt, StreamExt};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};

/// What a connection with `hello` is told first.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Hello {
    /// Name of the pod.
    pub pod: String,
    /// Path and query as they came.
    pub path: String,
    /// Headers by name in lower case; of several lines the last.
    pub headers: BTreeMap<String, String>,
    /// The subprotocol that was chosen.
    pub subprotocol: Option<String>,
}

pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(stream: S, pod: Arc<Pod>) {
    let mut hello = Hello { pod: pod.name.clone(), ..Hello::default() };
    let mut script = Script::default();
    // The callback's type is tungstenite's, and so is the size of its error.
    #[allow(clippy::result_large_err)]
    let opening = accept_hdr_async(stream, |request: &Request, mut response: Response| {
        script = Script::parse(request.uri().query().unwrap_or_default());
        hello.path = request.uri().to_string();
        for (name, value) in request.headers() {
            hello.headers.insert(name.to_string(), value.to_str().unwrap_or_default().to_owned());
        }
        if let Some(status) = script.status.and_then(|status| StatusCode::from_u16(status).ok()) {
            let mut refusal = ErrorResponse::new(Some("refused by the backend".to_owned()));
            *refusal.status_mut() = status;
            return Err(refusal);
        }
        let offered = hello.headers.get("sec-websocket-protocol").cloned().unwrap_or_default();
        hello.subprotocol = script.choose(&offered).map(str::to_owned);
        if let Some(chosen) = hello.subprotocol.as_deref().and_then(|name| HeaderValue::from_str(name).ok()) {
            response.headers_mut().insert("sec-websocket-protocol", chosen);
        }
        Ok(response)
    });
    let Ok(socket) = opening.await else { return };
    let _open = pod.ledger.open();
    if script.mute {
        return swallow(socket.into_inner()).await;
    }
    // A broken connection is what many scenarios are about, and no news here.
    let _ended = play(socket, &script, &hello, &pod).await;
}

async fn swallow(mut stream: impl AsyncRead + Unpin) {
    let mut space = vec![0; 4096];
    while matches!(stream.read(&mut space).await, Ok(1..)) {}
}

async fn play<S: AsyncRead + AsyncWrite + Unpin>(
    mut socket: WebSocketStream<S>,
    script: &Script,
    hello: &Hello,
    pod: &Pod,
) -> Result<(), Error> {
    if script.hello {
        let hello = serde_json::to_string(hello).unwrap_or_default();
        socket.send(Message::text(hello)).await?;
    }
    if let Some(size) = script.big {
        socket.send(Message::binary(vec![b'x'; size])).await?;
    }
    let mut closing = pod.closing.clone();
    let mut numbers = tokio::time::interval(script.every);
    let mut number = 0;
    let end = tokio::time::sleep(script.after);
    tokio::pin!(end);
    let ends = script.close.is_some() || script.drop;
    loop {
        tokio::select! {
            message = socket.next() => {
                let Some(message) = message else { return Ok(()) };
                let message = message?;
                if let Message::Text(text) = &message && let Some(id) = &script.id {
                    pod.ledger.received(id, text);
                }
                if message.is_text() || message.is_binary() {
                    if !script.delay.is_zero() {
                        tokio::time::sleep(script.delay).await;
                    }
                    socket.send(message).await?;
                }
            }
            _ = numbers.tick(), if number < script.sequence => {
                number += 1;
                socket.send(Message::text(number.to_string())).await?;
            }
            () = &mut end, if ends => {
                let Some(code) = script.close else { return Ok(()) };
                return close(socket, code).await;
            }
            () = told(&mut closing) => return close(socket, 1001).await,
        }
    }
}

/// Waits until every socket is to be closed.
async fn told(closing: &mut watch::Receiver<bool>) {
    let _at_once_if_the_sender_is_gone = closing.wait_for(|closing| *closing).await;
}

async fn close<S: AsyncRead + AsyncWrite + Unpin>(mut socket: WebSocketStream<S>, code: u16) -> Result<(), Error> {
    socket.close(Some(CloseFrame { code: code.into(), reason: "the backend says so".into() })).await?;
    let answered = async { while let Some(Ok(_)) = socket.next().await {} };
    let _late = tokio::time::timeout(Duration::from_secs(5), answered).await;
    Ok(())
}
