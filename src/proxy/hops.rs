//! Hops: the entry of `X-Forwarded-For` or `Forwarded` (RFC 7239) that a trusted proxy has written of its client.
//!
//! Read from the right, where those nearest to us have written, so that nothing a client puts before it can move or hide
//! an entry. Whether anybody is trusted is not asked here.

use std::net::{IpAddr, SocketAddr};

/// The `hop`th entry from the right, counted from 1, of all lines of `X-Forwarded-For` in their order. `None` when there
/// are fewer, or when it is no address. An empty entry counts.
pub fn x_forwarded_for(lines: &[&[u8]], hop: u8) -> Option<IpAddr> {
    let before = usize::from(hop).checked_sub(1)?;
    let entry = lines.iter().rev().flat_map(|line| line.rsplit(|byte| *byte == b',')).nth(before)?;
    node(entry.trim_ascii())
}

/// The same for `for=` of the elements of `Forwarded`.
pub fn forwarded(lines: &[&[u8]], hop: u8) -> Option<IpAddr> {
    let mut left = usize::from(hop);
    for line in lines.iter().rev() {
        let mut rest = Some(*line);
        while let Some(text) = rest {
            let (before, element) = split_last(text, b',')?;
            left = left.checked_sub(1)?;
            if left == 0 {
                return for_node(element);
            }
            rest = before;
        }
    }
    None
}

/// What `for=` of an element says, if it says so once.
fn for_node(element: &[u8]) -> Option<IpAddr> {
    let mut found = None;
    let mut rest = Some(element);
    while let Some(text) = rest {
        let (before, pair) = split_last(text, b';')?;
        let pair = pair.trim_ascii();
        if pair.len() > 3 && pair[..3].eq_ignore_ascii_case(b"for") && pair[3] == b'=' {
            if found.is_some() {
                return None;
            }
            found = Some(&pair[4..]);
        }
        rest = before;
    }
    let value = found?;
    let inner = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
    node(inner.unwrap_or(value))
}

/// What stands before and behind the last `separator` outside quotation marks (RFC 9110 §5.6.4); `None` when a
/// quotation mark has no partner.
fn split_last(text: &[u8], separator: u8) -> Option<(Option<&[u8]>, &[u8])> {
    let mut at = text.len();
    while at > 0 {
        at -= 1;
        if text[at] == b'"' {
            at = opening(text, at)?;
        } else if text[at] == separator {
            return Some((Some(&text[..at]), &text[at + 1..]));
        }
    }
    Some((None, text))
}

/// Where the quotation opened that ends at `closing`.
fn opening(text: &[u8], closing: usize) -> Option<usize> {
    let mut at = closing;
    loop {
        at = text[..at].iter().rposition(|byte| *byte == b'"')?;
        let escapes = text[..at].iter().rev().take_while(|byte| **byte == b'\\').count();
        if escapes % 2 == 0 {
            return Some(at);
        }
    }
}

/// An address as either header writes it: alone or with a port, IPv6 with or without brackets.
fn node(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let plain = text.parse::<IpAddr>().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    let in_brackets = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<IpAddr>().ok().filter(IpAddr::is_ipv6);
    plain.or_else(with_port).or_else(in_brackets).map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(address: Option<IpAddr>) -> String {
        address.map_or("none".to_owned(), |address| address.to_string())
    }

    fn xff(lines: &[&str], hop: u8) -> String {
        told(x_forwarded_for(&lines.iter().map(|line| line.as_bytes()).collect::<Vec<_>>(), hop))
    }

    fn fwd(lines: &[&str], hop: u8) -> String {
        told(forwarded(&lines.iter().map(|line| line.as_bytes()).collect::<Vec<_>>(), hop))
    }

    #[test]
    fn hops_are_counted_from_the_right_over_all_lines() {
        let lines = ["203.0.113.1, 198.51.100.2", "192.0.2.3"];
        assert_eq!([1, 2, 3, 4].map(|hop| xff(&lines, hop)), ["192.0.2.3", "198.51.100.2", "203.0.113.1", "none"]);
        assert_eq!(xff(&lines, 0), "none");
        let lines = ["for=203.0.113.1;proto=https, For=\"[2001:db8::2]:4711\"", "by=x;for=192.0.2.3"];
        assert_eq!([1, 2, 3, 4].map(|hop| fwd(&lines, hop)), ["192.0.2.3", "2001:db8::2", "203.0.113.1", "none"]);
        assert_eq!(fwd(&lines, 0), "none");
    }

    #[test]
    fn addresses_are_read_in_every_usual_spelling() {
        for (written, address) in [
            ("192.0.2.1", "192.0.2.1"),
            ("192.0.2.1:8080", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:8080", "2001:db8::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("unknown", "none"),
            ("_hidden", "none"),
            ("", "none"),
            ("192.0.2.1.", "none"),
            ("192.0.2", "none"),
            ("192.0.2.1:99999", "none"),
            ("[192.0.2.1]", "none"),
            ("fe80::1%eth0", "none"),
            ("a.example", "none"),
        ] {
            assert_eq!(xff(&[written], 1), address, "{written}");
            assert_eq!(fwd(&[&format!("for=\"{written}\"")], 1), address, "{written}");
        }
    }

    #[test]
    fn nothing_before_an_entry_can_move_or_hide_it() {
        for forged in ["\"", "for=\"", "for=\"1.1.1.1, ", "\\\"", ",,,", "for=1.1.1.1;for=\"x"] {
            assert_eq!(xff(&[&format!("{forged}, 192.0.2.3")], 1), "192.0.2.3", "{forged}");
            assert_eq!(fwd(&[&format!("{forged}, for=192.0.2.3")], 1), "192.0.2.3", "{forged}");
            assert_eq!(fwd(&[forged, "for=192.0.2.3"], 1), "192.0.2.3", "{forged}");
        }
        assert_eq!(fwd(&["for=192.0.2.3;for=192.0.2.4"], 1), "none", "it says two things");
        assert_eq!(fwd(&["proto=https;host=\"a,for=1.1.1.1\""], 1), "none");
        assert_eq!(fwd(&["for=192.0.2.3;host=\"a\\\",for=1.1.1.1\""], 1), "192.0.2.3");
        assert_eq!(fwd(&["for=192.0.2.3\""], 1), "none");
        assert_eq!(xff(&["192.0.2.3, "], 1), "none", "an empty entry counts");
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..20_000 {
            let alphabet = b"for=,;\"\\ 1.:[]\xff";
            let line: Vec<u8> = (0..random.usize(..40)).map(|_| alphabet[random.usize(..alphabet.len())]).collect();
            let hop = random.u8(..5);
            let _ = (x_forwarded_for(&[&line], hop), forwarded(&[&line, &line], hop));
        }
    }
}
