//! Expiry: when what let a session in expires, and what happens when the wall clock is set meanwhile.
//!
//! A token and a certificate name a moment of the wall clock; a session waits by the monotonic one, which nobody sets.
//! So the first is turned into the second when the session opens, and turned again when the two clocks part: after a
//! step forward what has expired ends at once, after one back it stays as long as the wall clock says. No other timer
//! of a session knows the wall clock.

use super::sessions::Sessions;
use crate::routing::Rule;
use crate::routing::access::Admission;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::time::MissedTickBehavior;

/// How often the clocks are compared.
const LOOK: Duration = Duration::from_secs(1);

/// By how much they may part before anything is done. Tokens have whole seconds, and clocks that are kept in step by
/// NTP are slewed by less.
const TOLERANCE: Duration = Duration::from_secs(1);

/// When what let a session in under `rule` expires for it; `None` when it may stay.
pub(super) fn of(admission: &Admission, rule: &Rule) -> Option<tokio::time::Instant> {
    let grace = rule.access.authentication.as_ref().map_or(Some(Duration::ZERO), |block| block.grace);
    let credential = admission.expires().zip(grace);
    // A certificate has no grace: it is the moment of every handshake that judges it.
    let certificate = admission.certificate.as_ref().map(|certificate| (certificate.not_after, Duration::ZERO));
    let instant = |(expires, grace): (i64, Duration)| {
        let expires = Duration::from_secs(u64::try_from(expires).unwrap_or(0));
        let left = UNIX_EPOCH.checked_add(expires)?.duration_since(SystemTime::now()).unwrap_or_default();
        tokio::time::Instant::now().checked_add(left.saturating_add(grace))
    };
    [credential, certificate].into_iter().flatten().filter_map(instant).min()
}

/// Tells the sessions when the wall clock has been set, for ever.
///
/// # Cancel safety
/// May be dropped at any time; sessions keep what they were told last.
pub async fn follow_clock(sessions: Arc<Sessions>) {
    let mut clocks = Clocks { wall: SystemTime::now(), monotonic: Instant::now() };
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Some(step) = clocks.parted(SystemTime::now(), Instant::now()) {
            tracing::warn!(seconds = step, "the clock was set: what tokens and certificates expire by is judged anew");
            sessions.clock_was_set();
        }
    }
}

/// Both clocks at one moment.
#[derive(Debug)]
struct Clocks {
    wall: SystemTime,
    monotonic: Instant,
}

impl Clocks {
    /// By how many seconds the wall clock has been set since the last time it was: forward, or back when below 0.
    /// `None` when it has not been.
    fn parted(&mut self, wall: SystemTime, monotonic: Instant) -> Option<i64> {
        let passed = monotonic.saturating_duration_since(self.monotonic);
        let expected = self.wall + passed;
        let (sign, step) = match wall.duration_since(expected) {
            Ok(forward) => (1, forward),
            Err(back) => (-1, back.duration()),
        };
        if step < TOLERANCE {
            return None;
        }
        *self = Self { wall, monotonic };
        Some(sign * i64::try_from(step.as_secs()).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_is_noticed_once_and_one_that_drifts_when_it_has_gone_too_far() {
        let (wall, monotonic) = (UNIX_EPOCH + Duration::from_secs(1 << 30), Instant::now());
        let at = |seconds: f64| Duration::from_secs_f64(seconds);
        let mut clocks = Clocks { wall, monotonic };
        assert_eq!(clocks.parted(wall + at(10.9), monotonic + at(10.0)), None);
        assert_eq!(clocks.parted(wall + at(3610.0), monotonic + at(10.0)), Some(3600));
        assert_eq!(clocks.parted(wall + at(3620.0), monotonic + at(20.0)), None);
        assert_eq!(clocks.parted(wall - at(80.0), monotonic + at(20.0)), Some(-3700));
        assert_eq!(clocks.parted(wall - at(70.5), monotonic + at(30.0)), None);
        assert_eq!(clocks.parted(wall - at(61.5), monotonic + at(40.0)), Some(-1));
    }
}
