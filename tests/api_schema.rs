//! The CRDs in a real API server: they install, refuse what they should and nothing else, and look to `kubectl` as
//! the README says. What a folder is told must be what the server would say.

mod apiserver;
mod crd_rows;

use apiserver::shared;
use kube::Client;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use sheave::api::{CONTROLLER, WebSocketRoute};
use std::collections::BTreeSet;

/// What the server says to a new object with strict validation, as `kubectl` asks for; nothing is stored. Fields and
/// messages of the refusal.
async fn judged(client: &Client, namespace: &str, object: &Value) -> Result<Value, Vec<(String, String)>> {
    let resources = match object["kind"].as_str() {
        Some("WebSocketClass") => "websocketclasses".to_owned(),
        _ => format!("namespaces/{namespace}/websocketroutes"),
    };
    let url = format!("/apis/sheave.dev/v1alpha1/{resources}?dryRun=All&fieldValidation=Strict");
    let mut object = object.clone();
    if object["kind"] == "WebSocketRoute" {
        object["metadata"]["namespace"] = namespace.into();
    }
    let request = http::Request::post(url).header("content-type", "application/json").body(object.to_string().into());
    let refusal = match client.request::<Value>(request.expect("a request")).await {
        Ok(stored) => return Ok(stored),
        Err(kube::Error::Api(status)) => status,
        Err(other) => panic!("no answer: {other}"),
    };
    let causes = refusal.details.iter().flat_map(|details| details.causes.clone());
    // Of an object that its schema refuses the rules are not asked, and that is told as a cause of its own.
    let causes = causes.filter(|cause| !cause.message.contains("some validation rules were not checked"));
    let causes: Vec<_> = causes.map(|cause| (cause.field, cause.message)).collect();
    Err(if causes.is_empty() { vec![(String::new(), refusal.message.clone())] } else { causes })
}

/// Whether a cause is about `field`. What cannot even be decoded is told in words alone: an unknown field by its path,
/// a wrong type in metadata by the name of the field.
fn names((at, message): &(String, String), field: &str) -> bool {
    let last = field.rsplit_once('.').map_or(field, |(_, last)| last);
    at == field || at.is_empty() && (message.contains(field) || message.contains(&format!("ObjectMeta.{last} ")))
}

/// The smallest route with these fields in its spec, as an object.
fn route(name: &str, fields: Value) -> Value {
    crd_rows::object("WebSocketRoute", name, &crd_rows::route(fields))
}

#[tokio::test]
#[ignore = "needs a kube-apiserver: make test-api"]
async fn both_crds_are_established_and_applying_them_again_changes_nothing() {
    let plane = shared().await;
    for (file, crd) in sheave::api::crds() {
        let crd = serde_json::to_value(crd).expect("a CRD is JSON");
        let name = crd["metadata"]["name"].as_str().expect("a name");
        let api = plane.kind(None, &crd);
        let before = api.get(name).await.expect("installed");
        for condition in before.data["status"]["conditions"].as_array().expect("conditions") {
            let kind = condition["type"].as_str().expect("a type");
            let wanted = if matches!(kind, "Established" | "NamesAccepted") { "True" } else { "False" };
            assert_eq!(condition["status"], wanted, "{file}: {condition}");
        }
        let after = plane.apply(None, &crd).await.expect("applies again");
        assert_eq!(before.metadata.resource_version, after.metadata.resource_version, "{file}");
    }
}

#[tokio::test]
#[ignore = "needs a kube-apiserver: make test-api"]
async fn every_rule_of_the_route_refuses_what_it_should_and_nothing_else() {
    let plane = shared().await;
    let namespace = plane.namespace("rules").await;
    let client = plane.client();
    for (says, bad, good) in crd_rows::rules_of_the_route() {
        let bad = crd_rows::object("WebSocketRoute", "x", &bad);
        let refused = judged(&client, &namespace, &bad).await.expect_err(says);
        assert!(refused.len() == 1 && refused[0].1.contains(says), "{says}: {bad}: {refused:?}");
        let told = crd_rows::faults_in_a_folder(&bad.to_string());
        assert_eq!(told[0].0, refused[0].0, "a folder names the field that the server names: {bad}");
        let good = crd_rows::object("WebSocketRoute", "x", &good);
        judged(&client, &namespace, &good).await.unwrap_or_else(|refused| panic!("{says}: {good}: {refused:?}"));
    }
}

#[tokio::test]
#[ignore = "needs a kube-apiserver: make test-api"]
async fn the_controller_of_a_class_cannot_be_changed() {
    let plane = shared().await;
    let class = |name: &str| crd_rows::object("WebSocketClass", "settled", &json!({"controllerName": name}));
    plane.apply(None, &class(CONTROLLER)).await.expect("a new class");
    plane.apply(None, &class(CONTROLLER)).await.expect("the same class");
    let refused = plane.apply(None, &class("x/y")).await.expect_err("another controller");
    assert!(refused.to_string().contains("controllerName cannot be changed"), "{refused}");
}

#[tokio::test]
#[ignore = "needs a kube-apiserver: make test-api"]
async fn the_server_judges_structure_by_the_table() {
    let plane = shared().await;
    let namespace = plane.namespace("structure").await;
    let client = plane.client();
    let mut wrong = Vec::new();
    for (object, wanted) in crd_rows::structures() {
        let judged = judged(&client, &namespace, &object).await;
        let right = match (&judged, wanted) {
            (Ok(_), None) => true,
            (Err(causes), Some(field)) => causes.iter().any(|cause| names(cause, field)),
            _ => false,
        };
        if !right {
            wrong.push(format!("{object}\n  wanted {wanted:?}, got {:?}", judged.map(|_| "accepted")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
#[ignore = "needs a kube-apiserver: make test-api"]
async fn the_server_judges_every_golden_object_as_a_folder_does() {
    let plane = shared().await;
    let namespace = plane.namespace("golden").await;
    let client = plane.client();
    let (mut judged_so_far, mut wrong) = (0, Vec::new());
    for case in std::fs::read_dir("tests/golden").expect("tests run at the root of the crate").flatten() {
        let Ok(text) = std::fs::read_to_string(case.path().join("in.yaml")) else { continue };
        for document in text.split("\n---") {
            // What is not YAML never leaves kubectl.
            let Ok(object) = serde_saphyr::from_str::<Value>(document) else { continue };
            if object["apiVersion"] != "sheave.dev/v1alpha1" {
                continue;
            }
            let here = crd_rows::faults_in_a_folder(document);
            let there = judged(&client, &namespace, &object).await.err().unwrap_or_default();
            let named = here.iter().all(|(field, _)| there.iter().any(|cause| names(cause, field)));
            judged_so_far += 1;
            if here.len() != there.len() || !named {
                wrong.push(format!("{}: folder {here:?}, server {there:?}", case.path().display()));
            }
        }
    }
    assert!(judged_so_far >= 80, "only {judged_so_far} objects were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
#[ignore = "needs a kube-apiserver: make test-api"]
async fn the_examples_apply() {
    let plane = shared().await;
    let namespace = plane.namespace("examples").await;
    let mut applied = BTreeSet::new();
    for file in std::fs::read_dir("examples/routes").expect("tests run at the root of the crate").flatten() {
        let text = std::fs::read_to_string(file.path()).expect("readable");
        for document in text.split("\n---") {
            let object: Value = serde_saphyr::from_str(document).expect("YAML");
            // Their addresses are of this machine, which no cluster takes for an endpoint.
            if object["kind"] == "EndpointSlice" {
                continue;
            }
            plane.apply(Some(&namespace), &object).await.unwrap_or_else(|e| panic!("{}: {e}", file.path().display()));
            applied.insert(object["metadata"]["name"].to_string() + &object["kind"].to_string());
        }
    }
    assert!(applied.contains("\"chat\"\"WebSocketRoute\"") && applied.len() == 5, "{applied:?}");
    let routes: Api<WebSocketRoute> = Api::namespaced(plane.client(), &namespace);
    let chat = routes.get("chat").await.expect("the type reads what the server stored");
    assert_eq!(chat.spec.rules.len(), 3);
}

#[tokio::test]
#[ignore = "needs a kube-apiserver: make test-api"]
async fn a_route_as_large_as_the_bounds_allow_is_within_the_budget_of_the_rules() {
    let plane = shared().await;
    let namespace = plane.namespace("large").await;
    let client = plane.client();
    let name = |at: usize| format!("rule-{at:0>58}");
    let one_match = |at: usize| json!({"path": {"type": "PathPrefix", "value": format!("/{at}{}", "a".repeat(500))}});
    let backends: Vec<_> = (0..16).map(|at| json!({"name": format!("service-{at}"), "port": 80})).collect();
    let rule = |at: usize| {
        let matches: Vec<_> = (0..64).map(one_match).collect();
        json!({"name": name(at), "matches": matches, "backendRefs": backends})
    };
    let rules: Vec<_> = (0..16).map(rule).collect();
    let object = crd_rows::object("WebSocketRoute", "large", &json!({"rules": rules}));
    judged(&client, &namespace, &object).await.expect("it is accepted");
}

#[tokio::test]
#[ignore = "needs a kube-apiserver: make test-api"]
async fn null_for_an_optional_block_counts_as_absent() {
    let plane = shared().await;
    let namespace = plane.namespace("nulls").await;
    let client = plane.client();
    let mut with_nulls = route(
        "nulls",
        json!({"className": null, "tls": null, "timeouts": null, "keepalive": null, "messages": null, "drain": null}),
    );
    with_nulls["spec"]["rules"][0]["backendTLS"] = Value::Null;
    judged(&client, &namespace, &with_nulls).await.expect("a new object may hold nulls");
    plane.apply(Some(&namespace), &with_nulls).await.expect("and so may an applied one");
    let routes: Api<WebSocketRoute> = Api::namespaced(plane.client(), &namespace);
    let read = routes.get("nulls").await.expect("the type reads it");
    let without: WebSocketRoute = serde_json::from_value(route("nulls", json!({}))).expect("a route");
    assert_eq!(read.spec, without.spec);
    // A null list or word is dropped from a new object, but server-side apply does not take it.
    for fields in [json!({"hostnames": null}), json!({"drain": {"onEndpointTerminating": null}})] {
        let object = route("null-list", fields);
        judged(&client, &namespace, &object).await.expect("absent");
        let refused = plane.apply(Some(&namespace), &object).await.expect_err("not by server-side apply");
        assert!(refused.to_string().contains("spec."), "{refused}");
    }
}

#[tokio::test]
#[ignore = "needs a kube-apiserver: make test-api"]
async fn only_documented_defaults_are_written_into_a_stored_route() {
    let plane = shared().await;
    let namespace = plane.namespace("defaults").await;
    let spec = json!({"rules": [{
        "matches": [{
            "path": {},
            "headers": [{"name": "x", "value": "1"}],
            "queryParams": [{"name": "y", "value": "2"}],
        }],
        "backendRefs": [{"name": "s", "port": 1}],
        "backendTLS": {"hostname": "h", "caCertificateRefs": [{"name": "ca"}]},
    }]});
    let stored = plane.apply(Some(&namespace), &crd_rows::object("WebSocketRoute", "d", &spec)).await.expect("applies");
    let wanted = json!({"rules": [{
        "matches": [{
            "path": {"type": "PathPrefix", "value": "/"},
            "headers": [{"type": "Exact", "name": "x", "value": "1"}],
            "queryParams": [{"type": "Exact", "name": "y", "value": "2"}],
        }],
        "backendRefs": [{"name": "s", "port": 1, "weight": 1}],
        "backendTLS": {"hostname": "h", "caCertificateRefs": [{"kind": "ConfigMap", "name": "ca"}]},
    }]});
    assert_eq!(stored.data["spec"], wanted);
}

/// The status of a route with these conditions, by type and status.
fn status(conditions: &[(&str, &str)]) -> Value {
    let condition = |(kind, status): &(&str, &str)| {
        json!({
            "type": kind, "status": status, "reason": "Because", "message": "so it is", "observedGeneration": 1,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        })
    };
    let conditions: Vec<_> = conditions.iter().map(condition).collect();
    json!({
        "apiVersion": "sheave.dev/v1alpha1", "kind": "WebSocketRoute",
        "status": {"observedGeneration": 1, "conditions": conditions},
    })
}

/// Applies a status as `manager`.
async fn apply_status(routes: &Api<DynamicObject>, name: &str, manager: &str, status: &Value) -> DynamicObject {
    let parameters = PatchParams::apply(manager).force();
    routes.patch_status(name, &parameters, &Patch::Apply(status)).await.expect("a status applies")
}

fn conditions(route: &DynamicObject) -> Vec<(String, String)> {
    let word = |condition: &Value, name: &str| condition[name].as_str().expect("text").to_owned();
    let all = route.data["status"]["conditions"].as_array().into_iter().flatten();
    all.map(|condition| (word(condition, "type"), word(condition, "status"))).collect()
}

fn owned(conditions: &[(&str, &str)]) -> Vec<(String, String)> {
    conditions.iter().map(|(kind, status)| ((*kind).to_owned(), (*status).to_owned())).collect()
}

#[tokio::test]
#[ignore = "needs a kube-apiserver: make test-api"]
async fn conditions_of_ours_come_and_go_and_those_of_others_stay() {
    let plane = shared().await;
    let namespace = plane.namespace("status").await;
    let object = route("chat", json!({}));
    plane.apply(Some(&namespace), &object).await.expect("a new route");
    let routes = plane.kind(Some(&namespace), &object);
    apply_status(&routes, "chat", "someone/else", &status(&[("Audited", "True")])).await;
    let ours = [("Accepted", "True"), ("PartiallyInvalid", "True"), ("Programmed", "True")];
    let written = apply_status(&routes, "chat", CONTROLLER, &status(&ours)).await;
    let mut wanted = vec![("Audited", "True")];
    wanted.extend(ours);
    assert_eq!(conditions(&written), owned(&wanted));
    // Omitted: gone. Changed: changed in its place. Another's: as it was.
    let written =
        apply_status(&routes, "chat", CONTROLLER, &status(&[("Accepted", "False"), ("Programmed", "False")])).await;
    assert_eq!(conditions(&written), owned(&[("Audited", "True"), ("Accepted", "False"), ("Programmed", "False")]));
    assert_eq!(written.metadata.generation, Some(1), "a status is no new generation");
    let managers = written.metadata.managed_fields.unwrap_or_default();
    let ours: Vec<_> = managers.iter().filter(|entry| entry.manager.as_deref() == Some(CONTROLLER)).collect();
    assert_eq!(ours.len(), 1);
    assert_eq!(ours[0].subresource.as_deref(), Some("status"));
}

#[tokio::test]
#[ignore = "needs a kube-apiserver: make test-api"]
async fn a_status_that_changes_nothing_is_no_new_version() {
    let plane = shared().await;
    let namespace = plane.namespace("unchanged").await;
    let object = route("chat", json!({}));
    plane.apply(Some(&namespace), &object).await.expect("a new route");
    let routes = plane.kind(Some(&namespace), &object);
    let once = apply_status(&routes, "chat", CONTROLLER, &status(&[("Accepted", "True")])).await;
    let again = apply_status(&routes, "chat", CONTROLLER, &status(&[("Accepted", "True")])).await;
    assert_eq!(once.metadata.resource_version, again.metadata.resource_version);
    let other = apply_status(&routes, "chat", CONTROLLER, &status(&[("Accepted", "False")])).await;
    assert_ne!(once.metadata.resource_version, other.metadata.resource_version);
}

#[tokio::test]
#[ignore = "needs a kube-apiserver: make test-api"]
async fn status_and_spec_are_written_apart() {
    let plane = shared().await;
    let namespace = plane.namespace("apart").await;
    let mut object = route("chat", json!({}));
    object["status"] = status(&[("Accepted", "True")])["status"].clone();
    plane.apply(Some(&namespace), &object).await.expect("a new route");
    let routes = plane.kind(Some(&namespace), &object);
    assert_eq!(conditions(&routes.get("chat").await.expect("there")), owned(&[]), "a user writes no status");
    let mut status = status(&[("Accepted", "True")]);
    status["spec"] = crd_rows::route(json!({"className": "other"}));
    let written = apply_status(&routes, "chat", CONTROLLER, &status).await;
    assert_eq!(conditions(&written), owned(&[("Accepted", "True")]));
    assert_eq!(written.data["spec"]["className"], Value::Null, "a status writes no spec");
}

#[tokio::test]
#[ignore = "needs a kube-apiserver: make test-api"]
async fn routes_are_selected_by_their_class() {
    let plane = shared().await;
    let namespace = plane.namespace("select").await;
    for (name, class) in [("one", "inside"), ("two", "outside")] {
        plane.apply(Some(&namespace), &route(name, json!({"className": class}))).await.expect("a new route");
    }
    let routes: Api<WebSocketRoute> = Api::namespaced(plane.client(), &namespace);
    let found = routes.list(&ListParams::default().fields("spec.className=inside")).await.expect("a list");
    let names: Vec<_> = found.iter().filter_map(|route| route.metadata.name.as_deref()).collect();
    assert_eq!(names, ["one"]);
}

#[tokio::test]
#[ignore = "needs a kube-apiserver: make test-api"]
async fn kubectl_shows_class_hosts_and_conditions() {
    let plane = shared().await;
    let namespace = plane.namespace("columns").await;
    let object = route("chat", json!({"className": "websocket", "hostnames": ["a.test", "b.test"]}));
    plane.apply(Some(&namespace), &object).await.expect("a new route");
    let words = |text: &str| -> Vec<Vec<String>> {
        text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
    };
    let routes = plane.kind(Some(&namespace), &object);
    let all = [("Accepted", "True"), ("ResolvedRefs", "False"), ("Programmed", "True")];
    apply_status(&routes, "chat", CONTROLLER, &status(&all)).await;
    let plain = words(&plane.kubectl_prints(&["get", "wsr", "-n", &namespace]).await);
    assert_eq!(plain[0], ["NAME", "CLASS", "HOSTNAMES", "ACCEPTED", "PROGRAMMED", "AGE"]);
    assert_eq!(plain[1][..5], ["chat", "websocket", "[\"a.test\",\"b.test\"]", "True", "True"]);
    let wide = words(&plane.kubectl_prints(&["get", "websocketroute", "-n", &namespace, "-o", "wide"]).await);
    assert_eq!(wide[0][5], "RESOLVEDREFS");
    assert_eq!(wide[1][5], "False");
    let waited = ["wait", "--for=condition=Programmed", "wsr/chat", "-n", &namespace, "--timeout=10s"];
    assert!(plane.kubectl_prints(&waited).await.contains("condition met"));
    plane
        .apply(None, &crd_rows::object("WebSocketClass", "shown", &json!({"controllerName": CONTROLLER})))
        .await
        .expect("a class");
    let classes = words(&plane.kubectl_prints(&["get", "wsc", "shown"]).await);
    assert_eq!(classes[0], ["NAME", "CONTROLLER", "ACCEPTED", "AGE"]);
    assert_eq!(classes[1][..2], ["shown", CONTROLLER]);
    let category = plane.kubectl_prints(&["get", "websocket", "-n", &namespace, "-o", "name"]).await;
    assert!(category.contains("websocketroute.sheave.dev/chat"), "{category}");
}

#[tokio::test]
#[ignore = "needs a kube-apiserver: make test-api"]
async fn kubectl_explains_fields_in_the_words_of_the_types() {
    let plane = shared().await;
    for (field, says) in [
        ("wsr", "Leads WebSocket connections of some hosts to Services."),
        ("wsr.spec", "The hosts this route answers to"),
        ("wsr.spec.drain", "From the start of a drain to the cut of what is left. Default 60s"),
        ("wsr.spec.rules.matches.path.type", "PathPrefix"),
        ("wsr.spec.rules.backendRefs.protocol", "WS or WSS. Default: what the Service's appProtocol says"),
        ("wsr.spec.tls", "Whether the route also answers in clear: Allow or Reject (403)."),
        ("wsc.spec.ceilings", "What no route of this class may exceed."),
    ] {
        let told = plane.kubectl_prints(&["explain", field]).await;
        let flowing = told.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(flowing.contains(says), "{field}: {told}");
    }
}

#[tokio::test]
#[ignore = "needs a kube-apiserver: make test-api"]
async fn kubectl_is_told_a_wrong_field_and_what_to_do() {
    let plane = shared().await;
    let namespace = plane.namespace("told").await;
    let folder = tempfile::tempdir().expect("a folder");
    for (spec, says) in [
        (crd_rows::route(json!({"tls": {}})), "spec.tls: Invalid value"),
        (crd_rows::route(json!({"keepalives": {}})), "spec.keepalives"),
    ] {
        let file = folder.path().join("route.json");
        std::fs::write(&file, crd_rows::object("WebSocketRoute", "x", &spec).to_string()).expect("written");
        let output = plane.kubectl(&["apply", "-n", &namespace, "-f", &file.to_string_lossy()]).await;
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && complaint.contains(says), "{complaint}");
    }
}
