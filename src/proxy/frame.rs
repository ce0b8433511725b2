//! The frame walker: reads frame headers in a stream of bytes and leaves the bytes alone (RFC 6455 §5).
//!
//! It decides what may pass (F1 to F8 of the intermediary's duties) and, by the allowance, what must wait; it counts,
//! and finds the boundaries at which a frame of our own may be put in. It never unmasks a data payload, never gathers a message and never waits: a
//! header or control frame that is not whole yet is left to the caller to hold and present again.

use super::allowance::Allowance;
use super::bucket::Kind;
use crate::routing::MessageLimits;
use crate::telemetry::{ControlOpcode, DataOpcode, Direction, SessionCounters};

/// The largest header and control payload: nothing longer is ever held back (RFC 6455 §5.2, §5.5).
pub const MAX_HELD: usize = 14 + 125;

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
pub(super) const CLOSE: u8 = 0x8;
pub(super) const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// What one direction may carry.
#[derive(Clone, Copy, Debug)]
pub struct FrameRules<'r> {
    /// Client to service when [`Direction::In`]: its frames must be masked, the others' must not (§5.1).
    pub direction: Direction,
    /// Which reserved bits the negotiated extensions use.
    pub reserved: Reserved,
    /// Size bounds.
    pub limits: &'r MessageLimits,
    /// How much may come in a time; `None` where nothing is bounded.
    pub(super) allowance: Option<&'r Allowance>,
    /// The payload of a ping of ours that waits for its pong.
    pub nonce: Option<[u8; 8]>,
    /// Where to stop so that a frame of ours can be put in.
    pub stop: Stop,
    /// Whether a Close answers that of the other side, so that the end of the stream follows it.
    pub(super) answers: bool,
}

impl<'r> FrameRules<'r> {
    /// The rules of a direction that is bounded by sizes alone, and in which nothing of ours goes in.
    pub fn new(direction: Direction, reserved: Reserved, limits: &'r MessageLimits) -> Self {
        Self { direction, reserved, limits, allowance: None, nonce: None, stop: Stop::Never, answers: false }
    }
}

/// Which reserved bits may be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserved {
    /// Any: an extension was accepted that we do not know (RFC 6455 §5.4).
    Any,
    /// RSV1 on the first frame of a data message: `permessage-deflate` (RFC 7692 §6).
    Deflate,
    /// None.
    None,
}

/// Where the walk stops early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Behind the peer's Close, which is not passed: ours takes its place.
    Close,
    /// At the next frame boundary.
    Frame,
    /// At the next message boundary.
    Message,
    /// Nowhere.
    Never,
}

/// Why a walk ended before the end of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The boundary asked for; the rest of the bytes has not been looked at.
    Boundary,
    /// A Close frame was passed, or seen where ours is to take its place, with its code (1005 when it has none); nothing
    /// may follow it (§5.5.1).
    Close(u16),
    /// The next frame is over the allowance; the rest of the bytes has not been looked at.
    Held,
    /// The stream broke a rule; nothing from here on may pass.
    Violation(Violation),
}

/// A broken rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error("Close frame with an invalid body")]
    CloseBody,
    #[error("frame fragmented or sized as no control frame may be")]
    ControlFrame,
    #[error("fragments out of order")]
    Fragmentation,
    #[error("frame larger than the route allows")]
    FrameTooBig,
    #[error("frame length not in its shortest form")]
    Length,
    #[error("masking is wrong for this side")]
    Mask,
    #[error("message larger than the route allows")]
    MessageTooBig,
    #[error("unknown opcode")]
    Opcode,
    #[error("reserved bit set without its extension")]
    ReservedBit,
    #[error("message of more fragments than the route allows")]
    TooManyFragments,
}

impl Violation {
    /// The close code that names this fault to the side that committed it (RFC 6455 §7.4.1).
    pub fn code(self) -> u16 {
        match self {
            Self::FrameTooBig | Self::MessageTooBig | Self::TooManyFragments => 1009,
            _ => 1002,
        }
    }
}

/// What a walk came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walked {
    /// Bytes of the buffer to pass on, from its start. A swallowed pong has been cut out by moving what follows.
    pub forward: usize,
    /// Where the bytes begin that were not looked at or are not whole yet.
    pub rest: usize,
    /// Why it ended early.
    pub event: Option<Event>,
    /// Whether a pong to our ping was swallowed.
    pub pong: bool,
}

/// The state of one direction between two reads.
#[derive(Clone, Copy, Debug, Default)]
pub struct Walker {
    /// Payload bytes of the current frame still to come.
    remaining: u64,
    /// Payload bytes of the current message so far.
    message_bytes: u64,
    /// Frames of the current message so far; 0 between messages.
    fragments: u32,
    /// Opcode of the current message.
    opcode: u8,
    /// Whether the current frame ends its message.
    fin: bool,
}

/// A parsed header.
struct Header {
    fin: bool,
    opcode: u8,
    masked: bool,
    short: u8,
    length: u64,
    size: usize,
}

impl Header {
    /// Reads the header at the start of `bytes`; `None` if it is not whole.
    fn read(bytes: &[u8]) -> Option<Self> {
        let (first, second) = (*bytes.first()?, *bytes.get(1)?);
        let short = second & 0x7f;
        let (length, extended) = match short {
            126 => (u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)), 2),
            127 => (u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?), 8),
            _ => (u64::from(short), 0),
        };
        let masked = second & 0x80 != 0;
        let size = 2 + extended + if masked { 4 } else { 0 };
        (bytes.len() >= size).then_some(Self {
            fin: first & 0x80 != 0,
            opcode: first & 0x0f,
            masked,
            short,
            length,
            size,
        })
    }

    /// Whether the frame is within the allowance; asked once it is known to be right.
    fn admitted(&self, rules: &FrameRules<'_>, kind: Kind) -> bool {
        let size = self.length.saturating_add(self.size as u64);
        rules.allowance.is_none_or(|allowance| allowance.admits(kind, size))
    }

    /// Checks what the first two bytes already tell, so that a lie is answered without waiting for more.
    fn check_start(bytes: &[u8], rules: &FrameRules<'_>) -> Result<(), Violation> {
        let (Some(first), Some(second)) = (bytes.first(), bytes.get(1)) else { return Ok(()) };
        let opcode = first & 0x0f;
        let control = opcode >= 0x8;
        if !matches!(opcode, CONTINUATION | TEXT | BINARY | CLOSE | PING | PONG) {
            return Err(Violation::Opcode);
        }
        let first_of_message = matches!(opcode, TEXT | BINARY);
        let allowed = match rules.reserved {
            Reserved::Any => 0x70,
            Reserved::Deflate if first_of_message => 0x40,
            Reserved::Deflate | Reserved::None => 0,
        };
        if first & 0x70 & !allowed != 0 {
            return Err(Violation::ReservedBit);
        }
        if control && (first & 0x80 == 0 || second & 0x7f > 125) {
            return Err(Violation::ControlFrame);
        }
        if (second & 0x80 != 0) != (rules.direction == Direction::In) {
            return Err(Violation::Mask);
        }
        Ok(())
    }
}

impl Walker {
    /// Whether the bytes passed on so far end with a whole frame.
    pub fn at_frame_boundary(&self) -> bool {
        self.remaining == 0
    }

    /// Whether the bytes passed on so far end with a whole message.
    pub fn at_message_boundary(&self) -> bool {
        self.remaining == 0 && self.fragments == 0
    }

    /// Walks `bytes`, which begin where the last walk's rest began.
    pub fn walk(&mut self, bytes: &mut [u8], rules: &FrameRules<'_>, counters: &SessionCounters) -> Walked {
        let mut done = Walked { forward: 0, rest: 0, event: None, pong: false };
        if let Some(allowance) = rules.allowance {
            allowance.look();
        }
        while done.rest < bytes.len() {
            if self.remaining > 0 {
                let available = (bytes.len() - done.rest) as u64;
                let take = self.remaining.min(available);
                done.pass(bytes, take as usize);
                self.remaining -= take;
                if self.remaining == 0 {
                    self.end_frame(rules.direction, counters);
                }
                continue;
            }
            if rules.stop == Stop::Frame || (rules.stop == Stop::Message && self.fragments == 0) {
                done.event = Some(Event::Boundary);
                break;
            }
            if let Some((opcode, size, length)) = self.whole_message(&bytes[done.rest..], rules) {
                counters.direction(rules.direction).message(opcode, length);
                done.pass(bytes, size);
                continue;
            }
            match self.frame(bytes, &mut done, rules, counters) {
                Ok(true) => {}
                Ok(false) => break,
                Err(violation) => {
                    done.event = Some(Event::Violation(violation));
                    break;
                }
            }
            if done.event.is_some() {
                break;
            }
        }
        counters.direction(rules.direction).bytes(done.forward as u64);
        done
    }

    /// The shortcut that most messages take: one frame, all of it at hand, of less than 64 KiB, within its bounds and with
    /// nothing else to be asked. Gives its opcode, its size and that of its payload. `None` says nothing: then
    /// [`Self::frame`] decides.
    #[inline]
    fn whole_message(&self, ahead: &[u8], rules: &FrameRules<'_>) -> Option<(DataOpcode, usize, u64)> {
        const FIN: u8 = 0x80;
        let [first, second, high, low, ..] = *ahead else { return None };
        let opcode = match first {
            first if first == FIN | TEXT => DataOpcode::Text,
            first if first == FIN | BINARY => DataOpcode::Binary,
            _ => return None,
        };
        let key = match rules.direction {
            Direction::In => 4,
            Direction::Out => 0,
        };
        if (second & 0x80 != 0) != (key != 0) || self.fragments > 0 || rules.allowance.is_some() {
            return None;
        }
        let (length, header) = match second & 0x7f {
            127 => return None,
            126 => (u16::from_be_bytes([high, low]), 4),
            short => (u16::from(short), 2),
        };
        if header == 4 && length < 126 {
            return None;
        }
        let (size, length) = (header + key + usize::from(length), u64::from(length));
        let limits = rules.limits;
        let fits = size <= ahead.len()
            && limits.max_frame_bytes.is_none_or(|max| length <= max)
            && limits.max_message_bytes.is_none_or(|max| length <= max)
            && limits.max_fragments != Some(0);
        fits.then_some((opcode, size, length))
    }

    /// Takes the frame at `done.rest`: a control frame whole, of a data frame the header. False when it is not
    /// whole yet.
    fn frame(
        &mut self,
        bytes: &mut [u8],
        done: &mut Walked,
        rules: &FrameRules<'_>,
        counters: &SessionCounters,
    ) -> Result<bool, Violation> {
        let ahead = &bytes[done.rest..];
        Header::check_start(ahead, rules)?;
        let Some(header) = Header::read(ahead) else { return Ok(false) };
        let shortest = match header.short {
            126 => header.length > 125,
            127 => header.length > 0xffff && header.length >> 63 == 0,
            _ => true,
        };
        if !shortest {
            return Err(Violation::Length);
        }
        if header.opcode >= 0x8 {
            return Self::control(bytes, done, &header, rules, counters);
        }
        self.check(&header, rules.limits)?;
        let kind = if self.fragments == 0 { Kind::Message } else { Kind::Fragment };
        if !header.admitted(rules, kind) {
            done.event = Some(Event::Held);
            return Ok(true);
        }
        self.enter(&header);
        done.pass(bytes, header.size);
        if self.remaining == 0 {
            self.end_frame(rules.direction, counters);
        }
        Ok(true)
    }

    /// Checks a data frame: order of fragments (§5.4), then the bounds, before any payload is taken.
    fn check(&self, header: &Header, limits: &MessageLimits) -> Result<(), Violation> {
        if (header.opcode == CONTINUATION) != (self.fragments > 0) {
            return Err(Violation::Fragmentation);
        }
        if limits.max_frame_bytes.is_some_and(|max| header.length > max) {
            return Err(Violation::FrameTooBig);
        }
        if limits.max_message_bytes.is_some_and(|max| self.message_bytes.saturating_add(header.length) > max) {
            return Err(Violation::MessageTooBig);
        }
        if limits.max_fragments.is_some_and(|max| self.fragments >= max) {
            return Err(Violation::TooManyFragments);
        }
        Ok(())
    }

    /// Enters a data frame that has been checked.
    fn enter(&mut self, header: &Header) {
        if self.fragments == 0 {
            self.opcode = header.opcode;
        }
        self.fragments = self.fragments.saturating_add(1);
        self.message_bytes = self.message_bytes.saturating_add(header.length);
        self.remaining = header.length;
        self.fin = header.fin;
    }

    fn end_frame(&mut self, direction: Direction, counters: &SessionCounters) {
        if self.fin {
            let opcode = if self.opcode == TEXT { DataOpcode::Text } else { DataOpcode::Binary };
            counters.direction(direction).message(opcode, self.message_bytes);
            self.fragments = 0;
            self.message_bytes = 0;
        }
    }

    /// Takes a whole control frame: passes it, swallows it when it is the pong to our ping, ends at a Close.
    fn control(
        bytes: &mut [u8],
        done: &mut Walked,
        header: &Header,
        rules: &FrameRules<'_>,
        counters: &SessionCounters,
    ) -> Result<bool, Violation> {
        let size = header.size + header.length as usize;
        let Some(frame) = bytes.get(done.rest..done.rest + size) else { return Ok(false) };
        let mut body = [0u8; 125];
        let body = &mut body[..header.length as usize];
        body.copy_from_slice(&frame[header.size..]);
        if header.masked {
            let key = &frame[header.size - 4..header.size];
            body.iter_mut().zip(key.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
        }
        if header.opcode == PONG && rules.nonce.is_some_and(|nonce| body[..] == nonce) {
            done.rest += size;
            done.pong = true;
            return Ok(true);
        }
        // A Close always passes: holding it back would only make a session last longer.
        if header.opcode != CLOSE && !header.admitted(rules, Kind::Control) {
            done.event = Some(Event::Held);
            return Ok(true);
        }
        let opcode = match header.opcode {
            CLOSE => {
                let code = close_code(body)?;
                done.event = Some(Event::Close(code));
                ControlOpcode::Close
            }
            PING => ControlOpcode::Ping,
            _ => ControlOpcode::Pong,
        };
        if opcode == ControlOpcode::Close && rules.stop == Stop::Close {
            done.rest += size;
            return Ok(true);
        }
        counters.direction(rules.direction).control(opcode);
        done.pass(bytes, size);
        Ok(true)
    }
}

impl Walked {
    /// Passes `size` bytes on, closing the gap that a swallowed frame left.
    fn pass(&mut self, bytes: &mut [u8], size: usize) {
        if self.forward != self.rest {
            bytes.copy_within(self.rest..self.rest + size, self.forward);
        }
        self.forward += size;
        self.rest += size;
    }
}

/// The code of a Close body: empty is 1005, one byte or a code that may not be sent is a violation (§7.4.1, §7.4.2).
fn close_code(body: &[u8]) -> Result<u16, Violation> {
    match body {
        [] => Ok(1005),
        [_] => Err(Violation::CloseBody),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            let sendable = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
            if sendable && std::str::from_utf8(reason).is_ok() { Ok(code) } else { Err(Violation::CloseBody) }
        }
    }
}
