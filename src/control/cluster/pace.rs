//! When changes are compiled: the first after quiet at once, those of a burst together.
//!
//! Pure: time is an argument.

use std::time::Duration;
use tokio::time::Instant;

/// How long it must have been quiet for a change to be compiled at once, and for a burst to be over.
const QUIET: Duration = Duration::from_millis(50);

/// The longest that changes are gathered.
const GATHER: Duration = Duration::from_millis(500);

/// The pace of compiling.
#[derive(Debug, Default)]
pub(super) struct Pace {
    last: Option<Instant>,
    pending: Option<Pending>,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    first: Instant,
    due: Instant,
}

impl Pace {
    /// Notes a change.
    pub(super) fn changed(&mut self, now: Instant) {
        let quiet = self.last.is_none_or(|last| now >= last + QUIET);
        self.last = Some(now);
        self.pending = Some(match self.pending {
            None if quiet => Pending { first: now, due: now },
            None => Pending { first: now, due: now + QUIET },
            // What is due at once stays so: its company came along.
            Some(pending) if pending.due == pending.first => pending,
            Some(Pending { first, .. }) => Pending { first, due: (now + QUIET).min(first + GATHER) },
        });
    }

    /// When the changes so far are to be compiled, if there are any.
    pub(super) fn due(&self) -> Option<Instant> {
        self.pending.map(|pending| pending.due)
    }

    /// Notes that all changes so far are compiled.
    pub(super) fn compiled(&mut self) {
        self.pending = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays changes at the given milliseconds and answers when compiles happen.
    fn compiles(changes: impl IntoIterator<Item = u64>) -> Vec<u64> {
        let start = Instant::now();
        let mut pace = Pace::default();
        let mut compiled = Vec::new();
        let mut play = |pace: &mut Pace, until: Option<Instant>| {
            while let Some(due) = pace.due().filter(|due| until.is_none_or(|until| *due < until)) {
                compiled.push(u64::try_from((due - start).as_millis()).expect("short"));
                pace.compiled();
            }
        };
        for at in changes {
            let now = start + Duration::from_millis(at);
            play(&mut pace, Some(now));
            pace.changed(now);
        }
        play(&mut pace, None);
        compiled
    }

    #[test]
    fn a_change_after_quiet_is_compiled_at_once() {
        assert_eq!(compiles([0, 100, 1000]), [0, 100, 1000]);
    }

    #[test]
    fn a_burst_is_compiled_at_its_start_and_at_its_end() {
        assert_eq!(compiles([0, 10, 20, 30]), [0, 80]);
    }

    #[test]
    fn under_churn_changes_gather_for_half_a_second_at_most() {
        assert_eq!(compiles((0..100).map(|n| n * 20)), [0, 520, 1040, 1560, 2030]);
    }
}
