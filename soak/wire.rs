//! Either end of a connection: frames in and out, cut into fragments and pieces, with stops between and within them.
//!
//! Decides nothing about the conversation: `client` and `backend` do.

use crate::frame::BINARY;
use crate::frame::{CLOSE, Frame, Inbox, PING, write_frame};
use crate::message::{Sequence, TEXT};
use fastrand::Rng;
use std::collections::VecDeque;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;

/// A byte stream in clear or over TLS.
pub(crate) trait Bytestream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytestream for T {}

/// The first byte of a frame that ends its message.
const FIN: u8 = 0x80;

/// Frames that are to go out at the next boundary, and whether a Close is among the reasons to stop.
#[derive(Default)]
pub(crate) struct Outbox {
    state: Mutex<Waiting>,
    bell: Notify,
}

#[derive(Default)]
struct Waiting {
    frames: VecDeque<(u8, Vec<u8>)>,
    /// That the peer has closed, and what to answer.
    close: Option<Vec<u8>>,
}

impl Outbox {
    /// Has a control frame go out.
    pub(crate) fn push(&self, opcode: u8, payload: Vec<u8>) {
        self.lock().frames.push_back((opcode, payload));
        self.bell.notify_one();
    }

    /// Has the peer's Close answered.
    pub(crate) fn close(&self, answer: Vec<u8>) {
        self.lock().close = Some(answer);
        self.bell.notify_one();
    }

    /// The answer to the peer's Close, if it has closed.
    pub(crate) fn closing(&self) -> Option<Vec<u8>> {
        self.lock().close.clone()
    }

    /// Waits until there is something to do.
    pub(crate) async fn rung(&self) {
        self.bell.notified().await;
    }

    /// Wakes whoever waits.
    pub(crate) fn ring(&self) {
        self.bell.notify_one();
    }

    fn take(&self) -> Option<(u8, Vec<u8>)> {
        self.lock().frames.pop_front()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a way out is like.
pub(crate) struct Way<'a, W> {
    pub(crate) to: W,
    pub(crate) rng: Rng,
    /// Whether frames are masked, as a client's are.
    pub(crate) masks: bool,
    /// Whether it now and then stops within a frame.
    pub(crate) stalls: bool,
    pub(crate) outbox: &'a Outbox,
    /// How many pings of its own it has sent.
    pub(crate) pings: u64,
    /// Which payloads of pings wait for their pongs.
    pub(crate) awaited: &'a Mutex<VecDeque<Vec<u8>>>,
    pub(crate) stalled: u64,
}

impl<W: AsyncWrite + Unpin> Way<'_, W> {
    /// Sends a message in fragments, with pings and what waits in the outbox between them. False when the peer has
    /// closed meanwhile and the message was left unfinished.
    pub(crate) async fn message(&mut self, opcode: u8, message: &[u8]) -> io::Result<bool> {
        let fragments = if self.rng.u8(..3) == 0 { self.rng.usize(2..9) } else { 1 };
        let gives_way = self.rng.bool();
        let (mut rest, mut code) = (message, opcode);
        for left in (0..fragments).rev() {
            let size = if left == 0 { rest.len() } else { self.rng.usize(..=rest.len()) };
            let (piece, behind) = rest.split_at(size);
            self.frame(if left == 0 { FIN | code } else { code }, piece).await?;
            (rest, code) = (behind, 0);
            if left > 0 && self.rng.u8(..6) == 0 {
                self.ping().await?;
            }
            self.tell().await?;
            if left > 0 && gives_way && self.outbox.closing().is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Sends a ping whose pong must come back.
    pub(crate) async fn ping(&mut self) -> io::Result<()> {
        self.pings += 1;
        let payload = format!("ping {}", self.pings).into_bytes();
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner).push_back(payload.clone());
        self.frame(FIN | PING, &payload).await
    }

    /// Sends what waits in the outbox.
    pub(crate) async fn tell(&mut self) -> io::Result<()> {
        while let Some((opcode, payload)) = self.outbox.take() {
            self.frame(FIN | opcode, &payload).await?;
        }
        Ok(())
    }

    /// Sends a Close, whose payload is a code or nothing.
    pub(crate) async fn close(&mut self, payload: &[u8]) -> io::Result<()> {
        self.frame(FIN | CLOSE, payload).await
    }

    /// Sends one frame, now and then in pieces.
    pub(crate) async fn frame(&mut self, first: u8, payload: &[u8]) -> io::Result<()> {
        let bytes = self.bytes(first, payload);
        if bytes.len() > 1 && self.rng.u8(..10) == 0 {
            let at = self.rng.usize(1..bytes.len());
            self.put(&bytes[..at]).await?;
            let pause = if self.stalls && self.rng.u8(..4) == 0 { self.rng.u64(200..1200) } else { self.rng.u64(..5) };
            self.stalled += u64::from(pause >= 200);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            return self.put(&bytes[at..]).await;
        }
        self.put(&bytes).await
    }

    /// A frame's bytes.
    pub(crate) fn bytes(&mut self, first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(payload.len() + 14);
        let mask = self.masks.then(|| self.rng.u32(..).to_ne_bytes());
        write_frame(&mut bytes, first, mask, payload);
        bytes
    }

    /// Sends bytes as they are.
    pub(crate) async fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.to.write_all(bytes).await?;
        self.to.flush().await
    }
}

/// What came in.
pub(crate) enum Got {
    /// A whole message.
    Message(u8, Vec<u8>),
    /// A control frame.
    Control(u8, Vec<u8>),
}

/// Puts frames together again.
pub(crate) struct Collector {
    /// Whether frames must be masked, as those of a client are.
    pub(crate) masked: bool,
    opcode: Option<u8>,
    message: Vec<u8>,
}

impl Collector {
    pub(crate) fn new(masked: bool) -> Self {
        Self { masked, opcode: None, message: Vec::new() }
    }

    /// Whether a message has begun and not ended.
    pub(crate) fn is_within(&self) -> bool {
        self.opcode.is_some()
    }

    /// Takes a frame; `None` when more must follow. What no end of ours sends is noted in `sequence`.
    pub(crate) fn take(&mut self, inbox: &mut Inbox, frame: &Frame, sequence: &mut Sequence) -> Option<Got> {
        let (fin, code) = (frame.first & FIN != 0, frame.opcode);
        if frame.first & 0x70 != 0 || frame.mask.is_some() != self.masked {
            sequence.alien();
        }
        let payload = inbox.unmasked(frame);
        if code & 0x8 != 0 {
            return Some(Got::Control(code, payload.to_vec()));
        }
        if (code == 0) != self.opcode.is_some() || !matches!(code, 0 | TEXT | BINARY) {
            sequence.alien();
        }
        let opcode = *self.opcode.get_or_insert(code);
        self.message.extend_from_slice(payload);
        fin.then(|| {
            self.opcode = None;
            Got::Message(opcode, std::mem::take(&mut self.message))
        })
    }
}

/// Whether `payload` is the pong that is awaited next.
pub(crate) fn answered(awaited: &Mutex<VecDeque<Vec<u8>>>, payload: &[u8]) -> bool {
    awaited.lock().unwrap_or_else(PoisonError::into_inner).pop_front().is_some_and(|first| first == payload)
}
