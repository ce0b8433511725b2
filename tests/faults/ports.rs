//! No local port is left towards the backend.

use crate::world::{Launch, World, close, echo};
use serde_json::json;

const PORTS: usize = 8;

#[test]
#[ignore = "needs network namespaces: make faults"]
fn without_a_free_port_handshakes_are_shed_and_the_log_says_what_to_widen() {
    let world = World::echoing("", &Launch::default());
    world.middle.set("ipv4/ip_local_port_range", "40000 40007");
    let mut clients: Vec<_> = (0..PORTS).map(|_| world.open()).collect();
    world.sheds();
    let record = world.records("reject").pop().expect("it is recorded");
    assert_eq!(json!([record["reason"], record["status"]]), json!(["overloaded", 503]));
    let detail = record["detail"].as_str().expect("text");
    assert!(detail.contains("no local port") && detail.contains("net.ipv4.ip_local_port_range"), "{detail}");
    world.metric_becomes("sheave_backend_connect_errors_total", &[("reason", "no_port")], 1.0);
    for client in &mut clients {
        echo(client, b"live sessions go on");
    }
    clients.into_iter().for_each(close);
    // Each port is free at once: the backend ended its connection first, and waits out TIME_WAIT.
    let clients: Vec<_> = (0..PORTS)
        .map(|_| {
            world.until_some("a port is free", || {
                let mut client = world.offer("");
                (client.answer().head.status() == 101).then_some(client)
            })
        })
        .collect();
    clients.into_iter().for_each(close);
    world.recovers(0);
}
