//! Limits on what is new: handshakes in a time, sessions at a time.

use serde::Serialize;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// So many in a time, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Rate {
    /// How many in `per`; at least 1.
    pub limit: u64,
    /// The unit of time.
    #[serde(serialize_with = "crate::routing::policy::whole")]
    pub per: Duration,
    /// How many at once after a rest; at least 1.
    pub burst: u64,
}

/// The address that `address` is counted by: of IPv6 the first of its /64, for a client has all of that to choose from
/// (RFC 8981). An IPv4 address written as an IPv6 one is the IPv4 address.
pub fn counted_address(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// By what handshakes are counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum RateKey {
    /// By address; IPv6 by /64.
    ClientIp,
    /// By the client's name.
    Consumer,
    /// By the value of this header, lower case.
    Header(Box<str>),
    /// Together.
    Route,
}

/// A bound on handshakes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HandshakeRate {
    /// How often.
    pub rate: Rate,
    /// Counted by what.
    pub key: RateKey,
}

/// Bounds on live sessions; `None` is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ConnectionLimits {
    /// Of the route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<u32>,
    /// Of one address on the route; IPv6 by /64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ip: Option<u32>,
    /// Of one consumer on the route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumer: Option<u32>,
    /// Of one endpoint, whatever route its sessions came by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<u32>,
}

impl ConnectionLimits {
    /// Whether nothing is bounded.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the sessions of the route are to be counted: for itself, by address or by consumer.
    pub fn counts_sessions(&self) -> bool {
        self.route.is_some() || self.client_ip.is_some() || self.consumer.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_64_block_are_counted_as_one() {
        let counted = |text: &str| counted_address(text.parse().expect("an address")).to_string();
        assert_eq!(counted("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(counted("2001:db8:1:2:ffff:ffff:ffff:ffff"), "2001:db8:1:2::");
        assert_eq!(counted("2001:db8:1:3::1"), "2001:db8:1:3::");
        assert_eq!(counted("192.0.2.1"), "192.0.2.1");
        assert_eq!(counted("::ffff:192.0.2.1"), "192.0.2.1", "IPv4 by the whole address, however it is written");
    }
}
