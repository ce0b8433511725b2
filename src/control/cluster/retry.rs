//! How soon a failed request is made again: at once is unkind, half a minute is too late for a table.

use kube::runtime::utils::Backoff;
use std::time::Duration;

/// The first wait.
const FIRST: Duration = Duration::from_millis(200);

/// The longest wait, jitter aside.
pub(super) const LONGEST: Duration = Duration::from_secs(5);

/// Waits that double from 200 ms to 5 s, each cut by up to a half at random, so that pods do not ask in step.
#[derive(Debug)]
pub(super) struct Retry(Duration);

impl Default for Retry {
    fn default() -> Self {
        Self(FIRST)
    }
}

impl Iterator for Retry {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let wait = self.0.mul_f64(1.0 - fastrand::f64() / 2.0);
        self.0 = (self.0 * 2).min(LONGEST);
        Some(wait)
    }
}

impl Backoff for Retry {
    fn reset(&mut self) {
        self.0 = FIRST;
    }
}

impl Retry {
    /// Waits for the next time.
    ///
    /// # Cancel safety
    /// May be dropped; the wait then counts as done.
    pub(super) async fn wait(&mut self) {
        if let Some(wait) = self.next() {
            tokio::time::sleep(wait).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_begin_anew() {
        let mut retry = Retry::default();
        let waits: Vec<_> = retry.by_ref().take(20).collect();
        assert!(waits[0] <= FIRST && waits[0] >= FIRST / 2, "{waits:?}");
        assert!(waits.iter().all(|wait| *wait <= LONGEST) && waits[19] >= LONGEST / 2, "{waits:?}");
        retry.reset();
        assert!(retry.next().is_some_and(|wait| wait <= FIRST));
    }
}
