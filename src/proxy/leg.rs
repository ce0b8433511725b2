//! One leg of the relay: bytes of one direction from the peer they come from to the peer they go to.
//!
//! A leg owns no buffer while it is idle. Bytes are read into a scratch area shared by all sessions of a thread,
//! walked there and written from there; only what the other side does not take at once is kept, and while any is
//! kept nothing more is read (back-pressure). Frames of our own go in at the boundaries the walker finds.
//! What a leg sees it tells the relay, which decides.

use super::frame::{Event, FrameRules, MAX_HELD, Stop, Violation, Walked, Walker};
use super::transport::Transport;
use crate::telemetry::SessionCounters;
use std::cell::RefCell;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes read at once. Larger messages cost fewer system calls; shared, so its size costs nothing per session.
const SCRATCH: usize = 64 << 10;

thread_local! {
    static SHARED: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH + MAX_HELD].into_boxed_slice());
}

/// What is done with the bytes that come in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Input {
    /// Read and dropped: what comes can no longer be trusted, or nothing may follow.
    Discard,
    /// The peer will send no more.
    Ended,
    /// Read, walked and, unless the output is closed, passed on.
    #[default]
    Open,
}

/// The state of the way out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Output {
    /// The peer takes nothing any more.
    Broken,
    /// A Close has gone out; nothing may follow it (RFC 6455 §5.5.1).
    Closed,
    /// Frames may go out.
    #[default]
    Open,
}

/// A frame of ours that waits for its boundary.
#[derive(Clone, Debug)]
pub(super) struct Insert {
    pub frame: Vec<u8>,
    pub at: Stop,
    pub closes: bool,
}

/// What a leg saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// Nothing to do until a peer moves.
    Blocked,
    /// A Close frame came with this code.
    Close(u16),
    /// The peer's stream ended; `reset` when by an error.
    End { reset: bool },
    /// An insert went out.
    Inserted { closes: bool },
    /// Bytes moved; there may be more.
    Moved,
    /// The pong to our ping came and was swallowed.
    Pong,
    /// The peer's stream broke a rule.
    Violation(Violation),
    /// The other side takes nothing any more.
    WriteFailed,
}

/// One direction of a session.
#[allow(clippy::struct_excessive_bools)] // independent facts of one stream, and each byte counts while idle
#[derive(Debug, Default)]
pub(super) struct Leg {
    pub input: Input,
    pub output: Output,
    pub insert: Option<Box<Insert>>,
    /// The code of the Close that came in, if one did.
    pub close_seen: Option<u16>,
    /// Whether the write half is to be shut down once everything has gone out, and whether it has been.
    pub shut: bool,
    pub is_shut: bool,
    walker: Walker,
    /// Not whole yet, or not walked yet when `unwalked`.
    held: Vec<u8>,
    unwalked: bool,
    /// Walked and not taken by the other side yet.
    queue: Vec<u8>,
    queued_from: usize,
    unflushed: bool,
}

impl Leg {
    /// A leg whose first bytes came with the handshake.
    pub(super) fn starting_with(leftover: &[u8]) -> Self {
        Self { held: leftover.to_vec(), unwalked: !leftover.is_empty(), ..Self::default() }
    }

    /// Whether everything that was taken in has gone out.
    pub(super) fn drained(&self) -> bool {
        self.output == Output::Broken || (self.queue.is_empty() && !self.unflushed)
    }

    /// Whether a frame of ours could go in here.
    pub(super) fn at_frame_boundary(&self) -> bool {
        self.walker.at_frame_boundary()
    }

    /// Moves bytes once: what is queued first, then an insert, then a read.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Transport,
        to: &mut Transport,
        rules: &FrameRules<'_>,
        counters: &SessionCounters,
    ) -> Seen {
        if !self.drained() {
            match self.poll_drain(cx, to) {
                Poll::Pending => return Seen::Blocked,
                Poll::Ready(Err(_)) => return self.fail(),
                Poll::Ready(Ok(())) => {}
            }
        }
        if let Some(closes) = self.try_insert() {
            return Seen::Inserted { closes };
        }
        if self.shut && !self.is_shut {
            match Pin::new(&mut *to).poll_shutdown(cx) {
                Poll::Pending => {}
                Poll::Ready(_) => self.is_shut = true,
            }
        }
        match self.input {
            Input::Ended => Seen::Blocked,
            Input::Discard => self.poll_discard(cx, from),
            Input::Open if self.unwalked => {
                self.unwalked = false;
                let mut bytes = std::mem::take(&mut self.held);
                self.pass(cx, to, &mut bytes, rules, counters)
            }
            Input::Open => self.poll_read(cx, from, to, rules, counters),
        }
    }

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Transport,
        to: &mut Transport,
        rules: &FrameRules<'_>,
        counters: &SessionCounters,
    ) -> Seen {
        SHARED.with_borrow_mut(|scratch| {
            let held = self.held.len();
            let mut buffer = ReadBuf::new(&mut scratch[held..held + SCRATCH]);
            match Pin::new(from).poll_read(cx, &mut buffer) {
                Poll::Pending => Seen::Blocked,
                Poll::Ready(Err(_)) => self.end(true),
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => self.end(false),
                Poll::Ready(Ok(())) => {
                    let filled = held + buffer.filled().len();
                    if held > 0 {
                        scratch[..held].copy_from_slice(&self.held);
                        self.held = Vec::new();
                    }
                    self.pass(cx, to, &mut scratch[..filled], rules, counters)
                }
            }
        })
    }

    fn poll_discard(&mut self, cx: &mut Context<'_>, from: &mut Transport) -> Seen {
        SHARED.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            match Pin::new(from).poll_read(cx, &mut buffer) {
                Poll::Pending => Seen::Blocked,
                Poll::Ready(Err(_)) => self.end(true),
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => self.end(false),
                Poll::Ready(Ok(())) => Seen::Moved,
            }
        })
    }

    /// Walks `bytes`, writes what may pass and keeps what is left.
    fn pass(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut Transport,
        bytes: &mut [u8],
        rules: &FrameRules<'_>,
        counters: &SessionCounters,
    ) -> Seen {
        let stop = self.insert.as_ref().map_or(Stop::Never, |insert| insert.at);
        let Walked { forward, rest, event, pong } = self.walker.walk(bytes, &FrameRules { stop, ..*rules }, counters);
        if matches!(event, None | Some(Event::Boundary)) {
            self.held = bytes[rest..].to_vec();
            self.unwalked = event.is_some() && !self.held.is_empty();
        }
        if self.output == Output::Open && self.write(cx, to, &bytes[..forward]).is_err() {
            return self.fail();
        }
        match event {
            Some(Event::Close(code)) => {
                self.input = Input::Discard;
                self.close_seen = Some(code);
                if self.output == Output::Open {
                    self.output = Output::Closed;
                    self.insert = None;
                }
                Seen::Close(code)
            }
            Some(Event::Violation(violation)) => {
                self.input = Input::Discard;
                Seen::Violation(violation)
            }
            _ if pong => Seen::Pong,
            _ => Seen::Moved,
        }
    }

    /// Writes what the other side takes now and queues the rest.
    fn write(&mut self, cx: &mut Context<'_>, to: &mut Transport, mut bytes: &[u8]) -> std::io::Result<()> {
        while !bytes.is_empty() {
            match Pin::new(&mut *to).poll_write(cx, bytes)? {
                Poll::Ready(0) => return Err(std::io::ErrorKind::WriteZero.into()),
                Poll::Ready(written) => bytes = &bytes[written..],
                Poll::Pending => {
                    self.queue.extend_from_slice(bytes);
                    return Ok(());
                }
            }
        }
        self.unflushed = Pin::new(to).poll_flush(cx)?.is_pending();
        Ok(())
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>, to: &mut Transport) -> Poll<std::io::Result<()>> {
        while self.queued_from < self.queue.len() {
            match Pin::new(&mut *to).poll_write(cx, &self.queue[self.queued_from..])? {
                Poll::Ready(0) => return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into())),
                Poll::Ready(written) => self.queued_from += written,
                Poll::Pending => return Poll::Pending,
            }
        }
        self.queue = Vec::new(); // given back, not kept: an idle leg holds no buffer
        self.queued_from = 0;
        self.unflushed = true;
        match Pin::new(to).poll_flush(cx)? {
            Poll::Ready(()) => self.unflushed = false,
            Poll::Pending => return Poll::Pending,
        }
        Poll::Ready(Ok(()))
    }

    /// Queues the waiting insert if the stream is at its boundary; the next poll sends it.
    fn try_insert(&mut self) -> Option<bool> {
        if self.output != Output::Open {
            self.insert = None;
        }
        let here = match self.insert.as_ref()?.at {
            Stop::Frame | Stop::Never => self.walker.at_frame_boundary(),
            Stop::Message => self.walker.at_message_boundary(),
        };
        if !here {
            return None;
        }
        let insert = self.insert.take()?;
        self.queue.extend_from_slice(&insert.frame);
        if insert.closes {
            self.output = Output::Closed;
        }
        Some(insert.closes)
    }

    fn end(&mut self, reset: bool) -> Seen {
        self.input = Input::Ended;
        self.held = Vec::new();
        Seen::End { reset }
    }

    fn fail(&mut self) -> Seen {
        self.output = Output::Broken;
        self.insert = None;
        self.queue = Vec::new();
        self.queued_from = 0;
        Seen::WriteFailed
    }
}
