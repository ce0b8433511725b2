//! The wiring: the only file that knows both wings. Starts what `serve` and `proxy` need, and stops it in order.
//!
//! Order of a start: admin, first table, listeners, ready. Order of a stop: not ready, `min_drain` while still
//! accepting, no more accepting, Close frames spread over each route's window, cut, gone.

use crate::admin::{self, Admin, SessionsQuery};
use crate::compile;
use crate::control::cluster::health::Health;
use crate::control::cluster::{self, Cluster};
use crate::control::key_sets;
use crate::control::rebuild::{self, Rebuild};
use crate::drain::{Drain, Draining, Phase};
use crate::feedback::{self, Report};
use crate::proxy::expiry;
use crate::proxy::overload::{Bounds, Overload};
use crate::proxy::sessions::{Session, Sessions};
use crate::proxy::tls::TlsServer;
use crate::proxy::upstream::Dialer;
use crate::proxy::workers::{Listen, Workers};
use crate::proxy::{Counts, Inquiries, ListenerLimits, Proxy, listener};
use crate::routing::access::Admission;
use crate::routing::{Certificate, RoutingTable, Scheme};
use crate::telemetry::{Direction, Metrics};
use anyhow::Context as _;
use serde_json::json;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, UNIX_EPOCH};
use tokio::sync::{mpsc, watch};

/// Rules that have metrics of their own; later ones share one series.
const MAX_RULES: usize = 5000;

/// How long the last words of cut sessions may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// Where objects come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// The API server of a cluster.
    Cluster(Box<cluster::Settings>),
    /// A folder, or text.
    Files(rebuild::Source),
}

/// What a started Sheave is made of.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where objects come from.
    pub source: Source,
    /// Where clients connect to.
    pub listen: Vec<Listen>,
    /// Where operators connect to.
    pub admin: SocketAddr,
    /// Worker threads, at least 1.
    pub workers: usize,
    /// How long clients are still accepted after a stop has begun.
    pub min_drain: Duration,
    /// The longest that a stop may take after that; `None` is as long as the routes ask for.
    pub drain_timeout: Option<Duration>,
    /// Whether sessions are also recorded when they open.
    pub record_open: bool,
    /// Bounds before a route is known.
    pub limits: ListenerLimits,
    /// Bounds of the process.
    pub bounds: Bounds,
}

impl Options {
    /// A folder served on ports the kernel chooses on the loopback address, in clear and over TLS.
    pub fn folder(folder: impl Into<PathBuf>) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            source: Source::Files(rebuild::Source::Folder(folder.into())),
            listen: vec![Listen { address: any, scheme: Scheme::Ws }, Listen { address: any, scheme: Scheme::Wss }],
            admin: any,
            workers: 1,
            min_drain: Duration::ZERO,
            drain_timeout: None,
            record_open: false,
            limits: ListenerLimits::default(),
            bounds: Bounds::default(),
        }
    }
}

/// A started Sheave.
pub struct Running {
    drain: Arc<Drain>,
    min_drain: Duration,
    drain_timeout: Option<Duration>,
    sessions: Arc<Sessions>,
    metrics: Arc<Metrics>,
    workers: Workers,
    control: JoinHandle<()>,
    admin: SocketAddr,
    table: watch::Receiver<Arc<RoutingTable>>,
}

/// Starts everything and returns once clients are served. In a cluster that may take as long as the API server does;
/// the admin listener says meanwhile what is waited for.
///
/// # Errors
/// A folder that cannot be read, an API server nobody knows of, an address that cannot be bound.
pub fn start(options: Options) -> anyhow::Result<Running> {
    // A second call finds the provider in place, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let metrics = Metrics::new(MAX_RULES);
    let drain = Arc::new(Drain::default());
    let wants_tls = options.listen.iter().any(|listen| listen.scheme == Scheme::Wss);
    let fallback = if wants_tls { Some(self_signed().context("cannot make a certificate")?) } else { None };
    let sessions = Arc::new(Sessions::default());
    let (sender, table) = watch::channel(Arc::new(RoutingTable::default()));
    let (reporter, reports) = feedback::channel();

    let admin_socket = listener::bind(options.admin, false)
        .with_context(|| format!("cannot listen on {} for admin", options.admin))?;
    let admin = admin_socket.local_addr()?;
    let readiness =
        Arc::new(Readiness { health: OnceLock::new(), listening: AtomicBool::new(false), drain: drain.watch() });
    let dumps = dumps(&readiness, &metrics, &table, &sessions);
    let source = Following { source: options.source, fallback, sender, metrics: Arc::clone(&metrics), reports };
    let (control, first) =
        control(source, &readiness, (admin_socket, dumps), Arc::clone(&sessions), table.clone(), &drain)?;
    first.recv().context("the control thread ended before there was a table")??;

    let live = Arc::clone(&sessions);
    metrics.watch_live(Box::new(move |see| live.for_each(|session| see(&session.metrics, &session.counters))));
    let proxy = Arc::new(Proxy {
        table: table.clone(),
        sessions: Arc::clone(&sessions),
        dialer: Dialer { metrics: Some(Arc::clone(&metrics)), ..Dialer::default() },
        tls: TlsServer::new(table.clone()).context("cannot set TLS up")?,
        limits: options.limits,
        record_open: options.record_open,
        metrics: Arc::clone(&metrics),
        draining: drain.watch(),
        reporter,
        counts: Counts::default(),
        inquiries: Inquiries::default(),
        overload: Overload::new(&options.bounds),
    });
    let workers = Workers::start(options.workers.max(1), &options.listen, &proxy)?;
    readiness.listening.store(true, Ordering::Release);
    Ok(Running {
        drain,
        min_drain: options.min_drain,
        drain_timeout: options.drain_timeout,
        sessions,
        metrics,
        workers,
        control,
        admin,
        table,
    })
}

/// Why the process is not ready, if it is not.
struct Readiness {
    /// Of the watches, in a cluster.
    health: OnceLock<Arc<Health>>,
    /// Whether clients are accepted: the first table is there and the listeners are bound.
    listening: AtomicBool,
    drain: Draining,
}

impl Readiness {
    fn check(&self) -> Result<(), String> {
        if self.drain.phase() != Phase::Serving {
            return Err("draining: this process is stopping".to_owned());
        }
        if self.listening.load(Ordering::Acquire) {
            return Ok(());
        }
        let waiting = self.health.get().and_then(|health| health.waiting());
        Err(waiting.map_or_else(|| "starting: not listening yet".to_owned(), |why| format!("waiting for {why}")))
    }
}

/// The source on its way to the control thread.
struct Following {
    source: Source,
    fallback: Option<Arc<Certificate>>,
    sender: watch::Sender<Arc<RoutingTable>>,
    metrics: Arc<Metrics>,
    /// What the data plane says.
    reports: mpsc::Receiver<Report>,
}

impl Following {
    /// Reads the source, says so by `first`, and follows it until the process stops.
    async fn follow(self, readiness: &Readiness, first: SyncSender<anyhow::Result<()>>, draining: Draining) {
        let Self { source, fallback, sender, metrics, reports } = self;
        match source {
            Source::Cluster(settings) => {
                let options = compile::Options::cluster(settings.allow_external_name, settings.own_addresses.clone());
                let options = compile::Options { fallback_certificate: fallback, ..options };
                let health = Arc::new(Health::new(metrics.cluster()));
                let _ = readiness.health.set(Arc::clone(&health));
                let learnt = key_sets::start(reports, options.allow_local_endpoints);
                match Cluster::new(*settings, options, sender, metrics, health, learnt).await {
                    Ok(cluster) => cluster.follow(first, draining).await,
                    Err(error) => drop(first.send(Err(error.context("do not know how to reach the API server")))),
                }
            }
            Source::Files(source) => {
                let options = compile::Options::folder();
                let options = compile::Options { fallback_certificate: fallback, fetches_keys: true, ..options };
                let (wanted, news) = key_sets::start(reports, options.allow_local_endpoints);
                let rebuild = Rebuild::new(source, options, sender, metrics, wanted);
                let begun = rebuild.once(true).with_context(|| format!("cannot read {:?}", rebuild.source));
                match begun.and_then(|()| rebuild.source.watch().context("cannot watch the folder")) {
                    Ok(changes) => {
                        let _ = first.send(Ok(()));
                        rebuild.follow(changes, news, draining).await;
                    }
                    Err(error) => drop(first.send(Err(error))),
                }
            }
        }
    }
}

/// The thread beside the data path: follows the source, applies tables to live sessions, serves operators.
fn control(
    source: Following,
    readiness: &Arc<Readiness>,
    (admin_socket, dumps): (std::net::TcpListener, Admin),
    sessions: Arc<Sessions>,
    mut table: watch::Receiver<Arc<RoutingTable>>,
    drain: &Drain,
) -> anyhow::Result<(JoinHandle<()>, Receiver<anyhow::Result<()>>)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    source.metrics.watch_tasks("control", runtime.handle());
    let guard = runtime.enter();
    let listener = tokio::net::TcpListener::from_std(admin_socket)?;
    drop(guard);
    let (first, begun) = sync_channel(1);
    let (readiness, draining) = (Arc::clone(readiness), drain.watch());
    let thread = std::thread::Builder::new().name("control".to_owned()).spawn(move || {
        runtime.block_on(async move {
            tokio::spawn(admin::serve(listener, dumps));
            let mut stopped = draining.clone();
            let follow = tokio::spawn(async move { source.follow(&readiness, first, draining).await });
            tokio::spawn(expiry::follow_clock(Arc::clone(&sessions)));
            tokio::spawn(async move {
                while table.changed().await.is_ok() {
                    let current = Arc::clone(&table.borrow_and_update());
                    sessions.apply(&current);
                }
            });
            stopped.reached(Phase::Stopped).await;
            // It has last things to do, such as letting go of a lease.
            let _ = tokio::time::timeout(FAREWELL * 3, follow).await;
        });
        runtime.shutdown_background();
    })?;
    Ok((thread, begun))
}

impl Running {
    /// The bound addresses of `Options::listen`, in that order.
    pub fn addresses(&self) -> &[SocketAddr] {
        self.workers.addresses()
    }

    /// Where the admin listener is.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// The table of the moment.
    pub fn table(&self) -> Arc<RoutingTable> {
        Arc::clone(&self.table.borrow())
    }

    /// What a second signal calls: whatever the stop is waiting for, it waits no longer.
    pub fn hurry(&self) -> impl Fn() + Send + Sync + 'static {
        let (drain, sessions) = (Arc::clone(&self.drain), Arc::clone(&self.sessions));
        move || {
            sessions.cut();
            drain.advance(Phase::Stopped);
        }
    }

    /// Stops in order; returns when everything has ended.
    ///
    /// # Panics
    /// When called within an asynchronous runtime: call it on a thread of its own there.
    pub fn stop(self) {
        match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(self.drained()),
            Err(error) => tracing::error!(%error, "cannot drain; live sessions are cut"),
        }
        self.drain.advance(Phase::Stopped);
        self.workers.join();
        if self.control.join().is_err() {
            tracing::error!("the control thread panicked; please report the panic above");
        }
    }

    /// Everything of a stop that waits for clients.
    async fn drained(&self) {
        let mut phase = self.drain.watch();
        self.metrics.drain_started();
        self.drain.advance(Phase::Unready);
        tracing::info!(sessions = self.sessions.len(), min_drain = ?self.min_drain, "draining: not ready any more");
        let _ = tokio::time::timeout(self.min_drain, phase.reached(Phase::Stopped)).await;
        self.drain.advance(Phase::Closing);
        self.sessions.drain();
        let longest = self.sessions.longest_drain() + FAREWELL;
        let bound = self.drain_timeout.unwrap_or(longest).min(longest).max(FAREWELL);
        tracing::info!(sessions = self.sessions.len(), bound = ?bound, "draining: closing sessions");
        let gone = async {
            tokio::select! {
                () = self.sessions.emptied() => {}
                () = phase.reached(Phase::Stopped) => {}
            }
        };
        if tokio::time::timeout(bound, gone).await.is_err() {
            tracing::warn!(sessions = self.sessions.len(), "draining: out of time, cutting what is left");
            self.sessions.cut();
            let _ = tokio::time::timeout(FAREWELL, self.sessions.emptied()).await;
        }
        tracing::info!("drained");
    }
}

/// What the admin listener shows.
fn dumps(
    readiness: &Arc<Readiness>,
    metrics: &Arc<Metrics>,
    table: &watch::Receiver<Arc<RoutingTable>>,
    sessions: &Arc<Sessions>,
) -> Admin {
    let (readiness, metrics) = (Arc::clone(readiness), Arc::clone(metrics));
    let (table, sessions) = (table.clone(), Arc::clone(sessions));
    Admin {
        ready: Box::new(move || readiness.check()),
        metrics: Box::new(move || metrics.expose()),
        table: Box::new(move || Arc::clone(&table.borrow())),
        sessions: Box::new(move |query| show(&sessions, query)),
    }
}

/// The live sessions that `query` asks for, oldest first.
fn show(sessions: &Sessions, query: &SessionsQuery) -> serde_json::Value {
    let mut found: Vec<Arc<Session>> = Vec::new();
    sessions.for_each(|session| {
        let endpoint = session.upstream().map(|(_, endpoint)| endpoint.to_string()).unwrap_or_default();
        let consumer = session.admission.as_ref().and_then(|admission| admission.consumer());
        if query.accepts(&session.rule.id, &endpoint, session.peer, consumer.map(|name| &**name)) {
            found.push(Arc::clone(session));
        }
    });
    found.sort_by_key(|session| session.id);
    let total = found.len();
    let tell = |session: &Arc<Session>| {
        let upstream = session.upstream();
        let tally = session.counters.read();
        let direction = |direction| {
            let tally = tally.direction(direction);
            json!({ "messages": tally.messages(), "bytes": tally.bytes })
        };
        let admission = session.admission.as_deref();
        let identity = admission.and_then(|admission| admission.identity.as_ref());
        let started = session.started.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        json!({
            "conn": session.id,
            "route": session.rule.id.route.to_string(),
            "rule": &*session.rule.id.rule,
            "backend": upstream.as_ref().map(|(backend, _)| backend.id.to_string()),
            "endpoint": upstream.as_ref().map(|(_, endpoint)| endpoint.to_string()),
            "peer": session.peer.to_string(),
            "client": session.peer.ip().to_canonical().to_string(),
            "consumer": identity.and_then(|identity| identity.consumer.as_deref()),
            "provider": identity.map(|identity| &*identity.provider),
            "certificate": admission.and_then(|a| a.certificate.as_ref()).map(|certificate| &*certificate.subject),
            "expires": admission.and_then(Admission::expires),
            "started": started,
            "in": direction(Direction::In),
            "out": direction(Direction::Out),
            "ending": session.is_ending(),
        })
    };
    json!({ "total": total, "sessions": found.iter().take(query.limit).map(tell).collect::<Vec<_>>() })
}

/// A certificate for `localhost` that answers where no other does.
fn self_signed() -> anyhow::Result<Arc<Certificate>> {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names)?;
    let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let certificate = compile::from_pem(chain.as_bytes(), key.as_bytes(), "self-signed at start")?;
    Ok(Arc::new(certificate))
}
