//! The request target and the host of a handshake: which forms are accepted, and which paths (RFC 9112 §3.2, RFC
//! 3986 §6).
//!
//! A path is judged once, here, and the same bytes are routed and sent upstream. Where backends are known to read
//! one path in two ways (dot segments, encoded slashes, parameters) it is refused rather than rewritten.

/// What is wrong with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathFault {
    /// `\`, a fragment or another character that has no place in a target.
    #[error("the path has a character that must not be there, such as a backslash or #")]
    Character,
    /// `.` or `..` as a segment.
    #[error("the path has a dot segment: send it resolved")]
    DotSegment,
    /// `//`.
    #[error("the path has an empty segment (//)")]
    EmptySegment,
    /// `%` without two hexadecimal digits.
    #[error("the path has a broken percent escape")]
    Escape,
    /// An escaped dot, slash, backslash, percent sign or control character.
    #[error("the path escapes a dot, slash, backslash, percent sign or control character")]
    Escaped,
    /// `;`, which some backends cut off with what follows.
    #[error("the path has a parameter (;)")]
    Parameter,
}

/// Checks a path that starts with `/` (C18).
pub(super) fn check_path(path: &str) -> Result<(), PathFault> {
    let bytes = path.as_bytes();
    let mut segment_start = 1;
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'/' if segment_start == at => return Err(PathFault::EmptySegment),
            b'/' => {
                check_segment(&bytes[segment_start..at])?;
                segment_start = at + 1;
            }
            b'\\' | b'#' => return Err(PathFault::Character),
            b';' => return Err(PathFault::Parameter),
            b'%' => {
                let hex = |i: usize| bytes.get(i).and_then(|b| char::from(*b).to_digit(16));
                let (Some(high), Some(low)) = (hex(at + 1), hex(at + 2)) else { return Err(PathFault::Escape) };
                match (high * 16 + low) as u8 {
                    b'.' | b'/' | b'\\' | b'%' | b';' => return Err(PathFault::Escaped),
                    byte if byte.is_ascii_control() => return Err(PathFault::Escaped),
                    _ => at += 2,
                }
            }
            _ => {}
        }
        at += 1;
    }
    check_segment(&bytes[segment_start.min(bytes.len())..])
}

fn check_segment(segment: &[u8]) -> Result<(), PathFault> {
    if matches!(segment, b"." | b"..") { Err(PathFault::DotSegment) } else { Ok(()) }
}

/// A request target taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target<'t> {
    /// Of the absolute form only.
    pub(super) authority: Option<&'t str>,
    /// Path and query; empty only for an absolute form without a path.
    pub(super) path_and_query: &'t str,
}

/// Takes the origin form or the absolute form apart; `None` is another form, or a scheme that is not ours.
pub(super) fn split_target(target: &str) -> Option<Target<'_>> {
    if target.starts_with('/') {
        return Some(Target { authority: None, path_and_query: target });
    }
    let (scheme, rest) = target.split_once("://")?;
    if !["http", "https", "ws", "wss"].iter().any(|s| scheme.eq_ignore_ascii_case(s)) {
        return None;
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path_and_query) = rest.split_at(end);
    Some(Target { authority: Some(authority), path_and_query })
}

/// The host of `authority` (`name`, `name:port`, `[v6]:port`) in lower case, without port, brackets or trailing
/// dot; `None` if it is no valid host. User information is not valid here.
pub(super) fn host_of(authority: &str) -> Option<Box<str>> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        host.parse::<std::net::Ipv6Addr>().ok()?;
        (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
    } else {
        let (host, port) = authority.split_once(':').map_or((authority, None), |(h, p)| (h, Some(p)));
        let host = host.strip_suffix('.').unwrap_or(host);
        let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        if host.is_empty()
            || host.len() > 253
            || host.starts_with('.')
            || host.contains("..")
            || !host.bytes().all(valid)
        {
            return None;
        }
        (host, port)
    };
    let digits = |p: &str| p.bytes().all(|b| b.is_ascii_digit()) && p.parse::<u16>().is_ok();
    port.is_none_or(digits).then(|| host.to_ascii_lowercase().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_paths_that_backends_read_in_two_ways() {
        for (path, fault) in [
            ("/ws/../admin", PathFault::DotSegment),
            ("/ws/..", PathFault::DotSegment),
            ("/./ws", PathFault::DotSegment),
            ("/.", PathFault::DotSegment),
            ("/%2e%2E/admin", PathFault::Escaped),
            ("/a%2fb", PathFault::Escaped),
            ("/a%5Cb", PathFault::Escaped),
            ("/a%252fb", PathFault::Escaped),
            ("/a%00", PathFault::Escaped),
            ("//ws", PathFault::EmptySegment),
            ("/ws//", PathFault::EmptySegment),
            ("/ws;x", PathFault::Parameter),
            ("/ws/..;/admin", PathFault::Parameter),
            ("/a\\b", PathFault::Character),
            ("/a#b", PathFault::Character),
            ("/a%2", PathFault::Escape),
            ("/a%zz", PathFault::Escape),
        ] {
            assert_eq!(check_path(path), Err(fault), "{path}");
        }
    }

    #[test]
    fn accepts_ordinary_paths() {
        for path in ["/", "/ws", "/ws/", "/a.b/..c/d..", "/r%C3%A4um%20eins", "/a:b@c!$&'()*+,=~|"] {
            assert_eq!(check_path(path), Ok(()), "{path}");
        }
    }

    #[test]
    fn takes_the_absolute_form_apart() {
        let target = |authority, path_and_query| Some(Target { authority, path_and_query });
        assert_eq!(split_target("/a?b"), target(None, "/a?b"));
        assert_eq!(split_target("http://h:1/a?b"), target(Some("h:1"), "/a?b"));
        assert_eq!(split_target("WSS://h?b"), target(Some("h"), "?b"));
        assert_eq!(split_target("ftp://h/a"), None);
        assert_eq!(split_target("*"), None);
        assert_eq!(split_target("h:443"), None);
    }

    #[test]
    fn takes_the_host_out_of_an_authority() {
        for (authority, host) in [
            ("Chat.Example.com", Some("chat.example.com")),
            ("example.com.:8080", Some("example.com")),
            ("127.0.0.1:80", Some("127.0.0.1")),
            ("[::1]:80", Some("::1")),
            ("[::1]", Some("::1")),
            ("", None),
            (":80", None),
            ("a:b", None),
            ("a:", None),
            ("a:+1", None),
            ("a:65536", None),
            ("a b", None),
            ("user@a", None),
            ("a/b", None),
            ("a,b", None),
            ("[::1", None),
            ("[x]:1", None),
            ("a..b", None),
        ] {
            assert_eq!(host_of(authority).as_deref(), host, "{authority}");
        }
    }
}
