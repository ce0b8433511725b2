//! Slots: how many sessions there may be at a time, of a route, an address and a consumer.
//!
//! A session holds one slot of each kind from before its backend is dialled until it leaves the register, whatever ended
//! it. All kinds are counted as soon as a route bounds one, so that a further bound finds those that are here already.
//! What a route has lies under one lock: a handshake gets all of its slots or none, and none is taken meanwhile.
//! Bounds of an endpoint are the balancer's business, that of the process `overload`'s.

use super::Denial;
use super::fingerprint::{Counted, Fingerprints};
use crate::routing::RouteId;
use crate::routing::access::ConnectionLimits;
use crate::telemetry::HandshakeReason;
use http::StatusCode;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Each with a lock of its own; a route lies in one of them.
const SHARDS: usize = 64;

/// The longest, in seconds, that a client is told to wait. How long a session will last is known to nobody; that
/// clients do not come back together is what matters.
const LONGEST_WAIT: u32 = 10;

/// The slots that are taken.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Slots(Arc<Taken>);

#[derive(Debug)]
struct Taken {
    fingerprints: Fingerprints,
    /// By fingerprint; what nobody holds is not there.
    shards: [Mutex<HashMap<u64, u32>>; SHARDS],
}

impl Default for Taken {
    fn default() -> Self {
        Self { fingerprints: Fingerprints::default(), shards: std::array::from_fn(|_| Mutex::default()) }
    }
}

impl Taken {
    fn lock(&self, shard: usize) -> MutexGuard<'_, HashMap<u64, u32>> {
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Slots of one session; given back when dropped. Of a route without bounds, nothing.
#[derive(Debug, Default)]
pub(in crate::proxy) struct SlotsHeld(Option<Box<Held>>);

#[derive(Debug)]
struct Held {
    taken: Arc<Taken>,
    shard: usize,
    /// Of the route, the address and the consumer.
    fingerprints: [Option<u64>; 3],
}

impl SlotsHeld {
    /// Whether there are none.
    pub(in crate::proxy) fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut counts = self.taken.lock(self.shard);
        for fingerprint in self.fingerprints.iter().flatten() {
            match counts.get_mut(fingerprint) {
                Some(count) if *count > 1 => *count -= 1,
                _ => drop(counts.remove(fingerprint)),
            }
        }
        if counts.capacity() > 64 && counts.len() < counts.capacity() / 8 {
            counts.shrink_to_fit();
        }
    }
}

impl Slots {
    /// Takes one of each kind, or none if that would be above a bound.
    pub(super) fn take(
        &self,
        limits: &ConnectionLimits,
        route: &RouteId,
        client: IpAddr,
        consumer: Option<&Arc<str>>,
    ) -> Result<SlotsHeld, Denial> {
        if !limits.counts_sessions() {
            return Ok(SlotsHeld::default());
        }
        self.enter(route, client, consumer, |[of_route, of_address, of_consumer]| {
            let reached = |count: u32, limit: Option<u32>| limit.filter(|limit| count >= *limit);
            // What concerns only this client comes first: it says more.
            if let Some(limit) = reached(of_address, limits.client_ip) {
                return Err(denial(StatusCode::TOO_MANY_REQUESTS, "maxConnectionsPerClientIP", limit));
            }
            if let Some(limit) = reached(of_consumer, limits.consumer) {
                return Err(denial(StatusCode::TOO_MANY_REQUESTS, "maxConnectionsPerConsumer", limit));
            }
            if let Some(limit) = reached(of_route, limits.route) {
                return Err(denial(StatusCode::SERVICE_UNAVAILABLE, "maxConnections", limit));
            }
            Ok(())
        })
    }

    /// Slots of a session that is there already: whatever the bounds are, it is counted.
    pub(in crate::proxy) fn count(&self, route: &RouteId, client: IpAddr, consumer: Option<&Arc<str>>) -> SlotsHeld {
        self.enter(route, client, consumer, |_| Ok(())).unwrap_or_default()
    }

    /// Takes one of each kind if `judge` agrees to the numbers there are: of the route, the address and the consumer.
    fn enter(
        &self,
        route: &RouteId,
        client: IpAddr,
        consumer: Option<&Arc<str>>,
        judge: impl FnOnce([u32; 3]) -> Result<(), Denial>,
    ) -> Result<SlotsHeld, Denial> {
        let taken = &self.0;
        let of = |counted: &Counted<'_>| taken.fingerprints.of(route, counted);
        let of_route = of(&Counted::Route);
        let of_consumer = consumer.map(|name| of(&Counted::Consumer(name)));
        let fingerprints = [Some(of_route), Some(of(&Counted::address(client))), of_consumer];
        let shard = of_route as usize % SHARDS;
        let mut counts = taken.lock(shard);
        judge(fingerprints.map(|print| print.and_then(|print| counts.get(&print).copied()).unwrap_or(0)))?;
        for fingerprint in fingerprints.iter().flatten() {
            *counts.entry(*fingerprint).or_insert(0) += 1;
        }
        drop(counts);
        Ok(SlotsHeld(Some(Box::new(Held { taken: Arc::clone(taken), shard, fingerprints }))))
    }
}

/// The client is told what it is about, the record which bound it was.
fn denial(status: StatusCode, field: &str, limit: u32) -> Denial {
    let text = if status == StatusCode::TOO_MANY_REQUESTS {
        "you have as many connections open as you may: close one, or try again later"
    } else {
        "there are as many connections as there may be: try again later"
    };
    let mut denial = Denial::new(status, HandshakeReason::ConnectionLimit, text);
    denial.refusal = denial.refusal.retry_after(fastrand::u32(1..=LONGEST_WAIT));
    denial.detailed(format!("connectionLimit.{field}: {limit} are open"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    fn route(name: &str) -> RouteId {
        RouteId { namespace: "ns".into(), name: name.into() }
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn counted(slots: &Slots) -> usize {
        (0..SHARDS).map(|shard| slots.0.lock(shard).len()).sum()
    }

    const ROUTE: ConnectionLimits =
        ConnectionLimits { route: Some(2), client_ip: None, consumer: None, endpoint: None };

    /// Status and detail of a denial, and whether it says when to come back.
    fn told(taken: Result<SlotsHeld, Denial>) -> Option<(u16, String)> {
        let denial = taken.err()?;
        let wait = denial.refusal.headers.iter().find(|(name, _)| *name == "Retry-After");
        let wait: u32 = wait.and_then(|(_, value)| value.parse().ok()).expect("it says when to come back");
        assert!((1..=LONGEST_WAIT).contains(&wait), "{wait}");
        assert_eq!(denial.reason, HandshakeReason::ConnectionLimit);
        Some((denial.refusal.status.as_u16(), denial.detail.into_owned()))
    }

    #[test]
    fn a_full_route_gets_503_until_a_slot_comes_back() {
        let slots = Slots::default();
        let take = |name: &str| slots.take(&ROUTE, &route(name), address("192.0.2.1"), None);
        let held = [take("a").expect("free"), take("a").expect("free")];
        assert_eq!(told(take("a")), Some((503, "connectionLimit.maxConnections: 2 are open".to_owned())));
        assert!(take("b").is_ok(), "another route counts for itself");
        drop(held);
        assert!(take("a").is_ok());
        assert_eq!(counted(&slots), 0, "what nobody holds takes no memory");
    }

    #[test]
    fn an_address_with_all_it_may_have_gets_429_and_ipv6_is_counted_by_its_64_block() {
        let slots = Slots::default();
        let limits = ConnectionLimits { client_ip: Some(1), ..ConnectionLimits::default() };
        let take = |from: &str| slots.take(&limits, &route("a"), address(from), None);
        let _held = take("2001:db8::1").expect("free");
        let said = "connectionLimit.maxConnectionsPerClientIP: 1 are open".to_owned();
        assert_eq!(told(take("2001:db8::ffff:1")), Some((429, said)));
        assert!(take("2001:db8:0:1::1").is_ok());
    }

    #[test]
    fn a_consumer_with_all_it_may_have_gets_429_wherever_it_comes_from() {
        let slots = Slots::default();
        let limits = ConnectionLimits { consumer: Some(1), ..ConnectionLimits::default() };
        let take = |from: &str, name: Option<&str>| {
            slots.take(&limits, &route("a"), address(from), name.map(Arc::from).as_ref())
        };
        let _held = take("192.0.2.1", Some("alice")).expect("free");
        let said = "connectionLimit.maxConnectionsPerConsumer: 1 are open".to_owned();
        assert_eq!(told(take("192.0.2.2", Some("alice"))), Some((429, said)));
        assert!(take("192.0.2.1", Some("bob")).is_ok());
        assert!([take("192.0.2.1", None), take("192.0.2.1", None)].iter().all(Result::is_ok), "nameless clients");
    }

    #[test]
    fn a_denied_handshake_takes_nothing() {
        let slots = Slots::default();
        let limits = ConnectionLimits { client_ip: Some(1), ..ROUTE };
        let take = |from: &str| slots.take(&limits, &route("a"), address(from), None);
        let _held = take("192.0.2.1").expect("free");
        for _ in 0..10 {
            assert_eq!(told(take("192.0.2.1")).map(|(status, _)| status), Some(429));
        }
        assert!(take("192.0.2.2").is_ok(), "one place of the route is left");
    }

    #[test]
    fn a_bound_that_comes_later_finds_the_sessions_that_are_here() {
        let slots = Slots::default();
        let from = address("192.0.2.1");
        let _held = slots.take(&ROUTE, &route("a"), from, None).expect("free");
        let _counted = slots.count(&route("a"), from, None);
        let limits = ConnectionLimits { client_ip: Some(2), ..ConnectionLimits::default() };
        assert_eq!(told(slots.take(&limits, &route("a"), from, None)).map(|(status, _)| status), Some(429));
    }

    #[test]
    fn without_a_bound_nothing_is_counted() {
        let slots = Slots::default();
        let limits = ConnectionLimits { endpoint: Some(1), ..ConnectionLimits::default() };
        let held = slots.take(&limits, &route("a"), address("192.0.2.1"), None).expect("no bound");
        assert!(held.is_empty() && counted(&slots) == 0);
    }

    #[test]
    fn many_at_once_get_exactly_as_many_as_there_are() {
        let (slots, barrier) = (Slots::default(), Barrier::new(8));
        let limits = ConnectionLimits { route: Some(100), ..ConnectionLimits::default() };
        let take = || {
            barrier.wait();
            let all = (0..200).filter_map(|_| slots.take(&limits, &route("a"), address("192.0.2.1"), None).ok());
            all.collect::<Vec<_>>()
        };
        let held = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(take)).collect();
            // Kept until all have tried: what is given back may be taken again.
            threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect::<Vec<_>>()
        });
        assert_eq!(held.len(), 100);
        drop(held);
        assert_eq!(counted(&slots), 0);
    }
}
