//! Secrets as compile looks at them: a type and some entries, shown by fingerprint and wiped when dropped.

use super::certificate::fingerprint;
use crate::routing::access::KeyRing;
use k8s_openapi::api::core::v1::Secret;
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;
use zeroize::Zeroizing;

/// The content of one entry. `Debug` and `Serialize` show a fingerprint of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Protected(Zeroizing<Vec<u8>>);

impl Protected {
    /// The content itself.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Protected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&fingerprint([self.0.as_slice()]))
    }
}

impl Serialize for Protected {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{self:?}"))
    }
}

/// What the content of an entry is as an API key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// Its digest.
    Digest([u8; 32]),
    /// Nothing is there.
    Empty,
    /// It has a character that no client can send: only visible ASCII (`!` to `~`) can be part of a credential.
    Unsendable,
}

impl Key {
    /// Of an entry; a line end at its end is not part of the key.
    fn of(content: &[u8]) -> Self {
        let content = content.strip_suffix(b"\n").unwrap_or(content);
        let content = content.strip_suffix(b"\r").unwrap_or(content);
        if content.is_empty() {
            Self::Empty
        } else if content.iter().all(u8::is_ascii_graphic) {
            Self::Digest(KeyRing::digest(content))
        } else {
            Self::Unsendable
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Digest(_) => "Digest",
            Self::Empty => "Empty",
            Self::Unsendable => "Unsendable",
        })
    }
}

/// A Secret, reduced to what is used of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SecretContent {
    /// Its type, `Opaque` unless it says another.
    pub kind: Box<str>,
    /// Its entries, or those that were asked for.
    pub entries: BTreeMap<String, Protected>,
    /// Its entries as API keys, once [`SecretContent::digest`] was called.
    #[serde(skip)]
    pub keys: BTreeMap<String, Key>,
    /// Its labels, where somebody selects by them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl SecretContent {
    /// Takes labels and the entries that `wanted` says yes to, and wipes the rest. `stringData` goes over `data`, as the API
    /// server merges them.
    pub fn take(secret: Secret, wanted: impl Fn(&str) -> bool) -> Self {
        let data = secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0));
        let text = secret.string_data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.into_bytes()));
        let entries = data.chain(text).map(|(key, value)| (key, Protected(Zeroizing::new(value))));
        Self {
            kind: secret.type_.as_deref().unwrap_or("Opaque").into(),
            entries: entries.filter(|(key, _)| wanted(key)).collect(),
            keys: BTreeMap::new(),
            labels: secret.metadata.labels.unwrap_or_default(),
        }
    }

    /// The same without what is secret.
    pub(super) fn without_entries(&self) -> Self {
        let (entries, keys) = Default::default();
        Self { kind: self.kind.clone(), entries, keys, labels: self.labels.clone() }
    }

    /// Keeps the entries that `wanted` says yes to, and wipes the rest.
    pub fn retain(&mut self, wanted: impl Fn(&str) -> bool) {
        self.entries.retain(|key, _| wanted(key));
    }

    /// Keeps every entry's digest, so that entries that are API keys need not be kept.
    pub fn digest(&mut self) {
        if self.keys.is_empty() {
            self.keys = self.entries.iter().map(|(name, content)| (name.clone(), Key::of(content.expose()))).collect();
        }
    }

    /// Its entries as API keys.
    pub(super) fn api_keys(&self) -> impl Iterator<Item = (&str, Key)> {
        let entries = self.entries.iter().filter(|_| self.keys.is_empty());
        let entries = entries.map(|(name, content)| (name.as_str(), Key::of(content.expose())));
        self.keys.iter().map(|(name, key)| (name.as_str(), *key)).chain(entries)
    }

    /// The content under `key`, if it is there and not empty.
    pub(super) fn entry(&self, key: &str) -> Option<&[u8]> {
        self.entries.get(key).map(Protected::expose).filter(|content| !content.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_become_keys_without_their_line_end_and_need_not_be_kept() {
        let secret = serde_json::json!({"stringData": {
            "a": "swordfish", "b": "swordfish\n", "c": "", "d": "\n", "e": "sword fish", "f": "fi\u{e9}", "g": "x\r\n",
        }});
        let mut content = SecretContent::take(serde_json::from_value(secret).expect("a Secret"), |_| true);
        let keys =
            |content: &SecretContent| content.api_keys().map(|(name, key)| (name.to_owned(), key)).collect::<Vec<_>>();
        let (from_entries, digest) = (keys(&content), KeyRing::digest(b"swordfish"));
        content.digest();
        content.retain(|_| false);
        assert_eq!(keys(&content), from_entries);
        let found: Vec<Key> = from_entries.into_iter().map(|(_, key)| key).collect();
        let (good, x) = (Key::Digest(digest), Key::Digest(KeyRing::digest(b"x")));
        assert_eq!(found, [good, good, Key::Empty, Key::Empty, Key::Unsendable, Key::Unsendable, x]);
        assert!(!format!("{content:?}").contains("swordfish"));
    }

    #[test]
    fn content_is_shown_by_fingerprint_and_the_unwanted_is_not_kept() {
        let secret =
            serde_json::json!({"data": {"pin": "aHVudGVyMg==", "other": "eA=="}, "stringData": {"pin": "swordfish"}});
        let kept = SecretContent::take(serde_json::from_value(secret).expect("a Secret"), |key| key == "pin");
        assert_eq!(kept.entry("pin"), Some(b"swordfish".as_slice()));
        assert_eq!(kept.entries.len(), 1);
        let shown = format!("{kept:?} {}", serde_json::to_string(&kept).expect("JSON"));
        assert!(!shown.contains("swordfish") && !shown.contains("115, 119"), "{shown}");
    }
}
