//! A folder, kept true as a table: read, compile, publish if different, and again at each change.
//!
//! Changes are gathered until nothing has come for [`CALM`], but not longer than [`PATIENCE`]. They are never acted
//! upon at once: a writer first empties a file and then fills it, and the table of the empty moment would end the
//! sessions of its routes. At the start a broken document is told and left out, because part of
//! the routes is better than none. Later a broken document keeps the last good table whole: half of an edit is worse
//! than none of it. Which file, line and field is at fault is logged once, until it changes.

use super::folder::{self, FolderContents};
use super::{gather, publish};
use crate::compile::{Compiled, Options, Verdict, compile};
use crate::routing::RoutingTable;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::Reload;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, watch};

/// How long nothing may happen before gathered changes are acted upon.
const CALM: Duration = Duration::from_millis(50);

/// How long changes are gathered at most.
const PATIENCE: Duration = Duration::from_millis(500);

/// A folder on its way to tables.
pub struct Rebuild {
    folder: PathBuf,
    options: Options,
    metrics: Arc<Metrics>,
    tables: watch::Sender<Arc<RoutingTable>>,
    /// What was last said to be wrong.
    told: Vec<String>,
    started: bool,
}

impl Rebuild {
    /// Reads the folder a first time and publishes what can be used of it.
    ///
    /// # Errors
    /// When the folder itself cannot be read.
    pub fn start(
        folder: PathBuf,
        options: Options,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<(Self, watch::Receiver<Arc<RoutingTable>>)> {
        let (tables, readers) = watch::channel(Arc::default());
        let mut rebuild = Self { folder, options, metrics, tables, told: Vec::new(), started: false };
        let contents = folder::read(&rebuild.folder)?;
        rebuild.take(contents, Instant::now());
        rebuild.started = true;
        Ok((rebuild, readers))
    }

    /// Follows `changes` until they end or no reader of the table is left.
    pub async fn run(mut self, mut changes: mpsc::Receiver<()>) {
        while changes.recv().await.is_some() && !self.tables.is_closed() {
            gather_changes(&mut changes).await;
            // Reading and compiling may take a good part of a second in a large folder.
            let again = tokio::task::spawn_blocking(move || {
                self.again();
                self
            });
            self = match again.await {
                Ok(rebuild) => rebuild,
                Err(error) => {
                    tracing::error!(%error, "reading the folder failed; changes are no longer seen until a restart");
                    return;
                }
            };
        }
    }

    fn again(&mut self) {
        let start = Instant::now();
        match folder::read(&self.folder) {
            Ok(contents) => self.take(contents, start),
            Err(error) => {
                let folder = self.folder.display();
                self.keep(vec![format!("{folder}: cannot be read: {error}; the last good table stays")], start);
            }
        }
    }

    /// Turns what the folder holds into a table, or keeps the last one.
    fn take(&mut self, contents: FolderContents, start: Instant) {
        let problems: Vec<_> =
            contents.problems.iter().filter(|problem| !problem.note).map(ToString::to_string).collect();
        if self.started && contents.is_broken() {
            return self.keep(problems, start);
        }
        let places =
            contents.documents.iter().map(|d| (d.name.to_string(), format!("{}:{}", d.file, d.line))).collect();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let compiled = compile(&gather::snapshot(contents.documents, now.as_secs().cast_signed()), &self.options);
        self.metrics.reloaded(&Reload {
            problems: problems.len(),
            routes: Some(publish::routes(&compiled)),
            build: start.elapsed(),
        });
        let broken = problems.len();
        self.tell(problems.into_iter().chain(complaints(&compiled, &places)).collect());
        if publish::publish(compiled.table, &self.tables, &self.metrics) {
            let routes = self.tables.borrow().routes().count();
            tracing::info!(routes, broken, took_ms = start.elapsed().as_millis(), "table published");
        }
    }

    fn keep(&mut self, problems: Vec<String>, start: Instant) {
        self.metrics.reloaded(&Reload { problems: problems.len(), routes: None, build: start.elapsed() });
        let news = self.tell(problems);
        if news {
            tracing::warn!("the last good table stays until this is mended");
        }
    }

    /// Logs what is wrong if it is not what was wrong before; says whether it did.
    fn tell(&mut self, wrong: Vec<String>) -> bool {
        if wrong == self.told {
            return false;
        }
        for line in &wrong {
            tracing::warn!(problem = %line, "configuration");
        }
        if wrong.is_empty() {
            tracing::info!("the configuration has no problem any more");
        }
        self.told = wrong;
        true
    }
}

/// What is wrong with objects, each line with the place of its object.
fn complaints(compiled: &Compiled, places: &HashMap<String, String>) -> Vec<String> {
    let told = |verdict| publish::complaints(verdict).map(move |line| (verdict, line));
    let at = |verdict: &Verdict| places.get(&verdict.object.to_string()).map_or("", String::as_str);
    let all = compiled.verdicts.iter().flat_map(told);
    all.map(|(verdict, line)| format!("{}: {line}", at(verdict))).collect()
}

/// Waits until changes have ceased to come, or for [`PATIENCE`].
async fn gather_changes(changes: &mut mpsc::Receiver<()>) {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        let calm = (tokio::time::Instant::now() + CALM).min(end);
        match tokio::time::timeout_at(calm, changes.recv()).await {
            Ok(Some(())) if calm < end => {}
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            let start = Rebuild::start(folder.path().to_owned(), Options::folder(), Arc::clone(&metrics));
            let (rebuild, table) = start.unwrap();
            let (changes, receiver) = mpsc::channel(1);
            let running = tokio::spawn(rebuild.run(receiver));
            Self { folder, metrics, table, changes, running }
        }

        fn host(&self) -> String {
            let table = self.table.borrow();
            table.routes().map(|route| route.hosts[0].to_string()).collect::<Vec<_>>().join(" ")
        }

        fn metric(&self, name: &str) -> f64 {
            let text = self.metrics.expose();
            let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
            line.rsplit_once(' ').unwrap().1.parse().unwrap()
        }

        /// Announces a change and waits until it has been acted upon and everything is over.
        async fn finish(self) -> Self {
            self.changes.send(()).await.unwrap();
            let Self { folder, metrics, table, changes, running } = self;
            drop(changes);
            running.await.unwrap();
            let (changes, running) = (mpsc::channel(1).0, tokio::spawn(async {}));
            Self { folder, metrics, table, changes, running }
        }
    }

    #[tokio::test]
    async fn a_change_becomes_a_table_and_an_equal_table_is_not_published() {
        let mut kept = Kept::start(None);
        assert_eq!(kept.host(), "a.example.com");
        assert_eq!(kept.metric("sheave_config_generation"), 1.0);
        kept.changes.send(()).await.unwrap();
        Kept::write(kept.folder.path(), "b.example.com");
        kept.changes.send(()).await.unwrap();
        kept.table.changed().await.unwrap();
        let kept = kept.finish().await;
        assert_eq!(kept.host(), "b.example.com");
        assert_eq!(kept.metric("sheave_config_generation"), 2.0, "an equal table was published");
        assert_eq!(kept.metric("sheave_config_last_reload_successful"), 1.0);
    }

    #[tokio::test]
    async fn a_broken_file_keeps_the_last_good_table_and_shows_in_metrics() {
        let kept = Kept::start(None);
        Kept::write(kept.folder.path(), "b.example.com");
        std::fs::write(kept.folder.path().join("broken.yaml"), "kind: [").unwrap();
        let kept = kept.finish().await;
        assert_eq!(kept.host(), "a.example.com");
        assert_eq!(kept.metric("sheave_config_last_reload_successful"), 0.0);
        assert_eq!(kept.metric("sheave_config_problems"), 1.0);
    }

    #[tokio::test]
    async fn at_the_start_a_broken_document_is_left_out_and_the_rest_is_served() {
        let kept = Kept::start(Some("kind: ["));
        assert_eq!(kept.host(), "a.example.com");
        assert_eq!(kept.metric("sheave_config_last_reload_successful"), 0.0);
    }
}
