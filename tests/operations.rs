//! What operators see of a running Sheave: health, metrics, the table and the sessions, and no secret in any of it.

mod living;

use living::backend::Service;
use living::certificate;
use living::client::{open, refused};
use living::folder::{Folder, route, simple};
use living::{Sheave, get, until};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

async fn echo() -> (Folder, Service, Sheave) {
    let service = Service::echo().await;
    let folder = Folder::with(
        &(simple("echo", service.port, &["drain: {timeout: 10s, spread: 0s}"])
            + &route("other", "other.test", &[], &[("echo", 1)])),
    );
    let sheave = Sheave::start(&folder);
    (folder, service, sheave)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_serving_sheave_is_live_and_ready() {
    let (_folder, _service, sheave) = echo().await;
    assert_eq!(sheave.get("/livez").await.0, 200);
    assert_eq!(sheave.get("/readyz").await.0, 200);
    assert_eq!(sheave.get("/nothing").await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_sheave_is_live_and_not_ready() {
    let (_folder, _service, mut sheave) = echo().await;
    let mut client = open(sheave.ws, "echo.test/").await;
    client.echo("hello").await; // not polled from here on, so the stop waits for it
    let admin = sheave.admin;
    let stopped = sheave.stop();
    until("not ready", || async { (get(admin, "/readyz").await.0 == 503).then_some(()) }).await;
    assert_eq!(get(admin, "/livez").await.0, 200);
    assert_eq!(client.ended().await.code, 1001);
    living::within("the stop", stopped).await.expect("the stop does not panic");
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_one_session_exactly() {
    let (_folder, _service, sheave) = echo().await;
    let mut client = open(sheave.ws, "echo.test/").await;
    sheave.metric_becomes("sheave_connections_active", &[("route", "echo")], 1.0).await;
    client.echo("hello").await;
    client.echo("you").await;
    client.send(Message::binary(vec![7; 1000])).await;
    client.data().await;
    client.send(Message::Ping("p".into())).await;
    assert!(client.next().await.is_pong());
    client.close(4001).await;
    assert_eq!(refused(sheave.ws, "nobody.test/").await, 404);
    sheave.metric_becomes("sheave_connections_active", &[("route", "echo")], 0.0).await;
    for (family, labels, value) in [
        ("sheave_connections_opened_total", vec![("route", "echo")], 1.0),
        (
            "sheave_connections_closed_total",
            vec![("route", "echo"), ("initiator", "client"), ("code_class", "4xxx")],
            1.0,
        ),
        ("sheave_close_code_total", vec![("code", "4xxx")], 1.0),
        ("sheave_handshakes_total", vec![("route", "echo"), ("outcome", "accepted")], 1.0),
        ("sheave_handshakes_total", vec![("outcome", "rejected"), ("reason", "no_route")], 1.0),
        ("sheave_messages_total", vec![("route", "echo"), ("direction", "in"), ("opcode", "text")], 2.0),
        ("sheave_messages_total", vec![("route", "echo"), ("direction", "out"), ("opcode", "text")], 2.0),
        ("sheave_messages_total", vec![("route", "echo"), ("direction", "in"), ("opcode", "binary")], 1.0),
        ("sheave_control_frames_total", vec![("route", "echo"), ("direction", "in"), ("opcode", "ping")], 1.0),
        ("sheave_control_frames_total", vec![("route", "echo"), ("direction", "out"), ("opcode", "pong")], 1.0),
        ("sheave_connection_duration_seconds_count", vec![], 1.0),
        ("sheave_config_last_reload_successful", vec![], 1.0),
        ("sheave_draining", vec![], 0.0),
    ] {
        sheave.metric_becomes(family, &labels, value).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_hold_every_family_that_has_something_to_tell() {
    let (_folder, _service, sheave) = echo().await;
    let mut client = open(sheave.ws, "echo.test/").await;
    client.echo("hello").await;
    let text = sheave.metrics().await;
    for family in [
        "sheave_backend_endpoints",
        "sheave_build_info",
        "sheave_config_build_seconds",
        "sheave_config_generation",
        "sheave_config_last_success_timestamp_seconds",
        "sheave_config_problems",
        "sheave_connections_active",
        "sheave_connections_opened_total",
        "sheave_drain_forced_total",
        "sheave_draining",
        "sheave_handshake_duration_seconds",
        "sheave_handshakes_total",
        "sheave_message_size_bytes",
        "sheave_messages_total",
        "sheave_routes",
    ] {
        assert!(text.contains(&format!("# TYPE {family} ")), "{family} is missing");
    }
    sheave.metric_becomes("sheave_backend_endpoints", &[("state", "ready")], 1.0).await;
    sheave.metric_becomes("sheave_routes", &[("accepted", "true")], 2.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_to_a_backend_are_counted_while_open() {
    let (_folder, _service, sheave) = echo().await;
    let mut client = open(sheave.ws, "echo.test/").await;
    client.echo("hello").await;
    sheave.metric_becomes("sheave_backend_connections_active", &[("backend", "default/echo:80")], 1.0).await;
    client.close(1000).await;
    sheave.metric_becomes("sheave_backend_connections_active", &[("backend", "default/echo:80")], 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_cannot_be_reached_is_counted() {
    let folder = Folder::with(&simple("echo", free_port(), &[]));
    let sheave = Sheave::start(&folder);
    assert_eq!(refused(sheave.ws, "echo.test/").await, 502);
    let backend = ("backend", "default/echo:80");
    sheave.metric_becomes("sheave_handshakes_total", &[("reason", "backend_connect")], 1.0).await;
    let errors = sheave.metric("sheave_backend_connect_errors_total", &[backend]).await;
    assert!(errors.is_some_and(|errors| errors >= 1.0), "{errors:?}");
}

/// A port of the loopback that nobody listens on.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("the loopback has a free port");
    listener.local_addr().expect("it is bound").port()
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_are_those_of_whole_frames_on_the_wire() {
    let (_folder, _service, sheave) = echo().await;
    let mut client = open(sheave.ws, "echo.test/").await;
    client.echo("hello").await;
    client.send(Message::Ping("a ping here".into())).await;
    assert!(client.next().await.is_pong());
    client.send(Message::binary(vec![7; 1000])).await;
    client.data().await;
    // Payloads of 5, 11 and 1,000 bytes in headers of 2, 2 and 4; what the client sends has a mask of 4 each.
    for (direction, bytes) in [("in", 1036.0), ("out", 1024.0)] {
        let labels = [("route", "echo"), ("direction", direction)];
        sheave.metric_becomes("sheave_bytes_total", &labels, bytes).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_lists_what_is_live_and_filters_by_route() {
    let (_folder, service, sheave) = echo().await;
    let mut client = open(sheave.ws, "echo.test/chat?token=hunter2").await;
    client.echo("hello").await;
    open(sheave.ws, "other.test/").await.close(1000).await;
    sheave.metric_becomes("sheave_connections_active", &[("route", "other")], 0.0).await;
    let (status, all) = sheave.get("/sessions").await;
    assert_eq!(status, 200);
    let told: Value = serde_json::from_str(&all).expect("sessions are JSON");
    assert_eq!((&told["total"], &told["sessions"][0]["route"]), (&json!(1), &json!("default/echo")), "{all}");
    assert_eq!(told["sessions"][0]["in"]["messages"], json!(1), "{all}");
    let endpoint = format!("127.0.0.1:{}", service.port);
    assert!(all.contains(&endpoint) && all.contains("echo"), "{all}");
    assert!(!all.contains("hunter2"), "a query value is not shown: {all}");
    assert!(sheave.get("/sessions?route=default/echo").await.1.contains(&endpoint));
    for filter in ["route=default/other", "endpoint=127.0.0.1:1", "peer=127.0.0.9"] {
        let (status, text) = sheave.get(&format!("/sessions?{filter}")).await;
        assert_eq!(status, 200, "{text}");
        assert!(!text.contains(&endpoint), "{filter}: {text}");
    }
    client.close(1000).await;
    until("the session is gone", || async { (!sheave.get("/sessions").await.1.contains(&endpoint)).then_some(()) })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_is_shown_without_key_material() {
    let service = Service::echo().await;
    let made = certificate::make(&["echo.test"]);
    let tls = "tls: {certificateRefs: [{name: cert}]}";
    let folder = Folder::with(&(simple("echo", service.port, &[tls]) + &made.secret("cert")));
    let sheave = Sheave::start(&folder);
    let (status, table) = sheave.get("/table").await;
    assert_eq!(status, 200);
    assert!(table.contains("echo.test") && table.contains(&service.port.to_string()), "{table}");
    let body: Vec<&str> = made.key.lines().filter(|line| !line.starts_with('-')).collect();
    assert!(!body.is_empty());
    for path in ["/table", "/sessions", "/metrics"] {
        let (_, text) = sheave.get(path).await;
        assert!(!text.contains("PRIVATE KEY"), "{path}");
        for line in &body {
            assert!(!text.contains(line), "{path} shows the key");
        }
    }
}
