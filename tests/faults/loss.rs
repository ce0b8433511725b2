//! Packets get lost on both sides of the proxy.
//!
//! By netfilter, which every kernel has that runs containers: it drops what has arrived, so TCP knows nothing of it.

use crate::space::Space;
use crate::support::{BINARY, FIN, masked};
use crate::world::{Launch, World, close};
use std::time::Duration;

const SESSIONS: usize = 6;
const ROUNDS: usize = 8;
/// Messages that are on their way at once.
const BATCH: usize = 8;

/// Drops so many of a hundred packets that come in by `link`.
fn lose(space: &Space, link: &str, percent: u32) {
    let share = f64::from(percent) / 100.0;
    space.iptables(&format!("-A INPUT -i {link} -m statistic --mode random --probability {share} -j DROP"));
}

/// How many packets have been dropped.
fn lost(space: &Space) -> u64 {
    let listing = space.iptables("-L INPUT -n -v -x");
    let rules = listing.lines().filter(|line| line.contains("DROP"));
    rules.filter_map(|line| line.split_whitespace().next()?.parse::<u64>().ok()).sum()
}

#[test]
#[ignore = "needs network namespaces: make faults"]
fn lost_packets_cost_time_and_no_message() {
    let world = World::echoing("timeouts: {handshake: 40s, backendConnect: 20s, close: 20s}", &Launch::default());
    let spaces = [(&world.client, "edge"), (&world.middle, "front"), (&world.middle, "back"), (&world.backend, "rear")];
    for (space, link) in spaces {
        lose(space, link, 7);
    }
    std::thread::scope(|scope| {
        for session in 0..SESSIONS {
            let world = &world;
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(session as u64);
                let mut client = world.connect();
                client.wait_at_most(Duration::from_secs(40));
                client.send(crate::support::offer("", ""));
                assert_eq!(client.answer().head.status(), 101);
                for _ in 0..ROUNDS {
                    let messages: Vec<Vec<u8>> =
                        (0..BATCH).map(|_| (0..random.usize(..8000)).map(|_| random.u8(..)).collect()).collect();
                    client.send(messages.iter().flat_map(|m| masked(FIN | BINARY, m)).collect::<Vec<_>>());
                    for message in &messages {
                        let frame = client.frame();
                        assert!(frame.first == FIN | BINARY && frame.payload == *message, "session {session}");
                    }
                }
                close(client);
            });
        }
    });
    for space in [&world.client, &world.middle, &world.backend] {
        println!("{} packets were lost", lost(space));
        assert!(lost(space) >= 20, "only {} packets were lost", lost(space));
        space.iptables("-F INPUT");
    }
    world.live(0);
    let closed = |labels: &[_]| world.metric("sheave_connections_closed_total", labels);
    assert!((closed(&[("reason", "normal"), ("initiator", "client")]) - 6.0).abs() < f64::EPSILON, "{}", world.log());
    assert!((closed(&[]) - 6.0).abs() < f64::EPSILON, "{}", world.log());
    world.recovers(0);
}
