//! The part of a handshake that routing looks at, borrowed from wherever it was read.

use std::borrow::Cow;

/// How the handshake came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Over TLS: `wss`.
    Wss,
    /// In clear: `ws`.
    Ws,
}

impl Scheme {
    /// The URL scheme, `ws` or `wss`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ws => "ws",
            Self::Wss => "wss",
        }
    }
}

/// A handshake as the table sees it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// How it came in.
    pub scheme: Scheme,
    /// Lower case, without port or trailing dot.
    pub host: &'a str,
    /// The path as it came, without the query.
    pub path: &'a str,
    /// The query as it came, without `?`.
    pub query: Option<&'a str>,
    /// Header lines; names in any case.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// Offered subprotocols in order.
    pub subprotocols: &'a [&'a str],
}

impl<'a> Request<'a> {
    /// The values of every line named `name` (any case) that are UTF-8.
    pub fn header(&self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers
            .iter()
            .filter(move |(n, _)| n.eq_ignore_ascii_case(name))
            .filter_map(|(_, value)| std::str::from_utf8(value).ok())
    }

    /// The first value of the query parameter `name`, decoded.
    pub fn query_value(&self, name: &str) -> Option<Cow<'a, str>> {
        let pairs = self.query?.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs.into_iter().find(|(n, _)| decode_query(n) == name).map(|(_, value)| decode_query(value))
    }
}

/// Decodes `%XX` and `+` of a query name or value. A malformed escape stays as it is; bytes that are not UTF-8
/// become U+FFFD, so they match no expression by accident.
pub fn decode_query(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(|b| b == b'%' || b == b'+') {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = |i: usize| bytes.get(i).and_then(|b| char::from(*b).to_digit(16));
        match (bytes[at], hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
            }
            (b'+', ..) => {
                out.push(b' ');
                at += 1;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    Cow::Owned(String::from_utf8(out).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_values_are_decoded_and_the_first_one_counts() {
        let request = Request {
            scheme: Scheme::Ws,
            host: "h",
            path: "/",
            query: Some("a=1&room%20no=%41+b&a=2&flag&bad=%zz"),
            headers: &[],
            subprotocols: &[],
        };
        assert_eq!(request.query_value("a").as_deref(), Some("1"));
        assert_eq!(request.query_value("room no").as_deref(), Some("A b"));
        assert_eq!(request.query_value("flag").as_deref(), Some(""));
        assert_eq!(request.query_value("bad").as_deref(), Some("%zz"));
        assert_eq!(request.query_value("none"), None);
    }
}
