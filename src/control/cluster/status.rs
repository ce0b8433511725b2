//! From verdicts to the statuses that are still to be written.
//!
//! Pure. A status is written only when it differs from the stored one; a condition keeps the time of its last flip; and
//! nothing is said of a generation older than the one the stored status speaks of.

use super::decode::Stored;
use crate::api::Status;
use crate::api::status::{OVERLAPPING_TLS_CONFIG, PARTIALLY_INVALID};
use crate::compile::{Condition, ObjectRef, Verdict, Verdicts};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition as StoredCondition, Time};
use k8s_openapi::jiff::Timestamp;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A status to write.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Write {
    /// Unique identifier of the object, for its events.
    pub(super) uid: String,
    /// The status; without conditions when the object is no longer ours.
    pub(super) status: Status,
    /// What became of conditions that flipped.
    pub(super) flips: Vec<Flip>,
}

/// A condition that is no longer what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Flip {
    pub(super) reason: &'static str,
    /// For people.
    pub(super) note: String,
    /// Whether it is for the worse.
    pub(super) worse: bool,
}

/// The statuses to write, by object.
pub(super) type Due = BTreeMap<ObjectRef, Arc<Write>>;

/// Compares every verdict with what is stored.
pub(super) fn due(verdicts: &Verdicts, statuses: &HashMap<ObjectRef, Stored>, now: Timestamp) -> Due {
    let mut due = Due::new();
    for verdict in verdicts.iter() {
        // An object that is gone has no stored status, and needs none.
        let Some(stored) = statuses.get(&verdict.object) else { continue };
        if let Some(write) = write(verdict, stored, now) {
            due.insert(verdict.object.clone(), Arc::new(write));
        }
    }
    for (object, stored) in statuses.iter().filter(|(object, stored)| stored.ours && verdicts.get(object).is_none()) {
        let write = Write { uid: stored.uid.clone(), status: Status::default(), flips: Vec::new() };
        due.insert(object.clone(), Arc::new(write));
    }
    due
}

fn write(verdict: &Verdict, stored: &Stored, now: Timestamp) -> Option<Write> {
    let Status { observed_generation, conditions: held } = &stored.status;
    if verdict.generation < *observed_generation && observed_generation.is_some() {
        return None;
    }
    let before = |kind: &str| held.iter().find(|condition| condition.type_ == kind);
    let says = |c: &Condition, h: &StoredCondition| {
        h.status == word(c.status)
            && h.reason == c.reason
            && h.message == c.message
            && h.observed_generation == verdict.generation
    };
    let told = verdict.conditions.iter().all(|c| before(c.kind).is_some_and(|h| says(c, h)));
    let only_while_true = [OVERLAPPING_TLS_CONFIG, PARTIALLY_INVALID];
    let left_over = |kind: &&str| before(kind).is_some() && verdict.condition(kind).is_none();
    if told && *observed_generation == verdict.generation && !only_while_true.iter().any(left_over) {
        return None;
    }
    let conditions = verdict.conditions.iter().map(|c| StoredCondition {
        last_transition_time: match before(c.kind).filter(|h| h.status == word(c.status)) {
            Some(unflipped) => unflipped.last_transition_time.clone(),
            None => Time(now),
        },
        message: c.message.clone(),
        observed_generation: verdict.generation,
        reason: c.reason.to_owned(),
        status: word(c.status).to_owned(),
        type_: c.kind.to_owned(),
    });
    Some(Write {
        uid: stored.uid.clone(),
        status: Status { observed_generation: verdict.generation, conditions: conditions.collect() },
        flips: flips(verdict, held),
    })
}

/// Conditions that are for the worse now, or no longer. One that follows from another is left to it.
fn flips(verdict: &Verdict, held: &[StoredCondition]) -> Vec<Flip> {
    let mut flips = Vec::new();
    for condition in verdict.conditions.iter().filter(|c| c.kind != crate::api::status::PROGRAMMED) {
        let good_when_true = ![OVERLAPPING_TLS_CONFIG, PARTIALLY_INVALID].contains(&condition.kind);
        let worse = condition.status != good_when_true;
        let before = held.iter().find(|h| h.type_ == condition.kind);
        let flipped = before.map_or(worse, |h| h.status != word(condition.status));
        if flipped {
            let message = if condition.message.is_empty() { "mended" } else { &condition.message };
            let note = format!("{} is {}: {message}", condition.kind, word(condition.status));
            flips.push(Flip { reason: condition.reason, note, worse });
        }
    }
    flips
}

fn word(status: bool) -> &'static str {
    if status { "True" } else { "False" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::{ObjectKey, Options, Snapshot, compile};
    use serde_json::json;

    fn verdicts(generation: i64, pattern: &str) -> Verdicts {
        let mut snapshot = Snapshot::default();
        let route = json!({
            "metadata": {"name": "r", "namespace": "n", "generation": generation},
            "spec": {"rules": [
                {"name": "a", "backendRefs": [{"name": "s", "port": 1}]},
                {"name": "b", "matches": [{"path": {"type": "RegularExpression", "value": pattern}}], "backendRefs": [{"name": "s", "port": 1}]},
            ]},
        });
        let route = serde_json::from_value(route).expect("a route");
        snapshot.routes.insert(ObjectKey::new("n", "r"), Arc::new(route));
        compile(&snapshot, &Options::folder()).verdicts
    }

    fn route() -> ObjectRef {
        ObjectRef { kind: "WebSocketRoute", namespace: "n".to_owned(), name: "r".to_owned() }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    fn stored(status: Status) -> HashMap<ObjectRef, Stored> {
        HashMap::from([(route(), Stored { status, ours: true, uid: "u".to_owned() })])
    }

    #[test]
    fn a_status_is_written_once_and_keeps_the_time_of_its_last_flip() {
        let first = due(&verdicts(1, "/x"), &stored(Status::default()), at(100));
        let written = &first[&route()];
        assert_eq!(written.status.observed_generation, Some(1));
        assert!(due(&verdicts(1, "/x"), &stored(written.status.clone()), at(200)).is_empty(), "written again");
        let second = due(&verdicts(2, "(/x"), &stored(written.status.clone()), at(200));
        let second = &second[&route()].status;
        let time = |kind: &str| second.conditions.iter().find(|c| c.type_ == kind).map(|c| c.last_transition_time.0);
        assert_eq!((time("Accepted"), time("PartiallyInvalid")), (Some(at(100)), Some(at(200))));
        let third = due(&verdicts(3, "/x"), &stored(second.clone()), at(300));
        assert!(third[&route()].status.conditions.iter().all(|c| c.type_ != "PartiallyInvalid"));
    }

    #[test]
    fn events_tell_flips_and_nothing_else() {
        let fresh = due(&verdicts(1, "(/x"), &stored(Status::default()), at(1));
        let kinds = |due: &Due| due[&route()].flips.iter().map(|flip| (flip.reason, flip.worse)).collect::<Vec<_>>();
        // The Service does not exist, and one expression does not compile.
        assert_eq!(kinds(&fresh), [("BackendNotFound", true), ("UnsupportedValue", true)]);
        let edited = due(&verdicts(2, "(/y"), &stored(fresh[&route()].status.clone()), at(2));
        assert_eq!(kinds(&edited), []);
    }

    #[test]
    fn an_older_view_never_overwrites_a_newer_one_and_what_is_not_ours_is_let_go() {
        let newer = Status { observed_generation: Some(9), ..Status::default() };
        assert!(due(&verdicts(8, "/x"), &stored(newer.clone()), at(1)).is_empty());
        let gone = due(&Verdicts::default(), &stored(newer), at(1));
        assert_eq!(gone[&route()].status, Status::default());
        let untouched = HashMap::from([(route(), Stored::default())]);
        assert!(due(&Verdicts::default(), &untouched, at(1)).is_empty());
    }
}
