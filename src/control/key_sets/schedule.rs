//! When a key source is asked: before its answer has run out, soon after a failure, and at once for an unknown key.
//!
//! Pure: time and chance are arguments.

use std::time::Duration;
use tokio::time::Instant;

/// Between two fetches because of unknown keys: what a flood of made-up tokens can cost an issuer at most.
const BETWEEN_HURRIED: Duration = Duration::from_secs(10);

/// After the first failure; it doubles with each further one.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// The longest wait after a failure.
const LAST_RETRY: Duration = Duration::from_secs(60);

/// When one source is asked.
#[derive(Debug)]
pub(super) struct Schedule {
    /// How long an answer may be used.
    cache: Duration,
    due: Instant,
    failures: u32,
    /// Whether the next fetch is because of an unknown key.
    hurried: bool,
    last_hurried: Option<Instant>,
}

impl Schedule {
    /// Of a source that has never been asked: due at once.
    pub(super) fn new(cache: Duration, now: Instant) -> Self {
        Self { cache, due: now, failures: 0, hurried: false, last_hurried: None }
    }

    /// When the source is to be asked next.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// Notes that the source is being asked.
    pub(super) fn begins(&mut self, now: Instant) {
        if std::mem::take(&mut self.hurried) {
            self.last_hurried = Some(now);
        }
    }

    /// Notes how that ended. `chance` is between 0 and 1, so that many Sheaves do not ask at the same moment.
    pub(super) fn ended(&mut self, answered: bool, now: Instant, chance: f64) {
        let wait = if answered {
            self.failures = 0;
            self.cache.mul_f64(0.75 + 0.1 * chance)
        } else {
            let doubled = FIRST_RETRY * (1 << self.failures.min(6));
            self.failures = self.failures.saturating_add(1);
            // What runs out meanwhile stays in use; nothing is gained by waiting longer than an answer lasts.
            doubled.min(LAST_RETRY).min(self.cache).mul_f64(0.75 + 0.25 * chance)
        };
        self.due = now + wait;
    }

    /// Notes that a token names a key that is not among those known.
    pub(super) fn hurry(&mut self, now: Instant) {
        let allowed = self.last_hurried.map_or(now, |last| now.max(last + BETWEEN_HURRIED));
        if allowed < self.due {
            self.due = allowed;
            self.hurried = true;
        }
    }

    /// Has answers used for `cache` from now on.
    pub(super) fn use_for(&mut self, cache: Duration, now: Instant) {
        self.cache = cache;
        self.due = self.due.min(now + cache.mul_f64(0.8));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(from: Instant, schedule: &Schedule) -> f64 {
        (schedule.due() - from).as_secs_f64()
    }

    #[test]
    fn an_answer_is_fetched_again_at_about_four_fifths_of_its_time() {
        let start = Instant::now();
        let mut schedule = Schedule::new(Duration::from_secs(100), start);
        assert_eq!(schedule.due(), start);
        for (chance, due) in [(0.0, 75.0), (0.5, 80.0), (1.0, 85.0)] {
            schedule.ended(true, start, chance);
            assert!((seconds(start, &schedule) - due).abs() < 0.01, "{schedule:?}");
        }
        schedule.use_for(Duration::from_secs(10), start);
        assert!((seconds(start, &schedule) - 8.0).abs() < 0.01, "{schedule:?}");
    }

    #[test]
    fn failures_are_retried_after_one_second_doubling_up_to_a_minute() {
        let start = Instant::now();
        let mut schedule = Schedule::new(Duration::from_secs(300), start);
        let waits: Vec<_> = (0..9)
            .map(|_| {
                schedule.ended(false, start, 1.0);
                Duration::from_secs_f64(seconds(start, &schedule).round()).as_secs()
            })
            .collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        schedule.ended(true, start, 0.5);
        schedule.ended(false, start, 0.0);
        assert!((seconds(start, &schedule) - 0.75).abs() < 0.01, "the count of failures begins anew");
    }

    #[test]
    fn unknown_keys_are_asked_for_at_once_and_then_every_ten_seconds_whatever_comes() {
        let start = Instant::now();
        let mut schedule = Schedule::new(Duration::from_secs(300), start);
        let mut fetches = Vec::new();
        // A flood: one unknown key each 100 ms for 35 s. The first fetch is not because of them.
        for step in 0..350 {
            let now = start + Duration::from_millis(100 * step);
            if step > 0 {
                schedule.hurry(now);
            }
            if schedule.due() <= now {
                schedule.begins(now);
                schedule.ended(true, now, 0.5);
                fetches.push(100 * step);
            }
        }
        assert_eq!(fetches, [0, 100, 10_100, 20_100, 30_100]);
    }
}
