//! Services and their endpoint slices to backends.
//!
//! Slices of one Service are joined, ports are matched by name, an address counts once. Which endpoints take new
//! sessions follows kube-proxy: the ready ones, and when there is none the terminating ones that still serve
//! (KEP-1669). A Service is found or not; how many of its endpoints are ready is never a fault.

use super::Options;
use super::snapshot::{ObjectKey, Snapshot};
use super::verdict::Fault;
use crate::api::BackendProtocol;
use crate::api::status::reason;
use crate::routing::{Address, Backend, BackendId, Endpoint, EndpointState, Protocol, UpstreamTls};
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint as SliceEndpoint, EndpointSlice};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// The label by which a slice names its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// What a Service port came to, before it is known how it is spoken to.
#[derive(Clone)]
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

/// The backends of a snapshot, each built at most once and shared.
pub(super) struct Backends<'s> {
    snapshot: &'s Snapshot,
    options: &'s Options,
    slices: HashMap<ObjectKey, Vec<&'s EndpointSlice>>,
    targets: HashMap<(ObjectKey, u16), Result<ServiceTarget, Fault>>,
    built: HashMap<(BackendId, Option<Box<str>>), Arc<Backend>>,
}

impl<'s> Backends<'s> {
    pub(super) fn new(snapshot: &'s Snapshot, options: &'s Options) -> Self {
        let mut slices: HashMap<_, Vec<&EndpointSlice>> = HashMap::new();
        for (key, slice) in &snapshot.endpoint_slices {
            if let Some(service) = slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME)) {
                slices.entry(ObjectKey::new(&key.namespace, service)).or_default().push(slice);
            }
        }
        Self { snapshot, options, slices, targets: HashMap::new(), built: HashMap::new() }
    }

    /// The endpoints of a Service port. A fault's message lacks the field that named it.
    pub(super) fn target(&mut self, service: &ObjectKey, port: u16) -> Result<ServiceTarget, Fault> {
        let key = (service.clone(), port);
        if let Some(known) = self.targets.get(&key) {
            return known.clone();
        }
        let target = self.resolve(service, port);
        self.targets.insert(key, target.clone());
        target
    }

    /// The backend that speaks `protocol` to a target; equal ones are one.
    pub(super) fn backend(
        &mut self,
        id: BackendId,
        target: &ServiceTarget,
        protocol: Protocol,
        tls: Option<Arc<UpstreamTls>>,
    ) -> Arc<Backend> {
        let key = (id, tls.as_ref().map(|tls| tls.fingerprint.clone()));
        if let Some(known) = self.built.get(&key) {
            return Arc::clone(known);
        }
        let backend = Arc::new(Backend { id: key.0.clone(), protocol, tls, endpoints: Arc::clone(&target.endpoints) });
        self.built.insert(key, Arc::clone(&backend));
        backend
    }

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

    fn slices_of(&self, key: &ObjectKey) -> &[&'s EndpointSlice] {
        self.slices.get(key).map_or(&[], Vec::as_slice)
    }

    fn endpoints(&self, key: &ObjectKey, spec: &ServiceSpec, port: &ServicePort) -> Arc<[Endpoint]> {
        let families = spec.ip_families.as_deref().unwrap_or_default();
        let prefers_v6 = families.first().is_some_and(|family| family == "IPv6");
        let mut found: BTreeMap<SocketAddr, Seen<'_>> = BTreeMap::new();
        for slice in self.slices_of(key) {
            for number in slice_ports(slice, port) {
                for endpoint in &slice.endpoints {
                    let Some(ip) = self.usable_address(endpoint) else { continue };
                    let seen = Seen::of(endpoint);
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
        (self.options.allow_local_endpoints || !is_local(ip)).then_some(ip)
    }

    fn why_idle(&self, key: &ObjectKey, service: &Service, port: &ServicePort, endpoints: &[Endpoint]) -> String {
        let slices = self.slices_of(key);
        let selects = service.spec.as_ref().is_some_and(|spec| spec.selector.as_ref().is_some_and(|s| !s.is_empty()));
        let why = if slices.is_empty() {
            let hint = if selects { "start its pods, or add one" } else { "add one" };
            format!("no EndpointSlice is labelled {SERVICE_NAME}: {}; {hint}", key.name)
        } else if endpoints.is_empty() && slices.iter().all(|slice| slice_ports(slice, port).is_empty()) {
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
    fn of(endpoint: &'s SliceEndpoint) -> Self {
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
        Self { condition, zone: endpoint.zone.as_deref(), pod }
    }
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
