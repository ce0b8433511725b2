//! Strict HTTP/1.1 heads (RFC 9112): where one ends, and what its first line and header lines are.
//!
//! Stricter than the general-purpose parsers on purpose: a proxy that is lenient where its backend is not (or the
//! other way round) is how requests get smuggled. CRLF ends a line and nothing else does; no folded line, no
//! space before a colon, no control character. What the head asks for is decided elsewhere.

use super::fields::{Fields, is_token_text};
use bytes::{Bytes, BytesMut};
use std::fmt;
use std::io;
use std::ops::Range;
use tokio::io::{AsyncRead, AsyncReadExt};

/// How large a head may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// First line, header lines and the empty line together. Default 16 KiB.
    pub max_bytes: usize,
    /// Header lines. Default 100.
    pub max_fields: usize,
    /// The request target. Default 8 KiB.
    pub max_target_bytes: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { max_bytes: 16 << 10, max_fields: 100, max_target_bytes: 8 << 10 }
    }
}

/// What is wrong with a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// A control character, NUL and DEL included.
    #[error("the head has a control character")]
    Control,
    /// A header line without a name of token characters directly before a colon.
    #[error("a header line has no valid name before its colon")]
    FieldName,
    /// A header line continued on the next line (RFC 9112 §5.2).
    #[error("a header line is folded: send it on one line")]
    FoldedLine,
    /// A CR or LF that is not part of a CRLF (RFC 9112 §2.2).
    #[error("lines of the head must end with CRLF")]
    LineEnd,
    /// The first line is no request line or status line.
    #[error("the first line is not HTTP/1.1")]
    StartLine,
    /// The request target exceeds its bound.
    #[error("the request target is too long")]
    TargetTooLong,
    /// The head exceeds its bound.
    #[error("the head is too large")]
    TooLarge,
    /// More header lines than the bound.
    #[error("the head has too many header lines")]
    TooManyFields,
    /// Another HTTP version than 1.1, or in an answer 1.0.
    #[error("the HTTP version must be 1.1")]
    Version,
}

/// How far the search for the end of a head has come. Each byte is looked at once, however it trickles in.
#[derive(Debug, Default)]
pub struct Scan {
    at: usize,
    line_start: usize,
    lines: usize,
}

impl Scan {
    /// Looks at what `input` has grown by since the last call; `Some` is the length of the whole head.
    ///
    /// # Errors
    /// [`HeadError::Control`], [`HeadError::LineEnd`] and the bounds, as soon as they show.
    pub fn advance(&mut self, input: &[u8], limits: &HeadLimits) -> Result<Option<usize>, HeadError> {
        while let Some(&byte) = input.get(self.at) {
            match byte {
                b'\r' => match input.get(self.at + 1) {
                    None => break,
                    Some(b'\n') => {
                        let empty = self.line_start == self.at;
                        self.at += 2;
                        self.line_start = self.at;
                        if empty {
                            return self.end(limits);
                        }
                        self.lines += 1;
                        if self.lines > limits.max_fields + 1 {
                            return Err(HeadError::TooManyFields);
                        }
                    }
                    Some(_) => return Err(HeadError::LineEnd),
                },
                b'\n' => return Err(HeadError::LineEnd),
                b'\t' | 0x20..=0x7e | 0x80.. => self.at += 1,
                _ => return Err(HeadError::Control),
            }
        }
        // Method and version take a few bytes more than the target; the exact check is the parser's.
        if self.lines == 0 && input.len() > limits.max_target_bytes + 64 {
            return Err(HeadError::TargetTooLong);
        }
        if input.len() > limits.max_bytes { Err(HeadError::TooLarge) } else { Ok(None) }
    }

    fn end(&self, limits: &HeadLimits) -> Result<Option<usize>, HeadError> {
        if self.lines == 0 {
            return Err(HeadError::StartLine);
        }
        if self.at > limits.max_bytes { Err(HeadError::TooLarge) } else { Ok(Some(self.at)) }
    }
}

/// A request's head.
#[derive(Clone)]
pub struct RequestHead {
    raw: Bytes,
    method: Range<usize>,
    target: Range<usize>,
    /// Its header lines.
    pub fields: Fields,
}

impl RequestHead {
    /// Parses a whole head, as measured by [`Scan`].
    ///
    /// # Errors
    /// Every [`HeadError`] that [`Scan`] leaves open.
    pub fn parse(raw: Bytes, limits: &HeadLimits) -> Result<Self, HeadError> {
        let end = raw.iter().position(|b| *b == b'\r').ok_or(HeadError::StartLine)?;
        let mut words = raw[..end].split(|b| *b == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(HeadError::StartLine);
        };
        let visible = !target.is_empty() && target.iter().all(u8::is_ascii_graphic);
        if !is_token_text(method) || !visible || !is_version(version) {
            return Err(HeadError::StartLine);
        }
        if version != b"HTTP/1.1" {
            return Err(HeadError::Version);
        }
        if target.len() > limits.max_target_bytes {
            return Err(HeadError::TargetTooLong);
        }
        let method = 0..method.len();
        let target = method.end + 1..method.end + 1 + target.len();
        let fields = Fields::parse(&raw, end + 2, limits)?;
        Ok(Self { raw, method, target, fields })
    }

    /// The method, as it came.
    pub fn method(&self) -> &[u8] {
        &self.raw[self.method.clone()]
    }

    /// The request target, as it came: visible ASCII.
    pub fn target(&self) -> &str {
        std::str::from_utf8(&self.raw[self.target.clone()]).unwrap_or_default()
    }

    /// A part of the target that shares the head's bytes.
    pub(super) fn target_slice(&self, range: Range<usize>) -> Bytes {
        self.raw.slice(self.target.start + range.start..self.target.start + range.end)
    }
}

impl fmt::Debug for RequestHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.target().split('?').next().unwrap_or_default();
        f.debug_struct("RequestHead").field("path", &path).field("fields", &self.fields).finish_non_exhaustive()
    }
}

/// A response's head.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    /// Three digits, 100 to 599.
    pub status: u16,
    /// Whether it is HTTP/1.1; HTTP/1.0 is the only other one accepted.
    pub is_http_1_1: bool,
    /// The text after the status, maybe empty.
    pub reason: Bytes,
    /// Its header lines.
    pub fields: Fields,
}

impl ResponseHead {
    /// Parses a whole head, as measured by [`Scan`].
    ///
    /// # Errors
    /// Every [`HeadError`] that [`Scan`] leaves open.
    pub fn parse(raw: &Bytes, limits: &HeadLimits) -> Result<Self, HeadError> {
        let end = raw.iter().position(|b| *b == b'\r').ok_or(HeadError::StartLine)?;
        let (version, rest) = raw[..end].split_at_checked(8).ok_or(HeadError::StartLine)?;
        if !is_version(version) {
            return Err(HeadError::StartLine);
        }
        if !matches!(version, b"HTTP/1.0" | b"HTTP/1.1") {
            return Err(HeadError::Version);
        }
        // RFC 9112 §4 wants a space after the status even without a reason; many servers leave it out.
        let &[b' ', a @ b'1'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9', ref reason @ ..] = rest else {
            return Err(HeadError::StartLine);
        };
        if !matches!(reason.first(), None | Some(b' ')) {
            return Err(HeadError::StartLine);
        }
        let digit = |byte: u8| u16::from(byte - b'0');
        Ok(Self {
            status: digit(a) * 100 + digit(b) * 10 + digit(c),
            is_http_1_1: version == b"HTTP/1.1",
            reason: raw.slice((end - reason.len() + 1).min(end)..end),
            fields: Fields::parse(raw, end + 2, limits)?,
        })
    }
}

fn is_version(text: &[u8]) -> bool {
    matches!(text, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
        if major.is_ascii_digit() && minor.is_ascii_digit())
}

/// Why no head was read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The peer closed before it sent a byte.
    #[error("the peer closed before it sent anything")]
    Closed,
    /// What it sent is no head.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    /// The peer closed in the middle of a head.
    #[error("the peer closed in the middle of the head")]
    Truncated,
}

/// Reads one whole head into `buffer` and splits it off; what came after it stays in `buffer`.
///
/// # Errors
/// [`ReadError`]; what was read so far is still in `buffer`.
///
/// # Cancel safety
/// Dropping the future loses no byte, but a later call scans `buffer` from its start again.
pub async fn read_head<S>(stream: &mut S, buffer: &mut BytesMut, limits: &HeadLimits) -> Result<Bytes, ReadError>
where
    S: AsyncRead + Unpin,
{
    let mut scan = Scan::default();
    loop {
        if let Some(length) = scan.advance(buffer, limits)? {
            return Ok(buffer.split_to(length).freeze());
        }
        if buffer.capacity() - buffer.len() < 512 {
            buffer.reserve(2048);
        }
        if stream.read_buf(buffer).await? == 0 {
            return Err(if buffer.is_empty() { ReadError::Closed } else { ReadError::Truncated });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &str = "GET /a?b=c HTTP/1.1\r\nHost: h\r\nX: \u{e4} y\r\n\r\n";

    fn request(text: &str) -> Result<RequestHead, HeadError> {
        let limits = HeadLimits { max_bytes: 200, max_fields: 3, max_target_bytes: 40 };
        let end = Scan::default().advance(text.as_bytes(), &limits)?.expect("whole head");
        RequestHead::parse(Bytes::copy_from_slice(&text.as_bytes()[..end]), &limits)
    }

    fn response(text: &'static str) -> Result<ResponseHead, HeadError> {
        ResponseHead::parse(&Bytes::from_static(text.as_bytes()), &HeadLimits::default())
    }

    #[test]
    fn finds_the_same_end_however_the_bytes_arrive() {
        let input = format!("{REQUEST}more");
        for step in 1..input.len() {
            let mut scan = Scan::default();
            let mut shown = 0;
            let end = loop {
                shown = (shown + step).min(input.len());
                if let Some(end) = scan.advance(&input.as_bytes()[..shown], &HeadLimits::default()).expect("valid") {
                    break end;
                }
            };
            assert_eq!(end, REQUEST.len(), "in steps of {step}");
        }
    }

    #[test]
    fn parses_a_request() {
        let head = request(REQUEST).expect("valid");
        assert_eq!((head.method(), head.target()), (&b"GET"[..], "/a?b=c"));
        assert_eq!(head.fields.all("x").next(), Some("\u{e4} y".as_bytes()));
    }

    #[test]
    fn refuses_what_is_not_strict_http() {
        let long = "x".repeat(300);
        for (text, error) in [
            ("GET / HTTP/1.1\nHost: h\r\n\r\n", HeadError::LineEnd),
            ("GET / HTTP/1.1\r\nHost: h\n\r\n", HeadError::LineEnd),
            ("GET / HTTP/1.1\r\nHo\rst: h\r\n\r\n", HeadError::LineEnd),
            ("GET / HTTP/1.1\r\nHost: h\0\r\n\r\n", HeadError::Control),
            ("\r\nGET / HTTP/1.1\r\n\r\n", HeadError::StartLine),
            ("GET  / HTTP/1.1\r\n\r\n", HeadError::StartLine),
            ("GET / HTTP/1.1 \r\n\r\n", HeadError::StartLine),
            ("GET /\u{e4} HTTP/1.1\r\n\r\n", HeadError::StartLine),
            ("GET / HTTP/1.0\r\n\r\n", HeadError::Version),
            ("PRI * HTTP/2.0\r\n\r\n", HeadError::Version),
            ("GET / HTTP/1.1\r\na:1\r\nb:2\r\nc:3\r\nd:4\r\n\r\n", HeadError::TooManyFields),
            (&format!("GET /{} HTTP/1.1\r\n\r\n", &long[..45]), HeadError::TargetTooLong),
            (&format!("GET /{long}"), HeadError::TargetTooLong),
            (&format!("GET / HTTP/1.1\r\na: {long}"), HeadError::TooLarge),
            (&format!("GET / HTTP/1.1\r\na: {long}\r\n\r\n"), HeadError::TooLarge),
        ] {
            assert_eq!(request(text).err(), Some(error), "{text:?}");
        }
    }

    #[test]
    fn parses_a_status_line_with_and_without_reason() {
        for (text, status, reason) in [
            ("HTTP/1.1 101 Switching Protocols\r\n\r\n", 101, "Switching Protocols"),
            ("HTTP/1.1 404 \r\n\r\n", 404, ""),
            ("HTTP/1.0 503\r\n\r\n", 503, ""),
        ] {
            let head = response(text).expect(text);
            assert_eq!((head.status, &head.reason[..]), (status, reason.as_bytes()), "{text:?}");
        }
        for text in ["HTTP/1.1 1010 x\r\n\r\n", "HTTP/1.1  101\r\n\r\n", "ICY 200 OK\r\n\r\n", "HTTP/1.1 99 x\r\n\r\n"]
        {
            assert_eq!(response(text).err(), Some(HeadError::StartLine), "{text:?}");
        }
        for text in ["HTTP/1.2 200 OK\r\n\r\n", "HTTP/0.9 200 OK\r\n\r\n", "HTTP/2.0 200 OK\r\n\r\n"] {
            assert_eq!(response(text).err(), Some(HeadError::Version), "{text:?}");
        }
    }

    #[tokio::test]
    async fn reads_a_head_and_keeps_what_follows() {
        let (start, rest) = REQUEST.as_bytes().split_at(9);
        let mut stream = tokio::io::empty().chain(start).chain(rest).chain(&b"frame"[..]);
        let mut buffer = BytesMut::from(&b""[..]);
        let head = read_head(&mut stream, &mut buffer, &HeadLimits::default()).await.expect("a head");
        assert_eq!(head, REQUEST.as_bytes());
        assert!(b"frame".starts_with(&buffer));
    }

    #[tokio::test]
    async fn tells_a_clean_end_from_a_cut_head() {
        for (input, truncated) in [(&b""[..], false), (b"GET", true)] {
            let error = read_head(&mut &input[..], &mut BytesMut::new(), &HeadLimits::default()).await;
            assert_eq!(matches!(error, Err(ReadError::Truncated)), truncated, "{input:?}");
            assert_eq!(matches!(error, Err(ReadError::Closed)), !truncated, "{input:?}");
        }
    }
}
