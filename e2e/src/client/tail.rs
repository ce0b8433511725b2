//! Remembers the last bytes that came over a connection.
//!
//! tungstenite takes the code 1014 (IANA close code registry) for a fault of the peer and reports 1002 in its place;
//! what was on the wire is read from here. Nothing follows a Close, so it is at the very end.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A Close of a server is at most this long (RFC 6455 §5.5).
const LONGEST: usize = 127;

/// A connection with a memory.
pub struct Tail<S> {
    stream: S,
    last: Vec<u8>,
}

impl<S> Tail<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, last: Vec::with_capacity(LONGEST) }
    }

    /// The Close at the end of what has come, if there is one with a code.
    pub(super) fn close(&self) -> Option<(u16, String)> {
        close_at_end(&self.last)
    }

    fn keep(&mut self, bytes: &[u8]) {
        let bytes = &bytes[bytes.len().saturating_sub(LONGEST)..];
        let surplus = (self.last.len() + bytes.len()).saturating_sub(LONGEST);
        self.last.drain(..surplus);
        self.last.extend_from_slice(bytes);
    }
}

fn close_at_end(bytes: &[u8]) -> Option<(u16, String)> {
    // From the left: the first place whose length fits to the end, so that a reason cannot pose as a frame.
    (0..bytes.len()).find_map(|at| match &bytes[at..] {
        [0x88, length, high, low, reason @ ..] if usize::from(*length) == reason.len() + 2 => {
            Some((u16::from_be_bytes([*high, *low]), String::from_utf8_lossy(reason).into_owned()))
        }
        _ => None,
    })
}

impl<S: AsyncRead + Unpin> AsyncRead for Tail<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, space: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let before = space.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, space))?;
        self.keep(&space.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tail<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_is_found_behind_a_message() {
        assert_eq!(close_at_end(b"\x81\x02hi\x88\x06\x03\xf6gone"), Some((1014, "gone".to_owned())));
        assert_eq!(close_at_end(b"\x81\x02hi"), None);
        assert_eq!(close_at_end(b"\x88\x00"), None);
    }

    #[test]
    fn only_the_last_bytes_are_kept() {
        let mut tail = Tail::new(());
        tail.keep(&[1; 300]);
        tail.keep(b"\x88\x02\x03\xe9");
        assert_eq!(tail.last.len(), LONGEST);
        assert_eq!(tail.close(), Some((1001, String::new())));
    }
}
