//! What a stream of frames says by the plainest reading of RFC 6455 §5, and what the frame walker says of the same bytes
//! however they are chopped: the first is the measure of the second, in the property tests and in the fuzz target.
//!
//! The reading has the whole stream before it, decodes one frame after the other, and shares nothing with the walker.

// Seen from a fuzz target, too.
#![allow(unreachable_pub)]

use sheave::proxy::frame::{Event, FrameRules, MAX_HELD, Reserved, Stop, Walker};
use sheave::routing::MessageLimits;
use sheave::telemetry::{ControlOpcode, DataOpcode, Direction, SessionCounters};

/// What the stream may hold.
#[derive(Clone, Debug)]
pub struct Terms {
    pub direction: Direction,
    pub reserved: Reserved,
    pub limits: MessageLimits,
    /// The payload of the pong that is not to pass.
    pub nonce: Option<[u8; 8]>,
}

/// How a stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// In the middle, or between two frames: more may come.
    Open,
    /// With a Close of this code.
    Close(u16),
    /// With a fault that is answered by this code.
    Fault(u16),
}

/// What a stream says.
#[derive(Debug, PartialEq, Eq)]
pub struct Said {
    /// The bytes that pass.
    pub passed: Vec<u8>,
    pub end: End,
    /// Messages of text and binary, bytes of their payloads, and Closes, pings and pongs among what passes.
    pub counted: [u64; 6],
    /// Whether a pong did not pass.
    pub swallowed: bool,
}

/// Where in what passes a frame of another may be put in: between frames, and between messages.
#[derive(Debug, Default)]
pub struct Boundaries {
    pub frames: Vec<usize>,
    pub messages: Vec<usize>,
}

/// One frame's header.
struct Head {
    fin: bool,
    opcode: u8,
    key: Option<[u8; 4]>,
    length: u64,
    size: usize,
    shortest: bool,
}

/// Reads a header if it is whole.
fn head(bytes: &[u8]) -> Option<Head> {
    let first = *bytes.first()?;
    let second = *bytes.get(1)?;
    let extended: usize =
        [(126, 2), (127, 8)].into_iter().find(|(form, _)| second & 127 == *form).map_or(0, |(_, n)| n);
    let length = match extended {
        0 => u64::from(second & 127),
        count => bytes.get(2..2 + count)?.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
    };
    let key: Option<[u8; 4]> = match second & 128 {
        0 => None,
        _ => Some(bytes.get(2 + extended..6 + extended)?.try_into().expect("four bytes")),
    };
    let shortest = match extended {
        2 => length >= 126,
        8 => (65_536..=u64::MAX / 2).contains(&length),
        _ => true,
    };
    let size = 2 + extended + key.map_or(0, |_| 4);
    Some(Head { fin: first >= 128, opcode: first & 15, key, length, size, shortest })
}

/// Whether the first two bytes of a frame are in order.
fn starts_well(first: u8, second: u8, terms: &Terms) -> bool {
    let opcode = first & 15;
    let known = [0, 1, 2, 8, 9, 10].contains(&opcode);
    let bits = match terms.reserved {
        Reserved::Any => true,
        Reserved::Deflate => first & 0x70 == 0 || (first & 0x70 == 0x40 && (opcode == 1 || opcode == 2)),
        Reserved::None => first & 0x70 == 0,
    };
    let control = opcode < 8 || (first & 128 != 0 && second & 127 < 126);
    known && bits && control && (second & 128 != 0) == (terms.direction == Direction::In)
}

/// The code of a Close, if its body is one.
fn close_code(body: &[u8]) -> Option<u16> {
    if body.is_empty() {
        return Some(1005);
    }
    let code = u16::from_be_bytes([body[0], *body.get(1)?]);
    let never = [1004, 1005, 1006, 1015].contains(&code);
    let sendable = (1000..=1014).contains(&code) || (3000..=4999).contains(&code);
    (sendable && !never && String::from_utf8(body[2..].to_vec()).is_ok()).then_some(code)
}

/// Reads a whole stream.
pub fn read(stream: &[u8], terms: &Terms) -> (Said, Boundaries) {
    let mut said = Said { passed: Vec::new(), end: End::Open, counted: [0; 6], swallowed: false };
    let mut boundaries = Boundaries { frames: vec![0], messages: vec![0] };
    // Opcode, frames and bytes of the message that has begun.
    let mut message: Option<(u8, u32, u64)> = None;
    let mut at = 0;
    let code = 'fault: loop {
        let ahead = &stream[at..];
        if let [first, second, ..] = ahead
            && !starts_well(*first, *second, terms)
        {
            break 'fault 1002;
        }
        let Some(head) = head(ahead) else { return (said, boundaries) };
        if !head.shortest {
            break 'fault 1002;
        }
        let end = usize::try_from(head.length).ok().and_then(|length| head.size.checked_add(length));
        let whole = end.filter(|end| *end <= ahead.len());
        if head.opcode >= 8 {
            let Some(end) = whole else { return (said, boundaries) };
            let key = head.key.unwrap_or_default();
            let body: Vec<u8> = ahead[head.size..end].iter().zip(key.iter().cycle()).map(|(b, k)| b ^ k).collect();
            at += end;
            if head.opcode == 10 && terms.nonce.is_some_and(|nonce| body == nonce) {
                said.swallowed = true;
                continue;
            }
            if head.opcode == 8 {
                let Some(code) = close_code(&body) else { break 'fault 1002 };
                said.end = End::Close(code);
            }
            said.counted[usize::from(head.opcode) - 5] += 1;
            said.passed.extend(&ahead[..end]);
            if said.end != End::Open {
                return (said, boundaries);
            }
        } else {
            if (head.opcode == 0) != message.is_some() {
                break 'fault 1002;
            }
            let (opcode, frames, bytes) = message.unwrap_or((head.opcode, 0, 0));
            let limits = &terms.limits;
            let (frames, bytes) = (frames + 1, bytes.saturating_add(head.length));
            let over = |bound: Option<u64>, size: u64| bound.is_some_and(|bound| size > bound);
            if over(limits.max_frame_bytes, head.length)
                || over(limits.max_message_bytes, bytes)
                || over(limits.max_fragments.map(u64::from), u64::from(frames))
            {
                break 'fault 1009;
            }
            let Some(end) = whole else {
                said.passed.extend(ahead);
                return (said, boundaries);
            };
            said.passed.extend(&ahead[..end]);
            at += end;
            message = Some((opcode, frames, bytes)).filter(|_| !head.fin);
            if head.fin {
                said.counted[usize::from(opcode) - 1] += 1;
                said.counted[2] += bytes;
            }
        }
        boundaries.frames.push(said.passed.len());
        if message.is_none() {
            boundaries.messages.push(said.passed.len());
        }
    };
    said.end = End::Fault(code);
    (said, boundaries)
}

/// Walks a stream that comes in pieces, each of as many bytes as `piece` says and asked to stop as it says.
pub fn walk(stream: &[u8], terms: &Terms, boundaries: &Boundaries, mut piece: impl FnMut() -> (usize, Stop)) -> Said {
    let counters = SessionCounters::default();
    let mut rules = FrameRules::new(terms.direction, terms.reserved, &terms.limits);
    rules.nonce = terms.nonce;
    let mut walker = Walker::default();
    let mut said = Said { passed: Vec::new(), end: End::Open, counted: [0; 6], swallowed: false };
    let (mut held, mut at) = (Vec::new(), 0);
    while at < stream.len() && said.end == End::Open {
        let (size, stop) = piece();
        let end = (at + size.max(1)).min(stream.len());
        held.extend(&stream[at..end]);
        at = end;
        rules.stop = stop;
        loop {
            let seen = walker.walk(&mut held, &rules, &counters);
            assert!(seen.forward <= seen.rest && seen.rest <= held.len(), "{seen:?} of {} bytes", held.len());
            said.passed.extend(&held[..seen.forward]);
            said.swallowed |= seen.pong;
            held.drain(..seen.rest);
            match seen.event {
                None => {
                    assert!(held.len() < MAX_HELD, "{} bytes are held", held.len());
                    break;
                }
                Some(Event::Boundary) => {
                    let here = said.passed.len();
                    assert!(walker.at_frame_boundary() && boundaries.frames.contains(&here), "no frame ends at {here}");
                    if stop == Stop::Message {
                        assert!(
                            walker.at_message_boundary() && boundaries.messages.contains(&here),
                            "no message at {here}"
                        );
                    }
                    rules.stop = Stop::Never;
                }
                Some(Event::Close(code)) => said.end = End::Close(code),
                Some(Event::Violation(violation)) => said.end = End::Fault(violation.code()),
                Some(Event::Held) => panic!("held back without an allowance"),
            }
            if said.end != End::Open {
                break;
            }
        }
    }
    let tally = *counters.read().direction(terms.direction);
    assert_eq!(tally.bytes, said.passed.len() as u64, "bytes are counted as they pass");
    let control =
        [ControlOpcode::Close, ControlOpcode::Ping, ControlOpcode::Pong].map(|opcode| tally.control_of(opcode));
    let [text, binary] = [DataOpcode::Text, DataOpcode::Binary].map(|opcode| tally.messages_of(opcode));
    said.counted = [text, binary, tally.payload, control[0], control[1], control[2]];
    said
}
