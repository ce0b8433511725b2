//! User names and the hashes of their passwords (htpasswd).
//!
//! A check costs what the hash was made to cost, so passwords that were found right are remembered for as long as the
//! users are the same: under tags that only their maker can compute, never as passwords.

mod apr1;
mod hash;

pub use hash::{HashError, PasswordHash};

use super::key_ring::shown;
use aws_lc_rs::digest::{Context, SHA256};
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

/// Right passwords that are remembered, at least.
const REMEMBERED: usize = 8192;

/// The users of a provider. Equal when the same users have the same hashes; `Debug` and `Serialize` show their number and
/// a fingerprint.
#[derive(Default)]
pub struct Passwords {
    users: BTreeMap<Arc<str>, Entry>,
    /// The user whose hash costs most to check: what an unknown user's password is checked against, so that time does not
    /// tell who exists.
    costliest: Option<Arc<str>>,
    fingerprint: [u8; 32],
    right: Mutex<Remembered>,
}

/// What is known of a user.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The name.
    pub user: Arc<str>,
    /// Digest of name and hash: which password it was.
    pub digest: [u8; 32],
    /// The hash of the password.
    pub hash: PasswordHash,
}

/// Tags of right passwords: those of late, and those before them.
#[derive(Default)]
struct Remembered {
    late: HashSet<[u8; 32]>,
    before: HashSet<[u8; 32]>,
}

impl Passwords {
    /// Users with the hashes of their passwords. Of a user who is there twice the first counts.
    pub fn new(users: impl IntoIterator<Item = (Arc<str>, PasswordHash)>) -> Self {
        let mut known = BTreeMap::new();
        for (user, hash) in users {
            let digest = digest([user.as_bytes(), hash.as_str().as_bytes()]);
            known.entry(Arc::clone(&user)).or_insert(Entry { user, digest, hash });
        }
        let costliest = known.values().max_by_key(|entry| entry.hash.cost()).map(|entry| Arc::clone(&entry.user));
        let fingerprint = digest(known.values().map(|entry| &entry.digest[..]));
        Self { users: known, costliest, fingerprint, right: Mutex::default() }
    }

    /// What is known of `user`.
    pub fn entry(&self, user: &str) -> Option<&Entry> {
        self.users.get(user)
    }

    /// What an unknown user's password is checked against, for the time it takes; whatever it comes to, it is wrong.
    /// `None` when there is no user at all.
    pub fn decoy(&self) -> Option<&Entry> {
        self.users.get(self.costliest.as_ref()?)
    }

    /// Whether `user` still has the entry of this digest.
    pub fn has(&self, user: &str, entry: &[u8; 32]) -> bool {
        self.users.get(user).is_some_and(|known| known.digest == *entry)
    }

    /// Whether the password with this tag was found right before.
    pub fn remembers(&self, tag: &[u8; 32]) -> bool {
        let mut right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        if right.late.contains(tag) {
            return true;
        }
        let before = right.before.remove(tag);
        if before {
            right.add(*tag);
        }
        before
    }

    /// Remembers that the password with this tag is right. A tag must tell entry and password, and be of use to nobody but
    /// its maker.
    pub fn remember(&self, tag: [u8; 32]) {
        self.right.lock().unwrap_or_else(PoisonError::into_inner).add(tag);
    }

    /// How many users there are.
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }
}

impl Remembered {
    /// Adds a tag, and forgets what has not been asked for since the last so many.
    fn add(&mut self, tag: [u8; 32]) {
        if self.late.len() >= REMEMBERED {
            self.before = mem::take(&mut self.late);
        }
        self.late.insert(tag);
    }
}

/// SHA-256 over parts, each with its length.
fn digest<'p>(parts: impl IntoIterator<Item = &'p [u8]>) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.finish().as_ref());
    bytes
}

impl PartialEq for Passwords {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint && self.users.len() == other.users.len()
    }
}

impl Eq for Passwords {}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Passwords({} users, {})", self.len(), shown(&self.fingerprint))
    }
}

impl Serialize for Passwords {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut users = serializer.serialize_struct("Passwords", 2)?;
        users.serialize_field("users", &self.len())?;
        users.serialize_field("fingerprint", &shown(&self.fingerprint))?;
        users.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA: &str = "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g="; // password

    fn users(list: &[(&str, &str)]) -> Passwords {
        Passwords::new(list.iter().map(|(user, hash)| (Arc::from(*user), PasswordHash::parse(hash).expect("a hash"))))
    }

    #[test]
    fn the_first_entry_of_a_user_counts_and_its_digest_tells_another_hash() {
        let other = "$apr1$lZL6V/ci$eIMz/iKDkbtys/uU7LEK00";
        let one = users(&[("ann", SHA), ("ann", other), ("bob", SHA)]);
        assert!(one == users(&[("bob", SHA), ("ann", SHA)]) && one != users(&[("ann", other), ("bob", SHA)]));
        let digest = one.entry("ann").expect("a user").digest;
        assert!(one.has("ann", &digest) && !one.has("bob", &digest));
        assert!(!users(&[("ann", other)]).has("ann", &digest));
        assert!(one.entry("eve").is_none());
    }

    #[test]
    fn an_unknown_user_is_checked_against_the_costliest_hash() {
        let apr1 = "$apr1$lZL6V/ci$eIMz/iKDkbtys/uU7LEK00";
        let bcrypt = "$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC";
        let decoy = |list: &[(&str, &str)]| users(list).decoy().map(|entry| entry.hash.as_str().to_owned());
        assert_eq!(decoy(&[("a", SHA), ("b", bcrypt), ("c", apr1)]).as_deref(), Some(bcrypt));
        assert_eq!(decoy(&[("a", SHA), ("c", apr1)]).as_deref(), Some(apr1));
        assert_eq!(decoy(&[]), None);
    }

    #[test]
    fn a_tag_in_use_is_remembered_and_memory_is_bounded() {
        let users = users(&[("ann", SHA)]);
        let tag = |number: usize| digest([&number.to_be_bytes()[..]]);
        users.remember(tag(0));
        for number in 1..4 * REMEMBERED {
            users.remember(tag(number));
            assert!(users.remembers(&tag(0)), "{number}");
        }
        assert!(!users.remembers(&tag(1)));
        let right = users.right.lock().expect("no panic");
        assert!(right.late.len() + right.before.len() <= 2 * REMEMBERED);
    }

    #[test]
    fn nothing_of_a_hash_is_shown() {
        let users = users(&[("ann", SHA)]);
        let entry = users.entry("ann").expect("a user");
        let shown = format!("{users:?} {entry:?} {}", serde_json::to_string(&users).expect("JSON"));
        assert!(shown.contains("1 users") && !shown.contains("W6ph"), "{shown}");
    }
}
