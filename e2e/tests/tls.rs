//! Certificates towards clients and towards backends.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use sheave_e2e::client::certificate::{Made, make, trusting};
use sheave_e2e::client::dial::Target;
use sheave_e2e::cluster::objects::{Backend, bundle, coded, grant, merged, route, secret, simple, to};
use sheave_e2e::cluster::sheave::field;
use sheave_e2e::cluster::stage::{CEILING, Stage, scenario};
use sheave_e2e::cluster::{steady, until};
use std::time::{Duration, Instant};

/// How soon a rotated certificate must be shown.
const ROTATED: Duration = Duration::from_secs(5);

fn secured(name: &str, host: &str, secret: &Value) -> Value {
    let tls = json!({"certificateRefs": [secret]});
    route(name, &json!({"hostnames": [host], "tls": tls, "rules": [{"backendRefs": [to("echo")]}]}))
}

async fn shows(target: &Target, made: &Made) -> Result<()> {
    steady("every pod shows the certificate", 10, CEILING, || async { Ok(target.certificate().await? == made.der) })
        .await
}

/// Scenario 11.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn the_server_name_picks_the_certificate() {
    scenario("sni", |stage| async move {
        stage.deploy("echo", &Backend::new("echo")).await?;
        for name in ["red", "blue"] {
            let host = format!("{name}-{}.test", stage.namespace);
            let made = make(&[&host])?;
            stage.apply(&secret(name, &made)).await?;
            stage.serve(&secured(name, &host, &json!({"name": name}))).await?;
            let target = stage.secure(&host, &trusting(&[&made])?);
            shows(&target, &made).await?;
            let (socket, hello) = target.hello().await?;
            ensure!(hello.headers.get("x-forwarded-proto").is_none_or(|proto| proto != "http"), "{hello:?}");
            socket.close(1000).await?;
            let metric = [("secret", &*format!("{}/{name}", stage.namespace))];
            let gauge = "sheave_certificate_not_after_timestamp_seconds";
            stage.sheave.reaches(gauge, &metric, 1.0).await?;
        }
        Ok(())
    })
    .await;
}

/// Scenario 12.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn a_rotated_secret_serves_new_handshakes_and_cuts_nothing() {
    scenario("rotate", |stage| async move {
        stage.deploy("echo", &Backend::new("echo")).await?;
        let host = format!("{}.test", stage.namespace);
        let (old, new) = (make(&[&host])?, make(&[&host])?);
        stage.apply(&secret("tls", &old)).await?;
        stage.serve(&secured("tls", &host, &json!({"name": "tls"}))).await?;
        let target = stage.secure(&host, &trusting(&[&old, &new])?);
        shows(&target, &old).await?;
        let mut open = target.open().await?;
        open.echo("before").await?;
        stage.apply(&secret("tls", &new)).await?;
        let rotated = Instant::now();
        shows(&target, &new).await?;
        println!("every pod shows the new certificate {} ms after the apply", rotated.elapsed().as_millis());
        ensure!(rotated.elapsed() < ROTATED, "it took {:?}", rotated.elapsed());
        open.echo("after").await?;
        open.close(1000).await
    })
    .await;
}

/// Scenario 13, and Secret contents of "bad input".
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn a_broken_secret_is_told_and_harms_no_other_host() {
    scenario("broken", |stage| async move {
        stage.deploy("echo", &Backend::new("echo")).await?;
        let (good, bad) = (format!("good-{}.test", stage.namespace), format!("bad-{}.test", stage.namespace));
        let (made, other) = (make(&[&good])?, make(&[&bad])?);
        stage.apply(&secret("good", &made)).await?;
        stage.serve(&secured("good", &good, &json!({"name": "good"}))).await?;
        let target = stage.secure(&good, &trusting(&[&made])?);
        shows(&target, &made).await?;
        let mut open = target.open().await?;
        for (crt, key, words) in [
            ("no pem", &*other.key, ["tls.crt", "PEM"]),
            (&*other.certificate, "no pem", ["tls.key", "bad"]),
            (&*other.certificate, &*made.key, ["tls.key does not fit", "tls.crt"]),
        ] {
            let data = json!({"data": {"tls.crt": coded(crt), "tls.key": coded(key)}});
            stage.apply(&merged(secret("bad", &other), data)).await?;
            stage.apply(&secured("bad", &bad, &json!({"name": "bad"}))).await?;
            until(&format!("a message that says {words:?}"), CEILING, || async {
                let message = stage.told("bad", "ResolvedRefs", "False", "InvalidCertificateRef").await?;
                Stage::says(&message, &["spec.tls.certificateRefs[0]", &format!("{}/bad", stage.namespace)])?;
                Stage::says(&message, &words).map(Some)
            })
            .await?;
            shows(&target, &made).await?;
        }
        // Mended in place, it is served without an edit of the route.
        stage.apply(&secret("bad", &other)).await?;
        stage.told("bad", "ResolvedRefs", "True", "ResolvedRefs").await?;
        shows(&stage.secure(&bad, &trusting(&[&other])?), &other).await?;
        open.echo("still here").await?;
        open.close(1000).await
    })
    .await;
}

/// "A Secret deleted while in use" of "bad input".
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn a_secret_deleted_while_in_use_keeps_live_sockets_and_is_told() {
    scenario("deleted", |stage| async move {
        stage.deploy("echo", &Backend::new("echo")).await?;
        let host = format!("{}.test", stage.namespace);
        let made = make(&[&host])?;
        stage.apply(&secret("tls", &made)).await?;
        stage.serve(&secured("tls", &host, &json!({"name": "tls"}))).await?;
        let target = stage.secure(&host, &trusting(&[&made])?);
        shows(&target, &made).await?;
        let mut open = target.open().await?;
        stage.delete("v1", "Secret", "tls").await?;
        let message = stage.told("tls", "ResolvedRefs", "False", "InvalidCertificateRef").await?;
        Stage::says(&message, &["there is no Secret", &format!("{}/tls", stage.namespace)])?;
        open.echo("still here").await?;
        let gone =
            steady("no pod shows it any more", 10, CEILING, || async { Ok(target.certificate().await.is_err()) });
        gone.await?;
        open.echo("still here").await?;
        stage.apply(&secret("tls", &made)).await?;
        shows(&target, &made).await?;
        open.close(1000).await
    })
    .await;
}

/// Scenario 14; a redirect is not among what a route can ask for.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn a_route_with_tls_refuses_clear_text_unless_it_allows_it() {
    scenario("plaintext", |stage| async move {
        stage.deploy("echo", &Backend::new("echo")).await?;
        let host = format!("{}.test", stage.namespace);
        let made = make(&[&host])?;
        stage.apply(&secret("tls", &made)).await?;
        let with = secured("tls", &host, &json!({"name": "tls"}));
        stage.serve(&with).await?;
        let began = Instant::now();
        stage.answers(&stage.target(&host), 403).await?;
        stage.sheave.reaches("sheave_handshakes_total", &[("reason", "plaintext_rejected")], 1.0).await?;
        let refused = |record: &Value| {
            field(record, "event") == "reject"
                && field(record, "host") == host.as_str()
                && field(record, "status") == 403
        };
        let record = stage.sheave.logged("the refusal", began, refused).await?;
        ensure!(field(&record, "reason") == "plaintext_rejected", "{record}");
        stage.apply(&merged(with, json!({"spec": {"tls": {"plaintext": "Allow"}}}))).await?;
        stage.answers(&stage.target(&host), 101).await
    })
    .await;
}

/// Scenario 16.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn a_backend_over_tls_needs_the_right_ca() {
    scenario("wss", |stage| async move {
        let name = "backend.internal.test";
        let (right, wrong) = (make(&[name])?, make(&[name])?);
        stage.apply_all(&[secret("backend-tls", &right), bundle("right", &right), bundle("wrong", &wrong)]).await?;
        stage.deploy("echo", &Backend::new("echo").certificate("backend-tls")).await?;
        let host = format!("{}.test", stage.namespace);
        let with = |ca: &str, hostname: &str| {
            let trust = json!({"hostname": hostname, "caCertificateRefs": [{"name": ca}]});
            let backend = json!({"name": "echo", "port": 443, "protocol": "WSS"});
            route("wss", &json!({"hostnames": [host], "rules": [{"backendRefs": [backend], "backendTLS": trust}]}))
        };
        stage.serve(&with("right", name)).await?;
        let target = stage.target(&host);
        stage.answers(&target, 101).await?;
        let mut socket = target.open().await?;
        socket.echo("over TLS").await?;
        for (ca, hostname) in [("wrong", name), ("right", "other.internal.test")] {
            let began = Instant::now();
            stage.apply(&with(ca, hostname)).await?;
            stage.answers(&target, 502).await?;
            let refused = |record: &Value| {
                field(record, "event") == "reject"
                    && field(record, "host") == host.as_str()
                    && field(record, "status") == 502
            };
            let record = stage.sheave.logged("the refusal", began, refused).await?;
            ensure!(field(&record, "reason") == "backend_connect", "{record}");
            let detail = field(&record, "detail").as_str().unwrap_or_default().to_lowercase();
            ensure!(detail.contains("certificate"), "the log does not say why: {record}");
        }
        stage.sheave.reaches("sheave_handshakes_total", &[("reason", "backend_connect")], 2.0).await?;
        socket.echo("the old socket goes on").await?;
        socket.close(1000).await?;
        stage.apply(&with("missing", name)).await?;
        let message = stage.told("wss", "ResolvedRefs", "False", "InvalidCACertificateRef").await?;
        Stage::says(&message, &["caCertificateRefs[0]", "missing"])?;
        stage.answers(&target, 500).await
    })
    .await;
}

/// Scenario 17. Needs the Gateway API's CRD of `ReferenceGrant`, which `make e2e` applies.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn a_certificate_of_another_namespace_needs_a_grant_and_loses_it_with_it() {
    scenario("grant", |stage| async move {
        stage.deploy("echo", &Backend::new("echo")).await?;
        let vault = format!("{}-vault", stage.namespace);
        stage.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": vault}})).await?;
        let host = format!("{}.test", stage.namespace);
        let made = make(&[&host])?;
        let there = |object: Value| merged(object, json!({"metadata": {"namespace": vault}}));
        stage.apply(&there(secret("tls", &made))).await?;
        stage.apply(&secured("tls", &host, &json!({"name": "tls", "namespace": vault}))).await?;
        let message = stage.told("tls", "ResolvedRefs", "False", "RefNotPermitted").await?;
        Stage::says(&message, &["spec.tls.certificateRefs[0]", &vault, "ReferenceGrant"])?;
        let target = stage.secure(&host, &trusting(&[&made])?);
        ensure!(target.certificate().await.is_err(), "a certificate is shown that nobody granted");
        let allowed = there(grant("sheave", &stage.namespace, "", "Secret"));
        stage.apply(&allowed).await?;
        stage.told("tls", "ResolvedRefs", "True", "ResolvedRefs").await?;
        shows(&target, &made).await?;
        let mut open = target.open().await?;
        let revoke = ["-n", &*vault, "delete", "referencegrant", "sheave"];
        sheave_e2e::cluster::tools::kubectl(&revoke).await?;
        stage.told("tls", "ResolvedRefs", "False", "RefNotPermitted").await?;
        steady("no pod shows it any more", 10, CEILING, || async { Ok(target.certificate().await.is_err()) }).await?;
        open.echo("still here").await?;
        open.close(1000).await
    })
    .await;
}

/// Scenario 17 for Services.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn a_service_of_another_namespace_needs_a_grant() {
    scenario("grant-svc", |stage| async move {
        let far = format!("{}-far", stage.namespace);
        stage.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": far}})).await?;
        for object in Backend::new("echo").objects() {
            stage.apply(&merged(object, json!({"metadata": {"namespace": far}}))).await?;
        }
        let host = format!("{}.test", stage.namespace);
        let mut across = simple("across", &host, "echo");
        across["spec"]["rules"][0]["backendRefs"][0]["namespace"] = far.clone().into();
        stage.apply(&across).await?;
        let message = stage.told("across", "ResolvedRefs", "False", "RefNotPermitted").await?;
        Stage::says(&message, &["spec.rules[0].backendRefs[0]", &far])?;
        stage.answers(&stage.target(&host), 500).await?;
        let allowed = merged(grant("sheave", &stage.namespace, "", "Service"), json!({"metadata": {"namespace": far}}));
        stage.apply(&allowed).await?;
        stage.told("across", "ResolvedRefs", "True", "ResolvedRefs").await?;
        stage.answers(&stage.target(&host), 101).await
    })
    .await;
}
