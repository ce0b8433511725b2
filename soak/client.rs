//! One client: opens a session as its plan says, sends, reads, and says how it ended.
//!
//! Sending and reading are two halves that only meet in the outbox, so that a client that is held back still reads.

use crate::frame::{CLOSE, Inbox, PING, PONG};
use crate::ledger::{Ended, Ledger};
use crate::message::{self, Sequence};
use crate::plan::{End, Route, size};
use crate::wire::{Bytestream, Collector, Got, Outbox, Way, answered};
use crate::world::World;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use fastrand::Rng;
use rustls_pki_types::ServerName;
use std::collections::VecDeque;
use std::io;
use std::sync::Mutex;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpSocket;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// How long a session may go on after its plan is through, or a handshake take.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a slow reader's socket holds, in bytes.
const SMALL: u32 = 16 << 10;

/// Runs a session; gives how it ended.
pub(crate) async fn run(world: &World, ledger: &Ledger, rng: Rng) -> Ended {
    let began = Instant::now();
    match tokio::time::timeout(PATIENCE, attempt(world, ledger, rng)).await {
        Ok(Ok(ended)) => ended,
        Ok(Err(error)) => Ended::NoAnswer(error.to_string(), began.elapsed()),
        Err(_) => Ended::Stuck,
    }
}

type Reading = ReadHalf<Box<dyn Bytestream>>;
type Writing = WriteHalf<Box<dyn Bytestream>>;

async fn attempt(world: &World, ledger: &Ledger, mut rng: Rng) -> io::Result<Ended> {
    let plan = &ledger.plan;
    let ports = world.ports(ledger.which);
    let socket = TcpSocket::new_v4()?;
    if plan.slow_client {
        socket.set_recv_buffer_size(SMALL)?;
    }
    let port = if plan.tls { ports.wss } else { ports.ws };
    let tcp = socket.connect(([127, 0, 0, 1], port).into()).await?;
    tcp.set_nodelay(true)?;
    ledger.facts().client = Some(tcp.local_addr()?);
    // The same socket once more: to reset it, whatever lies over it.
    let handle = socket2::SockRef::from(&tcp).try_clone()?;
    let host = format!("{}.test", plan.route.name());
    let stream: Box<dyn Bytestream> = if plan.tls {
        let name = ServerName::try_from(host.clone()).expect("a host name");
        Box::new(TlsConnector::from(world.trust(plan)).connect(name, tcp).await?)
    } else {
        Box::new(tcp)
    };
    let (mut reading, mut writing) = tokio::io::split(stream);
    let mut inbox = Inbox::new();
    let status = handshake(world, ledger, &host, &mut rng, (&mut reading, &mut writing), &mut inbox).await?;
    if status != 101 {
        return Ok(Ended::Refused(status));
    }
    ledger.facts().upgraded = true;

    let (outbox, awaited) = (Outbox::default(), Mutex::default());
    let mut way = Way {
        to: writing,
        rng: rng.fork(),
        masks: true,
        stalls: plan.stalls,
        outbox: &outbox,
        pings: 0,
        awaited: &awaited,
        stalled: 0,
    };
    let (writes, reads) = (rng.fork(), rng.fork());
    let ended = {
        let sending = async {
            // An error is the reader's to see: what came before it still has to be read.
            match send(world, ledger, &mut way, writes).await {
                Ok(true) => {}
                Ok(false) | Err(_) => std::future::pending::<()>().await,
            }
        };
        tokio::select! {
            ended = read(ledger, reading, inbox, &outbox, &awaited, reads) => ended,
            () = sending => {
                handle.set_linger(Some(Duration::ZERO))?;
                Ended::Left
            }
        }
    };
    let mut facts = ledger.facts();
    facts.pings += way.pings;
    facts.stalled += way.stalled;
    facts.unanswered.0 = awaited.lock().map_or(0, |left| left.len() as u64);
    Ok(ended)
}

/// Offers the handshake; gives the status of the answer.
async fn handshake(
    world: &World,
    ledger: &Ledger,
    host: &str,
    rng: &mut Rng,
    (reading, writing): (&mut Reading, &mut Writing),
    inbox: &mut Inbox,
) -> io::Result<u16> {
    let key = BASE64_STANDARD.encode(rng.u128(..).to_ne_bytes());
    let credential = world.credential(&ledger.plan);
    let request = format!(
        "GET /s/{:x}?seed=1 HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{credential}\r\n",
        ledger.id
    );
    writing.write_all(request.as_bytes()).await?;
    writing.flush().await?;
    let head = loop {
        if let Some(head) = inbox.take_head() {
            break head;
        }
        inbox.fill(reading).await?;
    };
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("no status in {head:?}")))?;
    let is_right = head.contains(&derive_accept_key(key.as_bytes()))
        && (ledger.plan.route != Route::Token
            || head.to_ascii_lowercase().contains("sec-websocket-protocol: soak\r\n"));
    if status == 101 && !is_right {
        ledger.facts().down.corrupt += 1;
    }
    Ok(status)
}

/// Sends as planned. True when the client is to vanish now; false when there is nothing more to say.
async fn send<W: AsyncWrite + Unpin>(
    world: &World,
    ledger: &Ledger,
    way: &mut Way<'_, W>,
    mut rng: Rng,
) -> io::Result<bool> {
    let plan = &ledger.plan;
    let mut rest = world.rest(ledger.which);
    let mut seq = 0;
    while seq < plan.messages && way.outbox.closing().is_none() && !*rest.borrow() {
        let message = message::make(ledger.id, seq, size(&mut rng), &mut rng);
        if !way.message(message::opcode(ledger.id, seq), &message).await? {
            break;
        }
        seq += 1;
        ledger.facts().sent = seq;
        let pause = tokio::time::sleep(Duration::from_millis(rng.u64(..=plan.think)));
        tokio::pin!(pause);
        loop {
            way.tell().await?;
            tokio::select! {
                () = &mut pause => break,
                () = way.outbox.rung() => if way.outbox.closing().is_some() { break },
                _ = rest.wait_for(|rests| *rests) => break,
            }
        }
    }
    let rested = seq < plan.messages && *rest.borrow() && way.outbox.closing().is_none();
    ledger.facts().rested = rested;
    let end = if rested { End::Stay } else { plan.end };
    match end {
        _ if way.outbox.closing().is_some() => {}
        End::Reset { within } => {
            if within {
                let bytes = way.bytes(0x82, &[b'x'; 4000]);
                let some = rng.usize(1..bytes.len());
                way.put(&bytes[..some]).await?;
            }
            return Ok(true);
        }
        End::HalfClose => {
            way.to.shutdown().await?;
            return Ok(false);
        }
        End::Stay | End::Refused => {
            way.close(&1000_u16.to_be_bytes()).await?;
            return Ok(false);
        }
        End::Close { code, at_once } => {
            while !at_once && ledger.facts().returned < seq && way.outbox.closing().is_none() {
                way.tell().await?;
                way.outbox.rung().await;
            }
            if way.outbox.closing().is_none() {
                way.close(&code.to_be_bytes()).await?;
                return Ok(false);
            }
        }
        End::BackendClose(..) | End::BackendFin(_) | End::BackendReset(_) => {}
    }
    loop {
        way.tell().await?;
        if let Some(answer) = way.outbox.closing() {
            way.close(&answer).await?;
            return Ok(false);
        }
        way.outbox.rung().await;
    }
}

/// Reads to the end, and checks everything.
async fn read(
    ledger: &Ledger,
    mut from: impl AsyncRead + Unpin,
    mut inbox: Inbox,
    outbox: &Outbox,
    awaited: &Mutex<VecDeque<Vec<u8>>>,
    mut rng: Rng,
) -> Ended {
    let mut sequence = Sequence::new(ledger.id);
    let mut collector = Collector::new(false);
    let mut closed = None;
    // A slow reader is slow for a time, not for ever: its session has to end.
    let mut patience = if ledger.plan.slow_client { 3000_u64 } else { 0 };
    let failed = loop {
        while let Some(frame) = inbox.take_frame() {
            if closed.is_some() {
                sequence.alien(); // nothing may follow a Close
            }
            match collector.take(&mut inbox, &frame, &mut sequence) {
                Some(Got::Message(opcode, message)) => {
                    sequence.take(opcode, &message);
                    ledger.came_back(&sequence, message.len());
                    outbox.ring();
                }
                Some(Got::Control(PING, payload)) => outbox.push(PONG, payload),
                Some(Got::Control(PONG, payload)) if answered(awaited, &payload) => {}
                Some(Got::Control(CLOSE, payload)) => {
                    let code = payload.get(..2).map_or(1005, |code| u16::from_be_bytes([code[0], code[1]]));
                    let reason = String::from_utf8_lossy(payload.get(2..).unwrap_or_default()).into_owned();
                    ledger.facts().torn = collector.is_within();
                    outbox.close(payload.get(..2).unwrap_or_default().to_vec());
                    closed = Some(Ended::Close(code, reason));
                }
                Some(Got::Control(..)) => sequence.alien(),
                None => {}
            }
        }
        if patience > 0 && rng.u8(..3) == 0 {
            let pause = rng.u64(5..200).min(patience);
            patience -= pause;
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        if let Err(error) = inbox.fill(&mut from).await {
            break error;
        }
    };
    ledger.facts().down = sequence.damage;
    let reset = failed.kind() != io::ErrorKind::UnexpectedEof;
    closed.unwrap_or(Ended::Cut { within: !inbox.is_empty(), reset })
}

/// Reads what an operator would.
pub(crate) async fn get(port: u16, path: &str) -> io::Result<String> {
    let asked = async {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
        body.ok_or_else(|| io::Error::other("no answer"))
    };
    tokio::time::timeout(Duration::from_secs(20), asked).await.map_err(io::Error::other)?
}
