//! Joint values: what several Secrets came to together, worked out once and shared by its readers.
//!
//! A ring of a hundred thousand keys is not made anew because a pod moved. A value is kept only while a route has it, so
//! that nothing is held of Secrets that are read together no more.

use super::snapshot::ObjectKey;
use super::verdict::Fault;
use std::collections::HashMap;
use std::sync::{Arc, Weak};

/// Values of one kind by the Secrets they were made of, in order.
#[derive(Debug)]
pub(super) struct Joint<T>(HashMap<Vec<ObjectKey>, (Weak<T>, Vec<Fault>)>);

impl<T> Default for Joint<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T> Joint<T> {
    /// The value of `secrets`, and what is wrong with them.
    pub(super) fn of(&mut self, secrets: &[ObjectKey], make: impl FnOnce() -> (T, Vec<Fault>)) -> (Arc<T>, Vec<Fault>) {
        if let Some((held, faults)) = self.0.get(secrets)
            && let Some(value) = held.upgrade()
        {
            return (value, faults.clone());
        }
        let (value, faults) = make();
        let value = Arc::new(value);
        self.0.retain(|_, (held, _)| held.strong_count() > 0);
        self.0.insert(secrets.to_vec(), (Arc::downgrade(&value), faults.clone()));
        (value, faults)
    }

    /// Has everything that `secret` is part of worked out anew.
    pub(super) fn forget(&mut self, secret: &ObjectKey) {
        self.0.retain(|secrets, _| !secrets.contains(secret));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_shared_while_somebody_has_it_and_none_of_its_secrets_changes() {
        let mut joint = Joint::<usize>::default();
        let (a, b) = (ObjectKey::new("n", "a"), ObjectKey::new("n", "b"));
        let both = [a.clone(), b.clone()];
        let (first, _) = joint.of(&both, || (1, Vec::new()));
        assert!(Arc::ptr_eq(&first, &joint.of(&both, || (2, Vec::new())).0));
        assert_eq!(*joint.of(std::slice::from_ref(&a), || (3, Vec::new())).0, 3);
        joint.forget(&b);
        assert_eq!(*joint.of(&both, || (4, Vec::new())).0, 4, "it was made of what b was");
        drop(first);
        joint.of(std::slice::from_ref(&b), || (5, Vec::new()));
        assert_eq!(joint.0.len(), 1, "nobody has the others");
    }
}
