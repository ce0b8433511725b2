//! Host and path matching: what the index of a table finds is what a search through every match of every rule finds by
//! the documented precedence, whatever routes came and went before; and `explain` tells of the same winner.
//!
//! Input: bytes that are read one by one and choose among a few hosts, paths, headers, parameters and subprotocols.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sheave::routing::{
    FieldMatch, Found, HostPattern, Match, NoRoute, PathMatch, Pattern, Plaintext, Policy, Request, Route, RouteId,
    RoutingTable, Rule, RuleId, Scheme, Text,
};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

const LABELS: [&str; 4] = ["a", "b", "ab", "example"];
const SEGMENTS: [&str; 5] = ["a", "b", "ab", "A", "%61"];
const HEADERS: [&str; 2] = ["x-a", "x-b"];
const VALUES: [&str; 3] = ["1", "2", "11"];
const SUBPROTOCOLS: [&str; 3] = ["mqtt", "Mqtt", "chat"];
/// Parts of a query, and what they say.
const PARAMETERS: [(&str, &str, &str); 6] =
    [("q=1", "q", "1"), ("q=2", "q", "2"), ("%71=1", "q", "1"), ("r=%31", "r", "1"), ("q", "q", ""), ("=1", "", "1")];

type Expression = (&'static str, fn(&str) -> bool);
/// Expressions, and what they mean.
const EXPRESSIONS: [Expression; 4] = [
    ("/[ab]+", |path| path.len() > 1 && path.starts_with('/') && path[1..].chars().all(|c| c == 'a' || c == 'b')),
    ("/a/.*|/b", |path| path.starts_with("/a/") || path == "/b"),
    (".*/", |path| path.ends_with('/')),
    ("1+", |text| !text.is_empty() && text.chars().all(|c| c == '1')),
];
static PATTERNS: LazyLock<Vec<Pattern>> =
    LazyLock::new(|| EXPRESSIONS.iter().map(|(text, _)| Pattern::whole(text).expect("a good expression")).collect());

static POLICY: LazyLock<Arc<Policy>> = LazyLock::new(Arc::default);

/// What is left of the input; zeros for ever after it.
struct Choices<'i>(&'i [u8]);

impl Choices<'_> {
    fn below(&mut self, bound: usize) -> usize {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(*first) % bound
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    fn some<T>(&mut self, most: usize, mut one: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(most + 1)).map(|_| one(self)).collect()
    }

    fn host(&mut self) -> String {
        (0..=self.below(3)).map(|_| self.of(&LABELS)).collect::<Vec<_>>().join(".")
    }

    fn pattern(&mut self) -> HostPattern {
        match self.below(5) {
            0 => HostPattern::Any,
            1 | 2 => HostPattern::parse(&format!("*.{}", self.host())),
            _ => HostPattern::parse(&self.host()),
        }
    }

    /// Without a slash at its end.
    fn path(&mut self) -> String {
        self.some(3, |choices| format!("/{}", choices.of(&SEGMENTS))).concat()
    }

    fn text(&mut self) -> Text {
        match self.below(16) {
            15 => Text::Regular(PATTERNS[3].clone()),
            _ => Text::Exact(self.of(&VALUES).into()),
        }
    }

    fn matching(&mut self) -> Match {
        let path = match self.below(16) {
            0..5 => PathMatch::Exact((self.path() + self.of(&["", "/"])).into()),
            15 => PathMatch::Regular(PATTERNS[self.below(3)].clone()),
            _ => PathMatch::Prefix(self.path().into()),
        };
        let headers = self.some(2, |choices| {
            let name = choices.of(&HEADERS).into();
            FieldMatch { name, value: choices.text() }
        });
        let query = self.some(2, |choices| {
            let name = choices.of(&["q", "r", ""]).into();
            FieldMatch { name, value: choices.text() }
        });
        let subprotocols = self.some(2, |choices| choices.of(&SUBPROTOCOLS).into());
        Match { path, headers, query, subprotocols }
    }

    fn route(&mut self) -> Route {
        let id = RouteId { namespace: self.of(&["n", "m"]).into(), name: self.of(&["a", "b", "c", "d"]).into() };
        let created = self.of(&[0, 0, 1, 2]);
        let mut hosts = vec![self.pattern()];
        hosts.extend(self.some(2, Self::pattern));
        hosts.sort();
        hosts.dedup();
        let rules = (0..=self.below(3)).map(|position| {
            let matches = (0..=self.below(2)).map(|_| self.matching()).collect();
            Arc::new(Rule {
                id: RuleId { route: id.clone(), rule: position.to_string().into() },
                named: false,
                matches,
                backends: Vec::new(),
                policy: Arc::clone(&POLICY),
                plaintext: Plaintext::Allow,
                access: Arc::default(),
            })
        });
        let rules = rules.collect();
        Route { id, class: "websocket".into(), created, hosts, rules }
    }
}

/// A handshake, in owned parts.
struct Asked {
    host: String,
    path: String,
    query: Option<Vec<(&'static str, &'static str, &'static str)>>,
    headers: Vec<(String, &'static str)>,
    subprotocols: Vec<&'static str>,
}

impl Asked {
    fn of(choices: &mut Choices<'_>) -> Self {
        let host = choices.host();
        let path = match choices.path() + choices.of(&["", "", "/", "//"]) {
            empty if empty.is_empty() => "/".to_owned(),
            path => path,
        };
        let query = (choices.below(2) == 1).then(|| choices.some(3, |choices| choices.of(&PARAMETERS)));
        let headers = choices.some(3, |choices| {
            let name = choices.of(&HEADERS);
            (if choices.below(2) == 1 { name.to_uppercase() } else { name.to_owned() }, choices.of(&VALUES))
        });
        let subprotocols = choices.some(2, |choices| choices.of(&SUBPROTOCOLS));
        Self { host, path, query, headers, subprotocols }
    }
}

fn text_accepts(text: &Text, value: &str) -> bool {
    match text {
        Text::Exact(wanted) => **wanted == *value,
        Text::Regular(pattern) => expression(pattern, value),
    }
}

fn expression(pattern: &Pattern, value: &str) -> bool {
    EXPRESSIONS.iter().find(|(text, _)| *text == pattern.source()).expect("one of ours").1(value)
}

/// Whether `pattern` covers `host`, label by label from the right.
fn covers(pattern: &HostPattern, host: &str) -> bool {
    let host: Vec<&str> = host.split('.').rev().collect();
    match pattern {
        HostPattern::Any => true,
        HostPattern::Exact(name) => name.split('.').rev().eq(host),
        HostPattern::Wildcard(suffix) => {
            let suffix: Vec<&str> = suffix.split('.').rev().collect();
            host.len() > suffix.len() && host.starts_with(&suffix)
        }
    }
}

fn fits(matching: &Match, asked: &Asked) -> bool {
    let segments = |path: &str| path.split('/').skip(1).map(str::to_owned).collect::<Vec<_>>();
    let path = match &matching.path {
        PathMatch::Exact(path) => **path == *asked.path,
        PathMatch::Regular(pattern) => expression(pattern, &asked.path),
        PathMatch::Prefix(path) => segments(&asked.path).starts_with(&segments(path)),
    };
    let header = |wanted: &FieldMatch| {
        asked
            .headers
            .iter()
            .any(|(name, value)| name.to_lowercase() == *wanted.name && text_accepts(&wanted.value, value))
    };
    let parameter = |wanted: &FieldMatch| {
        let first = asked.query.iter().flatten().find(|(_, name, _)| *name == &*wanted.name);
        first.is_some_and(|(_, _, value)| text_accepts(&wanted.value, value))
    };
    let wanted = &matching.subprotocols;
    path && matching.headers.iter().all(header)
        && matching.query.iter().all(parameter)
        && (wanted.is_empty() || wanted.iter().any(|one| asked.subprotocols.contains(&&**one)))
}

/// The place of a host pattern, then of a match under it: smaller comes first.
fn precedence<'r>(host: &HostPattern, route: &'r Route, position: usize, at: usize) -> impl Ord + use<'r> {
    let host = match host {
        HostPattern::Exact(_) => (0, Reverse(0)),
        HostPattern::Wildcard(suffix) => (1, Reverse(suffix.split('.').count())),
        HostPattern::Any => (2, Reverse(0)),
    };
    let matching = &route.rules[position].matches[at];
    let path = match &matching.path {
        PathMatch::Exact(text) => (0, Reverse(text.len())),
        PathMatch::Regular(pattern) => (1, Reverse(pattern.source().len())),
        PathMatch::Prefix(text) => (2, Reverse(text.len())),
    };
    let conditions = (Reverse(matching.headers.len()), Reverse(matching.query.len()), matching.subprotocols.is_empty());
    (host, path, conditions, route.created, (&*route.id.namespace, &*route.id.name), position, at)
}

/// The winner, and how many matches were looked at: those under a pattern that covers the host.
fn search(routes: &BTreeMap<RouteId, Arc<Route>>, asked: &Asked) -> (Result<(RuleId, HostPattern), NoRoute>, usize) {
    let mut all = Vec::new();
    for route in routes.values() {
        for host in route.hosts.iter().filter(|host| covers(host, &asked.host)) {
            for (position, rule) in route.rules.iter().enumerate() {
                for at in 0..rule.matches.len() {
                    all.push((precedence(host, route, position, at), host, rule, &rule.matches[at]));
                }
            }
        }
    }
    let looked_at = all.len();
    let winner =
        all.into_iter().filter(|(.., matching)| fits(matching, asked)).min_by(|one, other| one.0.cmp(&other.0));
    let none = if looked_at == 0 { NoRoute::Host } else { NoRoute::Rule };
    (winner.map(|(_, host, rule, _)| (rule.id.clone(), host.clone())).ok_or(none), looked_at)
}

fuzz_target!(|bytes: &[u8]| {
    let mut choices = Choices(bytes);
    let mut routes = BTreeMap::new();
    let mut table = RoutingTable::default();
    for _ in 0..=choices.below(6) {
        let route = Arc::new(choices.route());
        // A route of the same name goes; now and then nothing comes in its place.
        let stays = choices.below(4) != 3;
        let id = route.id.clone();
        table.set_route(&id, stays.then(|| Arc::clone(&route)));
        drop(if stays { routes.insert(id, route) } else { routes.remove(&id) });
    }
    let afresh = RoutingTable::new(routes.values().map(|route| (**route).clone()), BTreeMap::new(), None);
    for _ in 0..=choices.below(3) {
        let asked = Asked::of(&mut choices);
        let query = asked.query.as_ref().map(|all| all.iter().map(|(part, ..)| *part).collect::<Vec<_>>().join("&"));
        let headers: Vec<_> = asked.headers.iter().map(|(name, value)| (&**name, value.as_bytes())).collect();
        let request = Request {
            scheme: Scheme::Wss,
            host: &asked.host,
            path: &asked.path,
            query: query.as_deref(),
            headers: &headers,
            subprotocols: &asked.subprotocols,
        };
        let (wanted, looked_at) = search(&routes, &asked);
        let told = |found: Found| (found.rule.id.clone(), found.host);
        for table in [&table, &afresh] {
            assert_eq!(table.find(&request).map(told), wanted, "{request:?}");
        }
        let explanation = table.explain(&request);
        assert_eq!(explanation.found.map(told), wanted.as_ref().ok().cloned());
        assert_eq!(explanation.considered.len(), looked_at);
        for considered in &explanation.considered {
            assert_eq!(considered.passed_over.is_none(), fits(&considered.matching, &asked), "{request:?}");
        }
        let first = explanation.considered.iter().find(|considered| considered.passed_over.is_none());
        let first = first.map(|first| (&first.rule.id, first.host.clone()));
        assert_eq!(first, wanted.as_ref().ok().map(|(rule, host)| (rule, host.to_string())), "{request:?}");
    }
});
