//! Just enough of RFC 6455 framing for the two ends of a measurement.
//!
//! Holds the bytes of one direction, hands out whole frames, and writes frames.
//! Decides nothing about the conversation: `load` and `backend` do. It is kept
//! apart from the proxy's own frame code on purpose, so that one mistake cannot
//! hide in both.

use std::io;
use std::ops::Range;

use tokio::io::{AsyncRead, AsyncReadExt};

/// Binary data (RFC 6455 §11.8).
pub(crate) const BINARY: u8 = 0x2;
/// Connection close (RFC 6455 §5.5.1).
pub(crate) const CLOSE: u8 = 0x8;
/// Ping (RFC 6455 §5.5.2).
pub(crate) const PING: u8 = 0x9;
/// Pong (RFC 6455 §5.5.3).
pub(crate) const PONG: u8 = 0xA;

/// First size of an inbox in bytes: holds 16 messages of 128 B in one read.
const INBOX_BYTES: usize = 8 * 1024;

/// Any key will do between two ends that trust each other.
const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// Head of one whole frame; its payload lies at `payload` in the inbox.
pub(crate) struct Frame {
    /// Low four bits of the first byte.
    pub(crate) opcode: u8,
    /// The whole first byte: FIN, reserved bits, opcode.
    #[allow(dead_code)] // for the soak, whose messages have fragments
    pub(crate) first: u8,
    /// Masking key, if the frame came from a client.
    pub(crate) mask: Option<[u8; 4]>,
    /// Where the payload lies, still masked.
    pub(crate) payload: Range<usize>,
}

/// Bytes that were read and not yet consumed.
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Inbox {
    /// Makes an empty inbox.
    pub(crate) fn new() -> Self {
        Self { bytes: vec![0; INBOX_BYTES], start: 0, end: 0 }
    }

    /// Reads once, growing when a frame is larger than the room left.
    ///
    /// # Errors
    /// `UnexpectedEof` when the peer has closed, else what the socket says.
    pub(crate) async fn fill<S: AsyncRead + Unpin>(&mut self, stream: &mut S) -> io::Result<()> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == self.bytes.len() {
            self.bytes.resize(self.bytes.len() * 2, 0);
        }
        match stream.read(&mut self.bytes[self.end..]).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                self.end += read;
                Ok(())
            }
        }
    }

    /// Whether nothing is left but what was consumed.
    #[allow(dead_code)] // for the soak, which asks whether a stream ended within a frame
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Takes the HTTP head off the front, blank line included, once it is whole.
    pub(crate) fn take_head(&mut self) -> Option<String> {
        let unread = &self.bytes[self.start..self.end];
        let length = unread.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let head = String::from_utf8_lossy(&unread[..length]).into_owned();
        self.start += length;
        Some(head)
    }

    /// Takes the next whole frame off the front, if there is one.
    pub(crate) fn take_frame(&mut self) -> Option<Frame> {
        let unread = &self.bytes[self.start..self.end];
        let (&first, &second) = (unread.first()?, unread.get(1)?);
        let (length, mut head) = match second & 0x7F {
            126 => (usize::from(u16::from_be_bytes(unread.get(2..4)?.try_into().ok()?)), 4),
            127 => {
                let wide = u64::from_be_bytes(unread.get(2..10)?.try_into().ok()?);
                (usize::try_from(wide).ok()?, 10)
            }
            short => (usize::from(short), 2),
        };
        let mask = if second & 0x80 == 0 {
            None
        } else {
            let key = unread.get(head..head + 4)?.try_into().ok()?;
            head += 4;
            Some(key)
        };
        if unread.len() < head + length {
            return None;
        }
        let at = self.start + head;
        self.start = at + length;
        Some(Frame { opcode: first & 0x0F, first, mask, payload: at..at + length })
    }

    /// Unmasks in place and lends a frame's payload; ask before the next `fill`.
    pub(crate) fn unmasked(&mut self, frame: &Frame) -> &[u8] {
        let payload = &mut self.bytes[frame.payload.clone()];
        if let Some(mask) = frame.mask {
            apply_mask(payload, mask);
        }
        payload
    }
}

/// XORs with the key, eight bytes at a time (RFC 6455 §5.3).
fn apply_mask(payload: &mut [u8], mask: [u8; 4]) {
    let wide = (u64::from(u32::from_ne_bytes(mask)) << 32) | u64::from(u32::from_ne_bytes(mask));
    let mut eights = payload.chunks_exact_mut(8);
    for eight in &mut eights {
        let word: [u8; 8] = (&*eight).try_into().expect("chunks of eight are eight long");
        eight.copy_from_slice(&(u64::from_ne_bytes(word) ^ wide).to_ne_bytes());
    }
    for (byte, key) in eights.into_remainder().iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}

/// Appends a frame as a server sends it: final, unmasked.
pub(crate) fn write_server(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    write_frame(out, 0x80 | opcode, None, payload);
}

/// Appends a frame as a client sends it: final, masked.
pub(crate) fn write_client(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    write_frame(out, 0x80 | opcode, Some(MASK), payload);
}

/// Appends a frame with this first byte (FIN, reserved bits, opcode), masked if there is a key.
pub(crate) fn write_frame(out: &mut Vec<u8>, first: u8, mask: Option<[u8; 4]>, payload: &[u8]) {
    out.push(first);
    write_length(out, payload.len(), if mask.is_some() { 0x80 } else { 0 });
    out.extend_from_slice(mask.as_ref().map_or(&[], <[u8; 4]>::as_slice));
    let at = out.len();
    out.extend_from_slice(payload);
    if let Some(mask) = mask {
        apply_mask(&mut out[at..], mask);
    }
}

fn write_length(out: &mut Vec<u8>, length: usize, mask_bit: u8) {
    // The mask bit is the highest, so adding it to seven bits of length sets it.
    if length < 126 {
        out.push(mask_bit + length as u8);
    } else if let Ok(length) = u16::try_from(length) {
        out.push(mask_bit + 126);
        out.extend_from_slice(&length.to_be_bytes());
    } else {
        out.push(mask_bit + 127);
        out.extend_from_slice(&(length as u64).to_be_bytes());
    }
}
