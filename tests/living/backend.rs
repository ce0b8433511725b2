//! Services: a tokio-tungstenite server that notes what it sees and does what it is told.

use super::within;
use futures_util::{SinkExt, StreamExt};
use std::sync::{Arc, Mutex};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, accept_async};

/// How many orders a session may have waiting.
const ORDERS: usize = 2048;

/// How a service treats its sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Sends data messages back; answers pings and Close.
    Echo,
    /// Answers pings and Close only.
    Mute,
    /// Never reads: no pong, no answer to a Close.
    Deaf,
}

/// What a service saw of a session, which is counted from 0.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    /// The opening handshake.
    Opened(usize),
    /// A data, ping or pong message.
    Got(usize, Message),
    /// A Close; 1005 without a code.
    Closed(usize, u16),
    /// The end of the connection; `true` when a Close came before.
    Gone(usize, bool),
}

/// What a service is told to do in a session.
#[derive(Debug)]
enum Order {
    Send(Message),
    Cut,
}

/// A running service; it stops listening when dropped, and its sessions are cut.
pub struct Service {
    /// Where it listens.
    pub port: u16,
    seen: watch::Sender<Vec<Seen>>,
    sessions: Arc<Mutex<Vec<mpsc::Sender<Order>>>>,
    sent: watch::Receiver<u64>,
    listening: tokio::task::JoinHandle<()>,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.listening.abort();
        self.cut();
    }
}

impl Service {
    /// Starts one on a free port.
    pub async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("the loopback has a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let seen = watch::Sender::new(Vec::new());
        let sessions = Arc::new(Mutex::new(Vec::new()));
        let (count, sent) = watch::channel(0);
        let (log, register) = (seen.clone(), Arc::clone(&sessions));
        let listening = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (log, register, count) = (log.clone(), Arc::clone(&register), count.clone());
                tokio::spawn(async move {
                    let Ok(socket) = accept_async(stream).await else { return };
                    let (orders, inbox) = mpsc::channel(ORDERS);
                    let id = {
                        let mut register = register.lock().expect("no test panics with it");
                        register.push(orders);
                        register.len() - 1
                    };
                    Session { id, socket, inbox, log, count }.run(manner).await;
                });
            }
        });
        Self { port, seen, sessions, sent, listening }
    }

    /// An echo service.
    pub async fn echo() -> Self {
        Self::start(Manner::Echo).await
    }

    fn order(&self, session: usize, order: Order) {
        let sessions = self.sessions.lock().expect("no test panics with it");
        let full = matches!(sessions[session].try_send(order), Err(TrySendError::Full(_)));
        assert!(!full, "more than {ORDERS} orders wait"); // an ended session takes none
    }

    /// Queues a message to a session.
    pub fn send(&self, session: usize, message: Message) {
        self.order(session, Order::Send(message));
    }

    /// Drops every session's connection without a Close.
    pub fn cut(&self) {
        for session in self.sessions.lock().expect("no test panics with it").iter() {
            let _ = session.try_send(Order::Cut); // an ended session is cut already
        }
    }

    /// How many messages ordered by [`Service::send`] have been written out to the kernel.
    pub fn sent(&self) -> watch::Receiver<u64> {
        self.sent.clone()
    }

    /// Sessions opened so far.
    pub fn opened(&self) -> usize {
        self.seen.borrow().iter().filter(|seen| matches!(seen, Seen::Opened(_))).count()
    }

    /// What was seen so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.borrow().clone()
    }

    /// Waits until `find` answers for what was seen so far.
    pub async fn sees<T>(&self, what: &str, mut find: impl FnMut(&[Seen]) -> Option<T>) -> T {
        let mut view = self.seen.subscribe();
        within(what, async {
            loop {
                if let Some(found) = find(&view.borrow_and_update()) {
                    return found;
                }
                view.changed().await.expect("the service lives");
            }
        })
        .await
    }

    /// Waits for the code of the Close that came in a session.
    pub async fn close_code(&self, session: usize) -> u16 {
        self.sees("a Close at the service", |seen| {
            seen.iter().find_map(|seen| match seen {
                Seen::Closed(id, code) if *id == session => Some(*code),
                _ => None,
            })
        })
        .await
    }
}

struct Session {
    id: usize,
    socket: WebSocketStream<TcpStream>,
    inbox: mpsc::Receiver<Order>,
    log: watch::Sender<Vec<Seen>>,
    count: watch::Sender<u64>,
}

impl Session {
    fn note(&self, seen: Seen) {
        self.log.send_modify(|log| log.push(seen));
    }

    async fn run(mut self, manner: Manner) {
        self.note(Seen::Opened(self.id));
        let mut closed = false;
        loop {
            let message = tokio::select! {
                order = self.inbox.recv() => match order {
                    Some(Order::Send(message)) => {
                        if self.socket.send(message).await.is_ok() {
                            self.count.send_modify(|count| *count += 1);
                        }
                        continue;
                    }
                    Some(Order::Cut) | None => break,
                },
                message = self.socket.next(), if manner != Manner::Deaf => message,
            };
            match message {
                Some(Ok(Message::Close(frame))) => {
                    closed = true;
                    self.note(Seen::Closed(self.id, frame.map_or(1005, |frame| frame.code.into())));
                }
                Some(Ok(message)) => {
                    self.note(Seen::Got(self.id, message.clone()));
                    let data = message.is_text() || message.is_binary();
                    if data && manner == Manner::Echo && self.socket.send(message).await.is_err() {
                        break;
                    }
                }
                Some(Err(_)) | None => break,
            }
        }
        self.note(Seen::Gone(self.id, closed));
    }
}
