//! How long it takes to ask a handshake's rate, once a million addresses have been seen: those of an attack, for each of
//! which another bucket is given up, and one that is known.

use criterion::{Criterion, criterion_group, criterion_main};
use sheave::proxy::buckets::Buckets;
use sheave::routing::access::Rate;
use std::hint::black_box;
use std::time::Duration;

fn take_after_a_million(c: &mut Criterion) {
    let mut group = c.benchmark_group("handshake rate after 1,000,000 addresses");
    let rate = Rate { limit: 1_000_000, per: Duration::from_secs(1), burst: 1_000_000 };
    let buckets = Buckets::default();
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..1_000_000 {
        let _ = buckets.take(random.u64(..), &rate);
    }
    group.bench_function("a new address", |b| b.iter(|| buckets.take(black_box(random.u64(..)), &rate).is_ok()));
    group.bench_function("a known address", |b| b.iter(|| buckets.take(black_box(42), &rate).is_ok()));
    group.finish();
}

criterion_group!(benches, take_after_a_million);
criterion_main!(benches);
