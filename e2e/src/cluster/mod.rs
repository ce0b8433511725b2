//! The cluster under test: a namespace per scenario ([`stage`]), objects ([`objects`]), Sheave's own pods
//! ([`sheave`]), programs a user would call ([`tools`]) and what is shown when something fails ([`dump`]).
//!
//! Waits are on conditions, asked again and again with a ceiling. Nothing here decides what is right.

pub mod dump;
pub mod follow;
pub mod kill;
pub mod metrics;
pub mod objects;
pub mod sheave;
pub mod stage;
pub mod tools;

use anyhow::{Context, Result, bail};
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A variable of the environment, or what it is without.
pub fn variable(name: &str, otherwise: &str) -> String {
    std::env::var(name).ok().filter(|value| !value.is_empty()).unwrap_or_else(|| otherwise.to_owned())
}

/// Asks `condition` until it answers `Some`; fails with `what` and its last error when `ceiling` has passed.
pub async fn until<T, F>(what: &str, ceiling: Duration, mut condition: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<Option<T>>>,
{
    let deadline = Instant::now() + ceiling;
    let mut last = None;
    let mut pause = Duration::ZERO;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match tokio::time::timeout(left, condition()).await {
            Ok(Ok(Some(value))) => return Ok(value),
            Ok(Ok(None)) => {}
            Ok(Err(error)) => last = Some(error),
            Err(_) => match last {
                Some(error) => return Err(error).with_context(|| format!("{what}: not within {ceiling:?}")),
                None => bail!("{what}: not within {ceiling:?}"),
            },
        }
        // A row of quick answers is to be quick; what takes long is asked less often.
        tokio::time::sleep(pause).await;
        pause = (pause + Duration::from_millis(5)).min(Duration::from_millis(100));
    }
}

/// Asks `condition` until it has been true `times` in a row. One answer speaks for one of several pods only.
pub async fn steady<F>(what: &str, times: usize, ceiling: Duration, mut condition: impl FnMut() -> F) -> Result<()>
where
    F: Future<Output = Result<bool>>,
{
    let row = AtomicUsize::new(0);
    until(what, ceiling, || {
        let (asked, row) = (condition(), &row);
        async move {
            let answer = asked.await;
            let now = if matches!(answer, Ok(true)) { row.load(Ordering::Relaxed) + 1 } else { 0 };
            row.store(now, Ordering::Relaxed);
            answer.map(|_| (now >= times).then_some(()))
        }
    })
    .await
}
