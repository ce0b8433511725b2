//! `sheave echo`: a plain WebSocket server that sends back what it gets; a backend to try things with.
//!
//! Answers pings, takes the first subprotocol that is offered, refuses messages above 16 MiB with 1009. On SIGTERM it
//! sends everyone 1001 and gives them a moment to answer; a second signal ends at once.

use crate::proxy::listener;
use anyhow::Context;
use futures_util::{SinkExt, StreamExt};
use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::header::SEC_WEBSOCKET_PROTOCOL;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};

/// The longest message, and so the longest frame, in bytes.
pub const LONGEST_MESSAGE: usize = 16 << 20;

/// How long a client may take to send its handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long clients may take to answer a Close of ours.
const FAREWELL: Duration = Duration::from_secs(5);

/// How long accepting pauses when the system has no descriptor left.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// Echoes on `listen` until SIGTERM or SIGINT; says on `out` where it listens.
///
/// # Errors
/// An address that cannot be bound, or an output that cannot be written.
pub fn run(listen: SocketAddr, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let socket = listener::bind(listen, false).with_context(|| format!("cannot listen on {listen}"))?;
        let listener = TcpListener::from_std(socket)?;
        writeln!(out, "echoing on ws://{}", listener.local_addr()?)?;
        let (stop, stopping) = watch::channel(false);
        tokio::select! {
            () = accept(&listener, &stopping) => {}
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        drop((listener, stopping));
        writeln!(out, "stopping: {} open", stop.receiver_count())?;
        stop.send_replace(true);
        tokio::select! {
            () = stop.closed() => {}
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Accepts for ever. Every task holds a receiver, so the stop knows when the last one has ended.
async fn accept(listener: &TcpListener, stopping: &watch::Receiver<bool>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(serve(stream, stopping.clone()))),
            Err(_) => tokio::time::sleep(EXHAUSTED_PAUSE).await,
        }
    }
}

/// One client, from its handshake to its end.
async fn serve(stream: TcpStream, mut stopping: watch::Receiver<bool>) {
    let bounds =
        WebSocketConfig::default().max_message_size(Some(LONGEST_MESSAGE)).max_frame_size(Some(LONGEST_MESSAGE));
    let _ = stream.set_nodelay(true);
    let handshake = tokio_tungstenite::accept_hdr_async_with_config(stream, choose, Some(bounds));
    let Ok(Ok(mut socket)) = tokio::time::timeout(HANDSHAKE, handshake).await else { return };
    let farewell = tokio::select! {
        farewell = echo(&mut socket) => farewell,
        _ = stopping.wait_for(|stop| *stop) => Some((CloseCode::Away, "the echo server is stopping")),
    };
    let Some((code, reason)) = farewell else { return };
    let _ = tokio::time::timeout(FAREWELL, async {
        socket.close(Some(CloseFrame { code, reason: reason.into() })).await?;
        while let Some(Ok(_)) = socket.next().await {}
        Ok::<_, Error>(())
    })
    .await;
}

/// Sends back every data message; pings and Closes are answered by the library. Says how to end what the client has
/// not ended itself.
async fn echo(socket: &mut WebSocketStream<TcpStream>) -> Option<(CloseCode, &'static str)> {
    loop {
        match socket.next().await? {
            Ok(message) if message.is_text() || message.is_binary() => socket.send(message).await.ok()?,
            Ok(_) => {}
            Err(Error::Capacity(_)) => return Some((CloseCode::Size, "longer than 16 MiB")),
            Err(Error::Utf8(_)) => return Some((CloseCode::Invalid, "not UTF-8")),
            Err(Error::Protocol(_)) => return Some((CloseCode::Protocol, "not RFC 6455")),
            Err(_) => return None,
        }
    }
}

/// Chooses the first subprotocol the client offers.
#[allow(clippy::result_large_err, clippy::unnecessary_wraps)] // the shape is the library's
fn choose(request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    let offered = request.headers().get(SEC_WEBSOCKET_PROTOCOL).and_then(|value| value.to_str().ok());
    if let Some(first) = offered.and_then(|list| list.split(',').next())
        && let Ok(value) = first.trim().parse()
    {
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, value);
    }
    Ok(response)
}
