//! The API server is away for five minutes (`E2E_OUTAGE`, seconds) and comes back.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use sheave_e2e::client::fleet::Fleet;
use sheave_e2e::client::probe::Probe;
use sheave_e2e::cluster::kill::needs_nodes;
use sheave_e2e::cluster::metrics::Metrics;
use sheave_e2e::cluster::objects::{Backend, simple};
use sheave_e2e::cluster::stage::{Stage, scenario};
use sheave_e2e::cluster::{tools, until, variable};
use std::process::Command;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const MANIFEST: &str = "/etc/kubernetes/manifests/kube-apiserver.yaml";
const PARKED: &str = "/etc/kubernetes/kube-apiserver.parked";

/// A stopped API server; comes back when this is dropped, however the scenario ends.
struct Stopped {
    node: String,
}

impl Stopped {
    async fn stop(node: &str) -> Result<Self> {
        tools::on_node(node, &format!("mv {MANIFEST} {PARKED}")).await?;
        let stopped = Self { node: node.to_owned() };
        until("the API server is gone", Duration::from_secs(60), || async {
            Ok(tools::kubectl(&["get", "--raw", "/readyz", "--request-timeout=2s"]).await.is_err().then_some(()))
        })
        .await?;
        Ok(stopped)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let script = format!("test ! -e {PARKED} || mv {PARKED} {MANIFEST}");
        let back = Command::new("docker").args(["exec", &self.node, "sh", "-c", &script]).status();
        assert!(back.is_ok_and(|status| status.success()), "the API server's manifest is still parked at {PARKED}");
    }
}

/// What one pod of Sheave says at its admin listener, by way of a node port: there is no API server to ask through.
async fn scrape() -> Result<Metrics> {
    let mut stream = TcpStream::connect(variable("E2E_ADMIN", "127.0.0.1:30090")).await?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n").await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    let (head, body) = text.split_once("\r\n\r\n").context("no answer")?;
    ensure!(head.contains(" 200 "), "{head}");
    Metrics::parse(body)
}

async fn admin_port(stage: &Stage) -> Result<()> {
    let selector = json!({"app.kubernetes.io/name": "sheave", "app.kubernetes.io/instance": stage.sheave.release});
    stage
        .apply(&json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "e2e-admin", "namespace": stage.sheave.namespace},
            "spec": {
                "type": "NodePort", "selector": selector,
                "ports": [{"name": "admin", "port": 9090, "targetPort": "admin", "nodePort": 30090}],
            },
        }))
        .await?;
    until("the admin listener answers at its node port", Duration::from_secs(30), || async {
        scrape().await.map(|_| Some(()))
    })
    .await
}

/// Scenario 37.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn without_an_api_server_traffic_goes_on_and_status_catches_up() {
    needs_nodes().expect("the scenario can run");
    scenario("outage", |stage| async move {
        let outage = Duration::from_secs(variable("E2E_OUTAGE", "300").parse()?);
        let node = format!("{}-control-plane", variable("E2E_CLUSTER", "sheave"));
        stage.deploy("echo", &Backend::new("echo").replicas(2)).await?;
        let host = format!("{}.test", stage.namespace);
        stage.serve(&simple("outage", &host, "echo")).await?;
        stage.answers(&stage.target(&host), 101).await?;
        admin_port(&stage).await?;
        stage.sheave.becomes("sheave_config_stale_seconds", &[], 0.0).await?;
        let pods = stage.sheave.settled(2).await?;
        let fleet = Fleet::open(&stage.target(&host), "outage", 100, Duration::from_secs(1)).await?;
        let probe = Probe::start(stage.target(&host), Duration::from_millis(200));
        let writes = stage.sheave.statuses_settled().await?;
        let stopped = Stopped::stop(&node).await?;
        let began = Instant::now();
        // A watch that ends tells. A server that stops in order lets watches go on for half a minute after it has ceased
        // to be ready.
        let mut stale = 0.0_f64;
        until("the outage is over", outage + Duration::from_secs(30), || async {
            let now = scrape().await?.sum("sheave_config_stale_seconds", &[]);
            ensure!(fleet.alive() == 100, "{} of 100 sockets are open after {:.0?}", fleet.alive(), began.elapsed());
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok((began.elapsed() >= outage).then_some(now))
        })
        .await
        .map(|now| stale = now)?;
        // A stopping API server lets its watches run for up to a minute; until they end nobody can know.
        let least = (outage.as_secs_f64() - 90.0).max(outage.as_secs_f64() / 6.0);
        println!("the API server was away for {outage:?}: sheave_config_stale_seconds says {stale:.0}");
        ensure!(stale >= least, "after {outage:?} the table is said to be {stale} s old");
        drop(stopped);
        until("the API server is back", Duration::from_secs(120), || async {
            tools::kubectl(&["get", "--raw", "/readyz", "--request-timeout=2s"]).await.map(Some)
        })
        .await?;
        let back = Instant::now();
        // The edit is tried until the API server takes it.
        let late = simple("late", &format!("late-{host}"), "echo");
        until("a new route is taken", Duration::from_secs(60), || async { stage.apply(&late).await.map(Some) }).await?;
        // The node of the pod that leads may be slow to lead it to the API server again.
        until("it is told", Duration::from_secs(180), || async { stage.programmed("late").await.map(Some) }).await?;
        println!("a new route was told {:.1?} after the API server was ready again", back.elapsed());
        stage.answers(&stage.target(&format!("late-{host}")), 101).await?;
        until("no table is stale", Duration::from_secs(300), || async {
            let stale = stage.sheave.sum("sheave_config_stale_seconds", &[]).await?;
            Ok((stale < 0.5).then_some(()))
        })
        .await?;
        let outcome = probe.stop().await?;
        println!("{} new handshakes meanwhile, {} refused", outcome.tried, outcome.refused.len());
        ensure!(outcome.refused.is_empty() && outcome.broken.is_empty(), "{outcome:?}");
        fleet.stop().await?.undisturbed()?;
        ensure!(stage.sheave.settled(2).await? == pods, "a pod of Sheave was replaced");
        // One new route is one write; a few more are fair, one for each object is a storm.
        let written = stage.sheave.sum("sheave_status_writes_total", &[]).await? - writes;
        println!("{written} statuses were written since before the outage");
        ensure!(written <= 12.0, "a status storm: {written} writes");
        Ok(())
    })
    .await;
}
