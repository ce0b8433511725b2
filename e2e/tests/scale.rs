//! A thousand routes and five thousand endpoints that come and go, and how soon a new route answers.
//!
//! The scenarios run in order of their names, one at a time.

use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use sheave_e2e::client::dial::Target;
use sheave_e2e::cluster::objects::{Backend, route, simple, to};
use sheave_e2e::cluster::stage::{Stage, scenario};
use sheave_e2e::cluster::until;
use std::sync::Arc;
use std::time::{Duration, Instant};

const ROUTES: usize = 1000;
const MANY_ROUTES: usize = 5000;
const ENDPOINTS: usize = 5;
/// How many applies are under way at a time.
const APPLYING: usize = 8;
/// How many new routes are timed.
const SAMPLES: usize = 40;
/// The aim, and the bound that a shared machine must keep: the same cores carry API server, etcd and nodes.
const AIM: Duration = Duration::from_millis(12);
const BOUND: Duration = Duration::from_millis(50);
/// Resident memory of one pod with all of it.
const MEMORY: f64 = 320.0 * 1024.0 * 1024.0;
/// From objects to table, with all of it, on a busy machine.
const BUILD: f64 = 1.0;

async fn apply_many(stage: &Stage, objects: impl Iterator<Item = Value>) -> Result<()> {
    stream::iter(objects)
        .map(|object| async move { stage.apply(&object).await })
        .buffer_unordered(APPLYING)
        .try_for_each(|_| async { Ok(()) })
        .await
}

/// How far apart the timed routes of a quiet cluster are: longer than changes are gathered for. It is what is measured,
/// not a wait for anything.
const QUIET: Duration = Duration::from_millis(250);

/// Times new routes, each from its returned apply to its first 101, asking again and again without a pause. First each
/// after a quiet moment, which is what is promised, then one right after the other.
async fn time(stage: &Stage, amid: &str) -> Result<()> {
    let quiet = series(stage, &format!("each after a quiet moment, {amid}"), "quiet", Some(QUIET)).await?;
    series(stage, &format!("one right after the other, {amid}"), "hasty", None).await?;
    ensure!(quiet <= BOUND, "the median is {quiet:?}, the bound {BOUND:?}");
    Ok(())
}

/// The median of one series.
async fn series(stage: &Stage, what: &str, prefix: &str, pace: Option<Duration>) -> Result<Duration> {
    let mut times = Vec::with_capacity(SAMPLES);
    for sample in 0..SAMPLES {
        if let Some(pace) = pace {
            tokio::time::sleep(pace).await;
        }
        let host = format!("{prefix}-{sample}-{}.test", stage.namespace);
        let target = stage.target(&host);
        stage.apply(&simple(&format!("{prefix}-{sample}"), &host, "echo")).await?;
        let applied = Instant::now();
        first_101(&target).await?;
        times.push(applied.elapsed());
    }
    times.sort();
    let (best, median, worst) = (times[0], times[SAMPLES / 2], times[SAMPLES - 1]);
    println!(
        "from the returned apply of a new route to its first 101, {what}: median {:.1} ms, worst {:.1} ms, best {:.1} ms \
         ({SAMPLES} routes; the aim is a median of {} ms)",
        millis(median),
        millis(worst),
        millis(best),
        AIM.as_millis()
    );
    Ok(median)
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

async fn first_101(target: &Target) -> Result<()> {
    let first = async {
        loop {
            match target.status().await? {
                101 => return anyhow::Ok(()),
                404 => {}
                other => anyhow::bail!("a new route answers {other}"),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), first).await.context("no 101")?
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn a_new_route_answers_at_once() {
    scenario("latency", |stage| async move {
        stage.deploy("echo", &Backend::new("echo")).await?;
        let host = format!("{}.test", stage.namespace);
        stage.serve(&simple("first", &host, "echo")).await?;
        stage.answers(&stage.target(&host), 101).await?;
        time(&stage, "few routes").await
    })
    .await;
}

fn service(n: usize) -> Value {
    // Without a selector: its endpoints are ours to write.
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": format!("many-{n}")},
        "spec": {"ports": [{"name": "ws", "port": 80}]}})
}

/// The endpoints of a Service in their `turn`th state: addresses nobody answers at, some of them not ready.
fn slice(n: usize, turn: usize) -> Value {
    let endpoints: Vec<Value> = (0..ENDPOINTS)
        .map(|e| {
            let last = 1 + (turn * ENDPOINTS + e) % 250;
            json!({"addresses": [format!("10.{}.{}.{last}", 200 + n / 250, n % 250)],
                "conditions": {"ready": (e + turn) % 4 != 3}})
        })
        .collect();
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": format!("many-{n}"), "labels": {"kubernetes.io/service-name": format!("many-{n}")}},
        "addressType": "IPv4", "ports": [{"name": "ws", "port": 8080, "protocol": "TCP"}], "endpoints": endpoints})
}

fn of_many(n: usize, namespace: &str) -> Value {
    let rules = json!([{"backendRefs": [to(&format!("many-{}", n % ROUTES))]}]);
    route(&format!("many-{n}"), &json!({"hostnames": [format!("many-{n}.{namespace}.test")], "rules": rules}))
}

/// Waits until every pod's table has this many routes.
async fn tables_hold(stage: &Stage, routes: usize) -> Result<()> {
    until(&format!("tables of {routes} routes"), Duration::from_secs(60), || async {
        let metrics = stage.sheave.metrics().await?;
        let held = |name: &str, accepted| metrics.values().all(|m| m.sum(name, accepted) >= routes as f64);
        Ok(held("sheave_routes", &[("accepted", "true")]).then_some(()))
    })
    .await
}

/// The largest memory and build time among the pods; fails above the bounds.
async fn bounds(stage: &Stage, when: &str) -> Result<()> {
    let (mut memory, mut build) = (0.0_f64, 0.0_f64);
    for metrics in stage.sheave.metrics().await?.values() {
        memory = memory.max(metrics.sum("process_resident_memory_bytes", &[]));
        build = build.max(metrics.sum("sheave_config_build_seconds", &[]));
    }
    println!("{when}: {:.0} MiB resident, the last table took {:.1} ms", memory / 1_048_576.0, build * 1000.0);
    ensure!(memory > 0.0 && memory < MEMORY, "{memory} bytes are resident, the bound is {MEMORY}");
    ensure!(build > 0.0 && build < BUILD, "a table took {build} s, the bound is {BUILD} s");
    Ok(())
}

/// Scenario 39, and the latency among five thousand routes.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn many_routes_and_churning_endpoints_stay_within_bounds() {
    scenario("scale", |stage| async move {
        stage.deploy("echo", &Backend::new("echo")).await?;
        let host = format!("{}.test", stage.namespace);
        stage.serve(&simple("first", &host, "echo")).await?;
        stage.answers(&stage.target(&host), 101).await?;
        bounds(&stage, "few routes").await?;
        let mut open = stage.target(&host).open().await?;
        let began = Instant::now();
        apply_many(&stage, (0..ROUTES).flat_map(|n| [service(n), slice(n, 0)])).await?;
        apply_many(&stage, (0..ROUTES).map(|n| of_many(n, &stage.namespace))).await?;
        println!("{ROUTES} routes with {} endpoints applied in {:.1?}", ROUTES * ENDPOINTS, began.elapsed());
        tables_hold(&stage, ROUTES).await?;
        bounds(&stage, "1,000 routes, 5,000 endpoints").await?;
        let written = stage.sheave.statuses_settled().await?;
        stage.programmed(&format!("many-{}", ROUTES - 1)).await?;
        let (mut slices, began) = (0, Instant::now());
        let shared: &Arc<Stage> = &stage;
        for turn in 1.. {
            apply_many(shared, (0..ROUTES).step_by(3).map(|n| slice((n + turn) % ROUTES, turn))).await?;
            slices += ROUTES.div_ceil(3);
            open.echo("still here").await?;
            bounds(shared, &format!("after {slices} changed slices")).await?;
            if began.elapsed() > Duration::from_secs(15) {
                break;
            }
        }
        let more = stage.sheave.statuses_settled().await? - written;
        println!("{slices} slices changed within {:.1?}: {more} statuses written", began.elapsed());
        ensure!(more < 0.5, "endpoint churn wrote {more} statuses");
        apply_many(&stage, (ROUTES..MANY_ROUTES).map(|n| of_many(n, &stage.namespace))).await?;
        tables_hold(&stage, MANY_ROUTES).await?;
        bounds(&stage, "5,000 routes").await?;
        time(&stage, "among 5,000 routes").await?;
        open.echo("still here").await?;
        open.close(1000).await?;
        // Whoever comes next finds a quiet cluster.
        stage.delete("v1", "Namespace", &stage.namespace).await?;
        until("the routes are gone", Duration::from_secs(180), || async {
            Ok((stage.sheave.sum("sheave_routes", &[("accepted", "true")]).await? < 100.0).then_some(()))
        })
        .await?;
        stage.sheave.statuses_settled().await.map(drop)
    })
    .await;
}
