//! The compiler that remembers: reads anew what a change concerns, and shares the rest with the last result.
//!
//! A route is read again when its object, one of its inputs, or what the classes say has changed, and for no other
//! reason. What several routes decide together is kept by `conflict`, and the table is revised route by route.
//! A new compiler has everything to read: that is what [`super::compile`] is.

use super::changes::Last;
use super::class::{Claim, Classes};
use super::conflict::{Neighbours, Outcome, object};
use super::inputs::{Lookup, Memo, Reader, Readers};
use super::key_source::KeySource;
use super::route::{self, Draft};
use super::snapshot::{ObjectKey, Snapshot};
use super::verdict::{self, Verdicts};
use super::{Compiled, Options};
use crate::routing::RoutingTable;
use std::collections::BTreeMap;

/// Compiles one snapshot after the other. The result is that of [`super::compile`], and what has not changed since
/// the last call is shared with the last result.
///
/// Objects are told apart by identity: a changed one must come in another `Arc`.
#[derive(Debug, Default)]
pub struct Compiler {
    options: Options,
    last: Last,
    memo: Memo,
    readers: Readers,
    /// The key sources that routes name, by the route.
    key_sources: BTreeMap<ObjectKey, Vec<KeySource>>,
    classes: Classes,
    neighbours: Neighbours,
    table: RoutingTable,
    /// Those on routes that could be read.
    verdicts: Verdicts,
}

impl Compiler {
    /// Keeps no content of a Secret: the next time they are all read anew.
    pub fn let_go_of_secrets(&mut self) {
        self.last.let_go_of_secrets();
    }

    /// Compiles `snapshot`, in time proportional to what differs from the last one, beside a quick look at every object.
    pub fn compile(&mut self, snapshot: &Snapshot, options: &Options) -> Compiled {
        if self.options != *options {
            *self = Self { options: options.clone(), ..Self::default() };
        }
        let mut changes = self.last.follow(snapshot);
        changes.inputs.extend(self.memo.move_to(snapshot.taken_at));
        let mut stale = changes.routes;
        for input in &changes.inputs {
            self.memo.forget(input);
            stale.extend(self.readers.routes(input).cloned());
        }

        let mut lookup = Lookup::new(snapshot, options, &self.last.slices, &mut self.memo);
        let mut verdicts = Verdicts::default();
        let (classes, default_certificate) = Classes::read(snapshot, options, &mut lookup, &mut verdicts);
        let mut unread = self.readers.renew(&Reader::Classes, lookup.take_seen());
        if classes != self.classes {
            stale.extend(snapshot.routes.keys().cloned());
            self.classes = classes;
        }
        for key in stale {
            let draft = draft(&key, snapshot, &self.classes, &mut lookup);
            self.neighbours.replace(route::id(&key), draft);
            match lookup.take_key_sources() {
                none if none.is_empty() => drop(self.key_sources.remove(&key)),
                some => drop(self.key_sources.insert(key.clone(), some)),
            }
            unread.extend(self.readers.renew(&Reader::Route(key), lookup.take_seen()));
        }
        for input in unread.iter().filter(|input| !self.readers.has(input)) {
            self.memo.forget(input);
        }

        let outcome = self.neighbours.settle();
        self.take(outcome);
        self.table.set_default_certificate(default_certificate);
        verdicts.extend(&self.verdicts);
        for (key, unreadable) in &snapshot.unreadable_routes {
            verdicts.add(verdict::unreadable("WebSocketRoute", &key.namespace, &key.name, unreadable, true));
        }
        let key_sources = KeySource::merged(self.key_sources.values().flatten());
        Compiled { table: self.table.clone(), verdicts, key_sources }
    }

    /// Brings table and verdicts to what has become of the routes.
    fn take(&mut self, outcome: Outcome) {
        for (id, route) in outcome.routes {
            self.table.set_route(&id, route);
        }
        for (host, certificate) in outcome.certificates {
            self.table.set_certificate(host, certificate);
        }
        for (id, verdict) in outcome.verdicts {
            match verdict {
                Some(verdict) => self.verdicts.add(verdict),
                None => self.verdicts.remove(&object(&id)),
            }
        }
    }
}

/// Reads one route, if it is there and ours.
fn draft(key: &ObjectKey, snapshot: &Snapshot, classes: &Classes, lookup: &mut Lookup<'_>) -> Option<Draft> {
    let object = snapshot.routes.get(key)?;
    match classes.claim(object.spec.class_name.as_deref(), &key.namespace, lookup) {
        Claim::NotOurs => None,
        Claim::Nobody(fault) => Some(route::unclaimed(key, object, fault)),
        Claim::Ours(class) => Some(route::draft(key, object, class, lookup)),
    }
}
