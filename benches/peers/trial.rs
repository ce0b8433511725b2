//! How the figures of one trial come about: one contestant, one row, once.
//!
//! Every trial has a fresh proxy to itself, so that no row inherits another
//! one's heap, caches or sockets, and only one proxy runs at any time.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::cpu::{Family, machine_ns};
use crate::process::{Proxy, Role};
use crate::rivals::{Contestant, Setup, edition_host};
use crate::row::{Row, Shape};

/// How long and how much; the same for all contestants of a run.
pub(crate) struct Pace {
    /// Work before the measured window, to fill caches and heaps.
    pub(crate) warm_up: Duration,
    /// The measured window.
    pub(crate) window: Duration,
    /// Growing numbers of idle connections.
    pub(crate) idle: &'static [usize],
    /// From the last round trip to the reading of memory.
    pub(crate) settle: Duration,
    /// How often a configuration is edited.
    pub(crate) edits: u32,
    /// Worker threads or processes of each proxy.
    pub(crate) workers: usize,
}

/// Where a trial takes place.
#[derive(Clone, Copy)]
pub(crate) struct Place<'p> {
    /// Port of the echo backend on 127.0.0.1.
    pub(crate) backend: u16,
    /// Where the files of the proxies are.
    pub(crate) folder: &'p Path,
}

/// What Sheave is asked beside what the row says.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// Fields of its only route, and further objects.
    pub(crate) block: &'a str,
    /// A header line of each handshake; empty for none.
    pub(crate) header: &'a str,
}

/// What a trial found.
pub(crate) struct Outcome {
    /// One for each part of the row, in its unit.
    pub(crate) figures: Vec<f64>,
    /// Cores that work of others kept busy meanwhile: such a figure is too high,
    /// since caches and turns were shared. 0 where it was not looked at.
    pub(crate) cores_of_others: f64,
    /// What else there is to say, for people.
    pub(crate) note: Option<String>,
}

/// Runs the trial.
///
/// # Errors
/// The proxy did not start, ended, cut a connection or changed a message.
pub(crate) async fn run(
    row: &Row,
    contestant: Contestant,
    pace: &Pace,
    ground: Place<'_>,
    asked: Option<Asked<'_>>,
) -> Result<Outcome> {
    let setup = Setup {
        backend: ground.backend,
        tls: row.tls,
        workers: pace.workers,
        buffers: row.buffers(),
        routes: row.routes(),
        edition: 0,
        block: asked.map(|asked| asked.block),
    };
    let (proxy, port) = contestant.start(&setup, ground.folder).await?;
    if setup.routes > 0 || setup.block.is_some() {
        // It listens before it has read thousands of routes.
        live(port, &edition_host(0), asked.map_or("", |asked| asked.header), setup.tls).await?;
    }
    tokio::time::sleep(contestant.reads_for(&setup)).await;
    let trial = Trial { row, pace, proxy: &proxy, port, asked };
    let measured = match row.shape {
        Shape::Idle => trial.idle().await,
        Shape::Latency { .. } => trial.latency(ground.backend).await,
        Shape::Handshake { .. } | Shape::Relay { .. } => trial.busy().await,
        Shape::Swap { .. } => trial.swap(contestant, setup, ground.folder).await,
    };
    measured.with_context(|| format!("its log ends with: {}", proxy.last_words()))
}

/// One contestant at one row.
struct Trial<'t> {
    row: &'t Row,
    pace: &'t Pace,
    proxy: &'t Proxy,
    port: u16,
    asked: Option<Asked<'t>>,
}

impl Trial<'_> {
    /// CPU in microseconds for each unit of work done in the window.
    async fn busy(&self) -> Result<Outcome> {
        // Units in one thing that the load counts; see the convention in `row`.
        let (connections, units) = match self.row.shape {
            Shape::Relay { connections, payload_bytes, per_megabyte: true, .. } => {
                (connections, 2.0 * payload_bytes as f64 / 1e6)
            }
            Shape::Relay { connections, .. } => (connections, 2.0),
            _ => (0, 1.0),
        };
        let mut load = self.load(self.port, self.row.tls)?;
        load.order(&format!("open {connections}")).await?;
        load.order("start").await?;
        tokio::time::sleep(self.pace.warm_up).await;
        let family = self.proxy.family()?;
        let ours = Family::of(std::process::id())?;
        let others = || Ok::<_, Error>(machine_ns()? as f64 - ours.cpu()?.total_ns() as f64);
        let others_before = others()?;
        let full_before = load.order("full").await?;
        let began = Instant::now();
        // CPU first and count second at both ends, so that the lag cancels out.
        let cpu_before = family.cpu()?;
        let done_before = load.order("count").await?;
        tokio::time::sleep(self.pace.window).await;
        let used_ns = family.cpu()?.ns_since(&cpu_before);
        let done = load.order("count").await? - done_before;
        let others_ns = others()? - others_before;
        ensure!(done > 0, "no work was done in the window");
        ensure!(used_ns > 0, "the proxy's processes did none of the work");
        let full = load.order("full").await? - full_before;
        if matches!(self.row.shape, Shape::Handshake { resumed: true, .. }) {
            ensure!(full * 20 < done, "{full} of {done} TLS sessions did not resume");
        }
        Ok(Outcome {
            figures: vec![used_ns as f64 / 1e3 / (done as f64 * units)],
            cores_of_others: others_ns / began.elapsed().as_nanos() as f64,
            note: None,
        })
    }

    /// Microseconds that the way through the proxy adds to the median, and to the 99th percentile.
    async fn latency(&self, backend: u16) -> Result<Outcome> {
        let Shape::Latency { connections, .. } = self.row.shape else { bail!("not a row of latency") };
        let mut trips = [[0.0; 2]; 2];
        for (trips, (port, tls)) in trips.iter_mut().zip([(backend, false), (self.port, self.row.tls)]) {
            let mut load = self.load(port, tls)?;
            load.order(&format!("open {connections}")).await?;
            load.order("start").await?;
            tokio::time::sleep(self.pace.warm_up).await;
            load.order("reset").await?;
            tokio::time::sleep(self.pace.window).await;
            *trips = [load.order("p50").await? as f64 / 1e3, load.order("p99").await? as f64 / 1e3];
        }
        let [direct, through] = trips;
        let note = format!("straight to the backend p50 {:.0} µs, p99 {:.0} µs", direct[0], direct[1]);
        let figures = vec![through[0] - direct[0], through[1] - direct[1]];
        Ok(Outcome { figures, cores_of_others: 0.0, note: Some(note) })
    }

    /// Bytes for each connection that was added between the first number of them and the last; then milliseconds of CPU
    /// a second.
    async fn idle(&self) -> Result<Outcome> {
        let mut load = self.load(self.port, self.row.tls)?;
        let mut readings = Vec::new();
        for connections in self.pace.idle {
            load.order(&format!("open {connections}")).await?;
            tokio::time::sleep(self.pace.settle).await;
            readings.push((*connections as f64, self.proxy.family()?.anonymous_bytes()? as f64));
        }
        let slope = |from: (f64, f64), to: (f64, f64)| (to.1 - from.1) / (to.0 - from.0);
        let (Some(first), Some(last)) = (readings.first(), readings.last()) else { bail!("no connections to open") };
        let steps: Vec<String> =
            readings.windows(2).map(|step| format!("{:.0} up to {}", slope(step[0], step[1]), step[1].0)).collect();
        let before = self.proxy.family()?.cpu()?;
        let began = Instant::now();
        tokio::time::sleep(self.pace.window * 3).await;
        let cpu_ms = self.proxy.family()?.cpu()?.ns_since(&before) as f64 / 1e6;
        Ok(Outcome {
            figures: vec![slope(*first, *last), cpu_ms / began.elapsed().as_secs_f64()],
            cores_of_others: 0.0,
            note: Some(format!("bytes a connection: {}", steps.join(", "))),
        })
    }

    /// Milliseconds of CPU that an edit costs beside the messages that pass; then milliseconds until it is live.
    async fn swap(&self, contestant: Contestant, mut setup: Setup<'_>, folder: &Path) -> Result<Outcome> {
        let Shape::Swap { connections, .. } = self.row.shape else { bail!("not a row of edits") };
        let mut load = self.load(self.port, self.row.tls)?;
        load.order(&format!("open {connections}")).await?;
        load.order("start").await?;
        tokio::time::sleep(self.pace.warm_up).await;
        // Asked anew at each end: a reload starts processes. None ends, for each has connections.
        let cpu = || self.proxy.family()?.cpu();
        let since = |before| Ok::<_, Error>(cpu()?.ns_since(before) as f64 / 1e6);
        let (before, began) = (cpu()?, Instant::now());
        tokio::time::sleep(self.pace.window).await;
        let per_second = since(&before)? / began.elapsed().as_secs_f64();
        load.order("reset").await?;
        let (before, began) = (cpu()?, Instant::now());
        let mut waited = Duration::ZERO;
        for edition in 1..=self.pace.edits {
            setup.edition = edition;
            let edited = Instant::now();
            contestant.edit(self.proxy, &setup, self.port, folder)?;
            live(self.port, &edition_host(edition), "", false).await?;
            waited += edited.elapsed();
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        let edits = f64::from(self.pace.edits);
        let cost = (since(&before)? - per_second * began.elapsed().as_secs_f64()) / edits;
        let p99 = load.order("p99").await? as f64 / 1e3;
        Ok(Outcome {
            figures: vec![cost, waited.as_secs_f64() * 1e3 / edits],
            cores_of_others: 0.0,
            note: Some(format!("meanwhile p99 of a round trip {p99:.0} µs, no connection lost")),
        })
    }

    /// Starts the load process for the row.
    fn load(&self, port: u16, tls: bool) -> Result<Role> {
        let mut arguments = vec!["load".to_owned(), format!("--to=127.0.0.1:{port}")];
        arguments.extend(match self.row.shape {
            Shape::Handshake { at_once, .. } => vec!["--work=handshake".to_owned(), format!("--in-flight={at_once}")],
            Shape::Idle => vec!["--work=echo".to_owned()],
            Shape::Latency { per_second, .. } | Shape::Swap { per_second, .. } => {
                vec!["--work=paced".to_owned(), format!("--per-second={per_second}")]
            }
            Shape::Relay { in_flight, payload_bytes, .. } => vec![
                "--work=echo".to_owned(),
                format!("--in-flight={in_flight}"),
                format!("--payload-bytes={payload_bytes}"),
            ],
        });
        if tls {
            arguments.push("--tls".to_owned());
        }
        if matches!(self.row.shape, Shape::Handshake { resumed: true, .. }) {
            arguments.push("--resume".to_owned());
        }
        if let Some(header) = self.asked.map(|asked| asked.header).filter(|header| !header.is_empty()) {
            arguments.push(format!("--header={header}"));
        }
        let hosts = self.row.routes().max(usize::from(self.asked.is_some()));
        Role::start(&[arguments, vec![format!("--hosts={hosts}")]].concat())
    }
}

/// Waits until the host is routed: until a handshake gets 101.
async fn live(port: u16, host: &str, header: &str, tls: bool) -> Result<()> {
    if tls {
        return Ok(());
    }
    let more = if header.is_empty() { String::new() } else { format!("{header}\r\n") };
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
    );
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut answer = [0; 12];
    while Instant::now() < deadline {
        let asked = async {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
            stream.write_all(request.as_bytes()).await?;
            stream.read_exact(&mut answer).await
        };
        if asked.await.is_ok() && answer.ends_with(b" 101") {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    bail!("{host} is not routed after 30 s; the last answer began with {:?}", String::from_utf8_lossy(&answer))
}
