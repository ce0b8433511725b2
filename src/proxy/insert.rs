//! Frames of our own: the pings and Closes that are put in between those of the peers.
//!
//! Where they may go in is found by the walker, when by the relay.

use super::frame::{CLOSE, PING, Stop};
use crate::telemetry::Direction;

/// A frame of ours that waits for its boundary.
#[derive(Clone, Debug)]
pub(super) struct Insert {
    pub(super) frame: Vec<u8>,
    pub(super) at: Stop,
    pub(super) closes: bool,
}

/// A Close frame of ours; masked when it goes upstream (§5.3). 1005 stands for an empty body. The reason is cut to
/// what a control frame holds.
pub(crate) fn close_frame(direction: Direction, code: u16, reason: &str) -> Vec<u8> {
    if code == 1005 {
        return frame(direction, CLOSE, &[]);
    }
    let reason = &reason.as_bytes()[..reason.floor_char_boundary(123)];
    let mut body = Vec::with_capacity(2 + reason.len());
    body.extend(code.to_be_bytes());
    body.extend(reason);
    frame(direction, CLOSE, &body)
}

/// A Ping frame of ours with its nonce (§5.5.2).
pub(crate) fn ping_frame(direction: Direction, nonce: [u8; 8]) -> Vec<u8> {
    frame(direction, PING, &nonce)
}

fn frame(direction: Direction, opcode: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(6 + body.len());
    out.push(0x80 | opcode);
    if direction == Direction::Out {
        out.push(body.len() as u8);
        out.extend(body);
        return out;
    }
    let mut key = [0u8; 4];
    // Strong randomness as §5.3 asks; should the system have none, a weaker key is still a fresh one.
    if aws_lc_rs::rand::fill(&mut key).is_err() {
        key = fastrand::u32(..).to_ne_bytes();
    }
    out.push(0x80 | body.len() as u8);
    out.extend(key);
    out.extend(body.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    out
}
