//! The disturbances: edits of the folder, restarts of backends, drains.
//!
//! Each says first whom it meets, then does it, and is over when nothing of it can end a session any more. What it must
//! end, it waits for; everybody else must not notice.

use crate::backend::{Life, Restart};
use crate::client::get;
use crate::ledger::{Excuses, Ledger, Scope, Which};
use crate::plan::{CONSUMERS, Route};
use crate::proxy::{RecordBook, Sheave};
use crate::world::World;
use anyhow::{Result, ensure};
use fastrand::Rng;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

/// How long an edit may take to show, and what it ends to be gone.
const PATIENCE: Duration = Duration::from_secs(60);

/// Edits the folder until told to stop; ends between two edits.
pub(crate) async fn edits(world: &World, mut stop: watch::Receiver<bool>) -> Result<()> {
    let mut rng = Rng::with_seed(world.seed ^ 0xc4a0_5eed);
    let mut count = 0;
    while !*stop.borrow() {
        count += 1;
        let kind = edit(world, count, &mut rng).await?;
        world.tally().disturbed(kind);
        let pause = Duration::from_millis(rng.u64(..300));
        let _ = tokio::time::timeout(pause, stop.wait_for(|stops| *stops)).await;
    }
    Ok(())
}

/// Restarts backends until told to stop; ends between two restarts.
pub(crate) async fn restarts(
    world: &World,
    backends: &[mpsc::Sender<Restart>],
    mut stop: watch::Receiver<bool>,
) -> Result<()> {
    let mut rng = Rng::with_seed(world.seed ^ 0xbac_0e2d);
    while !*stop.borrow() {
        let pause = Duration::from_millis(rng.u64(500..4000));
        let _ = tokio::time::timeout(pause, stop.wait_for(|stops| *stops)).await;
        let backend = rng.usize(..backends.len());
        let (how, kind) =
            if rng.bool() { (Life::Killed, "backend killed") } else { (Life::Leaving, "backend restarted") };
        let (number, met) = world.disturb(Scope::Backend(backend), Excuses::RESTART);
        let met = at(backend, met);
        let (done, back) = oneshot::channel();
        backends[backend].send((how, done)).await?;
        back.await?;
        gone(world, &met, "its backend has restarted").await?;
        world.calm(number);
        world.tally().disturbed(kind);
    }
    Ok(())
}

/// One edit; gives its name.
async fn edit(world: &World, count: u64, rng: &mut Rng) -> Result<&'static str> {
    let objects = &world.objects;
    Ok(match rng.u8(..10) {
        0 => {
            objects.other(count, false);
            applied(world).await?;
            "edit of another route"
        }
        1 => {
            objects.other(count, true);
            tokio::time::sleep(Duration::from_millis(300)).await;
            objects.other(count, false);
            applied(world).await?;
            "broken file"
        }
        2..5 => {
            let route = Route::ALL[rng.usize(..Route::ALL.len())];
            objects.route(route, count);
            applied(world).await?;
            "edit of a route in use"
        }
        5 => {
            objects.certificate(usize::from(rng.bool()));
            applied(world).await?;
            "certificate replaced"
        }
        6 | 7 => {
            let consumer = rng.usize(..CONSUMERS);
            let (number, met) = world.disturb(Scope::Consumer(consumer), Excuses::REVOKED);
            objects.set_key(consumer, None);
            applied(world).await?;
            gone(world, &met, "its key is revoked").await?;
            objects.set_key(consumer, Some(format!("key-{consumer}-{count}")));
            applied(world).await?;
            world.calm(number);
            "key revoked"
        }
        8 => {
            let (number, met) = world.disturb(Scope::Route(Route::Moving), Excuses::MOVED);
            objects.remove(Route::Moving);
            applied(world).await?;
            gone(world, &met, "its route is gone").await?;
            objects.route(Route::Moving, count);
            applied(world).await?;
            world.calm(number);
            "route deleted"
        }
        _ => {
            let first = Route::Moving.backends().start;
            let (number, met) = world.disturb(Scope::Backend(first), Excuses::MOVED);
            objects.endpoints(rng.bool().then_some("ready: false, serving: true, terminating: true"));
            applied(world).await?;
            gone(world, &at(first, met), "its endpoint goes").await?;
            objects.endpoints(Some("ready: true"));
            applied(world).await?;
            world.calm(number);
            "endpoint gone"
        }
    })
}

/// Waits until every Sheave that serves has a table with all edits so far.
async fn applied(world: &World) -> Result<()> {
    let mark = world.objects.mark();
    let since = Instant::now();
    for which in [Which::Steady, Which::Rolling] {
        // One that does not answer is about to be replaced: then it is the successor's table.
        while !get(world.ports(which).admin, "/table").await.is_ok_and(|table| table.contains(&mark)) {
            ensure!(since.elapsed() < PATIENCE, "an edit does not reach the table of {which:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(())
}

/// Those that have reached a backend. The others may yet reach another one, and stay there.
fn at(backend: usize, met: Vec<Arc<Ledger>>) -> Vec<Arc<Ledger>> {
    met.into_iter().filter(|ledger| ledger.facts().backend == Some(backend)).collect()
}

/// Waits until all of these sessions are over; who is not in time is a fault.
async fn gone(world: &World, met: &[Arc<Ledger>], why: &str) -> Result<()> {
    let since = Instant::now();
    while world.any_of(met) {
        if since.elapsed() > PATIENCE {
            let left = met.iter().filter(|ledger| world.any_of(&[Arc::clone(ledger)]));
            for ledger in left {
                world.alarm(format!("a session lives on though {why}: {ledger:?}"));
            }
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Drains one Sheave after the other until told to stop; gives the last one, which serves.
pub(crate) async fn roll(
    world: &World,
    book: &Mutex<RecordBook>,
    every: Duration,
    mut stop: watch::Receiver<bool>,
) -> Result<Sheave> {
    loop {
        let sheave = Sheave::start(world, Which::Rolling).await?;
        *book.lock().unwrap_or_else(PoisonError::into_inner) = sheave.record_book();
        world.set_rest(Which::Rolling, false);
        world.set_draining(None);
        if tokio::time::timeout(every, stop.wait_for(|stops| *stops)).await.is_ok() {
            return Ok(sheave);
        }
        let (number, met) = world.disturb(Scope::Proxy(Which::Rolling), Excuses::DRAIN);
        world.set_draining(Some(number));
        account(world, sheave).await?;
        gone(world, &met, "its Sheave has drained").await?;
        // What the next one holds when it is empty can be seen only before clients come back.
        world.set_rest(Which::Rolling, true);
        while world.live(Which::Rolling) > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        world.tally().disturbed("drain");
    }
}

/// Stops a Sheave, and holds its records to what they must say.
pub(crate) async fn account(world: &World, sheave: Sheave) -> Result<()> {
    let records = sheave.stop().await?;
    let mut tally = world.tally();
    for trouble in &records.troubles {
        tally.alarm(format!("Sheave said: {trouble}"));
    }
    tally.leaked.sessions += records.opened.abs_diff(records.closed);
    for (reason, count) in records.reasons {
        *tally.reasons.entry(reason).or_default() += count;
    }
    Ok(())
}
