//! How long compile takes: 5,000 routes with 50,000 endpoints, on one core.
//!
//! From nothing the aim is under a second. For one change among them it is 3 ms, publishing included: the first
//! handshake on a new route is to be answered a few milliseconds after the route was made. What makes a change quick
//! (who reads what, who claims what) has to be built first: from nothing takes twice as long as it would without.

mod world;

use criterion::{Criterion, criterion_group, criterion_main};
use sheave::compile::{Compiler, ObjectKey, Options, Snapshot, compile};
use sheave::control::publish::publish;
use sheave::routing::RoutingTable;
use sheave::telemetry::Metrics;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

const WORLDS: [(&str, world::Hosts); 2] = [("a host each", world::Hosts::Spread), ("on one host", world::Hosts::One)];

/// The route in the middle.
const CHANGED: usize = world::ROUTES / 2;

fn from_nothing(c: &mut Criterion) {
    let options = Options::folder();
    let mut group = c.benchmark_group("compile 5,000 routes, 50,000 endpoints");
    group.sample_size(10);
    for (name, hosts) in WORLDS {
        let snapshot = world::snapshot(hosts);
        let compiled = compile(&snapshot, &options);
        assert_eq!(compiled.table.routes().count(), world::ROUTES);
        assert!(compiled.verdicts.iter().all(sheave::compile::Verdict::spotless));
        group.bench_function(name, |b| b.iter(|| compile(black_box(&snapshot), &options)));
    }
    group.finish();
}

/// A Sheave that has compiled and published, two snapshots one change apart, and the way to and fro.
struct Running {
    compiler: Compiler,
    tables: watch::Sender<Arc<RoutingTable>>,
    metrics: Arc<Metrics>,
    options: Options,
    snapshots: [Snapshot; 2],
    at: usize,
}

impl Running {
    fn start(before: Snapshot, after: Snapshot) -> Self {
        let (tables, metrics) = (watch::Sender::new(Arc::default()), Metrics::new(world::ROUTES));
        let (compiler, options) = (Compiler::default(), Options::folder());
        let mut running = Self { compiler, tables, metrics, options, snapshots: [before, after], at: 0 };
        running.change();
        running
    }

    /// How long compile and publish took.
    fn change(&mut self) -> [Duration; 2] {
        self.at = 1 - self.at;
        let began = Instant::now();
        let compiled = self.compiler.compile(&self.snapshots[self.at], &self.options);
        let compiled_at = Instant::now();
        assert!(publish(compiled.table, false, &self.tables, &self.metrics), "a change");
        drop(compiled.verdicts);
        [compiled_at - began, compiled_at.elapsed()]
    }
}

fn route_added(snapshot: &mut Snapshot, hosts: world::Hosts) {
    world::add(snapshot, hosts, world::ROUTES);
}

fn route_edited(snapshot: &mut Snapshot, _: world::Hosts) {
    let route = snapshot.routes.get_mut(&ObjectKey::new("bench", world::name(CHANGED))).expect("it is there");
    Arc::make_mut(route).spec.rules.truncate(1);
}

fn slice_changed(snapshot: &mut Snapshot, _: world::Hosts) {
    let slice = snapshot.endpoint_slices.get_mut(&ObjectKey::new("bench", world::name(CHANGED))).expect("it is there");
    Arc::make_mut(slice).endpoints.truncate(1);
}

fn one_change(c: &mut Criterion) {
    type Change = fn(&mut Snapshot, world::Hosts);
    let changes: [(&str, Change); 3] =
        [("route added or removed", route_added), ("route edited", route_edited), ("slice changed", slice_changed)];
    let mut group = c.benchmark_group("one change among 5,000 routes");
    for (shape, hosts) in WORLDS {
        for (what, change) in changes {
            let before = world::snapshot(hosts);
            let mut after = before.clone();
            change(&mut after, hosts);
            let mut running = Running::start(before, after);
            for (part, name) in ["compile", "publish"].into_iter().enumerate() {
                let mut took = |times| (0..times).map(|_| running.change()[part]).sum();
                group.bench_function(format!("{what}, {shape}: {name}"), |b| b.iter_custom(&mut took));
            }
        }
    }
    group.finish();
}

criterion_group!(benches, from_nothing, one_change);
criterion_main!(benches);
