//! Client detection: whose word on a client's address is believed.

use super::cidr::CidrSet;
use serde::Serialize;
use std::net::IpAddr;

/// Whether connections begin with a PROXY protocol header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum ProxyProtocol {
    /// They do not.
    #[default]
    Disabled,
    /// Those of trusted addresses may.
    Optional,
    /// They must.
    Required,
}

/// What a class says of the load balancers before it. The default believes nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ClientDetection {
    /// The PROXY protocol.
    pub proxy_protocol: ProxyProtocol,
    /// The addresses of load balancers.
    pub trusted: CidrSet,
    /// How many entries of `X-Forwarded-For` or `Forwarded` are theirs.
    pub trusted_hops: u8,
}

impl ClientDetection {
    /// Whether the address of the connection is the client's.
    pub fn is_direct(&self) -> bool {
        self.proxy_protocol == ProxyProtocol::Disabled && self.trusted_hops == 0
    }

    /// Whether a connection from `peer` may begin with a PROXY protocol header.
    pub fn reads_proxy_protocol(&self, peer: IpAddr) -> bool {
        self.proxy_protocol != ProxyProtocol::Disabled && self.trusted.contains(peer)
    }
}
