//! Many sockets that exchange numbered messages, each with an account of its own: what it sent, what came back and
//! in which order, and how it ended.

use super::Ending;
use super::dial::{Refused, Socket, Target};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

/// How many handshakes are under way at a time.
const OPENING: usize = 32;

/// The account of one socket.
#[derive(Clone, Debug)]
pub struct Report {
    /// Its id at the backend.
    pub id: String,
    /// The pod it was led to.
    pub pod: String,
    /// Messages handed to the connection before its end.
    pub sent: u64,
    /// Echoes that came back in order.
    pub echoed: u64,
    /// Messages that came twice, out of order or altered.
    pub faults: Vec<String>,
    /// How it ended.
    pub ending: Ending,
    /// Whether we had asked for the end.
    pub asked: bool,
}

/// Sockets under way.
pub struct Fleet {
    sockets: Vec<JoinHandle<Report>>,
    stop: watch::Sender<bool>,
    open: Arc<AtomicUsize>,
    echoes: Arc<AtomicU64>,
}

struct Ship {
    id: String,
    every: Duration,
    stop: watch::Receiver<bool>,
    open: Arc<AtomicUsize>,
    echoes: Arc<AtomicU64>,
}

impl Fleet {
    /// Opens `size` sockets with ids `TAG-0`, `TAG-1`, ..., each of which sends a message `every` so often. Fails on
    /// the first handshake that does.
    pub async fn open(target: &Target, tag: &str, size: usize, every: Duration) -> Result<Self> {
        Self::across(&[(target.clone(), "/".to_owned())], tag, size, every).await
    }

    /// As [`Fleet::open`], over several targets in turn; with each, the path that its handshakes ask for.
    pub async fn across(targets: &[(Target, String)], tag: &str, size: usize, every: Duration) -> Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let (open, echoes) = <(Arc<AtomicUsize>, Arc<AtomicU64>)>::default();
        let gate = Arc::new(Semaphore::new(OPENING));
        let mut opening = Vec::with_capacity(size);
        for number in 0..size {
            let id = format!("{tag}-{number}");
            let (target, path) = &targets[number % targets.len()];
            let mark = if path.contains('?') { '&' } else { '?' };
            let target = target.clone().path(format!("{path}{mark}id={id}&hello"));
            let (stop, open, echoes) = (stopped.clone(), Arc::clone(&open), Arc::clone(&echoes));
            let (ship, gate) = (Ship { id, every, stop, open, echoes }, Arc::clone(&gate));
            opening.push(tokio::spawn(async move {
                let _turn = gate.acquire().await;
                target.open().await.map(|socket| tokio::spawn(ship.sail(socket)))
            }));
        }
        let mut sockets = Vec::with_capacity(size);
        let mut refused: Option<Refused> = None;
        for one in opening {
            match one.await.context("a handshake panicked")? {
                Ok(socket) => sockets.push(socket),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        if let Some(refused) = refused {
            let opened = sockets.len();
            return Err(refused).with_context(|| format!("{tag}: {opened} of {size} handshakes got their 101"));
        }
        Ok(Self { sockets, stop, open, echoes })
    }

    /// How many have not ended.
    pub fn alive(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// How many echoes have come back, over all.
    pub fn echoes(&self) -> u64 {
        self.echoes.load(Ordering::Relaxed)
    }

    /// Closes what is open with 1000 and returns every account.
    pub async fn stop(self) -> Result<Accounts> {
        self.stop.send_replace(true);
        self.ended(Duration::from_secs(60)).await
    }

    /// Waits until every socket has ended and returns every account.
    pub async fn ended(self, ceiling: Duration) -> Result<Accounts> {
        let deadline = Instant::now() + ceiling;
        let mut reports = Vec::with_capacity(self.sockets.len());
        for socket in self.sockets {
            let left = deadline.saturating_duration_since(Instant::now());
            let report = tokio::time::timeout(left.max(Duration::from_millis(1)), socket).await;
            let open = self.open.load(Ordering::Relaxed);
            let report = report.with_context(|| format!("{open} sockets are still open after {ceiling:?}"))?;
            reports.push(report.context("a socket panicked")?);
        }
        Ok(Accounts(reports))
    }
}

impl Ship {
    async fn sail(mut self, mut socket: Socket) -> Report {
        self.open.fetch_add(1, Ordering::Relaxed);
        let pod = socket.hello().await.map(|hello| hello.pod);
        let (pod, mut faults) = match pod {
            Ok(pod) => (pod, Vec::new()),
            Err(error) => (String::new(), vec![format!("no hello: {error:#}")]),
        };
        let (mut sent, mut echoed, mut asked) = (0, 0, false);
        // A phase of its own for each, or all would send in the same millisecond.
        let phase = self.every.mul_f64(fastrand::f64());
        let mut turn = tokio::time::interval_at((Instant::now() + phase).into(), self.every);
        let ending = loop {
            tokio::select! {
                next = socket.next() => match next {
                    Ok(message) if message.is_text() || message.is_binary() => {
                        if message == Message::text(format!("{} {}", self.id, echoed + 1)) {
                            echoed += 1;
                            self.echoes.fetch_add(1, Ordering::Relaxed);
                        } else {
                            faults.push(format!("after echo {echoed} came {message:?}"));
                        }
                    }
                    Ok(_) => {}
                    Err(ending) => break ending,
                },
                _ = turn.tick(), if !asked => {
                    if let Err(error) = socket.send(Message::text(format!("{} {}", self.id, sent + 1))).await {
                        break Ending { code: 1006, reason: format!("sending: {error:#}"), at: Instant::now() };
                    }
                    sent += 1;
                }
                // Asked to stop: no more messages; the Close goes out when every echo is back.
                () = told(&mut self.stop), if !asked => asked = true,
            }
            if asked && sent == echoed {
                let close = CloseFrame { code: 1000.into(), reason: "".into() };
                if let Err(error) = socket.send(Message::Close(Some(close))).await {
                    break Ending { code: 1006, reason: format!("closing: {error:#}"), at: Instant::now() };
                }
                break loop {
                    if let Err(ending) = socket.next().await {
                        break ending;
                    }
                };
            }
        };
        socket.leave().await;
        self.open.fetch_sub(1, Ordering::Relaxed);
        Report { id: self.id, pod, sent, echoed, faults, ending, asked }
    }
}

/// Waits until the fleet is to stop.
async fn told(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        // The fleet is awaited to its own end.
        std::future::pending::<()>().await;
    }
}

/// Every account of a fleet.
#[derive(Clone, Debug)]
pub struct Accounts(pub Vec<Report>);

impl Accounts {
    /// How many ended with which code.
    pub fn codes(&self) -> BTreeMap<u16, usize> {
        let mut codes = BTreeMap::new();
        for report in &self.0 {
            *codes.entry(report.ending.code).or_default() += 1;
        }
        codes
    }

    /// Fails unless each ended with one of these codes.
    pub fn ended_with(&self, codes: &[u16]) -> Result<()> {
        let odd = self.0.iter().find(|report| !codes.contains(&report.ending.code));
        ensure!(odd.is_none(), "ends by code {:?}, wanted only {codes:?}; one of them: {odd:?}", self.codes());
        Ok(())
    }

    /// Fails on any message that came twice, out of order or altered.
    pub fn in_order(&self) -> Result<()> {
        let faulty = self.0.iter().find(|report| !report.faults.is_empty());
        ensure!(faulty.is_none(), "messages were not in order: {faulty:?}");
        Ok(())
    }

    /// Fails unless every message came back, each socket stayed open until we closed it, and each did something.
    pub fn undisturbed(&self) -> Result<()> {
        self.in_order()?;
        let odd = self.0.iter().find(|report| {
            !report.asked || report.ending.code != 1000 || report.sent != report.echoed || report.sent == 0
        });
        ensure!(odd.is_none(), "a socket was disturbed: {odd:?}; ends by code: {:?}", self.codes());
        Ok(())
    }

    /// Ends per second since the first one, and the seconds from the first to the last.
    pub fn spread(&self) -> (Vec<usize>, f64) {
        let Some(first) = self.0.iter().map(|report| report.ending.at).min() else { return (Vec::new(), 0.0) };
        let mut seconds: Vec<usize> = Vec::new();
        let mut last = 0.0_f64;
        for report in &self.0 {
            let after = report.ending.at.duration_since(first);
            let second = usize::try_from(after.as_secs()).unwrap_or(usize::MAX);
            if seconds.len() <= second {
                seconds.resize(second + 1, 0);
            }
            seconds[second] += 1;
            last = last.max(after.as_secs_f64());
        }
        (seconds, last)
    }

    /// The most ends within any one second, wherever it begins.
    pub fn busiest_second(&self) -> usize {
        let mut times: Vec<Instant> = self.0.iter().map(|report| report.ending.at).collect();
        times.sort();
        let mut first = 0;
        let mut most = 0;
        for (last, time) in times.iter().enumerate() {
            while time.duration_since(times[first]) >= Duration::from_secs(1) {
                first += 1;
            }
            most = most.max(last - first + 1);
        }
        most
    }
}
