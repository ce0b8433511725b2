//! Rebuild: from a change of the source to a new table, or to the knowledge that nothing changed.
//!
//! A change after quiet is compiled at once; under churn changes gather for 50 ms, 500 ms at most. A table equal to
//! the last one is not published. A source with something wrong in it keeps the last good table; at the start, when
//! there is none, what is good is served.

use super::document::{Document, Object, SecretObject};
use super::folder::{self, FolderContents};
use crate::compile::{Compiled, ObjectKey, Options, Snapshot, compile};
use crate::drain::{Draining, Phase};
use crate::routing::{BackendTarget, EndpointState, RoutingTable};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::{Published, Reload};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, watch};

/// How long the source must be quiet before its changes are compiled.
const QUIET: Duration = Duration::from_millis(50);

/// The longest that changes are gathered.
const GATHER: Duration = Duration::from_millis(500);

/// Where objects come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// Fixed, given as YAML text under a name for messages.
    Fixed(String, String),
    /// A folder that is watched.
    Folder(PathBuf),
}

impl Source {
    /// Reads everything there is.
    ///
    /// # Errors
    /// When the folder itself cannot be read.
    pub fn read(&self) -> std::io::Result<FolderContents> {
        match self {
            Self::Fixed(name, text) => {
                let (documents, problems) = super::document::read_documents(name, text);
                Ok(FolderContents { documents, problems })
            }
            Self::Folder(path) => folder::read(path),
        }
    }

    /// Announces changes; a fixed source never does.
    ///
    /// # Errors
    /// When the folder cannot be watched.
    pub fn watch(&self) -> Result<mpsc::Receiver<()>, notify::Error> {
        match self {
            Self::Fixed(..) => {
                let (sender, receiver) = mpsc::channel(1);
                std::mem::forget(sender); // never announces, never closes
                Ok(receiver)
            }
            Self::Folder(path) => folder::watch(path),
        }
    }
}

/// Seconds since 1970.
pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().try_into().unwrap_or(i64::MAX))
}

/// The objects of a folder as compile looks at them.
pub fn snapshot(documents: Vec<Document>, taken_at: i64) -> Snapshot {
    let mut snapshot = Snapshot { taken_at, ..Snapshot::default() };
    for Document { name, object, .. } in documents {
        let key = ObjectKey::new(name.namespace, name.name.clone());
        match object {
            Object::Class(class) => drop(snapshot.classes.insert(name.name, Arc::new(class))),
            Object::ConfigMap(map) => drop(snapshot.config_maps.insert(key, Arc::new(map))),
            Object::EndpointSlice(slice) => drop(snapshot.endpoint_slices.insert(key, Arc::new(slice))),
            Object::Route(route) => drop(snapshot.routes.insert(key, Arc::new(route))),
            Object::Secret(SecretObject(secret)) => drop(snapshot.secrets.insert(key, Arc::new(secret))),
            Object::Service(service) => drop(snapshot.services.insert(key, Arc::new(service))),
        }
    }
    snapshot
}

/// Reads, compiles and publishes.
#[derive(Debug)]
pub struct Rebuild {
    /// Where objects come from.
    pub source: Source,
    /// What compile is to take for granted.
    pub options: Options,
    /// Where tables go.
    pub table: watch::Sender<Arc<RoutingTable>>,
    /// What is told of it.
    pub metrics: Arc<Metrics>,
}

impl Rebuild {
    /// Reads the source once. The first time what is good is served; afterwards a source with something wrong in it
    /// leaves the last table in place.
    ///
    /// # Errors
    /// When the source as a whole cannot be read.
    pub fn once(&self, first: bool) -> std::io::Result<()> {
        let began = Instant::now();
        let contents = self.source.read()?;
        let broken = contents.is_broken();
        let problems = contents.problems.iter().filter(|problem| !problem.note).count();
        for problem in &contents.problems {
            if problem.note {
                tracing::debug!("{problem}");
            } else {
                tracing::error!("{problem}");
            }
        }
        if broken && !first {
            tracing::error!(problems, "the last good table is kept until these are mended");
            self.metrics.reloaded(&Reload { successful: false, problems, routes: (0, 0), build: began.elapsed() });
            return Ok(());
        }
        let Compiled { table, verdicts } = compile(&snapshot(contents.documents, now()), &self.options);
        for verdict in verdicts.iter().filter(|verdict| !verdict.spotless()) {
            for condition in verdict.conditions.iter().filter(|condition| !condition.message.is_empty()) {
                tracing::warn!("{}: {} {}: {}", verdict.object, condition.kind, condition.reason, condition.message);
            }
        }
        let routes = verdicts.iter().filter(|verdict| verdict.object.kind == "WebSocketRoute");
        let (accepted, refused): (Vec<_>, Vec<_>) = routes.partition(|verdict| verdict.accepted());
        let routes = (accepted.len(), refused.len());
        let changed = first || table != **self.table.borrow();
        if changed {
            self.metrics.published(published(&table));
            self.table.send_replace(Arc::new(table));
        }
        let build = began.elapsed();
        self.metrics.reloaded(&Reload { successful: !broken, problems, routes, build });
        let build_ms = u64::try_from(build.as_millis()).unwrap_or(u64::MAX);
        tracing::info!(routes = routes.0, refused = routes.1, changed, build_ms, "table compiled");
        Ok(())
    }

    /// Follows the source until the process stops.
    ///
    /// # Cancel safety
    /// May be dropped at any time; the last table stays.
    pub async fn follow(self, mut changes: mpsc::Receiver<()>, mut draining: Draining) {
        loop {
            tokio::select! {
                () = draining.reached(Phase::Stopped) => return,
                change = changes.recv() => if change.is_none() { return },
            }
            let began = Instant::now();
            if let Err(error) = self.once(false) {
                tracing::error!(%error, "cannot read the folder; the last good table is kept");
                self.metrics.reloaded(&Reload { successful: false, problems: 1, routes: (0, 0), build: began.elapsed() });
            }
            // What follows at once is gathered: it compiles together, after a quiet moment or at the latest.
            let until = tokio::time::Instant::now() + GATHER;
            let mut more = false;
            while let Ok(change) = tokio::time::timeout_at((tokio::time::Instant::now() + QUIET).min(until), changes.recv()).await {
                if change.is_none() {
                    return;
                }
                more = true;
                if tokio::time::Instant::now() >= until {
                    break;
                }
            }
            if more && let Err(error) = self.once(false) {
                tracing::error!(%error, "cannot read the folder; the last good table is kept");
            }
        }
    }
}

/// What metrics tell of a table.
fn published(table: &RoutingTable) -> Published {
    let mut published = Published::default();
    for rule in table.routes().flat_map(|route| &route.rules) {
        published.rules.insert(rule.id.clone());
        for backend in &rule.backends {
            if let BackendTarget::Service(backend) = &backend.target {
                let ready = backend.endpoints.iter().filter(|e| e.state == EndpointState::Ready).count();
                published.backends.insert(backend.id.clone(), (ready, backend.endpoints.len() - ready));
            }
        }
    }
    for certificate in table.certificates() {
        published.certificates.insert(certificate.source.clone(), certificate.not_after);
    }
    published
}
