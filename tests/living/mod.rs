//! What the tests of the life of sessions share: a folder of objects, a whole Sheave on it, services and clients
//! that behave as told.
//!
//! Everything waits on conditions with a ceiling of [`CEILING`]; nothing here decides what is right.

// Each test binary uses its own part, and `pub` here says what a test may use.
#![allow(dead_code, unreachable_pub)]

pub mod backend;
pub mod certificate;
pub mod client;
pub mod folder;

use sheave::app::{self, Options, Running};
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// The longest any condition may take to come true.
pub const CEILING: Duration = Duration::from_secs(10);

/// Awaits `future`, and panics with `what` when it takes longer than [`CEILING`].
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let value = tokio::time::timeout(CEILING, future).await;
    value.unwrap_or_else(|_| panic!("{what}: not within {CEILING:?}"))
}

/// Asks `condition` again and again until it answers `Some`.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut condition: impl FnMut() -> F) -> T {
    within(what, async {
        loop {
            if let Some(value) = condition().await {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
}

/// A Sheave that serves a folder.
pub struct Sheave {
    running: Option<Running>,
    /// The listener in clear.
    pub ws: SocketAddr,
    /// The TLS listener.
    pub wss: SocketAddr,
    /// The admin listener.
    pub admin: SocketAddr,
}

impl Sheave {
    /// Starts one and returns once it listens.
    pub fn start(folder: &folder::Folder) -> Self {
        Self::start_with(folder, |_| {})
    }

    /// As [`Sheave::start`], with other options.
    pub fn start_with(folder: &folder::Folder, change: impl FnOnce(&mut Options)) -> Self {
        let mut options = Options::folder(folder.path());
        options.min_drain = Duration::ZERO;
        change(&mut options);
        let running = app::start(options).expect("Sheave starts on free ports");
        let (ws, wss, admin) = (running.addresses()[0], running.addresses()[1], running.admin());
        Self { running: Some(running), ws, wss, admin }
    }

    /// Begins the ordered stop; the handle ends when Sheave is gone.
    pub fn stop(&mut self) -> JoinHandle<()> {
        let running = self.running.take().expect("stopped once");
        tokio::task::spawn_blocking(|| running.stop())
    }

    /// Status and body of a GET on the admin listener.
    pub async fn get(&self, path: &str) -> (u16, String) {
        get(self.admin, path).await
    }

    /// The body of `/metrics`.
    pub async fn metrics(&self) -> String {
        let (status, body) = self.get("/metrics").await;
        assert_eq!(status, 200, "{body}");
        body
    }

    /// The sum of the samples of a family that have all these labels; `None` when there are none.
    pub async fn metric(&self, family: &str, labels: &[(&str, &str)]) -> Option<f64> {
        sum(&self.metrics().await, family, labels)
    }

    /// Waits until the sum of those samples is `value`.
    pub async fn metric_becomes(&self, family: &str, labels: &[(&str, &str)], value: f64) {
        let mut now = None;
        let wait = async {
            while now.is_none_or(|now: f64| (now - value).abs() >= f64::EPSILON) {
                tokio::time::sleep(Duration::from_millis(10)).await;
                now = self.metric(family, labels).await;
            }
        };
        let became = tokio::time::timeout(CEILING, wait).await.is_ok();
        assert!(became, "{family}{labels:?} is {now:?} after {CEILING:?}, not {value}");
    }
}

/// The sum of the samples of `family` in `text` that have all `labels`.
pub fn sum(text: &str, family: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let mut found = None;
    for line in text.lines() {
        let Some(rest) = line.strip_prefix(family).filter(|rest| rest.starts_with(['{', ' '])) else { continue };
        let Some((names, value)) = rest.rsplit_once(' ') else { continue };
        if labels.iter().all(|(name, value)| names.contains(&format!("{name}=\"{value}\""))) {
            *found.get_or_insert(0.0) += value.parse::<f64>().expect("a sample is a number");
        }
    }
    found
}

/// Status and body of a GET in clear.
pub async fn get(at: SocketAddr, path: &str) -> (u16, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let mut answer = Vec::new();
    within(path, async {
        let mut stream = TcpStream::connect(at).await.expect("the admin listener answers");
        stream.write_all(request.as_bytes()).await.expect("a request can be sent");
        stream.read_to_end(&mut answer).await.expect("an answer can be read");
    })
    .await;
    let text = String::from_utf8(answer).expect("answers are UTF-8");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head in {text:?}"));
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or_else(|| panic!("no status in {head}"));
    (status, body.to_owned())
}
