//! Backends and their endpoints: where a rule's sessions may go.

use super::certificate::UpstreamTls;
use serde::{Serialize, Serializer};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// The name of a backend: a Service port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackendId {
    /// Namespace of the Service.
    pub namespace: Box<str>,
    /// Name of the Service.
    pub service: Box<str>,
    /// Port of the Service.
    pub port: u16,
}

impl fmt::Display for BackendId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.namespace, self.service, self.port)
    }
}

impl Serialize for BackendId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Where one endpoint listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// A name to resolve at each dial (`externalName`).
    Name(Box<str>, u16),
    /// A literal address.
    Socket(SocketAddr),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name, port) => write!(f, "{name}:{port}"),
            Self::Socket(address) => address.fmt(f),
        }
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What an endpoint may be used for. Ordered: of two that name one address the greater counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum EndpointState {
    /// Terminating: no new session; live ones leave as the rule's drain says.
    Draining,
    /// Not ready, not terminating: no new session; live ones stay, for it may be ready again in a moment.
    NotReady,
    /// New sessions may go there.
    Ready,
}

/// One address of a backend.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Endpoint {
    /// Where it listens.
    pub address: Address,
    /// What it may be used for.
    pub state: EndpointState,
    /// Topology zone, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<Box<str>>,
}

/// What is spoken to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Protocol {
    /// WebSocket in clear.
    #[serde(rename = "WS")]
    Ws,
    /// WebSocket over TLS.
    #[serde(rename = "WSS")]
    Wss,
}

/// A version of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum ProxyVersion {
    /// Version 1, a line of text.
    V1,
    /// Version 2, binary.
    V2,
}

/// A Service port and its endpoints, sorted by address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Backend {
    /// Its name.
    pub id: BackendId,
    /// What is spoken to it.
    pub protocol: Protocol,
    /// How it is trusted; present exactly when `protocol` is [`Protocol::Wss`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Arc<UpstreamTls>>,
    /// How it is told the client's address before the first byte; `None` for not at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<ProxyVersion>,
    /// Its addresses. Shared between the rules that name the same Service port.
    pub endpoints: Arc<[Endpoint]>,
}

/// What a `backendRef` came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum BackendTarget {
    /// It cannot be used: its share of handshakes is refused with 500. The text says why.
    Invalid(Box<str>),
    /// It can.
    Service(Arc<Backend>),
}

/// A backend and its share of a rule's handshakes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WeightedBackend {
    /// Share relative to the rule's other backends; 0 gets nothing.
    pub weight: u32,
    /// Where the share goes.
    pub target: BackendTarget,
}
