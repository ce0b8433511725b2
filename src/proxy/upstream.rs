//! Opens the upstream side of a session: chooses an endpoint, dials it, sends the handshake and judges the answer.
//!
//! Decides what may be tried again: another endpoint after a failed connect, because nothing was sent; nothing
//! once a byte of the request is out (RFC 9110 §9.2.2). The client is not answered here.

use super::acceptance::{AcceptanceFault, check};
use super::answer::Refusal;
use super::balance::{Balancer, Lease, NoChoice, choose_backend};
use super::dial::{DialError, dial};
use super::forward::{Forwarded, request_head};
use super::head::{HeadError, HeadLimits, ReadError, ResponseHead, read_head};
use super::pass::Answered;
use super::proxy_protocol;
use super::transport::Transport;
use super::upstream_tls::UpstreamTlsConfigs;
use crate::routing::{Address, Backend, BackendId, BackendTarget, Rule};
use crate::telemetry::{HandshakePhase, HandshakeReason, Metrics};
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use std::io;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout_at};

/// Endpoints tried for one handshake.
const MAX_TRIES: usize = 3;
/// The longest, in seconds, that a client is told to wait for a place at an endpoint, or for a port of ours.
const LONGEST_WAIT: u32 = 10;
/// Interim answers (100, 102, 103) skipped before the real one.
const MAX_INTERIM: usize = 8;

/// Everything that outlives one dial. One for the whole process.
#[derive(Debug, Default)]
pub struct Dialer {
    /// The load of every endpoint.
    pub balancer: Balancer,
    /// How large an upstream's answer may be. Its target bound is not used.
    pub limits: HeadLimits,
    /// TLS configurations towards upstreams.
    pub tls: UpstreamTlsConfigs,
    /// Where connect errors and durations are counted; `None` counts nothing.
    pub metrics: Option<Arc<Metrics>>,
}

/// Told of each choice before the dial, so that the session is registered under its endpoint; told again when
/// another endpoint is tried.
pub type OnChosen<'a> = &'a mut (dyn FnMut(&Arc<Backend>, &Address) + Send);

/// The upstream side of a session: connected, and agreed on by a checked 101.
#[derive(Debug)]
pub struct Upstream {
    /// The connection.
    pub transport: Transport,
    /// The 101.
    pub head: ResponseHead,
    /// What came after the 101: frames for the client.
    pub leftover: Bytes,
    /// What the rule named.
    pub backend: Arc<Backend>,
    /// Where the session went.
    pub endpoint: Address,
    /// The chosen one of the offered subprotocols.
    pub subprotocol: Option<Box<str>>,
    /// Whether permessage-deflate is in use, so that RSV1 is legal.
    pub deflate: bool,
    /// Whether another extension is in use: what RSV bits mean then is not ours to judge.
    pub other_extensions: bool,
    /// Counts the session at its endpoint.
    pub lease: Lease,
}

/// Why there is no upstream side. `Display` is for the log and may name inner details; what the client is told
/// is [`ConnectError::refusal`].
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The 101 is no answer to this handshake.
    #[error("the upstream's 101 is wrong: {0}")]
    Acceptance(#[from] AcceptanceFault),
    /// Something other than 101: the client is to get it whole.
    #[error("the upstream answered {}", .0.head.status)]
    Answered(Box<Answered>),
    /// It took the request and closed or broke.
    #[error("the upstream closed without an answer: {0}")]
    Broken(io::Error),
    /// No endpoint that was tried could be connected to.
    #[error("{endpoint}: {error}")]
    Dial {
        /// The last one tried.
        endpoint: Address,
        /// Why not that one.
        error: DialError,
    },
    /// Every ready endpoint of the chosen backend has as many sessions as it may have.
    #[error("connectionLimit.maxConnectionsPerEndpoint: {1} are open at every ready endpoint of {0}")]
    Full(BackendId, u32),
    /// The answer is not strict HTTP/1.1.
    #[error("the upstream's answer is malformed: {0}")]
    Head(#[from] HeadError),
    /// The chosen `backendRef` cannot be used. The text says why.
    #[error("the backend is invalid: {0}")]
    InvalidBackend(Box<str>),
    /// The rule has no backend with a weight.
    #[error("the rule has no backend with a weight")]
    NoBackend,
    /// The chosen backend has no ready endpoint.
    #[error("{0} has no ready endpoint")]
    NoneReady(BackendId),
    /// Connected, but no whole answer in time.
    #[error("the upstream did not answer in time")]
    Silent,
}

impl ConnectError {
    /// What the client is answered.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Answered(answer) => StatusCode::from_u16(answer.head.status).unwrap_or(StatusCode::BAD_GATEWAY),
            Self::Dial { error: DialError::Timeout, .. } | Self::Silent => StatusCode::GATEWAY_TIMEOUT,
            Self::Dial { error, .. } if error.is_ours() => StatusCode::SERVICE_UNAVAILABLE,
            Self::Acceptance(_) | Self::Broken(_) | Self::Dial { .. } | Self::Head(_) => StatusCode::BAD_GATEWAY,
            Self::InvalidBackend(_) | Self::NoBackend => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Full(..) | Self::NoneReady(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The label of metrics and records.
    pub fn reason(&self) -> HandshakeReason {
        match self {
            Self::Acceptance(_) | Self::Head(_) => HandshakeReason::BackendProtocol,
            Self::Answered(_) => HandshakeReason::BackendStatus,
            Self::Dial { error: DialError::Timeout, .. } | Self::Silent => HandshakeReason::BackendTimeout,
            Self::Dial { error, .. } if error.is_ours() => HandshakeReason::Overloaded,
            Self::Broken(_) | Self::Dial { .. } => HandshakeReason::BackendConnect,
            Self::Full(..) => HandshakeReason::ConnectionLimit,
            Self::InvalidBackend(_) | Self::NoBackend => HandshakeReason::InvalidBackend,
            Self::NoneReady(_) => HandshakeReason::NoEndpoint,
        }
    }

    /// The answer when the upstream has none of its own. Names no address: the client is a stranger.
    pub fn refusal(&self) -> Refusal {
        let text = match self {
            Self::Acceptance(_) | Self::Head(_) => "the service answered the handshake wrongly; tell its operator",
            Self::Answered(_) => "the service refused the handshake",
            Self::Broken(_) => "the service closed the connection without an answer; try again",
            Self::Dial { error: DialError::Timeout, .. } => "the service could not be reached in time; try again",
            Self::Dial { error, .. } if error.is_ours() => "overloaded: try again later",
            Self::Dial { .. } => "the service could not be reached; try again",
            Self::Full(..) => "there are as many connections as there may be: try again later",
            Self::InvalidBackend(_) | Self::NoBackend => "the route names no usable backend; tell its operator",
            Self::NoneReady(_) => "the service has no ready endpoint; try again",
            Self::Silent => "the service did not answer in time; try again",
        };
        let refusal = Refusal::new(self.status(), text);
        let waits = match self {
            Self::Full(..) => true,
            Self::Dial { error, .. } => error.is_ours(),
            _ => false,
        };
        if waits { refusal.retry_after(fastrand::u32(1..=LONGEST_WAIT)) } else { refusal }
    }
}

impl Dialer {
    /// Opens the upstream side for a handshake before `deadline`.
    ///
    /// # Errors
    /// [`ConnectError`]; [`ConnectError::Answered`] holds the upstream's own answer.
    pub async fn connect(
        &self,
        rule: &Rule,
        forwarded: Forwarded<'_>,
        deadline: Instant,
        on_chosen: OnChosen<'_>,
    ) -> Result<Upstream, ConnectError> {
        let backend = match choose_backend(&rule.backends) {
            None => return Err(ConnectError::NoBackend),
            Some(BackendTarget::Invalid(why)) => return Err(ConnectError::InvalidBackend(why.clone())),
            Some(BackendTarget::Service(backend)) => backend,
        };
        let peer = forwarded.peer;
        let preface = backend.proxy_protocol.map(|version| proxy_protocol::write(version, peer.address, peer.local));
        let mut tried = Vec::new();
        let most = rule.access.connections.endpoint;
        loop {
            let chosen = self.balancer.choose(backend, rule.policy.balancing, &tried, most);
            let (endpoint, lease) = chosen.map_err(|none| match none {
                NoChoice::Full => ConnectError::Full(backend.id.clone(), most.unwrap_or_default()),
                NoChoice::NoneReady => ConnectError::NoneReady(backend.id.clone()),
            })?;
            on_chosen(backend, &endpoint);
            let began = Instant::now();
            let in_time = deadline.min(began + rule.policy.timeouts.backend_connect);
            match dial(&endpoint, preface.as_deref(), backend.tls.as_deref(), &self.tls, in_time).await {
                Ok(transport) => {
                    self.took(HandshakePhase::BackendConnect, began);
                    let chosen = Chosen { backend: Arc::clone(backend), endpoint, lease };
                    return self.agree(transport, chosen, forwarded, deadline).await;
                }
                Err(error) => {
                    if let Some(metrics) = &self.metrics {
                        metrics.backend(&backend.id).connect_failed(error.label());
                    }
                    let last = tried.len() + 1 == MAX_TRIES || Instant::now() >= deadline;
                    tried.push(endpoint);
                    if last || !self.balancer.has_other(backend, &tried, most) {
                        let endpoint = tried.swap_remove(tried.len() - 1);
                        return Err(ConnectError::Dial { endpoint, error });
                    }
                }
            }
        }
    }

    fn took(&self, phase: HandshakePhase, began: Instant) {
        if let Some(metrics) = &self.metrics {
            metrics.handshake_took(phase, began.elapsed());
        }
    }

    /// Sends the handshake over a connected transport and judges the answer.
    async fn agree(
        &self,
        mut transport: Transport,
        chosen: Chosen,
        forwarded: Forwarded<'_>,
        deadline: Instant,
    ) -> Result<Upstream, ConnectError> {
        let began = Instant::now();
        let mut buffer = BytesMut::with_capacity(1024);
        let exchange = async {
            transport.write_all(&request_head(forwarded)).await.map_err(ConnectError::Broken)?;
            transport.flush().await.map_err(ConnectError::Broken)?;
            self.read_answer(&mut transport, &mut buffer).await
        };
        let head = timeout_at(deadline, exchange).await.unwrap_or(Err(ConnectError::Silent))?;
        self.took(HandshakePhase::BackendResponse, began);
        let leftover = if buffer.is_empty() { Bytes::new() } else { buffer.freeze() };
        let Chosen { backend, endpoint, lease } = chosen;
        if head.status != 101 {
            return Err(ConnectError::Answered(Box::new(Answered {
                head,
                transport,
                leftover,
                backend,
                endpoint,
                lease,
            })));
        }
        let agreed = check(&head, forwarded)?;
        Ok(Upstream {
            transport,
            head,
            leftover,
            backend,
            endpoint,
            subprotocol: agreed.subprotocol,
            deflate: agreed.deflate,
            other_extensions: agreed.other_extensions,
            lease,
        })
    }

    /// Reads the first answer that is not interim (U6).
    async fn read_answer(
        &self,
        transport: &mut Transport,
        buffer: &mut BytesMut,
    ) -> Result<ResponseHead, ConnectError> {
        for _ in 0..=MAX_INTERIM {
            let raw = read_head(transport, buffer, &self.limits).await.map_err(|error| match error {
                ReadError::Head(error) => ConnectError::Head(error),
                ReadError::Io(error) => ConnectError::Broken(error),
                ReadError::Closed | ReadError::Truncated => ConnectError::Broken(io::ErrorKind::UnexpectedEof.into()),
            })?;
            let head = ResponseHead::parse(&raw, &self.limits)?;
            if head.status == 101 || head.status >= 200 {
                return Ok(head);
            }
        }
        Err(ConnectError::Head(HeadError::StartLine))
    }
}

/// Where a session is going while it is being opened.
struct Chosen {
    backend: Arc<Backend>,
    endpoint: Address,
    lease: Lease,
}

#[cfg(test)]
mod tests;
