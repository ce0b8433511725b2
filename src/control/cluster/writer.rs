//! Writes statuses and events: the only part of the controller that changes anything in the cluster, and only while this
//! pod holds the lease.
//!
//! Server-side apply, so that conditions of others stay; at a bounded rate, so that no change of configuration becomes a
//! storm. A status that could not be written is due again at the next comparison; an event, whose status is not due any
//! more, waits here for its next try.

use super::MANAGER;
use super::decode::{self, Stored};
use super::kinds;
use super::status::{Due, Flip, Write};
use crate::api::{GROUP, VERSION};
use crate::compile::ObjectRef;
use crate::telemetry::cluster::ClusterMetrics;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use serde_json::json;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Statuses a second, on average.
const RATE: f64 = 50.0;

/// Statuses that may be written at once after quiet.
const BURST: f64 = 100.0;

/// For one request.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long what was written may take to come back by the watch before it is compared anew.
const ECHO: Duration = Duration::from_secs(5);

/// How long after a failure what is due is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// Events that may wait for their next try; the oldest goes first.
const UNTOLD: usize = 1000;

/// How often an event is tried.
const TRIES: u32 = 5;

/// A status as the API server answered that it has it now.
pub(super) type Written = (ObjectRef, Stored);

/// The writer.
pub(super) struct Writer {
    client: Client,
    recorder: Recorder,
    metrics: Arc<ClusterMetrics>,
    written: mpsc::Sender<Written>,
    recent: HashMap<ObjectRef, (Arc<Write>, Instant)>,
    /// What seemed to fail: the answer may have been lost after the deed.
    unsure: HashMap<ObjectRef, Arc<Write>>,
    untold: VecDeque<Untold>,
    bucket: Bucket,
}

/// An event that nobody has been told yet.
struct Untold {
    object: ObjectRef,
    uid: String,
    flip: Flip,
    tries: u32,
    /// When it is to be tried next.
    due: Instant,
}

impl Writer {
    /// Tells `written` what it has written; `instance` is this pod's name.
    pub(super) fn new(
        client: Client,
        instance: &str,
        metrics: Arc<ClusterMetrics>,
        written: mpsc::Sender<Written>,
    ) -> Self {
        let reporter = Reporter { controller: MANAGER.to_owned(), instance: Some(instance.to_owned()) };
        let recorder = Recorder::new(client.clone(), reporter);
        let bucket = Bucket::full(Instant::now());
        let (recent, unsure, untold) = Default::default();
        Self { client, recorder, metrics, written, recent, unsure, untold, bucket }
    }

    /// Writes what is due whenever this pod leads, until nobody says what is due any more.
    ///
    /// # Cancel safety
    /// May be dropped at any time; a write under way may or may not arrive.
    pub(super) async fn run(mut self, mut due: watch::Receiver<Arc<Due>>, mut leading: watch::Receiver<bool>) {
        loop {
            let mut failed = false;
            if *leading.borrow_and_update() {
                let current = Arc::clone(&due.borrow_and_update());
                for (object, write) in current.iter() {
                    // A newer comparison goes first, and a new leader writes in our place.
                    if due.has_changed().unwrap_or(true) || !*leading.borrow() {
                        break;
                    }
                    failed |= !self.write(object, write).await;
                    self.tell().await;
                }
                self.settle(&current);
            }
            self.tell().await;
            failed |= !self.untold.is_empty();
            let again = async {
                if failed {
                    tokio::time::sleep(AGAIN).await;
                } else {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                changed = due.changed() => if changed.is_err() { return },
                changed = leading.changed() => if changed.is_err() { return },
                () = again => {}
            }
        }
    }

    /// Writes one status unless it has just been written. False when that failed.
    async fn write(&mut self, object: &ObjectRef, write: &Arc<Write>) -> bool {
        let now = Instant::now();
        self.recent.retain(|_, (_, at)| now.duration_since(*at) < ECHO);
        if self.recent.get(object).is_some_and(|(last, _)| last.status == write.status) {
            return true;
        }
        tokio::time::sleep_until(self.bucket.take(now)).await;
        match tokio::time::timeout(TIMEOUT, self.patch(object, write)).await {
            Ok(Ok(stored)) => {
                self.metrics.status_written(true);
                self.recent.insert(object.clone(), (Arc::clone(write), Instant::now()));
                let _ = self.written.send((object.clone(), stored)).await;
                self.unsure.remove(object);
                self.owe(object, write);
                true
            }
            // Deleted meanwhile: the watch will say so.
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => true,
            Ok(Err(error)) => self.failed(object, write, &super::watch::root(&error)),
            Err(_) => self.failed(object, write, "no answer in time"),
        }
    }

    fn failed(&mut self, object: &ObjectRef, write: &Arc<Write>, why: &str) -> bool {
        self.metrics.status_written(false);
        self.unsure.insert(object.clone(), Arc::clone(write));
        tracing::warn!(%object, "cannot write the status ({why}); it is tried again");
        false
    }

    async fn patch(&self, object: &ObjectRef, write: &Write) -> kube::Result<Stored> {
        let kind = kinds::ours(object.kind);
        let api: Api<DynamicObject> = match object.namespace.as_str() {
            "" => Api::all_with(self.client.clone(), &kind),
            namespace => Api::namespaced_with(self.client.clone(), namespace, &kind),
        };
        let body = json!({
            "apiVersion": format!("{GROUP}/{VERSION}"),
            "kind": object.kind,
            // Guards against a namesake that was created meanwhile.
            "metadata": {"name": object.name, "uid": write.uid},
            "status": write.status,
        });
        let options = PatchParams::apply(MANAGER).force();
        let answer = api.patch_status(&object.name, &options, &Patch::Apply(&body)).await?;
        Ok(decode::stored(&answer))
    }

    /// What seemed to fail and is not due any more did arrive: its events are owed.
    fn settle(&mut self, due: &Due) {
        let arrived: Vec<_> = self.unsure.keys().filter(|object| !due.contains_key(object)).cloned().collect();
        for object in arrived {
            if let Some(write) = self.unsure.remove(&object) {
                self.owe(&object, &write);
            }
        }
    }

    /// Takes note of the events of a status that has been written.
    fn owe(&mut self, object: &ObjectRef, write: &Write) {
        for flip in &write.flips {
            if self.untold.len() == UNTOLD {
                self.untold.pop_front();
            }
            let (object, uid) = (object.clone(), write.uid.clone());
            self.untold.push_back(Untold { object, uid, flip: flip.clone(), tries: 0, due: Instant::now() });
        }
    }

    /// Tries every event that is due. What fails is due again after [`AGAIN`], [`TRIES`] times in all.
    async fn tell(&mut self) {
        for _ in 0..self.untold.len() {
            let Some(mut untold) = self.untold.pop_front() else { return };
            if Instant::now() < untold.due {
                self.untold.push_back(untold);
            } else if let Err(why) = self.publish(&untold).await {
                untold.tries += 1;
                untold.due = Instant::now() + AGAIN;
                let (object, tries) = (&untold.object, untold.tries);
                if tries < TRIES {
                    tracing::warn!(%object, tries, "cannot write an event ({why}); it is tried again");
                    self.untold.push_back(untold);
                } else {
                    tracing::warn!(%object, tries, "cannot write an event ({why}); it is given up");
                }
            }
        }
    }

    async fn publish(&self, Untold { object, uid, flip, .. }: &Untold) -> Result<(), String> {
        let event = Event {
            type_: if flip.worse { EventType::Warning } else { EventType::Normal },
            reason: flip.reason.to_owned(),
            note: Some(shortened(&flip.note)),
            action: "Compile".to_owned(),
            secondary: None,
        };
        let reference = ObjectReference {
            api_version: Some(format!("{GROUP}/{VERSION}")),
            kind: Some(object.kind.to_owned()),
            name: Some(object.name.clone()),
            namespace: Some(object.namespace.clone()).filter(|namespace| !namespace.is_empty()),
            uid: Some(uid.clone()),
            ..ObjectReference::default()
        };
        match tokio::time::timeout(TIMEOUT, self.recorder.publish(&event, &reference)).await {
            Ok(Ok(())) => Ok(()),
            // Its namespace is gone, and the object with it.
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(()),
            Ok(Err(error)) => Err(super::watch::root(&error)),
            Err(_) => Err("no answer in time".to_owned()),
        }
    }
}

/// An event's note may have 1,024 bytes.
fn shortened(note: &str) -> String {
    if note.len() <= 1024 {
        return note.to_owned();
    }
    let mut end = 1021;
    while !note.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}...", &note[..end])
}

/// Tokens that come back at [`RATE`], [`BURST`] at most.
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    fn full(now: Instant) -> Self {
        Self { tokens: BURST, at: now }
    }

    /// Takes a token; answers when it may be used.
    fn take(&mut self, now: Instant) -> Instant {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + since * RATE).min(BURST) - 1.0;
        self.at = now;
        let wait = (-self.tokens / RATE).max(0.0);
        now + Duration::from_secs_f64(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_goes_at_once_and_more_at_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::full(start);
        let waits: Vec<_> = (0..200).map(|_| bucket.take(start) - start).collect();
        assert_eq!(waits[99], Duration::ZERO);
        assert_eq!(waits[199], Duration::from_secs(2));
        assert_eq!(bucket.take(start + Duration::from_secs(60)), start + Duration::from_secs(60));
    }

    #[test]
    fn a_long_note_is_cut_between_characters() {
        let note = shortened(&"é".repeat(1000));
        assert!(note.len() <= 1024 && note.ends_with("..."), "{}", note.len());
    }
}
