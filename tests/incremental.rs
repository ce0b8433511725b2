//! A [`Compiler`] that remembers gives exactly what [`compile`] gives from nothing, whatever happens in between.
//!
//! A small world in which everything meets everything is edited at random; after each step the two are compared.

mod world;

use fastrand::Rng;
use sheave::compile::{Compiled, Compiler, Options, Verdict, compile};
use sheave::routing::{Request, Scheme};
use std::sync::Arc;
use world::World;

const SEQUENCES: u64 = 60;
const STEPS: usize = 60;

/// Every candidate of every host in order: what the index holds.
fn lookups(compiled: &Compiled) -> Vec<String> {
    let mut told = Vec::new();
    for host in ["a.test", "b.test", "x.b.test", "y.example"] {
        for path in ["/", "/x", "/x/y", "/r/1"] {
            let headers: &[(&str, &[u8])] = &[("x-v", b"1")];
            let request = Request { scheme: Scheme::Ws, host, path, query: None, headers, subprotocols: &["mqtt"] };
            let explained = compiled.table.explain(&request);
            let served = compiled.table.certificate(Some(host));
            told.push(format!("{host}{path} {explained:?} {served:?} {:?}", compiled.table.find(&request)));
        }
    }
    told
}

fn yaml(value: &impl serde::Serialize) -> String {
    serde_saphyr::to_string(value).expect("a result is YAML")
}

fn assert_same(remembering: &Compiled, fresh: &Compiled, what: &str) {
    let same = remembering.table == fresh.table && remembering.verdicts == fresh.verdicts;
    assert_eq!(remembering.key_sources, fresh.key_sources, "key sources, {what}");
    if !same || lookups(remembering) != lookups(fresh) {
        assert_eq!(yaml(&remembering.table), yaml(&fresh.table), "table, {what}");
        assert_eq!(yaml(&remembering.verdicts), yaml(&fresh.verdicts), "verdicts, {what}");
        assert_eq!(lookups(remembering), lookups(fresh), "lookups, {what}");
        panic!("they differ in what is not shown, {what}");
    }
}

#[test]
fn what_is_remembered_gives_what_is_read_from_nothing() {
    let mut seen = [false; 7];
    for seed in 0..SEQUENCES {
        let mut world = World::new(Rng::with_seed(seed));
        let mut compiler = Compiler::default();
        for step in 0..STEPS {
            let edits: Vec<&str> = (0..world.rng.usize(1..=3)).map(|_| world.edit()).collect();
            let remembering = compiler.compile(&world.snapshot, &world.options);
            let fresh = compile(&world.snapshot, &world.options);
            assert_same(&remembering, &fresh, &format!("seed {seed}, step {step}, after {edits:?}"));
            let text = yaml(&fresh.verdicts);
            let reached = [
                "shadowed by",
                "is served with",
                "is also a host of",
                "expired at",
                "has the labels use=keys",
                "the key of ann is empty",
                "line 1 of auth is left out",
            ];
            reached.iter().enumerate().for_each(|(at, words)| seen[at] |= text.contains(words));
        }
    }
    assert_eq!(
        seen, [true; 7],
        "the world is too peaceful: conflict, certificate, shared host, expiry, selector, key, password"
    );
}

#[test]
fn what_a_change_does_not_concern_is_shared_with_the_last_result() {
    let mut world = World::new(Rng::with_seed(7));
    let mut compiler = Compiler::default();
    let (mut shared, mut equal) = (0, 0);
    let mut before = Compiled::default();
    for _ in 0..200 {
        world.edit();
        let after = compiler.compile(&world.snapshot, &world.options);
        for route in after.table.routes().filter(|route| before.table.routes().any(|old| old == *route)) {
            equal += 1;
            shared += usize::from(before.table.routes().any(|old| Arc::ptr_eq(old, route)));
        }
        let readable =
            |verdict: &&Arc<Verdict>| verdict.object.kind == "WebSocketRoute" && verdict.generation != Some(1);
        for verdict in after.verdicts.shared().filter(readable) {
            if before.verdicts.shared().any(|old| old == verdict) {
                equal += 1;
                shared += usize::from(before.verdicts.shared().any(|old| Arc::ptr_eq(old, verdict)));
            }
        }
        before = after;
    }
    assert!(equal > 500, "{equal}");
    assert_eq!(shared, equal, "what is equal is the same");
}

#[test]
fn other_options_are_heeded() {
    let mut world = World::new(Rng::with_seed(3));
    for _ in 0..100 {
        world.edit();
    }
    let mut compiler = Compiler::default();
    for options in [Options::folder(), Options::default(), Options::folder()] {
        let remembering = compiler.compile(&world.snapshot, &options);
        assert_same(&remembering, &compile(&world.snapshot, &options), &format!("{options:?}"));
    }
}
