//! Stub: types only.
#![allow(missing_docs, clippy::all)]
use super::head::{HeadLimits, RequestHead};
use crate::routing::{Request, Scheme};
use bytes::Bytes;
use http::StatusCode;
use tokio::io::AsyncRead;
use tokio::time::Instant;
pub struct Offer {
    pub head: RequestHead,
    /// Bytes after the head, to be sent upstream first once it has answered 101 (take it).
    pub leftover: Bytes,
    pub key: [u8; 24],
    pub scheme: Scheme,
    /// Lower case, no port.
    pub host: Box<str>,
    /// As it came, with port.
    pub authority: Box<str>,
    pub subprotocols: Vec<Box<str>>,
    pub offers_deflate: bool,
    /// The client's X-Request-Id, or one made here.
    pub request_id: Box<str>,
}
impl Offer {
    pub fn path(&self) -> &str { todo!() }
    pub fn query(&self) -> Option<&str> { todo!() }
    /// routing::Request borrows slices, hence the closure: `offer.with_request(|r| table.find(r))`.
    pub fn with_request<R>(&self, _look: impl FnOnce(&Request<'_>) -> R) -> R { todo!() }
}
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError { #[error("closed")] Closed }
impl HandshakeError {
    /// None: nobody is there to be answered, close quietly.
    pub fn status(&self) -> Option<StatusCode> { todo!() }
    pub fn reason(&self) -> &'static str { todo!() }
    /// What to write, `None` as for status(). Give it to answer::refuse.
    pub fn refusal(&self) -> Option<super::answer::Refusal> { todo!() }
}
/// `stream` is `&mut Transport` in the proxy; generic for tests. On error the caller still has the stream.
pub async fn read_offer<S: AsyncRead + Unpin>(_stream: &mut S, _scheme: Scheme, _deadline: Instant, _limits: &HeadLimits) -> Result<Offer, HandshakeError> { todo!() }
