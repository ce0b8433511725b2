//! How long compile takes: 5,000 routes with 50,000 endpoints, on one core. The aim is under a second, for a change
//! of a file or an endpoint is to be live within one.

mod world;

use criterion::{Criterion, criterion_group, criterion_main};
use sheave::compile::{Options, compile};
use std::hint::black_box;

fn compile_5000_routes(c: &mut Criterion) {
    let options = Options::folder();
    let mut group = c.benchmark_group("compile 5,000 routes, 50,000 endpoints");
    group.sample_size(10);
    for (name, hosts) in [("a host each", world::Hosts::Spread), ("on one host", world::Hosts::One)] {
        let snapshot = world::snapshot(hosts);
        let compiled = compile(&snapshot, &options);
        assert_eq!(compiled.table.routes().count(), world::ROUTES);
        assert!(compiled.verdicts.iter().all(sheave::compile::Verdict::spotless));
        group.bench_function(name, |b| b.iter(|| compile(black_box(&snapshot), &options)));
    }
    group.finish();
}

criterion_group!(benches, compile_5000_routes);
criterion_main!(benches);
