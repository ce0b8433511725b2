//! A line to the API server that a test can cut: what a client sees of a network that fails while the server lives.

use std::net::SocketAddr;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A relay of bytes in front of the API server.
pub struct Link {
    address: SocketAddr,
    /// Counts the cuts; every connection ends when it changes. Refusing holds new ones off.
    state: watch::Sender<State>,
    task: JoinHandle<()>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct State {
    cuts: u64,
    refusing: bool,
}

impl Link {
    /// Opens one that leads to `server`.
    pub(super) async fn open(server: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (state, seen) = watch::channel(State { cuts: 0, refusing: false });
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let mut seen = seen.clone();
                if !seen.borrow_and_update().refusing {
                    tokio::spawn(relay(client, server, seen));
                }
            }
        });
        Self { address, state, task }
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts every connection that is open now. New ones are let through.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.cuts += 1);
    }

    /// Cuts every connection and closes new ones at once, until [`Link::mend`].
    pub fn sever(&self) {
        self.state.send_modify(|state| *state = State { cuts: state.cuts + 1, refusing: true });
    }

    /// Lets new connections through again.
    pub fn mend(&self) {
        self.state.send_modify(|state| state.refusing = false);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn relay(mut client: TcpStream, server: SocketAddr, mut seen: watch::Receiver<State>) {
    let cuts = seen.borrow_and_update().cuts;
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
        _ = seen.wait_for(|state| state.cuts != cuts) => {}
    }
}
