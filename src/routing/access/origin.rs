//! Origins (RFC 6454, RFC 6455 §10.2): which web pages may open a session.
//!
//! An origin is a scheme, a host and a port, and is compared whole: `https://example.com` is not `http://example.com`,
//! nor `https://example.com:8443`. What is done about a handshake without one is part of the answer here; who asks is not.

use serde::ser::SerializeSeq;
use serde::{Serialize, Serializer};
use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::fmt;

/// An origin in its one form: lower case, the default port of its scheme left out.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Origin<'o> {
    scheme: Cow<'o, str>,
    host: Cow<'o, str>,
    /// 0 when the scheme has no default one and none is written.
    port: u16,
}

/// Why a text is no origin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no origin: write a scheme, a host and a port if it is not the usual one, such as https://example.com, https://*.example.com or http://localhost:3000"
)]
pub struct OriginError(String);

fn lower(text: &str) -> Cow<'_, str> {
    if text.bytes().any(|b| b.is_ascii_uppercase()) { text.to_ascii_lowercase().into() } else { text.into() }
}

impl<'o> Origin<'o> {
    /// Reads `scheme://host[:port]`. Nothing may follow: an origin has no path.
    fn parse(text: &'o str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let token = |b: u8| b.is_ascii_alphanumeric() || b"+-.".contains(&b);
        if scheme.is_empty() || !scheme.bytes().all(token) || !scheme.as_bytes()[0].is_ascii_alphabetic() {
            return None;
        }
        let (host, port) = match rest.strip_prefix('[') {
            Some(literal) => {
                let (address, after) = literal.split_once(']')?;
                let _: std::net::Ipv6Addr = address.parse().ok()?;
                (
                    &rest[..address.len() + 2],
                    after.strip_prefix(':').map_or_else(|| after.is_empty().then_some(None), |p| Some(Some(p)))?,
                )
            }
            None => rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port))),
        };
        let named =
            |b: u8| b.is_ascii_alphanumeric() || b"-._*".contains(&b) || b"[]:".contains(&b) && host.starts_with('[');
        if host.is_empty() || !host.bytes().all(named) {
            return None;
        }
        let scheme = lower(scheme);
        let usual = match &*scheme {
            "http" | "ws" => 80,
            "https" | "wss" => 443,
            _ => 0,
        };
        let digits = |port: &str| {
            (1..=5).contains(&port.len()) && port.bytes().all(|b| b.is_ascii_digit()) && !port.starts_with('0')
        };
        let port = match port {
            None => usual,
            Some(port) => port.parse().ok().filter(|_| digits(port))?,
        };
        Some(Self { scheme, host: lower(host), port })
    }

    fn into_owned(self) -> Origin<'static> {
        Origin { scheme: self.scheme.into_owned().into(), host: self.host.into_owned().into(), port: self.port }
    }
}

/// What an allow-list says of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OriginVerdict {
    /// It may go on.
    Allowed,
    /// It has no `Origin`, and one is wanted.
    Missing,
    /// Its `Origin` is not in the list, or no origin at all.
    NotAllowed,
}

/// Which origins may open sessions.
#[allow(clippy::struct_excessive_bools)] // four questions, each with its own answer
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins {
    any: bool,
    /// Whether pages without an origin of their own (`Origin: null`, RFC 6454 §7.3) are allowed.
    null: bool,
    exact: BTreeSet<Origin<'static>>,
    /// The parts of wildcards by the host behind `*.`.
    wildcard: HashMap<Box<str>, BTreeSet<(Box<str>, u16)>>,
    /// Whether the origin that the handshake's own `Host` names is allowed.
    same: bool,
    /// Whether a handshake without `Origin` may go on: what is not a browser sends none.
    missing: bool,
    written: Box<[Box<str>]>,
}

impl Origins {
    /// The list of `patterns`: `*` for all, `null` for pages without an origin, `https://*.example.com` for one or more labels in place of the star, and exact
    /// origins. `missing` says whether a handshake without an origin may go on.
    ///
    /// # Errors
    /// The first pattern that is none.
    pub fn new<'p>(patterns: impl IntoIterator<Item = &'p str>, missing: bool) -> Result<Self, OriginError> {
        let mut origins = Self { missing, ..Self::default() };
        let mut written = Vec::new();
        for pattern in patterns {
            written.push(Box::from(pattern));
            if pattern == "null" {
                origins.null = true;
                continue;
            }
            if pattern == "*" {
                origins.any = true;
                continue;
            }
            let wrong = || OriginError(pattern.to_owned());
            let origin = Origin::parse(pattern).ok_or_else(wrong)?.into_owned();
            match origin.host.strip_prefix("*.") {
                Some(suffix) if !suffix.is_empty() && !suffix.contains('*') => {
                    let parts = (origin.scheme.as_ref().into(), origin.port);
                    origins.wildcard.entry(suffix.into()).or_default().insert(parts);
                }
                None if !origin.host.contains('*') => drop(origins.exact.insert(origin)),
                _ => return Err(wrong()),
            }
        }
        written.sort_unstable();
        origins.written = written.into();
        Ok(origins)
    }

    /// The origin that the handshake's `Host` names, and no other: what keeps the cookies of a browser from being used by a
    /// page of somebody else (cross-site WebSocket hijacking).
    pub fn same() -> Self {
        Self { same: true, missing: true, written: Box::from(["same origin".into()]), ..Self::default() }
    }

    /// Judges a handshake by its `Origin` line, if it has one, and its `Host`. `secure` says whether it came over TLS.
    pub fn judge(&self, origin: Option<&str>, authority: &str, secure: bool) -> OriginVerdict {
        let Some(text) = origin else {
            return if self.missing { OriginVerdict::Allowed } else { OriginVerdict::Missing };
        };
        let allowed = self.any
            || self.null && text == "null"
            || Origin::parse(text).is_some_and(|origin| self.allows(&origin, authority, secure));
        if allowed { OriginVerdict::Allowed } else { OriginVerdict::NotAllowed }
    }

    fn allows(&self, origin: &Origin<'_>, authority: &str, secure: bool) -> bool {
        if origin.host.contains('*') {
            return false; // no page has such a host
        }
        if self.same {
            let scheme = if secure { "https" } else { "http" };
            let own = format!("{scheme}://{authority}");
            return Origin::parse(&own).is_some_and(|own| own == *origin);
        }
        let mut labels = &*origin.host;
        let wildcard = std::iter::from_fn(|| {
            labels = labels.split_once('.')?.1;
            Some(labels)
        });
        let fits = |suffix: &str| {
            let parts = self.wildcard.get(suffix);
            parts.is_some_and(|parts| {
                parts.iter().any(|(scheme, port)| **scheme == *origin.scheme && *port == origin.port)
            })
        };
        self.exact.contains(origin) || { wildcard }.any(fits)
    }
}

impl Serialize for Origins {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        self.written.iter().try_for_each(|pattern| list.serialize_element(pattern))?;
        list.serialize_element(if self.missing { "missing: Allow" } else { "missing: Deny" })?;
        list.end()
    }
}

impl fmt::Display for OriginVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allowed => "allowed",
            Self::Missing => "this route takes handshakes with an Origin header only",
            Self::NotAllowed => "pages of this origin may not connect here",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use OriginVerdict::{Allowed, Missing, NotAllowed};

    fn judge(patterns: &[&str], origin: &str) -> OriginVerdict {
        Origins::new(patterns.iter().copied(), false).expect("patterns").judge(Some(origin), "h", true)
    }

    #[test]
    fn an_origin_is_compared_whole() {
        let list = ["https://chat.example.com", "http://localhost:3000", "https://[2001:db8::1]:8443"];
        for good in [
            "https://chat.example.com",
            "HTTPS://Chat.Example.com:443",
            "http://localhost:3000",
            "https://[2001:db8::1]:8443",
        ] {
            assert_eq!(judge(&list, good), Allowed, "{good}");
        }
        for bad in [
            "http://chat.example.com",
            "https://chat.example.com:8443",
            "https://chat.example.com.evil.test",
            "https://evil.test/https://chat.example.com",
            "https://chat.example.com/",
            "https://chat.example.com@evil.test",
            "https://xchat.example.com",
            "http://localhost",
            "null",
            "",
            "https://",
            "chat.example.com",
            "https://[2001:db8::1]",
            "https://chat.example.com:0443",
            "https://chat.example.com:",
            "https://chat.example.com, https://evil.test",
        ] {
            assert_eq!(judge(&list, bad), NotAllowed, "{bad}");
        }
    }

    #[test]
    fn a_star_stands_for_one_or_more_labels_of_a_host_and_nothing_else() {
        let list = ["https://*.example.com", "ws://*.example.org:8080"];
        for good in ["https://a.example.com", "https://a.b.example.com", "ws://x.example.org:8080"] {
            assert_eq!(judge(&list, good), Allowed, "{good}");
        }
        for bad in [
            "https://example.com",
            "http://a.example.com",
            "https://a.example.com:444",
            "https://aexample.com",
            "https://*.example.com",
            "ws://x.example.org",
        ] {
            assert_eq!(judge(&list, bad), NotAllowed, "{bad}");
        }
        for wrong in
            ["https://*", "https://a.*.com", "https://*a.com", "*.example.com", "https://example.com/x", "https://a b"]
        {
            assert!(Origins::new([wrong], true).is_err(), "{wrong}");
        }
        assert_eq!(judge(&["*"], "null"), Allowed);
    }

    #[test]
    fn without_an_origin_the_list_says_what_then() {
        let list = |missing| Origins::new(["https://a.b"], missing).expect("a pattern");
        assert_eq!(list(true).judge(None, "h", true), Allowed);
        assert_eq!(list(false).judge(None, "h", true), Missing);
    }

    #[test]
    fn the_same_origin_is_that_of_the_host_header_and_scheme() {
        let same = Origins::same();
        assert_eq!(same.judge(Some("https://chat.example.com"), "Chat.example.com", true), Allowed);
        assert_eq!(same.judge(Some("http://chat.example.com:8080"), "chat.example.com:8080", false), Allowed);
        for (origin, authority, secure) in [
            ("http://chat.example.com", "chat.example.com", true),
            ("https://chat.example.com", "chat.example.com:8443", true),
            ("https://evil.test", "chat.example.com", true),
            ("null", "chat.example.com", true),
        ] {
            assert_eq!(same.judge(Some(origin), authority, secure), NotAllowed, "{origin}");
        }
        assert_eq!(same.judge(None, "chat.example.com", true), Allowed);
    }
}
