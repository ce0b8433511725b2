//! What a message says of itself, and whether a stream of them is whole.
//!
//! A message names its session and its place in it and carries a hash of all of it, so that either end can tell what
//! was lost, repeated or changed without asking the other. One too short for that is a piece of a hash of the same
//! two numbers.

use aws_lc_rs::digest::{Context, SHA256};
use std::sync::LazyLock;

use crate::frame::BINARY;

/// Text data (RFC 6455 §11.8).
pub(crate) const TEXT: u8 = 0x1;

/// The largest message, in bytes.
pub(crate) const LARGEST: usize = 256 << 10;

/// Session and place in 16 hexadecimal digits each, then 32 of the hash.
const HEAD: usize = 64;

/// What bodies are cut from: making each anew would cost more than relaying it.
static TEXTS: LazyLock<Vec<u8>> = LazyLock::new(|| bytes().into_iter().map(|byte| b' ' + byte % 95).collect());
static BYTES: LazyLock<Vec<u8>> = LazyLock::new(bytes);

fn bytes() -> Vec<u8> {
    let mut bytes = vec![0; 2 * LARGEST];
    fastrand::Rng::with_seed(7).fill(&mut bytes);
    bytes
}

/// The opcode of message `seq`: text and binary in turn.
pub(crate) fn opcode(session: u64, seq: u64) -> u8 {
    if (session ^ seq) & 1 == 0 { TEXT } else { BINARY }
}

/// Message `seq` of a session, of this size.
pub(crate) fn make(session: u64, seq: u64, size: usize, rng: &mut fastrand::Rng) -> Vec<u8> {
    if size < HEAD {
        return short(session, seq, size);
    }
    let pool = if opcode(session, seq) == TEXT { &TEXTS } else { &BYTES };
    let from = rng.usize(..LARGEST);
    let body = &pool[from..from + size - HEAD];
    let mut message = Vec::with_capacity(size);
    message.extend_from_slice(format!("{session:016x}{seq:016x}").as_bytes());
    let hash = hash(&message, body);
    message.extend_from_slice(hash.as_bytes());
    message.extend_from_slice(body);
    message
}

fn short(session: u64, seq: u64, size: usize) -> Vec<u8> {
    let mut text = hash(format!("{session:016x}{seq:016x}").as_bytes(), b"one");
    text += &hash(text.as_bytes(), b"two");
    text.as_bytes()[..size].to_vec()
}

/// 32 hexadecimal digits.
fn hash(head: &[u8], body: &[u8]) -> String {
    let mut context = Context::new(&SHA256);
    context.update(head);
    context.update(&(body.len() as u64).to_be_bytes());
    context.update(body);
    let digest = context.finish();
    let (high, low) = digest.as_ref()[..16].split_at(8);
    let word = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().expect("eight bytes"));
    format!("{:016x}{:016x}", word(high), word(low))
}

/// What is wrong with a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Damage {
    /// Messages that never came though a later one did.
    pub(crate) lost: u64,
    /// Messages that came once more, or after their successors.
    pub(crate) repeated: u64,
    /// Messages that are not what was sent, and frames that no end of ours sends.
    pub(crate) corrupt: u64,
}

/// One direction of a session, as its receiver sees it.
#[derive(Debug)]
pub(crate) struct Sequence {
    session: u64,
    /// How many came; the place of the next.
    pub(crate) next: u64,
    pub(crate) damage: Damage,
}

impl Sequence {
    pub(crate) fn new(session: u64) -> Self {
        Self { session, next: 0, damage: Damage::default() }
    }

    /// Takes a whole message.
    pub(crate) fn take(&mut self, code: u8, message: &[u8]) {
        let seq = if message.len() < HEAD { self.short(message) } else { self.long(message) };
        let Some(seq) = seq.filter(|seq| opcode(self.session, *seq) == code) else {
            self.damage.corrupt += 1;
            self.next += 1;
            return;
        };
        if seq < self.next {
            self.damage.repeated += 1;
            return;
        }
        self.damage.lost += seq - self.next;
        self.next = seq + 1;
    }

    fn short(&self, message: &[u8]) -> Option<u64> {
        (short(self.session, self.next, message.len()) == message).then_some(self.next)
    }

    fn long(&self, message: &[u8]) -> Option<u64> {
        let (head, body) = message.split_at(HEAD);
        let number = |at| u64::from_str_radix(std::str::from_utf8(head.get(at)?).ok()?, 16).ok();
        let whole = hash(&head[..32], body).as_bytes() == &head[32..];
        (whole && number(0..16) == Some(self.session)).then(|| number(16..32)).flatten()
    }

    /// Notes what no end of ours sends.
    pub(crate) fn alien(&mut self) {
        self.damage.corrupt += 1;
    }
}
