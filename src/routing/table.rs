//! The routing table: one immutable value that answers "which rule", "which certificate" and "may it stay".
//!
//! Written by compile, replaced whole, read without locks. Two tables are equal when their routes and certificates
//! are; the index follows from these. A clone shares everything but the outermost maps.

use super::access::{Admission, ConnectionLimits, Revoked};
use super::certificate::Certificate;
use super::endpoint::{Address, BackendTarget, EndpointState};
use super::host::{HostPattern, suffixes};
use super::index::{HostRules, Index};
use super::request::Request;
use super::rule::{Route, RouteId, Rule, RuleId};
use serde::Serialize;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
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
pub struct Holding<'s> {
    /// The rule that let it in, as it was then.
    pub rule: &'s Arc<Rule>,
    /// The host pattern under which it was found.
    pub host: &'s HostPattern,
    /// The endpoint it is connected to.
    pub endpoint: Address,
    /// By what it was let in; asked for only when the rule's access is another than it was.
    pub admission: &'s dyn Fn() -> Cow<'s, Admission>,
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
    /// The same handshake would be refused now.
    Refused(Revoked),
    /// Its rule, or the rule's host, is gone.
    RuleGone,
}

/// Every route, and the certificates to answer with.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RoutingTable {
    routes: BTreeMap<RouteId, Arc<Route>>,
    certificates: BTreeMap<HostPattern, Arc<Certificate>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    default_certificate: Option<Arc<Certificate>>,
    #[serde(skip)]
    index: Index,
}

impl PartialEq for RoutingTable {
    /// Quick where the two share routes: an `Arc` is equal to itself.
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
        let mut table = Self { certificates, default_certificate, ..Self::default() };
        for route in routes {
            table.set_route(&route.id.clone(), Some(Arc::new(route)));
        }
        table
    }

    /// Puts `route` in the place of the one named `id`, or takes that away.
    pub fn set_route(&mut self, id: &RouteId, route: Option<Arc<Route>>) {
        let old = self.routes.get(id);
        if old == route.as_ref() {
            return; // also keeps the old value, so that the table stays quick to compare with the one before
        }
        if let Some(old) = old {
            self.index.remove(old);
        }
        match route {
            None => drop(self.routes.remove(id)),
            Some(route) => {
                self.index.add(&route);
                self.routes.insert(id.clone(), route);
            }
        }
    }

    /// Says which certificate answers for the server names of `host`.
    pub(crate) fn set_certificate(&mut self, host: HostPattern, certificate: Option<Arc<Certificate>>) {
        match certificate {
            None => drop(self.certificates.remove(&host)),
            Some(certificate) => drop(self.certificates.insert(host, certificate)),
        }
    }

    /// Says which certificate answers for every other server name.
    pub(crate) fn set_default_certificate(&mut self, certificate: Option<Arc<Certificate>>) {
        self.default_certificate = certificate;
    }

    /// Finds the rule for a handshake: the most specific host pattern first, in it Gateway API precedence, then
    /// the next host pattern that covers the host.
    ///
    /// # Errors
    /// [`NoRoute`] says whether the host or the rest was the reason.
    pub fn find(&self, request: &Request<'_>) -> Result<Found, NoRoute> {
        let mut reason = NoRoute::Host;
        for host in self.hosts_for(request.host) {
            if let Some(candidate) = host.find(request) {
                return Ok(Found { rule: Arc::clone(&candidate.rule), host: host.pattern.clone() });
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

    /// Whether clients that ask for a server name, in any case, or for none are to show a certificate: when a route that
    /// covers it wants to see one. Others are not asked, for a browser would ask its user.
    pub fn asks_certificate(&self, server_name: Option<&str>) -> bool {
        self.index.asks_certificate(server_name.map(str::to_ascii_lowercase).as_deref())
    }

    /// Whether a connection from `peer` may begin with a PROXY protocol header: when a route takes its word.
    pub fn reads_proxy_protocol(&self, peer: IpAddr) -> bool {
        self.index.reads_proxy_protocol(peer)
    }

    /// What this table says of a session opened under an earlier one, `now` in seconds since 1970. Only the loss of its
    /// rule, host or endpoint counts, and of the right to be there: a changed timeout, weight, certificate or sibling
    /// leaves it alone.
    pub fn standing(&self, holding: &Holding<'_>, now: i64) -> Standing {
        let Some(route) = self.routes.get(&holding.rule.id.route) else { return Standing::RuleGone };
        if !route.hosts.contains(holding.host) {
            return Standing::RuleGone;
        }
        let Some(rule) = successor(route, holding.rule) else { return Standing::RuleGone };
        let same = Arc::ptr_eq(&rule.access, &holding.rule.access) || rule.access.is_open();
        if !same && let Err(revoked) = rule.access.stands(&(holding.admission)(), now) {
            return Standing::Refused(revoked);
        }
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

    /// How many sessions a route may have.
    pub fn connections(&self, id: &RouteId) -> Option<&ConnectionLimits> {
        // The rules of a route share it.
        self.routes.get(id)?.rules.first().map(|rule| &rule.access.connections)
    }

    /// The routes by name.
    pub fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.routes.values()
    }

    /// Every certificate in use, the default one last.
    pub fn certificates(&self) -> impl Iterator<Item = &Arc<Certificate>> {
        self.certificates.values().chain(&self.default_certificate)
    }

    /// The rules of each host pattern that covers `host`, the most specific first.
    pub(super) fn hosts_for(&self, host: &str) -> impl Iterator<Item = &HostRules> {
        self.index.hosts_for(host)
    }

    /// Whether a rule is in the table.
    pub fn has_rule(&self, id: &RuleId) -> bool {
        self.routes.get(&id.route).is_some_and(|route| route.rules.iter().any(|rule| rule.id == *id))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::access::{Access, ClientDetection, ClientTrust, ProxyProtocol};
    use crate::routing::{Match, PathMatch, Plaintext, Policy, RuleId, Scheme};

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
                access: Arc::default(),
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

    fn with(mut route: Route, access: Access) -> Route {
        let access = Arc::new(access);
        for rule in &mut route.rules {
            Arc::make_mut(rule).access = Arc::clone(&access);
        }
        route
    }

    #[test]
    fn only_hosts_of_routes_with_client_certificates_ask_for_one() {
        let trust = Some(Arc::new(ClientTrust::new(false, "f".into())));
        let asking = Access { certificates: trust, ..Access::default() };
        let routes = [
            with(route("a", &["Devices.example", "*.fleet.example"], &[prefix(""), prefix("/a")]), asking.clone()),
            route("b", &["open.example", "*.example"], &[prefix("")]),
            route("c", &["devices.example"], &[prefix("/b")]),
        ];
        let mut table = RoutingTable::new(routes, BTreeMap::new(), None);
        for name in ["devices.example", "DEVICES.example", "x.fleet.example", "x.y.fleet.example"] {
            assert!(table.asks_certificate(Some(name)), "{name}");
        }
        for name in [Some("open.example"), Some("other.example"), Some("fleet.example"), Some("x"), None] {
            assert!(!table.asks_certificate(name), "{name:?}");
        }
        table.set_route(&route("a", &[], &[]).id, None);
        assert!(!table.asks_certificate(Some("devices.example")), "the route that asked is gone");
        let everywhere = with(route("d", &["*"], &[prefix("")]), asking);
        table.set_route(&everywhere.id.clone(), Some(Arc::new(everywhere)));
        assert!(table.asks_certificate(None) && table.asks_certificate(Some("open.example")));
    }

    #[test]
    fn the_proxy_protocol_is_read_from_those_whom_a_route_trusts() {
        let detecting = |proxy_protocol, block: &str| {
            let trusted = [block.parse().expect("a block")].into_iter().collect();
            let detection = Arc::new(ClientDetection { proxy_protocol, trusted, trusted_hops: 1 });
            Access { detection, ..Access::default() }
        };
        let routes = [
            with(route("a", &["a"], &[prefix("")]), detecting(ProxyProtocol::Optional, "10.0.0.0/8")),
            with(route("b", &["b"], &[prefix("")]), detecting(ProxyProtocol::Required, "192.0.2.0/24")),
            with(route("c", &["c"], &[prefix("")]), detecting(ProxyProtocol::Disabled, "198.51.100.0/24")),
            with(route("d", &["d"], &[prefix("")]), detecting(ProxyProtocol::Optional, "10.0.0.0/8")),
        ];
        let mut table = RoutingTable::new(routes, BTreeMap::new(), None);
        let reads = |table: &RoutingTable, peer: &str| table.reads_proxy_protocol(peer.parse().expect("an address"));
        assert!(reads(&table, "10.1.2.3") && reads(&table, "192.0.2.9"));
        assert!(!reads(&table, "198.51.100.1") && !reads(&table, "203.0.113.1"));
        table.set_route(&route("a", &[], &[]).id, None);
        assert!(reads(&table, "10.1.2.3"), "another route still trusts it");
        table.set_route(&route("d", &[], &[]).id, None);
        assert!(!reads(&table, "10.1.2.3"), "no route trusts it any more");
    }

    #[test]
    fn an_inserted_rule_leaves_the_sessions_of_unnamed_rules_alone() {
        let before = route("r", &["*"], &[prefix("/a")]);
        let bare = || -> Cow<'_, Admission> { panic!("nothing was asked, nothing is asked") };
        let held = Holding {
            rule: &before.rules[0],
            host: &HostPattern::Any,
            endpoint: Address::Name("x".into(), 1),
            admission: &bare,
        };
        let after = RoutingTable::new([route("r", &["*"], &[prefix("/new"), prefix("/a")])], BTreeMap::new(), None);
        assert_eq!(after.standing(&held, 0), Standing::EndpointGone, "the rule was found; it has no backends here");
        let gone = RoutingTable::new([route("r", &["h"], &[prefix("/a")])], BTreeMap::new(), None);
        assert_eq!(gone.standing(&held, 0), Standing::RuleGone);
    }
}
