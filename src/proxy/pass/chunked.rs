//! Follows a chunked body (RFC 9112 §7.1) to find its end. The bytes themselves pass unchanged.

use std::io;

/// Bytes of one size line with its extensions, or of one trailer line.
const MAX_LINE: usize = 4096;
/// Bytes of all trailer lines.
const MAX_TRAILERS: usize = 16 << 10;

/// Where in the framing the next byte falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Data(u64),
    /// The CRLF after the data of a chunk.
    DataEnd {
        seen_cr: bool,
    },
    Done,
    /// A size line so far: its value, whether the digits are over, its length.
    Size {
        value: u64,
        over: bool,
        length: usize,
        seen_cr: bool,
    },
    Trailer {
        length: usize,
        total: usize,
        seen_cr: bool,
    },
}

const SIZE: State = State::Size { value: 0, over: false, length: 0, seen_cr: false };

/// A walk over a chunked body.
#[derive(Debug)]
pub(super) struct Chunks(State);

impl Default for Chunks {
    fn default() -> Self {
        Self(SIZE)
    }
}

impl Chunks {
    pub(super) fn is_done(&self) -> bool {
        self.0 == State::Done
    }

    /// How many of `bytes` belong to the body.
    ///
    /// # Errors
    /// `InvalidData` if the framing breaks.
    pub(super) fn take(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut at = 0;
        while at < bytes.len() && !self.is_done() {
            if let State::Data(left) = self.0 {
                let here = left.min((bytes.len() - at) as u64);
                at += here as usize;
                self.0 = if here == left { State::DataEnd { seen_cr: false } } else { State::Data(left - here) };
                continue;
            }
            self.0 =
                step(self.0, bytes[at]).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "broken chunk"))?;
            at += 1;
        }
        Ok(at)
    }
}

/// What follows `byte` of the framing; `None` breaks it.
fn step(state: State, byte: u8) -> Option<State> {
    Some(match (state, byte) {
        (State::DataEnd { seen_cr: false }, b'\r') => State::DataEnd { seen_cr: true },
        (State::DataEnd { seen_cr: true }, b'\n') => SIZE,
        (State::Size { value, over, length: length @ 1.., seen_cr: false }, b'\r') => {
            State::Size { value, over, length, seen_cr: true }
        }
        (State::Size { value: 0, seen_cr: true, .. }, b'\n') => State::Trailer { length: 0, total: 0, seen_cr: false },
        (State::Size { value, seen_cr: true, .. }, b'\n') => State::Data(value),
        (State::Size { value, over: false, length: length @ 0..16, seen_cr: false }, digit)
            if digit.is_ascii_hexdigit() =>
        {
            let digit = u64::from(char::from(digit).to_digit(16)?);
            State::Size { value: value << 4 | digit, over: false, length: length + 1, seen_cr: false }
        }
        (State::Size { value, over, length: length @ 1..MAX_LINE, seen_cr: false }, byte)
            if byte != b'\n' && (over || matches!(byte, b';' | b' ' | b'\t')) =>
        {
            State::Size { value, over: true, length: length + 1, seen_cr: false }
        }
        (State::Trailer { length, total, seen_cr: false }, b'\r') => State::Trailer { length, total, seen_cr: true },
        (State::Trailer { length: 0, seen_cr: true, .. }, b'\n') => State::Done,
        (State::Trailer { total, seen_cr: true, .. }, b'\n') => State::Trailer { length: 0, total, seen_cr: false },
        (State::Trailer { length: length @ 0..MAX_LINE, total: total @ 0..MAX_TRAILERS, seen_cr: false }, byte)
            if byte != b'\n' =>
        {
            State::Trailer { length: length + 1, total: total + 1, seen_cr: false }
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_end_however_the_bytes_arrive() {
        let body = b"5;x=y\r\nhello\r\n0A\r\n0123456789\r\n0\r\nTrailer: 1\r\n\r\n";
        let input = [&body[..], b"next"].concat();
        for step in 1..input.len() {
            let mut chunks = Chunks::default();
            let taken: usize = input.chunks(step).map(|piece| chunks.take(piece).expect("well formed")).sum();
            assert_eq!((taken, chunks.is_done()), (body.len(), true), "in steps of {step}");
        }
    }

    #[test]
    fn refuses_broken_framing() {
        for bad in ["\r\n", "x\r\n", "5\nhello", "5\r\nhelloX", "-5\r\n", "5\rx", "11111111111111111\r\n", "0\r\n\n"] {
            assert!(Chunks::default().take(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }
}
