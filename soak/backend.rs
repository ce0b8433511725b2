//! A backend: sends back what comes, checks it, breaks off as the session's plan says, and restarts when told.

use crate::frame::{CLOSE, Inbox, PING, PONG};
use crate::ledger::{Excuses, Ledger};
use crate::message::Sequence;
use crate::plan::End;
use crate::wire::{Collector, Got, Outbox, Way, answered};
use crate::world::World;
use fastrand::Rng;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// How a backend goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// Everything is reset at once.
    Killed,
    /// It says Close 1012, and is killed a little later.
    Leaving,
    Serving,
}

/// The order to go and come back; answered once it is back.
pub(crate) type Restart = (Life, oneshot::Sender<()>);

/// How long one that leaves politely waits.
const GRACE: Duration = Duration::from_secs(2);

/// How long a backend waits for the end of a connection once it has nothing more to say.
const LINGER: Duration = Duration::from_secs(60);

/// Serves on `port`, and restarts when told, until the orders end.
pub(crate) async fn run(
    world: Arc<World>,
    number: usize,
    port: u16,
    mut orders: mpsc::Receiver<Restart>,
) -> io::Result<()> {
    let mut listener = bind(port)?;
    let mut life = watch::Sender::new(Life::Serving);
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    tokio::spawn(connection(Arc::clone(&world), number, stream, life.subscribe()));
                }
            }
            order = orders.recv() => {
                let Some((how, done)) = order else { return Ok(()) };
                drop(listener);
                life.send_replace(how);
                if how == Life::Leaving {
                    let _ = tokio::time::timeout(GRACE, life.closed()).await;
                    life.send_replace(Life::Killed);
                }
                life.closed().await;
                tokio::time::sleep(Duration::from_millis(200)).await; // a program takes a moment to start
                life = watch::Sender::new(Life::Serving);
                listener = bind(port)?;
                let _ = done.send(());
            }
        }
    }
}

fn bind(port: u16) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(([127, 0, 0, 1], port).into())?;
    socket.listen(1024)
}

/// One connection, to its end or to that of the backend.
async fn connection(world: Arc<World>, number: usize, stream: TcpStream, mut life: watch::Receiver<Life>) {
    let (Ok(()), Ok(handle)) = (stream.set_nodelay(true), socket2::SockRef::from(&stream).try_clone()) else { return };
    let mut found = None;
    let leaving = life.clone();
    let resets = tokio::select! {
        resets = serve(&world, number, stream, leaving, &mut found) => resets.unwrap_or(false),
        () = gone(&mut life, |life| life == Life::Killed) => true,
    };
    if resets {
        let _ = handle.set_linger(Some(Duration::ZERO));
    }
    drop(handle);
    if let Some(ledger) = found {
        ledger.served();
    }
}

/// Waits until the backend has gone so far.
async fn gone(life: &mut watch::Receiver<Life>, far: impl Fn(Life) -> bool) {
    let _ = life.wait_for(|life| far(*life)).await;
}

/// Serves it. True when it is to end by a reset.
async fn serve(
    world: &World,
    number: usize,
    stream: TcpStream,
    life: watch::Receiver<Life>,
    found: &mut Option<Arc<Ledger>>,
) -> io::Result<bool> {
    let (mut reading, mut writing) = tokio::io::split(stream);
    let mut inbox = Inbox::new();
    let head = loop {
        if let Some(head) = inbox.take_head() {
            break head;
        }
        inbox.fill(&mut reading).await?;
    };
    let ledger = head.strip_prefix("GET /s/").and_then(|rest| rest.split_once('?')).and_then(|(id, _)| world.find(id));
    let Some(ledger) = ledger else {
        world.alarm(format!(
            "a handshake of no session reached backend {number}: {}",
            head.lines().next().unwrap_or("")
        ));
        return Ok(true);
    };
    {
        let mut facts = ledger.facts();
        facts.reached += 1;
        facts.backend = Some(number);
        if *life.borrow() != Life::Serving {
            facts.excuses.add(Excuses::RESTART);
        }
    }
    *found = Some(Arc::clone(&ledger));
    let secret = ["bearer.", "x-api-key", "authorization:"].iter().any(|part| head.to_ascii_lowercase().contains(part));
    if secret || ledger.plan.end == End::Refused {
        world.alarm(format!("a credential reached backend {number}: {head}"));
    }
    let value = |name: &str| {
        let lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned()).next()
    };
    let accept = derive_accept_key(value("sec-websocket-key").unwrap_or_default().as_bytes());
    let chosen = value("sec-websocket-protocol").map(|name| format!("Sec-WebSocket-Protocol: {name}\r\n"));
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{}\
         Sec-WebSocket-Accept: {accept}\r\n\r\n",
        chosen.unwrap_or_default()
    );
    writing.write_all(answer.as_bytes()).await?;
    let mut sequence = Sequence::new(ledger.id);
    let (outbox, awaited) = (Outbox::default(), Mutex::default());
    let mut way = Way {
        to: writing,
        rng: Rng::with_seed(ledger.id),
        masks: false,
        stalls: ledger.plan.stalls,
        outbox: &outbox,
        pings: 0,
        awaited: &awaited,
        stalled: 0,
    };
    let over = converse(&ledger, reading, inbox, &mut way, &mut sequence, life).await;
    let mut facts = ledger.facts();
    facts.up = sequence.damage;
    facts.pings += way.pings;
    facts.stalled += way.stalled;
    facts.unanswered.1 = awaited.lock().map_or(0, |left| left.len() as u64);
    over
}

/// Reads and answers to the end. True when it is to end by a reset.
async fn converse(
    ledger: &Ledger,
    mut from: ReadHalf<TcpStream>,
    mut inbox: Inbox,
    way: &mut Way<'_, WriteHalf<TcpStream>>,
    sequence: &mut Sequence,
    mut life: watch::Receiver<Life>,
) -> io::Result<bool> {
    let mut collector = Collector::new(true);
    let mut patience = if ledger.plan.slow_backend { 3000_u64 } else { 0 };
    // Whether we have said our last, and whether the client has.
    let (mut closed, mut heard) = (false, false);
    loop {
        while let Some(frame) = inbox.take_frame() {
            if heard {
                sequence.alien(); // nothing may follow a Close
            }
            match collector.take(&mut inbox, &frame, sequence) {
                Some(Got::Message(opcode, message)) => {
                    sequence.take(opcode, &message);
                    ledger.arrived(sequence, message.len());
                    if closed {
                        continue;
                    }
                    // A peer that takes nothing more may still have something to say.
                    if way.message(opcode, &message).await.is_err() {
                        closed = true;
                        continue;
                    }
                    ledger.facts().echoed = sequence.next;
                    match ledger.plan.end {
                        End::BackendClose(after, code) if sequence.next == after => {
                            way.close(&code.to_be_bytes()).await?;
                            closed = true;
                        }
                        End::BackendFin(after) if sequence.next == after => {
                            way.to.shutdown().await?;
                            closed = true;
                        }
                        End::BackendReset(after) if sequence.next == after => {
                            let bytes = way.bytes(0x82, &[b'x'; 4000]);
                            let some = way.rng.usize(..bytes.len());
                            way.put(&bytes[..some]).await?;
                            return Ok(true);
                        }
                        _ if way.rng.u8(..20) == 0 => way.ping().await?,
                        _ => {}
                    }
                }
                Some(Got::Control(PING, payload)) => {
                    way.outbox.push(PONG, payload);
                    if !closed {
                        way.tell().await?;
                    }
                }
                Some(Got::Control(PONG, payload)) if answered(way.awaited, &payload) => {}
                Some(Got::Control(CLOSE, payload)) => {
                    heard = true;
                    let code = payload.get(..2).map_or(1005, |code| u16::from_be_bytes([code[0], code[1]]));
                    ledger.facts().told = Some(code);
                    if !closed {
                        closed = true;
                        let _ = way.close(payload.get(..2).unwrap_or_default()).await;
                    }
                    let _ = way.to.shutdown().await;
                }
                Some(Got::Control(..)) => sequence.alien(),
                None => {}
            }
        }
        if patience > 0 && way.rng.u8(..3) == 0 {
            let pause = way.rng.u64(5..200).min(patience);
            patience -= pause;
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        tokio::select! {
            read = inbox.fill(&mut from) => if read.is_err() {
                // The client has ended: what it has not yet been sent it will not get.
                return Ok(false);
            },
            () = gone(&mut life, |life| life != Life::Serving), if !closed => {
                closed = true;
                way.close(&1012_u16.to_be_bytes()).await?;
            }
            () = tokio::time::sleep(LINGER), if heard => return Ok(true),
        }
    }
}
