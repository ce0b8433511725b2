//! Listeners: sockets that accept, whatever happens, until the drain says so.
//!
//! Decides backlog, socket options and what an accept error means; what a connection is for is `connection`'s.

use super::Proxy;
use super::connection;
use super::peer::Peer;
use crate::drain::Phase;
use crate::routing::Scheme;
use socket2::{Domain, Protocol, Socket, Type};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

/// Connections the kernel holds for us; it clamps this to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// How long accepting pauses when the process or the host has no descriptor left. Live sessions go on, and each
/// that ends gives descriptors back.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// Binds `address`. With `shared` several listeners of this process may bind the same one, and the kernel deals
/// the connections out (`SO_REUSEPORT`).
///
/// # Errors
/// As the kernel says: address in use, permission, no such address.
pub fn bind(address: SocketAddr, shared: bool) -> std::io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Accepts until the drain closes the listener; then takes what the kernel has already accepted for us, so that
/// closing the socket resets nobody.
///
/// # Cancel safety
/// Dropping it closes the listener; connections it handed out live on.
pub async fn accept(listener: TcpListener, scheme: Scheme, proxy: Arc<Proxy>) {
    let mut draining = proxy.draining.clone();
    loop {
        tokio::select! {
            biased;
            () = draining.reached(Phase::Closing) => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => begin(stream, address, scheme, &proxy),
                Err(error) => survive(&error, &proxy).await,
            },
        }
    }
    while let Some(Ok((stream, address))) = futures_util::FutureExt::now_or_never(listener.accept()) {
        begin(stream, address, scheme, &proxy);
    }
}

fn begin(stream: TcpStream, address: SocketAddr, scheme: Scheme, proxy: &Arc<Proxy>) {
    // Without it small frames wait for the peer's acknowledgement; a socket that refuses it still works.
    let _ = stream.set_nodelay(true);
    let Ok(local) = stream.local_addr() else { return };
    let peer = Peer { address: canonical(address), local: canonical(local) };
    tokio::spawn(connection::serve(stream, peer, scheme, Arc::clone(proxy)));
}

/// An IPv4 client of a dual-stack listener is an IPv4 client.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Nothing that accept can return is a reason to stop listening.
async fn survive(error: &std::io::Error, proxy: &Proxy) {
    proxy.metrics.accept_failed();
    let exhausted = matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM));
    if exhausted {
        tracing::warn!(%error, "cannot accept: raise the limit of open files or add replicas");
        tokio::time::sleep(EXHAUSTED_PAUSE).await;
    }
}
