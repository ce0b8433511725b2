//! YAML to table: whatever is written, each fault is told with its place, every object of ours gets its verdict, equal
//! documents give an equal table whether compiled from nothing or after others, and what is served can be found and
//! explained.
//!
//! Input: a file of documents.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sheave::api::status::PROGRAMMED;
use sheave::compile::{Compiled, Compiler, ObjectRef, Options, Snapshot, compile};
use sheave::control::document::{Document, read_documents};
use sheave::control::rebuild::snapshot;
use sheave::routing::{HostPattern, Match, PathMatch, Request, Route, RoutingTable, Scheme, Text};
use std::fmt::Write;
use std::sync::LazyLock;

/// A moment at which the certificates among the seeds are good.
const NOW: i64 = 1_800_000_000;
/// The longest message that a condition may have.
const LONGEST: usize = 32_768;

static OPTIONS: LazyLock<[Options; 2]> =
    LazyLock::new(|| [Options::folder(), Options::cluster(false, vec![[10, 0, 0, 1].into()])]);

fn read(text: &str) -> Vec<Document> {
    let (documents, problems) = read_documents("a.yaml", text);
    let (_, again) = read_documents("a.yaml", text);
    assert_eq!(problems, again);
    let lines = text.split(['\n', '\r']).count(); // YAML 1.2 §5.4
    for problem in &problems {
        let position = problem.position.expect("a place");
        assert!((1..=lines + 1).contains(&position.line) && position.column > 0, "{problem} of {lines} lines");
        assert!(!problem.message.is_empty());
    }
    for document in &documents {
        assert!((1..=lines).contains(&document.line), "{} of {lines} lines", document.line);
        assert!(!document.name.name.is_empty());
    }
    documents
}

fn assert_equal(one: &Compiled, other: &Compiled, how: &str) {
    assert_eq!(one.table, other.table, "{how}");
    assert_eq!(one.verdicts, other.verdicts, "{how}");
    assert_eq!(one.key_sources, other.key_sources, "{how}");
}

/// The object is judged, or another controller's; and it is served exactly if its verdict says so.
fn check_verdicts(snapshot: &Snapshot, compiled: &Compiled) {
    for verdict in compiled.verdicts.iter() {
        assert!(!verdict.conditions.is_empty());
        for condition in &verdict.conditions {
            assert!(condition.message.len() <= LONGEST, "{} bytes: {verdict:?}", condition.message.len());
        }
    }
    for key in snapshot.routes.keys() {
        let (namespace, name) = (key.namespace.clone(), key.name.clone());
        let served = compiled.table.routes().any(|route| *route.id.namespace == namespace && *route.id.name == name);
        let verdict = compiled.verdicts.get(&ObjectRef { kind: "WebSocketRoute", namespace, name });
        let programmed = verdict.and_then(|verdict| verdict.condition(PROGRAMMED)).is_some_and(|one| one.status);
        assert_eq!(programmed, served, "{key}: {verdict:?}");
    }
}

/// Asks for what a match of a served route wants. Whether it is found is certain only without expressions.
fn ask(table: &RoutingTable, host: &HostPattern, matching: &Match) {
    let mut certain = true;
    let mut value = |text: &Text| match text {
        Text::Exact(text) => text.to_string(),
        Text::Regular(_) => {
            certain = false;
            "a".to_owned()
        }
    };
    let headers: Vec<(&str, String)> = matching.headers.iter().map(|one| (&*one.name, value(&one.value))).collect();
    let mut query = String::new();
    for one in &matching.query {
        for (text, end) in [(one.name.to_string(), "="), (value(&one.value), "&")] {
            for byte in text.bytes() {
                write!(query, "%{byte:02x}").expect("a String takes everything");
            }
            query.push_str(end);
        }
    }
    let path = match &matching.path {
        PathMatch::Exact(path) => path.to_string(),
        PathMatch::Prefix(path) if path.is_empty() => "/".to_owned(),
        PathMatch::Prefix(path) => path.to_string(),
        PathMatch::Regular(_) => {
            certain = false;
            "/a".to_owned()
        }
    };
    let host = match host {
        HostPattern::Any => "other.test".to_owned(),
        HostPattern::Exact(name) => name.to_string(),
        HostPattern::Wildcard(suffix) => format!("x.{suffix}"),
    };
    let headers: Vec<(&str, &[u8])> = headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
    let subprotocols: Vec<&str> = matching.subprotocols.first().map(|one| &**one).into_iter().collect();
    let request = Request {
        scheme: Scheme::Wss,
        host: &host,
        path: &path,
        query: (!query.is_empty()).then_some(&query),
        headers: &headers,
        subprotocols: &subprotocols,
    };
    let found = table.find(&request).ok();
    assert!(found.is_some() || !certain, "nobody answers for {request:?}, which {matching} asks for");
    let explanation = table.explain(&request);
    let first = explanation.considered.iter().find(|considered| considered.passed_over.is_none());
    let named = |found: &Option<sheave::routing::Found>| {
        found.as_ref().map(|found| (found.rule.id.clone(), found.host.to_string()))
    };
    assert_eq!(named(&found), named(&explanation.found));
    assert_eq!(named(&found), first.map(|first| (first.rule.id.clone(), first.host.clone())));
    let _ = (table.certificate(Some(&host)), table.asks_certificate(Some(&host)));
}

fn check_served(table: &RoutingTable) {
    for route in table.routes() {
        let Route { hosts, rules, .. } = &**route;
        assert!(!hosts.is_empty() && !rules.is_empty(), "{} is served without hosts or rules", route.id);
        for rule in rules {
            assert!(!rule.matches.is_empty() && table.has_rule(&rule.id));
            for host in hosts {
                rule.matches.iter().for_each(|matching| ask(table, host, matching));
            }
        }
    }
}

fuzz_target!(|text: &str| {
    let documents = read(text);
    let all = snapshot(documents.clone(), NOW);
    let half = snapshot(documents.iter().step_by(2).cloned().collect(), NOW);
    let options = &OPTIONS[text.len() % 2];
    let compiled = compile(&all, options);
    assert_equal(&compiled, &compile(&snapshot(documents, NOW), options), "compiled twice");
    assert!(serde_json::to_string(&(&compiled.table, &compiled.verdicts)).is_ok());
    check_verdicts(&all, &compiled);
    check_served(&compiled.table);
    let mut compiler = Compiler::default();
    compiler.compile(&half, options);
    assert_equal(&compiled, &compiler.compile(&all, options), "compiled after half of it");
    assert_equal(&compile(&half, options), &compiler.compile(&half, options), "half of it compiled after all");
});
