//! The clients: so many at a time, one session after the other, each judged when it is over on both sides.

use crate::client;
use crate::judge::judge;
use crate::ledger::{Ended, Which};
use crate::proxy::RecordBook;
use crate::world::World;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long a backend may take to be through with a session whose client is.
const PATIENCE: Duration = Duration::from_secs(90);

/// How long a record may take to come through the pipe.
const RECORD: Duration = Duration::from_millis(500);

/// Starts them; a third goes through the Sheave that is replaced.
pub(crate) fn start(
    world: &Arc<World>,
    books: &Arc<[Mutex<RecordBook>; 2]>,
    clients: usize,
    stopped: &watch::Receiver<bool>,
) -> Vec<JoinHandle<()>> {
    let start = |number: usize| {
        let which = if number.is_multiple_of(3) { Which::Rolling } else { Which::Steady };
        let (world, books, stopped) = (Arc::clone(world), Arc::clone(books), stopped.clone());
        tokio::spawn(async move {
            let mut rest = world.rest(which);
            loop {
                let rests = rest.wait_for(|rests| !*rests);
                let mut told = stopped.clone();
                tokio::select! {
                    biased;
                    _ = told.wait_for(|stops| *stops) => return,
                    _ = rests => {}
                }
                session(&world, which, &books[which as usize]).await;
            }
        })
    };
    (0..clients).map(start).collect()
}

/// One session from its start to its verdict.
async fn session(world: &World, which: Which, book: &Mutex<RecordBook>) {
    let (ledger, rng) = world.enter(which);
    let book = book.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let ended = client::run(world, &ledger, rng).await;
    let _ = tokio::time::timeout(PATIENCE, ledger.settled()).await;
    let faults = judge(&ledger, &ended);
    if !faults.is_none() {
        tokio::time::sleep(RECORD).await;
    }
    let client = ledger.facts().client;
    let record = client.and_then(|client| book.take(client));
    world.tally().add(&ledger, &ended, &faults, record.as_deref());
    world.leave(ledger.id);
    if matches!(ended, Ended::NoAnswer(..) | Ended::Refused(_)) {
        tokio::time::sleep(Duration::from_millis(fastrand::u64(50..150))).await;
    }
}
