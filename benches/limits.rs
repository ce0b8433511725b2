//! What limits on messages, bytes and control frames add to each message in the frame walker.
//!
//! The aim is under 2 % of what the relay spends on a message. The rows `pipelined` and `ping-pong` of the bench `peers`
//! say what that is: 16 messages of 128 bytes a read, and one.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sheave::proxy::gauge::Gauge;
use sheave::routing::access::Rate;
use sheave::routing::{Rates, SessionRates};
use std::hint::black_box;
use std::time::Duration;

/// A rate that nothing here reaches, so that each message takes its share and passes.
const AMPLE: Rate = Rate { limit: 1_000_000_000_000, per: Duration::from_secs(1), burst: 1_000_000_000_000 };

fn rates(session: Rates, consumer: Rates) -> SessionRates {
    SessionRates { session, consumer, ..SessionRates::default() }
}

fn message() -> Vec<u8> {
    [&[0x82, 0x80 | 0x7e, 0, 128, 1, 2, 3, 4][..], &[7; 128]].concat()
}

fn a_message_with_and_without_limits(c: &mut Criterion) {
    let none = Rates::default();
    let messages = Rates { messages: Some(AMPLE), ..none };
    let all = Rates { bytes: Some(AMPLE), control_frames: Some(AMPLE), ..messages };
    for count in [1, 16] {
        let mut group = c.benchmark_group(format!("a read of {count} messages of 128 bytes"));
        group.throughput(Throughput::Elements(count));
        for (name, rates) in [
            ("no limit", None),
            ("messages", Some(rates(messages, none))),
            ("messages and bytes", Some(rates(all, none))),
            ("messages of a consumer", Some(rates(none, messages))),
            ("all of both", Some(rates(all, all))),
        ] {
            let mut gauge = Gauge::new(rates.as_ref(), &"app".into());
            let mut bytes = message().repeat(count as usize);
            assert_eq!(gauge.walk(&mut bytes), bytes.len(), "everything passes");
            group.bench_function(name, |b| b.iter(|| gauge.walk(black_box(&mut bytes))));
        }
        group.finish();
    }
}

criterion_group!(benches, a_message_with_and_without_limits);
criterion_main!(benches);
