//! The frame walker: what passes, what is counted and how it ends are what a plain reading of the whole stream says,
//! however the bytes are chopped and wherever a frame of our own is to go in.
//!
//! Input: a byte for the terms, a byte for the pieces; then the stream.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sheave::proxy::frame::{Reserved, Stop};
use sheave::routing::MessageLimits;
use sheave::telemetry::Direction;

#[path = "../../tests/frame_model/mod.rs"]
mod frame_model;

use frame_model::{Terms, read, walk};

fn terms(bits: u8) -> Terms {
    let narrow = MessageLimits {
        max_message_bytes: Some(300),
        max_frame_bytes: Some(200),
        max_fragments: Some(4),
        ..MessageLimits::default()
    };
    let none = MessageLimits { max_message_bytes: None, max_fragments: None, ..MessageLimits::default() };
    Terms {
        direction: if bits & 1 == 0 { Direction::Out } else { Direction::In },
        reserved: [Reserved::None, Reserved::Deflate, Reserved::Any, Reserved::None][usize::from(bits >> 1 & 3)],
        limits: [MessageLimits::default(), narrow, none, MessageLimits::default()][usize::from(bits >> 3 & 3)].clone(),
        nonce: (bits & 32 != 0).then_some(*b"nonce 01"),
    }
}

fuzz_target!(|bytes: &[u8]| {
    let [bits, seed, stream @ ..] = bytes else { return };
    let terms = terms(*bits);
    let (wanted, boundaries) = read(stream, &terms);
    assert_eq!(walk(stream, &terms, &boundaries, || (usize::MAX / 2, Stop::Never)), wanted, "at once");
    assert_eq!(walk(stream, &terms, &boundaries, || (1, Stop::Never)), wanted, "byte by byte");
    let mut state = u32::from(*seed) | 0x100;
    let piece = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let stop = [Stop::Frame, Stop::Message, Stop::Never, Stop::Never][(state >> 30) as usize];
        ((state >> 16 & 31) as usize, stop)
    };
    assert_eq!(walk(stream, &terms, &boundaries, piece), wanted, "in pieces");
});
