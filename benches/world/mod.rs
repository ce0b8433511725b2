//! A large snapshot: 5,000 routes, each with a Service of ten endpoints.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sheave::api::WebSocketRoute;
use sheave::compile::{ObjectKey, Snapshot};
use std::sync::Arc;

/// How many routes there are.
pub(crate) const ROUTES: usize = 5_000;

const ENDPOINTS_EACH: usize = 10;

/// How the routes share hosts.
#[derive(Clone, Copy)]
pub(crate) enum Hosts {
    /// All on one, told apart by the path.
    One,
    /// A host for each.
    Spread,
}

impl Hosts {
    /// Host and path that reach route `at` and no other.
    pub(crate) fn of(self, at: usize) -> (String, String) {
        match self {
            Self::One => ("chat.example.com".to_owned(), format!("/tenants/{at}/ws")),
            Self::Spread => (format!("tenant-{at}.example.com"), "/tenants/ws".to_owned()),
        }
    }
}

/// The name of route `at` and its Service.
pub(crate) fn name(at: usize) -> String {
    format!("tenant-{at:04}")
}

fn object<T: DeserializeOwned>(value: Value) -> Arc<T> {
    Arc::new(serde_json::from_value(value).expect("well formed"))
}

/// The snapshot.
pub(crate) fn snapshot(hosts: Hosts) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for at in 0..ROUTES {
        add(&mut snapshot, hosts, at);
    }
    snapshot
}

/// Adds route `at`, its Service and its slice.
pub(crate) fn add(snapshot: &mut Snapshot, hosts: Hosts, at: usize) {
    let name = name(at);
    let (host, path) = hosts.of(at);
    let metadata = json!({"name": name, "namespace": "bench"});
    let key = ObjectKey::new("bench", &name);
    let rules = json!([
        {"matches": [{"path": {"type": "PathPrefix", "value": path}}], "backendRefs": [{"name": name, "port": 80}]},
        {
            "matches": [{"path": {"type": "Exact", "value": format!("{path}/mqtt")}, "subprotocols": ["mqtt"]}],
            "backendRefs": [{"name": name, "port": 80}],
        },
    ]);
    let route = json!({
        "apiVersion": "sheave.dev/v1alpha1", "kind": "WebSocketRoute", "metadata": metadata,
        "spec": {"hostnames": [host], "rules": rules},
    });
    let service = json!({"metadata": metadata, "spec": {"ports": [{"name": "ws", "port": 80}]}});
    let endpoint = |n: usize| json!({"addresses": [format!("10.{}.{}.{n}", at / 250, at % 250)]});
    let slice = json!({
        "metadata": {"name": name, "namespace": "bench", "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": [{"name": "ws", "port": 8080}],
        "endpoints": (0..ENDPOINTS_EACH).map(endpoint).collect::<Vec<_>>(),
    });
    snapshot.routes.insert(key.clone(), object::<WebSocketRoute>(route));
    snapshot.services.insert(key.clone(), object::<Service>(service));
    snapshot.endpoint_slices.insert(key, object::<EndpointSlice>(slice));
}
