//! A register of claims: who asks for what, and who goes first where several ask for the same.
//!
//! It knows which holders have changed, so that only those whom that concerns need be judged anew.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::mem;

/// The claims on each thing, in the order of those who claim; the first one holds it.
#[derive(Debug)]
pub(super) struct Register<T, C, V> {
    claims: HashMap<T, BTreeMap<C, V>>,
    /// The holder, if any, as it was at the last [`Register::take_moved`], of each thing that was touched since.
    before: HashMap<T, Option<(C, V)>>,
}

impl<T, C, V> Default for Register<T, C, V> {
    fn default() -> Self {
        Self { claims: HashMap::new(), before: HashMap::new() }
    }
}

impl<T: Clone + Eq + Hash, C: Clone + Ord, V: Clone + PartialEq> Register<T, C, V> {
    pub(super) fn enter(&mut self, thing: T, claimant: C, claim: V) {
        self.touch(&thing);
        self.claims.entry(thing).or_default().insert(claimant, claim);
    }

    pub(super) fn leave(&mut self, thing: &T, claimant: &C) {
        self.touch(thing);
        if let Some(claims) = self.claims.get_mut(thing) {
            claims.remove(claimant);
            if claims.is_empty() {
                self.claims.remove(thing);
            }
        }
    }

    /// Who holds `thing`, and by which claim.
    pub(super) fn holder(&self, thing: &T) -> Option<(&C, &V)> {
        self.claims.get(thing)?.first_key_value()
    }

    pub(super) fn claimants(&self, thing: &T) -> impl Iterator<Item = &C> {
        self.claims.get(thing).into_iter().flat_map(BTreeMap::keys)
    }

    /// The things that have another holder, or the same by another claim, than at the last call.
    pub(super) fn take_moved(&mut self) -> Vec<T> {
        let before = mem::take(&mut self.before);
        let moved = before.into_iter().filter(|(thing, before)| {
            let before = before.as_ref().map(|(claimant, claim)| (claimant, claim));
            before != self.holder(thing)
        });
        moved.map(|(thing, _)| thing).collect()
    }

    fn touch(&mut self, thing: &T) {
        if !self.before.contains_key(thing) {
            let holder = self.holder(thing).map(|(claimant, claim)| (claimant.clone(), claim.clone()));
            self.before.insert(thing.clone(), holder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thing_has_moved_when_its_first_claim_is_another() {
        let mut register = Register::default();
        register.enter("host", 2, "b");
        assert_eq!(register.take_moved(), ["host"]);
        register.enter("host", 3, "c");
        assert_eq!(register.take_moved(), [""; 0], "the second in line changes nothing");
        register.enter("host", 1, "a");
        register.leave(&"host", &1);
        assert_eq!(register.take_moved(), [""; 0], "it came and went");
        register.enter("host", 2, "other");
        assert_eq!(register.take_moved(), ["host"], "the same claimant, another claim");
        register.leave(&"host", &2);
        assert_eq!((register.take_moved(), register.holder(&"host")), (vec!["host"], Some((&3, &"c"))));
        register.leave(&"host", &3);
        assert_eq!((register.take_moved(), register.claimants(&"host").count()), (vec!["host"], 0));
    }
}
