//! The index of a table: from host and path to the candidates, in order of precedence.
//!
//! Follows from the routes and from nothing else: whatever the order in which they came and went, equal routes have
//! an equal index. Lookup costs a few hash probes per host pattern that covers the host, whatever the number of
//! routes; only regular expressions of one host are tried one by one. A change touches the lists its route is in; the
//! others are shared with the table before.

use super::access::{ClientDetection, ProxyProtocol};
use super::host::{HostPattern, suffixes};
use super::matching::{Match, PathMatch, Rank};
use super::request::Request;
use super::rule::{Route, RouteId, Rule};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// One match of one rule under one host pattern.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) rule: Arc<Rule>,
    /// When its route was created.
    created: i64,
    /// Its rule's position in the route.
    position: usize,
    /// The match's position in the rule.
    at: usize,
}

impl Candidate {
    pub(super) fn matching(&self) -> &Match {
        &self.rule.matches[self.at]
    }

    /// The order of precedence: rank, then age, then name, then position. No two candidates of one host are equal in it.
    fn order(&self) -> (Rank, i64, &RouteId, usize, usize) {
        (self.matching().rank(), self.created, &self.rule.id.route, self.position, self.at)
    }
}

/// Candidates in order of precedence.
type List = Arc<Vec<Candidate>>;

/// The candidates of one host pattern.
#[derive(Clone, Debug)]
pub(super) struct HostRules {
    pub(super) pattern: HostPattern,
    exact: HashMap<Arc<str>, List>,
    regular: List,
    prefix: HashMap<Arc<str>, List>,
    longest_prefix: usize,
    /// How many of the candidates want to see a client's certificate.
    asking: usize,
}

impl HostRules {
    fn new(pattern: HostPattern) -> Self {
        let (exact, regular, prefix) = Default::default();
        Self { pattern, exact, regular, prefix, longest_prefix: 0, asking: 0 }
    }

    fn add(&mut self, candidate: Candidate) {
        self.asking += usize::from(candidate.rule.access.certificates.is_some());
        let list = match &candidate.matching().path {
            PathMatch::Exact(path) => entry(&mut self.exact, path),
            PathMatch::Prefix(path) => {
                self.longest_prefix = self.longest_prefix.max(path.len());
                entry(&mut self.prefix, path)
            }
            PathMatch::Regular(_) => &mut self.regular,
        };
        let at = list.partition_point(|other| other.order() < candidate.order());
        Arc::make_mut(list).insert(at, candidate);
    }

    fn remove(&mut self, candidate: &Candidate) {
        self.asking -= usize::from(candidate.rule.access.certificates.is_some());
        match &candidate.matching().path {
            PathMatch::Exact(path) => remove(&mut self.exact, path, candidate),
            PathMatch::Prefix(path) => {
                remove(&mut self.prefix, path, candidate);
                if path.len() == self.longest_prefix {
                    self.longest_prefix = self.prefix.keys().map(|path| path.len()).max().unwrap_or(0);
                }
            }
            PathMatch::Regular(_) => remove_from(&mut self.regular, candidate),
        }
    }

    fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.regular.is_empty() && self.prefix.is_empty()
    }

    pub(super) fn find(&self, request: &Request<'_>) -> Option<&Candidate> {
        let fits = |c: &&Candidate| c.matching().accepts_fields(request).is_ok();
        let exact = self.exact.get(request.path).and_then(|list| list.iter().find(fits));
        if exact.is_some() {
            return exact;
        }
        let regular = self.regular.iter().filter(|c| c.matching().path.accepts(request.path)).find(fits);
        if regular.is_some() {
            return regular;
        }
        self.prefixes(request.path).find_map(|prefix| self.prefix.get(prefix)?.iter().find(fits))
    }

    /// The texts a prefix match of `path` can have here, longest first. Bounded by the longest configured
    /// prefix, so that a path of slashes costs no more than a short one.
    fn prefixes<'p>(&self, path: &'p str) -> impl Iterator<Item = &'p str> {
        let longest = self.longest_prefix;
        let whole = (path.len() <= longest).then_some(path);
        let cut = path.as_bytes().get(..=longest.min(path.len().saturating_sub(1))).unwrap_or_default();
        whole.into_iter().chain((0..cut.len()).rev().filter(|&at| cut[at] == b'/').map(|at| &path[..at]))
    }

    /// Every candidate, best first.
    pub(super) fn all(&self) -> impl Iterator<Item = &Candidate> {
        let lists = self.exact.values().chain([&self.regular]).chain(self.prefix.values());
        let mut all: Vec<_> = lists.flat_map(|list| list.iter()).collect();
        all.sort_by(|a, b| {
            let key = |c: &Candidate| (c.matching().rank(), c.matching().path.to_string());
            key(a).cmp(&key(b))
        });
        all.into_iter()
    }
}

fn entry<'l>(lists: &'l mut HashMap<Arc<str>, List>, path: &str) -> &'l mut List {
    if !lists.contains_key(path) {
        lists.insert(path.into(), List::default());
    }
    lists.get_mut(path).expect("it was put there")
}

fn remove(lists: &mut HashMap<Arc<str>, List>, path: &str, candidate: &Candidate) {
    if let Some(list) = lists.get_mut(path) {
        remove_from(list, candidate);
        if list.is_empty() {
            lists.remove(path);
        }
    }
}

fn remove_from(list: &mut List, candidate: &Candidate) {
    if let Ok(at) = list.binary_search_by(|other| other.order().cmp(&candidate.order())) {
        Arc::make_mut(list).remove(at);
    }
}

/// The rules of every host pattern, and whose word the routes take on a client's address.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    any: Option<Arc<HostRules>>,
    exact: HashMap<Arc<str>, Arc<HostRules>>,
    wildcard: HashMap<Arc<str>, Arc<HostRules>>,
    /// The different detections that read the PROXY protocol, about one a class, and how many rules have each.
    proxied: Vec<(Arc<ClientDetection>, usize)>,
}

impl Index {
    pub(super) fn add(&mut self, route: &Route) {
        for detection in proxied(route) {
            match self.proxied.iter_mut().find(|(known, _)| known == detection) {
                Some((_, rules)) => *rules += 1,
                None => self.proxied.push((Arc::clone(detection), 1)),
            }
        }
        for pattern in &route.hosts {
            let made = || Arc::new(HostRules::new(pattern.clone()));
            let host = match pattern {
                HostPattern::Any => self.any.get_or_insert_with(made),
                HostPattern::Exact(name) => self.exact.entry(Arc::clone(name)).or_insert_with(made),
                HostPattern::Wildcard(suffix) => self.wildcard.entry(Arc::clone(suffix)).or_insert_with(made),
            };
            let host = Arc::make_mut(host);
            candidates(route).for_each(|candidate| host.add(candidate));
        }
    }

    /// Removes a route as it was added.
    pub(super) fn remove(&mut self, route: &Route) {
        for detection in proxied(route) {
            let Some(at) = self.proxied.iter().position(|(known, _)| known == detection) else { continue };
            self.proxied[at].1 -= 1;
            if self.proxied[at].1 == 0 {
                self.proxied.swap_remove(at);
            }
        }
        for pattern in &route.hosts {
            let host = match pattern {
                HostPattern::Any => self.any.as_mut(),
                HostPattern::Exact(name) => self.exact.get_mut(name),
                HostPattern::Wildcard(suffix) => self.wildcard.get_mut(suffix),
            };
            let Some(host) = host.map(Arc::make_mut) else { continue };
            candidates(route).for_each(|candidate| host.remove(&candidate));
            if host.is_empty() {
                match pattern {
                    HostPattern::Any => self.any = None,
                    HostPattern::Exact(name) => drop(self.exact.remove(name)),
                    HostPattern::Wildcard(suffix) => drop(self.wildcard.remove(suffix)),
                }
            }
        }
    }

    /// The rules of each host pattern that covers `host`, the most specific first.
    pub(super) fn hosts_for(&self, host: &str) -> impl Iterator<Item = &HostRules> {
        let exact = self.exact.get(host);
        let wildcards: Vec<_> = if self.wildcard.is_empty() {
            Vec::new()
        } else {
            suffixes(host).filter_map(|suffix| self.wildcard.get(suffix)).collect()
        };
        exact.into_iter().chain(wildcards).chain(&self.any).map(|host| &**host)
    }

    /// Whether a rule that may be found for `host`, or for every host, wants to see a client's certificate.
    pub(super) fn asks_certificate(&self, host: Option<&str>) -> bool {
        match host {
            Some(host) => self.hosts_for(host).any(|host| host.asking > 0),
            None => self.any.as_ref().is_some_and(|any| any.asking > 0),
        }
    }

    /// Whether a route takes the word of `peer` on a client's address before its first byte.
    pub(super) fn reads_proxy_protocol(&self, peer: IpAddr) -> bool {
        self.proxied.iter().any(|(detection, _)| detection.reads_proxy_protocol(peer))
    }
}

/// The detection of each rule that reads the PROXY protocol.
fn proxied(route: &Route) -> impl Iterator<Item = &Arc<ClientDetection>> {
    let detections = route.rules.iter().map(|rule| &rule.access.detection);
    detections.filter(|detection| detection.proxy_protocol != ProxyProtocol::Disabled)
}

fn candidates(route: &Route) -> impl Iterator<Item = Candidate> {
    route.rules.iter().enumerate().flat_map(move |(position, rule)| {
        let candidate = move |at| Candidate { rule: Arc::clone(rule), created: route.created, position, at };
        (0..rule.matches.len()).map(candidate)
    })
}
