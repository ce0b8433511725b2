//! Passes the upstream's own refusal to the client: status, end-to-end headers and body, whole.
//!
//! Decides where the answer ends (RFC 9112 §6.3) and nothing about what it says. The connection carries no
//! further request afterwards, on either side.

use super::answer::{Refusal, finish, push_line, refuse};
use super::balance::Lease;
use super::fields::{Fields, Only};
use super::head::ResponseHead;
use super::transport::Transport;
use crate::routing::{Address, Backend};
use bytes::Bytes;
use http::StatusCode;
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

mod chunked;
use chunked::Chunks;

/// An upstream's answer to a handshake, other than 101.
#[derive(Debug)]
pub struct Answered {
    /// Its head.
    pub head: ResponseHead,
    /// Where its body comes from.
    pub transport: Transport,
    /// The first bytes of the body.
    pub leftover: Bytes,
    /// What the rule named.
    pub backend: Arc<Backend>,
    /// Who answered.
    pub endpoint: Address,
    /// Counts the exchange at its endpoint until the answer has passed.
    pub lease: Lease,
}

/// How the end of a body is told.
enum Body {
    Chunked(Chunks),
    Length(u64),
    UntilClose,
}

impl Body {
    /// `None` if the framing is ambiguous or not understood.
    fn of(head: &ResponseHead) -> Option<Self> {
        let fields = &head.fields;
        if matches!(head.status, 204 | 304) {
            return Some(Self::Length(0));
        }
        match (fields.only("transfer-encoding"), &lengths(fields)?[..]) {
            (Only::One(_) | Only::Several, _) if !head.is_http_1_1 => None, // RFC 9112 §6.1
            (Only::Absent, [length]) => Some(Self::Length(*length)),
            (Only::Absent, []) => Some(Self::UntilClose),
            (Only::One(coding), []) if coding.eq_ignore_ascii_case(b"chunked") => {
                Some(Self::Chunked(Chunks::default()))
            }
            _ => None,
        }
    }

    /// How many of `bytes` belong to the body.
    fn take(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Chunked(chunks) => chunks.take(bytes),
            Self::Length(left) => {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= taken as u64;
                Ok(taken)
            }
            Self::UntilClose => Ok(bytes.len()),
        }
    }

    fn is_done(&self) -> bool {
        match self {
            Self::Chunked(chunks) => chunks.is_done(),
            Self::Length(left) => *left == 0,
            Self::UntilClose => false,
        }
    }
}

/// The body lengths the head announces, repeated ones once; `None` if one is no number.
fn lengths(fields: &Fields) -> Option<Vec<u64>> {
    let number = |element: &[u8]| {
        let digits = std::str::from_utf8(element).ok().filter(|t| t.bytes().all(|b| b.is_ascii_digit()))?;
        digits.parse().ok()
    };
    let mut lengths = fields.elements("content-length").map(number).collect::<Option<Vec<u64>>>()?;
    lengths.dedup();
    Some(lengths)
}

/// Relays `answer` to `downstream` before `deadline`, then closes both sides. Returns the bytes of the body as
/// they came, chunk framing included.
///
/// # Errors
/// `InvalidData` for an answer that cannot be framed (the client gets 502), `TimedOut`, `UnexpectedEof` for a
/// body cut short, or either connection's own. The client's connection is closed in every case.
pub async fn pass_on<S>(answer: Answered, mut downstream: S, deadline: Instant) -> io::Result<u64>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Some(begun) = Begun::of(&answer) else {
        let text = "the service's answer could not be understood; tell its operator";
        refuse(downstream, &Refusal::new(StatusCode::BAD_GATEWAY, text)).await;
        return Err(io::Error::new(io::ErrorKind::InvalidData, "ambiguous body framing"));
    };
    let passed = timeout_at(deadline, copy(answer, begun, &mut downstream)).await;
    let passed = passed.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
    finish(&mut downstream).await?;
    Ok(passed)
}

/// What goes out first, and where the body ends behind it.
struct Begun {
    out: Vec<u8>,
    body: Body,
    passed: u64,
}

impl Begun {
    /// The head, and as much of the body as came with it; `None` if they do not fit.
    fn of(answer: &Answered) -> Option<Self> {
        let mut body = Body::of(&answer.head)?;
        let mut out = answer_head(&answer.head, &body);
        let taken = body.take(&answer.leftover).ok()?;
        out.extend_from_slice(&answer.leftover[..taken]);
        Some(Self { out, body, passed: taken as u64 })
    }
}

async fn copy<S>(mut answer: Answered, begun: Begun, downstream: &mut S) -> io::Result<u64>
where
    S: AsyncWrite + Unpin,
{
    let Begun { out, mut body, mut passed } = begun;
    downstream.write_all(&out).await?;
    downstream.flush().await?; // a streamed answer is passed piece by piece
    let mut scratch = vec![0; 16 << 10];
    while !body.is_done() {
        let length = answer.transport.read(&mut scratch).await?;
        if length == 0 {
            return if matches!(body, Body::UntilClose) {
                Ok(passed)
            } else {
                Err(io::ErrorKind::UnexpectedEof.into())
            };
        }
        let taken = body.take(&scratch[..length])?;
        downstream.write_all(&scratch[..taken]).await?;
        downstream.flush().await?;
        passed += taken as u64;
    }
    Ok(passed)
}

/// The head as the client gets it: framing and `Connection` are ours, the rest is the upstream's.
fn answer_head(head: &ResponseHead, body: &Body) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    out.extend_from_slice(format!("HTTP/1.1 {} ", head.status).as_bytes());
    out.extend_from_slice(&head.reason);
    out.extend_from_slice(b"\r\n");
    for (name, value) in head.fields.end_to_end() {
        if !name.eq_ignore_ascii_case("sec-websocket-accept") {
            push_line(&mut out, name, value);
        }
    }
    match body {
        Body::Chunked(_) => push_line(&mut out, "Transfer-Encoding", b"chunked"),
        // RFC 9110 §8.6: 204 has no length, and that of a 304 is of another answer.
        Body::Length(length) if !matches!(head.status, 204 | 304) => {
            push_line(&mut out, "Content-Length", length.to_string().as_bytes());
        }
        Body::Length(_) | Body::UntilClose => {}
    }
    // RFC 9110 §15.5.22: a 426 is nothing without its Upgrade.
    if head.status == 426 {
        out.extend_from_slice(b"Upgrade: websocket\r\nConnection: close, Upgrade\r\n\r\n");
    } else {
        out.extend_from_slice(b"Connection: close\r\n\r\n");
    }
    out
}

#[cfg(test)]
mod tests;
