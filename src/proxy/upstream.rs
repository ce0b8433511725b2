//! Stub: types only.
#![allow(missing_docs, clippy::all)]
use super::balance::{Balancer, Lease};
use super::handshake::Offer;
use super::head::{HeadLimits, ResponseHead};
use super::pass::Answered;
use super::peer::Peer;
use super::transport::Transport;
use crate::routing::{Address, Backend, Rule};
use bytes::Bytes;
use http::StatusCode;
use std::sync::Arc;
use tokio::time::Instant;
/// One per process (or worker): load state, TLS configurations by fingerprint, head limits.
#[derive(Default)]
pub struct Dialer { pub balancer: Balancer, pub limits: HeadLimits }
/// Called at each choice, before the dial (again when another endpoint is tried).
pub type OnChosen<'a> = &'a mut (dyn FnMut(&Arc<Backend>, &Address) + Send);
pub struct Upstream {
    pub transport: Transport,
    pub head: ResponseHead,
    pub leftover: Bytes,
    pub backend: Arc<Backend>,
    pub endpoint: Address,
    pub subprotocol: Option<Box<str>>,
    pub deflate: bool,
    /// Another extension was accepted: its RSV bits are not ours to judge.
    pub other_extensions: bool,
    pub lease: Lease,
}
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("answered")] Answered(Box<Answered>),
    #[error("none ready")] NoneReady,
}
impl ConnectError {
    pub fn status(&self) -> StatusCode { todo!() }
    pub fn reason(&self) -> &'static str { todo!() }
    pub fn refusal(&self) -> super::answer::Refusal { todo!() }
}
impl Dialer {
    pub async fn connect(&self, _rule: &Rule, _offer: &Offer, _peer: &Peer, _deadline: Instant, _on_chosen: OnChosen<'_>) -> Result<Upstream, ConnectError> { todo!() }
}
