//! Rolling updates under a thousand sockets: of Sheave, and of the backend.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use sheave_e2e::client::fleet::Fleet;
use sheave_e2e::client::probe::Probe;
use sheave_e2e::cluster::follow::Follow;
use sheave_e2e::cluster::objects::{Backend, merged, simple};
use sheave_e2e::cluster::sheave::field;
use sheave_e2e::cluster::stage::{Stage, scenario};
use sheave_e2e::cluster::tools::kubectl;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const SOCKETS: usize = 1000;

/// The forced cuts that each pod of Sheave has ever told of, terminating pods included, asked twice a second.
struct Forced {
    seen: Arc<Mutex<BTreeMap<String, f64>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Forced {
    fn watch(stage: &Arc<Stage>) -> Self {
        let seen = Arc::<Mutex<BTreeMap<String, f64>>>::default();
        let (kept, stage) = (Arc::clone(&seen), Arc::clone(stage));
        let task = tokio::spawn(async move {
            let mut turn = tokio::time::interval(Duration::from_millis(500));
            loop {
                turn.tick().await;
                for pod in stage.sheave.all_pods().await.unwrap_or_default() {
                    let name = pod.metadata.name.unwrap_or_default();
                    if let Ok(metrics) = stage.sheave.metrics_of(&name).await {
                        let forced = metrics.sum("sheave_drain_forced_total", &[]);
                        kept.lock().unwrap_or_else(PoisonError::into_inner).insert(name, forced);
                    }
                }
            }
        });
        Self { seen, task }
    }

    fn stop(self) -> BTreeMap<String, f64> {
        self.task.abort();
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Scenario 32.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn a_rolling_update_of_sheave_fails_no_handshake_and_tells_every_socket() {
    scenario("roll-sheave", |stage| async move {
        stage.deploy("echo", &Backend::new("echo").replicas(2)).await?;
        let host = format!("{}.test", stage.namespace);
        // A window of ten seconds is what the fair share below is reckoned from.
        let drain = json!({"spec": {"drain": {"spread": "10s", "timeout": "25s"}}});
        stage.serve(&merged(simple("roll", &host, "echo"), drain)).await?;
        let target = stage.target(&host);
        stage.answers(&target, 101).await?;
        let before = stage.sheave.settled(2).await?;
        // What earlier scenarios had cut is not this update's.
        let mut cut_before = BTreeMap::new();
        for pod in &before {
            cut_before.insert(pod.clone(), stage.sheave.metrics_of(pod).await?.sum("sheave_drain_forced_total", &[]));
        }
        let follow = Follow::start(&stage.client, &stage.sheave);
        let forced = Forced::watch(&stage);
        let fleet = Fleet::open(&target, "roll", SOCKETS, Duration::from_secs(1)).await?;
        let probe = Probe::start(target.clone(), Duration::from_millis(25));
        let began = Instant::now();
        let deployment = format!("deployment/{}", stage.sheave.release);
        kubectl(&["-n", &stage.sheave.namespace, "rollout", "restart", &deployment]).await?;
        let accounts = fleet.ended(Duration::from_secs(150)).await?;
        let after = stage.sheave.settled(2).await?;
        let outcome = probe.stop().await?;
        let forced = forced.stop();
        let (seconds, window) = accounts.spread();
        println!(
            "rolling update of Sheave: {:.0?} in all; {SOCKETS} sockets ended by code {:?} within {window:.1} s; \
                  ends per second {seconds:?}; {} new handshakes, {} refused, {} broken; forced cuts {forced:?}",
            began.elapsed(),
            accounts.codes(),
            outcome.tried,
            outcome.refused.len(),
            outcome.broken.len()
        );
        ensure!(before.iter().all(|pod| !after.contains(pod)), "a pod was not replaced: {before:?} {after:?}");
        ensure!(outcome.refused.is_empty(), "handshakes failed: {:?}", outcome.refused);
        ensure!(outcome.broken.is_empty(), "new sockets broke: {:?}", outcome.broken);
        ensure!(outcome.tried > 200, "only {} handshakes were tried", outcome.tried);
        accounts.ended_with(&[1001])?;
        accounts.in_order()?;
        // Each pod spreads its share over ten seconds; even if both did at once, a second's fair share would be a
        // tenth. Half as much again allows for jitter and for what arrives late.
        let most = accounts.busiest_second();
        ensure!(most <= SOCKETS * 3 / 20, "{most} sockets were closed within one second: {seconds:?}");
        ensure!(window > 8.0, "all were closed within {window} s");
        ensure!(before.iter().all(|pod| forced.contains_key(pod)), "not every draining pod was scraped: {forced:?}");
        let cut = |(pod, cuts): (&String, &f64)| *cuts > cut_before.get(pod).copied().unwrap_or_default() + 0.5;
        let records = follow.records();
        let told: Vec<&Value> = records.iter().filter(|record| field(record, "forced") == true).collect();
        ensure!(!forced.iter().any(cut), "sessions were cut: {forced:?}, before: {cut_before:?}, records: {told:?}");
        received(&stage, &accounts).await?;
        // Client and log agree on every end.
        let closes = |record: &Value| field(record, "event") == "close" && field(record, "host") == host.as_str();
        let records: Vec<Value> = follow.records().into_iter().filter(closes).collect();
        let drained = records.iter().filter(|record| field(record, "reason") == "drain");
        let told = drained.clone().filter(|r| field(r, "code") == 1001 && field(r, "forced") == false).count();
        ensure!(told == drained.count() && told >= SOCKETS, "{told} close records tell of a drain with 1001");
        follow.sound()
    })
    .await;
}

/// Fails unless the backend has every message that was sent before its socket's end, once and in order.
async fn received(stage: &Stage, accounts: &sheave_e2e::client::fleet::Accounts) -> Result<()> {
    let counts = stage.counts("echo").await?;
    let (mut sent, mut echoed) = (0, 0);
    for report in &accounts.0 {
        let count = counts.ids.get(&report.id).copied().unwrap_or_default();
        ensure!(count.disordered == 0, "{}: {count:?}", report.id);
        ensure!(count.received == report.sent, "{} sent {}, the backend has {count:?}", report.id, report.sent);
        // What was under way when the Close came has reached the backend; its echo may have come too late.
        ensure!(report.sent - report.echoed <= 2, "{} lost echoes: {report:?}", report.id);
        sent += report.sent;
        echoed += report.echoed;
    }
    println!("{sent} messages sent, {sent} received by the backend, {echoed} echoes before the Closes");
    Ok(())
}

async fn roll_backend(stage: Arc<Stage>, on_term: &str, codes: &[u16]) -> Result<()> {
    let backend = Backend::new("echo").replicas(3).on_term(on_term).grace(15);
    stage.deploy("echo", &backend).await?;
    let host = format!("{}.test", stage.namespace);
    let drain = json!({"spec": {"drain": {"spread": "8s", "timeout": "12s"}}});
    stage.serve(&merged(simple("roll", &host, "echo"), drain)).await?;
    let target = stage.target(&host);
    stage.answers(&target, 101).await?;
    let fleet = Fleet::open(&target, "roll", SOCKETS, Duration::from_secs(1)).await?;
    let probe = Probe::start(target, Duration::from_millis(50));
    let began = Instant::now();
    kubectl(&["-n", &stage.namespace, "rollout", "restart", "deployment/echo"]).await?;
    let accounts = fleet.ended(Duration::from_secs(120)).await?;
    let outcome = probe.stop().await?;
    let (seconds, window) = accounts.spread();
    println!(
        "rolling update of a backend that does {on_term:?} at SIGTERM: {:.0?} in all; {SOCKETS} sockets ended by code \
         {:?} within {window:.1} s; ends per second {seconds:?}; {} new handshakes, {} refused, {} broken",
        began.elapsed(),
        accounts.codes(),
        outcome.tried,
        outcome.refused.len(),
        outcome.broken.len()
    );
    accounts.ended_with(codes)?;
    accounts.in_order()?;
    ensure!(outcome.refused.is_empty(), "handshakes failed: {:?}", outcome.refused);
    ensure!(outcome.broken.is_empty(), "new sockets broke: {:?}", outcome.broken);
    let labels = [("route_namespace", &*stage.namespace), ("reason", "endpoint_gone")];
    let told = accounts.codes().get(&1012).copied().unwrap_or(0);
    stage.sheave.reaches("sheave_connections_closed_total", &labels, told as f64).await?;
    Ok(())
}

/// Scenario 30: a backend that closes its sockets itself.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn a_rolling_update_of_a_polite_backend_ends_every_socket_with_a_close() {
    scenario("roll-polite", |stage| roll_backend(stage, "close", &[1001, 1012])).await;
}

/// Scenario 30: a backend that ignores SIGTERM until it is killed.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn a_rolling_update_of_a_deaf_backend_ends_every_socket_with_a_close() {
    scenario("roll-deaf", |stage| roll_backend(stage, "ignore", &[1012])).await;
}
