//! What limits count by, as 64-bit fingerprints: of a route together with an address, a consumer or a header's value.
//!
//! The hash is keyed at random for each process, so nobody outside can find two values with one fingerprint; that two
//! of a million share one by chance happens once in 37 million processes.

use crate::routing::RouteId;
use crate::routing::access::counted_address;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash, Hasher};
use std::net::IpAddr;

/// The key of this process.
#[derive(Clone, Debug, Default)]
pub(super) struct Fingerprints(RandomState);

/// What is counted together.
#[derive(Hash)]
pub(super) enum Counted<'c> {
    /// A client's address; IPv6 by /64.
    Address(IpAddr),
    /// A client's name.
    Consumer(&'c str),
    /// A header's lines, after its name.
    Header(&'c str, Vec<&'c [u8]>),
    /// The route as a whole.
    Route,
}

impl<'c> Counted<'c> {
    /// By the address of `client`.
    pub(super) fn address(client: IpAddr) -> Self {
        Self::Address(counted_address(client))
    }

    /// By the name of a client, or by its address where it has none.
    pub(super) fn consumer(consumer: Option<&'c str>, client: IpAddr) -> Self {
        consumer.map_or_else(|| Self::address(client), Self::Consumer)
    }
}

impl Fingerprints {
    /// Of what `counted` says, on `route`.
    pub(super) fn of(&self, route: &RouteId, counted: &Counted<'_>) -> u64 {
        let mut hasher = self.0.build_hasher();
        route.hash(&mut hasher);
        counted.hash(&mut hasher);
        hasher.finish()
    }
}
