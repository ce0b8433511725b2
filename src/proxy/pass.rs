//! Stub: types only.
#![allow(missing_docs, clippy::all)]
use super::head::ResponseHead;
use super::transport::Transport;
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
/// The upstream's own answer, other than 101.
pub struct Answered { pub head: ResponseHead, pub transport: Transport, pub leftover: Bytes }
impl std::fmt::Debug for Answered { fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { write!(f, "Answered({})", self.head.status) } }
/// Relays the whole answer, then closes both.
pub async fn pass_on<S: AsyncRead + AsyncWrite + Unpin>(_answer: Answered, _downstream: S, _deadline: Instant) -> std::io::Result<()> { todo!() }
