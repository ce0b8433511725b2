//! The service behind every proxy: answers 101 and echoes each message.
//!
//! Runs in its own process (`peers echo-backend`), one thread, so that its CPU
//! time is never counted as a proxy's. Prints its port and then serves until
//! its standard input ends, that is, until the harness is gone.

use std::io::{self, Read, Write};

use anyhow::{Context, Result};
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

use crate::frame::{self, Inbox};

/// The constant of RFC 6455 §1.3.
const ACCEPT_SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Serves on a free port of 127.0.0.1 until standard input ends.
pub(crate) async fn run() -> Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(([127, 0, 0, 1], 0).into())?;
    let listener = socket.listen(4096).context("the backend cannot listen")?;
    println!("{}", listener.local_addr()?.port());
    io::stdout().flush()?;
    std::thread::spawn(|| {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    loop {
        let (stream, _) = listener.accept().await.context("the backend cannot accept")?;
        tokio::spawn(async move {
            // A proxy that hangs up is the proxy's business; the load side
            // notices and fails the trial.
            let _ = serve(stream).await;
        });
    }
}

/// Echoes on one connection until a Close frame or the end of the stream.
async fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut inbox = Inbox::new();
    let head = loop {
        inbox.fill(&mut stream).await?;
        if let Some(head) = inbox.take_head() {
            break head;
        }
    };
    stream.write_all(answer(&head).as_bytes()).await?;

    let mut out = Vec::new();
    loop {
        while let Some(frame) = inbox.take_frame() {
            let opcode = match frame.opcode {
                frame::PING => frame::PONG,
                frame::PONG => continue,
                other => other,
            };
            frame::write_server(&mut out, opcode, inbox.unmasked(&frame));
            if opcode == frame::CLOSE {
                // RFC 6455 §7.1.1: the server closes the TCP connection first.
                stream.write_all(&out).await?;
                return stream.shutdown().await;
            }
        }
        if !out.is_empty() {
            stream.write_all(&out).await?;
            out.clear();
        }
        inbox.fill(&mut stream).await?;
    }
}

/// The answer to an opening handshake (RFC 6455 §4.2.2), or 400 without a key.
fn answer(head: &str) -> String {
    let key = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim())
    });
    let Some(key) = key else {
        return "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n".to_owned();
    };
    let accept = STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{ACCEPT_SUFFIX}").as_bytes()));
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )
}
