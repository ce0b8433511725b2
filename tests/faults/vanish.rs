//! A peer vanishes without a word: no FIN, no RST, nothing comes from it any more.

use crate::support::{FIN, PING, PONG, close, masked};
use crate::world::{Launch, World, echo};
use serde_json::json;
use std::time::{Duration, Instant};

/// An interval, a tenth of it, the wait for the pong, the wait for the Close, and last words.
const GIVEN_UP: Duration = Duration::from_millis(1000 + 100 + 1000 + 1000 + 100);
/// What a busy machine may add.
const SLACK: Duration = Duration::from_secs(3);

#[test]
#[ignore = "needs network namespaces: make faults"]
fn a_client_that_vanishes_is_given_up_by_keepalive_and_its_backend_told() {
    let (world, service) = World::serving("keepalive: {mode: Client, interval: 1s, timeout: 1s}", &Launch::default());
    let (client, mut upstream) = world.open_on(&service);
    world.client.ip("link set edge down");
    let began = Instant::now();
    assert_eq!(upstream.frame().close(), Some((1001, "client does not answer ping".to_owned())));
    upstream.send(close(1001, ""));
    upstream.finish();
    let record = world.until_some("the record", || world.records("close").pop());
    assert!(began.elapsed() < GIVEN_UP + SLACK, "after {:?}", began.elapsed());
    let told = json!([record["reason"], record["initiator"], record["code"], record["forced"]]);
    assert_eq!(told, json!(["keepalive_timeout", "client", 1001, true]));
    let labels = [("reason", "keepalive_timeout"), ("initiator", "client")];
    world.metric_becomes("sheave_connections_closed_total", &labels, 1.0);
    world.live(0);
    drop(client);

    world.client.ip("link set edge up");
    let (_client, _upstream) = world.open_on(&service);
    world.live(1);
}

#[test]
#[ignore = "needs network namespaces: make faults"]
fn a_backend_that_vanishes_is_given_up_by_keepalive_and_its_client_told() {
    let spec = "keepalive: {mode: Backend, interval: 1s, timeout: 1s}\ntimeouts: {close: 1s, backendConnect: 1s}";
    let world = World::echoing(spec, &Launch::default());
    let mut client = world.open();
    echo(&mut client, b"hello");
    world.backend.iptables("-A INPUT -i rear -j DROP");
    let began = Instant::now();
    assert_eq!(client.frame().close(), Some((1014, "backend does not answer ping".to_owned())));
    assert!(began.elapsed() < GIVEN_UP + SLACK, "after {:?}", began.elapsed());
    client.send(masked(FIN | 8, &1014_u16.to_be_bytes()));
    assert_eq!(client.rest(), b"", "a FIN follows");
    client.finish();
    let record = world.until_some("the record", || world.records("close").pop());
    let told = json!([record["reason"], record["initiator"], record["code"]]);
    assert_eq!(told, json!(["keepalive_timeout", "backend", 1014]));

    let answer = world.offer("").answer();
    assert_eq!(answer.head.status(), 504, "{answer:?}");
    assert_eq!(answer.body, "the service could not be reached in time; try again\n");
    assert_eq!(world.records("reject")[0]["reason"], "backend_timeout");
    world.live(0);
    world.backend.iptables("-F INPUT");
    world.recovers(0);
}

/// Without keepalive it is the system that notices, by what is not acknowledged, where the route bounds a slow consumer.
#[test]
#[ignore = "needs network namespaces: make faults"]
fn a_client_that_vanishes_while_it_is_sent_to_is_given_up_after_half_a_minute() {
    let (world, service) = World::serving("messages: {slowConsumer: {timeout: 1s}}", &Launch::default());
    let (client, mut upstream) = world.open_on(&service);
    world.client.ip("link set edge down");
    let began = Instant::now();
    upstream.send(crate::support::frame(FIN | PING, b"are you there?"));
    upstream.wait_at_most(Duration::from_secs(45));
    assert_eq!(upstream.rest(), b"", "the end of the stream, and no Close that nobody sent");
    assert!(began.elapsed() > Duration::from_secs(25), "after {:?}", began.elapsed());
    drop(upstream);
    let record = world.until_some("the record", || world.records("close").pop());
    assert_eq!(json!([record["reason"], record["initiator"], record["code"]]), json!(["client_reset", "client", null]));
    world.live(0);
    drop(client);

    world.client.ip("link set edge up");
    let (mut client, mut upstream) = world.open_on(&service);
    client.send(masked(FIN | PONG, b""));
    assert_eq!(upstream.frame().first, FIN | PONG);
    world.live(1);
}
