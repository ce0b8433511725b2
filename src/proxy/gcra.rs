//! Token buckets, as the generic cell rate algorithm (ITU-T I.371): all that a bucket is, is the time at which it will
//! be full again. Decides whether one more may be taken; who keeps that time, and for whom, is decided elsewhere.
//!
//! Times are nanoseconds from a start of the caller's own choice: 584 years fit.

use crate::routing::access::Rate;
use std::time::Duration;

/// How fast a bucket fills, and how much it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bucket {
    /// For one token to come back.
    interval: u64,
    /// For an empty bucket to be full.
    pub(super) span: u64,
}

impl Bucket {
    /// Rounds an interval up, so that never more than `rate` passes.
    pub(super) fn new(rate: &Rate) -> Self {
        let interval = nanoseconds(rate.per).div_ceil(rate.limit.max(1)).max(1);
        Self { interval, span: interval.saturating_mul(rate.burst.max(1)) }
    }

    /// Takes a token at `now` from a bucket that will be full at `full_at`, and moves that on.
    ///
    /// A bucket is never emptier than empty: one that another rate has left far behind is empty under this one, and
    /// fills from now on.
    ///
    /// # Errors
    /// How long until a token is back.
    pub(super) fn take(self, full_at: &mut u64, now: u64) -> Result<(), Duration> {
        let current = (*full_at).max(now).min(now.saturating_add(self.span));
        let next = current.saturating_add(self.interval);
        let missing = next.saturating_sub(now).saturating_sub(self.span);
        *full_at = if missing == 0 { next } else { current };
        if missing == 0 { Ok(()) } else { Err(Duration::from_nanos(missing)) }
    }

    /// Puts a token back.
    pub(super) fn put_back(self, full_at: &mut u64) {
        *full_at = full_at.saturating_sub(self.interval);
    }
}

/// `duration` as buckets count it.
pub(super) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn bucket(limit: u64, seconds: u64, burst: u64) -> Bucket {
        Bucket::new(&Rate { limit, per: Duration::from_secs(seconds), burst })
    }

    /// How many tokens `bucket` gives at once at `now`.
    fn drain(bucket: Bucket, full_at: &mut u64, now: u64) -> u64 {
        let mut taken = 0;
        while bucket.take(full_at, now).is_ok() {
            taken += 1;
        }
        taken
    }

    #[test]
    fn gives_its_burst_at_once_and_then_its_rate() {
        let (bucket, mut full_at) = (bucket(10, 1, 25), 0);
        assert_eq!(drain(bucket, &mut full_at, 7), 25);
        assert_eq!(bucket.take(&mut full_at, 7), Err(Duration::from_millis(100)));
        assert_eq!(drain(bucket, &mut full_at, 7 + SECOND), 10);
        assert_eq!(drain(bucket, &mut full_at, 7 + 60 * SECOND), 25, "a rest fills it, and no more than that");
    }

    #[test]
    fn never_gives_more_than_its_rate_where_that_does_not_divide_evenly() {
        for limit in [1, 3, 7, 999, 333_333_333, 1_000_000_000] {
            let passed = SECOND / bucket(limit, 1, 1).interval;
            assert!(passed <= limit && passed >= limit / 2, "{limit}: {passed}");
        }
    }

    #[test]
    fn a_bucket_left_behind_by_another_rate_is_empty_and_no_emptier() {
        let mut full_at = 0;
        drain(bucket(1000, 3600, 1000), &mut full_at, 0);
        let other = bucket(10, 1, 10);
        assert_eq!(other.take(&mut full_at, 0), Err(Duration::from_millis(100)));
        assert_eq!(drain(other, &mut full_at, SECOND / 2), 5, "it fills at the new rate at once");
        assert_eq!(drain(bucket(1000, 1, 1000), &mut full_at, SECOND / 2), 0, "empty under a higher rate, too");
    }

    #[test]
    fn a_token_put_back_can_be_taken_again() {
        let (bucket, mut full_at) = (bucket(1, 1, 2), 0);
        drain(bucket, &mut full_at, 5);
        bucket.put_back(&mut full_at);
        assert_eq!(drain(bucket, &mut full_at, 5), 1);
    }

    #[test]
    fn the_largest_values_do_not_overflow() {
        let bucket = bucket(1, 3600, u64::MAX);
        let mut full_at = u64::MAX;
        assert_eq!((bucket.span, bucket.take(&mut full_at, u64::MAX)), (u64::MAX, Ok(())));
    }
}
