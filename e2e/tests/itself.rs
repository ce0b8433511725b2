//! The suite's own means, without Sheave between: what they would miss here, they would miss there.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Node, Service};
use kube::Api;
use kube::api::ListParams;
use serde_json::json;
use sheave_e2e::client::dial::Target;
use sheave_e2e::client::fleet::Fleet;
use sheave_e2e::cluster::kill::{kill_9, needs_nodes};
use sheave_e2e::cluster::objects::Backend;
use sheave_e2e::cluster::stage::{CEILING, Stage, scenario};
use sheave_e2e::cluster::until;
use std::time::Duration;

/// The backend by a node port of its own.
async fn direct(stage: &Stage, backend: &Backend) -> Result<Target> {
    needs_nodes()?;
    stage.deploy("echo", &backend.clone().service(json!({"type": "NodePort"}))).await?;
    let service = Api::<Service>::namespaced(stage.client.clone(), &stage.namespace).get("echo").await?;
    let ports = service.spec.and_then(|spec| spec.ports).unwrap_or_default();
    let port = ports.iter().find_map(|port| port.node_port.filter(|_| port.port == 80)).context("no node port")?;
    let nodes = Api::<Node>::all(stage.client.clone()).list(&ListParams::default()).await?;
    let addresses = nodes.items.into_iter().filter_map(|node| node.status?.addresses).flatten();
    let node = addresses.into_iter().find(|address| address.type_ == "InternalIP").context("no node has an address")?;
    let target = Target::new(&format!("{}:{port}", node.address), "direct.test");
    until("the backend answers", CEILING, || async { Ok((target.status().await? == 101).then_some(())) }).await?;
    Ok(target)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn both_sides_count_the_same_messages() {
    scenario("direct", |stage| async move {
        let target = direct(&stage, &Backend::new("echo").replicas(2)).await?;
        let fleet = Fleet::open(&target, "direct", 200, Duration::from_millis(200)).await?;
        until("some messages each", CEILING, || async { Ok((fleet.echoes() > 1000).then_some(())) }).await?;
        let accounts = fleet.stop().await?;
        accounts.undisturbed()?;
        let counts = stage.counts("echo").await?;
        ensure!(counts.ids.len() == 200, "{} ids", counts.ids.len());
        for report in &accounts.0 {
            let count = counts.ids.get(&report.id).copied().unwrap_or_default();
            ensure!(count.received == report.sent && count.disordered == 0, "{report:?} {count:?}");
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn an_end_without_a_close_is_seen_as_one() {
    scenario("direct-kill", |stage| async move {
        let target = direct(&stage, &Backend::new("echo")).await?;
        let fleet = Fleet::open(&target, "direct", 20, Duration::from_millis(200)).await?;
        kill_9(&stage.namespace, &stage.pods("echo").await?[0], "e2e-backend").await?;
        let accounts = fleet.ended(CEILING).await?;
        accounts.ended_with(&[1006])?;
        ensure!(accounts.undisturbed().is_err(), "a killed backend counts as undisturbed");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn every_close_code_is_read_as_it_was_sent() {
    scenario("direct-codes", |stage| async move {
        let target = direct(&stage, &Backend::new("echo").on_term("close")).await?;
        for code in [1000, 1001, 1012, 1013, 1014, 4999] {
            let end = target.clone().path(format!("/?close={code}&after=20")).open().await?.ended(CEILING).await?;
            ensure!((end.code, &*end.reason) == (code, "the backend says so"), "sent {code}, got {end:?}");
        }
        let fleet = Fleet::open(&target, "direct", 20, Duration::from_millis(200)).await?;
        stage.delete("v1", "Pod", &stage.pods("echo").await?[0]).await?;
        fleet.ended(CEILING).await?.ended_with(&[1001])
    })
    .await;
}
