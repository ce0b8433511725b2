//! API keys: which client a key belongs to. Holds digests, never a key.
//!
//! A look-up costs the same for ten keys and a hundred thousand: the first eight bytes of the digest lead to the place,
//! and the whole digest is compared in constant time. Who does not know a key cannot steer its digest, so the time of the
//! first step tells nothing about any key.

use super::jwt::sha256;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{Context, SHA256};
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// The keys of a provider. Equal when the same keys belong to the same clients; `Debug` and `Serialize` show their number
/// and a fingerprint.
#[derive(Clone, Default)]
pub struct KeyRing {
    /// In the order of their digests.
    keys: Box<[Key]>,
    /// Where digests that begin with these bytes begin in `keys`.
    places: HashMap<[u8; 8], u32>,
    fingerprint: [u8; 32],
}

/// A key: its digest and its client.
#[derive(Clone)]
struct Key {
    digest: [u8; 32],
    client: Arc<str>,
}

/// A key that two clients have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedKey {
    /// Whose it is taken for: the first.
    pub holder: Arc<str>,
    /// The other one, who cannot use it.
    pub other: Arc<str>,
}

impl KeyRing {
    /// The digest by which a key is known: SHA-256.
    pub fn digest(key: &[u8]) -> [u8; 32] {
        sha256(key)
    }

    /// A ring of keys, given by digest and client. Of a key that several clients have the first counts, and the others are
    /// returned.
    pub fn new(keys: impl IntoIterator<Item = ([u8; 32], Arc<str>)>) -> (Self, Vec<SharedKey>) {
        let mut sorted: Vec<Key> = keys.into_iter().map(|(digest, client)| Key { digest, client }).collect();
        sorted.sort_by_key(|key| key.digest); // stable, so that the first stays the first
        let mut shared = Vec::new();
        sorted.dedup_by(|other, first| {
            let same = other.digest == first.digest;
            if same && other.client != first.client {
                shared.push(SharedKey { holder: Arc::clone(&first.client), other: Arc::clone(&other.client) });
            }
            same
        });
        let mut places = HashMap::with_capacity(sorted.len());
        let mut whole = Context::new(&SHA256);
        for (at, key) in sorted.iter().enumerate() {
            places.entry(start(&key.digest)).or_insert(at as u32);
            whole.update(&key.digest);
            whole.update(&(key.client.len() as u64).to_be_bytes());
            whole.update(key.client.as_bytes());
        }
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(whole.finish().as_ref());
        (Self { keys: sorted.into(), places, fingerprint }, shared)
    }

    /// The client whose key has this digest.
    pub fn client(&self, digest: &[u8; 32]) -> Option<&Arc<str>> {
        let first = *self.places.get(&start(digest))? as usize;
        let near = self.keys.get(first..)?.iter().take_while(|key| start(&key.digest) == start(digest));
        let mut same = near.filter(|key| verify_slices_are_equal(&key.digest, digest).is_ok());
        same.next().map(|key| &key.client)
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

fn start(digest: &[u8; 32]) -> [u8; 8] {
    let mut start = [0; 8];
    start.copy_from_slice(&digest[..8]);
    start
}

impl PartialEq for KeyRing {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint && self.keys.len() == other.keys.len()
    }
}

impl Eq for KeyRing {}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyRing({} keys, {})", self.len(), shown(&self.fingerprint))
    }
}

impl Serialize for KeyRing {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut ring = serializer.serialize_struct("KeyRing", 2)?;
        ring.serialize_field("keys", &self.len())?;
        ring.serialize_field("fingerprint", &shown(&self.fingerprint))?;
        ring.end()
    }
}

/// The first 16 hexadecimal digits.
pub(super) fn shown(fingerprint: &[u8; 32]) -> String {
    use std::fmt::Write;
    fingerprint[..8].iter().fold(String::with_capacity(16), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // a String takes everything
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(keys: &[(&str, &str)]) -> (KeyRing, Vec<SharedKey>) {
        KeyRing::new(keys.iter().map(|(client, key)| (KeyRing::digest(key.as_bytes()), Arc::from(*client))))
    }

    #[test]
    fn a_key_leads_to_its_client_and_no_other_text_does() {
        let (ring, shared) = ring(&[("a", "one"), ("b", "two"), ("a", "three")]);
        let client = |key: &str| ring.client(&KeyRing::digest(key.as_bytes())).map(|client| &**client);
        assert_eq!([client("one"), client("two"), client("three")], [Some("a"), Some("b"), Some("a")]);
        assert_eq!([client(""), client("on"), client("ONE")], [None; 3]);
        assert_eq!((shared, ring.len()), (vec![], 3));
    }

    #[test]
    fn digests_that_begin_alike_are_told_apart() {
        let (mut one, mut two, mut three) = ([7; 32], [7; 32], [7; 32]);
        (one[31], two[31], three[31]) = (1, 2, 3);
        let (ring, _) = KeyRing::new([(two, Arc::from("two")), (one, Arc::from("one"))]);
        assert_eq!(ring.client(&one).map(|client| &**client), Some("one"));
        assert_eq!(ring.client(&two).map(|client| &**client), Some("two"));
        assert_eq!(ring.client(&three), None);
    }

    #[test]
    fn a_key_of_two_clients_is_the_firsts_and_is_told() {
        let (shared_ring, shared) = ring(&[("b", "same"), ("a", "same"), ("b", "same")]);
        assert_eq!(shared, [SharedKey { holder: "b".into(), other: "a".into() }]);
        assert!(shared_ring == ring(&[("b", "same")]).0);
    }

    #[test]
    fn rings_are_equal_by_what_they_hold_and_show_no_digest() {
        let one = ring(&[("a", "one"), ("b", "two")]).0;
        assert!(one == ring(&[("b", "two"), ("a", "one")]).0);
        assert!(one != ring(&[("b", "one"), ("a", "two")]).0 && one != ring(&[("a", "one")]).0);
        let digest = KeyRing::digest(b"one").iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        let shown = format!("{one:?} {}", serde_json::to_string(&one).expect("JSON"));
        assert!(shown.contains("2 keys") && shown.contains("\"keys\":2"), "{shown}");
        assert!(!shown.contains("one") && !shown.contains(&digest[..12]), "{shown}");
    }
}
