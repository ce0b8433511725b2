//! Objects that the API server lets through and Sheave refuses: each is told where it stands and what to do, and
//! harms nothing else.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use sheave_e2e::cluster::objects::{Backend, class, merged, prefix, route, simple, to};
use sheave_e2e::cluster::sheave::field;
use sheave_e2e::cluster::stage::{CEILING, Stage, scenario};
use sheave_e2e::cluster::tools::{kubectl, run_with};
use sheave_e2e::cluster::until;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn an_expression_that_does_not_compile_drops_only_its_rule() {
    scenario("regex", |stage| async move {
        stage.deploy("echo", &Backend::new("echo")).await?;
        let host = format!("{}.test", stage.namespace);
        let path = json!({"type": "RegularExpression", "value": "/room/([0-9]+"});
        let broken = json!({"name": "rooms", "matches": [{"path": path}], "backendRefs": [to("echo")]});
        let rules = json!([broken, prefix("/chat", "echo")]);
        stage.serve(&route("regex", &json!({"hostnames": [host], "rules": rules}))).await?;
        let message = stage.told("regex", "PartiallyInvalid", "True", "UnsupportedValue").await?;
        Stage::says(&message, &["rooms", "spec.rules[0].matches[0].path.value", "does not compile"])?;
        stage.answers(&stage.target(&host).path("/chat"), 101).await?;
        ensure!(stage.target(&host).path("/room/7").status().await? == 404, "the broken rule is served");
        let mended = json!({"type": "RegularExpression", "value": "/room/[0-9]+"});
        let rules = json!([{"name": "rooms", "matches": [{"path": mended}], "backendRefs": [to("echo")]}]);
        stage.serve(&route("regex", &json!({"hostnames": [host], "rules": rules}))).await?;
        until("the condition goes with its cause", CEILING, || async {
            Ok(stage.condition("regex", "PartiallyInvalid").await?.is_none().then_some(()))
        })
        .await?;
        stage.answers(&stage.target(&host).path("/room/7"), 101).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn the_api_server_refuses_what_the_schema_can_tell() {
    scenario("schema", |stage| async move {
        let good = simple("chat", &format!("{}.test", stage.namespace), "echo");
        for (wrong, words) in [
            (json!({"timeouts": {"close": "0s"}}), ["close must be above 0s", "timeouts"]),
            (json!({"drain": {"closeCode": 1006}}), ["closeCode must be", "drain"]),
            (json!({"hostnames": ["not a host"]}), ["hostnames", "Invalid value"]),
        ] {
            let object = merged(good.clone(), json!({"spec": wrong}));
            let refused = run_with("kubectl", &["-n", &stage.namespace, "apply", "-f", "-"], &object.to_string()).await;
            let said = refused.err().map(|error| error.to_string()).unwrap_or_default();
            Stage::says(&said, &words)?;
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn a_value_above_the_classs_ceiling_is_told() {
    scenario("ceiling", |stage| async move {
        stage.deploy("echo", &Backend::new("echo")).await?;
        let name = stage.namespace.clone();
        stage.apply(&class(&name, &json!({"ceilings": {"maxMessageBytes": 1024}}))).await?;
        stage.class_told(&name, "Accepted", "True", "Accepted").await?;
        let host = format!("{}.test", stage.namespace);
        let with = |bytes: u32| {
            merged(
                simple("big", &host, "echo"),
                json!({"spec": {"className": name, "messages": {"maxMessageBytes": bytes}}}),
            )
        };
        stage.apply(&with(2048)).await?;
        let message = stage.told("big", "Accepted", "False", "UnsupportedValue").await?;
        Stage::says(&message, &["spec.messages.maxMessageBytes", "1024", &name])?;
        stage.told("big", "Programmed", "False", "Invalid").await?;
        ensure!(stage.target(&host).status().await? == 404, "a route above the ceiling is served");
        stage.serve(&with(1000)).await?;
        stage.answers(&stage.target(&host), 101).await?;
        let mut socket = stage.target(&host).open().await?;
        socket.echo("small").await?;
        socket.send("x".repeat(1001).into()).await?;
        let end = socket.ended(Duration::from_secs(5)).await?;
        ensure!(end.code == 1009, "{end:?}");
        let big =
            |record: &Value| field(record, "host") == host.as_str() && field(record, "reason") == "message_too_big";
        let record = stage.sheave.logged("the close", stage.began, big).await?;
        ensure!(field(&record, "code") == 1009 && field(&record, "initiator") == "client", "{record}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn a_class_deleted_under_its_routes_is_told_and_its_sessions_get_a_close() {
    scenario("classless", |stage| async move {
        stage.deploy("echo", &Backend::new("echo")).await?;
        let name = stage.namespace.clone();
        let drain = json!({"defaults": {"drain": {"spread": "1s", "timeout": "10s"}}});
        stage.apply(&class(&name, &drain)).await?;
        let host = format!("{}.test", stage.namespace);
        let of_class = merged(simple("chat", &host, "echo"), json!({"spec": {"className": name}}));
        stage.serve(&of_class).await?;
        let target = stage.target(&host);
        stage.answers(&target, 101).await?;
        let mut socket = target.open().await?;
        socket.echo("hello").await?;
        kubectl(&["delete", "wsc", &name]).await?;
        let end = socket.ended(Duration::from_secs(10)).await?;
        ensure!((end.code, &*end.reason) == (1012, "route changed, reconnect"), "{end:?}");
        stage.answers(&target, 404).await?;
        // A route of a class that nobody has may be anybody's: it keeps its last status or is told, and is not served.
        stage.apply(&class(&name, &drain)).await?;
        stage.programmed("chat").await?;
        stage.answers(&target, 101).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn of_two_default_classes_the_older_is_the_default_and_the_younger_is_told() {
    scenario("defaults", |stage| async move {
        stage.deploy("echo", &Backend::new("echo")).await?;
        let name = stage.namespace.clone();
        let annotation = json!({"metadata": {"annotations": {"sheave.dev/is-default-class": "true"}}});
        let ceilings = json!({"ceilings": {"maxMessageBytes": 1}});
        stage.apply(&merged(class(&name, &ceilings), annotation)).await?;
        let message = stage.class_told(&name, "Accepted", "True", "Accepted").await?;
        Stage::says(&message, &["websocket is the default class already", "sheave.dev/is-default-class"])?;
        // Under the younger class's ceiling the route would not be accepted.
        let host = format!("{}.test", stage.namespace);
        let blocks = json!({"spec": {"messages": {"maxMessageBytes": 4096}}});
        stage.serve(&merged(simple("chat", &host, "echo"), blocks)).await?;
        stage.answers(&stage.target(&host), 101).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn a_class_admits_only_the_namespaces_it_selects() {
    scenario("admitted", |stage| async move {
        stage.deploy("echo", &Backend::new("echo")).await?;
        let name = stage.namespace.clone();
        let namespaces = json!({"from": "Selector", "selector": {"matchLabels": {"websockets": "allowed"}}});
        stage.apply(&class(&name, &json!({"allowedRoutes": {"namespaces": namespaces}}))).await?;
        let host = format!("{}.test", stage.namespace);
        stage.apply(&merged(simple("chat", &host, "echo"), json!({"spec": {"className": name}}))).await?;
        let message = stage.told("chat", "Accepted", "False", "NotAllowedByListeners").await?;
        Stage::says(&message, &[&name])?;
        ensure!(stage.target(&host).status().await? == 404, "a namespace that is not admitted is served");
        kubectl(&["label", "namespace", &stage.namespace, "websockets=allowed"]).await?;
        stage.programmed("chat").await?;
        stage.answers(&stage.target(&host), 101).await
    })
    .await;
}

async fn ext(stage: &Stage) -> Result<Value> {
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "outside"},
        "spec": {"type": "ExternalName", "externalName": "example.com", "ports": [{"port": 80}]}});
    stage.apply(&service).await?;
    Ok(simple("outside", &format!("{}.test", stage.namespace), "outside"))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn an_external_name_is_refused_unless_it_is_allowed() {
    scenario("external", |stage| async move {
        let outside = ext(&stage).await?;
        stage.apply(&outside).await?;
        let message = stage.told("outside", "ResolvedRefs", "False", "UnsupportedValue").await?;
        Stage::says(&message, &["spec.rules[0].backendRefs[0]", "ExternalName"])
    })
    .await;
}

/// Endpoints that a namespace's user writes cannot aim Sheave at itself or at the node's own services.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn handmade_endpoints_of_local_addresses_are_refused() {
    scenario("local", |stage| async move {
        stage
            .apply(&json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "aimed"},
            "spec": {"ports": [{"name": "ws", "port": 80}]}}))
            .await?;
        let pods = stage.sheave.all_pods().await?;
        let own = pods.iter().find_map(|pod| pod.status.as_ref()?.pod_ip.clone()).unwrap_or_default();
        // The API server itself refuses loopback and link-local addresses; Sheave's own are Sheave's to refuse.
        stage
            .apply(&json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": "aimed", "labels": {"kubernetes.io/service-name": "aimed"}},
            "addressType": "IPv4", "ports": [{"name": "ws", "port": 9090, "protocol": "TCP"}],
            "endpoints": [{"addresses": [own], "conditions": {"ready": true}}]}))
            .await?;
        let host = format!("{}.test", stage.namespace);
        stage.serve(&simple("aimed", &host, "aimed")).await?;
        let target = stage.target(&host);
        // The pod whose address it is refuses it; another one's admin listener answers no WebSocket.
        until("Sheave's own address gets no session", CEILING, || async {
            let status = target.status().await?;
            ensure!(status != 101, "a session with Sheave itself");
            Ok((status == 503 || status == 502 || status == 404).then_some(()))
        })
        .await
    })
    .await;
}
