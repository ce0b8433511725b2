//! TLS with a client, without a buffer of its own while nothing is under way.
//!
//! rustls is used without its buffers, of which an idle connection would keep one of 4 KiB: records are read into memory
//! of the thread and opened there, and what goes out is sealed there. Kept is only what the client has not sent whole,
//! what the reader has not taken, and what the client has not taken. Which certificate answers is decided elsewhere.

use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};
use rustls::{CommonState, ServerConfig};
use std::cell::RefCell;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

/// Bytes read of a socket at once.
const READ: usize = 64 << 10;

/// The most that is kept of what is not whole: a record has 18 KiB at most, a handshake message is given 64 KiB.
const KEPT: usize = 64 << 10;

/// Bytes sealed at once.
const WRITE: usize = 64 << 10;

/// What sealing may add: to each of five records, and an update of keys.
const SEALS: usize = 4 << 10;

/// Bytes read at once while the handshake lasts.
const HANDSHAKE: usize = 2 << 10;

struct Scratch {
    incoming: Box<[u8]>,
    outgoing: Box<[u8]>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        incoming: vec![0; KEPT + READ].into_boxed_slice(),
        outgoing: vec![0; WRITE + SEALS].into_boxed_slice(),
    });
}

/// Bytes that wait for somebody to take them; no memory when none do.
#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    from: usize,
}

impl Waiting {
    fn left(&self) -> &[u8] {
        &self.bytes[self.from..]
    }

    fn taken(&mut self, count: usize) {
        self.from += count;
        if self.from == self.bytes.len() {
            *self = Self::default();
        }
    }
}

/// A connection to a client whose TLS handshake is done.
pub struct DownstreamTls {
    tcp: TcpStream,
    session: UnbufferedServerConnection,
    /// Records that are not whole yet, as rustls has left them.
    incoming: Vec<u8>,
    /// Opened, and more than the reader asked for.
    opened: Waiting,
    /// Sealed, and not taken by the client yet.
    sealed: Waiting,
    /// How much may be sealed at once.
    limit: usize,
    /// What is wrong with what came behind the bytes that were read last.
    fault: Option<io::Error>,
    /// Whether the client has broken TLS: rustls is not to be asked again.
    broken: bool,
    /// Whether the client has said that it sends no more.
    ended: bool,
    /// Whether we have.
    closed: bool,
}

impl fmt::Debug for DownstreamTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DownstreamTls").field("tcp", &self.tcp).finish_non_exhaustive()
    }
}

impl DownstreamTls {
    /// Does the handshake; `hello` is what has been read of it already.
    ///
    /// # Errors
    /// The socket's, or what is wrong with the handshake; the client has been sent its alert.
    pub(super) async fn accept(tcp: TcpStream, config: Arc<ServerConfig>, hello: Vec<u8>) -> io::Result<Self> {
        let session = UnbufferedServerConnection::new(config).map_err(io::Error::other)?;
        let (opened, sealed) = (Waiting::default(), Waiting::default());
        let mut tls = Self {
            tcp,
            session,
            incoming: hello,
            opened,
            sealed,
            limit: WRITE,
            fault: None,
            broken: false,
            ended: false,
            closed: false,
        };
        loop {
            let Self { session, incoming, opened, sealed, ended, .. } = &mut tls;
            let mut keep = |plain: &[u8]| opened.bytes.extend_from_slice(plain);
            let (consumed, processed) = process(session, incoming, &mut keep, &mut sealed.bytes, ended);
            incoming.drain(..consumed);
            let sent = tls.tcp.write_all(&tls.sealed.bytes).await;
            tls.sealed = Waiting::default();
            processed?;
            sent?;
            if !tls.session.is_handshaking() {
                tls.incoming = std::mem::take(&mut tls.incoming).into_boxed_slice().into_vec();
                return Ok(tls);
            }
            more(&mut tls.tcp, &mut tls.incoming).await?;
        }
    }

    /// The TCP connection underneath.
    pub(super) fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// What has been agreed on.
    pub(super) fn session(&self) -> &CommonState {
        &self.session
    }

    /// Holds what is kept of bytes that the client does not take to about `limit`.
    pub(super) fn bound(&mut self, limit: usize) {
        self.limit = limit.clamp(1, WRITE);
    }

    /// Has the client take what is kept, and says how many bytes it took.
    pub(super) fn poll_push(&mut self, cx: &mut Context<'_>) -> (usize, Poll<io::Result<()>>) {
        let mut taken = 0;
        while !self.sealed.left().is_empty() {
            match Pin::new(&mut self.tcp).poll_write(cx, self.sealed.left()) {
                Poll::Pending => return (taken, Poll::Pending),
                Poll::Ready(Ok(0)) => return (taken, Poll::Ready(Err(io::ErrorKind::WriteZero.into()))),
                Poll::Ready(Ok(written)) => {
                    taken += written;
                    self.sealed.taken(written);
                }
                Poll::Ready(Err(error)) => return (taken, Poll::Ready(Err(error))),
            }
        }
        (taken, Poll::Ready(Ok(())))
    }

    /// Reads the socket once and opens what came, into `buf` as far as it has room.
    fn poll_fill(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.broken {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let kept = self.incoming.len();
            if kept > KEPT {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "a TLS message is too long")));
            }
            // What is opened is shorter than what was read.
            let most = READ.min(buf.remaining().max(HANDSHAKE));
            let mut into = ReadBuf::new(&mut scratch.incoming[kept..kept + most]);
            ready!(Pin::new(&mut self.tcp).poll_read(cx, &mut into))?;
            let filled = kept + into.filled().len();
            if filled == kept {
                // Else whoever can end the TCP connection could cut a message short.
                let error = "the peer ended the connection without a TLS close_notify";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, error)));
            }
            let bytes = &mut scratch.incoming[..filled];
            bytes[..kept].copy_from_slice(&self.incoming);
            let Self { session, opened, sealed, ended, .. } = self;
            let mut give = |plain: &[u8]| {
                let fits = plain.len().min(buf.remaining());
                buf.put_slice(&plain[..fits]);
                opened.bytes.extend_from_slice(&plain[fits..]);
            };
            let (consumed, processed) = process(session, bytes, &mut give, &mut sealed.bytes, ended);
            self.incoming = bytes[consumed..].to_vec();
            self.broken = processed.is_err();
            if !self.sealed.left().is_empty() {
                // An alert, or an answer to an update of keys. What the client does not take now goes with the next write.
                let _ = self.poll_push(cx);
            }
            Poll::Ready(processed)
        })
    }

    /// Seals `plain`, or the word that nothing follows where there is none, behind what waits already.
    fn seal(&mut self, cx: &mut Context<'_>, plain: Option<&[u8]>) -> io::Result<()> {
        if self.broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let outgoing = &mut scratch.outgoing;
            let mut again = true;
            let size = loop {
                match self.session.process_tls_records(&mut self.incoming).state {
                    Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                        let sealed = match plain {
                            Some(plain) => traffic.encrypt(plain, outgoing),
                            None => traffic.queue_close_notify(outgoing),
                        };
                        break sealed.map_err(io::Error::other)?;
                    }
                    Ok(ConnectionState::EncodeTlsData(mut data)) => encode(&mut data, &mut self.sealed.bytes),
                    Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                    Ok(ConnectionState::PeerClosed) if std::mem::take(&mut again) => self.ended = true,
                    Ok(_) => return Err(io::ErrorKind::BrokenPipe.into()),
                    Err(error) => {
                        self.broken = true;
                        return Err(failed(error));
                    }
                }
            };
            let mut sent = 0;
            while sent < size && self.sealed.left().is_empty() {
                match Pin::new(&mut self.tcp).poll_write(cx, &outgoing[sent..size]) {
                    Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                    Poll::Ready(Ok(written)) => sent += written,
                    Poll::Ready(Err(error)) => return Err(error),
                    Poll::Pending => break,
                }
            }
            if sent < size {
                self.sealed.bytes.extend_from_slice(&outgoing[sent..size]);
            }
            Ok(())
        })
    }
}

/// Reads more of a handshake.
///
/// # Errors
/// The socket's; that the client has ended it; that it is longer than any.
pub(super) async fn more(tcp: &mut TcpStream, incoming: &mut Vec<u8>) -> io::Result<()> {
    if incoming.len() > KEPT {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a TLS handshake is too long"));
    }
    incoming.reserve(HANDSHAKE);
    match tcp.read_buf(incoming).await? {
        0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "tls handshake eof")),
        _ => Ok(()),
    }
}

/// Has rustls take what is whole of `incoming`: gives what it opens to `plain` and appends what it has to say to
/// `outgoing`. Gives how much of `incoming` is done with. After a failure the session must not be asked again.
fn process(
    session: &mut UnbufferedServerConnection,
    incoming: &mut [u8],
    plain: &mut impl FnMut(&[u8]),
    outgoing: &mut Vec<u8>,
    ended: &mut bool,
) -> (usize, io::Result<()>) {
    let mut consumed = 0;
    loop {
        let UnbufferedStatus { mut discard, state } = session.process_tls_records(&mut incoming[consumed..]);
        let is_done = match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(record) = traffic.next_record() {
                    match record {
                        Ok(record) => {
                            discard += record.discard;
                            plain(record.payload);
                        }
                        Err(error) => return (incoming.len(), Err(failed(error))),
                    }
                }
                false
            }
            Ok(ConnectionState::EncodeTlsData(mut data)) => {
                encode(&mut data, outgoing);
                false
            }
            Ok(ConnectionState::TransmitTlsData(data)) => {
                data.done();
                false
            }
            Ok(ConnectionState::PeerClosed) => {
                *ended = true;
                false
            }
            // More has to come; early data is never allowed.
            Ok(_) => true,
            Err(error) => {
                // Its alert is there now; with anything else rustls would look at the same bytes again.
                while session.wants_write()
                    && let Ok(ConnectionState::EncodeTlsData(mut data)) = session.process_tls_records(&mut []).state
                {
                    encode(&mut data, outgoing);
                }
                return (incoming.len(), Err(failed(error)));
            }
        };
        consumed += discard;
        if is_done {
            return (consumed, Ok(()));
        }
    }
}

fn failed(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn encode(data: &mut EncodeTlsData<'_, ServerConnectionData>, outgoing: &mut Vec<u8>) {
    if let Err(EncodeError::InsufficientSize(size)) = data.encode(&mut []) {
        let from = outgoing.len();
        outgoing.resize(from + size.required_size, 0);
        let _ = data.encode(&mut outgoing[from..]); // cannot fail: it has what it asked for
    }
}

impl AsyncRead for DownstreamTls {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        loop {
            if !self.opened.left().is_empty() {
                let count = self.opened.left().len().min(buf.remaining());
                buf.put_slice(&self.opened.left()[..count]);
                self.opened.taken(count);
                return Poll::Ready(Ok(()));
            }
            if let Some(fault) = self.fault.take() {
                return Poll::Ready(Err(fault));
            }
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            self.fault = ready!(self.poll_fill(cx, buf)).err();
            if buf.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for DownstreamTls {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_push(cx).1)?;
        let count = buf.len().min(self.limit);
        if count > 0 {
            self.seal(cx, Some(&buf[..count]))?;
        }
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_push(cx).1
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.closed {
            self.closed = true;
            let _ = self.seal(cx, None); // one that has failed has nobody to tell
        }
        ready!(self.poll_push(cx).1)?;
        match ready!(Pin::new(&mut self.tcp).poll_shutdown(cx)) {
            Err(error) if error.kind() != io::ErrorKind::NotConnected => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
mod tests;
