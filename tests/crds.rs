//! The CRDs under `crds/` are what the types say, and every CEL rule refuses what it should and nothing else.

#![allow(clippy::needless_pass_by_value)] // `json!` makes values

use kube_cel::Validator;
use serde_json::{Value, json};
use sheave::api;
use std::path::Path;

#[test]
fn committed_crds_are_generated_from_the_types() {
    for (file, crd) in api::crds() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds").join(file);
        let text = api::render(&crd).expect("a CRD is YAML");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &text).expect("crds/ is writable");
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(committed == text, "crds/{file} has drifted from src/api: run `make generate` and commit the result");
    }
}

/// The CEL faults of `spec` as a new object, or as an update of `old`.
fn faults(kind: &str, spec: &Value, old: Option<&Value>) -> Vec<String> {
    let (_, crd) = api::crds().into_iter().find(|(_, crd)| crd.spec.names.kind == kind).expect("a kind of ours");
    let schema = crd.spec.versions[0].schema.clone().and_then(|s| s.open_api_v3_schema).expect("a schema");
    let schema = serde_json::to_value(schema).expect("a schema is JSON");
    let object = |spec: &Value| json!({"apiVersion": "sheave.dev/v1alpha1", "kind": kind, "metadata": {"name": "x"}, "spec": spec});
    let result = Validator::new().validate(&schema, &object(spec), old.map(object).as_ref());
    result.err().into_iter().flat_map(kube_cel::ValidationErrors::into_vec).map(|e| e.to_string()).collect()
}

fn route(extra: Value) -> Value {
    let mut spec = json!({"rules": [{"backendRefs": [{"name": "s", "port": 1}]}]});
    let fields = extra.as_object().expect("an object").clone();
    spec.as_object_mut().expect("an object").extend(fields);
    spec
}

fn rule(extra: Value) -> Value {
    let mut spec = route(json!({}));
    let fields = extra.as_object().expect("an object").clone();
    spec["rules"][0].as_object_mut().expect("an object").extend(fields);
    spec
}

fn path(kind: &str, value: &str) -> Value {
    rule(json!({"matches": [{"path": {"type": kind, "value": value}}]}))
}

fn backend_tls(extra: Value) -> Value {
    let mut tls = json!({"hostname": "h"});
    tls.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
    rule(json!({"backendTLS": tls}))
}

fn named(names: &[&str]) -> Value {
    let rules: Vec<_> = names.iter().map(|n| json!({"name": n, "backendRefs": [{"name": "s", "port": 1}]})).collect();
    json!({ "rules": rules })
}

#[test]
fn every_rule_of_the_route_refuses_what_it_should_and_nothing_else() {
    let ca = json!([{"kind": "ConfigMap", "name": "ca"}]);
    let rows: Vec<(&str, Value, Value)> = vec![
        ("tls needs hostnames", route(json!({"tls": {}})), route(json!({"tls": {}, "hostnames": ["a.b"]}))),
        ("rule names must be unique", named(&["a", "a"]), named(&["a", "b"])),
        ("path must begin with /", path("PathPrefix", "ws"), path("RegularExpression", "ws.*")),
        ("path must begin with /", path("Exact", "/a//b"), path("Exact", "/a/b")),
        ("path must begin with /", path("PathPrefix", "/a/../b"), path("PathPrefix", "/a/..b")),
        ("path must begin with /", path("PathPrefix", "/a%2Fb"), path("PathPrefix", "/a%20b")),
        ("path must begin with /", path("PathPrefix", "/a/.."), path("PathPrefix", "/a/")),
        ("set either caCertificateRefs", backend_tls(json!({})), backend_tls(json!({"caCertificateRefs": ca}))),
        (
            "set either caCertificateRefs",
            backend_tls(json!({"caCertificateRefs": ca, "wellKnownCACertificates": "System"})),
            backend_tls(json!({"wellKnownCACertificates": "System"})),
        ),
        (
            "backendConnect must not exceed",
            route(json!({"timeouts": {"handshake": "1s", "backendConnect": "2s"}})),
            route(json!({"timeouts": {"handshake": "2s", "backendConnect": "2s"}})),
        ),
        (
            "backendConnect must not exceed",
            route(json!({"timeouts": {"backendConnect": "11s"}})),
            route(json!({"timeouts": {"backendConnect": "10s"}})),
        ),
        (
            "handshake must be above 0s",
            route(json!({"timeouts": {"handshake": "0s"}})),
            route(json!({"timeouts": {"handshake": "1ms", "idle": "0s", "maxConnectionDuration": "0s"}})),
        ),
        (
            "backendConnect must be above 0s",
            route(json!({"timeouts": {"backendConnect": "0h0m"}})),
            route(json!({"timeouts": {"backendConnect": "1ms"}})),
        ),
        (
            "close must be above 0s",
            route(json!({"timeouts": {"close": "0s"}})),
            route(json!({"timeouts": {"close": "1s"}})),
        ),
        (
            "timeout must be above 0s",
            route(json!({"drain": {"timeout": "0s"}})),
            route(json!({"drain": {"timeout": "1s", "spread": "0s"}})),
        ),
        (
            "interval must be at least 1s",
            route(json!({"keepalive": {"mode": "Both", "interval": "999ms"}})),
            route(json!({"keepalive": {"mode": "Disabled", "interval": "999ms"}})),
        ),
        (
            "timeout must not exceed interval",
            route(json!({"keepalive": {"mode": "Client", "interval": "5s", "timeout": "6s"}})),
            route(json!({"keepalive": {"mode": "Client", "interval": "5s", "timeout": "5s"}})),
        ),
        (
            "timeout must not exceed interval",
            route(json!({"keepalive": {"mode": "Client", "timeout": "31s"}})),
            route(json!({"keepalive": {"mode": "Client", "timeout": "30s"}})),
        ),
        (
            "timeout must be above 0s",
            route(json!({"keepalive": {"mode": "Client", "timeout": "0s"}})),
            route(json!({"keepalive": {"mode": "Disabled", "timeout": "0s"}})),
        ),
        (
            "closeCode must be",
            route(json!({"drain": {"closeCode": 1000}})),
            route(json!({"drain": {"closeCode": 1012}})),
        ),
        (
            "closeCode must be",
            route(json!({"drain": {"closeCode": 5000}})),
            route(json!({"drain": {"closeCode": 4999}})),
        ),
    ];
    for (says, bad, good) in rows {
        let refused = faults("WebSocketRoute", &bad, None);
        assert!(refused.len() == 1 && refused[0].contains(says), "{says}: {bad}: {refused:?}");
        assert_eq!(faults("WebSocketRoute", &good, None), [""; 0], "{says}: {good}");
    }
}

#[test]
fn the_controller_of_a_class_cannot_be_changed() {
    let (ours, other) = (json!({"controllerName": "sheave.dev/controller"}), json!({"controllerName": "x/y"}));
    assert_eq!(faults("WebSocketClass", &ours, Some(&ours)), [""; 0]);
    let refused = faults("WebSocketClass", &other, Some(&ours));
    assert!(refused.len() == 1 && refused[0].contains("controllerName cannot be changed"), "{refused:?}");
}

#[test]
fn no_list_or_string_of_the_schemas_is_unbounded() {
    fn walk(schema: &Value, path: &str, unbounded: &mut Vec<String>) {
        let bounded = |bounds: &[&str]| bounds.iter().any(|bound| schema.get(bound).is_some());
        match schema.get("type").and_then(Value::as_str) {
            Some("array") if !bounded(&["maxItems"]) => unbounded.push(path.to_owned()),
            Some("string") if !bounded(&["maxLength", "enum", "format"]) => unbounded.push(path.to_owned()),
            _ => {}
        }
        for (name, field) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            walk(field, &format!("{path}.{name}"), unbounded);
        }
        if let Some(items) = schema.get("items") {
            walk(items, &format!("{path}[]"), unbounded);
        }
    }
    for (file, crd) in api::crds() {
        let schema = crd.spec.versions[0].schema.clone().and_then(|s| s.open_api_v3_schema).expect("a schema");
        let schema = serde_json::to_value(schema).expect("a schema is JSON");
        let mut unbounded = Vec::new();
        walk(&schema["properties"]["spec"], "spec", &mut unbounded);
        assert_eq!(unbounded, [""; 0], "{file}");
    }
}
