//! Endpoints that go: terminating, vanished, or killed before their sessions had their turn.

mod living;

use living::backend::{Seen, Service};
use living::client::many;
use living::folder::{Folder, route, service, slice};
use living::{Sheave, until};
use tokio_tungstenite::tungstenite::Message;

/// Whether the client that said `number` in [`many`] is on this service.
fn has(service: &Service, number: usize) -> bool {
    let said = Message::text(number.to_string());
    service.seen().iter().any(|seen| matches!(seen, Seen::Got(_, message) if *message == said))
}

/// Two endpoints of one service, each its own slice.
fn two(first: (&Service, &str), second: (&Service, &str)) -> String {
    service("echo") + &slice("echo", "first", first.0.port, first.1) + &slice("echo", "second", second.0.port, second.1)
}

const READY: &str = "ready: true";
const TERMINATING: &str = "ready: false, serving: true, terminating: true";

#[tokio::test(flavor = "multi_thread")]
async fn a_terminating_endpoint_loses_just_its_sessions_with_1012() {
    let (first, second) = (Service::echo().await, Service::echo().await);
    let folder = Folder::with(&route("echo", "echo.test", &["drain: {timeout: 5s, spread: 0s}"], &[("echo", 1)]));
    folder.write("slices.yaml", &two((&first, READY), (&second, READY)));
    let sheave = Sheave::start(&folder);
    let clients = many(&sheave, "echo.test/", 10).await;
    assert_eq!((first.opened(), second.opened()), (5, 5), "least connections spread evenly");
    folder.write("slices.yaml", &two((&first, TERMINATING), (&second, READY)));
    for (number, mut client) in clients.into_iter().enumerate() {
        if has(&first, number) {
            assert_eq!(client.ended().await.code, 1012);
        } else {
            client.echo("staying").await;
            assert_eq!(client.close(1000).await.code, 1000);
        }
    }
    many(&sheave, "echo.test/", 4).await;
    assert_eq!((first.opened(), second.opened()), (5, 9));
}

#[tokio::test(flavor = "multi_thread")]
async fn keep_leaves_the_sessions_of_a_terminating_endpoint_alone() {
    let (first, second) = (Service::echo().await, Service::echo().await);
    let drain = "drain: {timeout: 2s, spread: 0s, onEndpointTerminating: Keep}";
    let folder = Folder::with(&route("echo", "echo.test", &[drain], &[("echo", 1)]));
    folder.write("slices.yaml", &two((&first, READY), (&second, READY)));
    let sheave = Sheave::start(&folder);
    let clients = many(&sheave, "echo.test/", 4).await;
    folder.write("slices.yaml", &two((&first, TERMINATING), (&second, READY)));
    until("new sessions go to the second endpoint only", || async {
        let before = first.opened();
        many(&sheave, "echo.test/", 4).await;
        (first.opened() == before).then_some(())
    })
    .await;
    for mut client in clients {
        client.echo("staying").await;
    }
    let forced = sheave.metric("sheave_connections_closed_total", &[("reason", "endpoint_gone")]).await;
    assert_eq!(forced.unwrap_or(0.0).to_string(), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vanished_endpoint_loses_its_sessions_with_1012() {
    let (first, second) = (Service::echo().await, Service::echo().await);
    let folder = Folder::with(&route("echo", "echo.test", &["drain: {timeout: 5s, spread: 0s}"], &[("echo", 1)]));
    folder.write("slices.yaml", &two((&first, READY), (&second, READY)));
    let sheave = Sheave::start(&folder);
    let clients = many(&sheave, "echo.test/", 2).await;
    folder.write("slices.yaml", &(service("echo") + &slice("echo", "second", second.port, READY)));
    for (number, mut client) in clients.into_iter().enumerate() {
        if has(&first, number) {
            assert_eq!(client.ended().await.code, 1012);
        } else {
            client.echo("staying").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminating_endpoint_that_is_killed_early_costs_its_sessions_a_1012_and_no_accident() {
    let (first, second) = (Service::echo().await, Service::echo().await);
    let folder = Folder::with(&route("echo", "echo.test", &["drain: {timeout: 120s, spread: 120s}"], &[("echo", 1)]));
    folder.write("slices.yaml", &two((&first, READY), (&second, READY)));
    let sheave = Sheave::start(&folder);
    let clients = many(&sheave, "echo.test/", 12).await;
    folder.write("slices.yaml", &two((&first, TERMINATING), (&second, READY)));
    until("six sessions are to leave, or one has left at once", || async {
        let (_, sessions) = sheave.get("/sessions").await;
        (sessions.matches("\"ending\": true").count() >= 5).then_some(())
    })
    .await;
    first.cut();
    for (number, mut client) in clients.into_iter().enumerate() {
        if has(&first, number) {
            assert_eq!(client.ended().await.code, 1012);
        } else {
            client.echo("staying").await;
        }
    }
    sheave.metric_becomes("sheave_connections_closed_total", &[("reason", "endpoint_gone")], 6.0).await;
}
