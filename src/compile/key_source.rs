//! Key sources: the URLs of keys that routes name, and what is known of their answers.
//!
//! Compile fetches nothing. It says what is wanted ([`KeySource`]), and looks at what has come of it in the snapshot.

use super::access::{Keyed, key_set, shared_secrets};
use super::snapshot::{ObjectKey, Snapshot};
use super::verdict::Fault;
use crate::api::status::reason;
use crate::routing::Roots;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// The entry of a Secret that holds a key set.
pub(super) const KEY_SET: &str = "jwks";

/// A URL whose keys are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySource {
    /// What its answers are kept under: the URL, and a fingerprint of the roots unless they are the system's.
    pub name: Arc<str>,
    /// An https URL.
    pub uri: Arc<str>,
    /// How long an answer is used before there must be another. At least 10 s.
    pub cache: Duration,
    /// For one answer.
    pub timeout: Duration,
    /// Who may have signed the server's certificate.
    pub roots: Roots,
}

impl KeySource {
    /// One list of those in `lists`, in the order of their names. Of a source that several want, the shortest cache and
    /// the longest timeout count.
    pub(super) fn merged<'s>(lists: impl Iterator<Item = &'s Self>) -> Vec<Self> {
        let mut merged: BTreeMap<&str, Self> = BTreeMap::new();
        for source in lists {
            match merged.get_mut(&*source.name) {
                None => drop(merged.insert(&source.name, source.clone())),
                Some(known) => {
                    known.cache = known.cache.min(source.cache);
                    known.timeout = known.timeout.max(source.timeout);
                }
            }
        }
        merged.into_values().collect()
    }
}

/// What is known of a source.
#[derive(Clone, Debug)]
pub(super) enum Fetched {
    /// Its last good answer.
    Body(Result<Keyed, String>),
    /// It has not been asked yet.
    Nothing,
    /// It has never answered well, and why.
    Trouble(Box<str>),
}

/// Keys, each set and Secret read at most once.
#[derive(Debug, Default)]
pub(super) struct KeySets {
    fetched: HashMap<Arc<str>, Fetched>,
    local: HashMap<ObjectKey, Result<Keyed, Fault>>,
    shared: HashMap<ObjectKey, Result<Keyed, Fault>>,
}

impl KeySets {
    pub(super) fn fetched(&mut self, snapshot: &Snapshot, name: &Arc<str>) -> Fetched {
        let read = || match snapshot.key_sets.get(name) {
            None => Fetched::Nothing,
            Some(set) => match (&set.body, &set.trouble) {
                (Some(body), _) => Fetched::Body(key_set(body.as_bytes())),
                (None, Some(trouble)) => Fetched::Trouble(trouble.clone()),
                (None, None) => Fetched::Nothing,
            },
        };
        self.fetched.entry(Arc::clone(name)).or_insert_with(read).clone()
    }

    /// The key set in a Secret.
    pub(super) fn local(&mut self, snapshot: &Snapshot, key: &ObjectKey) -> Result<Keyed, Fault> {
        let read = || {
            let fault = |why: String| Fault::new(reason::INVALID_CREDENTIAL_REF, why);
            let secret = snapshot.secrets.get(key).ok_or_else(|| missing(key))?;
            let body = secret.entry(KEY_SET);
            let body = body.ok_or_else(|| {
                fault(format!("Secret {key} has no entry {KEY_SET}: put the issuer's JSON Web Key Set there"))
            })?;
            key_set(body).map_err(|why| {
                fault(format!("{KEY_SET} of Secret {key} {why}: put a JSON Web Key Set (RFC 7517) with the issuer's public keys there"))
            })
        };
        self.local.entry(key.clone()).or_insert_with(read).clone()
    }

    /// The shared secrets in a Secret.
    pub(super) fn shared(&mut self, snapshot: &Snapshot, key: &ObjectKey) -> Result<Keyed, Fault> {
        let read = || {
            let secret = snapshot.secrets.get(key).ok_or_else(|| missing(key))?;
            shared_secrets(secret).map_err(|why| {
                let message = format!("Secret {key} {why}: put at least 32 random bytes into an entry of it");
                Fault::new(reason::INVALID_CREDENTIAL_REF, message)
            })
        };
        self.shared.entry(key.clone()).or_insert_with(read).clone()
    }

    pub(super) fn forget_secret(&mut self, key: &ObjectKey) {
        self.local.remove(key);
        self.shared.remove(key);
    }

    pub(super) fn forget_source(&mut self, name: &Arc<str>) {
        self.fetched.remove(name);
    }
}

fn missing(key: &ObjectKey) -> Fault {
    Fault::new(reason::INVALID_CREDENTIAL_REF, format!("there is no Secret {key}: create it, or correct the name"))
}
