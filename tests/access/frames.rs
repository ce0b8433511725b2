//! How much a client may send: messages, bytes and control frames in a time, of a session and of a consumer.
//!
//! Both ends are raw, so that a test decides every byte and sees when it comes.

use crate::living::folder::{Folder, route, served};
use crate::living::{CEILING, Sheave};
use crate::support::{FIN, Harness, PING, PONG, Service, TEXT, Wire, close, close_body, frame, masked};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A service, and a Sheave with a route to it of this `rateLimit`.
struct World {
    service: Service,
    sheave: Sheave,
    _folder: Folder,
}

impl World {
    fn new(spec: &[&str]) -> Self {
        let service = Service::start();
        let spec = [spec, &["timeouts: {close: 1s}", "drain: {timeout: 1s, spread: 0s}"]].concat();
        let text = route("chat", "chat.example.com", &spec, &[("chat", 1)]) + &served("chat", service.address.port());
        let folder = Folder::with(&text);
        let sheave = Sheave::start(&folder);
        Self { service, sheave, _folder: folder }
    }

    fn open(&self) -> (Wire, Wire) {
        Harness::open_on(Wire::connect(self.sheave.ws), &self.service, "", "")
    }
}

/// Has a client send `frame` again and again until it is told not to, or `times` times.
fn flood(client: &Wire, frame: Vec<u8>, times: usize) -> JoinHandle<()> {
    let mut client = client.again();
    std::thread::spawn(move || {
        let batch = 50.min(times);
        let bytes = frame.repeat(batch);
        for _ in 0..times / batch {
            if client.try_send(&bytes).is_err() {
                return; // it was held back for as long as a test takes, or closed
            }
        }
    })
}

/// Takes `count` frames of `size` bytes, and says how long that took.
fn time(upstream: &mut Wire, count: usize, size: usize) -> Duration {
    let start = Instant::now();
    for _ in 0..count {
        upstream.take(size);
    }
    start.elapsed()
}

/// Expects a burst of 10 at once and then 50 a second for two seconds.
fn fifty_a_second(what: &str, upstream: &mut Wire, size: usize) {
    let burst = time(upstream, 10, size);
    assert!(burst < Duration::from_secs(1), "{what}: the burst took {burst:?}");
    let paced = time(upstream, 100, size);
    assert!(paced > Duration::from_millis(1_900), "{what}: 100 took {paced:?} only");
    assert!(paced < Duration::from_secs(4), "{what}: 100 took {paced:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_over_its_rate_is_read_at_its_rate_and_its_neighbour_is_not() {
    let message = masked(FIN | TEXT, b"message");
    let long = masked(FIN | TEXT, &[b'x'; 1000]);
    let ping = masked(FIN | PING, b"");
    for (what, spec, frame) in [
        ("messages", "rateLimit: {messages: {limit: 50, burst: 10}}", message),
        ("messages by the minute", "rateLimit: {messages: {limit: 3000, unit: Minute, burst: 10}}", long.clone()),
        ("bytes", "rateLimit: {bytes: {limit: 50400, burst: 10080}}", long),
        ("control frames", "rateLimit: {controlFrames: {limit: 50, burst: 10}}", ping),
    ] {
        let world = World::new(&[spec]);
        let (client, mut upstream) = world.open();
        let (mut other, mut others) = world.open();
        let flooding = flood(&client, frame.clone(), 100_000);
        fifty_a_second(what, &mut upstream, frame.len());
        other.send(frame.repeat(10));
        let neighbour = time(&mut others, 10, frame.len());
        assert!(neighbour < Duration::from_secs(1), "{what}: a neighbour waits for {neighbour:?}");
        let throttled = world.sheave.metric("sheave_throttled_seconds_total", &[("route", "chat")]).await;
        assert!(throttled.is_some_and(|seconds| seconds > 1.0), "{what}: {throttled:?} s of it are told");
        upstream.reset();
        flooding.join().expect("the flood ends");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_back_comes_whole_and_in_order() {
    let world = World::new(&["rateLimit: {messages: {limit: 200, burst: 1}, bytes: {limit: 100000, burst: 1000}}"]);
    let (mut client, mut upstream) = world.open();
    let frames: Vec<u8> = (0..200_usize)
        .flat_map(|number| masked(FIN | TEXT, format!("{number:>width$}", width = 3 + number * 3).as_bytes()))
        .collect();
    // In pieces that end anywhere, a header's middle included.
    for piece in frames.chunks(977) {
        client.send(piece);
    }
    assert!(upstream.take(frames.len()) == frames, "it came changed");
    client.send(masked(FIN | 8, &close_body(1000, "")));
    assert_eq!(upstream.frame().close(), Some((1000, String::new())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_counts_once_however_many_its_fragments_and_pings_are_no_messages() {
    let world = World::new(&["rateLimit: {messages: {limit: 1, unit: Hour, burst: 10}}"]);
    let (mut client, mut upstream) = world.open();
    let message: Vec<u8> =
        [masked(TEXT, b"a"), masked(FIN | PING, b"between"), masked(0, b"b"), masked(FIN, b"c")].concat();
    client.send(message.repeat(10));
    assert_eq!(upstream.take(10 * message.len()), message.repeat(10));
    client.send(masked(FIN | TEXT, b"one more"));
    assert!(upstream.is_quiet(Duration::from_millis(300)), "the eleventh message passed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_close_is_never_held_back_for_its_own_sake() {
    let world =
        World::new(&["rateLimit: {controlFrames: {limit: 1, unit: Hour, burst: 1}, bytes: {limit: 50, burst: 50}}"]);
    let (mut client, mut upstream) = world.open();
    let bytes = [masked(FIN | PING, &[7; 100]), masked(FIN | 8, &close_body(1000, "that is all"))].concat();
    client.send(&bytes);
    assert_eq!(upstream.take(bytes.len()), bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn pongs_to_our_own_pings_do_not_count() {
    let world = World::new(&[
        "rateLimit: {controlFrames: {limit: 1, unit: Hour, burst: 1}}",
        "keepalive: {mode: Client, interval: 1s, timeout: 1s}",
    ]);
    let (mut client, mut upstream) = world.open();
    for _ in 0..3 {
        let ping = client.frame();
        assert_eq!(ping.first, FIN | PING, "{ping:?}");
        client.send(masked(FIN | PONG, &ping.payload));
    }
    client.send(masked(FIN | PING, b"mine"));
    assert_eq!(upstream.frame().first, FIN | PING);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_held_back_is_not_taken_for_dead() {
    let world = World::new(&[
        "rateLimit: {messages: {limit: 1, unit: Hour, burst: 1}}",
        "keepalive: {mode: Client, interval: 1s, timeout: 1s}",
    ]);
    let (mut client, mut upstream) = world.open();
    client.send(masked(FIN | TEXT, b"x").repeat(2));
    upstream.frame();
    let ping = client.frame();
    client.send(masked(FIN | PONG, &ping.payload)); // behind what is held back: it cannot be heard
    assert!(client.is_quiet(Duration::from_secs(4)), "it was sent something more");
    upstream.send(frame(FIN | TEXT, b"still there"));
    assert_eq!(client.frame().payload, b"still there");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_close_a_client_that_goes_on_is_told_1008_and_counted() {
    for spec in [
        "rateLimit: {messages: {limit: 50, burst: 10}, onExceed: Close}",
        "rateLimit: {bytes: {limit: 2000, burst: 100}, onExceed: Close}",
    ] {
        let world = World::new(&[spec]);
        let (mut client, mut upstream) = world.open();
        let start = Instant::now();
        let flooding = flood(&client, masked(FIN | TEXT, b"message"), 100_000);
        let told = client.frame();
        assert!(start.elapsed() > Duration::from_millis(900), "held back for {:?} only", start.elapsed());
        assert_eq!(told.close(), Some((1008, "rate limit exceeded".to_owned())), "{told:?}");
        loop {
            let next = upstream.frame();
            if let Some((code, reason)) = next.close() {
                assert_eq!(code, 1001, "the service did nothing wrong: {reason}");
                break;
            }
        }
        upstream.send(close(1000, ""));
        flooding.join().expect("the flood ends");
        let labels = [("reason", "rate_limited"), ("initiator", "client"), ("route", "chat")];
        world.sheave.metric_becomes("sheave_connections_closed_total", &labels, 1.0).await;
        world.sheave.metric_becomes("sheave_close_code_total", &[("code", "1008")], 1.0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_close_a_client_that_stops_in_time_stays() {
    let world = World::new(&["rateLimit: {messages: {limit: 50, burst: 5}, onExceed: Close}"]);
    let (mut client, mut upstream) = world.open();
    let message = masked(FIN | TEXT, b"message");
    for _ in 0..4 {
        // 20 are over the burst: less than half a second.
        client.send(message.repeat(25));
        upstream.take(25 * message.len());
        // Time for the burst to come back, in which nothing waits.
        assert!(client.is_quiet(Duration::from_millis(200)), "it was told something");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_limit_nothing_is_held_back() {
    let world = World::new(&["rateLimit: {perConsumer: {messages: {limit: 1, unit: Hour}}, onExceed: Close}"]);
    let (client, mut upstream) = world.open();
    let message = masked(FIN | TEXT, b"message");
    let flooding = flood(&client, message.clone(), 50_000);
    let took = time(&mut upstream, 50_000, message.len());
    assert!(took < CEILING, "a nameless client has no consumer's limit, and yet it took {took:?}");
    flooding.join().expect("the flood ends");
    assert_eq!(world.sheave.metric("sheave_throttled_seconds_total", &[]).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_one_consumer_share_its_rate() {
    let service = Service::start();
    let spec = [
        "timeouts: {close: 1s}",
        "authentication: {providers: [{name: keys, type: APIKey, apiKey: {credentialRefs: [{name: keys}]}, \
         extractFrom: [{type: Header, name: X-Key}]}]}",
        "rateLimit: {perConsumer: {messages: {limit: 50, burst: 10}}}",
    ];
    let keys =
        "---\napiVersion: v1\nkind: Secret\nmetadata: {name: keys}\nstringData: {one: key-of-one, two: key-of-two}\n";
    let text =
        route("chat", "chat.example.com", &spec, &[("chat", 1)]) + &served("chat", service.address.port()) + keys;
    let folder = Folder::with(&text);
    let sheave = Sheave::start(&folder);
    let open = |key: &str| Harness::open_on(Wire::connect(sheave.ws), &service, &format!("X-Key: {key}"), "");
    let message = masked(FIN | TEXT, b"message");
    let start = Instant::now();
    let mut taken = Vec::new();
    for _ in 0..2 {
        let (client, mut upstream) = open("key-of-one");
        let (flooding, size) = (flood(&client, message.clone(), 100_000), message.len());
        let taking = std::thread::spawn(move || {
            time(&mut upstream, 50, size);
            start.elapsed()
        });
        taken.push((client, flooding, taking));
    }
    let (mut other, mut others) = open("key-of-two");
    other.send(message.repeat(10));
    assert!(time(&mut others, 10, message.len()) < Duration::from_secs(1), "another consumer has its own");
    for (client, flooding, taking) in taken {
        let took = taking.join().expect("each gets its share");
        assert!(took > Duration::from_millis(1_500) && took < Duration::from_secs(4), "50 of 100 took {took:?}");
        client.reset();
        flooding.join().expect("the flood ends");
    }
}
