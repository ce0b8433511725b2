//! SIGKILL of one proxy, of the leader, of a backend: what was not theirs goes on.

use anyhow::{Result, ensure};
use sheave_e2e::client::fleet::{Accounts, Fleet};
use sheave_e2e::client::probe::Probe;
use sheave_e2e::cluster::kill::kill_9;
use sheave_e2e::cluster::objects::{Backend, simple};
use sheave_e2e::cluster::stage::{Stage, scenario};
use sheave_e2e::cluster::tools::kubectl;
use sheave_e2e::cluster::until;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const SOCKETS: usize = 200;

async fn fleet(stage: &Stage, replicas: u32) -> Result<(String, Fleet)> {
    stage.deploy("echo", &Backend::new("echo").replicas(replicas)).await?;
    let host = format!("{}.test", stage.namespace);
    stage.serve(&simple("kill", &host, "echo")).await?;
    let target = stage.target(&host);
    stage.answers(&target, 101).await?;
    let namespace = [("route_namespace", &*stage.namespace)];
    stage.sheave.becomes("sheave_connections_active", &namespace, 0.0).await?;
    let fleet = Fleet::open(&target, "kill", SOCKETS, Duration::from_secs(1)).await?;
    stage.sheave.becomes("sheave_connections_active", &namespace, SOCKETS as f64).await?;
    Ok((host, fleet))
}

/// How many sockets of the scenario each pod of Sheave carries.
async fn shares(stage: &Stage) -> Result<BTreeMap<String, usize>> {
    let mut shares = BTreeMap::new();
    for (pod, metrics) in stage.sheave.metrics().await? {
        let active = metrics.sum("sheave_connections_active", &[("route_namespace", &*stage.namespace)]);
        shares.insert(pod, format!("{active:.0}").parse()?);
    }
    Ok(shares)
}

/// Waits until `count` sockets have ended, then until the others have talked on, and returns both parts.
async fn parted(fleet: Fleet, count: usize) -> Result<(Accounts, Accounts)> {
    until("the killed one's sockets have ended", Duration::from_secs(30), || async {
        Ok((fleet.alive() <= SOCKETS - count).then_some(()))
    })
    .await?;
    let echoes = fleet.echoes();
    let more = echoes + 3 * (SOCKETS - count) as u64;
    until("the others talk on", Duration::from_secs(30), || async { Ok((fleet.echoes() >= more).then_some(())) })
        .await?;
    let (kept, ended) =
        fleet.stop().await?.0.into_iter().partition(|report| report.asked && report.ending.code == 1000);
    Ok((Accounts(ended), Accounts(kept)))
}

/// Scenario 33.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn a_killed_proxy_takes_only_its_own_sockets_along() {
    scenario("kill-proxy", |stage| async move {
        stage.sheave.settled(2).await?;
        let (host, fleet) = fleet(&stage, 2).await?;
        let shares = shares(&stage).await?;
        let leader = stage.sheave.leading().await?;
        let pod = shares.keys().find(|pod| **pod != leader).expect("there are two pods").clone();
        let lost = shares[&pod];
        kill_9(&stage.sheave.namespace, &pod, "controller").await?;
        let killed = Instant::now();
        let (ended, kept) = parted(fleet, lost).await?;
        println!("kill -9 of one proxy with {lost} of {SOCKETS} sockets: ends by code {:?}", ended.codes());
        ensure!(ended.0.len() == lost, "{} sockets ended, {lost} were its own", ended.0.len());
        ended.in_order()?;
        kept.undisturbed()?;
        stage.sheave.settled(2).await?;
        stage.answers(&stage.target(&host), 101).await?;
        println!("both proxies serve again {:.1?} after the kill", killed.elapsed());
        Ok(())
    })
    .await;
}

/// Scenario 38.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn a_killed_leader_is_replaced_and_statuses_converge() {
    scenario("kill-leader", |stage| async move {
        stage.sheave.settled(2).await?;
        let (host, fleet) = fleet(&stage, 2).await?;
        let leader = stage.sheave.leading().await?;
        let holder = stage.sheave.leader().await?;
        let lost = shares(&stage).await?.get(&leader).copied().unwrap_or(0);
        let probe = Probe::start(stage.target(&host), Duration::from_millis(100));
        // Killed on its node and deleted before it is started again, so that it cannot take its own lease.
        kill_9(&stage.sheave.namespace, &leader, "controller").await?;
        kubectl(&["-n", &*stage.sheave.namespace, "delete", "pod", &*leader, "--grace-period=0", "--force"]).await?;
        let began = Instant::now();
        stage.apply(&simple("after", &format!("after-{host}"), "echo")).await?;
        until("the lease moves", Duration::from_secs(30), || async {
            Ok((stage.sheave.leader().await?.is_some_and(|now| Some(now) != holder)).then_some(()))
        })
        .await?;
        let moved = began.elapsed();
        stage.programmed("after").await?;
        println!(
            "the leader is killed: the lease moved after {moved:.1?}, a new route was told after {:.1?}",
            began.elapsed()
        );
        ensure!(began.elapsed() < Duration::from_secs(30), "the status took {:.1?}", began.elapsed());
        let (ended, kept) = parted(fleet, lost).await?;
        ensure!(ended.0.len() == lost, "{} sockets ended, {lost} were its own", ended.0.len());
        kept.undisturbed()?;
        stage.sheave.settled(2).await?;
        ensure!(stage.sheave.leading().await? != leader, "a dead pod leads");
        // Handshakes that a killed proxy had accepted break; nothing but a broken connection is fair.
        let outcome = probe.stop().await?;
        let answered = outcome.refused.iter().find(|refusal| refusal.starts_with("status"));
        ensure!(answered.is_none(), "a handshake was refused: {answered:?}");
        Ok(())
    })
    .await;
}

/// A killed backend: its sockets are told, the others never notice.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn a_killed_backend_is_told_to_its_sockets_and_to_no_other() {
    scenario("kill-backend", |stage| async move {
        let (host, fleet) = fleet(&stage, 2).await?;
        let pod = stage.pods("echo").await?.swap_remove(0);
        let open: sheave_e2e::backend::ledger::Counts = serde_json::from_str(&stage.control(&pod, "/counts").await?)?;
        kill_9(&stage.namespace, &pod, "e2e-backend").await?;
        let (ended, kept) = parted(fleet, open.open).await?;
        println!("kill -9 of a backend with {} of {SOCKETS} sockets: ends by code {:?}", open.open, ended.codes());
        ensure!(ended.0.iter().all(|report| report.pod == pod), "another pod's socket ended");
        ensure!(ended.0.len() == open.open, "{} sockets ended, {} were its own", ended.0.len(), open.open);
        ended.ended_with(&[1012, 1014])?;
        ended.in_order()?;
        kept.undisturbed()?;
        let labels = [("route_namespace", &*stage.namespace), ("initiator", "backend"), ("reason", "backend_reset")];
        let gone = ended.codes().get(&1014).copied().unwrap_or(0);
        stage.sheave.reaches("sheave_connections_closed_total", &labels, gone as f64).await?;
        stage.rolled_out("echo").await?;
        stage.answers(&stage.target(&host), 101).await
    })
    .await;
}
