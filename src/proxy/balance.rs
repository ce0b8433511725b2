//! Chooses a backend by weight and an endpoint by load, and counts the sessions of each endpoint.
//!
//! Load belongs to an address, not to a table: it is kept here, outlives every table, and is shared by all
//! backends that name the address. What a table knows of a backend is turned into a [`Pool`] once; a handshake
//! then takes one read lock and looks at the counters of one backend. A bounded endpoint that is full is passed over,
//! and a place is counted in the step that finds it free, so that no bound is overrun. Whether an endpoint answers is
//! not known here: the dialer comes back with a list of those that did not.

use crate::routing::{Address, Backend, BackendTarget, Endpoint, EndpointState, LoadBalancing, WeightedBackend};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

/// Below this many entries nothing is ever swept.
const SWEEP_FLOOR: usize = 64;

/// Load by address, and how each backend's endpoints stand to it. One for the whole process.
#[derive(Debug, Default)]
pub struct Balancer {
    /// By address of the endpoint list: a pool holds that list weakly, so the address cannot be given to another.
    pools: RwLock<HashMap<usize, Arc<Pool>>>,
    loads: Mutex<HashMap<Address, Arc<AtomicUsize>>>,
}

/// The ready endpoints of one backend in one table.
#[derive(Debug)]
struct Pool {
    endpoints: Weak<[Endpoint]>,
    ready: Box<[Member]>,
    next: AtomicUsize,
}

#[derive(Debug)]
struct Member {
    address: Address,
    sessions: Arc<AtomicUsize>,
}

impl Member {
    fn load(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }

    /// Whether it may be chosen.
    fn is_left(&self, tried: &[Address], most: usize) -> bool {
        self.load() < most && !tried.contains(&self.address)
    }

    /// Counts one more, unless there are `most` already: never more, however many try at once.
    fn enter(&self, most: usize) -> Option<Lease> {
        let one_more = |load: usize| (load < most).then_some(load + 1);
        let entered = self.sessions.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        entered.ok().map(|_| Lease(Arc::clone(&self.sessions)))
    }
}

/// Why no endpoint was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoChoice {
    /// Each that is left has as many sessions as it may have.
    Full,
    /// None that is ready is left.
    NoneReady,
}

/// A session's place at an endpoint, counted from the choice until this is dropped.
#[derive(Debug)]
pub struct Lease(Arc<AtomicUsize>);

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Picks one of a rule's backends at random by weight; `None` if the weights sum to nothing.
pub fn choose_backend(backends: &[WeightedBackend]) -> Option<&BackendTarget> {
    let total: u64 = backends.iter().map(|b| u64::from(b.weight)).sum();
    let mut at = if total == 0 { return None } else { fastrand::u64(..total) };
    let chosen = backends.iter().find(|backend| {
        let weight = u64::from(backend.weight);
        let here = at < weight;
        at = at.saturating_sub(weight);
        here
    });
    chosen.map(|backend| &backend.target)
}

impl Balancer {
    /// Chooses a ready endpoint of `backend` that is not among `tried` and has less than `most` sessions (no bound:
    /// `None`), and counts the session there.
    ///
    /// # Errors
    /// [`NoChoice`] says whether there would be one but for the bound.
    pub fn choose(
        &self,
        backend: &Backend,
        policy: LoadBalancing,
        tried: &[Address],
        most: Option<u32>,
    ) -> Result<(Address, Lease), NoChoice> {
        let pool = self.pool(&backend.endpoints);
        let most = bound(most);
        loop {
            // Who finds the chosen one filled by another handshake chooses anew, now without it.
            let Some(member) = pool.choose(policy, tried, most) else {
                let left = pool.ready.iter().any(|member| !tried.contains(&member.address));
                return Err(if left { NoChoice::Full } else { NoChoice::NoneReady });
            };
            if let Some(lease) = member.enter(most) {
                return Ok((member.address.clone(), lease));
            }
        }
    }

    /// Whether `backend` has a ready endpoint that is not among `tried` and has less than `most` sessions.
    pub fn has_other(&self, backend: &Backend, tried: &[Address], most: Option<u32>) -> bool {
        self.pool(&backend.endpoints).ready.iter().any(|member| member.is_left(tried, bound(most)))
    }

    /// The sessions counted at `address`.
    pub fn sessions(&self, address: &Address) -> usize {
        let loads = self.loads.lock().unwrap_or_else(PoisonError::into_inner);
        loads.get(address).map_or(0, |sessions| sessions.load(Ordering::Relaxed))
    }

    fn pool(&self, endpoints: &Arc<[Endpoint]>) -> Arc<Pool> {
        let key = endpoints.as_ptr() as usize;
        let known = |pool: &&Arc<Pool>| pool.is_of(endpoints);
        if let Some(pool) = self.pools.read().unwrap_or_else(PoisonError::into_inner).get(&key).filter(known) {
            return Arc::clone(pool);
        }
        let fresh = Arc::new(self.make_pool(endpoints));
        let mut pools = self.pools.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = pools.get(&key).filter(known) {
            return Arc::clone(pool); // another handshake was faster
        }
        if pools.len() >= SWEEP_FLOOR && pools.len() == pools.capacity() {
            pools.retain(|_, pool| pool.endpoints.strong_count() > 0);
        }
        pools.insert(key, Arc::clone(&fresh));
        fresh
    }

    fn make_pool(&self, endpoints: &Arc<[Endpoint]>) -> Pool {
        let mut loads = self.loads.lock().unwrap_or_else(PoisonError::into_inner);
        if loads.len() >= SWEEP_FLOOR && loads.len() == loads.capacity() {
            loads.retain(|_, sessions| Arc::strong_count(sessions) > 1);
        }
        let ready = endpoints.iter().filter(|e| e.state == EndpointState::Ready).map(|endpoint| Member {
            address: endpoint.address.clone(),
            sessions: Arc::clone(loads.entry(endpoint.address.clone()).or_default()),
        });
        Pool {
            endpoints: Arc::downgrade(endpoints),
            ready: ready.collect(),
            next: AtomicUsize::new(fastrand::usize(..1024)), // replicas must not march in step
        }
    }
}

impl Pool {
    fn is_of(&self, endpoints: &Arc<[Endpoint]>) -> bool {
        self.endpoints.ptr_eq(&Arc::downgrade(endpoints))
    }

    fn choose(&self, policy: LoadBalancing, tried: &[Address], most: usize) -> Option<&Member> {
        let members = &self.ready;
        let left = |member: &Member| member.is_left(tried, most);
        match policy {
            LoadBalancing::RoundRobin => {
                let mut turns = members.iter().map(|_| self.next.fetch_add(1, Ordering::Relaxed) % members.len());
                turns.find(|at| left(&members[*at])).map(|at| &members[at]).or_else(|| members.iter().find(|m| left(m)))
            }
            LoadBalancing::PowerOfTwoChoices if members.len() > 2 && tried.is_empty() => {
                let one = fastrand::usize(..members.len());
                let step = fastrand::usize(1..members.len());
                let (one, other) = (&members[one], &members[(one + step) % members.len()]);
                let chosen = if other.load() < one.load() { other } else { one };
                // Where both are full, one of the rest may still not be.
                Some(chosen).filter(|chosen| left(chosen)).or_else(|| least(members.iter().filter(|m| left(m))))
            }
            // Of two at most, and of what a failed dial left over, both mean the same.
            LoadBalancing::LeastConnections | LoadBalancing::PowerOfTwoChoices => {
                least(members.iter().filter(|m| left(m)))
            }
        }
    }
}

/// A bound as it is compared.
fn bound(most: Option<u32>) -> usize {
    most.map_or(usize::MAX, |most| most as usize)
}

/// The least loaded; among equals each with the same chance.
fn least<'m>(members: impl Iterator<Item = &'m Member>) -> Option<&'m Member> {
    let mut best: Option<(&Member, usize)> = None;
    let mut equals = 0;
    for member in members {
        let load = member.load();
        match best {
            Some((_, least)) if load > least => continue,
            Some((_, least)) if load == least => {
                equals += 1;
                if fastrand::usize(..equals) != 0 {
                    continue;
                }
            }
            _ => equals = 1,
        }
        best = Some((member, load));
    }
    best.map(|(member, _)| member)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::{BackendId, Protocol};
    use std::collections::HashSet;

    fn address(port: u16) -> Address {
        Address::Socket(([127, 0, 0, 1], port).into())
    }

    /// Ready endpoints on ports 1 to `ready`, and a draining one on port 100.
    fn backend(ready: u16) -> Arc<Backend> {
        let endpoint = |port, state| Endpoint { address: address(port), state, zone: None };
        let ready = (1..=ready).map(|port| endpoint(port, EndpointState::Ready));
        Arc::new(Backend {
            id: BackendId { namespace: "ns".into(), service: "s".into(), port: 80 },
            protocol: Protocol::Ws,
            tls: None,
            proxy_protocol: None,
            endpoints: ready.chain([endpoint(100, EndpointState::Draining)]).collect(),
        })
    }

    const POLICIES: [LoadBalancing; 3] =
        [LoadBalancing::LeastConnections, LoadBalancing::PowerOfTwoChoices, LoadBalancing::RoundRobin];

    #[test]
    fn gives_no_session_to_a_draining_or_tried_endpoint() {
        for policy in POLICIES {
            let (balancer, backend) = (Balancer::default(), backend(5));
            let mut tried = Vec::new();
            while let Ok((address, _lease)) = balancer.choose(&backend, policy, &tried, None) {
                assert!(!tried.contains(&address), "{policy:?} chose {address} again");
                tried.push(address);
            }
            assert_eq!(tried.len(), 5, "{policy:?}");
            assert!(!tried.contains(&address(100)), "{policy:?}");
        }
    }

    #[test]
    fn least_connections_and_round_robin_fill_evenly() {
        for policy in [LoadBalancing::LeastConnections, LoadBalancing::RoundRobin] {
            let (balancer, backend) = (Balancer::default(), backend(7));
            let held: Vec<_> = (0..70).filter_map(|_| balancer.choose(&backend, policy, &[], None).ok()).collect();
            assert_eq!(held.len(), 70);
            for port in 1..=7 {
                assert_eq!(balancer.sessions(&address(port)), 10, "{policy:?}, port {port}");
            }
        }
    }

    #[test]
    fn two_choices_never_take_the_most_loaded() {
        let (balancer, backend) = (Balancer::default(), backend(3));
        let tried = [address(2), address(3)];
        let _heavy: Vec<_> =
            (0..50).map(|_| balancer.choose(&backend, LoadBalancing::RoundRobin, &tried, None)).collect();
        for _ in 0..50 {
            let (chosen, _lease) =
                balancer.choose(&backend, LoadBalancing::PowerOfTwoChoices, &[], None).expect("three are ready");
            assert_ne!(chosen, address(1));
        }
    }

    #[test]
    fn equals_are_not_always_the_first() {
        let (balancer, backend) = (Balancer::default(), backend(4));
        let choose =
            |_| balancer.choose(&backend, LoadBalancing::LeastConnections, &[], None).ok().map(|(address, _)| address);
        assert_eq!((0..400).filter_map(choose).collect::<HashSet<_>>().len(), 4);
    }

    #[test]
    fn load_survives_a_new_table_and_ends_with_the_lease() {
        let balancer = Balancer::default();
        let old = backend(2);
        let only_two = [address(1)];
        let held = balancer.choose(&old, LoadBalancing::LeastConnections, &only_two, None);
        drop(old);
        let new = backend(2);
        for _ in 0..20 {
            let chosen = balancer.choose(&new, LoadBalancing::LeastConnections, &[], None).map(|(address, _)| address);
            assert_eq!(chosen, Ok(address(1)), "the session at port 2 still counts");
        }
        drop(held);
        assert_eq!(balancer.sessions(&address(2)), 0);
    }

    #[test]
    fn forgets_the_pools_and_loads_of_old_tables() {
        let balancer = Balancer::default();
        for _ in 0..2000 {
            drop(balancer.choose(&backend(2), LoadBalancing::RoundRobin, &[], None));
        }
        assert!(balancer.pools.read().expect("not poisoned").len() < 500);
    }

    #[test]
    fn a_full_endpoint_is_passed_over_until_a_session_ends_there() {
        for policy in POLICIES {
            let (balancer, backend) = (Balancer::default(), backend(4));
            let choose = || balancer.choose(&backend, policy, &[], Some(3));
            let mut held: Vec<_> = (0..12).filter_map(|_| choose().ok()).collect();
            assert_eq!(held.len(), 12, "{policy:?}");
            assert!((1..=4).all(|port| balancer.sessions(&address(port)) == 3), "{policy:?}");
            assert_eq!(choose().err(), Some(NoChoice::Full), "{policy:?}");
            assert!(!balancer.has_other(&backend, &[], Some(3)), "{policy:?}");
            let (left, _) = held.swap_remove(5);
            let chosen = choose();
            assert_eq!(chosen.map(|(address, _)| address), Ok(left), "{policy:?}");
            let all: Vec<_> = (1..=4).map(address).collect();
            assert_eq!(balancer.choose(&backend, policy, &all, Some(3)).err(), Some(NoChoice::NoneReady), "{policy:?}");
        }
    }

    #[test]
    fn many_at_once_do_not_overrun_a_bound() {
        for policy in POLICIES {
            let (balancer, backend, barrier) = (Balancer::default(), backend(3), std::sync::Barrier::new(8));
            let take = || {
                barrier.wait();
                (0..100).filter_map(|_| balancer.choose(&backend, policy, &[], Some(20)).ok()).collect::<Vec<_>>()
            };
            let held = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..8).map(|_| scope.spawn(take)).collect();
                threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect::<Vec<_>>()
            });
            assert_eq!(held.len(), 60, "{policy:?}");
            assert!((1..=3).all(|port| balancer.sessions(&address(port)) == 20), "{policy:?}");
        }
    }

    #[test]
    fn backends_share_by_weight() {
        let target = |name: &str| BackendTarget::Invalid(name.into());
        let weighted = |weight, name| WeightedBackend { weight, target: target(name) };
        assert_eq!(choose_backend(&[weighted(0, "a")]), None);
        let backends = [weighted(1, "a"), weighted(0, "b"), weighted(3, "c")];
        let chosen: Vec<_> = (0..4000).filter_map(|_| choose_backend(&backends)).collect();
        let share = |name| chosen.iter().filter(|t| ***t == target(name)).count();
        assert_eq!((chosen.len(), share("b")), (4000, 0));
        assert!((700..1300).contains(&share("a")), "{}", share("a"));
    }
}
