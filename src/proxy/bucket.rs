//! Token buckets, in the form of GCRA: of each only the moment is kept at which it will be full again.
//!
//! A frame larger than the burst passes once the bucket is full, and what follows waits for the rest of its price.
//! Whose buckets these are, and what becomes of a frame that may not pass yet, is decided elsewhere.

use crate::routing::Rates;
use crate::routing::access::Rate;
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What may come at once however small the burst, as a time: timers are no finer.
const GRAIN: u64 = 5_000_000;

/// The highest price of one frame, in nanoseconds: a length that was only claimed must not lock a consumer out for good.
const HIGHEST: u64 = 86_400_000_000_000;

/// Bits behind the point of a price, so that a rate of gigabytes a second still has one.
const FRACTION: u32 = 20;

/// What counts as one kind, by what it is in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A ping or pong.
    Control,
    /// A frame that goes on with a message.
    Fragment,
    /// The first frame of a message.
    Message,
}

/// A rate in the unit it is reckoned in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Meter {
    /// Nanoseconds for one, with [`FRACTION`].
    price: u64,
    /// The same without, for what is counted one by one.
    one: u64,
    /// Nanoseconds that may be taken in advance.
    burst: u64,
}

impl Meter {
    fn of(rate: &Rate) -> Self {
        let price = (rate.per.as_nanos() << FRACTION) / u128::from(rate.limit.max(1));
        let meter = Self { price: u64::try_from(price).unwrap_or(u64::MAX), one: 0, burst: 0 };
        Self { one: meter.cost(1).min(HIGHEST), burst: meter.cost(rate.burst).max(GRAIN), ..meter }
    }

    fn cost(self, amount: u64) -> u64 {
        let cost = (u128::from(self.price) * u128::from(amount)) >> FRACTION;
        u64::try_from(cost).unwrap_or(u64::MAX)
    }

    /// Takes what costs `cost` from a bucket that is full at `full`. Gives when it is full now, and when what was taken
    /// may pass.
    fn take(self, full: u64, now: u64, cost: u64) -> (u64, u64) {
        let from = full.max(now);
        let passes = (from + cost.min(self.burst)).saturating_sub(self.burst);
        ((from + cost).min(u64::MAX / 2), passes)
    }
}

/// Where a bucket keeps its moment.
pub(super) trait Place: Default {
    /// The moment.
    fn get(&self) -> u64;

    /// Replaces it by what `next` makes of it, and gives the other half of the answer.
    fn replace(&self, next: impl Fn(u64) -> (u64, u64)) -> u64;
}

impl Place for Cell<u64> {
    fn get(&self) -> u64 {
        Self::get(self)
    }

    fn replace(&self, next: impl Fn(u64) -> (u64, u64)) -> u64 {
        let (full, passes) = next(self.get());
        self.set(full);
        passes
    }
}

impl Place for AtomicU64 {
    fn get(&self) -> u64 {
        self.load(Relaxed)
    }

    fn replace(&self, next: impl Fn(u64) -> (u64, u64)) -> u64 {
        let mut seen = self.load(Relaxed);
        loop {
            let (full, passes) = next(seen);
            match self.compare_exchange_weak(seen, full, Relaxed, Relaxed) {
                Ok(_) => return passes,
                Err(now) => seen = now,
            }
        }
    }
}

#[derive(Debug)]
struct Bucket<P> {
    meter: Meter,
    full: P,
}

/// The buckets of one session or consumer; `None` where nothing is bounded.
#[derive(Debug)]
pub(super) struct Buckets<P> {
    messages: Option<Bucket<P>>,
    bytes: Option<Bucket<P>>,
    control: Option<Bucket<P>>,
}

impl<P: Place> Buckets<P> {
    pub(super) fn of(rates: &Rates) -> Self {
        let bucket = |rate: Option<&Rate>| rate.map(|rate| Bucket { meter: Meter::of(rate), full: P::default() });
        Self {
            messages: bucket(rates.messages.as_ref()),
            bytes: bucket(rates.bytes.as_ref()),
            control: bucket(rates.control_frames.as_ref()),
        }
    }

    /// When the last of them is full; `None` where nothing is bounded.
    pub(super) fn full(&self) -> Option<u64> {
        let all = [&self.messages, &self.bytes, &self.control];
        all.into_iter().flatten().map(|bucket| bucket.full.get()).max()
    }

    /// Takes what a frame of `size` bytes, header included, costs. Gives when it may pass.
    #[inline]
    pub(super) fn take(&self, now: u64, kind: Kind, size: u64) -> u64 {
        let take = |bucket: &Bucket<P>, cost: u64| bucket.full.replace(|full| bucket.meter.take(full, now, cost));
        let one = |bucket: &Option<Bucket<P>>| bucket.as_ref().map_or(0, |bucket| take(bucket, bucket.meter.one));
        let counted = match kind {
            Kind::Control => one(&self.control),
            Kind::Fragment => 0,
            Kind::Message => one(&self.messages),
        };
        match &self.bytes {
            Some(bytes) => counted.max(take(bytes, bytes.meter.cost(size).min(HIGHEST))),
            None => counted,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::time::Duration;

    pub(in crate::proxy) const MS: u64 = 1_000_000;

    pub(in crate::proxy) fn rate(limit: u64, burst: u64) -> Rate {
        Rate { limit, per: Duration::from_secs(1), burst }
    }

    pub(in crate::proxy) fn messages(rate: Rate) -> Rates {
        Rates { messages: Some(rate), ..Rates::default() }
    }

    #[test]
    fn a_burst_passes_at_once_and_then_one_in_its_time() {
        let buckets = Buckets::<Cell<u64>>::of(&messages(rate(10, 3)));
        let now = 5_000 * MS;
        let passes: Vec<_> = (0..5).map(|_| buckets.take(now, Kind::Message, 6)).collect();
        assert!(passes[..3].iter().all(|at| *at <= now), "{passes:?}");
        assert_eq!(passes[3..], [now + 100 * MS, now + 200 * MS]);
        assert!(buckets.take(now, Kind::Fragment, 6) <= now, "a fragment is no message");
        assert!(buckets.take(now, Kind::Control, 6) <= now, "nor is a ping");
        assert!(buckets.take(now + 10_000 * MS, Kind::Message, 6) <= now + 10_000 * MS, "after a rest");
    }

    #[test]
    fn a_frame_larger_than_the_burst_waits_for_a_full_bucket_and_is_paid_for_afterwards() {
        let buckets = Buckets::<Cell<u64>>::of(&Rates { bytes: Some(rate(1000, 1000)), ..Rates::default() });
        let now = 5_000 * MS;
        assert!(buckets.take(now, Kind::Message, 10_000) <= now);
        assert_eq!(buckets.take(now, Kind::Fragment, 500), now + 9_500 * MS);
        let claimed = Buckets::<Cell<u64>>::of(&Rates { bytes: Some(rate(1, 1)), ..Rates::default() });
        claimed.take(now, Kind::Message, u64::MAX);
        assert!(claimed.take(now, Kind::Message, 1) <= now + HIGHEST, "a claim of any length is bounded");
    }

    #[test]
    fn rates_of_any_size_keep_their_value() {
        for (limit, amount) in [(3, 7_u64), (60, 1000), (1_000_000, 123_456), (1_000_000_000_000, 1 << 40)] {
            let exact = amount as f64 * 1e9 / limit as f64;
            let cost = Meter::of(&rate(limit, 1)).cost(amount) as f64;
            assert!((cost - exact).abs() <= exact * 0.001 + 1.0, "{limit}: {cost} and not {exact}");
        }
        let hourly = Meter::of(&Rate { limit: 1, per: Duration::from_secs(3600), burst: 1 });
        assert_eq!(hourly.cost(1), 3_600_000 * MS);
    }
}
