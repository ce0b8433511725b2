//! A whole Sheave that follows the API server of a test, in this process.

use super::{CEILING, until};
use kube::Config;
use sheave::app::{self, Options, Running, Source};
use sheave::control::cluster::Settings;
use sheave::routing::RoutingTable;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A started Sheave; it drains when it is dropped.
pub struct Sheave {
    running: Option<Running>,
    admin: SocketAddr,
}

/// What a Sheave of one namespace is told.
pub fn settings(config: Config, namespace: &str, pod: &str) -> Settings {
    Settings {
        config: Some(config),
        watch_namespaces: vec![namespace.to_owned()],
        pod_name: pod.to_owned(),
        pod_namespace: namespace.to_owned(),
        lease: "sheave".to_owned(),
        ..Settings::default()
    }
}

/// A free port of the loopback, for an admin listener that is asked before there is a table.
pub fn free_address() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("the loopback has a free port");
    listener.local_addr().expect("it is bound")
}

impl Sheave {
    /// Starts one and returns once it has its first table.
    pub async fn start(settings: Settings) -> Self {
        Self::start_at(settings, free_address()).await
    }

    /// As [`Sheave::start`], with its admin listener at this address.
    pub async fn start_at(settings: Settings, admin: SocketAddr) -> Self {
        let options = Options { source: Source::Cluster(Box::new(settings)), admin, ..Options::folder("") };
        let started = tokio::task::spawn_blocking(move || app::start(options));
        let running = tokio::time::timeout(CEILING, started).await.expect("a first table").expect("no panic");
        Self { running: Some(running.expect("Sheave starts")), admin }
    }

    /// The table of the moment.
    pub fn table(&self) -> Arc<RoutingTable> {
        self.running.as_ref().expect("it runs").table()
    }

    /// The names of the routes in its table.
    pub fn routes(&self) -> Vec<String> {
        self.table().routes().map(|route| route.id.name.to_string()).collect()
    }

    /// Waits until its table has these routes and no other.
    pub async fn has_routes(&self, names: &[&str]) {
        let same = || async { (self.routes() == names).then_some(()) };
        until(&format!("the table has {names:?}"), same).await;
    }

    /// The table as operators see it.
    pub fn table_text(&self) -> String {
        serde_json::to_string(&*self.table()).expect("a table is JSON")
    }

    /// Status and body of a GET on its admin listener.
    pub async fn get(&self, path: &str) -> (u16, String) {
        get(self.admin, path).await.expect("the admin listener answers")
    }

    /// The sum of the samples of a metric whose labels include `labels`.
    pub async fn metric(&self, family: &str, labels: &str) -> f64 {
        let (_, text) = self.get("/metrics").await;
        let lines = text.lines().filter(|line| line.starts_with(family) && line.contains(labels));
        lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    }

    /// Stops in order.
    pub async fn stop(mut self) {
        let running = self.running.take().expect("it runs");
        tokio::task::spawn_blocking(|| running.stop()).await.expect("the stop does not panic");
    }
}

impl Drop for Sheave {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            std::thread::spawn(move || running.stop()).join().expect("the stop does not panic");
        }
    }
}

/// Status and body of a GET; `None` when nobody listens.
pub async fn get(at: SocketAddr, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(at).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await.ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}
