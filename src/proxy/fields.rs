//! The header lines of one HTTP/1.1 head: kept as ranges into the bytes they came in, looked up without case.
//!
//! Decides what a well-formed line is (RFC 9112 §5, RFC 9110 §5.5) and which lines end at this hop (RFC 9110
//! §7.6.1). What a line means is for the caller.

use super::head::{HeadError, HeadLimits};
use bytes::Bytes;
use std::fmt;
use std::ops::Range;

/// Names that concern one connection only, whether `Connection` names them or not. The framing fields are here
/// because a handshake has no body and an answer's framing is written anew.
const HOP_BY_HOP: [&str; 10] = [
    "connection",
    "content-length",
    "http2-settings",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Elements of `Connection` that are honoured; a longer list is a request's fault and an answer's noise.
pub(super) const MAX_NOMINATED: usize = 32;

#[derive(Clone)]
struct Line {
    name: Range<u32>,
    value: Range<u32>,
}

/// What a lookup of a field that may appear once has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Only<'f> {
    /// No line has the name.
    Absent,
    /// One line has it, with this value.
    One(&'f [u8]),
    /// Several lines have it.
    Several,
}

/// Header lines in the order they came. `Debug` shows names, never values: they carry credentials.
#[derive(Clone)]
pub struct Fields {
    raw: Bytes,
    lines: Box<[Line]>,
}

impl Fields {
    /// Parses the lines of `raw` from `start` up to its final empty line. `raw` has passed
    /// [`Scan`](super::head::Scan): CRLF line ends, no control characters.
    pub(super) fn parse(raw: &Bytes, start: usize, limits: &HeadLimits) -> Result<Self, HeadError> {
        let mut lines = Vec::with_capacity(16);
        let mut at = start;
        while let Some(length) = raw[at..].iter().position(|b| *b == b'\r') {
            if length == 0 {
                break;
            }
            lines.push(line(&raw[at..at + length], at)?);
            if lines.len() > limits.max_fields {
                return Err(HeadError::TooManyFields);
            }
            at += length + 2;
        }
        Ok(Self { raw: raw.clone(), lines: lines.into() })
    }

    fn bytes(&self, range: &Range<u32>) -> &[u8] {
        &self.raw[range.start as usize..range.end as usize]
    }

    /// Names and values, surrounding white space removed.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        // Names are tokens, hence ASCII: the conversion cannot fail.
        self.lines.iter().map(|l| (std::str::from_utf8(self.bytes(&l.name)).unwrap_or_default(), self.bytes(&l.value)))
    }

    /// The values of every line named `name`, in any case.
    pub fn all<'f>(&'f self, name: &'f str) -> impl Iterator<Item = &'f [u8]> {
        let named = |l: &&Line| self.bytes(&l.name).eq_ignore_ascii_case(name.as_bytes());
        self.lines.iter().filter(named).map(|l| self.bytes(&l.value))
    }

    /// The value of a field that may appear once.
    pub fn only(&self, name: &str) -> Only<'_> {
        let mut found = Only::Absent;
        for line in &self.lines {
            if self.bytes(&line.name).eq_ignore_ascii_case(name.as_bytes()) {
                if found != Only::Absent {
                    return Only::Several;
                }
                found = Only::One(self.bytes(&line.value));
            }
        }
        found
    }

    /// The comma-separated elements of every line named `name`, trimmed, empty ones included (RFC 9110 §5.6.1).
    pub fn elements<'f>(&'f self, name: &'f str) -> impl Iterator<Item = &'f [u8]> {
        self.all(name).flat_map(|value| value.split(|b| *b == b',')).map(<[u8]>::trim_ascii)
    }

    /// Whether some line named `name` lists `token`, in any case and place.
    pub fn lists(&self, name: &str, token: &str) -> bool {
        self.elements(name).any(|e| e.eq_ignore_ascii_case(token.as_bytes()))
    }

    /// The lines that travel past this hop: neither hop-by-hop nor named by `Connection`.
    pub fn end_to_end(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let nominated: Vec<_> = self.elements("connection").filter(|e| !e.is_empty()).take(MAX_NOMINATED).collect();
        self.iter().filter(move |(name, _)| {
            !is_hop_by_hop(name) && !nominated.iter().any(|n| name.as_bytes().eq_ignore_ascii_case(n))
        })
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| name)).finish()
    }
}

/// Parses one line, whose first byte is at `offset` of the head.
fn line(text: &[u8], offset: usize) -> Result<Line, HeadError> {
    if matches!(text.first(), Some(b' ' | b'\t')) {
        return Err(HeadError::FoldedLine);
    }
    let colon = text.iter().position(|b| !is_token(*b)).unwrap_or(text.len());
    if colon == 0 || text.get(colon) != Some(&b':') {
        return Err(HeadError::FieldName);
    }
    let rest = &text[colon + 1..];
    let start = colon + 1 + (rest.len() - rest.trim_ascii_start().len());
    let end = start + rest.trim_ascii().len();
    let range = |from: usize, to: usize| (offset + from) as u32..(offset + to) as u32;
    Ok(Line { name: range(0, colon), value: range(start, end) })
}

/// Whether a line of this name concerns one connection only, or may to a backend that reads `_` as `-`.
pub(super) fn is_hop_by_hop(name: &str) -> bool {
    HOP_BY_HOP.iter().any(|hop| folds_to(name.as_bytes(), hop))
}

/// Whether `byte` may be part of a token (RFC 9110 §5.6.2).
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Whether `text` is a token: not empty, token characters only.
pub(super) fn is_token_text(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|b| is_token(*b))
}

/// Whether `name` is `wanted` (lower case, dashes) to a backend that folds case and reads `_` as `-`, as CGI and
/// its descendants do.
pub(super) fn folds_to(name: &[u8], wanted: &str) -> bool {
    name.len() == wanted.len() && folds_to_start(name, wanted)
}

/// Whether `name` begins with `prefix` to such a backend.
pub(super) fn folds_to_start(name: &[u8], prefix: &str) -> bool {
    let fold = |b: &u8| if *b == b'_' { b'-' } else { b.to_ascii_lowercase() };
    name.len() >= prefix.len() && name.iter().map(fold).zip(prefix.bytes()).all(|(a, b)| a == b)
}

/// Whether a backend may read both names as one: without regard to case, and `_` like `-`.
pub(super) fn fold_alike(one: &[u8], other: &[u8]) -> bool {
    let fold = |b: &u8| if *b == b'_' { b'-' } else { b.to_ascii_lowercase() };
    one.len() == other.len() && one.iter().map(fold).eq(other.iter().map(fold))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &'static str) -> Result<Fields, HeadError> {
        Fields::parse(&Bytes::from_static(text.as_bytes()), 0, &HeadLimits::default())
    }

    #[test]
    fn looks_up_in_any_case_and_tells_duplicates() {
        let fields = fields("Host: a\r\nX-One:\t 1 \r\nx-one: 2, ,3\r\n\r\n").expect("well formed");
        assert_eq!(fields.only("host"), Only::One(b"a"));
        assert_eq!(fields.only("X-ONE"), Only::Several);
        assert_eq!(fields.only("none"), Only::Absent);
        assert_eq!(fields.elements("x-one").collect::<Vec<_>>(), [&b"1"[..], b"2", b"", b"3"]);
    }

    #[test]
    fn refuses_folded_lines_and_names_that_are_no_tokens() {
        for (text, error) in [
            (" folded: 1\r\n\r\n", HeadError::FoldedLine),
            ("name : 1\r\n\r\n", HeadError::FieldName),
            (": 1\r\n\r\n", HeadError::FieldName),
            ("no colon\r\n\r\n", HeadError::FieldName),
            ("n\u{e4}me: 1\r\n\r\n", HeadError::FieldName),
        ] {
            assert_eq!(fields(text).err(), Some(error), "{text:?}");
        }
    }

    #[test]
    fn end_to_end_leaves_out_hop_by_hop_lines_and_nominated_ones() {
        let text = "Connection: Upgrade, X-Hop\r\nUpgrade: websocket\r\nX-Hop: 1\r\nTE: trailers\r\nCookie: a\r\n\r\n";
        let fields = fields(text).expect("well formed");
        assert_eq!(fields.end_to_end().map(|(n, _)| n).collect::<Vec<_>>(), ["Cookie"]);
    }

    #[test]
    fn debug_shows_no_value() {
        let fields = fields("Authorization: secret\r\n\r\n").expect("well formed");
        assert_eq!(format!("{fields:?}"), "[\"Authorization\"]");
    }
}
