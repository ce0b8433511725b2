//! The backlog of a leg: bytes that one side has sent and the other one has not taken yet.
//!
//! It exists only while a side is slower than its peer: an idle session has none. It says how much waits and when the
//! last byte was taken; whether that is too much or too long ago is decided by who asks.

use super::transport::Transport;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::AsyncWrite;
use tokio::time::Instant;

/// Bytes that wait. Without any it stands for those that TLS holds.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    bytes: Vec<u8>,
    from: usize,
    /// When the receiver last took a byte, or first took none; `None` before it was asked.
    moved: Option<Instant>,
}

impl Backlog {
    /// How many bytes wait.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.from
    }

    /// Since when the receiver has taken nothing; `None` before it was asked.
    pub(super) fn stalled_since(&self) -> Option<Instant> {
        self.moved
    }

    /// Notes that the receiver took nothing. True when that is new.
    pub(super) fn stall(&mut self) -> bool {
        let new = self.moved.is_none();
        self.moved.get_or_insert_with(Instant::now);
        new
    }

    /// Adds bytes. Grows towards `limit` and not past it, unless what is added has to.
    pub(super) fn push(&mut self, bytes: &[u8], limit: usize) {
        let wanted = self.len() + bytes.len();
        if self.from > 0 && self.bytes.len() + bytes.len() > self.bytes.capacity() {
            self.bytes.drain(..self.from);
            self.from = 0;
        }
        if self.from == 0 && wanted > self.bytes.capacity() {
            let grown = (2 * self.bytes.capacity()).min(limit).max(wanted);
            self.bytes.reserve_exact(grown - self.bytes.len());
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Has the receiver take what it takes. Ready when nothing waits any more.
    pub(super) fn poll_drain(&mut self, cx: &mut Context<'_>, to: &mut Transport) -> Poll<std::io::Result<()>> {
        let (mut taken, pushed) = to.poll_push(cx);
        let mut waits = pushed?.is_pending();
        while self.from < self.bytes.len() {
            match Pin::new(&mut *to).poll_write(cx, &self.bytes[self.from..])? {
                Poll::Ready(0) => return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into())),
                Poll::Ready(written) => {
                    self.from += written;
                    taken += written;
                    waits = false;
                }
                Poll::Pending => {
                    waits = true;
                    break;
                }
            }
        }
        if taken > 0 && self.moved.is_some() {
            self.moved = Some(Instant::now());
        }
        if waits { Poll::Pending } else { Pin::new(to).poll_flush(cx) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_what_came_in_order_and_no_more_memory_than_the_limit() {
        let mut backlog = Backlog::default();
        for round in 0..100_u8 {
            backlog.push(&[round; 1000], 8000);
            if backlog.len() > 7000 {
                backlog.from += 1000; // as if so much had been taken
            }
            assert!(backlog.bytes.capacity() <= 8000, "{} bytes are held", backlog.bytes.capacity());
        }
        let kept: Vec<u8> = backlog.bytes[backlog.from..].chunks(1000).map(|chunk| chunk[0]).collect();
        assert_eq!(kept, (93..100).collect::<Vec<_>>());
    }
}
