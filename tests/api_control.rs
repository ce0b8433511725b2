//! The controller against a real API server: what it reads, what it writes, and what it does when that goes wrong.

mod apiserver;

use apiserver::running::{self as started, Sheave, settings};
use apiserver::{ADMIN, ControlPlane, Namespace, rule, shared, until};
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, DynamicObject, ListParams};
use serde_json::{Value, json};
use sheave::control::cluster::Settings;
use std::collections::BTreeMap;
use std::time::Duration;

/// Objects of one test: a namespace, and a class of its own.
struct Stage {
    plane: &'static ControlPlane,
    namespace: Namespace,
}

impl Stage {
    async fn new(name: &str) -> Self {
        let plane = shared().await;
        let stage = Self { plane, namespace: plane.namespace(name).await };
        stage.apply_class(&json!({"controllerName": "sheave.dev/controller"})).await;
        stage
    }

    fn class(&self) -> String {
        format!("class-of-{}", &*self.namespace)
    }

    async fn apply_class(&self, spec: &Value) {
        self.plane.apply(None, &class(&self.class(), spec)).await.expect("a class");
    }

    async fn apply(&self, object: &Value) {
        self.plane.apply(Some(&self.namespace), object).await.unwrap_or_else(|error| panic!("{object}: {error}"));
    }

    async fn delete(&self, object: &Value) {
        self.plane.delete(Some(&self.namespace), object).await;
    }

    fn route(&self, name: &str, spec: Value) -> Value {
        route(name, &self.class(), spec)
    }

    fn settings(&self, pod: &str) -> Settings {
        settings(self.plane.config(ADMIN), &self.namespace, pod)
    }

    async fn sheave(&self) -> Sheave {
        Sheave::start(self.settings("one")).await
    }

    /// Waits until a condition of a route is so, and answers its message.
    async fn condition(&self, route: &str, kind: &str, status: &str, reason: &str) -> String {
        condition(self.plane, Some(&self.namespace), &self.route(route, json!({})), (kind, status, reason)).await
    }

    async fn get(&self, object: &Value) -> DynamicObject {
        let name = object["metadata"]["name"].as_str().expect("a name");
        self.plane.kind(Some(&self.namespace), object).get(name).await.expect("it is there")
    }

    /// The reasons of the events about a route, each with how often.
    async fn events(&self, route: &str) -> BTreeMap<String, usize> {
        let events: Api<Event> = Api::namespaced(self.plane.client(), &self.namespace);
        let mut reasons = BTreeMap::new();
        for event in events.list(&ListParams::default()).await.expect("events").items {
            if event.regarding.is_some_and(|about| about.name.as_deref() == Some(route)) {
                *reasons.entry(event.reason.unwrap_or_default()).or_default() += 1;
            }
        }
        reasons
    }
}

async fn condition(
    plane: &ControlPlane,
    namespace: Option<&str>,
    object: &Value,
    (kind, status, reason): (&str, &str, &str),
) -> String {
    let name = object["metadata"]["name"].as_str().expect("a name");
    until(&format!("{name}: {kind} is {status}, {reason}"), || async {
        let found = plane.kind(namespace, object).get(name).await.ok()?;
        let conditions = found.data.pointer("/status/conditions")?.as_array()?;
        let same = |c: &&Value| c["type"] == kind && c["status"] == status && c["reason"] == reason;
        let condition = conditions.iter().find(same)?;
        (condition["observedGeneration"] == json!(found.metadata.generation))
            .then(|| condition["message"].as_str().unwrap_or_default().to_owned())
    })
    .await
}

fn class(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "sheave.dev/v1alpha1", "kind": "WebSocketClass", "metadata": {"name": name}, "spec": spec})
}

/// A route of one rule to Service `echo`; `spec` replaces and adds.
#[allow(clippy::needless_pass_by_value)] // `json!` makes values
fn route(name: &str, class: &str, spec: Value) -> Value {
    let mut whole = json!({
        "className": class, "hostnames": [format!("{name}.test")],
        "rules": [{"name": "all", "backendRefs": [{"name": "echo", "port": 80}]}],
    });
    whole.as_object_mut().expect("an object").extend(spec.as_object().expect("an object").clone());
    json!({"apiVersion": "sheave.dev/v1alpha1", "kind": "WebSocketRoute", "metadata": {"name": name}, "spec": whole})
}

fn service(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"ports": [{"name": "ws", "port": 80}]}})
}

fn slice(service: &str, addresses: &[&str]) -> Value {
    let endpoints: Vec<_> = addresses.iter().map(|address| json!({"addresses": [address]})).collect();
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": service, "labels": {"kubernetes.io/service-name": service}}, "addressType": "IPv4",
        "ports": [{"name": "ws", "port": 8080, "protocol": "TCP"}], "endpoints": endpoints})
}

/// A TLS Secret with a fresh certificate for `host`.
fn certificate(name: &str, host: &str) -> Value {
    let made = rcgen::generate_simple_self_signed([host.to_owned()]).expect("a certificate");
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": "kubernetes.io/tls",
        "stringData": {"tls.crt": made.cert.pem(), "tls.key": made.signing_key.serialize_pem(), "unused": "never-kept"}})
}

fn grant(name: &str, from: &str, kind: &str) -> Value {
    json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "ReferenceGrant", "metadata": {"name": name},
        "spec": {"from": [{"group": "sheave.dev", "kind": "WebSocketRoute", "namespace": from}],
            "to": [{"group": "", "kind": kind}]}})
}

/// A CRD of the Gateway API's kind, as far as it is read.
fn grant_crd() -> Value {
    let any = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "referencegrants.gateway.networking.k8s.io",
            "annotations": {"api-approved.kubernetes.io": "unapproved, a stand-in"}},
        "spec": {"group": "gateway.networking.k8s.io", "scope": "Namespaced",
            "names": {"kind": "ReferenceGrant", "plural": "referencegrants", "singular": "referencegrant"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": any}}}}]}})
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a kube-apiserver: make test-api"]
async fn every_pod_has_the_table_and_the_leader_alone_writes_each_status_once() {
    let stage = Stage::new("lead").await;
    stage.apply(&service("echo")).await;
    stage.apply(&slice("echo", &["10.9.0.1"])).await;
    let pods = [Sheave::start(stage.settings("a")).await, Sheave::start(stage.settings("b")).await];
    stage.apply(&stage.route("chat", json!({}))).await;
    for pod in &pods {
        pod.has_routes(&["chat"]).await;
        assert!(pod.table_text().contains("10.9.0.1:8080"), "{}", pod.table_text());
    }
    assert_eq!(stage.condition("chat", "Programmed", "True", "Programmed").await, "");
    let written = stage.get(&stage.route("chat", json!({}))).await.metadata.resource_version;
    let mut writes = [0.0, 0.0];
    for (pod, writes) in pods.iter().zip(&mut writes) {
        *writes = pod.metric("sheave_status_writes_total", "").await;
    }
    let leaders = [pods[0].metric("sheave_leader", "").await, pods[1].metric("sheave_leader", "").await];
    assert!((leaders[0] > 0.5) != (leaders[1] > 0.5), "{leaders:?}");
    assert!(writes.iter().filter(|count| **count < 0.5).count() == 1, "one pod writes, not {writes:?}");
    // An equal object again is no change and no write.
    stage.apply(&stage.route("chat", json!({}))).await;
    stage.apply(&stage.route("second", json!({}))).await;
    stage.condition("second", "Programmed", "True", "Programmed").await;
    assert_eq!(stage.get(&stage.route("chat", json!({}))).await.metadata.resource_version, written);
    let [a, b] = pods;
    let (leader, other) = if leaders[0] > 0.5 { (a, b) } else { (b, a) };
    leader.stop().await;
    until("the other leads", || async { (other.metric("sheave_leader", "").await > 0.5).then_some(()) }).await;
    stage.apply(&stage.route("third", json!({}))).await;
    stage.condition("third", "Programmed", "True", "Programmed").await;
    assert_eq!(stage.events("chat").await, BTreeMap::new(), "nothing happened to it");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a kube-apiserver: make test-api"]
async fn a_wrong_route_is_told_what_to_do_and_events_tell_its_turns() {
    let stage = Stage::new("told").await;
    let own = vec!["10.9.0.250".parse().expect("an address")];
    let sheave = Sheave::start(Settings { own_addresses: own, ..stage.settings("one") }).await;
    stage.apply(&stage.route("chat", json!({}))).await;
    let message = stage.condition("chat", "ResolvedRefs", "False", "BackendNotFound").await;
    let advice = format!("there is no Service {}/echo: create it, or correct the name", &*stage.namespace);
    assert_eq!(message, format!("spec.rules[0].backendRefs[0]: {advice}"));
    stage.apply(&service("echo")).await;
    stage.condition("chat", "ResolvedRefs", "True", "ResolvedRefs").await;
    let before = stage.get(&stage.route("chat", json!({}))).await;
    // Endpoints come and go; a status never says so.
    for turn in 1..20 {
        stage.apply(&slice("echo", &[&format!("10.9.0.{turn}"), "10.9.0.250"])).await;
    }
    until("the last endpoint is in the table", || async {
        sheave.table_text().contains("10.9.0.19:8080").then_some(())
    })
    .await;
    let table = sheave.table_text();
    assert!(!table.contains("10.9.0.250"), "an endpoint at Sheave's own address leads in a circle: {table}");
    let after = stage.get(&stage.route("chat", json!({}))).await;
    assert_eq!(before.metadata.resource_version, after.metadata.resource_version);
    let drop = json!({"rules": [
        {"name": "all", "backendRefs": [{"name": "echo", "port": 80}]},
        {"name": "odd", "matches": [{"path": {"type": "RegularExpression", "value": "/("}}],
            "backendRefs": [{"name": "echo", "port": 80}]},
    ]});
    stage.apply(&stage.route("chat", drop)).await;
    let message = stage.condition("chat", "PartiallyInvalid", "True", "UnsupportedValue").await;
    assert!(message.starts_with("Dropped Rule odd: spec.rules[1].matches[0].path.value: "), "{message}");
    let turns = BTreeMap::from([
        ("BackendNotFound".to_owned(), 1),
        ("ResolvedRefs".to_owned(), 1),
        ("UnsupportedValue".to_owned(), 1),
    ]);
    until("three events", || async { (stage.events("chat").await == turns).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a kube-apiserver: make test-api"]
async fn a_class_that_goes_or_closes_takes_its_routes_along_and_tells_them() {
    let stage = Stage::new("class").await;
    stage.apply(&service("echo")).await;
    let sheave = stage.sheave().await;
    stage.apply(&stage.route("chat", json!({}))).await;
    sheave.has_routes(&["chat"]).await;
    let allowed = |labels: &Value| json!({"namespaces": {"from": "Selector", "selector": {"matchLabels": labels}}});
    let restricted =
        |labels: &Value| json!({"controllerName": "sheave.dev/controller", "allowedRoutes": allowed(labels)});
    stage.apply_class(&restricted(&json!({"expose": "yes"}))).await;
    let message = stage.condition("chat", "Accepted", "False", "NotAllowedByListeners").await;
    assert!(message.contains("expose=yes") && message.contains("label the namespace"), "{message}");
    sheave.has_routes(&[]).await;
    let own = json!({"kubernetes.io/metadata.name": &*stage.namespace});
    stage.apply_class(&restricted(&own)).await;
    sheave.has_routes(&["chat"]).await;
    let ceiling = json!({"controllerName": "sheave.dev/controller", "ceilings": {"maxMessageBytes": 1024}});
    stage.apply_class(&ceiling).await;
    stage.apply(&stage.route("big", json!({"messages": {"maxMessageBytes": 2048}}))).await;
    let message = stage.condition("big", "Accepted", "False", "UnsupportedValue").await;
    assert!(message.contains("spec.messages.maxMessageBytes"), "{message}");
    stage.plane.delete(None, &class(&stage.class(), &json!({}))).await;
    let message = stage.condition("chat", "Accepted", "False", "NoMatchingParent").await;
    assert!(message.contains(&format!("there is no WebSocketClass {}", stage.class())), "{message}");
    sheave.has_routes(&[]).await;
    assert!(sheave.routes().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a kube-apiserver: make test-api"]
async fn a_route_that_leaves_for_another_controller_keeps_no_status_of_ours() {
    let stage = Stage::new("leave").await;
    let theirs = format!("theirs-{}", &*stage.namespace);
    stage.plane.apply(None, &class(&theirs, &json!({"controllerName": "example.com/other"}))).await.expect("a class");
    let sheave = stage.sheave().await;
    stage.apply(&stage.route("chat", json!({}))).await;
    stage.condition("chat", "Accepted", "True", "Accepted").await;
    stage.apply(&route("chat", &theirs, json!({}))).await;
    sheave.has_routes(&[]).await;
    until("our conditions are gone", || async {
        let left = stage.get(&stage.route("chat", json!({}))).await;
        left.data.pointer("/status/conditions").and_then(Value::as_array).is_none_or(Vec::is_empty).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a kube-apiserver: make test-api"]
async fn a_secret_is_read_when_it_is_named_and_a_new_one_is_served_at_once() {
    let stage = Stage::new("secret").await;
    stage.apply(&service("echo")).await;
    stage.apply(&certificate("tls", "chat.test")).await;
    let sheave = stage.sheave().await;
    let fingerprint = || sheave.table().certificate(Some("chat.test")).map(|c| c.fingerprint.to_string());
    let own = fingerprint();
    let tls = json!({"tls": {"certificateRefs": [{"name": "tls"}]}});
    stage.apply(&stage.route("chat", tls)).await;
    stage.condition("chat", "Programmed", "True", "Programmed").await;
    let first = fingerprint();
    assert_ne!(first, own, "the certificate is in the table that the route came with");
    stage.apply(&certificate("tls", "chat.test")).await;
    until("the new certificate is served", || async { (fingerprint() != first).then_some(()) }).await;
    assert!(!sheave.table_text().contains("PRIVATE KEY"));
    // What was there all the time was never said to be missing.
    assert_eq!(stage.events("chat").await, BTreeMap::new());
    stage.delete(&json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "tls"}})).await;
    let message = stage.condition("chat", "ResolvedRefs", "False", "InvalidCertificateRef").await;
    assert!(message.contains("there is no Secret"), "{message}");
    sheave.has_routes(&["chat"]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a kube-apiserver: make test-api"]
async fn a_route_whose_issuer_cannot_be_asked_is_told_and_local_addresses_are_not_asked() {
    let stage = Stage::new("issuer").await;
    stage.apply(&service("echo")).await;
    let _sheave = stage.sheave().await;
    let route = |uri: &str| {
        let provider = json!({"name": "tokens", "type": "JWT", "jwt": {"remoteJWKS": {"uri": uri}}});
        stage.route("chat", json!({"authentication": {"providers": [provider]}}))
    };
    for local in ["https://127.0.0.1:6443/keys", "https://localhost/keys", "https://169.254.169.254/keys"] {
        stage.apply(&route(local)).await;
        let told = until("the route is told of its issuer", || async {
            let message = stage.condition("chat", "ResolvedRefs", "False", "JWKSUnavailable").await;
            message.contains("its host has local addresses only").then_some(message)
        });
        assert!(told.await.starts_with("spec.authentication.providers[0].jwt.remoteJWKS.uri: "));
        // Another issuer, which nobody has asked yet, is no reason for a complaint: then one that has no address.
        stage.apply(&route("https://nobody.invalid/keys")).await;
        until("the route is told of the other one", || async {
            let message = stage.condition("chat", "ResolvedRefs", "False", "JWKSUnavailable").await;
            message.contains("its host has no address").then_some(())
        })
        .await;
    }
    let without = stage.route("chat", json!({"authentication": null}));
    stage.apply(&without).await;
    stage.condition("chat", "ResolvedRefs", "True", "ResolvedRefs").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a kube-apiserver: make test-api"]
async fn a_grant_holds_from_when_it_is_there_to_when_it_is_gone_even_before_its_kind_is() {
    let plane: &'static ControlPlane = Box::leak(Box::new(ControlPlane::start().await));
    plane.install_crds().await;
    let stage = Stage { plane, namespace: plane.namespace("from").await };
    stage.apply_class(&json!({"controllerName": "sheave.dev/controller"})).await;
    let other = plane.namespace("to").await;
    plane.apply(Some(&other), &service("echo")).await.expect("a Service");
    let everywhere = Settings { watch_namespaces: Vec::new(), ..stage.settings("one") };
    let _sheave = Sheave::start(everywhere).await;
    let refs = json!([{"name": "echo", "namespace": &*other, "port": 80}]);
    stage.apply(&stage.route("chat", json!({"rules": [{"backendRefs": refs}]}))).await;
    let message = stage.condition("chat", "ResolvedRefs", "False", "RefNotPermitted").await;
    assert!(message.contains(&format!("no ReferenceGrant in namespace {}", &*other)), "{message}");
    plane.install(&grant_crd()).await;
    let grant = grant("chat", &stage.namespace, "Service");
    plane.apply(Some(&other), &grant).await.expect("a grant");
    stage.condition("chat", "ResolvedRefs", "True", "ResolvedRefs").await;
    plane.delete(Some(&other), &grant).await;
    stage.condition("chat", "ResolvedRefs", "False", "RefNotPermitted").await;
}

/// What a Sheave of one namespace needs in it.
fn rights(without: &str) -> Vec<k8s_openapi::api::rbac::v1::PolicyRule> {
    let read = ["get", "list", "watch"];
    let core: Vec<_> = ["services", "secrets", "configmaps"].into_iter().filter(|kind| *kind != without).collect();
    let mut rules = vec![
        rule("", &core, &read),
        rule("discovery.k8s.io", &["endpointslices"], &read),
        rule("sheave.dev", &["websocketroutes"], &read),
        rule("coordination.k8s.io", &["leases"], &["get", "create", "patch", "update", "list", "watch"]),
    ];
    if without != "events" {
        rules.push(rule("events.k8s.io", &["events"], &["create", "patch"]));
    }
    if without != "status" {
        rules.push(rule("sheave.dev", &["websocketroutes/status"], &["patch"]));
    }
    rules
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a kube-apiserver: make test-api"]
async fn a_status_that_may_not_be_written_is_due_until_it_may() {
    let stage = Stage::new("due").await;
    let account = stage.plane.account(&stage.namespace, "sheave").await;
    let classes = rule("sheave.dev", &["websocketclasses"], &["get", "list", "watch"]);
    stage.plane.grant(&account, &[classes, rule("sheave.dev", &["websocketclasses/status"], &["patch"])]).await;
    let grant = stage.plane.grant_in(&account, &stage.namespace, &rights("status")).await;
    let sheave = Sheave::start(settings(account.config(), &stage.namespace, "one")).await;
    stage.apply(&service("echo")).await;
    stage.apply(&stage.route("chat", json!({}))).await;
    let due = async |count: f64| {
        until(&format!("{count} statuses are due"), || async {
            ((sheave.metric("sheave_statuses_due", "").await - count).abs() < 0.5).then_some(())
        })
        .await;
    };
    due(1.0).await;
    until("a refusal is counted", || async {
        (sheave.metric("sheave_status_writes_total", "result=\"error\"").await > 0.5).then_some(())
    })
    .await;
    stage.plane.revoke(&account, grant).await;
    stage.plane.grant_in(&account, &stage.namespace, &rights("")).await;
    stage.condition("chat", "Programmed", "True", "Programmed").await;
    due(0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a kube-apiserver: make test-api"]
async fn an_event_that_could_not_be_written_is_written_once_it_can_be() {
    let stage = Stage::new("untold").await;
    let account = stage.plane.account(&stage.namespace, "sheave").await;
    stage.plane.grant(&account, &[rule("sheave.dev", &["websocketclasses"], &["get", "list", "watch"])]).await;
    let grant = stage.plane.grant_in(&account, &stage.namespace, &rights("events")).await;
    let _sheave = Sheave::start(settings(account.config(), &stage.namespace, "one")).await;
    // The Service does not exist.
    stage.apply(&stage.route("chat", json!({}))).await;
    stage.condition("chat", "ResolvedRefs", "False", "BackendNotFound").await;
    assert_eq!(stage.events("chat").await, BTreeMap::new());
    stage.plane.revoke(&account, grant).await;
    stage.plane.grant_in(&account, &stage.namespace, &rights("")).await;
    until("the event is there", || async {
        (stage.events("chat").await.get("BackendNotFound") == Some(&1)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a kube-apiserver: make test-api"]
async fn a_missing_right_is_named_until_it_is_given_and_namespaces_not_named_are_not_seen() {
    let stage = Stage::new("rights").await;
    let account = stage.plane.account(&stage.namespace, "sheave").await;
    stage.plane.grant(&account, &[rule("sheave.dev", &["websocketclasses"], &["get", "list", "watch"])]).await;
    let grant = stage.plane.grant_in(&account, &stage.namespace, &rights("secrets")).await;
    let admin = started::free_address();
    let told = settings(account.config(), &stage.namespace, "one");
    let starting = tokio::spawn(async move { Sheave::start_at(told, admin).await });
    let says = |what: &'static str| async move {
        until(&format!("/readyz says {what}"), || async {
            let (status, body) = started::get(admin, "/readyz").await?;
            (status == 503 && body.contains(what)).then_some(body)
        })
        .await
    };
    let body = says("cannot list resource \"secrets\"").await;
    assert!(body.contains("get, list and watch on secrets by a Role"), "{body}");
    assert!(started::get(admin, "/livez").await.is_some_and(|(status, _)| status == 200));
    stage.plane.revoke(&account, grant).await;
    stage.plane.grant_in(&account, &stage.namespace, &rights("")).await;
    let sheave = starting.await.expect("Sheave starts");
    assert_eq!(sheave.get("/readyz").await.0, 200);
    // Another namespace: not watched, no status, not in the table.
    let other = stage.plane.namespace("unseen").await;
    stage.plane.apply(Some(&other), &stage.route("foreign", json!({}))).await.expect("a route");
    stage.apply(&stage.route("chat", json!({}))).await;
    stage.condition("chat", "Programmed", "True", "Programmed").await;
    assert_eq!(sheave.routes(), ["chat"]);
    let foreign =
        stage.plane.kind(Some(&other), &stage.route("foreign", json!({}))).get("foreign").await.expect("there");
    assert!(foreign.data.get("status").is_none(), "{:?}", foreign.data);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a kube-apiserver: make test-api"]
async fn what_changed_while_the_line_was_cut_is_known_once_it_is_mended() {
    let stage = Stage::new("line").await;
    stage.apply(&service("echo")).await;
    let link = stage.plane.link().await;
    let through = settings(stage.plane.config_through(&link, ADMIN), &stage.namespace, "one");
    let sheave = Sheave::start(through).await;
    stage.apply(&stage.route("stays", json!({}))).await;
    stage.apply(&stage.route("goes", json!({}))).await;
    sheave.has_routes(&["goes", "stays"]).await;
    link.sever();
    stage.delete(&stage.route("goes", json!({}))).await;
    stage.apply(&stage.route("comes", json!({}))).await;
    until("the table is said to be stale", || async {
        (sheave.metric("sheave_config_stale_seconds", "").await > 0.0).then_some(())
    })
    .await;
    assert_eq!(sheave.get("/readyz").await.0, 200, "what is known is served");
    assert_eq!(sheave.routes(), ["goes", "stays"]);
    link.mend();
    sheave.has_routes(&["comes", "stays"]).await;
    stage.condition("comes", "Programmed", "True", "Programmed").await;
    until("it is no longer stale", || async {
        (sheave.metric("sheave_config_stale_seconds", "").await <= 0.0).then_some(())
    })
    .await;
    assert!(sheave.metric("sheave_watch_errors_total", "").await > 0.0);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a kube-apiserver: make test-api"]
async fn an_api_server_that_goes_and_comes_back_changes_nothing_that_is_served() {
    let plane: &'static ControlPlane = Box::leak(Box::new(ControlPlane::start().await));
    plane.install_crds().await;
    let stage = Stage { plane, namespace: plane.namespace("outage").await };
    stage.apply_class(&json!({"controllerName": "sheave.dev/controller"})).await;
    stage.apply(&service("echo")).await;
    stage.apply(&stage.route("chat", json!({}))).await;
    let sheave = stage.sheave().await;
    stage.condition("chat", "Programmed", "True", "Programmed").await;
    let (table, writes) = (sheave.table(), sheave.metric("sheave_status_writes_total", "").await);
    plane.stop_api_server();
    until("the table is said to be stale", || async {
        (sheave.metric("sheave_config_stale_seconds", "").await > 2.0).then_some(())
    })
    .await;
    assert_eq!((sheave.get("/readyz").await.0, *sheave.table() == *table), (200, true));
    plane.start_api_server().await;
    stage.apply(&stage.route("late", json!({}))).await;
    sheave.has_routes(&["chat", "late"]).await;
    stage.condition("late", "Programmed", "True", "Programmed").await;
    let more = sheave.metric("sheave_status_writes_total", "result=\"ok\"").await - writes;
    assert!(more <= 2.0, "{more} statuses were written after the API server came back");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a kube-apiserver: make test-api"]
async fn an_object_that_cannot_be_read_is_told_and_stops_no_other() {
    let plane: &'static ControlPlane = Box::leak(Box::new(ControlPlane::start().await));
    // CRDs of a Sheave that knows more than this one, and lack what this one knows.
    for (file, crd) in sheave::api::crds() {
        let mut crd = serde_json::to_value(crd).expect("JSON");
        if file.contains("routes") {
            let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
            let fields = crd.pointer_mut(spec).and_then(Value::as_object_mut).expect("fields");
            fields.insert("telepathy".to_owned(), json!({"type": "string"}));
            fields.remove("keepalive");
        }
        plane.install(&crd).await;
    }
    let stage = Stage { plane, namespace: plane.namespace("newer").await };
    stage.apply_class(&json!({"controllerName": "sheave.dev/controller"})).await;
    stage.apply(&service("echo")).await;
    stage.apply(&stage.route("future", json!({"telepathy": "on"}))).await;
    let sheave = stage.sheave().await;
    stage.apply(&stage.route("present", json!({}))).await;
    stage.condition("present", "Programmed", "True", "Programmed").await;
    sheave.has_routes(&["present"]).await;
    let message = stage.condition("future", "Accepted", "False", "UnsupportedValue").await;
    assert!(message.starts_with("spec.telepathy: unknown field"), "{message}");
    stage.condition("future", "Programmed", "False", "Invalid").await;
    until("the older CRD is told", || async {
        (sheave.metric("sheave_crd_outdated", "websocketroutes").await > 0.5).then_some(())
    })
    .await;
    assert!(sheave.metric("sheave_crd_outdated", "websocketclasses").await < 0.5);
    stage.apply(&stage.route("future", json!({}))).await;
    sheave.has_routes(&["future", "present"]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a kube-apiserver: make test-api"]
async fn without_its_crds_it_waits_and_says_how_to_install_them() {
    let plane: &'static ControlPlane = Box::leak(Box::new(ControlPlane::start().await));
    let namespace = plane.namespace("bare").await;
    let admin = started::free_address();
    let told = settings(plane.config(ADMIN), &namespace, "one");
    let starting = tokio::spawn(async move { Sheave::start_at(told, admin).await });
    until("/readyz says that the CRDs are missing", || async {
        let (status, body) = started::get(admin, "/readyz").await?;
        (status == 503 && body.contains("the CRD websocketroutes.sheave.dev is not installed")).then_some(())
    })
    .await;
    plane.install_crds().await;
    let sheave = tokio::time::timeout(Duration::from_secs(60), starting).await.expect("in time").expect("it starts");
    assert_eq!(sheave.get("/readyz").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a kube-apiserver: make test-api"]
async fn secrets_of_keys_are_found_by_their_labels_before_and_after_the_route() {
    let stage = Stage::new("labels").await;
    let keys = |name: &str, label: &str, key: &str| {
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "labels": {"use": label}},
            "stringData": {"ann": key}})
    };
    let provider = json!({"name": "keys", "type": "APIKey", "extractFrom": [{"type": "Header", "name": "X-Key"}],
        "apiKey": {"credentialSelector": {"matchLabels": {"use": "keys"}}}});
    // Let go when it came, for nobody selected it then: its empty key shows that it was read all the same.
    stage.apply(&keys("before", "keys", "")).await;
    stage.apply(&service("echo")).await;
    let _sheave = stage.sheave().await;
    stage.apply(&stage.route("chat", json!({"authentication": {"providers": [provider]}}))).await;
    let unresolved = ("ResolvedRefs", "False", "InvalidCredentialRef");
    let told = stage.condition("chat", unresolved.0, unresolved.1, unresolved.2).await;
    assert!(told.contains("/before: the key of ann is empty"), "{told}");
    stage.apply(&keys("before", "keys", "key-of-ann")).await;
    stage.condition("chat", "ResolvedRefs", "True", "ResolvedRefs").await;
    stage.apply(&keys("before", "other", "key-of-ann")).await;
    let told = stage.condition("chat", unresolved.0, unresolved.1, unresolved.2).await;
    assert!(told.contains("has the labels use=keys"), "{told}");
    stage.apply(&keys("after", "keys", "key-of-bob")).await;
    stage.condition("chat", "ResolvedRefs", "True", "ResolvedRefs").await;
}
