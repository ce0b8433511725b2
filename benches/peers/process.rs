//! Child processes that never outlive the run, and the ports they are given.
//!
//! Every child is owned by a value whose drop ends it, so an error, a panic and
//! an interrupt (which drops the run's future) all clean up the same way.

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::cpu::Family;

/// Descriptors that 9,000 proxied connections need, with room: two each.
const DESCRIPTORS: u64 = 20_000;

/// How long a proxy may take to listen, and an order to be answered.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a proxy may take to end when told to.
const FAREWELL: Duration = Duration::from_secs(2);

/// Raises the soft limit on descriptors, which children inherit.
///
/// # Errors
/// The hard limit is too low; the message says what to do.
pub(crate) fn allow_descriptors() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|soft| soft >= DESCRIPTORS) {
        return Ok(());
    }
    let wanted = Rlimit { current: Some(DESCRIPTORS), maximum: limit.maximum };
    setrlimit(Resource::Nofile, wanted)
        .with_context(|| format!("cannot have {DESCRIPTORS} descriptors: raise `ulimit -Hn`"))
}

/// Finds a free port of 127.0.0.1 below the range that the kernel hands out for
/// outgoing connections, so that no connection of the run can take it.
pub(crate) fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(21_000);
    loop {
        let port = NEXT.fetch_add(1, Ordering::Relaxed);
        if port >= 32_000 {
            bail!("no free port between 21000 and 32000");
        }
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
}

/// A running proxy. Dropping it ends it and all its workers.
pub(crate) struct Proxy {
    child: Child,
    root: u32,
    log: PathBuf,
}

impl Proxy {
    /// Starts a proxy and waits until it accepts on every port of `ports`.
    ///
    /// # Errors
    /// It ended, or did not listen in time; the message has its last words.
    pub(crate) async fn start(mut command: Command, ports: &[u16], log: PathBuf) -> Result<Self> {
        let sink = std::fs::File::create(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(sink.try_clone()?)
            .stderr(sink)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", command.as_std().get_program().display()))?;
        let root = child.id().context("a child that was not waited for has an id")?;
        let mut proxy = Self { child, root, log };
        let deadline = Instant::now() + PATIENCE;
        for port in ports {
            while TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).await.is_err() {
                if let Some(status) = proxy.child.try_wait()? {
                    bail!("ended with {status}: {}", proxy.last_words());
                }
                if Instant::now() > deadline {
                    bail!("does not listen on port {port}: {}", proxy.last_words());
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        Ok(proxy)
    }

    /// The proxy's processes. Ask once it has relayed something: nginx listens
    /// before it starts its workers.
    pub(crate) fn family(&self) -> Result<Family> {
        Family::of(self.root)
    }

    /// Sends the process that was started a signal.
    pub(crate) fn signal(&self, which: Signal) {
        signal(self.root, which);
    }

    /// The last line that the proxy printed.
    pub(crate) fn last_words(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        log.trim().lines().last().unwrap_or("(nothing printed)").to_owned()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if self.child.id().is_none() {
            return;
        }
        let family = self.family().ok();
        signal(self.root, Signal::TERM);
        let deadline = Instant::now() + FAREWELL;
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        for pid in family.as_ref().map_or(&[][..], Family::pids) {
            signal(*pid, Signal::KILL);
        }
    }
}

/// Signals a process of ours; one that is gone already is as wanted.
fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// This binary again, in another role, obeying one line at a time. It ends
/// itself when its standard input does, that is, when this value is dropped.
pub(crate) struct Role {
    _child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Role {
    /// Starts this binary with the arguments of a role.
    pub(crate) fn start(arguments: &[String]) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        Ok(Self {
            orders: child.stdin.take().context("stdin was piped")?,
            answers: BufReader::new(child.stdout.take().context("stdout was piped")?),
            _child: child,
        })
    }

    /// Gives an order and reads the number that answers it.
    pub(crate) async fn order(&mut self, order: &str) -> Result<u64> {
        let line = format!("{order}\n");
        // A process that has ended reads nothing; `answer` then says so.
        let _ = self.orders.write_all(line.as_bytes()).await;
        self.answer().await
    }

    /// Reads a number.
    ///
    /// # Errors
    /// The process ended, or took longer than a minute.
    pub(crate) async fn answer(&mut self) -> Result<u64> {
        let mut line = String::new();
        let read = self.answers.read_line(&mut line);
        if tokio::time::timeout(PATIENCE, read).await.context("no answer in a minute")?? == 0 {
            bail!("the load process gave up; its reason is printed above");
        }
        Ok(line.trim().parse()?)
    }
}
