//! How one figure comes about: one contestant, one row, once.
//!
//! Every trial has a fresh proxy to itself, so that no row inherits another
//! one's heap, caches or sockets, and only one proxy runs at any time.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, ensure};

use crate::cpu::{Family, machine_ns};
use crate::process::{Proxy, Role};
use crate::rivals::{Contestant, Setup};
use crate::row::{Row, Shape};

/// How long and how much; the same for all contestants of a run.
pub(crate) struct Pace {
    /// Work before the measured window, to fill caches and heaps.
    pub(crate) warm_up: Duration,
    /// The measured window.
    pub(crate) window: Duration,
    /// Idle connections at the two ends of the slope.
    pub(crate) idle: [usize; 2],
    /// From the last round trip to the reading of memory.
    pub(crate) settle: Duration,
    /// Worker threads or processes of each proxy.
    pub(crate) workers: usize,
}

/// What a trial found.
pub(crate) struct Outcome {
    /// In the row's unit.
    pub(crate) figure: f64,
    /// Cores that work of others kept busy meanwhile: such a figure is too high,
    /// since caches and turns were shared. Always 0 for memory.
    pub(crate) cores_of_others: f64,
}

/// Runs the trial.
///
/// # Errors
/// The proxy did not start, ended, cut a connection or changed a message.
pub(crate) async fn run(
    row: &Row,
    contestant: Contestant,
    pace: &Pace,
    backend: u16,
    folder: &Path,
) -> Result<Outcome> {
    let setup = Setup { backend, tls: row.tls, workers: pace.workers, buffers: row.buffers() };
    let (proxy, port) = contestant.start(&setup, folder).await?;
    let measured = match row.shape {
        Shape::Idle => idle(row, pace, &proxy, port).await,
        Shape::Handshake { .. } | Shape::Relay { .. } => busy(row, pace, &proxy, port).await,
    };
    measured.with_context(|| format!("its log ends with: {}", proxy.last_words()))
}

/// CPU in microseconds for each unit of work done in the window.
async fn busy(row: &Row, pace: &Pace, proxy: &Proxy, port: u16) -> Result<Outcome> {
    // Units in one thing that the load counts; see the convention in `row`.
    let (connections, units) = match row.shape {
        Shape::Relay { connections, payload_bytes, per_megabyte: true, .. } => {
            (connections, 2.0 * payload_bytes as f64 / 1e6)
        }
        Shape::Relay { connections, .. } => (connections, 2.0),
        Shape::Handshake { .. } | Shape::Idle => (0, 1.0),
    };
    let mut load = load(row, port)?;
    load.order(&format!("open {connections}")).await?;
    load.order("start").await?;
    tokio::time::sleep(pace.warm_up).await;
    let family = proxy.family()?;
    let ours = Family::of(std::process::id())?;
    let others = || Ok::<_, Error>(machine_ns()? as f64 - ours.cpu_ns()? as f64);
    let others_before = others()?;
    let began = Instant::now();
    // CPU first and count second at both ends, so that the lag cancels out.
    let cpu_before = family.cpu_ns()?;
    let done_before = load.order("count").await?;
    tokio::time::sleep(pace.window).await;
    let cpu_after = family.cpu_ns()?;
    let done = load.order("count").await? - done_before;
    let others_ns = others()? - others_before;
    ensure!(done > 0, "no work was done in the window");
    ensure!(cpu_after > cpu_before, "the proxy's processes did none of the work");
    Ok(Outcome {
        figure: (cpu_after - cpu_before) as f64 / 1e3 / (done as f64 * units),
        cores_of_others: others_ns / began.elapsed().as_nanos() as f64,
    })
}

/// Bytes for each connection that was added between the two numbers of them.
async fn idle(row: &Row, pace: &Pace, proxy: &Proxy, port: u16) -> Result<Outcome> {
    let mut load = load(row, port)?;
    let mut bytes = [0.0; 2];
    for (connections, bytes) in pace.idle.iter().zip(&mut bytes) {
        load.order(&format!("open {connections}")).await?;
        tokio::time::sleep(pace.settle).await;
        *bytes = proxy.family()?.anonymous_bytes()? as f64;
    }
    Ok(Outcome { figure: (bytes[1] - bytes[0]) / (pace.idle[1] - pace.idle[0]) as f64, cores_of_others: 0.0 })
}

/// Starts the load process for a row.
fn load(row: &Row, port: u16) -> Result<Role> {
    let mut arguments = vec!["load".to_owned(), format!("--to=127.0.0.1:{port}")];
    match row.shape {
        Shape::Handshake { at_once } => {
            arguments.extend(["--work=handshake".to_owned(), format!("--in-flight={at_once}")]);
        }
        Shape::Idle => arguments.push("--work=echo".to_owned()),
        Shape::Relay { in_flight, payload_bytes, .. } => arguments.extend([
            "--work=echo".to_owned(),
            format!("--in-flight={in_flight}"),
            format!("--payload-bytes={payload_bytes}"),
        ]),
    }
    if row.tls {
        arguments.push("--tls".to_owned());
    }
    Role::start(&arguments)
}
