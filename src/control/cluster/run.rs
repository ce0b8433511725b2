//! The one task that owns the objects: takes notices in, compiles at the right moment, publishes, and says which
//! statuses are due.
//!
//! Nothing is compiled before every mandatory watch has listed. Secrets and ConfigMaps are watched once it is known which of
//! them are named, so that a start fetches nothing twice.

use super::decode;
use super::health::Health;
use super::kinds::start;
use super::objects::{Effect, Objects};
use super::pace::Pace;
use super::status::{self, Due};
use super::watch::{Kind, Notice, Reports, Watch, What, root};
use super::writer::{Writer, Written};
use super::{lease, outdated};
use crate::compile::{Compiled, Compiler, Options, Reference, Verdicts};
use crate::control::key_sets::{Learnt, News, Wanted};
use crate::control::publish;
use crate::control::rebuild::now;
use crate::drain::{Draining, Phase};
use crate::routing::RoutingTable;
use crate::telemetry::Metrics;
use crate::telemetry::cluster::ClusterMetrics;
use crate::telemetry::metrics::Reload;
use futures_util::{StreamExt, stream};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::jiff::Timestamp;
use kube::api::{ListParams, ObjectList};
use kube::{Api, Client, Config};
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot, watch as channel};

/// Notices that may wait; then the watches do.
const NOTICES: usize = 4096;

/// For connecting to the API server.
const CONNECT: Duration = Duration::from_secs(5);

/// For asking for content that was let go, all of it together.
const FETCH: Duration = Duration::from_secs(2);

/// How many requests for content are under way at once.
const FETCHES: usize = 16;

/// For what the writer has begun when the process stops.
const LAST_WRITE: Duration = Duration::from_secs(2);

/// A table is made at least this often: certificates age.
const LONGEST_QUIET: Duration = Duration::from_secs(600);

/// How the cluster is followed.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// How to reach the API server; `None` finds out as kubectl does: by `KUBECONFIG`, or the pod's service account.
    pub config: Option<Config>,
    /// The namespaces that are looked at; empty for all.
    pub watch_namespaces: Vec<String>,
    /// Whether a Service of type `ExternalName` may be a backend.
    pub allow_external_name: bool,
    /// This pod's addresses, which no endpoint may have.
    pub own_addresses: Vec<IpAddr>,
    /// This pod's name: holder of the lease, reporter of events.
    pub pod_name: String,
    /// This pod's namespace, where the lease is. Empty: that of the service account or of the kubeconfig's context.
    pub pod_namespace: String,
    /// Name of the lease.
    pub lease: String,
}

/// A cluster that is about to be followed.
pub struct Cluster {
    client: Client,
    settings: Settings,
    options: Options,
    table: channel::Sender<Arc<RoutingTable>>,
    metrics: Arc<Metrics>,
    followed: Arc<ClusterMetrics>,
    health: Arc<Health>,
    /// Where it is said whose keys are wanted.
    wanted: Wanted,
    news: mpsc::Receiver<News>,
}

impl Cluster {
    /// Prepares to follow a cluster into `table`, with what issuers answer. Asks nothing of either yet.
    ///
    /// # Errors
    /// When it is not known how to reach the API server.
    ///
    /// # Panics
    /// Outside an asynchronous runtime.
    pub async fn new(
        mut settings: Settings,
        options: Options,
        table: channel::Sender<Arc<RoutingTable>>,
        metrics: Arc<Metrics>,
        health: Arc<Health>,
        (wanted, news): (Wanted, mpsc::Receiver<News>),
    ) -> anyhow::Result<Self> {
        let mut config = match settings.config.take() {
            Some(config) => config,
            None => Config::infer().await?,
        };
        config.connect_timeout = Some(CONNECT);
        // What fails is to be known at once, and is tried again by whoever asked.
        config.default_retry = false;
        if settings.pod_namespace.is_empty() {
            settings.pod_namespace.clone_from(&config.default_namespace);
        }
        let client = Client::try_from(config)?;
        let followed = metrics.cluster();
        Ok(Self { client, settings, options, table, metrics, followed, health, wanted, news })
    }

    /// Follows the cluster until the process stops. `first` is told when the first table is published.
    ///
    /// # Cancel safety
    /// May be dropped at any time; the last table stays, the lease runs out by itself.
    pub async fn follow(self, first: SyncSender<anyhow::Result<()>>, mut draining: Draining) {
        let (notices, inbox) = mpsc::channel(NOTICES);
        let (written, echoes) = mpsc::channel(NOTICES);
        let (due, due_view) = channel::channel(Arc::new(Due::new()));
        let (leading, leading_view) = channel::channel(false);
        let (stop_lease, lease_stopped) = oneshot::channel();

        let reports = Reports { notices, health: Arc::clone(&self.health) };
        let mandatory = self.watches();
        for watch in &mandatory {
            self.health.expect(watch);
        }

        let name = lease::Name {
            namespace: self.settings.pod_namespace.clone(),
            lease: self.settings.lease.clone(),
            holder: self.settings.pod_name.clone(),
        };
        let metrics = Arc::clone(&self.followed);
        let mut lease = tokio::spawn(lease::hold(self.client.clone(), name, leading, metrics, lease_stopped));
        let writer = Writer::new(self.client.clone(), &self.settings.pod_name, Arc::clone(&self.followed), written);
        let mut writer = tokio::spawn(writer.run(due_view, leading_view));
        let outdated = tokio::spawn(outdated::watch(self.client.clone(), Arc::clone(&self.followed)));

        let keeper = Keeper {
            cluster: self,
            mandatory,
            reports,
            objects: Objects::default(),
            pace: Pace::default(),
            compiler: Compiler::default(),
            learnt: Learnt::default(),
            verdicts: Verdicts::default(),
            due,
            restate: false,
            first: Some(first),
            watching_contents: false,
        };
        tokio::select! {
            () = keeper.keep(inbox, echoes) => {}
            () = draining.reached(Phase::Stopped) => {}
        }
        outdated.abort();
        // Nothing is due any more: it ends when what it has begun is done, so that no status is written without its event.
        if tokio::time::timeout(LAST_WRITE, &mut writer).await.is_err() {
            writer.abort();
        }
        // Last of all: whoever gets the lease next finds nothing half done.
        let _ = stop_lease.send(());
        let _ = (&mut lease).await;
    }

    /// What must have listed before anything is compiled.
    fn watches(&self) -> Vec<Watch> {
        let everywhere = |kind| Watch { kind, namespace: None };
        let mut watches = vec![everywhere(Kind::Class)];
        for kind in [Kind::Route, Kind::Service, Kind::EndpointSlice, Kind::Secret, Kind::ConfigMap] {
            if self.settings.watch_namespaces.is_empty() {
                watches.push(everywhere(kind));
            }
            let within = |namespace: &String| Watch { kind, namespace: Some(namespace.as_str().into()) };
            watches.extend(self.settings.watch_namespaces.iter().map(within));
        }
        // Answered even where they may not be read: then by nothing.
        watches.extend([everywhere(Kind::Namespace), everywhere(Kind::Node)]);
        let grants = self.settings.watch_namespaces.iter();
        let grants = grants.map(|ns| Watch { kind: Kind::ReferenceGrant, namespace: Some(ns.as_str().into()) });
        watches.extend(grants);
        if self.settings.watch_namespaces.is_empty() {
            watches.push(everywhere(Kind::ReferenceGrant));
        }
        watches
    }
}

/// The owner of the objects.
struct Keeper {
    cluster: Cluster,
    mandatory: Vec<Watch>,
    reports: Reports,
    objects: Objects,
    pace: Pace,
    compiler: Compiler,
    learnt: Learnt,
    verdicts: Verdicts,
    due: channel::Sender<Arc<Due>>,
    /// Whether statuses are to be compared without a new table.
    restate: bool,
    first: Option<SyncSender<anyhow::Result<()>>>,
    watching_contents: bool,
}

impl Keeper {
    async fn keep(mut self, mut inbox: mpsc::Receiver<Notice>, mut echoes: mpsc::Receiver<Written>) {
        for watch in self.mandatory.iter().filter(|watch| !matches!(watch.kind, Kind::Secret | Kind::ConfigMap)) {
            start(&self.cluster.client, watch.clone(), self.reports.clone());
        }
        let mut second = tokio::time::interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut last_build = Instant::now();
        loop {
            let due = self.pace.due().filter(|_| self.is_complete());
            let build = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                notice = inbox.recv() => {
                    let Some(notice) = notice else { return };
                    self.take(notice);
                    // What came together is one change.
                    while let Ok(notice) = inbox.try_recv() {
                        self.take(notice);
                    }
                }
                Some(news) = self.cluster.news.recv() => {
                    if self.learnt.take(news) {
                        self.pace.changed(tokio::time::Instant::now());
                    }
                }
                Some((object, stored)) = echoes.recv() => drop(self.objects.statuses.insert(object, stored)),
                () = build => {
                    self.fetch().await;
                    self.build().await;
                    last_build = Instant::now();
                }
                _ = second.tick() => {
                    self.cluster.followed.stale(self.cluster.health.stale());
                    if std::mem::take(&mut self.restate) && self.first.is_none() {
                        self.state();
                    }
                    if last_build.elapsed() > LONGEST_QUIET {
                        self.pace.changed(tokio::time::Instant::now());
                    }
                }
            }
        }
    }

    /// Whether every mandatory watch has listed.
    fn is_complete(&self) -> bool {
        self.first.is_none() || self.mandatory.iter().all(|watch| self.objects.has_listed(watch))
    }

    fn take(&mut self, notice: Notice) {
        let listed = matches!(notice.what, What::Listed).then(|| notice.watch.clone());
        match self.objects.take(notice) {
            Effect::Nothing => {}
            Effect::Status => self.restate = true,
            Effect::Table => self.pace.changed(tokio::time::Instant::now()),
        }
        if let Some(watch) = listed {
            self.cluster.health.listed(&watch);
            self.watch_contents();
        }
    }

    /// Starts the watches of Secrets and ConfigMaps once every route and class is known.
    fn watch_contents(&mut self) {
        let names = |watch: &&Watch| matches!(watch.kind, Kind::Class | Kind::Route);
        let known = self.mandatory.iter().filter(names).all(|watch| self.objects.has_listed(watch));
        if known && !self.watching_contents {
            self.watching_contents = true;
            for watch in self.mandatory.iter().filter(|watch| matches!(watch.kind, Kind::Secret | Kind::ConfigMap)) {
                start(&self.cluster.client, watch.clone(), self.reports.clone());
            }
        }
    }

    /// Asks for content that is named now and was let go when it came. What cannot be had is asked for again.
    async fn fetch(&mut self) {
        let missing = self.objects.missing();
        if missing.is_empty() {
            return;
        }
        let client = &self.cluster.client;
        let asked = stream::iter(missing).map(|reference| fetch(client.clone(), reference)).buffer_unordered(FETCHES);
        let answers: Vec<_> = asked.take_until(tokio::time::sleep(FETCH)).collect().await;
        for (watch, reference, answer) in answers {
            match answer {
                Ok(answers) => {
                    for what in answers {
                        self.objects.take(Notice { watch: watch.clone(), what });
                    }
                    self.objects.answered(&reference);
                }
                Err(error) => {
                    tracing::warn!(%watch, "cannot read an object that a route names: {}", root(&error));
                }
            }
        }
        if !self.objects.missing().is_empty() {
            self.pace.changed(tokio::time::Instant::now());
        }
    }

    /// Compiles and publishes.
    async fn build(&mut self) {
        let began = Instant::now();
        self.pace.compiled();
        let mut objects = std::mem::take(&mut self.objects);
        let mut compiler = std::mem::take(&mut self.compiler);
        let options = self.cluster.options.clone();
        // Off this thread, for probes are answered here.
        objects.snapshot.taken_at = now();
        self.learnt.tell(&mut objects.snapshot);
        let done = tokio::task::spawn_blocking(move || {
            let result = catch_unwind(AssertUnwindSafe(|| compiler.compile(&objects.snapshot, &options)));
            (objects, compiler, result)
        });
        let Ok((objects, compiler, result)) = done.await else { return }; // the process is ending
        self.objects = objects;
        // Whatever it was, the objects are whole and the last table stays.
        let Ok(Compiled { table, verdicts, key_sources }) = result else {
            tracing::error!("compiling failed, so the last table is kept; please report the panic above");
            return;
        };
        self.compiler = compiler;
        self.cluster.wanted.want(&key_sources);
        self.learnt.keep(&self.objects.snapshot, &key_sources);
        let (accepted, refused) = publish::count_routes(&verdicts);
        let Cluster { table: tables, metrics, .. } = &self.cluster;
        let changed = publish::publish(table, self.first.is_some(), tables, metrics);
        let build = began.elapsed();
        let unreadable = self.objects.snapshot.unreadable_routes.len() + self.objects.snapshot.unreadable_classes.len();
        metrics.reloaded(&Reload { problems: unreadable, routes: Some((accepted, refused)), build });
        if changed {
            tracing::debug!(accepted, refused, build_us = build.as_micros(), "table published");
        }
        if let Some(first) = self.first.take() {
            tracing::info!(accepted, refused, build_ms = build.as_millis(), "first table published");
            let _ = first.send(Ok(()));
        }
        self.verdicts = verdicts;
        self.state();
    }

    /// Says which statuses are due.
    fn state(&mut self) {
        let due = status::due(&self.verdicts, &self.objects.statuses, Timestamp::now());
        self.cluster.followed.statuses_due(due.len());
        self.due.send_if_modified(|before| {
            let changed = **before != due;
            if changed {
                *before = Arc::new(due);
            }
            changed
        });
    }
}

/// Asks for the content that `reference` means. One that is gone is said to be absent: the watch will say so, too.
async fn fetch(client: Client, reference: Reference) -> (Watch, Reference, kube::Result<Vec<What>>) {
    let present = |(key, item)| What::Present(key, Box::new(item));
    let (kind, answer) = match &reference {
        Reference::ConfigMap(key) => {
            let got = Api::<ConfigMap>::namespaced(client, &key.namespace).get_opt(&key.name).await;
            let got =
                got.map(|map| vec![map.map_or(What::Absent(key.clone()), |map| present(decode::config_map(map)))]);
            (Kind::ConfigMap, got)
        }
        Reference::Credentials(key) | Reference::Keys(key) | Reference::Secret(key) => {
            let got = Api::<Secret>::namespaced(client, &key.namespace).get_opt(&key.name).await;
            let got =
                got.map(|secret| secret.map_or(What::Absent(key.clone()), |secret| present(decode::secret(secret))));
            (Kind::Secret, got.map(|what| vec![what]))
        }
        Reference::Selected(selection) => {
            let labelled = ListParams::default().labels(&selection.to_string());
            let found = Api::<Secret>::namespaced(client, &selection.namespace).list(&labelled).await;
            let all = |found: ObjectList<Secret>| found.items.into_iter().map(|s| present(decode::secret(s))).collect();
            (Kind::Secret, found.map(all))
        }
    };
    (Watch { kind, namespace: None }, reference, answer)
}
