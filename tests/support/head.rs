//! HTTP/1.1 heads and answers as they came, for tests to look at.

use super::wire::Wire;

/// A request's or an answer's head.
#[derive(Debug)]
pub struct Head {
    /// The first line.
    pub start: String,
    /// Names as they came, values without surrounding blanks.
    pub fields: Vec<(String, String)>,
}

impl Head {
    /// Reads one head.
    pub fn read(wire: &mut Wire) -> Self {
        let raw = wire.take_through(b"\r\n\r\n");
        let text = String::from_utf8(raw).expect("a head of UTF-8");
        let mut lines = text.trim_end_matches("\r\n").split("\r\n");
        let start = lines.next().expect("a first line").to_owned();
        let field = |line: &str| {
            let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("a line without a colon: {line:?}"));
            (name.to_owned(), value.trim().to_owned())
        };
        Self { start, fields: lines.map(field).collect() }
    }

    /// Of an answer.
    pub fn status(&self) -> u16 {
        let code = self.start.strip_prefix("HTTP/1.1 ").and_then(|s| s.get(..3)).and_then(|c| c.parse().ok());
        code.unwrap_or_else(|| panic!("no status line: {:?}", self.start))
    }

    /// Every value of `name`, whose case does not matter.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| &**v).collect()
    }

    /// The only value of `name`; `None` if there is none.
    pub fn get(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name} is there {} times: {self:?}", all.len());
        all.first().copied()
    }

    /// Whether a list header has `token`, in any case.
    pub fn lists(&self, name: &str, token: &str) -> bool {
        self.all(name).iter().flat_map(|v| v.split(',')).any(|t| t.trim().eq_ignore_ascii_case(token))
    }
}

/// A final answer with its body.
#[derive(Debug)]
pub struct Answer {
    /// Its head.
    pub head: Head,
    /// Its body, without the framing.
    pub body: String,
}

impl Answer {
    /// Reads one; interim answers before it are skipped.
    pub fn read(wire: &mut Wire) -> Self {
        let head = loop {
            let head = Head::read(wire);
            if head.status() == 101 || head.status() >= 200 {
                break head;
            }
        };
        let body = if head.status() == 101 {
            Vec::new()
        } else if head.lists("Transfer-Encoding", "chunked") {
            Self::chunks(wire)
        } else if let Some(length) = head.get("Content-Length") {
            wire.take(length.parse().expect("a length"))
        } else {
            wire.rest()
        };
        Self { head, body: String::from_utf8(body).expect("a body of UTF-8") }
    }

    fn chunks(wire: &mut Wire) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let line = String::from_utf8(wire.take_through(b"\r\n")).expect("a chunk size");
            let size =
                usize::from_str_radix(line.trim_end().split(';').next().unwrap_or_default(), 16).expect("a chunk size");
            body.extend(wire.take(size));
            assert_eq!(wire.take(2), b"\r\n", "the end of a chunk (no trailers here)");
            if size == 0 {
                return body;
            }
        }
    }
}
