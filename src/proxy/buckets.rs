//! Many token buckets in memory that is fixed once and for all, known by 64-bit fingerprints.
//!
//! The table has 65,536 buckets of 24 bytes (1.5 MiB), made when the first is asked for; eight of them form a set, and a
//! fingerprint belongs to one set. A new one in a full set takes the place of the bucket whose loss matters least: one
//! that is full again, else one that has not just refused somebody, the fullest first. So an attack from a million
//! addresses neither takes memory nor frees the clients that a rate is holding back, and nobody is refused for want of a
//! bucket. Whose a fingerprint is, is decided elsewhere.

use super::gcra::{Bucket, nanoseconds};
use crate::routing::access::Rate;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Each with a lock of its own.
const SHARDS: usize = 64;
/// In each shard.
const SETS: usize = 128;
/// In each set.
const WAYS: usize = 8;

/// One bucket; free while its fingerprint is 0.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    fingerprint: u64,
    /// Nanoseconds since the start.
    full_at: u64,
    /// From empty to full, in milliseconds, 1 at least: what "half full" is measured by.
    span: u32,
    /// Whether it has refused somebody since it last gave a token.
    refused: bool,
}

impl Entry {
    /// How much its loss would matter at `now`.
    fn worth(&self, now: u64) -> (bool, u64) {
        let left = self.full_at.saturating_sub(now);
        // A bucket that is full is as good as none, whatever it has refused. In 1/1000 of the span.
        (self.refused && left > 0, left / 1000 / u64::from(self.span.max(1)))
    }
}

type Shard = Mutex<Box<[[Entry; WAYS]]>>;

/// The buckets.
#[derive(Debug)]
pub struct Buckets {
    start: Instant,
    shards: OnceLock<Box<[Shard]>>,
}

impl Default for Buckets {
    fn default() -> Self {
        Self { start: Instant::now(), shards: OnceLock::new() }
    }
}

impl Buckets {
    /// Takes a token from the bucket of `fingerprint`, which must be evenly spread and unknown to whoever could choose
    /// it. The rate may be another one each time: what was taken under the one before stays taken.
    ///
    /// # Errors
    /// How long until a token is back.
    pub fn take(&self, fingerprint: u64, rate: &Rate) -> Result<(), Duration> {
        self.take_at(fingerprint, Bucket::new(rate), nanoseconds(self.start.elapsed()))
    }

    fn take_at(&self, fingerprint: u64, bucket: Bucket, now: u64) -> Result<(), Duration> {
        let fingerprint = fingerprint.max(1);
        let at = fingerprint as usize;
        let mut sets = self.shards()[at % SHARDS].lock().unwrap_or_else(PoisonError::into_inner);
        let set = &mut sets[at / SHARDS % SETS];
        let known = set.iter().position(|entry| entry.fingerprint == fingerprint);
        let least = || set.iter().enumerate().min_by_key(|(_, entry)| entry.worth(now)).map_or(0, |(at, _)| at);
        let place = known.unwrap_or_else(least);
        let entry = &mut set[place];
        if known.is_none() {
            *entry = Entry { fingerprint, ..Entry::default() };
        }
        entry.span = u32::try_from(bucket.span / 1_000_000).unwrap_or(u32::MAX).max(1);
        let taken = bucket.take(&mut entry.full_at, now);
        entry.refused = taken.is_err();
        taken
    }

    fn shards(&self) -> &[Shard] {
        let shard = |_| Mutex::new(vec![[Entry::default(); WAYS]; SETS].into_boxed_slice());
        self.shards.get_or_init(|| (0..SHARDS).map(shard).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn bucket(limit: u64, seconds: u64, burst: u64) -> Bucket {
        Bucket::new(&Rate { limit, per: Duration::from_secs(seconds), burst })
    }

    /// Buckets in use.
    fn used(buckets: &Buckets) -> usize {
        let used = |shard: &Shard| shard.lock().unwrap().as_flattened().iter().filter(|e| e.fingerprint != 0).count();
        buckets.shards().iter().map(used).sum()
    }

    #[test]
    fn a_held_back_client_stays_held_back_while_a_million_others_flood_and_no_memory_is_taken() {
        // By the hour, so that no bucket of the flood fills again meanwhile; with a burst, and the hardest case without.
        for burst in [10, 1] {
            let buckets = Buckets::default();
            let bucket = bucket(burst, 3600, burst);
            let held: Vec<u64> = (0..100).map(|_| fastrand::u64(1..)).collect();
            for key in &held {
                for _ in 0..burst {
                    assert!(buckets.take_at(*key, bucket, 0).is_ok());
                }
                assert!(buckets.take_at(*key, bucket, 0).is_err());
            }
            for number in 0..1_000_000_u64 {
                // A thousandth of a millisecond between each: the flood takes a second.
                let _ = buckets.take_at(fastrand::u64(1..), bucket, number * 1000);
            }
            assert!(used(&buckets) <= SHARDS * SETS * WAYS);
            let free = held.iter().filter(|key| buckets.take_at(**key, bucket, SECOND).is_ok()).count();
            assert_eq!(free, 0, "with a burst of {burst}, so many of 100 got away");
        }
    }

    #[test]
    fn a_flood_of_one_route_does_not_free_the_clients_of_another_with_a_shorter_time() {
        let buckets = Buckets::default();
        let (short, long) = (bucket(1, 1, 20), bucket(1000, 3600, 1000));
        for _ in 0..20 {
            assert!(buckets.take_at(42, short, 0).is_ok());
        }
        for number in 0..1_000_000_u64 {
            let _ = buckets.take_at(fastrand::u64(100..), long, number);
        }
        assert!(buckets.take_at(42, short, SECOND / 2).is_err());
    }

    #[test]
    fn nobody_is_refused_for_want_of_a_bucket() {
        let buckets = Buckets::default();
        let bucket = bucket(1, 3600, 1);
        assert!((1..300_000).all(|_| buckets.take_at(fastrand::u64(1..), bucket, 0).is_ok()));
    }

    #[test]
    fn memory_is_taken_by_the_first_limit_only() {
        let buckets = Buckets::default();
        assert!(buckets.shards.get().is_none());
        assert_eq!(size_of::<Entry>() * WAYS * SETS * SHARDS, 3 << 19);
    }
}
