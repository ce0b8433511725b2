//! One leg of the relay: bytes of one direction from the peer they come from to the peer they go to.
//!
//! A leg owns no buffer while it is idle. Bytes are read into a scratch area shared by all sessions of a thread,
//! walked there and written from there; only what the other side does not take at once is kept, and as soon as a read
//! more would exceed the route's buffer limit nothing more is read (back-pressure). The same holds for a client that is
//! over its rate. Frames of our own go in at the boundaries the walker finds. What a leg sees it tells the relay, which
//! decides.

use super::backlog::Backlog;
use super::frame::{Event, FrameRules, MAX_HELD, Stop, Violation, Walked, Walker};
use super::insert::Insert;
use super::transport::Transport;
use crate::telemetry::{Direction, SessionCounters};
use std::cell::RefCell;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop;
use tokio::time::Instant;

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
    /// Whether the next frame waits for its allowance.
    pub is_held: bool,
    /// Whether the socket it reads from wakes the session's task when something comes. It does so once, after which there
    /// is something to read.
    listens: bool,
    walker: Walker,
    /// Not whole yet, or not walked yet when `unwalked`; from `held_from` on.
    held: Box<[u8]>,
    held_from: u32,
    unwalked: bool,
    /// Walked and not taken by the other side yet.
    backlog: Option<Box<Backlog>>,
}

impl Leg {
    /// A leg whose first bytes came with the handshake.
    pub(super) fn starting_with(leftover: &[u8]) -> Self {
        Self { held: leftover.into(), unwalked: !leftover.is_empty(), ..Self::default() }
    }

    /// Whether everything that was taken in has gone out.
    pub(super) fn drained(&self) -> bool {
        self.output == Output::Broken || self.backlog.is_none()
    }

    /// Since when the other side has taken nothing of what waits for it; `None` when nothing waits.
    pub(super) fn stalled_since(&self) -> Option<Instant> {
        self.backlog.as_ref()?.stalled_since()
    }

    /// Whether its peer is not read at the moment: what it has to say cannot be heard.
    pub(super) fn is_deaf(&self) -> bool {
        self.is_held || !self.drained()
    }

    /// Whether it can do nothing before `from`, the peer it reads, says something: then it need not be polled. To be asked by
    /// one task only, the one that is woken.
    pub(super) fn rests(&self, from: &Transport) -> bool {
        let has_nothing = self.backlog.is_none() && self.insert.is_none() && !self.unwalked && !self.is_held;
        let listens = self.listens && self.input == Input::Open && self.shut == self.is_shut;
        has_nothing && listens && !from.may_have_more()
    }

    /// Whether a frame of ours could go in here.
    pub(super) fn at_frame_boundary(&self) -> bool {
        self.walker.at_frame_boundary()
    }

    /// Moves bytes once: what waits first, then an insert, then a read.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Transport,
        to: &mut Transport,
        rules: &FrameRules<'_>,
        counters: &SessionCounters,
    ) -> Seen {
        match self.poll_drain(cx, to, rules.direction, counters) {
            Poll::Ready(Err(_)) => return self.fail(rules.direction, counters),
            Poll::Ready(Ok(())) => {
                if let Some(closes) = self.try_insert() {
                    return Seen::Inserted { closes };
                }
                if self.shut && !self.is_shut {
                    match Pin::new(&mut *to).poll_shutdown(cx) {
                        Poll::Pending => {}
                        Poll::Ready(_) => self.is_shut = true,
                    }
                }
            }
            Poll::Pending if self.may_read_ahead(rules.limits.buffer_limit_bytes) => {}
            Poll::Pending => return Seen::Blocked,
        }
        match self.input {
            Input::Ended => Seen::Blocked,
            Input::Discard => self.poll_discard(cx, from),
            Input::Open if self.is_held && self.output == Output::Open => Seen::Blocked,
            Input::Open if self.unwalked => self.again(cx, to, rules, counters),
            Input::Open => self.poll_read(cx, from, to, rules, counters),
        }
    }

    /// Whether one more read fits behind what waits. A frame of ours that waits, too, goes first.
    fn may_read_ahead(&self, limit: usize) -> bool {
        let waiting = self.backlog.as_ref().map_or(0, |backlog| backlog.len());
        self.input == Input::Open && self.insert.is_none() && waiting + SCRATCH.min(limit) <= limit
    }

    /// Goes on with bytes that an earlier walk left.
    fn again(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut Transport,
        rules: &FrameRules<'_>,
        counters: &SessionCounters,
    ) -> Seen {
        self.unwalked = false;
        let (mut held, from) = (std::mem::take(&mut self.held), std::mem::take(&mut self.held_from) as usize);
        let (seen, rest) = self.pass(cx, to, &mut held[from..], rules, counters);
        if self.unwalked {
            // Most of it may be left, and one frame a turn may go: not copied each time.
            self.held_from = (from + rest) as u32;
            self.held = held;
        } else {
            self.held = held[from + rest..].into();
        }
        seen
    }

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Transport,
        to: &mut Transport,
        rules: &FrameRules<'_>,
        counters: &SessionCounters,
    ) -> Seen {
        let most = SCRATCH.min(rules.limits.buffer_limit_bytes);
        self.listens = false;
        SHARED.with_borrow_mut(|scratch| {
            let held = self.held.len();
            let mut buffer = ReadBuf::new(&mut scratch[held..held + most]);
            match Pin::new(&mut *from).poll_read(cx, &mut buffer) {
                Poll::Pending => {
                    // Who has used up its turns was put off without being asked.
                    self.listens = coop::has_budget_remaining();
                    Seen::Blocked
                }
                Poll::Ready(Err(_)) => self.end(true),
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => self.end(false),
                Poll::Ready(Ok(())) => {
                    let was_all = buffer.remaining() > 0;
                    let filled = held + buffer.filled().len();
                    if held > 0 {
                        scratch[..held].copy_from_slice(&self.held);
                        self.held = Box::default();
                    }
                    let (seen, rest) = self.pass(cx, to, &mut scratch[..filled], rules, counters);
                    self.held = scratch[rest..filled].into();
                    self.listens = was_all && seen == Seen::Moved && from.listen(cx);
                    seen
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

    /// Walks `bytes` and writes what may pass. Gives where those begin that are to be kept.
    fn pass(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut Transport,
        bytes: &mut [u8],
        rules: &FrameRules<'_>,
        counters: &SessionCounters,
    ) -> (Seen, usize) {
        let stop = self.insert.as_ref().map_or(Stop::Never, |insert| insert.at);
        let Walked { forward, rest, event, pong } = self.walker.walk(bytes, &FrameRules { stop, ..*rules }, counters);
        let kept = if matches!(event, None | Some(Event::Boundary | Event::Held)) { rest } else { bytes.len() };
        self.unwalked = event.is_some() && kept < bytes.len();
        self.is_held = event == Some(Event::Held);
        // Who takes nothing more changes nothing of what came in: a Close in it counts, and what is left is walked on.
        let is_last = rules.answers && matches!(event, Some(Event::Close(_))) && stop != Stop::Close;
        let failed =
            self.output == Output::Open && self.write(cx, to, (&bytes[..forward], is_last), rules, counters).is_err();
        if failed {
            self.break_off(rules.direction, counters);
        }
        let seen = match event {
            Some(Event::Close(code)) => {
                self.input = Input::Discard;
                self.close_seen = Some(code);
                if let Some(ours) = self.insert.as_mut().filter(|_| stop == Stop::Close) {
                    ours.at = Stop::Frame;
                } else if self.output == Output::Open {
                    self.output = Output::Closed;
                    self.insert = None;
                }
                Seen::Close(code)
            }
            Some(Event::Violation(violation)) => {
                self.input = Input::Discard;
                Seen::Violation(violation)
            }
            _ if failed => Seen::WriteFailed,
            _ if pong => Seen::Pong,
            _ => Seen::Moved,
        };
        (seen, kept)
    }

    /// Writes what the other side takes now and keeps the rest.
    fn write(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut Transport,
        (mut bytes, is_last): (&[u8], bool),
        rules: &FrameRules<'_>,
        counters: &SessionCounters,
    ) -> std::io::Result<()> {
        while self.backlog.is_none() && !bytes.is_empty() {
            let written =
                if is_last { to.poll_write_last(cx, bytes) } else { Pin::new(&mut *to).poll_write(cx, bytes) };
            match written? {
                Poll::Ready(0) => return Err(std::io::ErrorKind::WriteZero.into()),
                Poll::Ready(written) => bytes = &bytes[written..],
                Poll::Pending => self.stall(rules.direction, counters),
            }
        }
        if let Some(backlog) = &mut self.backlog {
            backlog.push(bytes, rules.limits.buffer_limit_bytes);
        } else if Pin::new(to).poll_flush(cx)?.is_pending() {
            self.stall(rules.direction, counters);
        }
        Ok(())
    }

    /// Notes that the other side takes nothing at the moment.
    fn stall(&mut self, direction: Direction, counters: &SessionCounters) {
        if self.backlog.get_or_insert_default().stall() {
            counters.direction(direction).blocked();
        }
    }

    fn poll_drain(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut Transport,
        direction: Direction,
        counters: &SessionCounters,
    ) -> Poll<std::io::Result<()>> {
        let Some(backlog) = self.backlog.as_mut().filter(|_| self.output != Output::Broken) else {
            return Poll::Ready(Ok(()));
        };
        let drained = backlog.poll_drain(cx, to)?;
        if drained.is_pending() {
            self.stall(direction, counters);
            return Poll::Pending;
        }
        self.forget(direction, counters);
        Poll::Ready(Ok(()))
    }

    /// Gives back what waits: an idle leg holds no buffer.
    fn forget(&mut self, direction: Direction, counters: &SessionCounters) {
        if self.backlog.take().is_some() {
            counters.direction(direction).unblocked();
        }
    }

    /// Queues the waiting insert if the stream is at its boundary; the next poll sends it.
    fn try_insert(&mut self) -> Option<bool> {
        if self.output != Output::Open {
            self.insert = None;
        }
        let here = match self.insert.as_ref()?.at {
            Stop::Frame | Stop::Never => self.walker.at_frame_boundary(),
            Stop::Message => self.walker.at_message_boundary(),
            Stop::Close => false,
        };
        if !here {
            return None;
        }
        let insert = self.insert.take()?;
        self.backlog.get_or_insert_default().push(&insert.frame, insert.frame.len());
        if insert.closes {
            self.output = Output::Closed;
        }
        Some(insert.closes)
    }

    fn end(&mut self, reset: bool) -> Seen {
        self.input = Input::Ended;
        self.held = Box::default();
        Seen::End { reset }
    }

    fn fail(&mut self, direction: Direction, counters: &SessionCounters) -> Seen {
        self.break_off(direction, counters);
        Seen::WriteFailed
    }

    /// Gives up on the other side: it takes nothing any more.
    pub(super) fn break_off(&mut self, direction: Direction, counters: &SessionCounters) {
        self.output = Output::Broken;
        self.insert = None;
        self.forget(direction, counters);
    }
}

#[cfg(test)]
mod tests;
