//! How single sessions end, and what an edit or a terminating endpoint does to them.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use sheave_e2e::client::fleet::Fleet;
use sheave_e2e::cluster::objects::{Backend, merged, simple};
use sheave_e2e::cluster::sheave::field;
use sheave_e2e::cluster::stage::{Stage, scenario};
use sheave_e2e::cluster::tools::kubectl;
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::Message;

/// A host of the scenario's own with an echo backend and these blocks on its route.
async fn with(stage: &Stage, backend: &Backend, blocks: &Value) -> Result<(String, Value)> {
    stage.deploy("echo", backend).await?;
    let host = format!("{}.test", stage.namespace);
    let route = merged(simple("life", &host, "echo"), json!({"spec": blocks}));
    stage.serve(&route).await?;
    stage.answers(&stage.target(&host), 101).await?;
    Ok((host, route))
}

/// Waits for the close record of a host with this reason, and fails unless its other fields are these.
async fn recorded(stage: &Stage, host: &str, reason: &str, initiator: &str, code: u16) -> Result<()> {
    let wanted = |record: &Value| {
        let is = |name: &str, value: &str| field(record, name) == value;
        is("event", "close") && is("host", host) && is("reason", reason) && is("initiator", initiator)
    };
    let record = stage.sheave.logged(&format!("a close of {host} for {reason}"), stage.began, wanted).await?;
    ensure!(field(&record, "code") == code, "{record}");
    let labels = [("reason", reason), ("initiator", initiator), ("route_namespace", &*stage.namespace)];
    stage.sheave.reaches("sheave_connections_closed_total", &labels, 1.0).await?;
    stage.sheave.reaches("sheave_close_code_total", &[("code", &code.to_string())], 1.0).await.map(drop)
}

/// Scenario 27.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn an_idle_session_ends_in_time_and_pings_keep_it_open() {
    scenario("idle", |stage| async move {
        let (host, _) = with(&stage, &Backend::new("echo"), &json!({"timeouts": {"idle": "3s"}})).await?;
        let mut pinging = stage.target(&host).open().await?;
        let idle = stage.target(&host).open().await?;
        let began = Instant::now();
        let kept = tokio::spawn(async move {
            let mut turn = tokio::time::interval(Duration::from_secs(1));
            while began.elapsed() < Duration::from_secs(7) {
                turn.tick().await;
                pinging.send(Message::Ping("still here".into())).await?;
                ensure!(pinging.next().await.is_ok_and(|message| message.is_pong()), "the pong does not come back");
            }
            pinging.echo("still here").await?;
            pinging.close(1000).await
        });
        let end = idle.ended(Duration::from_secs(10)).await?;
        let took = end.at.duration_since(began);
        ensure!((end.code, &*end.reason) == (1001, "idle timeout"), "{end:?}");
        ensure!((2.0..=4.0).contains(&took.as_secs_f64()), "idle for 3 s, ended after {took:?}");
        recorded(&stage, &host, "idle_timeout", "proxy", 1001).await?;
        kept.await?
    })
    .await;
}

/// Scenario 28.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn a_peer_that_answers_no_ping_is_closed_and_counted() {
    scenario("silent", |stage| async move {
        let pings = json!({"keepalive": {"mode": "Both", "interval": "2s", "timeout": "1s"}});
        let (host, _) = with(&stage, &Backend::new("echo"), &pings).await?;
        let mute = stage.target(&host).path("/?mute").open().await?;
        let end = mute.ended(Duration::from_secs(10)).await?;
        ensure!((end.code, &*end.reason) == (1014, "backend does not answer ping"), "{end:?}");
        recorded(&stage, &host, "keepalive_timeout", "backend", 1014).await?;
        // A client that is never polled answers nothing.
        let silent = stage.target(&host).open().await?;
        recorded(&stage, &host, "keepalive_timeout", "client", 1001).await?;
        let end = silent.ended(Duration::from_secs(10)).await?;
        ensure!((end.code, &*end.reason) == (1001, "no answer to ping"), "{end:?}");
        let mut answering = stage.target(&host).open().await?;
        let lasting = tokio::time::timeout(Duration::from_secs(5), answering.next()).await;
        ensure!(lasting.map_or(true, |next| next.is_ok()), "a client that answers pings is closed");
        answering.close(1000).await
    })
    .await;
}

/// Scenario 29.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn the_ends_of_old_sessions_are_spread() {
    scenario("old", |stage| async move {
        let bound = json!({"timeouts": {"maxConnectionDuration": "6s", "maxConnectionDurationJitterPercent": 50}});
        let (host, _) = with(&stage, &Backend::new("echo"), &bound).await?;
        let fleet = Fleet::open(&stage.target(&host), "old", 80, Duration::from_secs(1)).await?;
        let opened = Instant::now();
        let accounts = fleet.ended(Duration::from_secs(20)).await?;
        accounts.ended_with(&[1001])?;
        accounts.in_order()?;
        let (seconds, window) = accounts.spread();
        let last = accounts.0.iter().map(|report| report.ending.at.duration_since(opened)).max().unwrap_or_default();
        println!("80 sessions of at most 6 s, jitter 50%: ends per second {seconds:?}");
        ensure!(last < Duration::from_secs(7), "the last ended after {last:?}");
        ensure!(window > 1.5, "all ended within {window} s");
        ensure!(accounts.busiest_second() <= 48, "more than an uneven share in one second: {seconds:?}");
        recorded(&stage, &host, "max_duration", "proxy", 1001).await
    })
    .await;
}

async fn terminating(stage: &Stage, choice: &str) -> Result<()> {
    let backend = Backend::new("echo").replicas(2).on_term("ignore").grace(12);
    let drain = json!({"drain": {"onEndpointTerminating": choice, "spread": "2s", "timeout": "10s"}});
    let (host, _) = with(stage, &backend, &drain).await?;
    let target = stage.target(&host);
    let (mut socket, hello) = target.hello().await?;
    socket.echo("before").await?;
    kubectl(&["-n", &stage.namespace, "delete", "pod", &hello.pod, "--wait=false"]).await?;
    let began = Instant::now();
    if choice == "Keep" {
        // Every pod of Sheave has heard of it.
        let backend = format!("{}/echo:80", stage.namespace);
        let pods = stage.sheave.settled(2).await?.len() as f64;
        let labels = [("backend", &*backend), ("state", "draining")];
        stage.sheave.reaches("sheave_backend_endpoints", &labels, pods).await?;
        while began.elapsed() < Duration::from_secs(8) {
            socket.echo("still here").await?;
            let (other, its) = target.hello().await?;
            ensure!(its.pod != hello.pod, "a new session goes to a terminating pod");
            other.close(1000).await?;
        }
        // Killed in the end, without a Close of its own.
        let end = socket.ended(Duration::from_secs(20)).await?;
        ensure!(end.code == 1014, "{end:?}");
        return recorded(stage, &host, "backend_reset", "backend", 1014).await;
    }
    let end = socket.ended(Duration::from_secs(8)).await?;
    ensure!((end.code, &*end.reason) == (1012, "backend is going away, reconnect"), "{end:?}");
    recorded(stage, &host, "endpoint_gone", "proxy", 1012).await
}

/// Scenario 31.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn sessions_of_a_terminating_endpoint_go_within_the_window() {
    scenario("terminating", |stage| async move { terminating(&stage, "CloseAfterGrace").await }).await;
}

/// Scenario 31.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn sessions_of_a_terminating_endpoint_stay_where_the_route_says_so() {
    scenario("keeping", |stage| async move { terminating(&stage, "Keep").await }).await;
}

/// Scenario 35.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn edited_timeouts_hold_for_new_sessions_only() {
    scenario("edited", |stage| async move {
        let (host, route) = with(&stage, &Backend::new("echo"), &json!({"timeouts": {"idle": "6s"}})).await?;
        let old = stage.target(&host).open().await?;
        let began = Instant::now();
        stage.serve(&merged(route, json!({"spec": {"timeouts": {"idle": "1h"}}}))).await?;
        let mut new = stage.target(&host).open().await?;
        let end = old.ended(Duration::from_secs(12)).await?;
        let took = end.at.duration_since(began).as_secs_f64();
        ensure!(end.code == 1001 && (5.0..=7.0).contains(&took), "after {took} s: {end:?}");
        let quiet = tokio::time::timeout(Duration::from_secs(4), new.next()).await;
        ensure!(quiet.is_err(), "the new session ended: {quiet:?}");
        new.echo("still here").await?;
        new.close(1000).await
    })
    .await;
}

/// The backend's own ends pass through as they are, and one without a Close is told.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn the_backends_close_code_reaches_the_client() {
    scenario("codes", |stage| async move {
        let (host, _) = with(&stage, &Backend::new("echo"), &json!({})).await?;
        for code in [1000, 1008, 1011, 3000, 4711] {
            let socket = stage.target(&host).path(format!("/?close={code}&after=50")).open().await?;
            let end = socket.ended(Duration::from_secs(5)).await?;
            ensure!((end.code, &*end.reason) == (code, "the backend says so"), "{end:?}");
        }
        let socket = stage.target(&host).path("/?drop&after=50").open().await?;
        let end = socket.ended(Duration::from_secs(5)).await?;
        ensure!((end.code, &*end.reason) == (1014, "backend connection lost"), "{end:?}");
        recorded(&stage, &host, "backend_reset", "backend", 1014).await?;
        ensure!(stage.target(&host).path("/?status=418").status().await? == 418, "a refusal is not passed on");
        let mut numbers = stage.target(&host).path("/?sequence=500&every=1").open().await?;
        for number in 1..=500 {
            let message = numbers.data().await?;
            ensure!(message == Message::text(number.to_string()), "{number} is missing: {message:?}");
        }
        numbers.close(1000).await
    })
    .await;
}
