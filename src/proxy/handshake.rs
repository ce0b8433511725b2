//! Reads and checks a client's opening handshake (RFC 6455 §4.2.1) and says what it offers.
//!
//! Decides whether the request is a WebSocket handshake that may be routed, and with which status it is refused
//! if not. Does not route, dial or answer. Nothing of what the client sent after its head leaves here: it is kept
//! as [`Offer::leftover`] until the upstream has answered 101.

use super::answer::Refusal;
use super::fields::{Fields, MAX_NOMINATED, Only, folds_to, folds_to_start};
use super::head::{HeadError, HeadLimits, ReadError, RequestHead, read_head};
use super::negotiation::{extensions, is_deflate, subprotocols};
use super::target::{PathFault, check_path, host_of, split_target};
use crate::routing::{Request, Scheme};
use crate::telemetry::HandshakeReason;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use std::fmt;
use std::io;
use tokio::io::AsyncRead;
use tokio::time::{Instant, timeout_at};

/// A checked but unanswered handshake. `Debug` leaves out what may hold a credential: query, key, subprotocols.
pub struct Offer {
    /// The request as it came.
    pub head: RequestHead,
    /// What came after the head: frames for the upstream, to be sent first once it has answered 101.
    pub leftover: Bytes,
    /// `Sec-WebSocket-Key`: 24 characters.
    pub key: [u8; 24],
    /// How it came in.
    pub scheme: Scheme,
    /// Lower case, without port, brackets or trailing dot.
    pub host: Box<str>,
    /// `Host` as it came, with its port.
    pub authority: Box<str>,
    /// In order and case.
    pub subprotocols: Vec<Box<str>>,
    /// Whether permessage-deflate is among the offered extensions.
    pub offers_deflate: bool,
    /// The client's `X-Request-Id` if it has a sane one, else 32 random hexadecimal digits.
    pub request_id: Box<str>,
    /// Path and query as they came: visible ASCII.
    target: Bytes,
    path_length: usize,
}

impl Offer {
    /// The path as it came.
    pub fn path(&self) -> &str {
        &self.target()[..self.path_length]
    }

    /// The query as it came, without `?`.
    pub fn query(&self) -> Option<&str> {
        self.target().get(self.path_length + 1..)
    }

    /// Path and query as they came: what is sent upstream.
    pub fn target(&self) -> &str {
        std::str::from_utf8(&self.target).unwrap_or_default()
    }

    /// Shows the offer to `look` as routing sees it. A closure, because the request borrows lists made for it.
    pub fn with_request<R>(&self, look: impl FnOnce(&Request<'_>) -> R) -> R {
        let headers: Vec<_> = self.head.fields.iter().collect();
        let subprotocols: Vec<_> = self.subprotocols.iter().map(|s| &**s).collect();
        look(&Request {
            scheme: self.scheme,
            host: &self.host,
            path: self.path(),
            query: self.query(),
            headers: &headers,
            subprotocols: &subprotocols,
        })
    }

    /// Checks a whole head; `leftover` came after it.
    ///
    /// # Errors
    /// Every [`HandshakeError`] about what was sent.
    pub fn check(head: RequestHead, leftover: Bytes, scheme: Scheme) -> Result<Self, HandshakeError> {
        if head.method() != b"GET" {
            return Err(HandshakeError::Method);
        }
        let target = split_target(head.target()).ok_or(HandshakeError::Target)?;
        let (authority, host) = check_host(&head.fields, target.authority)?;
        check_framing(&head.fields)?;
        let fields = &head.fields;
        if !fields.lists("connection", "upgrade") || !fields.lists("upgrade", "websocket") {
            return Err(HandshakeError::NotAnUpgrade);
        }
        let key = check_websocket(fields)?;
        let offered = extensions(fields).ok_or(HandshakeError::Extensions)?;
        let path_length = target.path_and_query.find('?').unwrap_or(target.path_and_query.len());
        let (target, path_length) = if path_length == 0 {
            (Bytes::from(format!("/{}", target.path_and_query)), 1) // RFC 9112 §3.2.1
        } else {
            let start = head.target().len() - target.path_and_query.len();
            (head.target_slice(start..head.target().len()), path_length)
        };
        let offer = Self {
            leftover,
            key,
            scheme,
            host,
            authority,
            subprotocols: subprotocols(fields).ok_or(HandshakeError::Subprotocols)?,
            offers_deflate: offered.iter().any(|name| is_deflate(name)),
            request_id: request_id(fields),
            target,
            path_length,
            head,
        };
        if !offer.path().starts_with('/') || offer.query().is_some_and(|q| q.contains('#')) {
            return Err(HandshakeError::Target);
        }
        check_path(offer.path())?;
        Ok(offer)
    }
}

impl fmt::Debug for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut offer = f.debug_struct("Offer");
        offer.field("host", &self.host).field("path", &self.path()).field("request_id", &self.request_id);
        offer.finish_non_exhaustive()
    }
}

/// Why there is no offer.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The request has, or announces, a body.
    #[error("a WebSocket handshake has no body: send neither Content-Length nor Transfer-Encoding")]
    Body,
    /// The client closed before it sent a byte. Quiet: nobody is there to be answered.
    #[error("the client closed before it sent anything")]
    Closed,
    /// `Connection` names a field that the proxy or the service relies on, or too many.
    #[error("Connection may not name end-to-end headers: send Connection: Upgrade")]
    Connection,
    /// The extension list breaks its grammar.
    #[error("Sec-WebSocket-Extensions is malformed")]
    Extensions,
    /// The head is not strict HTTP/1.1, or too large.
    #[error("{0}")]
    Head(HeadError),
    /// None or several `Host` lines, an invalid one, or one that contradicts the request target.
    #[error("send exactly one Host header, with the host and port of the URL")]
    Host,
    /// The connection broke. Quiet.
    #[error("the connection broke: {0}")]
    Io(io::Error),
    /// None or several keys, or one that is not the base64 of 16 bytes.
    #[error("send exactly one Sec-WebSocket-Key, the base64 of 16 random bytes")]
    Key,
    /// Another method than GET.
    #[error("the method of a WebSocket handshake is GET")]
    Method,
    /// A request that asks for no WebSocket.
    #[error("this is a WebSocket endpoint: send Connection: Upgrade and Upgrade: websocket")]
    NotAnUpgrade,
    /// The path can be read in two ways.
    #[error("{0}")]
    Path(#[from] PathFault),
    /// The deadline passed before the client sent a byte. Quiet.
    #[error("the client sent nothing in time")]
    Silent,
    /// An offered subprotocol is no token, or offered twice.
    #[error("Sec-WebSocket-Protocol must list tokens, each once")]
    Subprotocols,
    /// Neither origin form nor absolute form of ours.
    #[error("the request target must be a path, or an absolute http, https, ws or wss URL without a fragment")]
    Target,
    /// The deadline passed in the middle of the head.
    #[error("the request head did not arrive in time")]
    Timeout,
    /// The client closed in the middle of the head.
    #[error("the request head is incomplete")]
    Truncated,
    /// Another version than 13, or none.
    #[error("send Sec-WebSocket-Version: 13")]
    Version,
    /// Several versions at once.
    #[error("send exactly one Sec-WebSocket-Version, 13")]
    Versions,
}

impl HandshakeError {
    /// What to answer; `None` means to close without a word.
    pub fn status(&self) -> Option<StatusCode> {
        Some(match self {
            Self::Closed | Self::Io(_) | Self::Silent => return None,
            Self::Head(HeadError::TargetTooLong) => StatusCode::URI_TOO_LONG,
            Self::Head(HeadError::TooLarge | HeadError::TooManyFields) => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Head(HeadError::Version) => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::Body
            | Self::Connection
            | Self::Extensions
            | Self::Head(_)
            | Self::Host
            | Self::Key
            | Self::Path(_)
            | Self::Subprotocols
            | Self::Target
            | Self::Truncated
            | Self::Versions => StatusCode::BAD_REQUEST,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotAnUpgrade | Self::Version => StatusCode::UPGRADE_REQUIRED,
            Self::Timeout => StatusCode::REQUEST_TIMEOUT,
        })
    }

    /// The label of metrics and records.
    pub fn reason(&self) -> HandshakeReason {
        match self {
            Self::Closed | Self::Io(_) | Self::Truncated => HandshakeReason::ClientGone,
            Self::Head(HeadError::TargetTooLong | HeadError::TooLarge | HeadError::TooManyFields) => {
                HandshakeReason::HeadTooLarge
            }
            Self::NotAnUpgrade => HandshakeReason::NotUpgrade,
            Self::Silent | Self::Timeout => HandshakeReason::Timeout,
            Self::Version | Self::Versions => HandshakeReason::UnsupportedVersion,
            _ => HandshakeReason::BadRequest,
        }
    }

    /// The answer; `None` means to close without a word.
    pub fn refusal(&self) -> Option<Refusal> {
        let refusal = Refusal::new(self.status()?, self.to_string());
        Some(match self {
            Self::Method => refusal.header("Allow", "GET"),
            Self::NotAnUpgrade => refusal.header("Upgrade", "websocket"),
            Self::Version => refusal.header("Upgrade", "websocket").header("Sec-WebSocket-Version", "13"),
            _ => refusal,
        })
    }
}

impl From<ReadError> for HandshakeError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Closed => Self::Closed,
            ReadError::Head(error) => Self::Head(error),
            ReadError::Io(error) => Self::Io(error),
            ReadError::Truncated => Self::Truncated,
        }
    }
}

/// Reads one handshake from `stream`, which came in as `scheme`. The stream is lent, so that the caller can refuse.
///
/// # Errors
/// [`HandshakeError`]; its `refusal` says what to answer.
pub async fn read_offer<S>(
    stream: &mut S,
    scheme: Scheme,
    deadline: Instant,
    limits: &HeadLimits,
) -> Result<Offer, HandshakeError>
where
    S: AsyncRead + Unpin,
{
    let mut buffer = BytesMut::with_capacity(2048);
    let raw = match timeout_at(deadline, read_head(stream, &mut buffer, limits)).await {
        Ok(read) => read?,
        Err(_) if buffer.is_empty() => return Err(HandshakeError::Silent),
        Err(_) => return Err(HandshakeError::Timeout),
    };
    let head = RequestHead::parse(raw, limits).map_err(HandshakeError::Head)?;
    // An empty rest must not keep the buffer alive.
    let leftover = if buffer.is_empty() { Bytes::new() } else { buffer.freeze() };
    Offer::check(head, leftover, scheme)
}

/// C2: exactly one valid `Host`, the same as the target's authority if that has one (RFC 9112 §3.2).
fn check_host(fields: &Fields, authority: Option<&str>) -> Result<(Box<str>, Box<str>), HandshakeError> {
    let Only::One(value) = fields.only("host") else { return Err(HandshakeError::Host) };
    let value = std::str::from_utf8(value).map_err(|_| HandshakeError::Host)?;
    if authority.is_some_and(|a| !a.eq_ignore_ascii_case(value)) {
        return Err(HandshakeError::Host);
    }
    let host = host_of(value).ok_or(HandshakeError::Host)?;
    Ok((value.into(), host))
}

/// C6, C7 and C11: no body, and `Connection` may not take away what others rely on.
fn check_framing(fields: &Fields) -> Result<(), HandshakeError> {
    if has_body(fields) {
        return Err(HandshakeError::Body);
    }
    let mut nominated = 0;
    for name in fields.elements("connection") {
        nominated += usize::from(!name.is_empty());
        if nominated > MAX_NOMINATED || is_protected(name) {
            return Err(HandshakeError::Connection);
        }
    }
    Ok(())
}

/// Whether some line announces a body, or may to a service that reads `_` as `-`. One `Content-Length: 0` does not.
fn has_body(fields: &Fields) -> bool {
    let mut lengths = 0;
    fields.iter().any(|(name, value)| {
        let length = folds_to(name.as_bytes(), "content-length");
        lengths += usize::from(length);
        folds_to(name.as_bytes(), "transfer-encoding")
            || (length && (lengths > 1 || value != b"0" || name.contains('_')))
    })
}

/// Whether the proxy or the service relies on `name`, so that no client may have it removed (RFC 9110 §7.6.1).
fn is_protected(name: &[u8]) -> bool {
    let names = ["authorization", "content-length", "cookie", "forwarded", "host", "origin", "transfer-encoding"];
    names.iter().any(|n| folds_to(name, n))
        || ["sec-", "x-forwarded-", "x-real-ip", "x-request-id"].iter().any(|p| folds_to_start(name, p))
}

/// C4 and C5: version 13 and one key.
fn check_websocket(fields: &Fields) -> Result<[u8; 24], HandshakeError> {
    match fields.only("sec-websocket-version") {
        Only::One(b"13") => {}
        Only::One(value) if value.contains(&b',') => return Err(HandshakeError::Versions),
        Only::Several => return Err(HandshakeError::Versions),
        Only::Absent | Only::One(_) => return Err(HandshakeError::Version),
    }
    let Only::One(value) = fields.only("sec-websocket-key") else { return Err(HandshakeError::Key) };
    let key: [u8; 24] = value.try_into().map_err(|_| HandshakeError::Key)?;
    let mut nonce = [0; 18];
    match STANDARD.decode_slice(key, &mut nonce) {
        Ok(16) => Ok(key),
        _ => Err(HandshakeError::Key),
    }
}

fn request_id(fields: &Fields) -> Box<str> {
    let sane = |value: &[u8]| {
        (1..=128).contains(&value.len()) && value.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.:/+=@".contains(b))
    };
    match fields.only("x-request-id") {
        Only::One(value) if sane(value) => String::from_utf8_lossy(value).into(),
        _ => format!("{:032x}", fastrand::u128(..)).into(),
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(super) mod tests_support {
    use super::*;

    /// A checked offer for `GET /ws?x=1` with more header lines, each ending in CRLF.
    pub(in crate::proxy) fn offer(lines: &str) -> Offer {
        offer_of("/ws?x=1", lines)
    }

    /// The same for another target.
    pub(in crate::proxy) fn offer_of(target: &str, lines: &str) -> Offer {
        let text = format!(
            "GET {target} HTTP/1.1\r\nHost: Chat.example.com:8080\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}\r\n"
        );
        let head = RequestHead::parse(text.into(), &HeadLimits::default()).expect("a well-formed head");
        Offer::check(head, Bytes::new(), Scheme::Ws).expect("a good handshake")
    }
}
