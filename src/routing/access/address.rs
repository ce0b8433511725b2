//! Address rules: from where clients may come. Deny wins; without an allow-list every address is allowed.

use super::cidr::CidrSet;
use serde::Serialize;
use std::net::IpAddr;

/// Blocks that are let in, and blocks that are not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AddressRules {
    /// `None` for every address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow: Option<CidrSet>,
    /// Goes over `allow`.
    pub deny: CidrSet,
}

impl AddressRules {
    /// Whether a client at `address` is let in.
    pub fn admit(&self, address: IpAddr) -> bool {
        !self.deny.contains(address) && self.allow.as_ref().is_none_or(|allow| allow.contains(address))
    }
}
