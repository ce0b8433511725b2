//! The two lists that client and service negotiate: subprotocols and extensions (RFC 6455 §9.1, §11.3).
//!
//! Decides whether a list is well formed, and what it names. Which of them is used is the service's choice; the
//! lists themselves pass verbatim.

use super::fields::{Fields, is_token, is_token_text};

/// The extension whose use decides whether RSV1 is legal (RFC 7692).
const DEFLATE: &str = "permessage-deflate";

/// The offered subprotocols in order and case; `None` if an element is no token or appears twice (C13).
pub(super) fn subprotocols(fields: &Fields) -> Option<Vec<Box<str>>> {
    let mut offered: Vec<Box<str>> = Vec::new();
    for element in fields.elements("sec-websocket-protocol") {
        let name = std::str::from_utf8(element).ok().filter(|e| is_token_text(e.as_bytes()))?;
        if offered.iter().any(|o| **o == *name) {
            return None;
        }
        offered.push(name.into());
    }
    Some(offered)
}

/// The names of all listed extensions in order, over all lines; `None` if a line is malformed (C14).
pub(super) fn extensions(fields: &Fields) -> Option<Vec<&str>> {
    let mut names = Vec::new();
    for value in fields.all("sec-websocket-extensions") {
        let mut list = List { rest: value };
        loop {
            names.push(list.extension()?);
            if list.rest.is_empty() {
                break;
            }
            list.take(b',')?;
        }
    }
    Some(names)
}

/// Whether `name` is permessage-deflate.
pub(super) fn is_deflate(name: &str) -> bool {
    name.eq_ignore_ascii_case(DEFLATE)
}

/// What is left of an extension list.
struct List<'f> {
    rest: &'f [u8],
}

impl<'f> List<'f> {
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        self.rest = self.rest.strip_prefix(&[byte])?;
        self.skip_space();
        Some(())
    }

    fn token(&mut self) -> Option<&'f str> {
        let end = self.rest.iter().position(|b| !is_token(*b)).unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at(end);
        self.rest = rest;
        self.skip_space();
        std::str::from_utf8(token).ok().filter(|t| !t.is_empty())
    }

    /// One extension with its parameters; stops before a comma.
    fn extension(&mut self) -> Option<&'f str> {
        let name = self.token()?;
        while self.take(b';').is_some() {
            self.token()?;
            if self.take(b'=').is_some() {
                self.parameter_value()?;
            }
        }
        Some(name)
    }

    /// A token, or a quoted string whose content is one (RFC 6455 §9.1).
    fn parameter_value(&mut self) -> Option<()> {
        if self.rest.first() != Some(&b'"') {
            return self.token().map(|_| ());
        }
        let mut at = 1;
        let mut length = 0;
        loop {
            let byte = match *self.rest.get(at)? {
                b'"' => break,
                b'\\' => {
                    at += 1;
                    *self.rest.get(at)?
                }
                byte => byte,
            };
            if !is_token(byte) {
                return None;
            }
            at += 1;
            length += 1;
        }
        self.rest = &self.rest[at + 1..];
        self.skip_space();
        (length > 0).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::head::HeadLimits;
    use bytes::Bytes;

    fn fields(name: &str, values: &[&str]) -> Fields {
        use std::fmt::Write;
        let mut text = String::new();
        for value in values {
            write!(text, "{name}: {value}\r\n").expect("a String takes everything");
        }
        text.push_str("\r\n");
        Fields::parse(&Bytes::from(text), 0, &HeadLimits::default()).expect("well formed")
    }

    #[test]
    fn lists_subprotocols_over_several_lines_in_order() {
        let offered = subprotocols(&fields("Sec-WebSocket-Protocol", &["b, A", "c"]));
        assert_eq!(offered.expect("valid").join(" "), "b A c");
        for bad in [&["a b"][..], &["a,,b"], &["a, a"], &["a", "a"], &[""], &["a,"], &["\"a\""]] {
            assert_eq!(subprotocols(&fields("Sec-WebSocket-Protocol", bad)), None, "{bad:?}");
        }
    }

    #[test]
    fn reads_the_extension_grammar() {
        let names = |values: &[&str]| extensions(&fields("Sec-WebSocket-Extensions", values)).map(|n| n.join(" "));
        for (good, expected) in [
            (&[][..], ""),
            (&["permessage-deflate"], "permessage-deflate"),
            (&["permessage-deflate; client_max_window_bits; a=1 ,b;c=\"d\\e\"", "f"], "permessage-deflate b f"),
        ] {
            assert_eq!(names(good).as_deref(), Some(expected), "{good:?}");
        }
        for bad in ["", "a;", "a,", ",a", "a b", "a;b=", "a;b=\"\"", "a;b=\"c", "a;b=\"c d\"", "a;=b", "a=b"] {
            assert_eq!(names(&[bad]), None, "{bad:?}");
        }
    }
}
