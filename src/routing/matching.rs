//! Matches: what a rule asks of a handshake's path, headers, query and offered subprotocols.
//!
//! Conditions inside one match are `ANDed`; the matches of a rule are `ORed`. Precedence between matches is the
//! derived order of [`Match::rank`] and nothing else, so that "who wins" is one comparison everywhere.

use super::explain::Mismatch;
use super::request::Request;
use serde::{Serialize, Serializer};
use std::cmp::Reverse;
use std::fmt;
use std::hash::{Hash, Hasher};

/// A regular expression of a linear-time engine, compared by its source text.
#[derive(Clone, Debug)]
pub struct Pattern(regex::Regex);

impl Pattern {
    /// Compiles `text` to match the whole value, as a user expects of a path or header value.
    ///
    /// # Errors
    /// The engine's own message if the expression is malformed or its program would exceed 1 MiB.
    pub fn whole(text: &str) -> Result<Self, regex::Error> {
        regex::Regex::new(text)?; // so that an unbalanced group cannot hide in ours
        regex::RegexBuilder::new(&format!("^(?:{text})$")).size_limit(1 << 20).build().map(Self)
    }

    /// The expression as the user wrote it.
    pub fn source(&self) -> &str {
        let text = self.0.as_str();
        &text[4..text.len() - 2]
    }

    fn accepts(&self, value: &str) -> bool {
        self.0.is_match(value)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Pattern {}

impl Hash for Pattern {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.as_str().hash(state);
    }
}

/// How a header or query value is compared.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Text {
    /// Byte for byte.
    Exact(Box<str>),
    /// Whole value against an expression.
    Regular(Pattern),
}

impl Text {
    fn accepts(&self, value: &str) -> bool {
        match self {
            Self::Exact(text) => **text == *value,
            Self::Regular(pattern) => pattern.accepts(value),
        }
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(text) => f.write_str(text),
            Self::Regular(pattern) => write!(f, "~{}", pattern.source()),
        }
    }
}

/// One condition on a named header or query parameter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FieldMatch {
    /// Header names are lower case; query names are compared byte for byte.
    pub name: Box<str>,
    /// What the value must be.
    pub value: Text,
}

impl fmt::Display for FieldMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.value)
    }
}

/// One condition on the path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PathMatch {
    /// The whole path, byte for byte.
    Exact(Box<str>),
    /// Whole segments from the left; kept without a trailing slash, so `/` is the empty text.
    Prefix(Box<str>),
    /// The whole path against an expression.
    Regular(Pattern),
}

impl PathMatch {
    /// Whether `path` (no query) satisfies the condition.
    pub fn accepts(&self, path: &str) -> bool {
        match self {
            Self::Exact(text) => **text == *path,
            Self::Prefix(text) => {
                path.starts_with(&**text) && (path.len() == text.len() || path.as_bytes()[text.len()] == b'/')
            }
            Self::Regular(pattern) => pattern.accepts(path),
        }
    }
}

impl fmt::Display for PathMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(text) => write!(f, "Exact {text}"),
            Self::Prefix(text) if text.is_empty() => f.write_str("PathPrefix /"),
            Self::Prefix(text) => write!(f, "PathPrefix {text}"),
            Self::Regular(pattern) => write!(f, "RegularExpression {}", pattern.source()),
        }
    }
}

/// Conditions that must all hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Match {
    /// The path; `Prefix("")` is every path.
    pub path: PathMatch,
    /// Header conditions, sorted by name.
    pub headers: Vec<FieldMatch>,
    /// Query conditions, sorted by name. Of a repeated parameter the first value counts.
    pub query: Vec<FieldMatch>,
    /// Any one of these must be among the offered subprotocols; empty asks nothing. Sorted.
    pub subprotocols: Vec<Box<str>>,
}

/// What decides between two matches of one host: smaller wins. Gateway API `HTTPRouteRule` precedence, with
/// regular expressions between exact and prefix (its place is left to implementations: a catch-all prefix must
/// not hide an expression), longer paths first, and a subprotocol condition counted after headers and query.
pub(super) type Rank = (u8, Reverse<usize>, Reverse<usize>, Reverse<usize>, Reverse<bool>);

impl Match {
    /// The precedence of this match among the matches of one host; smaller wins.
    pub(super) fn rank(&self) -> Rank {
        let (kind, length) = match &self.path {
            PathMatch::Exact(text) => (0, text.len()),
            PathMatch::Regular(pattern) => (1, pattern.source().len()),
            PathMatch::Prefix(text) => (2, text.len()),
        };
        (
            kind,
            Reverse(length),
            Reverse(self.headers.len()),
            Reverse(self.query.len()),
            Reverse(!self.subprotocols.is_empty()),
        )
    }

    /// Checks everything but the path.
    ///
    /// # Errors
    /// The first condition that does not hold.
    pub(super) fn accepts_fields(&self, request: &Request<'_>) -> Result<(), Mismatch> {
        if let Some(header) = self.headers.iter().find(|m| !request.header(&m.name).any(|v| m.value.accepts(v))) {
            return Err(Mismatch::Header(header.to_string()));
        }
        for query in &self.query {
            if !request.query_value(&query.name).is_some_and(|v| query.value.accepts(&v)) {
                return Err(Mismatch::QueryParam(query.to_string()));
            }
        }
        let offered = |wanted: &str| request.subprotocols.contains(&wanted);
        if !self.subprotocols.is_empty() && !self.subprotocols.iter().any(|wanted| offered(wanted)) {
            return Err(Mismatch::Subprotocol(self.subprotocols.join(" or ")));
        }
        Ok(())
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path)?;
        for header in &self.headers {
            write!(f, " header {header}")?;
        }
        for query in &self.query {
            write!(f, " query {query}")?;
        }
        if !self.subprotocols.is_empty() {
            write!(f, " subprotocol {}", self.subprotocols.join("|"))?;
        }
        Ok(())
    }
}

impl Serialize for Match {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_matches_whole_segments_only() {
        let prefix = PathMatch::Prefix("/ws".into());
        assert!(prefix.accepts("/ws"));
        assert!(prefix.accepts("/ws/room"));
        assert!(!prefix.accepts("/wsx"));
        assert!(PathMatch::Prefix("".into()).accepts("/anything"));
    }

    #[test]
    fn regular_expression_must_match_the_whole_path() {
        let regular = PathMatch::Regular(Pattern::whole("/room/[0-9]+|/lobby").expect("valid"));
        assert!(regular.accepts("/room/42"));
        assert!(regular.accepts("/lobby"));
        assert!(!regular.accepts("/room/42/x"));
        assert!(!regular.accepts("/x/lobby"));
    }

    #[test]
    fn an_expression_that_breaks_out_of_its_group_is_refused() {
        assert!(Pattern::whole("a)|(b").is_err());
    }
}
