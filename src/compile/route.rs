//! One `WebSocketRoute` to a draft: its route as far as the object alone decides, and what was found wrong.
//!
//! A rule whose match cannot be understood is dropped; a backend that cannot be used keeps its share of
//! handshakes, which are refused with 500 (Gateway API). Other routes are not looked at: see `conflict`.

use super::access::{route_access, rule_access};
use super::backend::{Spoken, port_of};
use super::certificate::names_host;
use super::class::Class;
use super::inputs::Lookup;
use super::matching::matches;
use super::policy::{balancing, route_policy};
use super::snapshot::{ObjectKey, created};
use super::trust::upstream_tls;
use super::verdict::{Fault, Findings};
use crate::api::status::reason;
use crate::api::{BackendProxyProtocol, BackendRef, RouteRule, WebSocketRoute, WebSocketRouteSpec};
use crate::routing::{
    BackendTarget, Certificate, HostPattern, LoadBalancing, Plaintext, Policy, Protocol, ProxyVersion, Route, RouteId,
    Rule, RuleId, UpstreamTls, WeightedBackend,
};
use std::sync::Arc;

/// A route before its neighbours were looked at.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) route: Arc<Route>,
    pub(super) generation: Option<i64>,
    /// The certificate of each host that has one.
    pub(super) certificates: Vec<(HostPattern, Arc<Certificate>)>,
    pub(super) findings: Findings,
}

impl Draft {
    /// Whether it goes into the table.
    pub(super) fn accepted(&self) -> bool {
        self.findings.unacceptable.is_empty()
    }
}

/// A route that belongs to no class: only its name and the reason.
pub(super) fn unclaimed(key: &ObjectKey, object: &WebSocketRoute, fault: Fault) -> Draft {
    let mut findings = Findings::default();
    findings.unacceptable.push(fault);
    let class = object.spec.class_name.as_deref().unwrap_or_default();
    Draft {
        route: Arc::new(empty(key, object, class.into())),
        generation: object.metadata.generation,
        certificates: Vec::new(),
        findings,
    }
}

/// Reads one route of `class`.
pub(super) fn draft(key: &ObjectKey, object: &WebSocketRoute, class: &Class, lookup: &mut Lookup<'_>) -> Draft {
    let spec = &object.spec;
    let mut route = empty(key, object, class.name.clone());
    let mut findings = Findings::default();
    let policy = route_policy(spec, (&class.name, &class.defaults, &class.ceilings), &mut findings.unacceptable);
    route.hosts = hosts(spec);
    let certificates = certificates(spec, &route, lookup, &mut findings);
    let plaintext = plaintext(spec);
    let access = route_access(spec, class, &route.id, lookup, &mut findings);
    let mut policies: Vec<Arc<Policy>> = Vec::new();
    for (at, rule) in spec.rules.iter().enumerate() {
        let field = format!("spec.rules[{at}]");
        let id = RuleId { route: route.id.clone(), rule: rule.name.clone().unwrap_or_else(|| at.to_string()).into() };
        let matches = match matches(rule, &field) {
            Ok(matches) => matches,
            Err(fault) => {
                findings.dropped.push(format!("Dropped Rule {}: {}", id.rule, fault.message));
                continue;
            }
        };
        let access = rule_access(&access, rule, &field, &mut findings.unacceptable);
        let balancing = balancing(rule.load_balancer.as_ref(), class.defaults.load_balancer.as_ref());
        route.rules.push(Arc::new(Rule {
            id,
            named: rule.name.is_some(),
            matches,
            backends: backends(rule, &route.id, &field, lookup, &mut findings),
            policy: shared(&mut policies, &policy, balancing),
            plaintext,
            access: Arc::new(access),
        }));
    }
    if route.rules.is_empty() && !findings.dropped.is_empty() {
        let message = format!("spec.rules: no rule is left: {}", findings.dropped.join("; "));
        findings.unacceptable.push(Fault::new(reason::UNSUPPORTED_VALUE, message));
    }
    Draft { route: Arc::new(route), generation: object.metadata.generation, certificates, findings }
}

/// The name of a route in the table.
pub(super) fn id(key: &ObjectKey) -> RouteId {
    RouteId { namespace: key.namespace.as_str().into(), name: key.name.as_str().into() }
}

fn empty(key: &ObjectKey, object: &WebSocketRoute, class: Arc<str>) -> Route {
    Route { id: id(key), class, created: created(&object.metadata), hosts: Vec::new(), rules: Vec::new() }
}

fn hosts(spec: &WebSocketRouteSpec) -> Vec<HostPattern> {
    let mut hosts: Vec<HostPattern> = Vec::with_capacity(spec.hostnames.len().max(1));
    for written in &spec.hostnames {
        let pattern = HostPattern::parse(written);
        if !hosts.contains(&pattern) {
            hosts.push(pattern);
        }
    }
    if hosts.is_empty() {
        hosts.push(HostPattern::Any);
    }
    hosts
}

fn plaintext(spec: &WebSocketRouteSpec) -> Plaintext {
    match spec.tls.as_ref().map(|tls| tls.plaintext) {
        None | Some(Some(crate::api::Plaintext::Allow)) => Plaintext::Allow,
        Some(None | Some(crate::api::Plaintext::Reject)) => Plaintext::Reject,
    }
}

/// Rules of one route that balance alike share one policy.
fn shared(known: &mut Vec<Arc<Policy>>, policy: &Policy, balancing: LoadBalancing) -> Arc<Policy> {
    if let Some(known) = known.iter().find(|known| known.balancing == balancing) {
        return Arc::clone(known);
    }
    let policy = Arc::new(Policy { balancing, ..policy.clone() });
    known.push(Arc::clone(&policy));
    policy
}

/// For each host the first certificate that names it, else the first that can be used at all.
fn certificates(
    spec: &WebSocketRouteSpec,
    route: &Route,
    lookup: &mut Lookup<'_>,
    findings: &mut Findings,
) -> Vec<(HostPattern, Arc<Certificate>)> {
    let Some(tls) = &spec.tls else { return Vec::new() };
    let mut usable: Vec<Arc<Certificate>> = Vec::new();
    for (at, reference) in tls.certificate_refs.iter().enumerate() {
        let field = format!("spec.tls.certificateRefs[{at}]");
        let namespace = reference.namespace.as_deref().unwrap_or(&route.id.namespace);
        let key = ObjectKey::new(namespace, &reference.name);
        if let Err(fault) = lookup.permit(&route.id.namespace, "Secret", &key, &field) {
            findings.unresolved.push(fault);
            continue;
        }
        match lookup.certificate(&key) {
            Err(fault) => findings.unresolved.push(fault.at(&field)),
            Ok(found) => {
                findings.unresolved.extend(found.stale.map(|fault| fault.at(&field)));
                usable.push(found.certificate);
            }
        }
    }
    let Some(first) = usable.first() else { return Vec::new() };
    let mut chosen = Vec::with_capacity(route.hosts.len());
    for host in &route.hosts {
        let certificate = usable.iter().find(|certificate| names_host(certificate, host)).unwrap_or_else(|| {
            let message = format!(
                "spec.tls.certificateRefs: no certificate here names {host}, so {} is served for it and clients will \
                 refuse it: add a certificate for {host}",
                first.source
            );
            findings.unresolved.push(Fault::new(reason::INVALID_CERTIFICATE_REF, message));
            first
        });
        chosen.push((host.clone(), Arc::clone(certificate)));
    }
    chosen
}

fn backends(
    rule: &RouteRule,
    route: &RouteId,
    field: &str,
    lookup: &mut Lookup<'_>,
    findings: &mut Findings,
) -> Vec<WeightedBackend> {
    let tls = rule.backend_tls.as_ref().map(|block| {
        let field = format!("{field}.backendTLS");
        upstream_tls(block, (&*route.namespace, &field), lookup, &mut findings.unresolved)
    });
    let mut backends = Vec::with_capacity(rule.backend_refs.len());
    for (at, reference) in rule.backend_refs.iter().enumerate() {
        let field = format!("{field}.backendRefs[{at}]");
        let target = match backend(reference, route, &field, tls.as_ref(), lookup) {
            Ok((backend, idle)) => {
                findings.notes.extend(idle.map(|why| format!("{field}: {why}")));
                BackendTarget::Service(backend)
            }
            Err(fault) => {
                let why = fault.message.as_str().into();
                findings.unresolved.push(fault);
                BackendTarget::Invalid(why)
            }
        };
        backends.push(WeightedBackend { weight: u32::try_from(reference.weight).unwrap_or(0), target });
    }
    if backends.iter().all(|backend| backend.weight == 0) {
        findings.notes.push(format!(
            "{field}.backendRefs: every weight is 0, so the rule refuses all handshakes: give one a weight"
        ));
    }
    let wss = |b: &WeightedBackend| matches!(&b.target, BackendTarget::Service(b) if b.protocol == Protocol::Wss);
    let settled = backends.iter().all(|b| matches!(b.target, BackendTarget::Service(_)));
    if tls.is_some() && settled && !backends.iter().any(wss) {
        findings.notes.push(format!(
            "{field}.backendTLS: not used, for no backend here speaks WSS: set protocol to WSS, or remove the block"
        ));
    }
    backends
}

/// One backend, and why it has no ready endpoint if it has none.
fn backend(
    reference: &BackendRef,
    route: &RouteId,
    field: &str,
    tls: Option<&Option<Arc<UpstreamTls>>>,
    lookup: &mut Lookup<'_>,
) -> Result<(Arc<crate::routing::Backend>, Option<String>), Fault> {
    let namespace = reference.namespace.as_deref().unwrap_or(&route.namespace);
    let key = ObjectKey::new(namespace, &reference.name);
    lookup.permit(&route.namespace, "Service", &key, field)?;
    let port = port_of(reference.port, field)?;
    let target = lookup.target(&key, port).map_err(|fault| fault.at(field))?;
    let protocol = target.protocol(reference.protocol).map_err(|fault| fault.at(field))?;
    let tls = match (protocol, tls) {
        (Protocol::Ws, _) => None,
        (Protocol::Wss, Some(Some(tls))) => Some(Arc::clone(tls)),
        (Protocol::Wss, Some(None)) => {
            let message = format!("{field}: not used while the rule's backendTLS cannot be: correct that");
            return Err(Fault::new(reason::INVALID_CA_CERTIFICATE_REF, message));
        }
        (Protocol::Wss, None) => {
            let message = format!(
                "{field}: it speaks WSS and the rule does not say whom to trust: add backendTLS with a hostname and \
                 caCertificateRefs or wellKnownCACertificates"
            );
            return Err(Fault::new(reason::UNSUPPORTED_PROTOCOL, message));
        }
    };
    let proxy_protocol = reference.proxy_protocol.map(|version| match version {
        BackendProxyProtocol::V1 => ProxyVersion::V1,
        BackendProxyProtocol::V2 => ProxyVersion::V2,
    });
    Ok((lookup.backend((&key, port), &target, Spoken { protocol, tls, proxy_protocol }), target.idle))
}
