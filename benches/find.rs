//! How long a lookup takes among 5,000 routes. The aim is under 2 µs, whether they have a host each or share one.

mod world;

use criterion::{Criterion, criterion_group, criterion_main};
use sheave::compile::{Options, compile};
use sheave::routing::{Request, Scheme};
use std::hint::black_box;

const HEADERS: &[(&str, &[u8])] = &[
    ("Host", b"host"),
    ("Connection", b"Upgrade"),
    ("Upgrade", b"websocket"),
    ("Sec-WebSocket-Version", b"13"),
    ("Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="),
    ("Origin", b"https://example.com"),
];

fn find_among_5000_routes(c: &mut Criterion) {
    let mut group = c.benchmark_group("find among 5,000 routes");
    for (name, hosts) in [("a host each", world::Hosts::Spread), ("on one host", world::Hosts::One)] {
        let table = compile(&world::snapshot(hosts), &Options::folder()).table;
        let targets: Vec<_> = (0..world::ROUTES).step_by(7).map(|at| hosts.of(at)).collect();
        let request = |at: usize| Request {
            scheme: Scheme::Ws,
            host: &targets[at].0,
            path: &targets[at].1,
            query: Some("room=1"),
            headers: HEADERS,
            subprotocols: &["mqtt"],
        };
        for at in 0..targets.len() {
            let found = table.find(&request(at)).expect("every target has a route");
            assert_eq!(*found.rule.id.route.name, world::name(at * 7));
        }
        let mut at = 0;
        group.bench_function(name, |b| {
            b.iter(|| {
                at = (at + 1) % targets.len();
                table.find(black_box(&request(at)))
            });
        });
        let miss = Request { path: "/no/such/path", ..request(0) };
        group.bench_function(format!("{name}, no rule matches"), |b| b.iter(|| table.find(black_box(&miss)).is_err()));
    }
    group.finish();
}

criterion_group!(benches, find_among_5000_routes);
criterion_main!(benches);
