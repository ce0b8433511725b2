//! The sums of a run, and how they are shown.

use crate::judge::Faults;
use crate::ledger::{Ended, Ledger};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// How many faults are told in words.
const TOLD: usize = 20;

/// The sums.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    sessions: u64,
    handshakes: u64,
    sent: u64,
    got: u64,
    returned: u64,
    bytes: u64,
    pings: u64,
    stalls: u64,
    slow: u64,
    ends: BTreeMap<&'static str, u64>,
    closes: BTreeMap<String, u64>,
    /// Ended sessions by the reason of their records.
    pub(crate) reasons: BTreeMap<String, u64>,
    /// What was done to them, by kind.
    pub(crate) disturbances: BTreeMap<&'static str, u64>,
    lost: u64,
    corrupt: u64,
    repeated: u64,
    unexpected: u64,
    pub(crate) leaked: Leaks,
    told: Vec<String>,
    alarms: u64,
    /// Lines for the reader, such as how memory went.
    pub(crate) notes: Vec<String>,
}

/// What was left when all had ended.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Leaks {
    pub(crate) tasks: u64,
    pub(crate) sessions: u64,
    pub(crate) descriptors: u64,
    pub(crate) threads: u64,
    /// In MiB above what is allowed for.
    pub(crate) memory: u64,
}

impl Tally {
    /// Adds a session that is over.
    pub(crate) fn add(&mut self, ledger: &Ledger, ended: &Ended, faults: &Faults, record: Option<&str>) {
        let facts = ledger.facts();
        self.handshakes += 1;
        self.sessions += u64::from(facts.upgraded);
        self.sent += facts.sent;
        self.got += facts.got;
        self.returned += facts.returned;
        self.bytes += facts.bytes;
        self.pings += facts.pings;
        self.stalls += facts.stalled;
        if facts.upgraded {
            self.slow += u64::from(ledger.plan.slow_client) + u64::from(ledger.plan.slow_backend);
            *self.ends.entry(ledger.plan.end.name()).or_default() += 1;
        }
        *self.closes.entry(word(ended)).or_default() += 1;
        self.lost += faults.lost;
        self.corrupt += faults.corrupt;
        self.repeated += faults.repeated;
        self.unexpected += u64::from(faults.unexpected.is_some());
        if !faults.is_none() && self.told.len() < TOLD {
            let told = format!(
                "session {:x} of {:?}: {ended:?}\n    {faults:?}\n    {:?}\n    {:?}\n    record: {}",
                ledger.id,
                ledger.which,
                ledger.plan,
                *facts,
                record.unwrap_or("none")
            );
            drop(facts);
            eprintln!("{told}");
            self.told.push(told);
        }
    }

    /// Notes what may not happen at all.
    pub(crate) fn alarm(&mut self, what: String) {
        eprintln!("{what}");
        self.alarms += 1;
        if self.told.len() < TOLD {
            self.told.push(what);
        }
    }

    /// Notes that something was done to the sessions.
    pub(crate) fn disturbed(&mut self, kind: &'static str) {
        *self.disturbances.entry(kind).or_default() += 1;
    }

    /// Whether everything that has to be zero is.
    pub(crate) fn is_clean(&self) -> bool {
        let Leaks { tasks, sessions, descriptors, threads, memory } = self.leaked;
        let sum = self.lost + self.corrupt + self.repeated + self.unexpected + self.alarms;
        sum + tasks + sessions + descriptors + threads + memory == 0 && self.sessions > 0
    }

    /// One line while it runs.
    pub(crate) fn line(&self) -> String {
        format!(
            "{} sessions, {} messages, {:.1} MB; lost {} corrupt {} repeated {} unexpected {} other {}",
            self.sessions,
            self.got + self.returned,
            self.bytes as f64 / 1e6,
            self.lost,
            self.corrupt,
            self.repeated,
            self.unexpected,
            self.alarms
        )
    }

    /// The whole table.
    pub(crate) fn table(&self, took: Duration) -> String {
        let seconds = took.as_secs_f64();
        let mut out = String::new();
        let mut row = |name: &str, value: String| {
            let _ = writeln!(out, "{name:<24} {value}");
        };
        let rate = |count: u64| format!("{count} ({:.0}/s)", count as f64 / seconds);
        row("time", format!("{seconds:.0} s"));
        row("handshakes", rate(self.handshakes));
        row("sessions", rate(self.sessions));
        row("messages relayed", rate(self.got + self.returned));
        row(
            "payload relayed",
            format!("{:.1} MB ({:.1} MB/s)", self.bytes as f64 / 1e6, self.bytes as f64 / 1e6 / seconds),
        );
        row("messages sent", format!("{}, at the backend {}, back {}", self.sent, self.got, self.returned));
        row("pings", self.pings.to_string());
        row("stalls within a frame", self.stalls.to_string());
        row("slow sides", self.slow.to_string());
        row("planned ends", list(self.ends.iter()));
        row("disturbances", list(self.disturbances.iter()));
        row("as clients saw it", list(self.closes.iter()));
        row("as records say it", list(self.reasons.iter()));
        for note in &self.notes {
            row("", note.clone());
        }
        let Leaks { tasks, sessions, descriptors, threads, memory } = self.leaked;
        for (name, value) in [
            ("lost", self.lost),
            ("corrupt", self.corrupt),
            ("repeated", self.repeated),
            ("unexpected closes", self.unexpected),
            ("other faults", self.alarms),
            ("leaked tasks", tasks),
            ("leaked sessions", sessions),
            ("leaked descriptors", descriptors),
            ("leaked threads", threads),
            ("leaked memory, MiB", memory),
        ] {
            row(name, value.to_string());
        }
        out
    }
}

fn list<'a, N: std::fmt::Display + 'a>(counts: impl Iterator<Item = (&'a N, &'a u64)>) -> String {
    counts.map(|(name, count)| format!("{name}: {count}")).collect::<Vec<_>>().join(", ")
}

fn word(ended: &Ended) -> String {
    match ended {
        Ended::Cut { within: true, .. } => "end within a frame".to_owned(),
        Ended::Cut { reset: true, .. } => "reset".to_owned(),
        Ended::Cut { .. } => "end without a Close".to_owned(),
        Ended::Close(code, _) => code.to_string(),
        Ended::NoAnswer(..) => "no answer".to_owned(),
        Ended::Refused(status) => format!("HTTP {status}"),
        Ended::Left => "left itself".to_owned(),
        Ended::Stuck => "stuck".to_owned(),
    }
}
