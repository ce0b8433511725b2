//! The life of sessions through a whole Sheave: relayed, held back, timed out, drained, moved and lost.
//!
//! Reloads as such are told in `reload.rs`, what operators see in `operations.rs`.

mod living;

use living::backend::{Manner, Seen, Service};
use living::certificate;
use living::client::{Client, many, open, open_tls, refused, try_open};
use living::folder::{Folder, route, served, service, simple, slice};
use living::{CEILING, Sheave, get, until, within};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

/// A folder with a route `echo` to an echo service, the service, and a Sheave.
async fn one(manner: Manner, spec: &[&str]) -> (Folder, Service, Sheave) {
    let service = Service::start(manner).await;
    let folder = Folder::with(&simple("echo", service.port, spec));
    let sheave = Sheave::start(&folder);
    (folder, service, sheave)
}

fn pattern(seed: usize, length: usize) -> Vec<u8> {
    (0..length).map(|at| (at.wrapping_mul(31).wrapping_add(at >> 8).wrapping_add(seed)).to_le_bytes()[0]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn text_and_binary_come_back_in_clear_and_over_tls() {
    let service = Service::echo().await;
    let made = certificate::make(&["echo.test"]);
    let tls = "tls: {certificateRefs: [{name: cert}], plaintext: Allow}";
    let folder = Folder::with(&(simple("echo", service.port, &[tls]) + &made.secret("cert")));
    let sheave = Sheave::start(&folder);
    let clear = open(sheave.ws, "echo.test/").await;
    let secure = open_tls(sheave.wss, "echo.test", &certificate::trusting(&[&made])).await;
    for mut client in [clear, secure] {
        client.echo("grüß dich").await;
        client.echo("").await;
        client.send(Message::binary(vec![0, 255, 1])).await;
        assert_eq!(client.data().await, Message::binary(vec![0, 255, 1]));
        assert_eq!(client.close(4321).await.code, 4321, "the service's answer to a Close passes");
    }
    assert_eq!([service.close_code(0).await, service.close_code(1).await], [4321, 4321]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_four_mebibytes_passes_unchanged_both_ways() {
    let (_folder, service, sheave) = one(Manner::Echo, &[]).await;
    let mut client = open(sheave.ws, "echo.test/").await;
    let sent = pattern(7, 4 << 20);
    client.send(Message::binary(sent.clone())).await;
    let there = service
        .sees("the message", |seen| {
            seen.iter().find_map(|seen| match seen {
                Seen::Got(_, Message::Binary(bytes)) => Some(bytes.clone()),
                _ => None,
            })
        })
        .await;
    assert!(there == sent, "changed on the way to the service");
    let back = client.data().await.into_data();
    assert!(back == sent, "changed on the way to the client");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_session_is_closed_with_1001() {
    let (_folder, service, sheave) = one(Manner::Echo, &["timeouts: {idle: 1s}"]).await;
    let mut client = open(sheave.ws, "echo.test/").await;
    client.echo("hello").await;
    let since = Instant::now();
    assert_eq!(client.ended().await.code, 1001);
    let took = since.elapsed();
    assert!(took > Duration::from_millis(900) && took < Duration::from_secs(5), "closed after {took:?}");
    assert_eq!(service.close_code(0).await, 1001);
}

#[tokio::test(flavor = "multi_thread")]
async fn pings_of_the_client_keep_a_session_open() {
    let (_folder, _service, sheave) = one(Manner::Echo, &["timeouts: {idle: 1s}"]).await;
    let mut client = open(sheave.ws, "echo.test/").await;
    let mut beat = tokio::time::interval(Duration::from_millis(200));
    for number in 0..15_u8 {
        beat.tick().await;
        client.send(Message::Ping(vec![number].into())).await;
        assert_eq!(client.next().await, Message::Pong(vec![number].into()));
    }
    client.echo("still here").await;
    assert_eq!(client.ended().await.code, 1001);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_reach_their_highest_age_at_different_times() {
    let timeouts = "timeouts: {maxConnectionDuration: 2s, maxConnectionDurationJitterPercent: 50}";
    let (_folder, _service, sheave) = one(Manner::Echo, &[timeouts]).await;
    let mut ages = Vec::new();
    for _ in 0..10 {
        let opened = Instant::now();
        let mut client = open(sheave.ws, "echo.test/").await;
        ages.push(tokio::spawn(async move {
            client.echo("busy").await;
            let ended = client.ended().await;
            (ended.code, opened.elapsed())
        }));
    }
    let (mut least, mut most) = (CEILING, Duration::ZERO);
    for age in ages {
        let (code, age) = age.await.expect("no client panics");
        assert_eq!(code, 1001);
        (least, most) = (least.min(age), most.max(age));
    }
    assert!(least > Duration::from_millis(950), "one ended after {least:?}");
    assert!(most < Duration::from_secs(5), "one ended after {most:?}");
    assert!(most.checked_sub(least).expect("most is not less") > Duration::from_millis(30), "all ended at {most:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keepalive_pings_both_peers_and_shows_neither_the_pongs() {
    let (_folder, service, sheave) = one(Manner::Echo, &["keepalive: {mode: Both, interval: 1s, timeout: 1s}"]).await;
    let mut client = open(sheave.ws, "echo.test/").await;
    client.send(Message::Ping("mine".into())).await;
    let (mut pings, mut answers) = (0, Vec::new());
    while pings < 2 {
        match client.next().await {
            Message::Ping(_) => pings += 1,
            Message::Pong(bytes) => answers.push(bytes),
            other => panic!("unexpected {other:?}"),
        }
    }
    let got = |seen: &[Seen], wanted: fn(&Message) -> bool| {
        seen.iter().filter(|seen| matches!(seen, Seen::Got(_, message) if wanted(message))).count()
    };
    service.sees("three pings", |seen| (got(seen, Message::is_ping) >= 3).then_some(())).await;
    client.echo("after").await;
    assert_eq!(answers, ["mine"], "the client sees the pong to its own ping only");
    assert_eq!(got(&service.seen(), Message::is_pong), 0, "the service has pinged nobody");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_pongs_is_given_up_and_the_service_told() {
    let (_folder, service, sheave) = one(Manner::Echo, &["keepalive: {mode: Client, interval: 1s, timeout: 1s}"]).await;
    let mut client = open(sheave.ws, "echo.test/").await;
    client.echo("hello").await;
    // The client is not polled any more, so it answers nothing.
    assert_eq!(service.close_code(0).await, 1001);
    sheave.metric_becomes("sheave_connections_closed_total", &[("reason", "keepalive_timeout")], 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_never_pongs_is_given_up_and_the_client_told_1014() {
    let (_folder, _service, sheave) =
        one(Manner::Deaf, &["keepalive: {mode: Backend, interval: 1s, timeout: 1s}"]).await;
    let mut client = open(sheave.ws, "echo.test/").await;
    assert_eq!(client.close_frame().await.0, 1014);
}

/// Sends and awaits echoes until the Close comes; answers the Close's code, when it came, and the messages sent.
async fn steady(mut client: Client, number: usize) -> (u16, Instant, usize) {
    let mut sent = 0;
    let mut pace = tokio::time::interval(Duration::from_millis(10));
    loop {
        pace.tick().await;
        client.say(format!("{number}: {sent}")).await;
        sent += 1;
        match client.next().await {
            Message::Text(_) => {}
            Message::Close(frame) => {
                let at = Instant::now();
                client.ended().await;
                return (frame.map_or(1005, |frame| frame.code.into()), at, sent);
            }
            other => panic!("unexpected {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_closes_every_client_with_1001_over_the_window_and_loses_no_message() {
    let (_folder, service, mut sheave) = one(Manner::Echo, &["drain: {timeout: 6s, spread: 2s}"]).await;
    let clients = many(&sheave, "echo.test/", 50).await;
    let busy: Vec<_> =
        clients.into_iter().enumerate().map(|(number, client)| tokio::spawn(steady(client, number))).collect();
    let stopped = sheave.stop();
    let (mut times, mut sent) = (Vec::new(), 50);
    for client in busy {
        let (code, at, count) = client.await.expect("no client panics");
        assert_eq!(code, 1001);
        times.push(at);
        sent += count;
    }
    within("the stop", stopped).await.expect("the stop does not panic");
    let window = *times.iter().max().expect("50") - *times.iter().min().expect("50");
    assert!(window > Duration::from_secs(1) && window < Duration::from_secs(4), "Closes came within {window:?}");
    let texts = |seen: &[Seen]| seen.iter().filter(|s| matches!(s, Seen::Got(_, m) if m.is_text())).count();
    service.sees("every message", |seen| (texts(seen) >= sent).then_some(())).await;
    assert_eq!(texts(&service.seen()), sent, "no message came twice");
    for session in 0..50 {
        assert_eq!(service.close_code(session).await, 1001);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_closes_clients_on_tls_with_1001() {
    let service = Service::echo().await;
    let made = certificate::make(&["echo.test"]);
    let spec = ["tls: {certificateRefs: [{name: cert}]}", "drain: {timeout: 5s, spread: 0s}"];
    let folder = Folder::with(&(simple("echo", service.port, &spec) + &made.secret("cert")));
    let mut sheave = Sheave::start(&folder);
    let mut client = open_tls(sheave.wss, "echo.test", &certificate::trusting(&[&made])).await;
    client.echo("hello").await;
    let stopped = sheave.stop();
    assert_eq!(client.ended().await.code, 1001);
    within("the stop", stopped).await.expect("the stop does not panic");
    assert_eq!(service.close_code(0).await, 1001);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_lets_a_begun_message_end_before_the_close() {
    let (_folder, service, mut sheave) = one(Manner::Mute, &["drain: {timeout: 8s, spread: 0s}"]).await;
    let mut client = open(sheave.ws, "echo.test/").await;
    service.sees("the session", |seen| seen.first().cloned()).await;
    let part = |text: &'static str, code, last| Message::Frame(Frame::message(text, OpCode::Data(code), last));
    service.send(0, part("one ", Data::Text, false));
    service.send(0, Message::Ping("begun".into()));
    assert_eq!(client.next().await, Message::Ping("begun".into()));
    let admin = sheave.admin;
    let stopped = sheave.stop();
    until("asked to end", || async { get(admin, "/sessions").await.1.contains("\"ending\": true").then_some(()) })
        .await;
    service.send(0, part("two", Data::Continue, true));
    assert_eq!(client.data().await, Message::text("one two"));
    assert_eq!(client.ended().await.code, 1001);
    within("the stop", stopped).await.expect("the stop does not panic");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_unready_new_clients_are_still_served() {
    let service = Service::echo().await;
    let folder = Folder::with(&simple("echo", service.port, &["drain: {timeout: 5s, spread: 0s}"]));
    let mut sheave = Sheave::start_with(&folder, |options| options.min_drain = Duration::from_secs(3));
    let admin = sheave.admin;
    let stopped = sheave.stop();
    until("not ready", || async { (get(admin, "/readyz").await.0 == 503).then_some(()) }).await;
    let mut client = open(sheave.ws, "echo.test/").await;
    client.echo("served").await;
    assert_eq!(client.ended().await.code, 1001);
    within("the stop", stopped).await.expect("the stop does not panic");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_ignores_the_close_is_cut_at_the_drain_timeout() {
    let (_folder, service, mut sheave) = one(Manner::Echo, &["drain: {timeout: 2s, spread: 0s}"]).await;
    let mut client = open(sheave.ws, "echo.test/").await;
    client.echo("hello").await;
    let since = Instant::now();
    within("the stop", sheave.stop()).await.expect("the stop does not panic");
    let took = since.elapsed();
    assert!(took > Duration::from_millis(1500) && took < Duration::from_secs(6), "gone after {took:?}");
    assert_eq!(client.close_frame().await.0, 1001, "the Close came before the cut");
    let mut rest = Vec::new();
    let _ = within("the end of the connection", client.0.get_mut().read_to_end(&mut rest)).await; // or a reset
    assert!(rest.is_empty(), "something follows the Close: {rest:?}");
    assert_eq!(service.close_code(0).await, 1001);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_rule_takes_only_its_own_sessions_with_it() {
    let echo = Service::echo().await;
    let head = "---\napiVersion: sheave.dev/v1alpha1\nkind: WebSocketRoute\nmetadata: {name: echo}\nspec:\n  \
                hostnames: [echo.test]\n  drain: {timeout: 5s, spread: 0s}\n  rules:\n";
    let rule = |name: &str| {
        format!(
            "  - {{name: {name}, matches: [{{path: {{value: /{name}}}}}], backendRefs: [{{name: echo, port: 80}}]}}\n"
        )
    };
    let folder = Folder::with(&served("echo", echo.port));
    folder.write("route.yaml", &format!("{head}{}{}", rule("going"), rule("staying")));
    let sheave = Sheave::start(&folder);
    let mut going = open(sheave.ws, "echo.test/going").await;
    let mut staying = open(sheave.ws, "echo.test/staying").await;
    going.echo("hello").await;
    staying.echo("hello").await;
    folder.write("route.yaml", &format!("{head}{}", rule("staying")));
    assert_eq!(going.ended().await.code, 1012);
    staying.echo("still here").await;
    assert_eq!(refused(sheave.ws, "echo.test/going").await, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_service_closes_the_client_with_1014() {
    let (_folder, service, sheave) = one(Manner::Echo, &[]).await;
    let mut client = open(sheave.ws, "echo.test/").await;
    client.echo("hello").await;
    service.cut();
    let (code, reason) = client.close_frame().await;
    assert_eq!(code, 1014);
    assert!(!reason.is_empty(), "a reason is told");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_client_ends_the_connection_to_the_service() {
    let (_folder, service, sheave) = one(Manner::Echo, &[]).await;
    let mut client = open(sheave.ws, "echo.test/").await;
    client.echo("hello").await;
    drop(client);
    service.sees("the end", |seen| seen.iter().find(|s| matches!(s, Seen::Gone(0, _))).cloned()).await;
    sheave.metric_becomes("sheave_connections_active", &[], 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_ready_endpoint_the_handshake_is_refused_with_503() {
    let text =
        route("echo", "echo.test", &[], &[("echo", 1)]) + &service("echo") + &slice("echo", "echo", 9, "ready: false");
    let folder = Folder::with(&text);
    let sheave = Sheave::start(&folder);
    assert_eq!(refused(sheave.ws, "echo.test/").await, 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_share_the_sessions() {
    let (heavy, light) = (Service::echo().await, Service::echo().await);
    let folder = Folder::with(
        &(route("echo", "echo.test", &[], &[("heavy", 9), ("light", 1)])
            + &served("heavy", heavy.port)
            + &served("light", light.port)),
    );
    let sheave = Sheave::start(&folder);
    for _ in 0..200 {
        open(sheave.ws, "echo.test/").await;
    }
    let (heavy, light) = (heavy.opened(), light.opened());
    assert_eq!(heavy + light, 200);
    assert!((4..=45).contains(&light), "{light} of 200 went to a tenth of the weight");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_share_of_an_invalid_backend_is_refused_with_500() {
    let echo = Service::echo().await;
    let folder =
        Folder::with(&(route("echo", "echo.test", &[], &[("echo", 1), ("missing", 1)]) + &served("echo", echo.port)));
    let sheave = Sheave::start(&folder);
    let mut refusals = 0;
    for _ in 0..60 {
        match try_open(sheave.ws, "echo.test/").await {
            Ok(_) => {}
            Err(tokio_tungstenite::tungstenite::Error::Http(answer)) => {
                assert_eq!(answer.status().as_u16(), 500);
                refusals += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!((5..=55).contains(&refusals), "{refusals} of 60 refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_holds_the_sender_back_and_then_gets_everything_in_order() {
    const COUNT: usize = 1536;
    const SIZE: usize = 64 << 10;
    let (_folder, service, sheave) = one(Manner::Mute, &[]).await;
    let mut client = open(sheave.ws, "echo.test/").await;
    service.sees("the session", |seen| seen.first().cloned()).await;
    for number in 0..COUNT {
        service.send(0, Message::binary(pattern(number, SIZE)));
    }
    let mut sent = service.sent();
    // Still for a second: the sender is held back.
    while tokio::time::timeout(Duration::from_secs(1), sent.changed()).await.is_ok() {}
    let held = usize::try_from(*sent.borrow()).expect("it fits");
    assert!(held < COUNT / 2, "{held} messages of 64 KiB were taken from the sender though nobody reads");
    for number in 0..COUNT {
        let message = client.data().await.into_data();
        assert!(message == pattern(number, SIZE), "message {number} came out of order or changed");
    }
}
