//! One byte stream of either side: TCP in clear, or TLS over it.
//!
//! Decides nothing but how the socket underneath is tuned. Readiness, buffers and shutdown order are the
//! relay's business.

use super::downstream_tls::DownstreamTls;
use crate::routing::Scheme;
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::coop;
use tokio_rustls::client::TlsStream;

/// How long the system waits for a peer to take what was sent.
const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// How much later than the route's own bound the system's is.
const GRACE: Duration = Duration::from_secs(5);

/// When a peer that says nothing is asked whether it is there, and how often until it answers.
const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15));

/// What the system takes beyond what is on its way, in bytes, where a slow peer is to be told from one that takes nothing.
const UNSENT: u32 = 64 << 10;

/// What TLS keeps unless told otherwise, in bytes.
const TLS_BUFFER: usize = 64 << 10;

/// A connected byte stream.
#[derive(Debug)]
pub enum Transport {
    /// TCP in clear.
    Plain(TcpStream),
    /// TLS over TCP, as client (upstream).
    Tls(Box<TlsStream<TcpStream>>),
    /// TLS over TCP, as server (downstream).
    Downstream(Box<DownstreamTls>),
}

impl Transport {
    /// The TCP connection underneath.
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.get_ref().0,
            Self::Downstream(tls) => tls.tcp(),
        }
    }

    /// What is spoken on it.
    pub fn scheme(&self) -> Scheme {
        match self {
            Self::Plain(_) => Scheme::Ws,
            Self::Tls(_) | Self::Downstream(_) => Scheme::Wss,
        }
    }

    /// Holds what TLS keeps of bytes that the peer does not take to `buffer`, and leaves a peer that takes none the time
    /// `stall`, where the route says so, before the system gives up on it. In clear nothing is kept here.
    pub(super) fn bound(&mut self, buffer: usize, stall: Option<Duration>) {
        match self {
            Self::Downstream(tls) => tls.bound(buffer),
            Self::Tls(tls) if buffer < TLS_BUFFER => tls.get_mut().1.set_buffer_limit(Some(buffer)),
            Self::Plain(_) | Self::Tls(_) => {}
        }
        let Some(stall) = stall else { return };
        // A socket that refuses these is one that has failed: the relay will see how.
        let socket = SockRef::from(self.tcp());
        let _ = socket.set_tcp_user_timeout(Some(USER_TIMEOUT.max(stall + GRACE)));
        // Else the system says that there is room again only when a third of megabytes has gone.
        let _ = socket.set_tcp_notsent_lowat(UNSENT);
    }

    /// Whether a read may find anything. In clear the last event says so, without a system call; TLS has to be read.
    pub(super) fn may_have_more(&self) -> bool {
        match self {
            Self::Plain(tcp) => tcp.try_io(Interest::READABLE, || Ok(())).is_ok(),
            Self::Tls(_) | Self::Downstream(_) => true,
        }
    }

    /// Asks for the task to be woken when there is something to read; false if there may be now. TLS has to be read.
    pub(super) fn listen(&self, cx: &mut Context<'_>) -> bool {
        match self {
            Self::Plain(tcp) => tcp.poll_read_ready(cx).is_pending() && coop::has_budget_remaining(),
            Self::Tls(_) | Self::Downstream(_) => false,
        }
    }

    /// Writes what is the last of this side: it goes out with the end of the stream, which is to follow at once, in clear
    /// as one segment.
    pub(super) fn poll_write_last(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Self::Plain(tcp) = self else { return Pin::new(self).poll_write(cx, bytes) };
        ready!(tcp.poll_write_ready(cx))?;
        let send = || SockRef::from(&*tcp).send_with_flags(bytes, libc::MSG_MORE | libc::MSG_NOSIGNAL);
        match tcp.try_io(Interest::WRITABLE, send) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Pin::new(tcp).poll_write(cx, bytes),
            written => Poll::Ready(written),
        }
    }

    /// Has the connection end at once when it is dropped, and what it holds for a peer that takes none with it.
    pub(super) fn abandon(&self) {
        let _ = SockRef::from(self.tcp()).set_linger(Some(Duration::ZERO)); // else it ends a little later
    }

    /// Has the peer take what TLS keeps, as a flush does, and says how many bytes it took: a slow peer is told from one
    /// that takes nothing.
    pub(super) fn poll_push(&mut self, cx: &mut Context<'_>) -> (usize, Poll<io::Result<()>>) {
        let tls = match self {
            Self::Plain(_) => return (0, Poll::Ready(Ok(()))),
            Self::Downstream(tls) => return tls.poll_push(cx),
            Self::Tls(tls) => tls,
        };
        let mut taken = 0;
        let (tcp, session) = tls.get_mut();
        while session.wants_write() {
            match session.write_tls(&mut Now(tcp, cx)) {
                Ok(0) => return (taken, Poll::Ready(Err(io::ErrorKind::WriteZero.into()))),
                Ok(written) => taken += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return (taken, Poll::Pending),
                Err(error) => return (taken, Poll::Ready(Err(error))),
            }
        }
        (taken, Poll::Ready(Ok(())))
    }
}

/// A connection as rustls writes to it: now, or not at all.
struct Now<'t, 'c, 'w>(&'t mut TcpStream, &'c mut Context<'w>);

impl io::Write for Now<'_, '_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match Pin::new(&mut *self.0).poll_write(self.1, bytes) {
            Poll::Ready(written) => written,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn write_vectored(&mut self, parts: &[io::IoSlice<'_>]) -> io::Result<usize> {
        match Pin::new(&mut *self.0).poll_write_vectored(self.1, parts) {
            Poll::Ready(written) => written,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(()) // TCP keeps nothing here
    }
}

/// Sets what every accepted socket has: no Nagle delay, keepalive probes after 60 s of silence, 15 s apart, four
/// of them. What a listener accepts has what the listener has.
///
/// Not how long a peer may leave bytes unacknowledged: the system does not tell one that has vanished from one that takes
/// none for a while (tcp(7), `TCP_USER_TIMEOUT`), which a client may do as long as its route sets no `slowConsumer`.
///
/// # Errors
/// The socket's own, as when the peer has already reset it.
pub fn tune(socket: &impl AsFd) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&KEEPALIVE.with_retries(4))
}

/// The same for what is dialled, except that 30 s are for bytes that a service does not acknowledge and for probes that it
/// does not answer, however many: each option is a system call of every handshake.
///
/// # Errors
/// The socket's own.
pub fn tune_upstream(socket: &impl AsFd) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&KEEPALIVE)?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Tls(tls) => Pin::new(&mut **tls).poll_read(cx, buf),
            Self::Downstream(tls) => Pin::new(&mut **tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Self::Tls(tls) => Pin::new(&mut **tls).poll_write(cx, buf),
            Self::Downstream(tls) => Pin::new(&mut **tls).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Self::Tls(tls) => Pin::new(&mut **tls).poll_write_vectored(cx, bufs),
            Self::Downstream(tls) => Pin::new(&mut **tls).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(tcp) => tcp.is_write_vectored(),
            Self::Tls(tls) => tls.is_write_vectored(),
            Self::Downstream(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(tls) => Pin::new(&mut **tls).poll_flush(cx),
            Self::Downstream(tls) => Pin::new(&mut **tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(&mut **tls).poll_shutdown(cx),
            Self::Downstream(tls) => Pin::new(&mut **tls).poll_shutdown(cx),
        }
    }
}
