//! A socket buffer is full: its owner has stopped reading while the other side goes on sending.

use crate::support::{BINARY, FIN, Wire, frame, masked};
use crate::world::{CEILING, Launch, World};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const STALLED: usize = 20;
const KIB: usize = 1 << 10;
const SPEC: &str = "messages: {bufferLimitBytes: 65536, slowConsumer: {timeout: 3s}}";
/// What the proxy may hold for a stalled session: its buffer, grown by doubling.
const HELD: usize = 128 * KIB;
/// What else a process may take meanwhile.
const REST: usize = 16 * KIB * KIB;

/// More than the kernel's buffers of the receiver and the proxy's own can hold.
const POURED: usize = 4 * KIB * KIB;

/// Sends more than the way can hold.
fn pour(side: &Wire, message: Vec<u8>) -> JoinHandle<()> {
    let mut side = side.again();
    side.wait_at_most(CEILING);
    std::thread::spawn(move || {
        let mut left = POURED;
        while left > 0 && side.try_send(&message).is_ok() {
            left = left.saturating_sub(message.len());
        }
    })
}

/// Stalls sessions by having each sender pour and its receiver not read; the others have to go on meanwhile.
fn stall(senders: fn(&(Wire, Wire)) -> JoinHandle<()>, initiator: &str) {
    let (world, service) = World::serving(SPEC, &Launch::default());
    let (mut client, mut upstream) = world.open_on(&service);
    let sessions: Vec<(Wire, Wire)> = (0..STALLED).map(|_| world.open_on(&service)).collect();
    world.live(STALLED + 1);
    let before = world.resident();
    let pouring: Vec<_> = sessions.iter().map(senders).collect();
    let (mut most, mut longest) = (0, Duration::ZERO);
    for side in [&client, &upstream] {
        side.wait_at_most(CEILING);
    }
    let closed = [("reason", "slow_consumer"), ("initiator", initiator)];
    world.until("every stalled session is closed", || {
        let began = Instant::now();
        client.send(masked(FIN | BINARY, b"up"));
        assert_eq!(upstream.frame().payload, b"up", "others go on");
        upstream.send(frame(FIN | BINARY, b"down"));
        assert_eq!(client.frame().payload, b"down", "others go on");
        longest = longest.max(began.elapsed());
        most = most.max(world.resident());
        world.metric("sheave_connections_closed_total", &closed) >= STALLED as f64
    });
    let grown = most.saturating_sub(before);
    println!("{STALLED} stalled sessions took {} KiB; others were answered within {longest:?}", grown / KIB);
    assert!(grown < STALLED * HELD + REST, "{STALLED} stalled sessions took {} KiB", grown / KIB);
    for (client, upstream) in sessions {
        client.reset();
        upstream.reset();
    }
    for thread in pouring {
        thread.join().expect("it ends");
    }
    world.live(1);
    let (_client, _upstream) = world.open_on(&service);
    world.live(2);
}

#[test]
#[ignore = "needs network namespaces: make faults"]
fn clients_that_stop_reading_cost_their_buffers_and_are_cut_while_others_go_on() {
    stall(|(_, upstream)| pour(upstream, frame(FIN | BINARY, &vec![7; 60_000])), "client");
}

#[test]
#[ignore = "needs network namespaces: make faults"]
fn backends_that_stop_reading_cost_their_buffers_and_are_cut_while_others_go_on() {
    stall(|(client, _)| pour(client, masked(FIN | BINARY, &vec![7; 60_000])), "backend");
}
