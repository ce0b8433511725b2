//! Listeners: sockets that accept, whatever happens, until the drain says so.
//!
//! Decides backlog, socket options and what an accept error means; what a connection is for is `connection`'s.

use super::Proxy;
use super::connection;
use super::peer::Peer;
use super::transport::tune;
use crate::drain::Phase;
use crate::routing::Scheme;
use crate::telemetry::OverloadCause;
use socket2::{Domain, Protocol, Socket, Type};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
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
pub fn bind(mut address: SocketAddr, shared: bool) -> std::io::Result<std::net::TcpListener> {
    let socket = |address| Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP));
    let socket = match socket(address) {
        // All interfaces of a host that has no IPv6 are those of IPv4.
        Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) && address.ip() == Ipv6Addr::UNSPECIFIED => {
            address.set_ip(Ipv4Addr::UNSPECIFIED.into());
            socket(address)?
        }
        made => made?,
    };
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    // Each accepted socket has what this one has, without a system call of its own (tcp(7)).
    tune(&socket)?;
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
    let mut exhausted = false;
    loop {
        tokio::select! {
            biased;
            () = draining.reached(Phase::Closing) => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => {
                    exhausted = false;
                    begin(stream, address, scheme, &proxy);
                }
                Err(error) => survive(&error, &proxy, &mut exhausted).await,
            },
        }
    }
    while let Some(Ok((stream, address))) = futures_util::FutureExt::now_or_never(listener.accept()) {
        begin(stream, address, scheme, &proxy);
    }
}

fn begin(stream: TcpStream, address: SocketAddr, scheme: Scheme, proxy: &Arc<Proxy>) {
    if proxy.overload.is_last(&stream) {
        proxy.metrics.overload().refused(OverloadCause::Descriptors);
        return;
    }
    let Ok(local) = stream.local_addr() else { return };
    let peer = Peer::new(canonical(address), canonical(local));
    tokio::spawn(connection::serve(stream, peer, scheme, Arc::clone(proxy)));
}

/// An IPv4 client of a dual-stack listener is an IPv4 client.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Nothing that accept can return is a reason to stop listening. Each failure is counted; that means have run out is
/// logged once, until they are back.
async fn survive(error: &std::io::Error, proxy: &Proxy, exhausted: &mut bool) {
    proxy.metrics.accept_failed();
    if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)) {
        if !std::mem::replace(exhausted, true) {
            tracing::warn!(%error, "cannot accept: raise the limit of open files or add replicas");
        }
        tokio::time::sleep(EXHAUSTED_PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::SockRef;

    #[test]
    fn what_is_accepted_is_tuned_without_a_call_of_its_own() {
        let listener = bind("127.0.0.1:0".parse().expect("an address"), false).expect("it can be bound");
        listener.set_nonblocking(false).expect("a socket");
        let client = std::net::TcpStream::connect(listener.local_addr().expect("it is bound")).expect("it listens");
        let (accepted, _) = listener.accept().expect("a client is there");
        tune(&client).expect("a socket");
        let options = |stream| {
            let socket = SockRef::from(stream);
            let probes = (socket.tcp_keepalive_time(), socket.tcp_keepalive_interval(), socket.tcp_keepalive_retries());
            let probes = (probes.0.expect("set"), probes.1.expect("set"), probes.2.expect("set"));
            (socket.tcp_nodelay().expect("set"), socket.keepalive().expect("set"), probes, socket.tcp_user_timeout())
        };
        let ((nodelay, keepalive, probes, timeout), dialled) = (options(&accepted), options(&client));
        assert!(nodelay && keepalive && probes == dialled.2);
        assert_eq!(timeout.expect("set"), None, "a client may take nothing for a while");
    }

    #[test]
    fn every_interface_is_of_both_families() {
        let listener = bind("[::]:0".parse().expect("an address"), false).expect("it can be bound");
        let port = listener.local_addr().expect("it is bound").port();
        std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("by IPv4");
        if std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
            std::net::TcpStream::connect((Ipv6Addr::LOCALHOST, port)).expect("by IPv6");
        }
    }
}
