//! What a user sees after `helm install`: conditions by kubectl, the chart's own test, metrics of every pod.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use sheave_e2e::cluster::metrics::Metrics;
use sheave_e2e::cluster::objects::{Backend, simple};
use sheave_e2e::cluster::stage::{Stage, scenario};
use sheave_e2e::cluster::tools::{helm, kubectl, run, run_with};
use sheave_e2e::cluster::{until, variable};
use std::collections::BTreeSet;
use std::time::Duration;

/// Families that every pod must have from the start; those of objects and sessions come with the first of them.
const FAMILIES: [&str; 25] = [
    "sheave_accept_errors_total",
    "sheave_build_info",
    "sheave_config_build_seconds",
    "sheave_config_generation",
    "sheave_config_stale_seconds",
    "sheave_connection_duration_seconds",
    "sheave_connections_active",
    "sheave_connections_closed_total",
    "sheave_connections_opened_total",
    "sheave_close_code_total",
    "sheave_crd_outdated",
    "sheave_drain_forced_total",
    "sheave_draining",
    "sheave_handshake_duration_seconds",
    "sheave_handshakes_total",
    "sheave_leader",
    "sheave_messages_total",
    "sheave_metrics_series_dropped_total",
    "sheave_routes",
    "sheave_status_writes_total",
    "sheave_statuses_due",
    "sheave_watch_last_event_timestamp_seconds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
];

/// Scenario 1.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn an_applied_route_is_programmed_and_kubectl_shows_it() {
    scenario("install", |stage| async move {
        stage.class_told("websocket", "Accepted", "True", "Accepted").await?;
        stage.deploy("echo", &Backend::new("echo")).await?;
        let host = format!("{}.test", stage.namespace);
        // As a user would: a manifest on stdin, then a wait.
        let manifest = simple("chat", &host, "echo").to_string();
        run_with("kubectl", &["-n", &stage.namespace, "apply", "-f", "-"], &manifest).await?;
        let waits = ["-n", &*stage.namespace, "wait", "--for=condition=Programmed", "wsr/chat", "--timeout=20s"];
        let said = kubectl(&waits).await?;
        ensure!(said.contains("condition met"), "{said}");
        let shown = kubectl(&["-n", &stage.namespace, "get", "wsr"]).await?;
        let head = shown.lines().next().unwrap_or_default();
        for column in ["NAME", "CLASS", "HOSTNAMES", "ACCEPTED", "PROGRAMMED", "AGE"] {
            ensure!(head.contains(column), "no column {column}: {shown}");
        }
        let row = shown.lines().nth(1).unwrap_or_default();
        ensure!(row.contains(&host) && row.matches("True").count() == 2, "{shown}");
        let get = ["-n", &*stage.namespace, "get", "wsr", "chat", "-o", "json", "--show-managed-fields"];
        let object: Value = serde_json::from_str(&kubectl(&get).await?)?;
        let managers = object.pointer("/metadata/managedFields").and_then(Value::as_array).context("no managers")?;
        let ours = managers.iter().any(|m| m["manager"] == "sheave.dev/controller" && m["subresource"] == "status");
        ensure!(ours, "the status is not sheave.dev/controller's: {managers:?}");
        stage.answers(&stage.target(&host), 101).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn kubectl_explain_reads_like_a_manual() {
    scenario("explain", |_stage| async move {
        for (field, words) in [
            ("wsr.spec", vec!["className", "hostnames", "rules", "Deadlines"]),
            ("wsr.spec.timeouts.idle", vec!["1001", "Default 5m"]),
            ("wsr.spec.drain", vec!["spread", "closeCode"]),
            ("wsc.spec", vec!["controllerName", "allowedRoutes", "ceilings"]),
        ] {
            Stage::says(&kubectl(&["explain", field]).await?, &words).with_context(|| field)?;
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn events_tell_of_transitions_only() {
    scenario("events", |stage| async move {
        stage.apply(&simple("chat", &format!("{}.test", stage.namespace), "nobody")).await?;
        stage.told("chat", "ResolvedRefs", "False", "BackendNotFound").await?;
        let events = until("an event of the route", Duration::from_secs(20), || async {
            let events = kubectl(&["-n", &stage.namespace, "get", "events", "-o", "json"]).await?;
            let events: Value = serde_json::from_str(&events)?;
            let items = events["items"].as_array().cloned().unwrap_or_default();
            let of_route: Vec<Value> =
                items.into_iter().filter(|event| event["involvedObject"]["kind"] == "WebSocketRoute").collect();
            Ok((!of_route.is_empty()).then_some(of_route))
        })
        .await?;
        let warns = |event: &Value| {
            event["type"] == "Warning" && event["message"].as_str().is_some_and(|m| m.contains("nobody"))
        };
        ensure!(events.iter().any(warns), "no warning names the missing Service: {events:?}");
        ensure!(events.len() <= 4, "{} events for one transition: {events:?}", events.len());
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn helm_test_opens_a_websocket_through_the_service() {
    scenario("helm-test", |stage| async move {
        let said = helm(&["test", &stage.sheave.release, "-n", &stage.sheave.namespace, "--timeout", "90s"]).await?;
        ensure!(said.contains("Phase:          Succeeded") || said.contains("Phase: Succeeded"), "{said}");
        let notes = helm(&["get", "notes", &stage.sheave.release, "-n", &stage.sheave.namespace]).await?;
        ensure!(notes.contains("kind: WebSocketRoute"), "the notes show no route: {notes}");
        Ok(())
    })
    .await;
}

/// Every metric that the README names, and every one above, exists in every pod once there was traffic.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn every_pod_tells_every_documented_metric() {
    scenario("metrics", |stage| async move {
        stage.deploy("echo", &Backend::new("echo")).await?;
        let host = format!("{}.test", stage.namespace);
        stage.serve(&simple("metrics", &host, "echo")).await?;
        stage.answers(&stage.target(&host), 101).await?;
        for _ in 0..20 {
            let mut socket = stage.target(&host).open().await?;
            socket.echo("hello").await?;
            socket.close(1000).await?;
        }
        let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md"))?;
        let word = |sign: char| !(sign.is_ascii_lowercase() || sign == '_');
        let mut documented: BTreeSet<&str> =
            readme.split(word).filter(|word| word.starts_with("sheave_") && word.len() > 8).collect();
        documented.extend(FAMILIES);
        for pod in stage.sheave.pods().await? {
            let text = stage.sheave.admin(&pod, "/metrics").await?;
            let metrics = Metrics::parse(&text)?;
            let missing: Vec<&&str> = documented.iter().filter(|name| !metrics.families().contains(**name)).collect();
            ensure!(missing.is_empty(), "{pod} does not tell {missing:?}");
            if run("promtool", &["--version"]).await.is_ok() {
                run_with("promtool", &["check", "metrics"], &text).await.with_context(|| format!("{pod}: promtool"))?;
            }
            let table: Value = serde_json::from_str(&stage.sheave.admin(&pod, "/table").await?)?;
            ensure!(table.to_string().contains(&host), "{pod}'s table does not hold {host}");
            ensure!(stage.sheave.admin(&pod, "/livez").await.is_ok(), "{pod} is not live");
            ensure!(stage.sheave.admin(&pod, "/readyz").await.is_ok(), "{pod} is not ready");
        }
        stage.sheave.becomes("sheave_leader", &[], 1.0).await
    })
    .await;
}

/// A real Prometheus reads every pod, through the API server, since it runs outside the cluster.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn prometheus_scrapes_every_pod() {
    scenario("prometheus", |stage| async move {
        if run("prometheus", &["--version"]).await.is_err() {
            bail!("there is no prometheus on the PATH: install it, or leave this scenario out by E2E_FILTER");
        }
        let folder = std::env::temp_dir().join(&stage.namespace);
        std::fs::create_dir_all(&folder)?;
        let path = |name: &str| folder.join(name).display().to_string();
        let config: Value =
            serde_json::from_str(&kubectl(&["config", "view", "--raw", "--minify", "--flatten", "-o", "json"]).await?)?;
        let text = |pointer: &str| config.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let server = text("/clusters/0/cluster/server");
        let decode = |pointer: &str| -> Result<Vec<u8>> {
            use base64::prelude::{BASE64_STANDARD, Engine as _};
            Ok(BASE64_STANDARD.decode(text(pointer))?)
        };
        std::fs::write(path("ca.crt"), decode("/clusters/0/cluster/certificate-authority-data")?)?;
        std::fs::write(path("tls.crt"), decode("/users/0/user/client-certificate-data")?)?;
        std::fs::write(path("tls.key"), decode("/users/0/user/client-key-data")?)?;
        let tls = json!({"ca_file": path("ca.crt"), "cert_file": path("tls.crt"), "key_file": path("tls.key")});
        // Its own discovery is not in every build of it: each pod is named, with its path through the API server.
        let pods = stage.sheave.pods().await?;
        let of_pod = |pod: &String| {
            let metrics = format!("/api/v1/namespaces/{}/pods/{pod}:9090/proxy/metrics", stage.sheave.namespace);
            json!({"targets": [server.trim_start_matches("https://")], "labels": {"__metrics_path__": metrics, "pod": pod}})
        };
        let job = json!({
            "job_name": "sheave", "scheme": "https", "tls_config": tls, "scrape_interval": "1s", "scrape_timeout": "1s",
            "static_configs": pods.iter().map(of_pod).collect::<Vec<_>>(),
        });
        std::fs::write(path("prometheus.yml"), json!({"scrape_configs": [job]}).to_string())?;
        let port = variable("E2E_PROMETHEUS_PORT", "30091");
        let mut prometheus = tokio::process::Command::new("prometheus")
            .args(["--config.file", &path("prometheus.yml"), "--storage.tsdb.path", &path("data")])
            .args(["--web.listen-address", &format!("127.0.0.1:{port}"), "--log.level=error"])
            .kill_on_drop(true)
            .spawn()?;
        let query = format!("http://127.0.0.1:{port}");
        let scraped = until("every pod is up", Duration::from_secs(40), || async {
            let up = run("promtool", &["query", "instant", "-o", "json", &query, "up{job=\"sheave\"} == 1"]).await?;
            let up: Value = serde_json::from_str(&up)?;
            let names: BTreeSet<String> = up
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|one| Some(one["metric"]["pod"].as_str()?.to_owned()))
                .collect();
            Ok(pods.iter().all(|pod| names.contains(pod)).then_some(names))
        })
        .await;
        prometheus.kill().await?;
        std::fs::remove_dir_all(&folder)?;
        println!("Prometheus scrapes {:?}", scraped?);
        Ok(())
    })
    .await;
}
