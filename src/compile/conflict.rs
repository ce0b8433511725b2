//! Conflicts: two routes that ask for the same host and match, or bring different certificates for one host.
//!
//! The one that goes first (older, then by namespace and name, then the earlier rule: Gateway API) keeps it; the
//! other keeps all the rest and is told. Sharing a host is no conflict, not even across namespaces.

use super::route::Draft;
use super::verdict::Fault;
use crate::api::status::reason;
use crate::routing::{Certificate, HostPattern, Match, RouteId, RuleId};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A rule that lost some or all of its matches.
struct Loss {
    draft: usize,
    rule: RuleId,
    /// Whether nothing is left of it.
    whole: bool,
    message: String,
}

/// Puts drafts into the order in which they go first.
pub(super) fn by_age(drafts: &mut [Draft]) {
    drafts.sort_by(|a, b| (a.route.created, &a.route.id).cmp(&(b.route.created, &b.route.id)));
}

/// Drops every rule that could never be reached and tells its route. `drafts` are in order of age.
pub(super) fn settle(drafts: &mut [Draft]) {
    for loss in losses(drafts) {
        let draft = &mut drafts[loss.draft];
        if loss.whole {
            draft.route.rules.retain(|rule| rule.id != loss.rule);
        }
        draft.findings.dropped.push(loss.message);
        if draft.route.rules.is_empty() {
            let message = format!("spec.rules: no rule is left: {}", draft.findings.dropped.join("; "));
            draft.findings.unacceptable.push(Fault::new(reason::CONFLICTED, message));
        }
    }
    note_shared_hosts(drafts);
}

#[allow(clippy::mutable_key_type)] // an expression is hashed and compared by its text, which never changes
fn losses(drafts: &[Draft]) -> Vec<Loss> {
    let mut held: HashMap<(&HostPattern, &Match), &RuleId> = HashMap::new();
    let mut losses = Vec::new();
    for (at, draft) in drafts.iter().enumerate().filter(|(_, draft)| draft.accepted()) {
        for rule in &draft.route.rules {
            let mut lost = Vec::new();
            for host in &draft.route.hosts {
                for matching in &rule.matches {
                    match held.entry((host, matching)) {
                        Entry::Occupied(holder) => lost.push((host, matching, *holder.get())),
                        Entry::Vacant(free) => {
                            free.insert(&rule.id);
                        }
                    }
                }
            }
            let whole = lost.len() == draft.route.hosts.len() * rule.matches.len();
            if !lost.is_empty() {
                losses.push(Loss { draft: at, rule: rule.id.clone(), whole, message: told(&rule.id, whole, &lost) });
            }
        }
    }
    losses
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

/// Tells the younger route of a host that another namespace uses, too.
fn note_shared_hosts(drafts: &mut [Draft]) {
    let mut first: HashMap<HostPattern, RouteId> = HashMap::new();
    for draft in drafts.iter_mut().filter(|draft| draft.accepted()) {
        for host in &draft.route.hosts {
            let holder = first.entry(host.clone()).or_insert_with(|| draft.route.id.clone());
            if holder.namespace != draft.route.id.namespace {
                let note = format!(
                    "spec.hostnames: {host} is also a host of route {holder} in another namespace, which goes first where both match"
                );
                draft.findings.notes.push(note);
            }
        }
    }
}

/// The certificate of each host: the first route's; others that bring a different one are told.
pub(super) fn certificates(drafts: &mut [Draft]) -> BTreeMap<HostPattern, Arc<Certificate>> {
    let mut served: BTreeMap<HostPattern, (Arc<Certificate>, RouteId)> = BTreeMap::new();
    for draft in drafts.iter_mut().filter(|draft| draft.accepted()) {
        for (host, own) in &draft.certificates {
            let (held, holder) =
                served.entry(host.clone()).or_insert_with(|| (Arc::clone(own), draft.route.id.clone()));
            if held.fingerprint != own.fingerprint {
                draft.findings.overlaps.push(format!(
                    "spec.tls.certificateRefs: {host} is served with {} of route {holder}, which goes first, and not \
                     with {}: name the same certificate in both routes",
                    held.source, own.source
                ));
            }
        }
    }
    served.into_iter().map(|(host, (certificate, _))| (host, certificate)).collect()
}
