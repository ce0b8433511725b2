//! Which backend a handshake reaches: echo, precedence, subprotocols, conflicts, hosts, weights, endpoints, classes.

use anyhow::{Result, ensure};
use serde_json::json;
use sheave_e2e::client::dial::Target;
use sheave_e2e::cluster::objects::{Backend, class, prefix, route, simple, to};
use sheave_e2e::cluster::sheave::field;
use sheave_e2e::cluster::stage::{Stage, scenario};
use sheave_e2e::cluster::until;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::Message;

/// The Service that a handshake reaches: pods are named after it.
async fn reached(target: &Target) -> Result<String> {
    let (socket, hello) = target.hello().await?;
    socket.close(1000).await?;
    let service = hello.pod.rsplitn(3, '-').last().unwrap_or_default();
    Ok(service.to_owned())
}

async fn deploy_each(stage: &Stage, names: &[&str]) -> Result<()> {
    for name in names {
        stage.apply_all(&Backend::new(name).objects()).await?;
    }
    for name in names {
        stage.rolled_out(name).await?;
    }
    Ok(())
}

/// Scenario 2.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn text_and_binary_come_back_with_any_origin() {
    scenario("echo", |stage| async move {
        stage.deploy("echo", &Backend::new("echo")).await?;
        let host = format!("{}.test", stage.namespace);
        stage.serve(&simple("echo", &host, "echo")).await?;
        let target = stage.target(&host);
        stage.answers(&target, 101).await?;
        let began = Instant::now();
        let mut socket = target.clone().path("/ws").header("Origin", "https://odd.example:1/x").open().await?;
        socket.echo("hello").await?;
        socket.send(Message::binary(vec![1, 2, 3, 4, 5, 6, 0])).await?;
        ensure!(socket.data().await? == Message::binary(vec![1, 2, 3, 4, 5, 6, 0]), "the binary message is altered");
        let before = stage.sheave.sum("sheave_close_code_total", &[("code", "4xxx")]).await?;
        socket.close(4711).await?;
        // Code, metric and log record agree.
        stage.sheave.reaches("sheave_close_code_total", &[("code", "4xxx")], before + 1.0).await?;
        let record = stage.sheave.logged("the close", began, |record| {
            field(record, "event") == "close" && field(record, "host") == host.as_str() && field(record, "code") == 4711
        });
        let record = record.await?;
        ensure!(field(&record, "reason") == "other_code" && field(&record, "initiator") == "client", "{record}");
        ensure!(field(&record, "messages_in") == 2 && field(&record, "messages_out") == 2, "{record}");
        // A message of many frames of TCP, both ways.
        let mut socket = target.clone().path("/?big=3000000").open().await?;
        ensure!(socket.data().await?.len() == 3_000_000, "the big message is cut");
        let big = "x".repeat(1_000_000);
        socket.echo(&big).await?;
        socket.close(1000).await
    })
    .await;
}

/// Scenario 3.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn the_most_specific_match_wins() {
    scenario("precedence", |stage| async move {
        let services = ["exact", "long", "short", "header", "query"];
        deploy_each(&stage, &services).await?;
        let host = format!("{}.test", stage.namespace);
        let rules = json!([
            prefix("/a", "short"),
            prefix("/a/b", "long"),
            {"matches": [{"path": {"type": "Exact", "value": "/a/b"}}], "backendRefs": [to("exact")]},
            {"matches": [{"path": {"value": "/a"}, "headers": [{"name": "X-Tenant", "value": "gold"}]}],
                "backendRefs": [to("header")]},
            {"matches": [{"path": {"value": "/a"}, "queryParams": [{"name": "v", "value": "2"}]}],
                "backendRefs": [to("query")]},
        ]);
        stage.serve(&route("order", &json!({"hostnames": [host], "rules": rules}))).await?;
        let target = stage.target(&host);
        stage.answers(&target.clone().path("/a"), 101).await?;
        let gold = |path: &str| target.clone().path(path).header("x-tenant", "gold");
        for (target, service) in [
            (target.clone().path("/a"), "short"),
            (target.clone().path("/a/c"), "short"),
            (target.clone().path("/a/b"), "exact"),
            (target.clone().path("/a/b/c"), "long"),
            (gold("/a/x"), "header"),
            (gold("/a/b/c"), "long"),
            (target.clone().path("/a?v=2"), "query"),
            (gold("/a?v=2"), "header"),
        ] {
            ensure!(reached(&target).await? == service, "a handshake that is {service}'s reaches another");
        }
        ensure!(target.clone().path("/").status().await? == 404, "/ is nobody's");
        ensure!(target.clone().path("/ab").status().await? == 404, "a prefix is of whole segments");
        Ok(())
    })
    .await;
}

/// Scenario 4.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn subprotocols_choose_the_rule_and_the_backend_chooses_the_answer() {
    scenario("subprotocol", |stage| async move {
        deploy_each(&stage, &["mqtt", "rest"]).await?;
        let host = format!("{}.test", stage.namespace);
        let rules = json!([
            {"matches": [{"subprotocols": ["mqtt"]}], "backendRefs": [to("mqtt")]},
            {"backendRefs": [to("rest")]},
        ]);
        stage.serve(&route("subprotocol", &json!({"hostnames": [host], "rules": rules}))).await?;
        let target = stage.target(&host);
        stage.answers(&target, 101).await?;
        let offering = |names: &str, path: &str| target.clone().path(path).header("Sec-WebSocket-Protocol", names);
        for (names, wanted, service) in [("v1.chat, mqtt", "mqtt", "mqtt"), ("v1.chat, v2.chat", "v2.chat", "rest")] {
            let (socket, hello) = offering(names, &format!("/?subprotocol={wanted}")).hello().await?;
            ensure!(hello.pod.starts_with(service), "{names} reaches {}", hello.pod);
            ensure!(hello.headers.get("sec-websocket-protocol").is_some_and(|offer| offer == names), "{hello:?}");
            ensure!(socket.answered("sec-websocket-protocol") == Some(wanted), "the backend's choice is not passed on");
            socket.close(1000).await?;
        }
        Ok(())
    })
    .await;
}

/// Scenario 5.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn of_two_routes_with_one_match_the_oldest_serves_until_it_goes() {
    scenario("conflict", |stage| async move {
        deploy_each(&stage, &["first", "second"]).await?;
        let host = format!("{}.test", stage.namespace);
        stage.serve(&simple("z-older", &host, "first")).await?;
        // Ages are in whole seconds: the younger one must be of a later second.
        let older = Instant::now();
        until("the next second", Duration::from_secs(5), || async {
            Ok((older.elapsed() > Duration::from_secs(1)).then_some(()))
        })
        .await?;
        stage.apply(&simple("a-younger", &host, "second")).await?;
        let message = stage.told("a-younger", "Accepted", "False", "Conflicted").await?;
        Stage::says(&message, &["z-older", &host])?;
        stage.told("a-younger", "Programmed", "False", "Invalid").await?;
        let target = stage.target(&host);
        stage.answers(&target, 101).await?;
        ensure!(reached(&target).await? == "first", "the older route serves");
        let bystander = format!("other-{}.test", stage.namespace);
        stage.serve(&simple("bystander", &bystander, "second")).await?;
        stage.answers(&stage.target(&bystander), 101).await?;
        let mut quiet = stage.target(&bystander).open().await?;
        stage.delete_route("z-older").await?;
        stage.told("a-younger", "Accepted", "True", "Accepted").await?;
        stage.programmed("a-younger").await?;
        until("the second route serves", Duration::from_secs(5), || async {
            Ok((reached(&target).await? == "second").then_some(()))
        })
        .await?;
        quiet.echo("still here").await?;
        quiet.close(1000).await
    })
    .await;
}

/// Scenario 6.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn an_exact_host_goes_before_a_wildcard_and_an_unknown_one_gets_404() {
    scenario("hosts", |stage| async move {
        deploy_each(&stage, &["exact", "wild"]).await?;
        let domain = format!("{}.test", stage.namespace);
        stage.apply(&simple("exact", &format!("chat.{domain}"), "exact")).await?;
        stage.apply(&simple("wild", &format!("*.{domain}"), "wild")).await?;
        stage.programmed("exact").await?;
        stage.programmed("wild").await?;
        stage.answers(&stage.target(&format!("x.{domain}")), 101).await?;
        for (host, service) in [("chat", "exact"), ("CHAT", "exact"), ("other", "wild"), ("two.labels", "wild")] {
            let target = stage.target(&format!("{host}.{domain}"));
            stage.answers(&target, 101).await?;
            ensure!(reached(&target).await? == service, "{host} is {service}'s");
        }
        let unknown = stage.target(&domain).open().await.err();
        ensure!(unknown.as_ref().and_then(sheave_e2e::client::dial::Refused::status) == Some(404), "{unknown:?}");
        stage.sheave.reaches("sheave_handshakes_total", &[("reason", "no_route")], 1.0).await?;
        Ok(())
    })
    .await;
}

/// Scenario 7.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn weights_share_connections_and_a_missing_service_costs_only_its_share() {
    scenario("weights", |stage| async move {
        deploy_each(&stage, &["main", "canary"]).await?;
        let host = format!("{}.test", stage.namespace);
        let weighted = |other: &str| {
            let refs = json!([
                {"name": "main", "port": 80, "weight": 90}, {"name": other, "port": 80, "weight": 10},
            ]);
            route("weights", &json!({"hostnames": [host], "rules": [{"backendRefs": refs}]}))
        };
        stage.serve(&weighted("canary")).await?;
        let target = stage.target(&host);
        stage.answers(&target, 101).await?;
        let mut shares: BTreeMap<String, u32> = BTreeMap::new();
        for _ in 0..2000 {
            let (_cut, hello) = target.hello().await?;
            *shares.entry(hello.pod.rsplitn(3, '-').last().unwrap_or_default().to_owned()).or_default() += 1;
        }
        let canary = shares.get("canary").copied().unwrap_or(0);
        println!("weights 90/10 over 2,000 connections: {shares:?}");
        ensure!((140..=260).contains(&canary), "canary got {canary} of 2,000, wanted 200 give or take 60");
        stage.apply(&weighted("nobody")).await?;
        let message = stage.told("weights", "ResolvedRefs", "False", "BackendNotFound").await?;
        Stage::says(&message, &["spec.rules[0].backendRefs[1]", &format!("{}/nobody", stage.namespace)])?;
        let mut statuses: BTreeMap<u16, u32> = BTreeMap::new();
        for _ in 0..400 {
            *statuses.entry(target.status().await?).or_default() += 1;
        }
        println!("one of two backends missing, over 400 handshakes: {statuses:?}");
        let failed = statuses.get(&500).copied().unwrap_or(0);
        ensure!((15..=70).contains(&failed) && statuses.len() == 2, "wanted 40 of 400 to get 500: {statuses:?}");
        Ok(())
    })
    .await;
}

/// Scenario 8.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn without_endpoints_a_handshake_gets_503_and_101_once_a_pod_is_ready() {
    scenario("endpoints", |stage| async move {
        let host = format!("{}.test", stage.namespace);
        stage.deploy("echo", &Backend::new("echo").replicas(0)).await?;
        stage.serve(&simple("echo", &host, "echo")).await?;
        let target = stage.target(&host);
        stage.answers(&target, 503).await?;
        stage.told("echo", "ResolvedRefs", "True", "ResolvedRefs").await?;
        stage.deploy("echo", &Backend::new("echo")).await?;
        let ready = Instant::now();
        stage.answers(&target, 101).await?;
        println!("101 from every pod {} ms after the rollout was seen", ready.elapsed().as_millis());
        ensure!(ready.elapsed() < Duration::from_secs(2), "it took {:?}", ready.elapsed());
        // A pod that is not ready gets nothing new and keeps what it has.
        let mut socket = target.open().await?;
        let pods = stage.pods("echo").await?;
        stage.control(&pods[0], "/ready/off").await?;
        stage.answers(&target, 503).await?;
        socket.echo("still here").await?;
        stage.control(&pods[0], "/ready/on").await?;
        stage.answers(&target, 101).await?;
        socket.close(1000).await
    })
    .await;
}

/// Scenario 10.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn a_route_of_another_controllers_class_gets_no_status_and_no_traffic() {
    scenario("foreign", |stage| async move {
        stage.deploy("echo", &Backend::new("echo")).await?;
        let (ours, theirs) = (format!("ours-{}.test", stage.namespace), format!("theirs-{}.test", stage.namespace));
        let name = format!("foreign-{}", stage.namespace);
        stage.apply(&class(&name, &json!({"controllerName": "example.com/other"}))).await?;
        let rules = json!([{"backendRefs": [to("echo")]}]);
        let foreign = json!({"className": name, "hostnames": [theirs], "rules": rules});
        stage.apply(&route("theirs", &foreign)).await?;
        // Ours comes later and is served, so theirs has been seen.
        stage.serve(&simple("ours", &ours, "echo")).await?;
        stage.answers(&stage.target(&ours), 101).await?;
        ensure!(stage.target(&theirs).status().await? == 404, "a route of another controller is served");
        let object = stage.get("sheave.dev/v1alpha1", "WebSocketRoute", "theirs").await?;
        ensure!(object.is_some_and(|object| object.data.get("status").is_none()), "it has a status");
        Ok(())
    })
    .await;
}
