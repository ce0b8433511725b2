//! The counters of one live session: memory of its own, written by its own task, read by whoever looks.
//!
//! A message costs two or three plain loads and stores here and nothing anywhere else. At the end of the session the
//! counters are folded into its rule's totals, once ([`super::rules::RuleMetrics::closed`]).

use super::labels::{ControlOpcode, DataOpcode, Direction};
use std::ops::AddAssign;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// What blocked time is reckoned from.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Nanoseconds since then, shifted by the bit that says whether a direction is blocked.
fn clock() -> u64 {
    (EPOCH.elapsed().as_nanos() as u64) << 1
}

/// Upper bounds of the message size buckets, in bytes; one more bucket takes what is larger.
pub const SIZE_BUCKETS: [u64; 10] =
    [64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20];

const SIZES: usize = SIZE_BUCKETS.len() + 1;

/// What has passed in one direction. Only one task may write a direction at a time; anyone may read.
///
/// 152 bytes, because there is one pair for each session.
#[derive(Debug, Default)]
pub struct DirectionCounters {
    sizes: [AtomicU64; SIZES],
    messages: [AtomicU64; 2],
    payload: AtomicU64,
    bytes: AtomicU64,
    control: [AtomicU64; 3],
    /// How long it was blocked, in units of [`clock`]. The lowest bit says that it is: then the clock is to be added.
    blocked: AtomicU64,
}

/// Adds without a locked instruction, which is sound because a direction has one writer.
fn add(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(more), Relaxed);
}

impl DirectionCounters {
    /// Counts bytes on the wire as they pass: headers and payloads of frames of any kind.
    pub fn bytes(&self, count: u64) {
        add(&self.bytes, count);
    }

    /// Counts a message at its last frame; `size` is the payload of all its frames in bytes.
    pub fn message(&self, opcode: DataOpcode, size: u64) {
        let bucket = SIZE_BUCKETS.iter().position(|bound| size <= *bound).unwrap_or(SIZE_BUCKETS.len());
        add(&self.sizes[bucket], 1);
        add(&self.messages[opcode as usize], 1);
        add(&self.payload, size);
    }

    /// Counts a control frame that was passed on, or one of our own that was sent.
    pub fn control(&self, opcode: ControlOpcode) {
        add(&self.control[opcode as usize], 1);
    }

    /// Its bytes begin to wait for a receiver that takes none.
    pub fn blocked(&self) {
        let blocked = self.blocked.load(Relaxed);
        if blocked & 1 == 0 {
            self.blocked.store(blocked.wrapping_sub(clock()) | 1, Relaxed);
        }
    }

    /// Nothing waits any more.
    pub fn unblocked(&self) {
        let blocked = self.blocked.load(Relaxed);
        if blocked & 1 == 1 {
            self.blocked.store((blocked & !1).wrapping_add(clock()), Relaxed);
        }
    }

    fn blocked_for(&self) -> Duration {
        let blocked = self.blocked.load(Relaxed);
        let units = if blocked & 1 == 1 { (blocked & !1).wrapping_add(clock()) } else { blocked };
        Duration::from_nanos(units >> 1)
    }

    fn read(&self) -> DirectionTally {
        DirectionTally {
            sizes: std::array::from_fn(|at| self.sizes[at].load(Relaxed)),
            messages: std::array::from_fn(|at| self.messages[at].load(Relaxed)),
            payload: self.payload.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            control: std::array::from_fn(|at| self.control[at].load(Relaxed)),
            blocked: self.blocked_for(),
        }
    }
}

/// The counters of one session.
#[derive(Debug, Default)]
pub struct SessionCounters {
    client_to_backend: DirectionCounters,
    backend_to_client: DirectionCounters,
    folded: AtomicBool,
}

impl SessionCounters {
    /// The counters of one direction.
    pub fn direction(&self, direction: Direction) -> &DirectionCounters {
        match direction {
            Direction::In => &self.client_to_backend,
            Direction::Out => &self.backend_to_client,
        }
    }

    /// What has passed so far. The numbers are each right, though not of exactly the same moment.
    pub fn read(&self) -> Tally {
        Tally { directions: [self.client_to_backend.read(), self.backend_to_client.read()] }
    }

    /// Marks them as folded; true the first time only.
    pub(super) fn fold_once(&self) -> bool {
        !self.folded.swap(true, Relaxed)
    }

    pub(super) fn is_folded(&self) -> bool {
        self.folded.load(Relaxed)
    }
}

/// Numbers of one direction, as read at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DirectionTally {
    /// Messages by size bucket, not cumulative.
    pub sizes: [u64; SIZES],
    /// Messages by [`DataOpcode`].
    pub messages: [u64; 2],
    /// Payload bytes of whole messages.
    pub payload: u64,
    /// Bytes on the wire.
    pub bytes: u64,
    /// Control frames by [`ControlOpcode`].
    pub control: [u64; 3],
    /// How long bytes have waited for a receiver that took none.
    pub blocked: Duration,
}

impl DirectionTally {
    /// Messages of both kinds.
    pub fn messages(&self) -> u64 {
        self.messages.iter().sum()
    }

    /// Messages of one kind.
    pub fn messages_of(&self, opcode: DataOpcode) -> u64 {
        self.messages[opcode as usize]
    }

    /// Control frames of one kind.
    pub fn control_of(&self, opcode: ControlOpcode) -> u64 {
        self.control[opcode as usize]
    }
}

impl AddAssign for DirectionTally {
    fn add_assign(&mut self, other: Self) {
        self.sizes.iter_mut().zip(other.sizes).for_each(|(a, b)| *a += b);
        self.messages.iter_mut().zip(other.messages).for_each(|(a, b)| *a += b);
        self.payload = self.payload.wrapping_add(other.payload);
        self.bytes += other.bytes;
        self.control.iter_mut().zip(other.control).for_each(|(a, b)| *a += b);
        self.blocked += other.blocked;
    }
}

/// Numbers of a session, or of many together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    directions: [DirectionTally; 2],
}

impl Tally {
    /// The numbers of one direction.
    pub fn direction(&self, direction: Direction) -> &DirectionTally {
        &self.directions[direction as usize]
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.directions.iter_mut().zip(other.directions).for_each(|(a, b)| *a += b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_messages_by_kind_and_size_with_inclusive_bounds() {
        let counters = SessionCounters::default();
        let inward = counters.direction(Direction::In);
        inward.message(DataOpcode::Text, 64);
        inward.message(DataOpcode::Binary, 65);
        inward.message(DataOpcode::Binary, u64::MAX);
        inward.bytes(129);
        inward.control(ControlOpcode::Ping);
        let tally = *counters.read().direction(Direction::In);
        assert_eq!((tally.sizes[0], tally.sizes[1], tally.sizes[10]), (1, 1, 1));
        assert_eq!(tally.messages_of(DataOpcode::Text), 1);
        assert_eq!(tally.messages_of(DataOpcode::Binary), 2);
        assert_eq!((tally.bytes, tally.control_of(ControlOpcode::Ping)), (129, 1));
        assert_eq!(*counters.read().direction(Direction::Out), DirectionTally::default());
    }

    #[test]
    fn blocked_time_grows_while_it_lasts_and_stays_afterwards() {
        let counters = DirectionCounters::default();
        let pause = Duration::from_millis(2);
        let mut least = Duration::ZERO;
        for _ in 0..3 {
            counters.blocked();
            counters.blocked(); // is said once
            std::thread::sleep(pause);
            least += pause;
            assert!(counters.read().blocked >= least);
            counters.unblocked();
            let blocked = counters.read().blocked;
            std::thread::sleep(pause);
            assert_eq!(counters.read().blocked, blocked);
        }
    }

    #[test]
    fn the_memory_of_a_session_stays_small() {
        assert_eq!(size_of::<DirectionCounters>(), 152);
        assert_eq!(size_of::<SessionCounters>(), 312);
    }
}
