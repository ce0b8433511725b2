//! The routing table: one immutable value that answers "which rule", "which certificate" and "may it stay".
//!
//! Built once by compile, replaced whole, read without locks. Two tables are equal when their routes and
//! certificates are; the indexes follow from these. Lookup costs a few hash probes per host pattern that covers
//! the host, whatever the number of routes; only regular expressions of one host are tried one by one.

use super::certificate::Certificate;
use super::endpoint::{Address, BackendTarget, EndpointState};
use super::host::{HostPattern, suffixes};
use super::matching::{Match, PathMatch};
use super::request::Request;
use super::rule::{Route, RouteId, Rule};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The result of a lookup.
#[derive(Clone, Debug)]
pub struct Found {
    /// The rule that won.
    pub rule: Arc<Rule>,
    /// The host pattern under which it won.
    pub host: HostPattern,
}

/// Why nothing was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRoute {
    /// No route names the host.
    #[error("no route for this host")]
    Host,
    /// Routes name the host, none of their rules matches.
    #[error("no rule of this host matches the path, headers, query or subprotocols")]
    Rule,
}

/// What a live session holds of the table it was opened under.
#[derive(Clone, Debug)]
pub struct Holding {
    /// The rule that let it in, as it was then.
    pub rule: Arc<Rule>,
    /// The host pattern under which it was found.
    pub host: HostPattern,
    /// The endpoint it is connected to.
    pub endpoint: Address,
}

/// What a table says of a live session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its endpoint is terminating.
    EndpointDraining,
    /// Its endpoint is no longer named by its rule's backends.
    EndpointGone,
    /// Rule and endpoint are still there, whatever else changed.
    Kept,
    /// Its rule, or the rule's host, is gone.
    RuleGone,
}

/// One match of one rule under one host pattern.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) rule: Arc<Rule>,
    pub(super) host: HostPattern,
    at: usize,
}

impl Candidate {
    pub(super) fn matching(&self) -> &Match {
        &self.rule.matches[self.at]
    }
}

/// The candidates of one host pattern, each list in order of precedence.
#[derive(Clone, Debug, Default)]
pub(super) struct HostRules {
    exact: HashMap<Box<str>, Vec<Candidate>>,
    regular: Vec<Candidate>,
    prefix: HashMap<Box<str>, Vec<Candidate>>,
    longest_prefix: usize,
}

impl HostRules {
    fn add(&mut self, candidate: Candidate) {
        match &candidate.matching().path {
            PathMatch::Exact(path) => self.exact.entry(path.clone()).or_default().push(candidate),
            PathMatch::Prefix(path) => {
                self.longest_prefix = self.longest_prefix.max(path.len());
                self.prefix.entry(path.clone()).or_default().push(candidate);
            }
            PathMatch::Regular(_) => self.regular.push(candidate),
        }
    }

    fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.regular.is_empty() && self.prefix.is_empty()
    }

    fn find(&self, request: &Request<'_>) -> Option<&Candidate> {
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
        let lists = self.exact.values().flatten().chain(&self.regular).chain(self.prefix.values().flatten());
        let mut all: Vec<_> = lists.collect();
        all.sort_by(|a, b| {
            let key = |c: &Candidate| (c.matching().rank(), c.matching().path.to_string());
            key(a).cmp(&key(b))
        });
        all.into_iter()
    }
}

/// Every route, and the certificates to answer with.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RoutingTable {
    routes: BTreeMap<RouteId, Arc<Route>>,
    certificates: BTreeMap<HostPattern, Arc<Certificate>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    default_certificate: Option<Arc<Certificate>>,
    #[serde(skip)]
    any: HostRules,
    #[serde(skip)]
    exact: HashMap<Box<str>, HostRules>,
    #[serde(skip)]
    wildcard: HashMap<Box<str>, HostRules>,
}

impl PartialEq for RoutingTable {
    fn eq(&self, other: &Self) -> bool {
        self.routes == other.routes
            && self.certificates == other.certificates
            && self.default_certificate == other.default_certificate
    }
}

impl RoutingTable {
    /// Indexes `routes`; `certificates` says which one answers for a server name (RFC 6066 §3), the default one
    /// answers for every other.
    pub fn new(
        routes: impl IntoIterator<Item = Route>,
        certificates: BTreeMap<HostPattern, Arc<Certificate>>,
        default_certificate: Option<Arc<Certificate>>,
    ) -> Self {
        let routes: BTreeMap<_, _> = routes.into_iter().map(|r| (r.id.clone(), Arc::new(r))).collect();
        let mut table = Self { routes, certificates, default_certificate, ..Self::default() };
        for (host, candidate) in ordered(table.routes.values()) {
            let rules = match host {
                HostPattern::Any => &mut table.any,
                HostPattern::Exact(name) => table.exact.entry(name).or_default(),
                HostPattern::Wildcard(suffix) => table.wildcard.entry(suffix).or_default(),
            };
            rules.add(candidate);
        }
        table
    }

    /// Finds the rule for a handshake: the most specific host pattern first, in it Gateway API precedence, then
    /// the next host pattern that covers the host.
    ///
    /// # Errors
    /// [`NoRoute`] says whether the host or the rest was the reason.
    pub fn find(&self, request: &Request<'_>) -> Result<Found, NoRoute> {
        let mut reason = NoRoute::Host;
        for host in self.hosts_for(request.host) {
            if let Some(c) = host.find(request) {
                return Ok(Found { rule: Arc::clone(&c.rule), host: c.host.clone() });
            }
            reason = NoRoute::Rule;
        }
        Err(reason)
    }

    /// The certificate for a server name in any case, or the default one when none was sent or none fits.
    pub fn certificate(&self, server_name: Option<&str>) -> Option<&Arc<Certificate>> {
        let own = server_name.and_then(|name| {
            let name = name.to_ascii_lowercase();
            let exact = self.certificates.get(&HostPattern::Exact(name.as_str().into()));
            exact.or_else(|| suffixes(&name).find_map(|s| self.certificates.get(&HostPattern::Wildcard(s.into()))))
        });
        own.or(self.default_certificate.as_ref())
    }

    /// What this table says of a session opened under an earlier one. Only the loss of its rule, host or endpoint
    /// counts: a changed timeout, weight, certificate or sibling leaves it alone.
    pub fn standing(&self, holding: &Holding) -> Standing {
        let Some(route) = self.routes.get(&holding.rule.id.route) else { return Standing::RuleGone };
        if !route.hosts.contains(&holding.host) {
            return Standing::RuleGone;
        }
        let Some(rule) = successor(route, &holding.rule) else { return Standing::RuleGone };
        let endpoints = rule.backends.iter().filter_map(|b| match &b.target {
            BackendTarget::Invalid(_) => None,
            BackendTarget::Service(backend) => Some(&backend.endpoints),
        });
        let states = endpoints.flat_map(|e| e.iter()).filter(|e| e.address == holding.endpoint).map(|e| e.state);
        match states.max() {
            Some(EndpointState::Ready | EndpointState::NotReady) => Standing::Kept,
            Some(EndpointState::Draining) => Standing::EndpointDraining,
            None => Standing::EndpointGone,
        }
    }

    /// The class of a route.
    pub fn class(&self, id: &RouteId) -> Option<Arc<str>> {
        self.routes.get(id).map(|route| Arc::clone(&route.class))
    }

    /// The routes by name.
    pub fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.routes.values()
    }

    /// Every certificate in use, the default one last.
    pub fn certificates(&self) -> impl Iterator<Item = &Arc<Certificate>> {
        self.certificates.values().chain(&self.default_certificate)
    }

    pub(super) fn hosts_for<'t>(&'t self, host: &str) -> impl Iterator<Item = &'t HostRules> {
        let exact = self.exact.get(host);
        let wildcards: Vec<_> = if self.wildcard.is_empty() {
            Vec::new()
        } else {
            suffixes(host).filter_map(|suffix| self.wildcard.get(suffix)).collect()
        };
        exact.into_iter().chain(wildcards).chain(Some(&self.any).filter(|any| !any.is_empty()))
    }
}

/// The rule that `rule` has become after an edit: the same name; for an unnamed one the same matches, else the
/// same position, so that inserting a rule above does not orphan its sessions.
fn successor<'r>(route: &'r Route, rule: &Rule) -> Option<&'r Arc<Rule>> {
    let mut unnamed = route.rules.iter().filter(|r| r.named == rule.named);
    if rule.named {
        return unnamed.find(|r| r.id == rule.id);
    }
    let same_position = route.rules.iter().find(|r| !r.named && r.id == rule.id);
    unnamed.find(|r| r.matches == rule.matches).or(same_position)
}

/// Every match under every host in order of precedence: rank, then age, then name, then position.
fn ordered<'r>(routes: impl Iterator<Item = &'r Arc<Route>>) -> Vec<(HostPattern, Candidate)> {
    let mut oldest: Vec<_> = routes.collect();
    oldest.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
    let mut all = Vec::new();
    for route in oldest {
        for rule in &route.rules {
            for at in 0..rule.matches.len() {
                for host in &route.hosts {
                    all.push((host.clone(), Candidate { rule: Arc::clone(rule), host: host.clone(), at }));
                }
            }
        }
    }
    all.sort_by_key(|(_, candidate)| candidate.matching().rank()); // stable: age, name and position stay decisive
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::{Plaintext, Policy, RuleId, Scheme};

    fn route(name: &str, hosts: &[&str], paths: &[PathMatch]) -> Route {
        let id = RouteId { namespace: "ns".into(), name: name.into() };
        let rule = |(at, path): (usize, &PathMatch)| {
            Arc::new(Rule {
                id: RuleId { route: id.clone(), rule: at.to_string().into() },
                named: false,
                matches: vec![Match { path: path.clone(), headers: vec![], query: vec![], subprotocols: vec![] }],
                backends: vec![],
                policy: Arc::new(Policy::default()),
                plaintext: Plaintext::Allow,
            })
        };
        let rules = paths.iter().enumerate().map(rule).collect();
        let hosts = hosts.iter().map(|h| HostPattern::parse(h)).collect();
        Route { id, class: "websocket".into(), created: 0, hosts, rules }
    }

    fn found(table: &RoutingTable, host: &str, path: &str) -> String {
        let request = Request { scheme: Scheme::Ws, host, path, query: None, headers: &[], subprotocols: &[] };
        table.find(&request).map_or_else(|e| format!("{e:?}"), |f| f.rule.id.to_string())
    }

    fn prefix(text: &str) -> PathMatch {
        PathMatch::Prefix(text.into())
    }

    #[test]
    fn exact_path_beats_longer_prefix_beats_shorter() {
        let paths = [prefix(""), prefix("/a"), prefix("/a/b"), PathMatch::Exact("/a/b".into())];
        let table = RoutingTable::new([route("r", &["*"], &paths)], BTreeMap::new(), None);
        assert_eq!(found(&table, "h", "/a/b"), "ns/r/3");
        assert_eq!(found(&table, "h", "/a/b/c"), "ns/r/2");
        assert_eq!(found(&table, "h", "/a/bc"), "ns/r/1");
        assert_eq!(found(&table, "h", "/ab"), "ns/r/0");
        assert_eq!(found(&table, "h", "/"), "ns/r/0");
        assert_eq!(found(&table, "h", "////////////"), "ns/r/0");
    }

    #[test]
    fn exact_host_beats_wildcard_and_falls_through_to_it() {
        let table = RoutingTable::new(
            [
                route("exact", &["a.example.com"], &[prefix("/x")]),
                route("near", &["*.example.com"], &[prefix("")]),
                route("far", &["*.com"], &[prefix("")]),
            ],
            BTreeMap::new(),
            None,
        );
        assert_eq!(found(&table, "a.example.com", "/x"), "ns/exact/0");
        assert_eq!(found(&table, "a.example.com", "/y"), "ns/near/0");
        assert_eq!(found(&table, "other.com", "/"), "ns/far/0");
        assert_eq!(found(&table, "other.org", "/"), "Host");
    }

    #[test]
    fn an_inserted_rule_leaves_the_sessions_of_unnamed_rules_alone() {
        let before = route("r", &["*"], &[prefix("/a")]);
        let held = Holding {
            rule: Arc::clone(&before.rules[0]),
            host: HostPattern::Any,
            endpoint: Address::Name("x".into(), 1),
        };
        let after = RoutingTable::new([route("r", &["*"], &[prefix("/new"), prefix("/a")])], BTreeMap::new(), None);
        assert_eq!(after.standing(&held), Standing::EndpointGone, "the rule was found; it has no backends here");
        let gone = RoutingTable::new([route("r", &["h"], &[prefix("/a")])], BTreeMap::new(), None);
        assert_eq!(gone.standing(&held), Standing::RuleGone);
    }
}
