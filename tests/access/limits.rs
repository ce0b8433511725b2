//! How often and how many at a time: rates of handshakes, numbers of connections, and what the process can carry.
//!
//! A storm of reconnects is told in `storm.rs`.

use crate::living::backend::{Manner, Service};
use crate::living::client::{Client, open, try_open};
use crate::living::folder::{Folder, route, served, service, simple, slice};
use crate::living::{Sheave, get, until, within};
use sheave::app::Options;
use sheave::proxy::overload::Memory;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};

const HOST: &str = "echo.test/";

/// A folder with a route `echo` to an echo service, the service, and a Sheave.
async fn one(spec: &[&str], change: impl FnOnce(&mut Options)) -> (Folder, Service, Sheave) {
    let service = Service::echo().await;
    let folder = Folder::with(&simple("echo", service.port, spec));
    let sheave = Sheave::start_with(&folder, change);
    (folder, service, sheave)
}

/// Status and `Retry-After` of a refusal; `None` when the handshake is accepted.
fn told(opened: Result<Client, Error>) -> Option<(u16, Option<u32>)> {
    match opened {
        Ok(_) => None,
        Err(Error::Http(answer)) => {
            let wait = answer.headers().get("Retry-After").and_then(|value| value.to_str().ok()?.parse().ok());
            Some((answer.status().as_u16(), wait))
        }
        Err(error) => panic!("no answer: {error}"),
    }
}

async fn refusal(at: SocketAddr) -> Option<(u16, Option<u32>)> {
    told(try_open(at, HOST).await)
}

/// Opens with a header more.
async fn with_header(at: SocketAddr, name: &'static str, value: &str) -> Option<(u16, Option<u32>)> {
    let mut request = format!("ws://{HOST}").into_client_request().expect("a URL");
    request.headers_mut().insert(name, value.parse().expect("a header"));
    let stream = TcpStream::connect(at).await.expect("it listens");
    let opened = within("opening handshake", tokio_tungstenite::client_async(request, stream)).await;
    match opened {
        Ok(_) => None,
        Err(Error::Http(answer)) => {
            let wait = answer.headers().get("Retry-After").and_then(|value| value.to_str().ok()?.parse().ok());
            Some((answer.status().as_u16(), wait))
        }
        Err(error) => panic!("no answer: {error}"),
    }
}

/// Asserts that it is refused with `status` and a `Retry-After` from 1 to `longest`.
#[track_caller]
fn assert_refused(told: Option<(u16, Option<u32>)>, status: u16, longest: u32) {
    let Some((got, Some(wait))) = told else { panic!("{told:?} is no refusal that says when to come back") };
    assert_eq!(got, status);
    assert!((1..=longest).contains(&wait), "Retry-After: {wait}");
}

/// Waits until a handshake is accepted, and gives the client.
async fn opens(at: SocketAddr, what: &str) -> Client {
    until(what, || async { try_open(at, HOST).await.ok() }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_above_its_rate_gets_429_and_reaches_no_backend() {
    let rate = "rateLimit: {handshakes: {limit: 2, unit: Minute, key: ClientIP}}";
    let (_folder, service, sheave) = one(&[rate], |_| {}).await;
    assert_eq!([refusal(sheave.ws).await, refusal(sheave.ws).await], [None, None]);
    let (status, wait) = refusal(sheave.ws).await.expect("two a minute are allowed");
    assert_eq!(status, 429);
    assert!(wait.is_some_and(|wait| (25..=30).contains(&wait)), "one comes back each 30 s, not after {wait:?}");
    assert_eq!(service.opened(), 2);
    let labels = [("route", "echo"), ("reason", "rate_limited"), ("outcome", "rejected")];
    assert_eq!(sheave.metric("sheave_handshakes_total", &labels).await, Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_by_header_counts_each_value_and_those_without_by_address() {
    let rate = "rateLimit: {handshakes: {limit: 1, unit: Hour, key: Header, header: X-Tenant}}";
    let (_folder, _service, sheave) = one(&[rate], |_| {}).await;
    for tenant in ["red", "blue"] {
        assert_eq!(with_header(sheave.ws, "x-tenant", tenant).await, None);
        assert_refused(with_header(sheave.ws, "x-tenant", tenant).await, 429, 3600);
    }
    assert_eq!(refusal(sheave.ws).await, None);
    assert_refused(refusal(sheave.ws).await, 429, 3600);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_by_consumer_counts_nameless_clients_by_address() {
    let rate = "rateLimit: {handshakes: {limit: 1, unit: Hour, key: Consumer}}";
    let (_folder, _service, sheave) = one(&[rate], |_| {}).await;
    assert_eq!(refusal(sheave.ws).await, None);
    assert_refused(refusal(sheave.ws).await, 429, 3600);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_by_route_counts_all_together_and_another_route_for_itself() {
    let service = Service::echo().await;
    let rate = "rateLimit: {handshakes: {limit: 1, unit: Hour, key: Route}}";
    let folder = Folder::with(&(simple("echo", service.port, &[rate]) + &simple("other", service.port, &[rate])));
    let sheave = Sheave::start(&folder);
    assert_eq!(with_header(sheave.ws, "x-tenant", "red").await, None);
    assert_refused(with_header(sheave.ws, "x-tenant", "blue").await, 429, 3600);
    assert_eq!(told(try_open(sheave.ws, "other.test/").await), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_rate_applies_at_once() {
    let rate =
        |limit: u32, unit: &str| format!("rateLimit: {{handshakes: {{limit: {limit}, unit: {unit}, key: Route}}}}");
    let (folder, service, sheave) = one(&[&rate(1, "Hour")], |_| {}).await;
    assert_eq!(refusal(sheave.ws).await, None);
    assert_refused(refusal(sheave.ws).await, 429, 3600);
    folder.write("all.yaml", &simple("echo", service.port, &[&rate(100, "Second")]));
    // The client that waits for an hour under the old rate waits for a hundredth of a second under the new one.
    opens(sheave.ws, "a handshake under the new rate").await;
}

const ONE_EACH: &str = "connectionLimit: {maxConnectionsPerClientIP: 1}";
const ONE: &str = "connectionLimit: {maxConnections: 1}";

#[tokio::test(flavor = "multi_thread")]
async fn an_address_with_all_it_may_have_gets_429() {
    let (_folder, service, sheave) = one(&[ONE_EACH], |_| {}).await;
    let mut held = open(sheave.ws, HOST).await;
    assert_refused(refusal(sheave.ws).await, 429, 10);
    held.echo("still here").await;
    assert_eq!(service.opened(), 1);
    let labels = [("route", "echo"), ("reason", "connection_limit")];
    assert_eq!(sheave.metric("sheave_handshakes_total", &labels).await, Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_comes_back_whatever_ends_the_session() {
    let (_folder, service, sheave) = one(&[ONE], |_| {}).await;

    let held = open(sheave.ws, HOST).await;
    assert_refused(refusal(sheave.ws).await, 503, 10);
    held.close(1000).await;
    let held = opens(sheave.ws, "a slot after a Close").await;

    assert_refused(refusal(sheave.ws).await, 503, 10);
    drop(held);
    let held = opens(sheave.ws, "a slot after the client has gone without a word").await;

    assert_refused(refusal(sheave.ws).await, 503, 10);
    service.cut();
    let held_anew = opens(sheave.ws, "a slot after the backend has gone without a word").await;
    drop((held, held_anew));
    opens(sheave.ws, "a slot at last").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_comes_back_when_the_backend_refuses_or_is_not_there() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("the loopback has a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let refusing = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 4096];
            let _ = stream.read(&mut head).await;
            let _ = stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").await;
        }
    });
    let folder = Folder::with(&simple("echo", port, &[ONE]));
    let sheave = Sheave::start(&folder);
    // A slot that stays taken would make the second a 503; a moment passes until the first has left the register.
    let becomes = async |what: &str, status: u16| {
        until(what, || async { (refusal(sheave.ws).await?.0 == status).then_some(()) }).await;
    };
    for _ in 0..3 {
        becomes("the backend's own refusal", 403).await;
    }
    refusing.abort();
    assert!(refusing.await.is_err(), "it listens until it is stopped");
    for _ in 0..3 {
        becomes("the answer of a backend that is not there", 502).await;
    }
    let service = Service::echo().await;
    folder.write("all.yaml", &simple("echo", service.port, &[ONE]));
    opens(sheave.ws, "a slot for a backend that is there").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bound_set_later_counts_the_sessions_that_are_there() {
    let (folder, service, sheave) = one(&[], |_| {}).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(open(sheave.ws, HOST).await);
    }
    folder.write("all.yaml", &simple("echo", service.port, &["connectionLimit: {maxConnections: 3}"]));
    until("the bound", || async { refusal(sheave.ws).await.filter(|(status, _)| *status == 503) }).await;
    for client in &mut held {
        client.echo("a bound ends nobody").await;
    }
    held.pop().expect("three are held").close(1000).await;
    held.push(opens(sheave.ws, "the slot of one that was counted late").await);
    assert_refused(refusal(sheave.ws).await, 503, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bound_counts_across_an_edit_of_its_route() {
    let (folder, service, sheave) = one(&[ONE], |_| {}).await;
    let _held = open(sheave.ws, HOST).await;
    folder.write("all.yaml", &simple("echo", service.port, &[ONE, "timeouts: {idle: 77s}"]));
    sheave.metric_becomes("sheave_config_generation", &[], 2.0).await;
    assert_refused(refusal(sheave.ws).await, 503, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn full_endpoints_are_passed_over_and_when_all_are_full_clients_get_503() {
    let (one, other) = (Service::echo().await, Service::start(Manner::Echo).await);
    let limit = "connectionLimit: {maxConnectionsPerEndpoint: 2}";
    let folder = Folder::with(
        &(route("echo", "echo.test", &[limit], &[("echo", 1)])
            + &service("echo")
            + &slice("echo", "one", one.port, "ready: true")
            + &slice("echo", "other", other.port, "ready: true")),
    );
    let sheave = Sheave::start(&folder);
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(open(sheave.ws, HOST).await);
    }
    assert_eq!([one.opened(), other.opened()], [2, 2]);
    assert_refused(refusal(sheave.ws).await, 503, 10);
    let labels = [("route", "echo"), ("reason", "connection_limit")];
    assert_eq!(sheave.metric("sheave_handshakes_total", &labels).await, Some(1.0));
    held.swap_remove(1).close(1000).await;
    held.push(opens(sheave.ws, "the place that came back").await);
    assert_refused(refusal(sheave.ws).await, 503, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_process_refuses_what_is_new_keeps_what_lives_and_stays_ready() {
    let (_folder, service, sheave) = one(&[], |options| options.bounds.max_connections = Some(2)).await;
    let mut first = open(sheave.ws, HOST).await;
    let second = open(sheave.ws, HOST).await;
    assert_refused(refusal(sheave.ws).await, 503, 30);
    assert_eq!(service.opened(), 2);
    first.echo("still here").await;
    let full = [("cause", "connections")];
    sheave.metric_becomes("sheave_overload", &full, 1.0).await;
    assert_eq!(sheave.metric("sheave_overload_refused_total", &full).await, Some(1.0));
    let labels = [("route", "echo"), ("reason", "overloaded"), ("outcome", "failed")];
    assert_eq!(sheave.metric("sheave_handshakes_total", &labels).await, Some(1.0));
    assert_eq!(get(sheave.admin, "/readyz").await.0, 200, "a full pod that left its Service would fill the others");
    second.close(1000).await;
    opens(sheave.ws, "a place that came back").await;
    sheave.metric_becomes("sheave_overload", &full, 0.0).await;
}

/// What the memory of the test below is said to be, of 1000.
static USED: AtomicU64 = AtomicU64::new(0);

#[tokio::test(flavor = "multi_thread")]
async fn while_memory_is_near_its_bound_new_handshakes_get_503_and_sessions_go_on() {
    let probe = || Some(Memory { used: USED.load(Ordering::Relaxed), bound: 1000 });
    let (_folder, _service, sheave) = one(&[], |options| options.bounds.memory = probe).await;
    let mut held = open(sheave.ws, HOST).await;
    USED.store(901, Ordering::Relaxed);
    let low = [("cause", "memory")];
    sheave.metric_becomes("sheave_overload", &low, 1.0).await;
    assert_refused(refusal(sheave.ws).await, 503, 30);
    held.echo("still here").await;
    assert_eq!(get(sheave.admin, "/readyz").await.0, 200);
    USED.store(900, Ordering::Relaxed);
    sheave.metric_becomes("sheave_overload", &low, 0.0).await;
    open(sheave.ws, HOST).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bound_on_memory_can_be_left_out() {
    let (_folder, _service, sheave) = one(&[], |options| {
        options.bounds.memory = || Some(Memory { used: 1000, bound: 1000 });
        options.bounds.max_memory_percent = 0;
    })
    .await;
    sheave.metric_becomes("sheave_overload", &[("cause", "memory")], 0.0).await;
    open(sheave.ws, HOST).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_descriptors_are_given_to_nobody() {
    // This process has more than one open already: each connection takes one beyond the bound.
    let (_folder, service, sheave) = one(&[], |options| options.bounds.descriptors = Some(1)).await;
    let mut stream = TcpStream::connect(sheave.ws).await.expect("the kernel accepts");
    let mut answer = Vec::new();
    let _reset = within("the end of the connection", stream.read_to_end(&mut answer)).await;
    assert_eq!((answer.len(), service.opened()), (0, 0));
    let out = [("cause", "descriptors")];
    sheave.metric_becomes("sheave_overload_refused_total", &out, 1.0).await;
    sheave.metric_becomes("sheave_overload", &out, 1.0).await;
    assert_eq!(get(sheave.admin, "/readyz").await.0, 200, "operators are still served");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_line_of_waiting_handshakes_refuses_the_next_one() {
    let (_folder, service, sheave) = one(&["timeouts: {handshake: 2s}"], |options| {
        options.bounds.handshakes_per_second = Some(1);
        options.bounds.handshake_queue = 1;
    })
    .await;
    let at = sheave.ws;
    // One goes on at once. Of the rest one waits and has its turn after a second, the others find the line full.
    let asked: Vec<_> = (0..6).map(|_| tokio::spawn(async move { refusal(at).await })).collect();
    let mut accepted = 0;
    for one in asked {
        match one.await.expect("no panic") {
            None => accepted += 1,
            refused => assert_refused(refused, 503, 30),
        }
    }
    assert!((2..=3).contains(&accepted), "{accepted} were accepted");
    assert_eq!(service.opened(), accepted);
    let refused = sheave.metric("sheave_overload_refused_total", &[("cause", "queue")]).await;
    assert_eq!(refused, Some(6.0 - f64::from(u32::try_from(accepted).expect("few"))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_whose_turn_does_not_come_in_time_gets_503_in_time() {
    let (_folder, service, sheave) = one(&["timeouts: {handshake: 500ms}"], |options| {
        options.bounds.handshakes_per_second = Some(1);
    })
    .await;
    let at = sheave.ws;
    let asked: Vec<_> = (0..5).map(|_| tokio::spawn(async move { refusal(at).await })).collect();
    let mut refused = 0;
    for one in asked {
        if let Some(told) = one.await.expect("no panic") {
            assert_refused(Some(told), 503, 30);
            refused += 1;
        }
    }
    assert!(refused >= 3, "{refused} were refused");
    assert_eq!(service.opened(), 5 - refused);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_left_the_line_costs_no_turn_and_reaches_no_backend() {
    let (_folder, service, sheave) = one(&[], |options| options.bounds.handshakes_per_second = Some(1)).await;
    drop(open(sheave.ws, HOST).await);
    for _ in 0..20 {
        let mut stream = TcpStream::connect(sheave.ws).await.expect("it listens");
        let head = "GET / HTTP/1.1\r\nHost: echo.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        stream.write_all(head.as_bytes()).await.expect("it can be sent");
        stream.shutdown().await.expect("it can be closed");
    }
    // With a turn for each of the 20 this would take 20 s, and run out of time.
    let mut last = opens(sheave.ws, "the turn of one who waits").await;
    last.send(Message::text("here")).await;
    assert_eq!(last.data().await, Message::text("here"));
    assert_eq!(service.opened(), 2);
    let labels = [("route", "echo"), ("reason", "client_gone")];
    sheave.metric_becomes("sheave_handshakes_total", &labels, 20.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_anyway_waits_in_no_line() {
    let service = Service::echo().await;
    let rate = "rateLimit: {handshakes: {limit: 1, unit: Hour, key: Route}}";
    let folder = Folder::with(&(simple("echo", service.port, &[rate]) + &served("other", service.port)));
    let sheave = Sheave::start_with(&folder, |options| {
        options.bounds.handshakes_per_second = Some(1);
        options.bounds.handshake_queue = 0;
    });
    assert_eq!(refusal(sheave.ws).await, None);
    for _ in 0..5 {
        assert_refused(refusal(sheave.ws).await, 429, 3600);
        assert_eq!(told(try_open(sheave.ws, "nowhere.test/").await), Some((404, None)));
    }
}
