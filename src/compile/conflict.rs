//! Conflicts: two routes that ask for the same host and match, or bring different certificates for one host.
//!
//! The one that goes first (older, then by namespace and name, then the earlier rule: Gateway API) keeps it; the
//! other keeps all the rest and is told. Sharing a host is no conflict, not even across namespaces.
//!
//! Two steps: who holds each match decides which routes reach the table; who is first on each host, and whose
//! certificate is served there, is decided among these only. A step looks again at the routes that changed and at
//! those that share with them something whose holder changed.

use super::register::Register;
use super::route::Draft;
use super::verdict::{Fault, Findings, ObjectRef, Verdict};
use crate::api::status::reason;
use crate::routing::{Certificate, HostPattern, Match, Route, RouteId, RuleId};
use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;

/// The order in which routes go first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Age {
    created: i64,
    id: RouteId,
}

/// A draft without the rules it lost.
#[derive(Debug)]
struct Settled {
    route: Arc<Route>,
    findings: Findings,
}

impl Settled {
    fn accepted(&self) -> bool {
        self.findings.unacceptable.is_empty()
    }
}

/// All drafts, and what they have in common.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    drafts: BTreeMap<RouteId, Draft>,
    settled: BTreeMap<RouteId, Settled>,
    /// What the rules of acceptable drafts ask for, each with its position.
    matches: Register<(HostPattern, Match), (Age, usize), RuleId>,
    /// Those who reach the table.
    hosts: Register<HostPattern, Age, ()>,
    certificates: Register<HostPattern, Age, Arc<Certificate>>,
    /// Whose draft is another since the last settling.
    replaced: BTreeSet<RouteId>,
}

/// What has become of what changed.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// What each route brings to the table.
    pub(super) routes: Vec<(RouteId, Option<Arc<Route>>)>,
    /// The certificate of each host.
    pub(super) certificates: Vec<(HostPattern, Option<Arc<Certificate>>)>,
    /// The verdict on each route, if it is ours.
    pub(super) verdicts: Vec<(RouteId, Option<Verdict>)>,
}

impl Neighbours {
    /// Puts a draft in the place of the last one of its name, or takes that away.
    pub(super) fn replace(&mut self, id: RouteId, draft: Option<Draft>) {
        if let Some(old) = self.drafts.remove(&id) {
            each_claim(&old, |thing, claimant, _| self.matches.leave(&thing, &claimant));
        }
        if let Some(draft) = draft {
            each_claim(&draft, |thing, claimant, rule| self.matches.enter(thing, claimant, rule));
            self.drafts.insert(id.clone(), draft);
        }
        self.replaced.insert(id);
    }

    /// Judges anew whatever the drafts replaced since the last call concern.
    pub(super) fn settle(&mut self) -> Outcome {
        let mut outcome = Outcome::default();
        let mut concerned = mem::take(&mut self.replaced);
        for thing in self.matches.take_moved() {
            concerned.extend(self.matches.claimants(&thing).map(|(age, _)| age.id.clone()));
        }
        for id in &concerned {
            let settled = self.drafts.get(id).map(|draft| self.without_losses(draft));
            let route = settled.as_ref().filter(|settled| settled.accepted()).map(|settled| Arc::clone(&settled.route));
            self.enter(id, settled);
            outcome.routes.push((id.clone(), route));
        }
        for host in self.hosts.take_moved() {
            concerned.extend(self.hosts.claimants(&host).map(|age| age.id.clone()));
        }
        for host in self.certificates.take_moved() {
            concerned.extend(self.certificates.claimants(&host).map(|age| age.id.clone()));
            let served = self.certificates.holder(&host).map(|(_, certificate)| Arc::clone(certificate));
            outcome.certificates.push((host, served));
        }
        for id in concerned {
            let verdict = self.verdict(&id);
            outcome.verdicts.push((id, verdict));
        }
        outcome
    }

    /// Drops every rule that could never be reached.
    fn without_losses(&self, draft: &Draft) -> Settled {
        let mut settled = Settled { route: Arc::clone(&draft.route), findings: draft.findings.clone() };
        if !draft.accepted() {
            return settled;
        }
        let age = Age::of(&draft.route);
        let mut left = Vec::new();
        for (at, rule) in draft.route.rules.iter().enumerate() {
            let mut lost = Vec::new();
            for host in &draft.route.hosts {
                for matching in &rule.matches {
                    match self.matches.holder(&(host.clone(), matching.clone())) {
                        Some(((first, position), holder)) if (first, *position) != (&age, at) => {
                            lost.push((host, matching, holder));
                        }
                        _ => {}
                    }
                }
            }
            let whole = lost.len() == draft.route.hosts.len() * rule.matches.len();
            if !lost.is_empty() {
                settled.findings.dropped.push(told(&rule.id, whole, &lost));
            }
            if !whole {
                left.push(Arc::clone(rule));
            }
        }
        if left.len() == draft.route.rules.len() {
            return settled;
        }
        let route = Route { rules: left, ..Route::clone(&draft.route) };
        if route.rules.is_empty() {
            let message = format!("spec.rules: no rule is left: {}", settled.findings.dropped.join("; "));
            settled.findings.unacceptable.push(Fault::new(reason::CONFLICTED, message));
        }
        settled.route = Arc::new(route);
        settled
    }

    /// Registers a route among those who reach the table, in the place of what it was.
    fn enter(&mut self, id: &RouteId, settled: Option<Settled>) {
        if let Some(old) = self.settled.remove(id).filter(Settled::accepted) {
            let age = Age::of(&old.route);
            old.route.hosts.iter().for_each(|host| self.hosts.leave(host, &age));
            old.route.hosts.iter().for_each(|host| self.certificates.leave(host, &age));
        }
        let Some(new) = settled else { return };
        if new.accepted() {
            let age = Age::of(&new.route);
            new.route.hosts.iter().for_each(|host| self.hosts.enter(host.clone(), age.clone(), ()));
            let certificates = self.drafts.get(id).into_iter().flat_map(|draft| &draft.certificates);
            for (host, certificate) in certificates {
                self.certificates.enter(host.clone(), age.clone(), Arc::clone(certificate));
            }
        }
        self.settled.insert(id.clone(), new);
    }

    fn verdict(&self, id: &RouteId) -> Option<Verdict> {
        let (draft, settled) = (self.drafts.get(id)?, self.settled.get(id)?);
        let programmed = settled.accepted();
        let mut findings = settled.findings.clone();
        if programmed {
            findings.notes.extend(self.shared_hosts(&draft.route));
            findings.overlaps.extend(self.overlaps(draft));
        }
        Some(Verdict {
            object: object(id),
            generation: draft.generation,
            conditions: findings.conditions(Some(programmed)),
            notes: findings.notes,
        })
    }

    /// Tells the younger route of a host that another namespace uses, too.
    fn shared_hosts(&self, route: &Route) -> impl Iterator<Item = String> {
        route.hosts.iter().filter_map(|host| {
            let (Age { id: holder, .. }, ()) = self.hosts.holder(host)?;
            (holder.namespace != route.id.namespace).then(|| {
                format!(
                    "spec.hostnames: {host} is also a host of route {holder} in another namespace, which goes first \
                     where both match"
                )
            })
        })
    }

    /// Tells a route of the hosts that are served with the certificate of another one.
    fn overlaps(&self, draft: &Draft) -> impl Iterator<Item = String> {
        draft.certificates.iter().filter_map(|(host, own)| {
            let (holder, held) = self.certificates.holder(host)?;
            (held.fingerprint != own.fingerprint).then(|| {
                format!(
                    "spec.tls.certificateRefs: {host} is served with {} of route {}, which goes first, and not with \
                     {}: name the same certificate in both routes",
                    held.source, holder.id, own.source
                )
            })
        })
    }
}

impl Age {
    fn of(route: &Route) -> Self {
        Self { created: route.created, id: route.id.clone() }
    }
}

/// The object that a verdict on a route speaks of.
pub(super) fn object(id: &RouteId) -> ObjectRef {
    ObjectRef { kind: "WebSocketRoute", namespace: id.namespace.to_string(), name: id.name.to_string() }
}

/// What the rules of a draft ask for; nothing if it is not acceptable.
fn each_claim(draft: &Draft, mut see: impl FnMut((HostPattern, Match), (Age, usize), RuleId)) {
    if !draft.accepted() {
        return;
    }
    let age = Age::of(&draft.route);
    for (at, rule) in draft.route.rules.iter().enumerate() {
        for host in &draft.route.hosts {
            for matching in &rule.matches {
                see((host.clone(), matching.clone()), (age.clone(), at), rule.id.clone());
            }
        }
    }
}

fn told(rule: &RuleId, whole: bool, lost: &[(&HostPattern, &Match, &RuleId)]) -> String {
    let (host, matching, holder) = lost[0];
    let extent = match (whole, lost.len()) {
        (true, _) => String::new(),
        (false, 1) => format!(" for {matching} on {host}, not for the rest"),
        (false, _) => format!(" for {matching} on {host} and others, not for the rest"),
    };
    let owner = if holder.route == rule.route {
        format!("the earlier rule {} of this route", holder.rule)
    } else if holder.route.namespace == rule.route.namespace {
        format!("rule {} of route {}, which goes first (older, or first by name)", holder.rule, holder.route)
    } else {
        format!(
            "rule {} of route {} in another namespace, which goes first (older, or first by name)",
            holder.rule, holder.route
        )
    };
    format!(
        "Dropped Rule {}{extent}: shadowed by {owner}: it takes {matching} on {host}; change the match or the hostname \
         of one of the two",
        rule.rule
    )
}
