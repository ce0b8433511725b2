//! Frames byte by byte (RFC 6455 §5.2), right ones and wrong ones.

use super::wire::Wire;

/// The last frame of its message.
pub const FIN: u8 = 0x80;
/// The reserved bits.
pub const RSV1: u8 = 0x40;
pub const RSV2: u8 = 0x20;
pub const RSV3: u8 = 0x10;
/// The opcodes.
pub const CONTINUATION: u8 = 0x0;
pub const TEXT: u8 = 0x1;
pub const BINARY: u8 = 0x2;
pub const CLOSE: u8 = 0x8;
pub const PING: u8 = 0x9;
pub const PONG: u8 = 0xA;

/// The masking key of every frame that [`masked`] makes.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A frame as a service sends it; `first` is its first byte.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    build(first, None, payload)
}

/// A frame as a client sends it; `first` is its first byte.
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    build(first, Some(MASK), payload)
}

/// The body of a Close frame.
pub fn close_body(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes(), reason.as_bytes()].concat()
}

/// A Close as a service sends it.
pub fn close(code: u16, reason: &str) -> Vec<u8> {
    frame(FIN | CLOSE, &close_body(code, reason))
}

fn build(first: u8, key: Option<[u8; 4]>, payload: &[u8]) -> Vec<u8> {
    let bit = if key.is_some() { 0x80 } else { 0 };
    let mut out = vec![first];
    if payload.len() < 126 {
        out.push(bit | u8::try_from(payload.len()).expect("less than 126"));
    } else if let Ok(length) = u16::try_from(payload.len()) {
        out.push(bit | 0x7e);
        out.extend(length.to_be_bytes());
    } else {
        out.push(bit | 0x7f);
        out.extend((payload.len() as u64).to_be_bytes());
    }
    if let Some(key) = key {
        out.extend(key);
        out.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    } else {
        out.extend(payload);
    }
    out
}

/// A frame as it was read.
#[derive(Debug)]
pub struct Frame {
    /// FIN, reserved bits and opcode.
    pub first: u8,
    /// Whether it came masked.
    pub masked: bool,
    /// Unmasked.
    pub payload: Vec<u8>,
}

impl Frame {
    /// Reads one frame.
    pub fn read(wire: &mut Wire) -> Self {
        let start = wire.take(2);
        let masked = start[1] & 0x80 != 0;
        let length = match start[1] & 0x7f {
            126 => u64::from(u16::from_be_bytes(wire.take(2).try_into().expect("two bytes"))),
            127 => u64::from_be_bytes(wire.take(8).try_into().expect("eight bytes")),
            short => u64::from(short),
        };
        let key = if masked { wire.take(4) } else { vec![0; 4] };
        let mut payload = wire.take(usize::try_from(length).expect("a frame that fits into memory"));
        payload.iter_mut().zip(key.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
        Self { first: start[0], masked, payload }
    }

    /// The code and the reason, if this is a Close; 1005 for one without a code.
    pub fn close(&self) -> Option<(u16, String)> {
        if self.first != FIN | CLOSE {
            return None;
        }
        match &self.payload[..] {
            [] => Some((1005, String::new())),
            [high, low, reason @ ..] => {
                let reason = String::from_utf8(reason.to_vec()).expect("a reason is UTF-8");
                Some((u16::from_be_bytes([*high, *low]), reason))
            }
            [_] => panic!("a Close body of one byte"),
        }
    }
}
