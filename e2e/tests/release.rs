//! The chart's own life: upgrade, rollback, a namespaced release, missing rights, an old CRD, uninstall.
//!
//! The scenarios run in order of their names, one at a time; the last one uninstalls Sheave and brings it back.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sheave_e2e::cluster::metrics::Metrics;
use sheave_e2e::cluster::objects::{Backend, merged, simple};
use sheave_e2e::cluster::sheave::{Sheave, field};
use sheave_e2e::cluster::stage::{Stage, scenario};
use sheave_e2e::cluster::tools::{helm, kubectl, run_with};
use sheave_e2e::cluster::{until, variable};
use std::time::{Duration, Instant};

const CRD: &str = "websocketroutes.sheave.dev";

fn chart() -> String {
    variable("E2E_CHART", concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/sheave"))
}

fn values() -> String {
    variable("E2E_VALUES", concat!(env!("CARGO_MANIFEST_DIR"), "/values.yaml"))
}

/// Installs a second Sheave in the scenario's namespace, for that namespace only; does not wait for it.
async fn second(stage: &Stage) -> Result<Sheave> {
    let watched = format!("controller.watchNamespaces={{{}}}", stage.namespace);
    let chart = chart();
    let mut arguments = vec!["install", "sheave-two", &chart, "-n", &stage.namespace];
    let settings = [
        "crds.enabled=false",
        "class.create=false",
        "replicas=1",
        "service.type=ClusterIP",
        "image.repository=sheave",
        "image.tag=dev",
        "drain.minDrain=1s",
        "drain.timeout=5s",
        &watched,
    ];
    for setting in settings {
        arguments.extend(["--set", setting]);
    }
    helm(&arguments).await?;
    Ok(Sheave::at(&stage.client, &stage.namespace, "sheave-two"))
}

/// The newest pod of a release, ready or not, once it runs.
async fn running(sheave: &Sheave) -> Result<String> {
    until("a pod runs", Duration::from_secs(60), || async {
        let mut pods = sheave.all_pods().await?;
        pods.retain(|pod| {
            let status = pod.status.as_ref();
            let started = status.is_some_and(|status| status.phase.as_deref() == Some("Running"));
            started && pod.metadata.deletion_timestamp.is_none()
        });
        Ok((pods.len() == 1).then(|| pods.remove(0).metadata.name).flatten())
    })
    .await
}

/// Scenario 38: a namespaced release sees its namespaces and nothing else.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn a_namespaced_release_sees_only_its_namespaces() {
    scenario("namespaced", |stage| async move {
        stage.deploy("echo", &Backend::new("echo")).await?;
        let here = format!("{}.test", stage.namespace);
        stage.serve(&simple("here", &here, "echo")).await?;
        let far = format!("{}-far", stage.namespace);
        stage.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": far}})).await?;
        let there = format!("there-{}.test", stage.namespace);
        stage.apply(&merged(simple("there", &there, "echo"), json!({"metadata": {"namespace": far}}))).await?;
        let two = second(&stage).await?;
        let pods = two.settled(1).await?;
        let table = two.admin(&pods[0], "/table").await?;
        ensure!(table.contains(&here), "its own namespace's route is missing: {table}");
        ensure!(!table.contains(&there), "another namespace's route is in its table: {table}");
        let get = ["-n", &*stage.namespace, "get", "pod", &*pods[0], "-o", "jsonpath={.spec.serviceAccountName}"];
        let account = kubectl(&get).await?;
        let account = format!("system:serviceaccount:{}:{}", stage.namespace, account);
        for (verb, what, namespace, allowed) in [
            ("list", "secrets", &stage.namespace, true),
            ("list", "secrets", &far, false),
            ("get", "secrets", &stage.sheave.namespace, false),
            ("list", "websocketroutes.sheave.dev", &far, false),
        ] {
            let asked = ["auth", "can-i", verb, what, "-n", namespace, "--as", &account];
            let answer = kubectl(&asked).await.is_ok_and(|said| said.trim() == "yes");
            ensure!(answer == allowed, "may it {verb} {what} in {namespace}? {answer}");
        }
        two.sound(stage.began).await
    })
    .await;
}

/// RBAC missing for one kind: the log and /readyz name verb and resource.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn a_missing_right_is_named_at_start_and_by_readyz() {
    scenario("rights", |stage| async move {
        let two = second(&stage).await?;
        two.settled(1).await?;
        let roles: Value =
            serde_json::from_str(&kubectl(&["-n", &stage.namespace, "get", "roles", "-o", "json"]).await?)?;
        for role in roles["items"].as_array().context("no roles")? {
            let mut grants = role["rules"].as_array().cloned().unwrap_or_default();
            for rule in &mut grants {
                if let Some(resources) = rule["resources"].as_array_mut() {
                    resources.retain(|resource| resource != "secrets");
                }
            }
            grants.retain(|rule| rule["resources"].as_array().is_some_and(|resources| !resources.is_empty()));
            let name = role["metadata"]["name"].as_str().unwrap_or_default();
            let patch = json!([{"op": "replace", "path": "/rules", "value": grants}]).to_string();
            kubectl(&["-n", &stage.namespace, "patch", "role", name, "--type=json", "-p", &patch]).await?;
        }
        kubectl(&[
            "-n",
            &stage.namespace,
            "delete",
            "pod",
            "-l",
            "app.kubernetes.io/instance=sheave-two",
            "--wait=true",
        ])
        .await?;
        let pod = running(&two).await?;
        let said = until("/readyz names the right", Duration::from_secs(60), || async {
            match two.admin(&pod, "/readyz").await {
                Ok(body) => anyhow::bail!("it is ready: {body}"),
                Err(error) => {
                    let said = format!("{error:#}");
                    Stage::says(&said, &["secrets", "list"]).map(|()| Some(said))
                }
            }
        })
        .await?;
        println!("/readyz: {said}");
        until("the log names the right", Duration::from_secs(60), || async {
            let log = two.log(&pod, stage.began).await?;
            Ok(log.lines().any(|line| line.contains("secrets") && line.contains("list")).then_some(()))
        })
        .await?;
        // Granted again, it becomes ready without a restart.
        let upgrade = ["upgrade", "sheave-two", &chart(), "-n", &stage.namespace, "--reuse-values"];
        helm(&upgrade).await?;
        for role in roles["items"].as_array().context("no roles")? {
            let name = role["metadata"]["name"].as_str().unwrap_or_default();
            let patch = json!([{"op": "replace", "path": "/rules", "value": role["rules"]}]).to_string();
            kubectl(&["-n", &stage.namespace, "patch", "role", name, "--type=json", "-p", &patch]).await?;
        }
        two.settled(1).await.map(drop)
    })
    .await;
}

/// A CRD older than the binary: fields that it does not know are pruned, and Sheave says so.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn an_outdated_crd_is_told() {
    scenario("old-crd", |stage| async move {
        let mut crd: Value = serde_json::from_str(&kubectl(&["get", "crd", CRD, "-o", "json"]).await?)?;
        let current = crd.clone();
        let schema = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
        let properties = crd.pointer_mut(&format!("{schema}/properties")).and_then(Value::as_object_mut);
        properties.context("the CRD has no fields")?.remove("keepalive").context("the CRD has no keepalive")?;
        let outdated = async {
            replace(&crd).await?;
            // Looked at once a minute.
            until("every pod's metric tells", Duration::from_secs(100), || async {
                let metrics = stage.sheave.metrics().await?;
                let tells =
                    |metrics: &Metrics| metrics.sum("sheave_crd_outdated", &[("kind", "websocketroutes")]) > 0.5;
                Ok(metrics.values().all(tells).then_some(()))
            })
            .await?;
            let names = |record: &Value| {
                let message = field(record, "message").as_str().unwrap_or_default();
                message.contains(CRD) && message.contains("spec.keepalive") && field(record, "level") == "WARN"
            };
            stage.sheave.logged("the CRD and its missing field", stage.began, names).await
        };
        let outcome = outdated.await;
        replace(&current).await?;
        println!("the log: {}", field(&outcome?, "message"));
        Ok(())
    })
    .await;
}

async fn replace(crd: &Value) -> Result<()> {
    let mut crd = crd.clone();
    let metadata = crd["metadata"].as_object_mut().context("no metadata")?;
    metadata.retain(|name, _| matches!(name.as_str(), "name" | "labels" | "annotations"));
    crd.as_object_mut().context("no object")?.remove("status");
    let apply = ["apply", "--server-side", "--force-conflicts", "--field-manager=helm", "-f", "-"];
    // Only `replace` takes a field away for certain; it wants the version that it replaces to be left out.
    run_with("kubectl", &["replace", "-f", "-"], &crd.to_string()).await?;
    run_with("kubectl", &apply, &crd.to_string()).await.map(drop)
}

/// Upgrade, rollback, uninstall, install: sockets get their Close, objects stay.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn z_upgrade_rollback_and_uninstall_keep_what_users_wrote() {
    scenario("release", |stage| async move {
        let (release, namespace) = (stage.sheave.release.clone(), stage.sheave.namespace.clone());
        stage.deploy("echo", &Backend::new("echo")).await?;
        let host = format!("{}.test", stage.namespace);
        let drain = json!({"spec": {"drain": {"spread": "1s", "timeout": "10s"}}});
        stage.serve(&merged(simple("chat", &host, "echo"), drain)).await?;
        let target = stage.target(&host);
        stage.answers(&target, 101).await?;
        let (chart, values) = (chart(), values());
        let upgrade =
            ["upgrade", &release, &chart, "-n", &namespace, "--values", &values, "--wait", "--timeout", "150s"];
        let rollback = ["rollback", &release, "-n", &namespace, "--wait", "--timeout", "150s"];
        let changed: Vec<&str> = upgrade.iter().copied().chain(["--set", "controller.logOpen=true"]).collect();
        for step in [&changed[..], &rollback[..]] {
            let mut socket = target.open().await?;
            socket.echo("before").await?;
            let (done, end) = tokio::join!(helm(step), socket.ended(Duration::from_secs(150)));
            done?;
            let end = end?;
            ensure!(end.code == 1001, "helm {}: {end:?}", step[0]);
            stage.sheave.settled(2).await?;
            stage.answers(&target, 101).await?;
            println!("helm {}: the socket got {} {:?}", step[0], end.code, end.reason);
        }
        stage.sheave.sound(stage.began).await?;
        helm(&["uninstall", &release, "-n", &namespace, "--wait", "--timeout", "120s"]).await?;
        kubectl(&["get", "crd", CRD, "websocketclasses.sheave.dev"]).await?;
        let kept = stage.get("sheave.dev/v1alpha1", "WebSocketRoute", "chat").await?;
        ensure!(kept.is_some(), "uninstall took the users' routes along");
        until("nobody serves", Duration::from_secs(60), || async { Ok(target.open().await.is_err().then_some(())) })
            .await?;
        let began = Instant::now();
        let install =
            ["install", &release, &chart, "-n", &namespace, "--values", &values, "--wait", "--timeout", "150s"];
        helm(&install).await?;
        println!("installed again within {:.1?}", began.elapsed());
        stage.sheave.settled(2).await?;
        stage.answers(&target, 101).await?;
        stage.programmed("chat").await
    })
    .await;
}
