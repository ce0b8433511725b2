//! Rebuild: from a change of the source to a new table, or to the knowledge that nothing changed.
//!
//! Changes gather until the source was quiet for 50 ms, 500 ms at most. The first one is not acted upon at once: a
//! writer empties a file and then fills it, and the table of the empty moment would end the sessions of its routes.
//! A table equal to the last one is not published. A source with something wrong in it keeps the last good table; at
//! the start, when there is none, what is good is served. What is wrong is logged once, until it changes.
//!
//! What is learnt beside the source, such as the keys of an issuer, goes into the table also while the source is broken:
//! it is compiled with the last good objects then.

use super::document::{Document, Object, SecretObject};
use super::folder::{self, Files, FolderContents};
use super::key_sets::{Learnt, News, Wanted};
use super::publish;
use crate::compile::{Compiled, Compiler, ObjectKey, Options, SecretContent, Snapshot, Verdict};
use crate::drain::{Draining, Phase};
use crate::routing::RoutingTable;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::Reload;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
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
    /// Reads everything there is; `files` is what was read of a folder before.
    ///
    /// # Errors
    /// When the folder itself cannot be read.
    fn read(&self, files: &mut Files) -> std::io::Result<FolderContents> {
        match self {
            Self::Fixed(name, text) => {
                let (documents, problems) = super::document::read_documents(name, text);
                Ok(FolderContents { documents, problems })
            }
            Self::Folder(path) => files.read(path),
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
            Object::Class(class) => drop(snapshot.classes.insert(name.name, class)),
            Object::ConfigMap(map) => drop(snapshot.config_maps.insert(key, map)),
            Object::EndpointSlice(slice) => drop(snapshot.endpoint_slices.insert(key, slice)),
            Object::Namespace(namespace) => {
                drop(snapshot.namespaces.insert(name.name, namespace.metadata.labels.unwrap_or_default()));
            }
            Object::ReferenceGrant(grant) => drop(snapshot.reference_grants.insert(key, grant)),
            Object::Route(route) => drop(snapshot.routes.insert(key, route)),
            Object::Secret(SecretObject(secret)) => {
                drop(snapshot.secrets.insert(key, Arc::new(SecretContent::take(secret, |_| true))));
            }
            Object::Service(service) => drop(snapshot.services.insert(key, service)),
        }
    }
    snapshot
}

/// Reads, compiles and publishes.
#[derive(Debug)]
pub struct Rebuild {
    /// Where objects come from.
    pub source: Source,
    options: Options,
    table: watch::Sender<Arc<RoutingTable>>,
    metrics: Arc<Metrics>,
    /// What was last said to be wrong.
    told: Mutex<Vec<String>>,
    /// Where it is said whose keys are wanted.
    wanted: Wanted,
    known: Mutex<Known>,
}

/// What is known from one time to the next.
#[derive(Debug, Default)]
struct Known {
    files: Files,
    compiler: Compiler,
    learnt: Learnt,
    /// The last good objects, kept only while keys are fetched for them: they may hold secrets.
    snapshot: Option<Snapshot>,
    /// Where each of these is written.
    places: HashMap<String, String>,
    /// What is wrong in the files.
    problems: Vec<String>,
}

impl Rebuild {
    /// Of `source`, compiled with `options`, into `table`, counted in `metrics`. Whose keys are to be fetched is said to
    /// `wanted`.
    pub fn new(
        source: Source,
        options: Options,
        table: watch::Sender<Arc<RoutingTable>>,
        metrics: Arc<Metrics>,
        wanted: Wanted,
    ) -> Self {
        Self { source, options, table, metrics, told: Mutex::default(), wanted, known: Mutex::default() }
    }

    /// Reads the source once. The first time what is good is served; afterwards a source with something wrong in it
    /// leaves the last table in place.
    ///
    /// # Errors
    /// When the source as a whole cannot be read.
    pub fn once(&self, first: bool) -> std::io::Result<()> {
        let began = Instant::now();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let contents = self.source.read(&mut known.files)?;
        let faults = contents.problems.iter().filter(|problem| !problem.note);
        let wrong: Vec<_> = faults.map(ToString::to_string).collect();
        known.problems.clone_from(&wrong);
        if !wrong.is_empty() && !first {
            self.keep(wrong, began);
            return Ok(());
        }
        let at = |document: &Document| format!("{}:{}", document.file, document.line);
        known.places = contents.documents.iter().map(|document| (document.name.to_string(), at(document))).collect();
        let objects = snapshot(contents.documents, now());
        self.build(&mut known, objects, first, began);
        Ok(())
    }

    /// Compiles `objects` with what has been learnt, and publishes.
    fn build(&self, known: &mut Known, mut objects: Snapshot, first: bool, began: Instant) {
        known.learnt.tell(&mut objects);
        let compiled = known.compiler.compile(&objects, &self.options);
        known.compiler.let_go_of_secrets();
        self.wanted.want(&compiled.key_sources);
        known.learnt.keep(&objects, &compiled.key_sources);
        known.snapshot = (!compiled.key_sources.is_empty()).then_some(objects);
        let problems = known.problems.len();
        let mut wrong = known.problems.clone();
        wrong.extend(complaints(&compiled, &known.places));
        self.tell(wrong);
        let routes = publish::count_routes(&compiled.verdicts);
        let changed = publish::publish(compiled.table, first, &self.table, &self.metrics);
        let build = began.elapsed();
        self.metrics.reloaded(&Reload { problems, routes: Some(routes), build });
        if changed {
            let build_ms = u64::try_from(build.as_millis()).unwrap_or(u64::MAX);
            tracing::info!(routes = routes.0, refused = routes.1, build_ms, "table published");
        }
    }

    /// Takes news in, and compiles again if they matter.
    fn learn(&self, news: Vec<News>) {
        let began = Instant::now();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = false;
        for news in news {
            changed |= known.learnt.take(news);
        }
        if !changed {
            return;
        }
        if let Some(objects) = known.snapshot.take() {
            self.build(&mut known, Snapshot { taken_at: now(), ..objects }, false, began);
        } else {
            drop(known);
            self.again();
        }
    }

    fn again(&self) {
        let began = Instant::now();
        if let Err(error) = self.once(false) {
            self.keep(vec![format!("the folder cannot be read: {error}")], began);
        }
    }

    fn keep(&self, wrong: Vec<String>, began: Instant) {
        self.metrics.reloaded(&Reload { problems: wrong.len(), routes: None, build: began.elapsed() });
        if self.tell(wrong) {
            tracing::warn!("the last good table is kept until this is mended");
        }
    }

    /// Logs what is wrong if it is not what was wrong before, and says whether it did.
    fn tell(&self, wrong: Vec<String>) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if wrong == *told {
            return false;
        }
        for line in &wrong {
            tracing::warn!("{line}");
        }
        if wrong.is_empty() {
            tracing::info!("nothing is wrong with the configuration any more");
        }
        *told = wrong;
        true
    }

    /// Follows the source until the process stops.
    ///
    /// # Cancel safety
    /// May be dropped at any time; the last table stays.
    pub async fn follow(self, mut changes: mpsc::Receiver<()>, mut news: mpsc::Receiver<News>, mut draining: Draining) {
        let rebuild = Arc::new(self);
        loop {
            let mut learnt = Vec::new();
            tokio::select! {
                () = draining.reached(Phase::Stopped) => return,
                change = changes.recv() => {
                    if change.is_none() {
                        return;
                    }
                    gather(&mut changes).await;
                }
                Some(first) = news.recv() => {
                    learnt.push(first);
                    while let Ok(next) = news.try_recv() {
                        learnt.push(next);
                    }
                }
            }
            // Off this thread: a large folder takes a good part of a second, and probes are answered here.
            let rebuild = Arc::clone(&rebuild);
            let work = move || if learnt.is_empty() { rebuild.again() } else { rebuild.learn(learnt) };
            if let Err(error) = tokio::task::spawn_blocking(work).await {
                tracing::error!(%error, "reading the source failed; please report the panic above");
            }
        }
    }
}

/// What is wrong with objects, each line with the place of its object.
fn complaints(compiled: &Compiled, places: &HashMap<String, String>) -> Vec<String> {
    let told = |verdict| publish::complaints(verdict).map(move |line| (verdict, line));
    let at = |verdict: &Verdict| places.get(&verdict.object.to_string()).map_or("", String::as_str);
    let all = compiled.verdicts.iter().flat_map(told);
    all.map(|(verdict, line)| format!("{}: {line}", at(verdict))).collect()
}

/// Waits until changes have ceased to come for [`QUIET`], or for [`GATHER`].
async fn gather(changes: &mut mpsc::Receiver<()>) {
    let until = tokio::time::Instant::now() + GATHER;
    loop {
        let quiet = (tokio::time::Instant::now() + QUIET).min(until);
        match tokio::time::timeout_at(quiet, changes.recv()).await {
            Ok(Some(())) if quiet < until => {}
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::key_sets;
    use crate::drain::Drain;
    use crate::feedback;

    const ROUTE: &str = "apiVersion: sheave.dev/v1alpha1\nkind: WebSocketRoute\nmetadata: {name: echo}\nspec:\n  \
        hostnames: [HOST]\n  rules: [{backendRefs: [{name: echo, port: 80}]}]\n";
    const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: echo}\nspec:\n  type: ExternalName\n  \
        externalName: localhost\n  ports: [{port: 80}]\n";

    struct Kept {
        folder: tempfile::TempDir,
        metrics: Arc<Metrics>,
        table: watch::Receiver<Arc<RoutingTable>>,
        changes: mpsc::Sender<()>,
        running: tokio::task::JoinHandle<()>,
        drain: Drain,
    }

    impl Kept {
        fn write(folder: &std::path::Path, host: &str) {
            std::fs::write(folder.join("route.yaml"), ROUTE.replace("HOST", host)).unwrap();
        }

        fn start(broken: Option<&str>) -> Self {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("service.yaml"), SERVICE).unwrap();
            Self::write(folder.path(), "a.example.com");
            if let Some(text) = broken {
                std::fs::write(folder.path().join("broken.yaml"), text).unwrap();
            }
            let metrics = Metrics::new(10);
            let (sender, table) = watch::channel(Arc::default());
            let source = Source::Folder(folder.path().to_owned());
            let (wanted, news) = key_sets::start(feedback::channel().1, true);
            let rebuild = Rebuild::new(source, Options::folder(), sender, Arc::clone(&metrics), wanted);
            rebuild.once(true).unwrap();
            let (changes, receiver) = mpsc::channel(1);
            let drain = Drain::default();
            let running = tokio::spawn(rebuild.follow(receiver, news, drain.watch()));
            Self { folder, metrics, table, changes, running, drain }
        }

        fn host(&self) -> String {
            let table = self.table.borrow();
            table.routes().map(|route| route.hosts[0].to_string()).collect::<Vec<_>>().join(" ")
        }

        fn metric(&self, name: &str) -> String {
            let text = self.metrics.expose();
            let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
            line.rsplit_once(' ').unwrap().1.to_owned()
        }

        /// Announces a change and waits until it has been acted upon and everything is over.
        async fn finish(self) -> Self {
            self.changes.send(()).await.unwrap();
            let Self { folder, metrics, table, changes, running, drain } = self;
            drop(changes);
            running.await.unwrap();
            let (changes, running) = (mpsc::channel(1).0, tokio::spawn(async {}));
            Self { folder, metrics, table, changes, running, drain }
        }
    }

    #[tokio::test]
    async fn a_change_becomes_a_table_and_an_equal_table_is_not_published() {
        let mut kept = Kept::start(None);
        assert_eq!(kept.host(), "a.example.com");
        assert_eq!(kept.metric("sheave_config_generation"), "1");
        kept.changes.send(()).await.unwrap();
        Kept::write(kept.folder.path(), "b.example.com");
        kept.changes.send(()).await.unwrap();
        kept.table.changed().await.unwrap();
        let kept = kept.finish().await;
        assert_eq!(kept.host(), "b.example.com");
        assert_eq!(kept.metric("sheave_config_generation"), "2", "an equal table was published");
        assert_eq!(kept.metric("sheave_config_last_reload_successful"), "1");
    }

    #[tokio::test]
    async fn a_broken_file_keeps_the_last_good_table_and_shows_in_metrics() {
        let kept = Kept::start(None);
        Kept::write(kept.folder.path(), "b.example.com");
        std::fs::write(kept.folder.path().join("broken.yaml"), "kind: [").unwrap();
        let kept = kept.finish().await;
        assert_eq!(kept.host(), "a.example.com");
        assert_eq!(kept.metric("sheave_config_last_reload_successful"), "0");
        assert_eq!(kept.metric("sheave_config_problems"), "1");
    }

    #[tokio::test]
    async fn at_the_start_a_broken_document_is_left_out_and_the_rest_is_served() {
        let kept = Kept::start(Some("kind: ["));
        assert_eq!(kept.host(), "a.example.com");
        assert_eq!(kept.metric("sheave_config_last_reload_successful"), "0");
    }
}
