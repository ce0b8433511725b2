//! Contents: which Secrets and ConfigMaps are named, how much of each is wanted, and what is wanted and not here.
//!
//! A book of names only; the contents themselves are in the snapshot.

use crate::compile::{ObjectKey, ObjectRef, Reference, Selection};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// How much of a Secret is wanted, or kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) entries: Entries,
    pub(super) keys: Keys,
}

/// Which of its entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Entries {
    #[default]
    None,
    /// Those that [`Reference::wants`] says yes to.
    Certificates,
    All,
}

/// Its entries as API keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Keys {
    #[default]
    None,
    Digests,
    /// And the labels that it is selected by.
    Selected,
}

impl Extent {
    /// Whether nothing of it is in `other`'s way: there is as much of everything.
    pub(super) fn covers(self, other: Self) -> bool {
        self.entries >= other.entries && self.keys >= other.keys
    }
}

/// Whose content is wanted, who is there, and whose content is not here although it is wanted.
#[derive(Debug, Default)]
pub(super) struct Contents {
    named_by: HashMap<ObjectRef, Vec<Reference>>,
    wanted: HashMap<Reference, usize>,
    /// Those of `wanted` that select by labels, in the order of their namespaces.
    selections: BTreeSet<Selection>,
    /// Secrets, by [`Reference::Secret`], and ConfigMaps.
    present: HashSet<Reference>,
    /// How much is kept of a Secret of which anything is.
    kept: HashMap<ObjectKey, Extent>,
    missing: BTreeSet<Reference>,
}

impl Contents {
    /// Notes what an object names now; answers what nobody names any more. `held` says whether the content of a
    /// ConfigMap is kept, and `came` whether Secrets have come that a new selection may have missed.
    pub(super) fn name(
        &mut self,
        owner: ObjectRef,
        references: Vec<Reference>,
        held: impl Fn(&ObjectKey) -> bool,
        came: bool,
    ) -> Vec<Reference> {
        for reference in &references {
            let count = self.wanted.entry(reference.clone()).or_default();
            *count += 1;
            let is_missing = match reference {
                Reference::ConfigMap(key) => self.present.contains(reference) && !held(key),
                Reference::Credentials(key) => self.lacks(key, Extent { entries: Entries::All, keys: Keys::None }),
                Reference::Keys(key) => self.lacks(key, Extent { entries: Entries::None, keys: Keys::Digests }),
                Reference::Secret(key) => self.lacks(key, Extent { entries: Entries::Certificates, keys: Keys::None }),
                Reference::Selected(selection) => *count == 1 && self.selections.insert(selection.clone()) && came,
            };
            if is_missing {
                self.missing.insert(reference.clone());
            }
        }
        let before =
            if references.is_empty() { self.named_by.remove(&owner) } else { self.named_by.insert(owner, references) };
        let mut unwanted = Vec::new();
        for reference in before.into_iter().flatten() {
            if let Entry::Occupied(mut count) = self.wanted.entry(reference) {
                *count.get_mut() -= 1;
                if *count.get() == 0 {
                    let (reference, _) = count.remove_entry();
                    self.missing.remove(&reference);
                    if let Reference::Selected(selection) = &reference {
                        self.selections.remove(selection);
                    }
                    unwanted.push(reference);
                }
            }
        }
        unwanted
    }

    /// Whether a Secret is there, and not so much of it is kept.
    fn lacks(&self, key: &ObjectKey, extent: Extent) -> bool {
        self.present.contains(&Reference::Secret(key.clone())) && !self.kept(key).covers(extent)
    }

    /// How much is wanted of a Secret with `labels`.
    pub(super) fn want(&self, key: &ObjectKey, labels: &BTreeMap<String, String>) -> Extent {
        let named = |reference: fn(ObjectKey) -> Reference| self.wanted.contains_key(&reference(key.clone()));
        let entries = if named(Reference::Credentials) {
            Entries::All
        } else if named(Reference::Secret) {
            Entries::Certificates
        } else {
            Entries::None
        };
        let keys = if self.selects(key, labels) {
            Keys::Selected
        } else if named(Reference::Keys) {
            Keys::Digests
        } else {
            Keys::None
        };
        Extent { entries, keys }
    }

    /// Whether a Secret is selected by its labels.
    fn selects(&self, key: &ObjectKey, labels: &BTreeMap<String, String>) -> bool {
        if labels.is_empty() || self.selections.is_empty() {
            return false;
        }
        let first = Selection { namespace: key.namespace.clone(), labels: BTreeMap::new() };
        let mut here = self.selections.range(first..).take_while(|one| one.namespace == key.namespace);
        here.any(|selection| selection.selects(&key.namespace, labels))
    }

    /// Notes how much of a Secret is kept from now on.
    pub(super) fn keeps(&mut self, key: &ObjectKey, extent: Extent) {
        if extent == Extent::default() {
            self.kept.remove(key);
        } else {
            self.kept.insert(key.clone(), extent);
        }
    }

    /// How much of a Secret is kept.
    pub(super) fn kept(&self, key: &ObjectKey) -> Extent {
        self.kept.get(key).copied().unwrap_or_default()
    }

    /// Notes that a referent is there and says whether its content is wanted; of a Secret [`Contents::want`] says more.
    pub(super) fn appeared(&mut self, reference: Reference) -> bool {
        self.found(&reference);
        let wanted = self.wanted.contains_key(&reference);
        self.present.insert(reference);
        wanted
    }

    /// Notes that a referent is gone.
    pub(super) fn vanished(&mut self, reference: &Reference) {
        self.found(reference);
        self.present.remove(reference);
        if let Reference::Secret(key) = reference {
            self.kept.remove(key);
        }
    }

    /// It is known now what a referent holds.
    fn found(&mut self, reference: &Reference) {
        self.missing.remove(reference);
        if let Reference::Secret(key) = reference {
            self.missing.remove(&Reference::Credentials(key.clone()));
            self.missing.remove(&Reference::Keys(key.clone()));
        }
    }

    /// Notes that everything a reference means has come.
    pub(super) fn answered(&mut self, reference: &Reference) {
        self.missing.remove(reference);
    }

    /// What is named and there, and was not kept when it came.
    pub(super) fn missing(&self) -> Vec<Reference> {
        self.missing.iter().cloned().collect()
    }

    /// Who is there.
    pub(super) fn present(&self) -> impl Iterator<Item = &Reference> {
        self.present.iter()
    }

    /// Whether nobody names anything.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.wanted.is_empty() && self.selections.is_empty() && self.missing.is_empty() && self.kept.is_empty()
    }
}
