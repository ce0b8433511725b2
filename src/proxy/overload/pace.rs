//! The pace of handshakes: so many in a second go on, those in excess wait in line.
//!
//! First come, first served: the line is a fair semaphore, into which one task deals turns as the bucket yields them.
//! Whoever leaves, leaves no gap. Nothing here looks at who waits.

use crate::proxy::gcra::{Bucket, nanoseconds};
use crate::routing::access::Rate;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, sleep, timeout_at};

/// The least that the dealing task sleeps: what timers can do.
const TICK: Duration = Duration::from_millis(1);

/// Why there was no turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoTurn {
    /// The line is full.
    Full,
    /// It did not come before the deadline.
    Late,
}

/// A line and the pace at which it moves.
#[derive(Debug)]
pub(super) struct Pace {
    bucket: Bucket,
    start: Instant,
    full_at: Mutex<u64>,
    /// Turns that are dealt and not yet taken; its own list of waiters is the line.
    turns: Semaphore,
    waiting: AtomicUsize,
    most_waiting: usize,
    /// Told that somebody waits.
    stirred: Notify,
    /// Told that a turn has come back.
    returned: Notify,
}

/// One in line, until dropped.
struct Waiting<'p>(&'p AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Pace {
    /// `limit` a second, of which a tenth may go at once, so that a task that is woken late loses nothing.
    pub(super) fn new(limit: u32, most_waiting: usize) -> Self {
        let limit = u64::from(limit.max(1));
        Self {
            bucket: Bucket::new(&Rate { limit, per: Duration::from_secs(1), burst: (limit / 10).max(1) }),
            start: Instant::now(),
            full_at: Mutex::new(0),
            turns: Semaphore::new(0),
            waiting: AtomicUsize::new(0),
            most_waiting,
            stirred: Notify::new(),
            returned: Notify::new(),
        }
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Whether nobody more may wait.
    pub(super) fn is_full(&self) -> bool {
        self.waiting() >= self.most_waiting
    }

    /// Gets a turn before `deadline`; whether it had to wait for it.
    ///
    /// # Cancel safety
    /// Dropping it leaves the line; a turn that was dealt meanwhile goes to the next.
    pub(super) async fn turn(&self, deadline: Instant) -> Result<bool, NoTurn> {
        if self.waiting() == 0 && self.take().is_ok() {
            return Ok(false);
        }
        let one_more = |waiting: usize| (waiting < self.most_waiting).then_some(waiting + 1);
        let joined = self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        let _place = joined.map(|_| Waiting(&self.waiting)).map_err(|_| NoTurn::Full)?;
        self.stirred.notify_one();
        match timeout_at(deadline, self.turns.acquire()).await {
            Ok(Ok(turn)) => {
                turn.forget();
                Ok(true)
            }
            Ok(Err(_)) | Err(_) => Err(NoTurn::Late), // nobody closes the semaphore
        }
    }

    /// Takes back a turn that was of no use, for somebody else.
    pub(super) fn give_back(&self) {
        self.bucket.put_back(&mut self.full_at.lock().unwrap_or_else(PoisonError::into_inner));
        self.returned.notify_one();
    }

    /// Deals turns to those who wait, for ever.
    pub(super) async fn deal(&self) {
        loop {
            self.stirred.notified().await;
            while self.waiting() > 0 {
                // The one dealt last has no taker yet: all who wait have their turn and have only to notice.
                if self.turns.available_permits() > 0 {
                    sleep(TICK).await;
                    continue;
                }
                match self.take() {
                    Ok(()) => self.turns.add_permits(1),
                    Err(wait) => tokio::select! {
                        () = sleep(wait.max(TICK)) => {}
                        () = self.returned.notified() => {}
                    },
                }
            }
        }
    }

    fn take(&self) -> Result<(), Duration> {
        let now = nanoseconds(self.start.elapsed());
        self.bucket.take(&mut self.full_at.lock().unwrap_or_else(PoisonError::into_inner), now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tokio::task::JoinHandle;

    fn dealt(limit: u32, most_waiting: usize) -> Arc<Pace> {
        let pace = Arc::new(Pace::new(limit, most_waiting));
        let dealing = Arc::clone(&pace);
        tokio::spawn(async move { dealing.deal().await });
        pace
    }

    /// Has one ask for a turn, and waits until it stands in line or has been served.
    async fn ask(pace: &Arc<Pace>, within: Duration) -> JoinHandle<(Result<bool, NoTurn>, Instant)> {
        let pace = Arc::clone(pace);
        let deadline = Instant::now() + within;
        let asked = tokio::spawn(async move { (pace.turn(deadline).await, Instant::now()) });
        tokio::task::yield_now().await;
        asked
    }

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test(start_paused = true)]
    async fn five_thousand_at_once_go_on_in_order_at_the_pace_and_none_is_left() {
        let pace = dealt(2000, 5000);
        let began = Instant::now();
        let mut asked = Vec::new();
        for _ in 0..5000 {
            asked.push(ask(&pace, LONG).await);
        }
        let mut last = began;
        let mut waited = 0;
        for one in asked {
            let (turn, at) = one.await.expect("no panic");
            waited += usize::from(turn.expect("none is refused"));
            assert!(at >= last, "one was overtaken");
            last = at;
        }
        assert!(waited >= 4700, "{waited} waited");
        let took = last - began;
        assert!(took > Duration::from_millis(2300) && took < Duration::from_millis(2600), "{took:?}");
        assert_eq!(pace.waiting(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_newcomer_does_not_take_the_turn_of_who_waits() {
        let pace = Arc::new(Pace::new(1, 100)); // nobody deals, so that the turn lies there
        assert_eq!(pace.turn(Instant::now()).await, Ok(false));
        let _first = ask(&pace, LONG).await;
        tokio::time::advance(Duration::from_secs(5)).await;
        let _newcomer = ask(&pace, LONG).await;
        assert_eq!(pace.waiting(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn below_the_pace_nobody_waits() {
        let pace = dealt(10, 0);
        for _ in 0..50 {
            assert_eq!(pace.turn(Instant::now()).await, Ok(false));
            tokio::time::advance(Duration::from_millis(100)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_line_refuses_and_a_deadline_is_kept() {
        let pace = dealt(1, 2);
        assert_eq!(pace.turn(Instant::now()).await, Ok(false));
        let began = Instant::now();
        let second = ask(&pace, LONG).await;
        let third = ask(&pace, Duration::from_millis(1500)).await;
        assert!(pace.is_full());
        assert_eq!(pace.turn(began + LONG).await, Err(NoTurn::Full));
        let (turn, at) = third.await.expect("no panic");
        assert_eq!((turn, (at - began).as_millis()), (Err(NoTurn::Late), 1500));
        let (turn, at) = second.await.expect("no panic");
        assert_eq!(turn, Ok(true));
        assert!(at - began <= Duration::from_millis(1010), "{:?}", at - began);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_leaves_the_line_leaves_no_gap() {
        let pace = dealt(1, 100);
        assert_eq!(pace.turn(Instant::now()).await, Ok(false));
        let began = Instant::now();
        let mut asked = Vec::new();
        for _ in 0..50 {
            asked.push(ask(&pace, LONG).await);
        }
        let last = ask(&pace, LONG).await;
        asked.iter().for_each(JoinHandle::abort);
        let (turn, at) = last.await.expect("no panic");
        assert_eq!(turn, Ok(true));
        assert!(at - began < Duration::from_millis(1100), "{:?}", at - began);
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_given_back_is_the_next_ones() {
        let pace = dealt(1, 100);
        assert_eq!(pace.turn(Instant::now()).await, Ok(false));
        let began = Instant::now();
        let next = ask(&pace, LONG).await;
        pace.give_back();
        let (turn, at) = next.await.expect("no panic");
        assert_eq!(turn, Ok(true));
        assert!(at - began < Duration::from_millis(10), "{:?}", at - began);
    }
}
