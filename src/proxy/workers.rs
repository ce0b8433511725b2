//! The runtime shape: one single-threaded runtime a worker, each with its own listening sockets.
//!
//! A session lives and dies on the worker that accepted it, so relaying a message wakes no other thread. The
//! kernel deals connections out over the workers' sockets (`SO_REUSEPORT`). This module is the only one that
//! knows; everything else is written as if there were one runtime.
//!
//! Chosen by measurement, in one run each beside nginx (two cores, two workers): CPU per 128 B message relative to
//! nginx was 1.00 in this shape and 1.05 with one multi-threaded runtime of two threads. A handshake was 1.23 and
//! 1.19, within the noise of either run; sessions live for hours, so the message decides.

use super::Proxy;
use super::listener;
use super::overload;
use crate::drain::Phase;
use crate::routing::Scheme;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::net::TcpListener;

/// An address to accept on.
#[derive(Clone, Copy, Debug)]
pub struct Listen {
    /// Port 0 lets the kernel choose.
    pub address: SocketAddr,
    /// What is spoken there.
    pub scheme: Scheme,
}

/// Running workers.
#[derive(Debug)]
pub struct Workers {
    threads: Vec<JoinHandle<()>>,
    addresses: Vec<SocketAddr>,
}

impl Workers {
    /// Binds every address once per worker and starts `count` workers. All sockets are bound before any worker
    /// accepts, so a failure serves nobody half.
    ///
    /// # Errors
    /// An address that cannot be bound, by name; a runtime that cannot be built.
    pub fn start(count: usize, listen: &[Listen], proxy: &Arc<Proxy>) -> std::io::Result<Self> {
        let mut bound: Vec<Vec<(std::net::TcpListener, Scheme)>> = (0..count).map(|_| Vec::new()).collect();
        let mut addresses = Vec::new();
        for &Listen { mut address, scheme } in listen {
            for sockets in &mut bound {
                let named =
                    |e: std::io::Error| std::io::Error::new(e.kind(), format!("cannot listen on {address}: {e}"));
                let socket = listener::bind(address, count > 1).map_err(named)?;
                address = socket.local_addr().map_err(named)?;
                sockets.push((socket, scheme));
            }
            addresses.push(address);
        }
        let threads = bound.into_iter().enumerate().map(|(number, sockets)| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let proxy = Arc::clone(proxy);
            let name = format!("worker-{number}");
            proxy.metrics.watch_tasks(&name, runtime.handle());
            std::thread::Builder::new().name(name).spawn(move || {
                runtime.block_on(async {
                    if number == 0 {
                        drop(tokio::spawn(overload::run(Arc::clone(&proxy))));
                    }
                    work(sockets, proxy).await;
                });
                runtime.shutdown_background();
            })
        });
        Ok(Self { threads: threads.collect::<Result<_, _>>()?, addresses })
    }

    /// The bound addresses, in the order they were asked for.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Waits until every worker has stopped, which they do when the drain says so.
    pub fn join(self) {
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a worker panicked; its sessions were cut, please report the panic above");
            }
        }
    }
}

/// Accepts on every socket of one worker until the process stops.
async fn work(sockets: Vec<(std::net::TcpListener, Scheme)>, proxy: Arc<Proxy>) {
    for (socket, scheme) in sockets {
        match TcpListener::from_std(socket) {
            Ok(listener) => drop(tokio::spawn(listener::accept(listener, scheme, Arc::clone(&proxy)))),
            Err(error) => tracing::error!(%error, "cannot watch a listening socket"),
        }
    }
    let mut draining = proxy.draining.clone();
    draining.reached(Phase::Stopped).await;
}
