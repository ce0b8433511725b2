//! Sides that take nothing: how much is held for them, for how long, and what is said of it.

use crate::living::folder::{Folder, route, served};
use crate::living::{Sheave, until};
use crate::support::{BINARY, FIN, Harness, Service, Wire, close_body, frame, masked};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const MIB: usize = 1 << 20;

struct World {
    service: Service,
    sheave: Sheave,
    _folder: Folder,
}

impl World {
    fn new(messages: &str) -> Self {
        let service = Service::start();
        let messages = format!("messages: {messages}");
        let spec = [&*messages, "timeouts: {close: 1s}", "drain: {timeout: 1s, spread: 0s}"];
        let text = route("chat", "chat.example.com", &spec, &[("chat", 1)]) + &served("chat", service.address.port());
        let folder = Folder::with(&text);
        let sheave = Sheave::start(&folder);
        Self { service, sheave, _folder: folder }
    }

    fn open(&self, tls: bool) -> (Wire, Wire) {
        let client = if tls { Wire::connect_tls(self.sheave.wss) } else { Wire::connect(self.sheave.ws) };
        Harness::open_on(client, &self.service, "", "")
    }

    async fn ended(&self, reason: &str, initiator: &str) {
        let labels = [("reason", reason), ("initiator", initiator), ("route", "chat")];
        self.sheave.metric_becomes("sheave_connections_closed_total", &labels, 1.0).await;
    }

    /// Seconds for which a direction was blocked.
    async fn blocked(&self, direction: &str) -> f64 {
        let labels = [("direction", direction), ("route", "chat")];
        self.sheave.metric("sheave_blocked_seconds_total", &labels).await.expect("it is told of every rule")
    }
}

/// Sends messages of 64 KiB until the other side takes no more within its deadline, or `most` bytes are
/// sent; gives how many bytes were.
fn pour(side: &Wire, message: Vec<u8>, most: usize) -> JoinHandle<usize> {
    let mut side = side.again();
    std::thread::spawn(move || {
        let mut sent = 0;
        while sent < most && side.try_send(&message).is_ok() {
            sent += message.len();
        }
        sent
    })
}

fn from_the_service() -> Vec<u8> {
    frame(FIN | BINARY, &vec![9; 65_000])
}

fn from_the_client() -> Vec<u8> {
    masked(FIN | BINARY, &vec![9; 65_000])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_nothing_is_cut_and_its_service_told_why() {
    for tls in [false, true] {
        let world = World::new("{slowConsumer: {timeout: 1s}}");
        let (client, mut upstream) = world.open(tls);
        let start = Instant::now();
        let pouring = pour(&upstream, from_the_service(), usize::MAX);
        assert_eq!(upstream.frame().close(), Some((1001, "client takes no data".to_owned())));
        assert!(start.elapsed() >= Duration::from_secs(1), "cut after {:?}", start.elapsed());
        world.ended("slow_consumer", "client").await;
        assert!(world.blocked("out").await >= 1.0, "TLS {tls}: the wait is told");
        upstream.reset();
        pouring.join().expect("it ends");
        drop(client);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_takes_nothing_is_cut_and_its_client_asked_to_come_again() {
    let world = World::new("{slowConsumer: {timeout: 1s, action: Close}}");
    let (mut client, upstream) = world.open(false);
    let pouring = pour(&client, from_the_client(), usize::MAX);
    assert_eq!(client.frame().close(), Some((1013, "backend takes no data, try again later".to_owned())));
    world.ended("slow_consumer", "backend").await;
    assert!(world.blocked("in").await >= 1.0, "the wait is told");
    client.reset();
    pouring.join().expect("it ends");
    drop(upstream);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_slow_service_was_given_up_can_close_properly() {
    let world = World::new("{slowConsumer: {timeout: 1s}}");
    let (mut client, upstream) = world.open(false);
    // As much as fills the way, and no more: then the client waits.
    let pouring = pour(&client, from_the_client(), 16 * MIB);
    let told = client.frame();
    assert_eq!(told.close().map(|(code, _)| code), Some(1013), "{told:?}");
    pouring.join().expect("what it sends is taken and dropped");
    client.send(masked(FIN | 8, &close_body(1013, "")));
    assert_eq!(client.rest(), b"", "the connection ends with a FIN");
    drop(upstream);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_side_that_takes_a_little_now_and_then_stays() {
    for tls in [false, true] {
        let world = World::new("{slowConsumer: {timeout: 1s}}");
        let (mut client, upstream) = world.open(tls);
        let message = from_the_service();
        let pouring = pour(&upstream, message.clone(), 64 * MIB);
        let start = Instant::now();
        // A MiB each 200 ms: a twentieth of the whole before it would be cut.
        while start.elapsed() < Duration::from_secs(4) {
            for _ in 0..16 {
                assert!(client.take(message.len()) == message, "TLS {tls}");
            }
            tokio::time::sleep(Duration::from_millis(200)).await; // how slow it is
        }
        client.reset();
        let _ = pouring.join();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_nothing_costs_its_buffer_and_no_more() {
    // At once: until the kernel's buffers on the way are really full takes half a minute.
    let each = [(4096, false), (4096, true), (65_536, false), (16 * MIB, false)].map(|(buffer, tls)| {
        tokio::spawn(async move {
            let world = World::new(&format!("{{bufferLimitBytes: {buffer}}}"));
            let (mut client, upstream) = world.open(tls);
            let message = from_the_service();
            upstream.wait_at_most(Duration::from_secs(3)); // without any byte taken: then the way is full
            let pouring = pour(&upstream, message.clone(), 100 * MIB);
            let sent = tokio::task::spawn_blocking(|| pouring.join().expect("it ends")).await.expect("it ends");
            // The rest is the kernel's, whose buffers on the way are a few MiB each.
            assert!(sent < buffer + 40 * MIB, "{sent} bytes were taken from a service whose client takes none");
            let blocked = world.blocked("out").await;
            until("blocked time grows while it lasts", || async {
                (world.blocked("out").await > blocked + 0.05).then_some(())
            })
            .await;
            assert!(client.take(message.len()) == message, "and nothing of it is lost");
            client.reset();
            (buffer, sent)
        })
    });
    let mut sent = Vec::new();
    for one in each {
        sent.push(one.await.expect("no assertion of it failed"));
    }
    let least = sent.iter().map(|(_, sent)| *sent).min().expect("there are some");
    for (buffer, sent) in sent.into_iter().filter(|(buffer, _)| *buffer >= MIB) {
        assert!(sent > least + buffer / 2, "{sent} bytes were taken, {least} with a small buffer");
    }
}
