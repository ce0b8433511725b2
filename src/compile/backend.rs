//! Services and their endpoint slices to backends.
//!
//! Slices of one Service are joined, ports are matched by name, an address counts once. Which endpoints take new
//! sessions follows kube-proxy: the ready ones, and when there is none the terminating ones that still serve
//! (KEP-1669). A Service is found or not; how many of its endpoints are ready is never a fault.

use super::Options;
use super::changes::Slices;
use super::snapshot::{ObjectKey, Snapshot};
use super::verdict::Fault;
use crate::api::BackendProtocol;
use crate::api::status::reason;
use crate::routing::{Address, Backend, BackendId, Endpoint, EndpointState, Protocol, ProxyVersion, UpstreamTls};
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint as SliceEndpoint, EndpointSlice};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// The label by which a slice names its Service.
pub(super) const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// What a Service port came to, before it is known how it is spoken to.
#[derive(Clone, Debug)]
pub(super) struct ServiceTarget {
    pub(super) endpoints: Arc<[Endpoint]>,
    app_protocol: Option<String>,
    /// Why it has no ready endpoint, if it has none.
    pub(super) idle: Option<String>,
}

impl ServiceTarget {
    /// What to speak: the reference's word, else the Service's, else WebSocket in clear.
    pub(super) fn protocol(&self, wanted: Option<BackendProtocol>) -> Result<Protocol, Fault> {
        let spoken = match (wanted, self.app_protocol.as_deref()) {
            (Some(BackendProtocol::WS), _) => "ws",
            (Some(BackendProtocol::WSS), _) => "wss",
            (None, app_protocol) => app_protocol.unwrap_or("ws"),
        };
        match spoken {
            "" | "http" | "kubernetes.io/ws" | "ws" => Ok(Protocol::Ws),
            "https" | "kubernetes.io/wss" | "wss" => Ok(Protocol::Wss),
            other => Err(Fault::new(
                reason::UNSUPPORTED_PROTOCOL,
                format!(
                    "the Service port has appProtocol {other}, which is not WebSocket: set protocol to WS or WSS here if it speaks it"
                ),
            )),
        }
    }
}

/// The port that an object names at `field`.
pub(super) fn port_of(written: i32, field: &str) -> Result<u16, Fault> {
    u16::try_from(written).ok().filter(|port| *port > 0).ok_or_else(|| {
        let message = format!("{field}.port: {written} is no port: write 1 to 65535");
        Fault::new(reason::BACKEND_NOT_FOUND, message)
    })
}

/// How a backend is spoken to.
pub(super) struct Spoken {
    pub(super) protocol: Protocol,
    /// Present exactly when `protocol` is [`Protocol::Wss`].
    pub(super) tls: Option<Arc<UpstreamTls>>,
    pub(super) proxy_protocol: Option<ProxyVersion>,
}

/// The backends of Services, each built at most once and shared.
#[derive(Debug, Default)]
pub(super) struct Backends(HashMap<ObjectKey, Known>);

/// What was made of one Service.
#[derive(Debug, Default)]
struct Known {
    targets: BTreeMap<u16, Result<ServiceTarget, Fault>>,
    backends: Vec<Arc<Backend>>,
}

impl Backends {
    /// The endpoints of a Service port. A fault's message lacks the field that named it.
    pub(super) fn target(
        &mut self,
        services: &Services<'_>,
        service: &ObjectKey,
        port: u16,
    ) -> Result<ServiceTarget, Fault> {
        let known = self.0.entry(service.clone()).or_default();
        known.targets.entry(port).or_insert_with(|| services.resolve(service, port)).clone()
    }

    /// The backend that is spoken to like `spoken` at a target; equal ones are one.
    pub(super) fn backend(
        &mut self,
        service: &ObjectKey,
        id: BackendId,
        target: &ServiceTarget,
        spoken: Spoken,
    ) -> Arc<Backend> {
        let Spoken { protocol, tls, proxy_protocol } = spoken;
        let known = self.0.entry(service.clone()).or_default();
        let same = |backend: &&Arc<Backend>| {
            backend.id == id
                && backend.protocol == protocol
                && backend.tls == tls
                && backend.proxy_protocol == proxy_protocol
        };
        if let Some(backend) = known.backends.iter().find(same) {
            return Arc::clone(backend);
        }
        let backend = Arc::new(Backend { id, protocol, tls, proxy_protocol, endpoints: Arc::clone(&target.endpoints) });
        known.backends.retain(|backend| Arc::strong_count(backend) > 1); // what routes have moved on from
        known.backends.push(Arc::clone(&backend));
        backend
    }

    pub(super) fn forget(&mut self, service: &ObjectKey) {
        self.0.remove(service);
    }
}

/// What backends are built from.
pub(super) struct Services<'s> {
    pub(super) snapshot: &'s Snapshot,
    pub(super) options: &'s Options,
    pub(super) slices: &'s Slices,
}

impl Services<'_> {
    fn resolve(&self, key: &ObjectKey, port: u16) -> Result<ServiceTarget, Fault> {
        let not_found = |message: String| Fault::new(reason::BACKEND_NOT_FOUND, message);
        let Some(service) = self.snapshot.services.get(key) else {
            return Err(not_found(format!("there is no Service {key}: create it, or correct the name")));
        };
        let empty = ServiceSpec::default();
        let spec = service.spec.as_ref().unwrap_or(&empty);
        let ports = spec.ports.as_deref().unwrap_or_default();
        let named = ports.iter().find(|p| p.port == i32::from(port) && is_tcp(p.protocol.as_deref()));
        if let Some(name) = external_name(spec) {
            if !self.options.allow_external_name {
                return Err(Fault::new(
                    reason::UNSUPPORTED_VALUE,
                    format!(
                        "Service {key} is of type ExternalName, which is switched off: name its addresses by an EndpointSlice"
                    ),
                ));
            }
            if named.is_some() || ports.is_empty() {
                return Ok(external(name, named, port));
            }
        }
        let Some(named) = named else {
            return Err(not_found(format!("Service {key} has no TCP port {port}{}", offered(ports))));
        };
        let endpoints = self.endpoints(key, spec, named);
        let ready = endpoints.iter().any(|e| e.state == EndpointState::Ready);
        let idle = (!ready).then(|| self.why_idle(key, service, named, &endpoints));
        Ok(ServiceTarget { endpoints, app_protocol: named.app_protocol.clone(), idle })
    }

    fn endpoints(&self, key: &ObjectKey, spec: &ServiceSpec, port: &ServicePort) -> Arc<[Endpoint]> {
        let families = spec.ip_families.as_deref().unwrap_or_default();
        let prefers_v6 = families.first().is_some_and(|family| family == "IPv6");
        let mut found: BTreeMap<SocketAddr, Seen<'_>> = BTreeMap::new();
        for slice in self.slices.of(key) {
            for number in slice_ports(slice, port) {
                for endpoint in &slice.endpoints {
                    let Some(ip) = self.usable_address(endpoint) else { continue };
                    let seen = Seen::of(endpoint, &self.snapshot.zones);
                    let entry = found.entry(SocketAddr::new(ip, number)).or_insert_with(|| seen.clone());
                    entry.condition = entry.condition.max(seen.condition);
                }
            }
        }
        drop_second_family(&mut found, prefers_v6);
        let none_ready = !found.values().any(|seen| seen.condition == Seen::READY);
        let state = |condition| match condition {
            Seen::READY => EndpointState::Ready,
            Seen::TERMINATING_SERVING if none_ready => EndpointState::Ready,
            Seen::NOT_READY => EndpointState::NotReady,
            _ => EndpointState::Draining,
        };
        let endpoint = |(address, seen): (SocketAddr, Seen<'_>)| Endpoint {
            address: Address::Socket(address),
            state: state(seen.condition),
            zone: seen.zone.map(Into::into),
        };
        found.into_iter().map(endpoint).collect()
    }

    /// The first address, if it is one and may be dialled. The others of an endpoint name the same pod.
    fn usable_address(&self, endpoint: &SliceEndpoint) -> Option<IpAddr> {
        let ip: IpAddr = endpoint.addresses.first()?.parse().ok()?;
        let own = self.options.own_addresses.contains(&ip.to_canonical());
        (!own && (self.options.allow_local_endpoints || !is_local(ip))).then_some(ip)
    }

    fn why_idle(&self, key: &ObjectKey, service: &Service, port: &ServicePort, endpoints: &[Endpoint]) -> String {
        let mut slices = self.slices.of(key);
        let selects = service.spec.as_ref().is_some_and(|spec| spec.selector.as_ref().is_some_and(|s| !s.is_empty()));
        let why = if slices.clone().next().is_none() {
            let hint = if selects { "start its pods, or add one" } else { "add one" };
            format!("no EndpointSlice is labelled {SERVICE_NAME}: {}; {hint}", key.name)
        } else if endpoints.is_empty() && slices.all(|slice| slice_ports(slice, port).is_empty()) {
            let name = port.name.as_deref().filter(|name| !name.is_empty());
            let wanted = name.map_or("no name".to_owned(), |name| format!("the name {name}"));
            format!(
                "none of its EndpointSlices has a TCP port with {wanted}, as the Service port has; correct ports[].name"
            )
        } else {
            "none of its endpoints is ready".to_owned()
        };
        format!("no ready endpoint behind Service {key} port {}, so handshakes get 503: {why}", port.port)
    }
}

/// One address as its slices describe it.
#[derive(Clone)]
struct Seen<'s> {
    condition: u8,
    zone: Option<&'s str>,
    pod: Option<&'s str>,
}

impl<'s> Seen<'s> {
    // Of two slices that disagree during a move, the better word counts: hence an order.
    const TERMINATING: u8 = 0;
    const TERMINATING_SERVING: u8 = 1;
    const NOT_READY: u8 = 2;
    const READY: u8 = 3;

    /// Unset conditions are ready, serving and not terminating, as the type's documentation says.
    fn of(endpoint: &'s SliceEndpoint, zones: &'s BTreeMap<String, Box<str>>) -> Self {
        let conditions = endpoint.conditions.as_ref();
        let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
        let serving = conditions.and_then(|c| c.serving).unwrap_or(true);
        let terminating = conditions.and_then(|c| c.terminating).unwrap_or(false);
        let condition = match (terminating, ready, serving) {
            (true, _, true) => Self::TERMINATING_SERVING,
            (true, _, false) => Self::TERMINATING,
            (false, true, _) => Self::READY,
            (false, false, _) => Self::NOT_READY,
        };
        let pod = endpoint.target_ref.as_ref().and_then(|target| target.uid.as_deref());
        let of_node = || asks_zone_of(endpoint).and_then(|node| zones.get(node)).map(|zone| &**zone);
        Self { condition, zone: endpoint.zone.as_deref().or_else(of_node), pod }
    }
}

/// The node whose zone an endpoint is in, when it does not say itself: slices made by hand often name no zone.
pub(super) fn asks_zone_of(endpoint: &SliceEndpoint) -> Option<&str> {
    if endpoint.zone.is_some() { None } else { endpoint.node_name.as_deref() }
}

/// A dual-stack pod has an address of each family: only the preferred one is kept, or it would get two shares.
fn drop_second_family(found: &mut BTreeMap<SocketAddr, Seen<'_>>, prefers_v6: bool) {
    let preferred: HashSet<&str> =
        found.iter().filter(|(address, _)| address.is_ipv6() == prefers_v6).filter_map(|(_, seen)| seen.pod).collect();
    found.retain(|address, seen| {
        address.is_ipv6() == prefers_v6 || !seen.pod.is_some_and(|pod| preferred.contains(pod))
    });
}

/// The numbers a slice gives to a Service port: matched by name, "" and absent being the same.
fn slice_ports(slice: &EndpointSlice, port: &ServicePort) -> Vec<u16> {
    let name = port.name.as_deref().unwrap_or_default();
    let ports = slice.ports.as_deref().unwrap_or_default().iter();
    ports
        .filter(|p| p.name.as_deref().unwrap_or_default() == name && is_tcp(p.protocol.as_deref()))
        .filter_map(|p| u16::try_from(p.port?).ok().filter(|number| *number > 0))
        .collect()
}

fn is_tcp(protocol: Option<&str>) -> bool {
    protocol.is_none_or(|protocol| protocol == "TCP")
}

/// Addresses that belong to the proxy's own machine or its cloud's metadata service rather than to a pod.
fn is_local(ip: IpAddr) -> bool {
    let link_local = match ip.to_canonical() {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    let ip = ip.to_canonical();
    link_local || ip.is_loopback() || ip.is_unspecified() || ip.is_multicast()
}

fn external_name(spec: &ServiceSpec) -> Option<&str> {
    spec.external_name.as_deref().filter(|name| !name.is_empty())
}

fn external(name: &str, port: Option<&ServicePort>, number: u16) -> ServiceTarget {
    let number = match port.and_then(|port| port.target_port.as_ref()) {
        Some(IntOrString::Int(target)) => u16::try_from(*target).unwrap_or(number),
        _ => number,
    };
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let address = match name.parse::<IpAddr>() {
        Ok(ip) => Address::Socket(SocketAddr::new(ip, number)),
        Err(_) => Address::Name(name.into(), number),
    };
    let endpoint = Endpoint { address, state: EndpointState::Ready, zone: None };
    let app_protocol = port.and_then(|port| port.app_protocol.clone());
    ServiceTarget { endpoints: Arc::from([endpoint]), app_protocol, idle: None }
}

fn offered(ports: &[ServicePort]) -> String {
    let numbers: Vec<_> = ports.iter().filter(|p| is_tcp(p.protocol.as_deref())).map(|p| p.port.to_string()).collect();
    if numbers.is_empty() {
        return ": add it to the Service".to_owned();
    }
    format!(": use one of {}, or add it to the Service", numbers.join(", "))
}
