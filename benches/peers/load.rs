//! The client side of a measurement: opens connections and keeps them busy.
//!
//! Runs in its own process (`peers load ...`), one thread for the sockets and
//! one for its orders. An order is one line on standard input:
//! - `open N` opens connections until N are up, each with one verified echo,
//!   and answers the number;
//! - `start` sets them (or the handshake loops) to work and answers 0;
//! - `count` answers what was done so far;
//! - `full` answers how many TLS handshakes resumed nothing;
//! - `reset` forgets the round trips so far and answers 0; `p50` and `p99`
//!   answer what half and one in a hundred of those since exceeded, in ns.
//!
//! It counts, and takes the time of round trips: CPU is read by `trial`. Any surprise
//! (a lost connection, a wrong echo) ends the process, and so fails the trial.

use std::io::{self, BufRead};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs as provider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, HandshakeKind, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::MissedTickBehavior;
use tokio_rustls::TlsConnector;

use crate::frame::{self, Frame, Inbox};
use crate::rivals::host;

/// Key and answer of the example in RFC 6455 §1.3; both ends trust each other.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Handshakes under way at once while connections are being opened.
const OPENING: usize = 64;

/// What a load process does.
#[derive(Args, Clone)]
pub(crate) struct Load {
    /// Address of the proxy.
    #[arg(long)]
    pub(crate) to: SocketAddr,
    /// Speak TLS.
    #[arg(long)]
    pub(crate) tls: bool,
    /// What `start` sets going, and what is counted.
    #[arg(long)]
    pub(crate) work: Work,
    /// Messages in flight on each connection, or handshakes at once.
    #[arg(long, default_value_t = 1)]
    pub(crate) in_flight: usize,
    /// Payload of a message in bytes.
    #[arg(long, default_value_t = 128)]
    pub(crate) payload_bytes: usize,
    /// Messages a second over all connections, for `paced`.
    #[arg(long, default_value_t = 0)]
    pub(crate) per_second: usize,
    /// Ask for one of so many hosts, by turns; 0 for the address.
    #[arg(long, default_value_t = 0)]
    pub(crate) hosts: usize,
    /// Resume TLS sessions.
    #[arg(long)]
    pub(crate) resume: bool,
    /// One more header line of each handshake.
    #[arg(long, value_name = "NAME: VALUE")]
    pub(crate) header: Option<String>,
}

/// The kinds of work.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Work {
    /// Messages over open connections; an echo that came back counts one.
    Echo,
    /// Connect, upgrade, close, again and again; each cycle counts one.
    Handshake,
    /// One message at a time on each connection, at a fixed rate; an echo that came back counts one.
    Paced,
}

/// What all tasks of the process share.
struct Shared {
    load: Load,
    tls: TlsConnector,
    done: AtomicU64,
    full: AtomicU64,
    asked: AtomicUsize,
    connections: AtomicUsize,
    trips: Mutex<Vec<u32>>,
    message: Vec<u8>,
    payload: Vec<u8>,
}

impl Shared {
    /// The round trips that were timed, in nanoseconds.
    fn trips(&self) -> MutexGuard<'_, Vec<u32>> {
        self.trips.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next handshake.
    fn request(&self) -> String {
        let Load { to, hosts, header, .. } = &self.load;
        let host = match hosts {
            0 => to.to_string(),
            // Far from the last one, so that no cache of the proxy is flattered.
            _ => host(self.asked.fetch_add(1, Ordering::Relaxed).wrapping_mul(2_654_435_761) % hosts),
        };
        let more = header.as_ref().map_or(String::new(), |line| format!("{line}\r\n"));
        format!(
            "GET / HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
        )
    }
}

/// A plain or encrypted stream; one box a connection costs only this process.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Obeys orders until standard input ends.
pub(crate) async fn run(load: Load) -> Result<()> {
    let payload: Vec<u8> = (0..load.payload_bytes).map(|at| (at % 251) as u8).collect();
    let mut message = Vec::new();
    frame::write_client(&mut message, frame::BINARY, &payload);
    let tls = connector(load.resume)?;
    let (done, full, asked, connections) = Default::default();
    let shared =
        Arc::new(Shared { tls, done, full, asked, connections, trips: Mutex::default(), load, message, payload });
    let mut orders = orders();
    let (start, started) = watch::channel(false);
    let mut open = 0;
    while let Some(order) = orders.recv().await {
        if let Some(wanted) = order.strip_prefix("open ") {
            open = open_until(open, wanted.parse()?, &shared, &started).await?;
            shared.connections.store(open, Ordering::Relaxed);
            println!("{open}");
        } else if order == "start" {
            if shared.load.work == Work::Handshake {
                for _ in 0..shared.load.in_flight {
                    tokio::spawn(or_exit(handshakes(Arc::clone(&shared))));
                }
            }
            start.send_replace(true);
            println!("0");
        } else if order == "count" {
            println!("{}", shared.done.load(Ordering::Relaxed));
        } else if order == "full" {
            println!("{}", shared.full.load(Ordering::Relaxed));
        } else if order == "reset" {
            shared.trips().clear();
            println!("0");
        } else if let Some(percent) = order.strip_prefix('p').and_then(|number| number.parse::<usize>().ok()) {
            let mut trips = std::mem::take(&mut *shared.trips());
            trips.sort_unstable();
            println!("{}", trips.get(trips.len() * percent / 100).copied().unwrap_or_default());
            *shared.trips() = trips;
        } else {
            bail!("no such order: {order}");
        }
    }
    Ok(())
}

/// Reads orders on a thread of their own, since files cannot be polled.
fn orders() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

/// Opens connections until `wanted` are up and each has echoed once.
async fn open_until(
    open: usize,
    wanted: usize,
    shared: &Arc<Shared>,
    started: &watch::Receiver<bool>,
) -> Result<usize> {
    let permits = Arc::new(Semaphore::new(OPENING));
    let (up, mut all_up) = mpsc::channel::<()>(1);
    for _ in open..wanted {
        let permit = Arc::clone(&permits).acquire_owned().await?;
        let (shared, started, up) = (Arc::clone(shared), started.clone(), up.clone());
        tokio::spawn(or_exit(async move {
            let mut connection = Connection::open(&shared).await?;
            connection.first_echo(&shared).await?;
            drop((permit, up));
            connection.work(&shared, started).await
        }));
    }
    drop(up);
    // Nothing is ever sent: the channel ends when the last task is up.
    all_up.recv().await;
    Ok(wanted.max(open))
}

/// Opens and closes connections for ever.
async fn handshakes(shared: Arc<Shared>) -> Result<()> {
    let mut farewell = Vec::new();
    frame::write_client(&mut farewell, frame::CLOSE, &1000_u16.to_be_bytes());
    loop {
        let mut connection = Connection::open(&shared).await?;
        connection.send(&farewell).await?;
        let answer = connection.next_frame().await?;
        ensure!(answer.opcode == frame::CLOSE, "expected a Close, got {}", answer.opcode);
        // The server side ends the TCP connection (RFC 6455 §7.1.1). Some
        // proxies end TLS without close_notify; that is an error here, and an end.
        while connection.inbox.fill(&mut connection.stream).await.is_ok() {}
        shared.done.fetch_add(1, Ordering::Relaxed);
    }
}

/// Runs a task of which no failure may pass unseen.
async fn or_exit(task: impl Future<Output = Result<()>>) {
    if let Err(error) = task.await {
        eprintln!("load: {error:#}");
        std::process::exit(1);
    }
}

/// One open WebSocket.
struct Connection {
    stream: Box<dyn Stream>,
    inbox: Inbox,
}

impl Connection {
    /// Connects and upgrades.
    async fn open(shared: &Shared) -> Result<Self> {
        let tcp = TcpStream::connect(shared.load.to).await.context("connect")?;
        tcp.set_nodelay(true)?;
        let mut stream: Box<dyn Stream> = if shared.load.tls {
            let name = ServerName::try_from("localhost")?;
            let stream = shared.tls.connect(name, tcp).await.context("TLS handshake")?;
            if stream.get_ref().1.handshake_kind() != Some(HandshakeKind::Resumed) {
                shared.full.fetch_add(1, Ordering::Relaxed);
            }
            Box::new(stream)
        } else {
            Box::new(tcp)
        };
        stream.write_all(shared.request().as_bytes()).await?;
        stream.flush().await?;
        let mut inbox = Inbox::new();
        let head = loop {
            inbox.fill(&mut stream).await.context("waiting for 101")?;
            if let Some(head) = inbox.take_head() {
                break head;
            }
        };
        ensure!(
            head.starts_with("HTTP/1.1 101 ") && head.contains(ACCEPT),
            "expected 101 with the right accept key, got: {head}"
        );
        Ok(Self { stream, inbox })
    }

    /// Sends one message and compares the echo byte by byte.
    async fn first_echo(&mut self, shared: &Shared) -> Result<()> {
        self.send(&shared.message).await?;
        let frame = self.next_frame().await?;
        ensure!(
            frame.opcode == frame::BINARY && self.inbox.unmasked(&frame) == shared.payload,
            "the echo differs from the message"
        );
        Ok(())
    }

    /// Stays idle until `start`, then keeps `in_flight` messages under way.
    ///
    /// All echoes that one read brought are answered by one write, as a client
    /// with a buffered sink does.
    async fn work(mut self, shared: &Shared, mut started: watch::Receiver<bool>) -> Result<()> {
        tokio::select! {
            go = started.wait_for(|go| *go) => { go?; }
            // A ping of the proxy may come; an end may not.
            surprise = self.inbox.fill(&mut self.stream) => surprise.context("while idle")?,
        }
        started.wait_for(|go| *go).await?;
        if shared.load.work == Work::Paced {
            return self.paced(shared).await;
        }
        let window = shared.message.repeat(shared.load.in_flight);
        self.send(&window).await?;
        loop {
            self.inbox.fill(&mut self.stream).await?;
            let mut echoes = 0;
            while let Some(frame) = self.inbox.take_frame() {
                if frame.opcode == frame::BINARY {
                    ensure!(frame.payload.len() == shared.payload.len(), "an echo of wrong length");
                    echoes += 1;
                }
            }
            ensure!(echoes <= shared.load.in_flight, "more echoes than messages");
            if echoes > 0 {
                shared.done.fetch_add(echoes as u64, Ordering::Relaxed);
                self.send(&window[..echoes * shared.message.len()]).await?;
            }
        }
    }

    /// Sends a message at each turn of its own and times its way there and back.
    async fn paced(mut self, shared: &Shared) -> Result<()> {
        let connections = shared.connections.load(Ordering::Relaxed);
        ensure!(shared.load.per_second > 0 && connections > 0, "a pace needs a rate");
        let pause = Duration::from_secs_f64(connections as f64 / shared.load.per_second as f64);
        tokio::time::sleep(pause.mul_f64(fastrand::f64())).await;
        let mut turns = tokio::time::interval(pause);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            turns.tick().await;
            let began = Instant::now();
            self.send(&shared.message).await?;
            let frame = self.next_frame().await?;
            ensure!(frame.payload.len() == shared.payload.len(), "an echo of wrong length");
            shared.trips().push(began.elapsed().as_nanos().try_into().unwrap_or(u32::MAX));
            shared.done.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Writes and flushes: the TLS stream may hold back a record otherwise.
    async fn send(&mut self, frames: &[u8]) -> io::Result<()> {
        self.stream.write_all(frames).await?;
        self.stream.flush().await
    }

    async fn next_frame(&mut self) -> Result<Frame> {
        loop {
            match self.inbox.take_frame() {
                Some(frame) if frame.opcode != frame::PING => return Ok(frame),
                Some(_) => {}
                None => self.inbox.fill(&mut self.stream).await?,
            }
        }
    }
}

/// Makes the TLS side alike for every proxy: TLS 1.3, X25519, AES-128-GCM, and
/// a full handshake each time, or a resumed one. Without this the proxies' libraries would settle
/// on different key exchanges, and the table would compare those.
fn connector(resume: bool) -> Result<TlsConnector> {
    let crypto = rustls::crypto::CryptoProvider {
        cipher_suites: vec![provider::cipher_suite::TLS13_AES_128_GCM_SHA256],
        kx_groups: vec![provider::kx_group::X25519],
        ..provider::default_provider()
    };
    let mut config = ClientConfig::builder_with_provider(Arc::new(crypto))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(TrustAnyone))
        .with_no_client_auth();
    config.resumption = if resume { Resumption::in_memory_sessions(16) } else { Resumption::disabled() };
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Accepts every certificate: the far end is a process of this same run.
#[derive(Debug)]
struct TrustAnyone;

impl ServerCertVerifier for TrustAnyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
