//! Verdicts: what compile made of each object, in the words of Kubernetes conditions.
//!
//! A message begins with the field at fault and says what to change. It holds nothing that changes while the
//! objects do not (no counts, no pod names, no time of day), so that an unchanged object never causes a write.
//! Hints that do depend on endpoints are notes: `sheave check` prints them, a status never holds them.

use super::snapshot::Unreadable;
use crate::api::status::{ACCEPTED, OVERLAPPING_TLS_CONFIG, PARTIALLY_INVALID, PROGRAMMED, RESOLVED_REFS, reason};
use serde::{Serialize, Serializer};
use std::fmt;
use std::sync::Arc;

/// Above this many faults under one condition the rest is left out: a message may have 32,768 bytes.
const MOST_FAULTS: usize = 16;

/// The object a verdict speaks of. Shown as `WebSocketRoute shop/chat`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectRef {
    /// `WebSocketClass` or `WebSocketRoute`.
    pub kind: &'static str,
    /// Its namespace; empty for a class.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            return write!(f, "{} {}", self.kind, self.name);
        }
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

impl Serialize for ObjectRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Condition {
    /// A condition type of [`crate::api::status`].
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Whether it holds: `"True"` or `"False"`.
    #[serde(serialize_with = "as_text")]
    pub status: bool,
    /// A reason of [`reason`].
    pub reason: &'static str,
    /// What is wrong and what to change; empty when nothing is.
    pub message: String,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde hands a reference
fn as_text<S: Serializer>(status: &bool, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(if *status { "True" } else { "False" })
}

/// What compile made of one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The object.
    pub object: ObjectRef,
    /// The generation of its spec that was judged, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// Accepted, `ResolvedRefs`, `PartiallyInvalid`, `OverlappingTLSConfig`, Programmed, in this order; the third and
    /// fourth only while true.
    pub conditions: Vec<Condition>,
    /// Hints for a person that no status holds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl Verdict {
    /// The condition of this type, if it is set.
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.kind == kind)
    }

    /// Whether the object is accepted.
    pub fn accepted(&self) -> bool {
        self.condition(ACCEPTED).is_some_and(|condition| condition.status)
    }

    /// Whether every condition is as its owner would wish.
    pub fn spotless(&self) -> bool {
        let bad_when_true = [OVERLAPPING_TLS_CONFIG, PARTIALLY_INVALID];
        self.conditions.iter().all(|condition| condition.status != bad_when_true.contains(&condition.kind))
    }
}

/// The verdicts by object, written as a list. An object of another controller has none.
///
/// A clone shares every verdict. A [`super::Compiler`] gives the same `Arc` again for a route whose verdict stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdicts(Vec<Arc<Verdict>>); // in order of the objects

impl Serialize for Verdicts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl Verdicts {
    /// Every verdict in the order of kind, namespace and name.
    pub fn iter(&self) -> impl Iterator<Item = &Verdict> {
        self.shared().map(|verdict| &**verdict)
    }

    /// The same, to be kept and to be compared by identity.
    pub fn shared(&self) -> impl Iterator<Item = &Arc<Verdict>> {
        self.0.iter()
    }

    /// The verdict on one object.
    pub fn get(&self, object: &ObjectRef) -> Option<&Verdict> {
        self.place(object).ok().map(|at| &*self.0[at])
    }

    /// Whether every object is accepted.
    pub fn all_accepted(&self) -> bool {
        self.iter().all(Verdict::accepted)
    }

    /// Puts a verdict in the place of an earlier one on the same object. An equal one stays.
    pub(super) fn add(&mut self, verdict: Verdict) {
        match self.place(&verdict.object) {
            Ok(at) if *self.0[at] == verdict => {}
            Ok(at) => self.0[at] = Arc::new(verdict),
            Err(at) => self.0.insert(at, Arc::new(verdict)),
        }
    }

    /// Adds those of `others`, which speak of other objects.
    pub(super) fn extend(&mut self, others: &Self) {
        self.0.extend(others.0.iter().map(Arc::clone));
        self.0.sort_by(|a, b| a.object.cmp(&b.object));
    }

    pub(super) fn remove(&mut self, object: &ObjectRef) {
        if let Ok(at) = self.place(object) {
            self.0.remove(at);
        }
    }

    fn place(&self, object: &ObjectRef) -> Result<usize, usize> {
        self.0.binary_search_by(|verdict| verdict.object.cmp(object))
    }
}

/// One thing that is wrong: the reason's name and the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Fault {
    pub(super) fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    /// The same fault, said of a field.
    pub(super) fn at(&self, field: impl fmt::Display) -> Self {
        Self { reason: self.reason, message: format!("{field}: {}", self.message) }
    }
}

/// What was found wrong with one object so far, by the condition it belongs to.
#[derive(Clone, Debug, Default)]
pub(super) struct Findings {
    /// The object cannot be used: Accepted is false.
    pub(super) unacceptable: Vec<Fault>,
    /// Something it names cannot be used: `ResolvedRefs` is false.
    pub(super) unresolved: Vec<Fault>,
    /// Rules that are gone: `PartiallyInvalid` is true. Each begins with `Dropped Rule`.
    pub(super) dropped: Vec<String>,
    /// Hosts served with another's certificate: `OverlappingTLSConfig` is true.
    pub(super) overlaps: Vec<String>,
    /// Told under Accepted although the object is accepted.
    pub(super) remark: String,
    /// See [`Verdict::notes`].
    pub(super) notes: Vec<String>,
}

impl Findings {
    /// The conditions; `programmed` says whether the object reached the table, `None` for a kind that never does.
    pub(super) fn conditions(&self, programmed: Option<bool>) -> Vec<Condition> {
        let accepted = self.unacceptable.is_empty();
        let mut conditions = vec![
            judged(ACCEPTED, reason::ACCEPTED, &self.unacceptable, &self.remark),
            judged(RESOLVED_REFS, reason::RESOLVED_REFS, &self.unresolved, ""),
        ];
        let mut told = |kind, reason, messages: &[String]| {
            if accepted && !messages.is_empty() {
                conditions.push(Condition { kind, status: true, reason, message: joined(messages) });
            }
        };
        told(PARTIALLY_INVALID, reason::UNSUPPORTED_VALUE, &self.dropped);
        told(OVERLAPPING_TLS_CONFIG, reason::CONFLICTED, &self.overlaps);
        if let Some(programmed) = programmed {
            let (reason, message) = if programmed {
                (reason::PROGRAMMED, "")
            } else {
                (reason::INVALID, "not served: see the condition Accepted")
            };
            conditions.push(Condition { kind: PROGRAMMED, status: programmed, reason, message: message.to_owned() });
        }
        conditions
    }
}

/// The verdict on an object that could not be read.
pub(super) fn unreadable(
    kind: &'static str,
    namespace: &str,
    name: &str,
    unreadable: &Unreadable,
    programs: bool,
) -> Verdict {
    let fault = |message: &String| Fault::new(reason::UNSUPPORTED_VALUE, message.clone());
    let findings = Findings { unacceptable: unreadable.faults.iter().map(fault).collect(), ..Findings::default() };
    Verdict {
        object: ObjectRef { kind, namespace: namespace.to_owned(), name: name.to_owned() },
        generation: unreadable.generation,
        conditions: findings.conditions(programs.then_some(false)),
        notes: Vec::new(),
    }
}

/// A condition that is false by the first fault's reason, or true.
fn judged(kind: &'static str, fine: &'static str, faults: &[Fault], remark: &str) -> Condition {
    let messages: Vec<String> = faults.iter().map(|fault| fault.message.clone()).collect();
    match faults.first() {
        None => Condition { kind, status: true, reason: fine, message: remark.to_owned() },
        Some(first) => Condition { kind, status: false, reason: first.reason, message: joined(&messages) },
    }
}

fn joined(messages: &[String]) -> String {
    let mut shown: Vec<&str> = Vec::new();
    for message in messages {
        if !shown.contains(&message.as_str()) {
            shown.push(message);
        }
    }
    if shown.len() > MOST_FAULTS {
        shown.truncate(MOST_FAULTS);
        shown.push("and more of the kind");
    }
    shown.join("; ")
}
