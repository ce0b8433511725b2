//! What the CRDs refuse and what they let through, as tables: `crds.rs` judges them by the library that stands in for
//! an API server, `api_schema.rs` by a real one.

// Each test binary uses its own part, and `pub` here says what a test may use.
#![allow(dead_code, unreachable_pub)]
#![allow(clippy::needless_pass_by_value)] // `json!` makes values

mod access;

use serde_json::{Value, json};
use sheave::control::folder;

/// An object of ours.
pub fn object(kind: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "sheave.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

/// The smallest route's spec with these fields.
pub fn route(extra: Value) -> Value {
    let mut spec = json!({"rules": [{"backendRefs": [{"name": "s", "port": 1}]}]});
    let fields = extra.as_object().expect("an object").clone();
    spec.as_object_mut().expect("an object").extend(fields);
    spec
}

/// The smallest route's spec with these fields in its rule.
pub fn rule(extra: Value) -> Value {
    let mut spec = route(json!({}));
    let fields = extra.as_object().expect("an object").clone();
    spec["rules"][0].as_object_mut().expect("an object").extend(fields);
    spec
}

/// What a folder says against this one document: field and message. Notes are not faults.
pub fn faults_in_a_folder(document: &str) -> Vec<(String, String)> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("in.yaml");
    std::fs::write(&file, document).expect("written");
    let problems = folder::read(&file).expect("readable").problems;
    problems.into_iter().filter(|problem| !problem.note).map(|problem| (problem.field, problem.message)).collect()
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

/// What a CEL rule says, the spec it refuses for that alone, and the nearest one it lets through.
pub fn rules_of_the_route() -> Vec<(&'static str, Value, Value)> {
    [of_routing(), access::rules()].concat()
}

fn of_routing() -> Vec<(&'static str, Value, Value)> {
    let ca = json!([{"kind": "ConfigMap", "name": "ca"}]);
    vec![
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
    ]
}

/// An object, and the field it is refused for, if it is.
type Row = (Value, Option<&'static str>);

/// Objects that are judged by structure and metadata.
pub fn structures() -> Vec<Row> {
    [presence(), bounds(), types(), unknown_fields(), forms(), metadata()].concat()
}

fn of_route(spec: Value) -> Value {
    object("WebSocketRoute", "r", &spec)
}

fn of_class(mut spec: Value) -> Value {
    spec["controllerName"] = "sheave.dev/controller".into();
    object("WebSocketClass", "c", &spec)
}

/// The smallest route with these fields in its metadata.
fn with_metadata(fields: Value) -> Value {
    let mut object = of_route(route(json!({})));
    object["metadata"].as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
    object
}

/// The smallest route with these fields in its backend.
fn backend(fields: Value) -> Value {
    let mut spec = route(json!({}));
    let backend = spec["rules"][0]["backendRefs"][0].as_object_mut().expect("an object");
    backend.extend(fields.as_object().expect("an object").clone());
    of_route(spec)
}

fn host(host: &str) -> Value {
    of_route(route(json!({"hostnames": [host]})))
}

fn header(header: Value) -> Value {
    of_route(rule(json!({"matches": [{"headers": [header]}]})))
}

fn idle(idle: Value) -> Value {
    of_route(route(json!({"timeouts": {"idle": idle}})))
}

fn letters(count: usize) -> String {
    "a".repeat(count)
}

/// Required fields, empty lists and nulls.
fn presence() -> Vec<Row> {
    let mut no_spec = of_route(json!({}));
    no_spec.as_object_mut().expect("an object").remove("spec");
    vec![
        (of_route(json!({})), Some("spec.rules")),
        (no_spec, Some("spec")),
        (of_route(json!({"rules": null})), Some("spec.rules")),
        (of_route(json!({"rules": []})), Some("spec.rules")),
        (of_route(json!({"rules": [null]})), Some("spec.rules[0]")),
        (of_route(json!({"rules": [{}]})), Some("spec.rules[0].backendRefs")),
        (of_route(json!({"rules": {}})), Some("spec.rules")),
        (of_route(rule(json!({"matches": []}))), None),
        (of_route(rule(json!({"matches": null}))), None),
        (of_route(rule(json!({"matches": [{}]}))), None),
        (of_route(rule(json!({"matches": [null]}))), Some("spec.rules[0].matches[0]")),
        (of_route(rule(json!({"matches": [{"path": {}}]}))), None),
        (of_route(rule(json!({"matches": [{"path": null}]}))), None),
        (of_route(rule(json!({"matches": [{"path": {"type": null, "value": null}}]}))), None),
        (of_route(route(json!({"hostnames": null}))), None),
        (of_route(route(json!({"hostnames": [null]}))), Some("spec.hostnames[0]")),
        (of_route(route(json!({"keepalive": {}}))), Some("spec.keepalive.mode")),
        (of_route(route(json!({"keepalive": {"mode": null}}))), Some("spec.keepalive.mode")),
        (of_route(route(json!({"keepalive": null, "tls": null, "drain": null, "className": null}))), None),
        (of_route(rule(json!({"loadBalancer": {}}))), Some("spec.rules[0].loadBalancer.type")),
        (backend(json!({"weight": null})), None),
        (backend(json!({"protocol": null, "namespace": null})), None),
        (backend(json!({"name": null})), Some("spec.rules[0].backendRefs[0].name")),
        (backend(json!({"name": ""})), Some("spec.rules[0].backendRefs[0].name")),
    ]
}

/// At a bound and past it.
fn bounds() -> Vec<Row> {
    let hosts = |count: usize| of_route(route(json!({"hostnames": vec!["a.b"; count]})));
    vec![
        (backend(json!({"port": 0})), Some("spec.rules[0].backendRefs[0].port")),
        (backend(json!({"port": 65_535})), None),
        (backend(json!({"port": 65_536})), Some("spec.rules[0].backendRefs[0].port")),
        (backend(json!({"weight": 0})), None),
        (backend(json!({"weight": -1})), Some("spec.rules[0].backendRefs[0].weight")),
        (backend(json!({"weight": 1_000_001})), Some("spec.rules[0].backendRefs[0].weight")),
        (hosts(16), None),
        (hosts(17), Some("spec.hostnames")),
        (of_route(route(json!({"messages": {"maxMessageBytes": 1_099_511_627_776_i64}}))), None),
        (
            of_route(route(json!({"messages": {"maxMessageBytes": 1_099_511_627_777_i64}}))),
            Some("spec.messages.maxMessageBytes"),
        ),
        (of_class(json!({"ceilings": {"maxMessageBytes": 0}})), Some("spec.ceilings.maxMessageBytes")),
        (of_route(route(json!({"className": ""}))), Some("spec.className")),
        (of_route(route(json!({"className": letters(254)}))), Some("spec.className")),
        (of_route(rule(json!({"matches": [{"path": {"value": "/ü".repeat(512)}}]}))), None),
        (
            of_route(rule(json!({"matches": [{"path": {"value": format!("/{}", letters(1024))}}]}))),
            Some("spec.rules[0].matches[0].path.value"),
        ),
    ]
}

/// Values of another type.
fn types() -> Vec<Row> {
    vec![
        (backend(json!({"port": "80"})), Some("spec.rules[0].backendRefs[0].port")),
        (backend(json!({"port": 80.5})), Some("spec.rules[0].backendRefs[0].port")),
        (backend(json!({"port": true})), Some("spec.rules[0].backendRefs[0].port")),
        (of_route(route(json!({"className": 7}))), Some("spec.className")),
        (of_route(route(json!({"hostnames": "a.b"}))), Some("spec.hostnames")),
        (of_route(route(json!({"keepalive": {"mode": false}}))), Some("spec.keepalive.mode")),
        (of_route(route(json!({"tls": []}))), Some("spec.tls")),
        (header(json!({"name": "x", "value": 2})), Some("spec.rules[0].matches[0].headers[0].value")),
        (idle(json!(5)), Some("spec.timeouts.idle")),
        (of_route(json!("rules")), Some("spec")),
        (of_route(json!(null)), Some("spec")),
    ]
}

/// Fields that are not there.
fn unknown_fields() -> Vec<Row> {
    vec![
        (of_route(route(json!({"keepalives": {}}))), Some("spec.keepalives")),
        (of_route(rule(json!({"matches": [{"paths": {}}]}))), Some("spec.rules[0].matches[0].paths")),
        (of_route(route(json!({"keepalives": null}))), Some("spec.keepalives")),
        (with_metadata(json!({"label": {}})), Some("metadata.label")),
    ]
}

/// Words and forms.
fn forms() -> Vec<Row> {
    vec![
        (of_route(route(json!({"keepalive": {"mode": "client"}}))), Some("spec.keepalive.mode")),
        (backend(json!({"protocol": "ws"})), Some("spec.rules[0].backendRefs[0].protocol")),
        (idle(json!("1h30m")), None),
        (idle(json!("1500ms")), None),
        (idle(json!("1.5h")), Some("spec.timeouts.idle")),
        (idle(json!("100000s")), Some("spec.timeouts.idle")),
        (idle(json!("1d")), Some("spec.timeouts.idle")),
        (idle(json!("-1s")), Some("spec.timeouts.idle")),
        (idle(json!("1s\n")), Some("spec.timeouts.idle")),
        (idle(json!("")), Some("spec.timeouts.idle")),
        (host("Chat.Example.COM"), None),
        (host("*.example.com"), None),
        (host("*"), Some("spec.hostnames[0]")),
        (host("a.*.com"), Some("spec.hostnames[0]")),
        (host("a_b.com"), Some("spec.hostnames[0]")),
        (host("a.com:80"), Some("spec.hostnames[0]")),
        (host("a.com."), Some("spec.hostnames[0]")),
        (host("a..com"), Some("spec.hostnames[0]")),
        (host("xn--bcher-kva.example"), None),
        (host("bücher.example"), Some("spec.hostnames[0]")),
        (host("[::1]"), Some("spec.hostnames[0]")),
        (host("127.0.0.1"), None),
        (header(json!({"name": "X-Tenant", "value": "gold"})), None),
        (header(json!({"name": "X Tenant", "value": "gold"})), Some("spec.rules[0].matches[0].headers[0].name")),
        (header(json!({"name": "X-Tenant", "value": "("  , "type": "RegularExpression"})), None),
        (of_route(rule(json!({"name": "Upper"}))), Some("spec.rules[0].name")),
        (of_route(rule(json!({"name": letters(64)}))), Some("spec.rules[0].name")),
        (
            of_route(rule(json!({"matches": [{"subprotocols": ["a b"]}]}))),
            Some("spec.rules[0].matches[0].subprotocols[0]"),
        ),
        (of_class(json!({})), None),
        (object("WebSocketClass", "c", &json!({})), Some("spec.controllerName")),
        (of_class(json!({"defaultCertificateRef": {"name": "x"}})), Some("spec.defaultCertificateRef.namespace")),
        (of_class(json!({"defaults": {"drain": {"closeCode": 1000}}})), Some("spec.defaults.drain.closeCode")),
        (of_class(json!({"defaults": {"keepalive": {"mode": "Both", "interval": "1s"}}})), None),
    ]
}

/// Names, labels and annotations.
fn metadata() -> Vec<Row> {
    vec![
        (with_metadata(json!({"name": "Upper"})), Some("metadata.name")),
        (with_metadata(json!({"name": "a_b"})), Some("metadata.name")),
        (with_metadata(json!({"name": "a.b-c.0"})), None),
        (with_metadata(json!({"name": letters(254)})), Some("metadata.name")),
        (
            of_route(rule(json!({"backendTLS": {"hostname": "h", "wellKnownCACertificates": null}}))),
            Some("spec.rules[0].backendTLS"),
        ),
        (of_route(route(json!({"drain": {"onEndpointTerminating": null}}))), None),
        (of_route(route(json!({"tls": {"plaintext": null}, "hostnames": ["a.b"]}))), None),
        (with_metadata(json!({"name": 7})), Some("metadata.name")),
        (with_metadata(json!({"labels": {"app": "x"}, "annotations": {"a/b": "any text at all"}})), None),
        (with_metadata(json!({"labels": {"app": 7}})), Some("metadata.labels")),
        (with_metadata(json!({"labels": {"app": "a b"}})), Some("metadata.labels")),
        (with_metadata(json!({"labels": {"a b": "x"}})), Some("metadata.labels")),
        (with_metadata(json!({"annotations": {"a b": "x"}})), Some("metadata.annotations")),
        (with_metadata(json!({"annotations": {"a": true}})), Some("metadata.annotations")),
        (with_metadata(json!({"labels": {"app": "", "a.b/C_d": "E.f-g"}})), None),
        (with_metadata(json!({"labels": {"app": letters(64)}})), Some("metadata.labels")),
        (with_metadata(json!({"labels": {"A.b/c": "x"}})), Some("metadata.labels")),
        (with_metadata(json!({"labels": {"a/b/c": "x"}})), Some("metadata.labels")),
        (with_metadata(json!({"labels": {"/b": "x"}})), Some("metadata.labels")),
        (with_metadata(json!({"labels": {"app": "-x"}})), Some("metadata.labels")),
        (with_metadata(json!({"name": "a-.b"})), Some("metadata.name")),
        (with_metadata(json!({"name": "a..b"})), Some("metadata.name")),
        (with_metadata(json!({"name": "1-a"})), None),
        (with_metadata(json!({"labels": null, "annotations": null})), None),
    ]
}
