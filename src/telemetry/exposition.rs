//! Turns what rules, backends and live sessions have counted into metric families, at each scrape.
//!
//! Holds the ledger's gate meanwhile, so that every session is counted once: as live, or as ended.

use super::counters::Tally;
use super::labels::{ConnectReason, ControlOpcode, DataOpcode, Direction, HandshakeReason};
use super::metrics::{Metrics, State, size_bounds};
use super::process;
use super::published::{BackendEndpoints, Content};
use super::rules::{RuleLabels, RuleMetrics, Sizes, Totals};
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, Weak};

/// Name, help and type of every family that is collected here.
const FAMILIES: [(&str, &str, MetricType); 15] = [
    ("sheave_connections_active", "Sessions open now.", MetricType::GAUGE),
    ("sheave_connections_opened_total", "Sessions opened: handshakes answered 101.", MetricType::COUNTER),
    ("sheave_connections_closed_total", "Sessions ended, by why, by whom and with what code.", MetricType::COUNTER),
    ("sheave_handshakes_total", "Handshakes answered or given up, by outcome.", MetricType::COUNTER),
    ("sheave_messages_total", "Whole data messages relayed.", MetricType::COUNTER),
    ("sheave_bytes_total", "Bytes of frames relayed, headers included.", MetricType::COUNTER),
    ("sheave_control_frames_total", "Control frames relayed or sent by us.", MetricType::COUNTER),
    ("sheave_blocked_seconds_total", "How long bytes have waited for a receiver that took none.", MetricType::COUNTER),
    ("sheave_throttled_seconds_total", "How long clients over their rate were held back.", MetricType::COUNTER),
    ("sheave_message_size_bytes", "Payload sizes of whole messages.", MetricType::HISTOGRAM),
    ("sheave_backend_endpoints", "Endpoints in the table.", MetricType::GAUGE),
    ("sheave_backend_connections_active", "Sessions open to a backend's endpoints.", MetricType::GAUGE),
    ("sheave_backend_connect_errors_total", "Connections to endpoints that could not be made.", MetricType::COUNTER),
    ("sheave_drain_connections_remaining", "Sessions that a stopping Sheave still waits for.", MetricType::GAUGE),
    ("sheave_tasks", "Tasks alive on a thread; about one a connection.", MetricType::GAUGE),
];

/// One index into [`FAMILIES`] for each family.
#[derive(Clone, Copy)]
enum Family {
    Active,
    Opened,
    Closed,
    Handshakes,
    Messages,
    Bytes,
    Control,
    Blocked,
    Throttled,
    Sizes,
    Endpoints,
    BackendActive,
    BackendErrors,
    Remaining,
    Tasks,
}

/// The families as they grow.
struct Families(Vec<Vec<Metric>>);

fn pair(name: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}

impl Families {
    fn push(&mut self, family: Family, labels: &[(&str, &str)], value: f64) {
        let mut metric = Metric::from_label(labels.iter().map(|(name, value)| pair(name, value)).collect());
        if FAMILIES[family as usize].2 == MetricType::COUNTER {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        self.0[family as usize].push(metric);
    }

    /// Adds a sample with a rule's labels before its own.
    fn push_for(&mut self, family: Family, of: &RuleLabels, own: &[(&str, &str)], value: f64) {
        let labels =
            [("class", &*of.class), ("route_namespace", &*of.namespace), ("route", &*of.route), ("rule", &*of.rule)];
        self.push(family, &[&labels, own].concat(), value);
    }

    fn rule(&mut self, rule: &RuleMetrics, totals: &Totals, live: Option<&Tally>) {
        let of = &rule.labels;
        for reason in HandshakeReason::ALL {
            let count = rule.handshakes_total(*reason);
            if count > 0 {
                let own = [("outcome", reason.outcome().as_str()), ("reason", reason.as_str())];
                self.push_for(Family::Handshakes, of, &own, count as f64);
            }
        }
        if rule.opened_total() == 0 {
            return; // nothing else can have happened
        }
        let mut tally = totals.tally;
        tally += live.copied().unwrap_or_default();
        self.push_for(Family::Active, of, &[], rule.active() as f64);
        self.push_for(Family::Opened, of, &[], rule.opened_total() as f64);
        for ((reason, initiator, class), count) in &totals.endings {
            let own = [("reason", reason.as_str()), ("initiator", initiator.as_str()), ("code_class", class.as_str())];
            self.push_for(Family::Closed, of, &own, *count as f64);
        }
        let throttled = rule.throttled_total();
        if !throttled.is_zero() {
            self.push_for(Family::Throttled, of, &[], throttled.as_secs_f64());
        }
        for direction in Direction::ALL {
            let counted = tally.direction(*direction);
            let way = ("direction", direction.as_str());
            self.push_for(Family::Bytes, of, &[way], counted.bytes as f64);
            self.push_for(Family::Blocked, of, &[way], counted.blocked.as_secs_f64());
            for opcode in DataOpcode::ALL {
                let count = counted.messages_of(*opcode) as f64;
                self.push_for(Family::Messages, of, &[way, ("opcode", opcode.as_str())], count);
            }
            for opcode in ControlOpcode::ALL {
                let count = counted.control_of(*opcode) as f64;
                self.push_for(Family::Control, of, &[way, ("opcode", opcode.as_str())], count);
            }
        }
    }

    fn sizes(&mut self, both: &[Sizes; 2]) {
        for direction in Direction::ALL {
            let sizes = &both[*direction as usize];
            let mut cumulative = 0;
            let mut bounds = Vec::new();
            for (bound, count) in size_bounds().zip(sizes.counts) {
                cumulative += count;
                let mut bucket = Bucket::default();
                bucket.set_upper_bound(bound);
                bucket.set_cumulative_count(cumulative);
                bounds.push(bucket);
            }
            let mut histogram = Histogram::default();
            histogram.set_sample_count(sizes.counts.iter().sum());
            histogram.set_sample_sum(sizes.payload as f64);
            histogram.set_bucket(bounds);
            let mut metric = Metric::from_label(vec![pair("direction", direction.as_str())]);
            metric.set_histogram(histogram);
            self.0[Family::Sizes as usize].push(metric);
        }
    }

    fn backends(&mut self, state: &State, content: &Content) {
        for (id, endpoints) in &content.backends {
            let id = id.to_string();
            let BackendEndpoints { draining, not_ready, ready } = *endpoints;
            for (word, number) in [("draining", draining), ("not_ready", not_ready), ("ready", ready)] {
                self.push(Family::Endpoints, &[("backend", &id), ("state", word)], number as f64);
            }
        }
        for (id, backend) in &state.backends {
            let id = id.to_string();
            self.push(Family::BackendActive, &[("backend", &id)], backend.active() as f64);
            for reason in ConnectReason::ALL {
                let count = backend.errors_total(*reason);
                if count > 0 {
                    let labels = [("backend", &*id), ("reason", reason.as_str())];
                    self.push(Family::BackendErrors, &labels, count as f64);
                }
            }
        }
    }

    fn finish(self) -> Vec<MetricFamily> {
        let families = FAMILIES.iter().zip(self.0).filter(|(_, samples)| !samples.is_empty());
        families.map(|(&(name, help, kind), samples)| family(name, help, kind, samples)).collect()
    }
}

fn family(name: &str, help: &str, kind: MetricType, samples: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(samples);
    family
}

/// The part of the registry that adds up at each scrape.
pub(super) struct Collected {
    metrics: Weak<Metrics>,
    descriptions: Vec<Desc>,
}

impl Collected {
    pub(super) fn of(metrics: &Arc<Metrics>) -> Self {
        let described = |&(name, help, _): &(&str, &str, MetricType)| {
            Desc::new(name.to_owned(), help.to_owned(), Vec::new(), HashMap::new()).ok()
        };
        let descriptions = FAMILIES.iter().chain(&process::FAMILIES).filter_map(described).collect();
        Self { metrics: Arc::downgrade(metrics), descriptions }
    }
}

impl Collector for Collected {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Some(metrics) = self.metrics.upgrade() else { return Vec::new() };
        let mut families = Families(vec![Vec::new(); FAMILIES.len()]);
        collect_sessions(&metrics, &mut families);
        let content = metrics.content();
        families.backends(&metrics.lock(), &content);
        for (thread, runtime) in metrics.runtimes().iter() {
            families.push(Family::Tasks, &[("thread", thread)], runtime.metrics().num_alive_tasks() as f64);
        }
        let mut all = families.finish();
        for (&(name, help, kind), value) in process::FAMILIES.iter().zip(process::read()) {
            let Some(value) = value else { continue };
            let mut metric = Metric::default();
            if kind == MetricType::COUNTER {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            } else {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
            all.push(family(name, help, kind, vec![metric]));
        }
        all
    }
}

fn collect_sessions(metrics: &Metrics, families: &mut Families) {
    // Folding waits from here on. The numbers are copied under the gate and turned into text after it.
    let gate = metrics.ledger.gate.write().unwrap_or_else(PoisonError::into_inner);
    let mut sizes = *metrics.ledger.sizes.lock().unwrap_or_else(PoisonError::into_inner);
    let mut live: HashMap<u64, Tally> = HashMap::new();
    if let Some(show) = metrics.live.get() {
        show(&mut |rule, counters| {
            if !counters.is_folded() {
                let tally = counters.read();
                Sizes::add(&mut sizes, &tally);
                *live.entry(rule.number).or_default() += tally;
            }
        });
    }
    let mut rules: Vec<_> = {
        let state = metrics.lock();
        state.rules.values().chain(&state.overflow).map(Arc::clone).collect()
    };
    let totals: Vec<_> =
        rules.iter().map(|rule| rule.totals.lock().unwrap_or_else(PoisonError::into_inner).clone()).collect();
    drop(gate);
    families.rule(metrics.unrouted_ref(), &Totals::default(), None);
    for (rule, totals) in rules.iter().zip(&totals) {
        families.rule(rule, totals, live.get(&rule.number));
    }
    let active: u64 = rules.drain(..).map(|rule| rule.active()).sum();
    families.push(Family::Remaining, &[], if metrics.is_draining() { active as f64 } else { 0.0 });
    families.sizes(&sizes);
}

#[cfg(test)]
mod tests {
    use crate::routing::{
        Address, Backend, BackendId, BackendTarget, Endpoint, EndpointState, HostPattern, Plaintext, Protocol, Route,
        RouteId, RoutingTable, Rule, RuleId, WeightedBackend,
    };
    use crate::telemetry::counters::SessionCounters;
    use crate::telemetry::labels::{CloseReason, DataOpcode, Direction, HandshakeReason, Initiator};
    use crate::telemetry::metrics::{FORGET_AFTER, Metrics};
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};
    use std::time::{Duration, Instant};

    fn id(rule: &str) -> RuleId {
        RuleId { route: RouteId { namespace: "ns".into(), name: "chat".into() }, rule: rule.into() }
    }

    fn class() -> Arc<str> {
        "websocket".into()
    }

    const LABELS: &str = "class=\"websocket\",route_namespace=\"ns\",route=\"chat\",rule=\"0\"";

    /// The value of a sample whose line starts so.
    fn sample(text: &str, start: &str) -> Option<f64> {
        text.lines().find_map(|line| line.strip_prefix(start)?.trim().parse().ok())
    }

    #[test]
    fn a_session_counts_the_same_while_it_lives_and_after_it_has_ended() {
        let metrics = Metrics::new(10);
        let rule = metrics.rule(&id("0"), &class());
        let counters = Arc::new(SessionCounters::default());
        let shown = Arc::new(Mutex::new(vec![(Arc::clone(&rule), Arc::clone(&counters))]));
        let live = Arc::clone(&shown);
        metrics.watch_live(Box::new(move |visit| {
            live.lock().unwrap().iter().for_each(|(rule, counters)| visit(rule, counters));
        }));
        rule.opened();
        counters.direction(Direction::In).message(DataOpcode::Text, 100);
        counters.direction(Direction::In).bytes(106);

        let messages = format!("sheave_messages_total{{{LABELS},direction=\"in\",opcode=\"text\"}}");
        let check = |active: f64| {
            let text = metrics.expose();
            assert_eq!(sample(&text, &messages), Some(1.0), "{text}");
            assert_eq!(sample(&text, "sheave_message_size_bytes_bucket{direction=\"in\",le=\"256\"}"), Some(1.0));
            assert_eq!(sample(&text, "sheave_message_size_bytes_sum{direction=\"in\"}"), Some(100.0));
            assert_eq!(sample(&text, &format!("sheave_connections_active{{{LABELS}}}")), Some(active));
        };
        check(1.0);
        let end = (CloseReason::Normal, Initiator::Client, Some(1000));
        rule.closed(&counters, end, Duration::from_secs(2));
        check(0.0);
        rule.closed(&counters, end, Duration::from_secs(2));
        shown.lock().unwrap().clear();
        check(0.0);
        let text = metrics.expose();
        assert_eq!(sample(&text, "sheave_close_code_total{code=\"1000\"}"), Some(1.0));
        assert_eq!(sample(&text, "sheave_connection_duration_seconds_sum"), Some(2.0));
    }

    #[test]
    fn rules_over_the_cap_share_one_name() {
        let metrics = Metrics::new(1);
        metrics.rule(&id("0"), &class()).handshake(HandshakeReason::Accepted);
        metrics.rule(&id("1"), &class()).handshake(HandshakeReason::Accepted);
        metrics.rule(&id("2"), &class()).handshake(HandshakeReason::Accepted);
        metrics.unrouted_handshake(HandshakeReason::NoRoute);
        let text = metrics.expose();
        let handshakes: Vec<_> = text.lines().filter(|line| line.starts_with("sheave_handshakes_total")).collect();
        assert_eq!(handshakes.len(), 3, "{handshakes:#?}");
        assert!(handshakes.iter().any(|line| line.contains("route=\"_overflow\"") && line.ends_with(" 2")));
        assert!(handshakes.iter().any(|line| line.contains("reason=\"no_route\"") && line.contains("route=\"\"")));
        assert_eq!(sample(&text, "sheave_metrics_series_dropped_total"), Some(2.0));
    }

    #[test]
    fn series_of_a_deleted_rule_stay_for_its_sessions_and_a_quarter_of_an_hour() {
        let metrics = Metrics::new(10);
        let rule = metrics.rule(&id("0"), &class());
        rule.opened();
        metrics.published(&Arc::default());
        let (start, later) = (Instant::now(), Instant::now() + FORGET_AFTER);
        let kept = |now| {
            let content = metrics.content();
            metrics.lock().forget(now, &content);
            !metrics.lock().rules.is_empty()
        };
        assert!(kept(start));
        assert!(kept(later), "a session is still open");
        rule.closed(&SessionCounters::default(), (CloseReason::RuleGone, Initiator::Proxy, Some(1012)), Duration::ZERO);
        drop(rule);
        assert!(kept(start + FORGET_AFTER.saturating_sub(Duration::from_secs(1))));
        assert!(!kept(later));
    }

    /// A table whose one rule has two ready endpoints and one that drains.
    fn table_with(backend: &BackendId) -> RoutingTable {
        let endpoint = |port, state| Endpoint { address: Address::Name("pod".into(), port), state, zone: None };
        let endpoints = Arc::new([
            endpoint(1, EndpointState::Ready),
            endpoint(2, EndpointState::Ready),
            endpoint(3, EndpointState::Draining),
        ]);
        let backend =
            Backend { id: backend.clone(), protocol: Protocol::Ws, tls: None, proxy_protocol: None, endpoints };
        let target = BackendTarget::Service(Arc::new(backend));
        let rule = Rule {
            id: id("0"),
            named: false,
            matches: Vec::new(),
            backends: vec![WeightedBackend { weight: 1, target }],
            policy: Arc::default(),
            plaintext: Plaintext::Allow,
            access: Arc::default(),
        };
        let hosts = vec![HostPattern::Any];
        let route = Route { id: id("0").route, class: class(), created: 0, hosts, rules: vec![Arc::new(rule)] };
        RoutingTable::new([route], BTreeMap::new(), None)
    }

    #[test]
    fn backends_show_their_endpoints_and_go_with_the_table() {
        let metrics = Metrics::new(10);
        let backend = BackendId { namespace: "ns".into(), service: "chat".into(), port: 80 };
        let connection = metrics.backend(&backend).connected();
        metrics.published(&Arc::new(table_with(&backend)));
        let text = metrics.expose();
        assert_eq!(sample(&text, "sheave_backend_endpoints{backend=\"ns/chat:80\",state=\"draining\"}"), Some(1.0));
        assert_eq!(sample(&text, "sheave_backend_connections_active{backend=\"ns/chat:80\"}"), Some(1.0));
        assert_eq!(sample(&text, "sheave_config_generation"), Some(1.0));
        assert!(sample(&text, "process_resident_memory_bytes").is_some_and(|bytes| bytes > 1e6), "{text}");
        drop(connection);
        metrics.published(&Arc::default());
        assert!(!metrics.expose().contains("ns/chat:80"));
    }
}
