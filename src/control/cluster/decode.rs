//! Objects of the API server, reduced to what compile and status look at.
//!
//! What changes often and means nothing here (managed fields, resource versions, statuses of others) is dropped, so that
//! an object that is equal after this has not changed. An object of ours that cannot be read becomes [`Unreadable`]; it
//! stops no other. An unknown field makes it so, too: it may hold what protects the route.

use super::MANAGER;
use crate::api::{ReferenceGrant, ReferenceGrantSpec, Status, WebSocketClass, WebSocketRoute};
use crate::compile::{ObjectKey, Reference, SecretContent, Unreadable};
use crate::control::schema;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::{DynamicObject, PartialObjectMeta};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The label by which a node names its zone.
const ZONE: &str = "topology.kubernetes.io/zone";

/// The type of Secrets in which Helm keeps its releases: up to a megabyte each, many of them, and never credentials.
const RELEASE: &str = "helm.sh/release.v1";

/// An object, reduced.
#[derive(Debug)]
pub(super) enum Item {
    Class(Box<Result<WebSocketClass, Unreadable>>, Stored),
    ConfigMap(ConfigMap),
    EndpointSlice(EndpointSlice),
    /// Its labels.
    Namespace(BTreeMap<String, String>),
    /// Its zone.
    Node(Option<Box<str>>),
    ReferenceGrant(ReferenceGrant),
    Route(Box<Result<WebSocketRoute, Unreadable>>, Stored),
    /// With every entry: which of them are kept is known where it is known who names it.
    Secret(SecretContent),
    Service(Box<Service>),
}

/// The status of an object of ours as the API server has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Stored {
    pub(super) status: Status,
    /// Whether Sheave wrote some of it.
    pub(super) ours: bool,
    pub(super) uid: String,
}

fn named(metadata: &ObjectMeta) -> ObjectMeta {
    ObjectMeta { name: metadata.name.clone(), namespace: metadata.namespace.clone(), ..ObjectMeta::default() }
}

pub(super) fn class(object: DynamicObject) -> (ObjectKey, Item) {
    let (key, stored) = (ObjectKey::of(&object.metadata), stored(&object));
    (key, Item::Class(Box::new(ours("WebSocketClass", object)), stored))
}

pub(super) fn route(object: DynamicObject) -> (ObjectKey, Item) {
    let (key, stored) = (ObjectKey::of(&object.metadata), stored(&object));
    (key, Item::Route(Box::new(ours("WebSocketRoute", object)), stored))
}

pub(super) fn stored(object: &DynamicObject) -> Stored {
    let fields = object.metadata.managed_fields.iter().flatten();
    let by_us = |manager: Option<&str>, part: Option<&str>| manager == Some(MANAGER) && part == Some("status");
    let mut fields = fields.map(|entry| by_us(entry.manager.as_deref(), entry.subresource.as_deref()));
    let status = object.data.get("status").cloned().unwrap_or_default();
    Stored {
        status: serde_json::from_value(status).unwrap_or_default(),
        ours: fields.any(|ours| ours),
        uid: object.metadata.uid.clone().unwrap_or_default(),
    }
}

fn ours<T: DeserializeOwned>(kind: &str, mut object: DynamicObject) -> Result<T, Unreadable> {
    let metadata = object.metadata;
    let generation = metadata.generation;
    let mut value = json!({
        "apiVersion": format!("{}/{}", crate::api::GROUP, crate::api::VERSION),
        "kind": kind,
        "metadata": {
            "name": metadata.name,
            "namespace": metadata.namespace,
            "generation": generation,
            "creationTimestamp": metadata.creation_timestamp,
            "annotations": if kind == "WebSocketClass" { metadata.annotations } else { None },
        },
        "spec": object.data.get_mut("spec").map(Value::take).unwrap_or_default(),
    });
    let advice = "this Sheave does not know it: take it out, or run the Sheave that the CRD came with";
    let faults = schema::check_structure(kind, &mut value);
    let faults: Vec<_> = faults.iter().map(|f| format!("{}: {}; {advice}", f.field, f.message)).collect();
    if !faults.is_empty() {
        return Err(Unreadable { generation, faults });
    }
    serde_path_to_error::deserialize(value).map_err(|error| Unreadable {
        generation,
        faults: vec![format!("{}: {}; {advice}", error.path(), error.inner())],
    })
}

pub(super) fn config_map(map: ConfigMap) -> (ObjectKey, Item) {
    let mut kept =
        ConfigMap { metadata: named(&map.metadata), data: map.data, binary_data: map.binary_data, immutable: None };
    kept.data.iter_mut().for_each(|data| data.retain(|entry, _| Reference::wants(entry)));
    kept.binary_data.iter_mut().for_each(|data| data.retain(|entry, _| Reference::wants(entry)));
    (ObjectKey::of(&kept.metadata), Item::ConfigMap(kept))
}

pub(super) fn endpoint_slice(slice: EndpointSlice) -> (ObjectKey, Item) {
    let metadata = ObjectMeta { labels: slice.metadata.labels.clone(), ..named(&slice.metadata) };
    (ObjectKey::of(&metadata), Item::EndpointSlice(EndpointSlice { metadata, ..slice }))
}

pub(super) fn namespace(namespace: PartialObjectMeta<Namespace>) -> (ObjectKey, Item) {
    (ObjectKey::of(&namespace.metadata), Item::Namespace(namespace.metadata.labels.unwrap_or_default()))
}

pub(super) fn node(node: PartialObjectMeta<Node>) -> (ObjectKey, Item) {
    let key = ObjectKey::of(&node.metadata);
    (key, Item::Node(node.metadata.labels.and_then(|mut labels| labels.remove(ZONE)).map(Into::into)))
}

/// Reads v1 and v1beta1, which are alike. One that cannot be read grants nothing.
pub(super) fn reference_grant(mut object: DynamicObject) -> (ObjectKey, Item) {
    let metadata = named(&object.metadata);
    let spec = object.data.get_mut("spec").map(Value::take).unwrap_or_default();
    let spec: ReferenceGrantSpec = serde_json::from_value(spec).unwrap_or_default();
    drop(object);
    (ObjectKey::of(&metadata), Item::ReferenceGrant(ReferenceGrant { metadata, spec }))
}

pub(super) fn secret(secret: Secret) -> (ObjectKey, Item) {
    let release = secret.type_.as_deref() == Some(RELEASE);
    (ObjectKey::of(&secret.metadata), Item::Secret(SecretContent::take(secret, |_| !release)))
}

pub(super) fn service(service: Service) -> (ObjectKey, Item) {
    let metadata = named(&service.metadata);
    (ObjectKey::of(&metadata), Item::Service(Box::new(Service { metadata, spec: service.spec, status: None })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: Value) -> DynamicObject {
        serde_json::from_value(value).expect("an object")
    }

    #[allow(clippy::needless_pass_by_value)] // `json!` makes values
    fn read(spec: Value) -> Result<WebSocketRoute, Unreadable> {
        let value = json!({
            "apiVersion": "sheave.dev/v1alpha1", "kind": "WebSocketRoute",
            "metadata": {
                "name": "r", "namespace": "n", "generation": 7, "resourceVersion": "12", "labels": {"a": "b"},
                "creationTimestamp": "2026-01-01T00:00:00Z",
            },
            "spec": spec,
        });
        let (key, item) = route(object(value));
        assert_eq!(key.to_string(), "n/r");
        let Item::Route(route, _) = item else { panic!("{item:?}") };
        *route
    }

    #[test]
    fn what_means_nothing_is_dropped_and_what_orders_routes_is_kept() {
        let route = read(json!({"rules": [{"backendRefs": [{"name": "s", "port": 1}]}]})).expect("readable");
        assert_eq!((route.metadata.generation, route.metadata.resource_version), (Some(7), None));
        assert!(route.metadata.creation_timestamp.is_some() && route.metadata.labels.is_none());
    }

    #[test]
    fn an_unknown_field_or_value_makes_an_object_unreadable_and_is_named() {
        let rules = json!([{"backendRefs": [{"name": "s", "port": 1}], "loadBalancer": {"type": "Random"}}]);
        let unreadable = read(json!({"rules": rules, "authenticator": {"providers": []}})).expect_err("unreadable");
        assert_eq!(unreadable.generation, Some(7));
        let all = unreadable.faults.join("\n");
        assert!(all.contains("spec.authenticator: unknown field"), "{all}");
        assert!(all.contains("spec.rules[0].loadBalancer.type: unknown value \"Random\""), "{all}");
        assert!(all.contains("run the Sheave that the CRD came with"), "{all}");
    }

    #[test]
    fn the_hand_that_wrote_a_status_is_known() {
        let with = |manager: &str, part: &str| {
            let field = json!({"manager": manager, "subresource": part, "operation": "Apply"});
            stored(&object(json!({"metadata": {"name": "r", "managedFields": [field]}})))
        };
        assert!(with(MANAGER, "status").ours);
        assert!(!with(MANAGER, "").ours && !with("kubectl", "status").ours);
    }
}
