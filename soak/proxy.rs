//! A Sheave as a process: its start, its records, what it holds when idle, and its stop.

use crate::client::get;
use crate::ledger::Which;
use crate::world::{Ports, World};
use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// How long it may take to start, to become idle or to stop.
const PATIENCE: Duration = Duration::from_secs(90);

/// What the records say.
#[derive(Debug, Default)]
pub(crate) struct Records {
    pub(crate) opened: u64,
    pub(crate) closed: u64,
    pub(crate) reasons: BTreeMap<String, u64>,
    /// The last record of each client that was not taken yet.
    last: HashMap<SocketAddr, String>,
    /// What it should never have said.
    pub(crate) troubles: Vec<String>,
}

/// What a process holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holdings {
    pub(crate) tasks: u64,
    pub(crate) sessions: u64,
    pub(crate) descriptors: u64,
    pub(crate) threads: u64,
    /// Resident, in KiB.
    pub(crate) memory: u64,
}

/// A running Sheave. Dropping it kills it.
pub(crate) struct Sheave {
    child: Child,
    pid: u32,
    ports: Ports,
    records: Arc<Mutex<Records>>,
    reading: JoinHandle<()>,
    /// What it holds before its first client.
    pub(crate) empty: Holdings,
}

impl Sheave {
    /// Starts one and waits until it serves.
    ///
    /// # Errors
    /// It does not come to serve.
    pub(crate) async fn start(world: &World, which: Which) -> Result<Self> {
        let ports = world.ports(which);
        let mut command = Command::new(env!("CARGO_BIN_EXE_sheave"));
        command.arg("serve").arg(world.objects.path());
        command.args(["--listen", &format!("127.0.0.1:{}", ports.ws)]);
        command.args(["--listen-tls", &format!("127.0.0.1:{}", ports.wss)]);
        command.args(["--admin", &format!("127.0.0.1:{}", ports.admin)]);
        command.args(["--workers", "2", "--log-open", "--log-format", "json"]).env_remove("SHEAVE_LOG");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().context("the program does not start")?;
        let pid = child.id().context("a process that was not waited for has an id")?;
        let records = Arc::<Mutex<Records>>::default();
        let stderr = child.stderr.take().context("stderr is piped")?;
        let reading = tokio::spawn(read(stderr, Arc::clone(&records)));
        let empty = Holdings { tasks: 0, sessions: 0, descriptors: 0, threads: 0, memory: 0 };
        let mut sheave = Self { child, pid, ports, records, reading, empty };
        let deadline = Instant::now() + PATIENCE;
        while get(ports.admin, "/readyz").await.is_err() {
            ensure!(Instant::now() < deadline, "Sheave does not serve: {:?}", sheave.records().troubles);
            ensure!(sheave.child.try_wait()?.is_none(), "Sheave ended: {:?}", sheave.records().troubles);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        sheave.empty = sheave.settled(None).await?;
        Ok(sheave)
    }

    pub(crate) fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How to look a client's record up for as long as the run takes.
    pub(crate) fn record_book(&self) -> RecordBook {
        RecordBook(Arc::clone(&self.records))
    }

    /// What it holds now.
    async fn holdings(&self) -> Result<Holdings> {
        let metrics = get(self.ports.admin, "/metrics").await?;
        #[allow(clippy::cast_sign_loss)] // these are counts
        let sum = |family: &str| -> u64 {
            let samples = metrics.lines().filter_map(|line| line.strip_prefix(family));
            let samples = samples.filter(|rest| rest.starts_with(['{', ' ']));
            samples.filter_map(|rest| rest.rsplit_once(' ')?.1.parse::<f64>().ok()).sum::<f64>() as u64
        };
        let listed: serde_json::Value = serde_json::from_str(&get(self.ports.admin, "/sessions").await?)?;
        let listed = listed["total"].as_u64().context("/sessions has a total")?;
        let counted = sum("sheave_connections_active") + sum("sheave_backend_connections_active");
        let of = |what: &str| format!("/proc/{}/{what}", self.pid);
        let status = std::fs::read_to_string(of("status"))?;
        let resident =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok());
        Ok(Holdings {
            tasks: sum("sheave_tasks"),
            sessions: listed.max(counted),
            descriptors: std::fs::read_dir(of("fd"))?.count() as u64,
            threads: std::fs::read_dir(of("task"))?.count() as u64,
            memory: resident.context("the kernel says how much is resident")?,
        })
    }

    /// Waits until it holds no more than when it was `empty` (or the same twice, when that is not known), and gives what
    /// it holds; when it never comes to that, what it still holds.
    ///
    /// # Errors
    /// It does not answer.
    pub(crate) async fn settled(&self, empty: Option<Holdings>) -> Result<Holdings> {
        let deadline = Instant::now() + PATIENCE / 3;
        let mut before = None;
        loop {
            let now = self.holdings().await?;
            let known = |h: &Holdings| (h.tasks, h.sessions, h.descriptors, h.threads);
            let is_settled = match empty {
                Some(empty) => {
                    now.sessions == 0
                        && now.tasks <= empty.tasks
                        && now.descriptors <= empty.descriptors
                        && now.threads <= empty.threads
                }
                None => before.as_ref().map(known) == Some(known(&now)),
            };
            if is_settled || Instant::now() > deadline {
                return Ok(now);
            }
            before = Some(now);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Sends SIGTERM and waits for the end, then for the last record.
    ///
    /// # Errors
    /// It did not end well, or not in time.
    pub(crate) async fn stop(mut self) -> Result<Records> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw).context("a process id")?;
        kill_process(pid, Signal::TERM)?;
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await.context("it does not end")??;
        ensure!(status.success(), "it ended with {status}");
        self.reading.await.context("its log can be read")?;
        Ok(std::mem::take(&mut *self.records.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// The records of one process, for those that outlive their interest in the process itself.
#[derive(Clone, Default)]
pub(crate) struct RecordBook(Arc<Mutex<Records>>);

impl RecordBook {
    /// Takes the last record of a client.
    pub(crate) fn take(&self, client: SocketAddr) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).last.remove(&client)
    }
}

/// Reads the log to its end.
async fn read(stderr: ChildStderr, records: Arc<Mutex<Records>>) {
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let parsed = serde_json::from_str::<serde_json::Value>(&line);
        let mut records = records.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(record) = parsed else {
            records.troubles.push(line); // a panic is no JSON
            continue;
        };
        let text = |name: &str| record[name].as_str().unwrap_or_default().to_owned();
        match record["event"].as_str() {
            Some("open") => records.opened += 1,
            Some("close") => {
                records.closed += 1;
                *records.reasons.entry(text("reason")).or_default() += 1;
                // Both our ends answer every Close, so nobody has to be cut.
                if record["forced"] == true {
                    records.troubles.push(line.clone());
                }
            }
            Some("reject") => {}
            _ => {
                let severe = record["level"].as_str() == Some("ERROR") || line.contains("out of time");
                if severe {
                    records.troubles.push(line);
                }
                continue;
            }
        }
        if let Ok(client) = text("client.address").parse() {
            records.last.insert(client, line);
        }
    }
}
