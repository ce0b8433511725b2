//! Origins, address blocks and authorization: who is refused, and that a change reaches live sessions at once.

use crate::living::backend::Service;
use crate::living::client::{open, refused};
use crate::living::folder::{Folder, route, simple};
use crate::living::{Sheave, until};
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

/// The status of a handshake with this `Origin`; 101 for one that is let in.
async fn with_origin(sheave: &Sheave, host: &str, origin: Option<&str>) -> u16 {
    let stream = tokio::net::TcpStream::connect(sheave.ws).await.expect("the listener is there");
    let mut request = format!("ws://{host}/").into_client_request().expect("a request");
    if let Some(origin) = origin {
        request.headers_mut().insert("origin", origin.parse().expect("a header value"));
    }
    match tokio_tungstenite::client_async(request, stream).await {
        Ok((_, answer)) => answer.status().as_u16(),
        Err(tungstenite::Error::Http(answer)) => answer.status().as_u16(),
        Err(error) => panic!("neither 101 nor a refusal: {error}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_pages_of_allowed_origins_connect_and_no_other_reaches_the_backend() {
    let service = Service::echo().await;
    let origins =
        "origins: {allowOrigins: [\"https://chat.test\", \"https://*.chat.test\", \"http://localhost:3000\"]}";
    let strict = "origins: {allowOrigins: [\"https://chat.test\"], missing: Deny}";
    let folder = Folder::with(&simple("echo", service.port, &[origins]));
    folder.write("strict.yaml", &route("strict", "strict.test", &[strict], &[("echo", 1)]));
    let sheave = Sheave::start(&folder);
    for (origin, expected) in [
        (Some("https://chat.test"), 101),
        (Some("https://CHAT.test:443"), 101),
        (Some("https://a.b.chat.test"), 101),
        (Some("http://localhost:3000"), 101),
        (None, 101),
        (Some("http://chat.test"), 403),
        (Some("https://chat.test:8443"), 403),
        (Some("https://chat.test.evil.test"), 403),
        (Some("https://evilchat.test"), 403),
        (Some("http://localhost"), 403),
        (Some("null"), 403),
        (Some(""), 403),
        (Some("https://chat.test, https://evil.test"), 403),
    ] {
        assert_eq!(with_origin(&sheave, "echo.test", origin).await, expected, "{origin:?}");
    }
    assert_eq!(with_origin(&sheave, "strict.test", None).await, 403);
    assert_eq!(with_origin(&sheave, "strict.test", Some("https://chat.test")).await, 101);
    assert_eq!(service.opened(), 6);
    let labels = [("route", "echo"), ("reason", "origin_denied")];
    sheave.metric_becomes("sheave_handshakes_total", &labels, 8.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_not_allowed_gets_403_and_deny_wins() {
    let service = Service::echo().await;
    let folder = Folder::with(&simple("echo", service.port, &["clientCIDRs: {allow: [\"127.0.0.0/8\"]}"]));
    let denied = "clientCIDRs: {allow: [\"127.0.0.0/8\"], deny: [\"127.0.0.1/32\"]}";
    folder.write("denied.yaml", &route("denied", "denied.test", &[denied], &[("echo", 1)]));
    folder.write(
        "other.yaml",
        &route("other", "other.test", &["clientCIDRs: {allow: [\"10.0.0.0/8\"]}"], &[("echo", 1)]),
    );
    let sheave = Sheave::start(&folder);
    open(sheave.ws, "echo.test/").await.echo("in").await;
    assert_eq!(refused(sheave.ws, "denied.test/").await, 403);
    assert_eq!(refused(sheave.ws, "other.test/").await, 403);
    sheave.metric_becomes("sheave_handshakes_total", &[("route", "other"), ("reason", "address_denied")], 1.0).await;
    assert_eq!(service.opened(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_allows_nobody_named_lets_only_its_addresses_in() {
    let service = Service::echo().await;
    let folder = Folder::new();
    let rule = |name: &str, path: &str, authorization: &str| {
        format!(
            "  - {{name: {name}, matches: [{{path: {{type: Exact, value: {path}}}}}], \
             backendRefs: [{{name: echo, port: 80}}], authorization: {authorization}}}\n"
        )
    };
    let rules = [
        rule("here", "/here", "{allow: [{clientCIDRs: [\"127.0.0.0/8\"]}]}"),
        rule("not", "/not", "{allow: [{clientCIDRs: [\"127.0.0.0/8\"]}], deny: [{clientCIDRs: [\"127.0.0.1/32\"]}]}"),
        rule("named", "/named", "{allow: [{consumers: [alice]}]}"),
        rule("nobody", "/nobody", "{}"),
    ];
    folder.write(
        "all.yaml",
        &format!(
            "apiVersion: sheave.dev/v1alpha1\nkind: WebSocketRoute\nmetadata: {{name: echo, namespace: default}}\nspec:\n  \
             hostnames: [echo.test]\n  rules:\n{}---\n{}",
            rules.concat(),
            crate::living::folder::served("echo", service.port)
        ),
    );
    let sheave = Sheave::start(&folder);
    open(sheave.ws, "echo.test/here").await.echo("in").await;
    for path in ["/not", "/named", "/nobody"] {
        assert_eq!(refused(sheave.ws, &format!("echo.test{path}")).await, 403, "{path}");
    }
    assert_eq!(service.opened(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_policy_closes_its_own_sessions_with_1008_within_two_seconds_and_no_other() {
    let service = Service::echo().await;
    let folder = Folder::with(&simple("still", service.port, &[]));
    let named = |spec: &[&str]| route("busy", "busy.test", spec, &[("still", 1)]);
    folder.write("busy.yaml", &named(&[]));
    let sheave = Sheave::start(&folder);
    let mut still = open(sheave.ws, "still.test/").await;
    for (spec, count) in [
        ("clientCIDRs: {deny: [\"127.0.0.0/8\"]}", 3),
        ("origins: {allowOrigins: [\"https://chat.test\"], missing: Deny}", 2),
    ] {
        folder.write("busy.yaml", &named(&[]));
        let mut busy = Vec::new();
        for _ in 0..count {
            let opened = || async { crate::living::client::try_open(sheave.ws, "busy.test/").await.ok() };
            busy.push(until("the route answers", opened).await);
        }
        let since = Instant::now();
        folder.write("busy.yaml", &named(&[spec]));
        for client in &mut busy {
            assert_eq!(client.close_frame().await, (1008, "policy changed".to_owned()), "{spec}");
        }
        assert!(since.elapsed() < Duration::from_secs(2), "{spec}: {:?}", since.elapsed());
        assert_eq!(refused(sheave.ws, "busy.test/").await, 403);
        still.echo("undisturbed").await;
    }
    let labels = [("route", "busy"), ("reason", "policy_changed"), ("initiator", "proxy")];
    sheave.metric_becomes("sheave_connections_closed_total", &labels, 5.0).await;
}
