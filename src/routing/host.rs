//! Host patterns: which `Host` values a route answers to (RFC 4343: DNS names compare without case).
//!
//! A wildcard covers one or more labels to its left, as in the Gateway API. Validation is compile's business;
//! a pattern here is already well formed.

use serde::{Serialize, Serializer};
use std::fmt;
use std::sync::Arc;

/// A host a route answers to; cheap to clone. Ordered for stable output only; precedence is the table's lookup order.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostPattern {
    /// Every host.
    Any,
    /// One name or address, lower case, no port, no trailing dot.
    Exact(Arc<str>),
    /// `*.example.com`, kept as its suffix `example.com`.
    Wildcard(Arc<str>),
}

impl HostPattern {
    /// Parses `*.example.com` or `example.com`; the text is lower-cased, nothing else is checked.
    pub fn parse(text: &str) -> Self {
        let text = text.to_ascii_lowercase();
        match text.strip_prefix("*.") {
            Some(suffix) => Self::Wildcard(suffix.into()),
            None if text == "*" || text.is_empty() => Self::Any,
            None => Self::Exact(text.into()),
        }
    }

    /// Whether `host` (lower case, no port) is covered.
    pub fn covers(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(name) => **name == *host,
            Self::Wildcard(suffix) => {
                host.len() > suffix.len() + 1
                    && host.ends_with(&**suffix)
                    && host.as_bytes()[host.len() - suffix.len() - 1] == b'.'
            }
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(name) => f.write_str(name),
            Self::Wildcard(suffix) => write!(f, "*.{suffix}"),
        }
    }
}

impl Serialize for HostPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The suffixes of `host` a wildcard could name, longest first: `a.b.c` gives `b.c`, `c`.
pub(super) fn suffixes(host: &str) -> impl Iterator<Item = &str> {
    host.char_indices().filter(|&(at, c)| c == '.' && at > 0).map(move |(at, _)| &host[at + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcard_covers_one_or_more_labels_but_not_its_own_suffix() {
        let pattern = HostPattern::parse("*.Example.com");
        assert!(pattern.covers("a.example.com"));
        assert!(pattern.covers("a.b.example.com"));
        assert!(!pattern.covers("example.com"));
        assert!(!pattern.covers("badexample.com"));
        assert!(!pattern.covers(".example.com"), "an empty label is no label");
    }

    #[test]
    fn suffixes_come_longest_first() {
        assert_eq!(suffixes("a.b.c").collect::<Vec<_>>(), ["b.c", "c"]);
        assert_eq!(suffixes("localhost").count(), 0);
    }
}
