//! What a pod has seen: connections, and by id how many messages came and whether they came in order.
//!
//! A message of a counted connection is a text whose last word is its number, from 1 on.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// What came over the connection of one id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Messages.
    pub received: u64,
    /// Messages whose number did not follow the one before.
    pub disordered: u64,
}

/// What a pod says at `/counts`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Open connections.
    pub open: usize,
    /// Connections ever.
    pub opened: usize,
    /// By id.
    pub ids: BTreeMap<String, Count>,
}

pub(super) struct Ledger {
    counts: Mutex<Counts>,
    open: watch::Sender<usize>,
    ready: watch::Sender<bool>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self { counts: Mutex::default(), open: watch::Sender::new(0), ready: watch::Sender::new(true) }
    }
}

/// Counts a connection until dropped.
pub(super) struct Open<'a>(&'a Ledger);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.lock().open -= 1;
        self.0.open.send_modify(|open| *open -= 1);
    }
}

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn open(&self) -> Open<'_> {
        let mut counts = self.lock();
        counts.open += 1;
        counts.opened += 1;
        drop(counts);
        self.open.send_modify(|open| *open += 1);
        Open(self)
    }

    pub(super) fn received(&self, id: &str, text: &str) {
        let number = text.rsplit(' ').next().and_then(|number| number.parse::<u64>().ok());
        let mut counts = self.lock();
        let count = counts.ids.entry(id.to_owned()).or_default();
        count.received += 1;
        if number != Some(count.received) {
            count.disordered += 1;
        }
    }

    pub(super) fn counts(&self) -> Counts {
        self.lock().clone()
    }

    /// Waits until no connection is open.
    pub(super) async fn emptied(&self) {
        let _ = self.open.subscribe().wait_for(|open| *open == 0).await;
    }

    pub(super) fn set_ready(&self, ready: bool) {
        self.ready.send_replace(ready);
    }

    pub(super) fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }
}
