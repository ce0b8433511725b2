//! Writes answers downstream: a refusal before the session, or the 101 that opens it.
//!
//! Decides the wire form only. Which refusal it is, and whether the upstream's answer earned a 101, is decided
//! where the answer comes from.

use super::fields::Only;
use super::head::ResponseHead;
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::StatusCode;
use std::borrow::Cow;
use std::fmt;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// For the whole of a refusal, from the first byte written to the last byte drained.
const REFUSAL_TIME: Duration = Duration::from_secs(5);
/// For the client to close after a refusal.
const LINGER_TIME: Duration = Duration::from_secs(1);
/// What a client may still send into a connection it was refused on.
const LINGER_BYTES: usize = 256 << 10;

/// An answer of our own other than 101.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its status.
    pub status: StatusCode,
    /// One sentence for whoever reads the answer: what to change.
    pub text: Cow<'static, str>,
    /// Further header lines.
    pub headers: Vec<(&'static str, Cow<'static, str>)>,
    /// What the client gets in the place of the text, if that is not ours.
    pub told: Option<Box<Told>>,
}

/// An answer in the words of another service. `Debug` shows sizes: there may be a cookie in it.
#[derive(Clone, PartialEq, Eq)]
pub struct Told {
    /// Header lines; values are free of line ends.
    pub lines: Vec<(&'static str, Box<[u8]>)>,
    /// The body.
    pub body: Bytes,
}

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Told({} lines, {} bytes)", self.lines.len(), self.body.len())
    }
}

impl Refusal {
    /// A refusal without further header lines.
    pub fn new(status: StatusCode, text: impl Into<Cow<'static, str>>) -> Self {
        Self { status, text: text.into(), headers: Vec::new(), told: None }
    }

    /// Adds a header line. `value` is ours, never a client's: it is not checked.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Says when to come back (RFC 9110 §10.2.3).
    #[must_use]
    pub fn retry_after(self, seconds: u32) -> Self {
        self.header("Retry-After", seconds.to_string())
    }

    fn to_bytes(&self) -> Vec<u8> {
        // RFC 9110 §7.8: who sends Upgrade names it in Connection.
        let upgrade = if self.headers.iter().any(|(name, _)| *name == "Upgrade") { ", Upgrade" } else { "" };
        let mut out = format!(
            "HTTP/1.1 {} {}\r\nConnection: close{upgrade}\r\n",
            self.status.as_u16(),
            self.status.canonical_reason().unwrap_or_default(),
        )
        .into_bytes();
        let (kind, length) = match &self.told {
            None => (Some("text/plain; charset=utf-8"), self.text.len() + 1),
            Some(told) => (None, told.body.len()),
        };
        if let Some(kind) = kind {
            push_line(&mut out, "Content-Type", kind.as_bytes());
        }
        push_line(&mut out, "Content-Length", length.to_string().as_bytes());
        for (name, value) in &self.headers {
            push_line(&mut out, name, value.as_bytes());
        }
        for (name, value) in self.told.iter().flat_map(|told| &told.lines) {
            push_line(&mut out, name, value);
        }
        out.extend_from_slice(b"\r\n");
        match &self.told {
            None => out.extend([self.text.as_bytes(), b"\n"].concat()),
            Some(told) => out.extend_from_slice(&told.body),
        }
        out
    }
}

/// Writes `refusal`, shuts down our half and waits a little for the client's, so that a reset does not overtake
/// the answer. Bounded in time and bytes; what goes wrong meanwhile is nobody's loss.
pub async fn refuse<S>(mut stream: S, refusal: &Refusal)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let write = async {
        stream.write_all(&refusal.to_bytes()).await?;
        finish(&mut stream).await
    };
    let _ = timeout(REFUSAL_TIME, write).await;
}

/// Shuts down our half of `stream` and reads what the client still sends, up to a bound, until it closes too.
pub(super) async fn finish<S>(stream: &mut S) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.flush().await?;
    stream.shutdown().await?;
    let drain = async {
        let mut scratch = vec![0; 4096];
        let mut drained = 0;
        while drained < LINGER_BYTES {
            match stream.read(&mut scratch).await? {
                0 => break,
                length => drained += length,
            }
        }
        Ok(())
    };
    timeout(LINGER_TIME, drain).await.unwrap_or(Ok(()))
}

/// `Sec-WebSocket-Accept` for a key (RFC 6455 §4.2.2).
pub(super) fn accept(key: &[u8; 24]) -> String {
    let mut text = [0; 60];
    text[..24].copy_from_slice(key);
    text[24..].copy_from_slice(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &text))
}

/// The 101 for the client after the upstream's, which has been checked. Carries every end-to-end header of the
/// upstream's answer, subprotocol, extensions and each `Set-Cookie` included; framing fields have no meaning in a
/// 101 and are left out (RFC 9112 §6.1).
pub fn switching_protocols(upstream: &ResponseHead) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    out.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n");
    // Known to be that of the client's key; in the spelling that every client knows.
    if let Only::One(accept) = upstream.fields.only("sec-websocket-accept") {
        push_line(&mut out, "Sec-WebSocket-Accept", accept);
    }
    for (name, value) in upstream.fields.end_to_end() {
        if !name.eq_ignore_ascii_case("sec-websocket-accept") {
            push_line(&mut out, name, value);
        }
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// Appends one header line.
pub(super) fn push_line(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::head::HeadLimits;

    #[test]
    fn computes_the_accept_of_the_specification() {
        assert_eq!(accept(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[tokio::test]
    async fn a_refusal_is_seen_whole_by_a_client_that_is_still_sending() {
        let (client, server) = tokio::io::duplex(64);
        let refusal = Refusal::new(StatusCode::UPGRADE_REQUIRED, "try again").header("Upgrade", "websocket");
        let (mut read, mut write) = tokio::io::split(client);
        let sending = async {
            write.write_all(&[b'x'; 4096]).await.expect("drained");
            write.shutdown().await.expect("open");
        };
        let mut answer = String::new();
        let (received, (), ()) = tokio::join!(read.read_to_string(&mut answer), sending, refuse(server, &refusal));
        received.expect("whole");
        assert!(answer.starts_with("HTTP/1.1 426 Upgrade Required\r\nConnection: close, Upgrade\r\n"), "{answer}");
        assert!(answer.ends_with("Content-Length: 10\r\nUpgrade: websocket\r\n\r\ntry again\n"), "{answer}");
    }

    #[test]
    fn the_101_carries_end_to_end_headers_and_no_framing() {
        let upstream = "HTTP/1.1 101 x\r\nUpgrade: WebSocket\r\nConnection: upgrade, X-Hop\r\nX-Hop: 1\r\n\
            Sec-WebSocket-Accept: theirs\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nSet-Cookie: a=1\r\n\
            Set-Cookie: b=2\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";
        let head = ResponseHead::parse(&Bytes::from(upstream), &HeadLimits::default()).expect("valid");
        let answer = String::from_utf8(switching_protocols(&head)).expect("text");
        assert_eq!(
            answer,
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: theirs\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\
             Sec-WebSocket-Protocol: mqtt\r\n\r\n"
        );
    }
}
