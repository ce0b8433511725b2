//! Takes secrets out of what a client sent before it is recorded. Pure text in, text out.
//!
//! A browser cannot set headers on a WebSocket, so credentials travel in the query or as a subprotocol. Of a query the
//! names stay; of subprotocols what is long or looks like a credential goes.

use std::borrow::Cow;

/// What stands in the place of a secret.
const GONE: &str = "[redacted]";

/// A subprotocol longer than this many bytes is taken for a credential; registered ones are far shorter.
const LONGEST_SUBPROTOCOL: usize = 32;

/// A path longer than this many bytes is cut in records.
const LONGEST_PATH: usize = 1024;

/// Starts of subprotocols that carry a credential, lower case.
const CREDENTIALS: [&str; 10] = [
    "base64url.bearer.",
    "bearer.",
    "bearer-",
    "openai-insecure-api-key.",
    "xai-client-secret.",
    "rt_",
    "header-",
    "eyj", // a JSON Web Token: base64 of `{"`
    "token.",
    "access_token.",
];

/// Subprotocols after which the next one is the credential.
const ANNOUNCEMENTS: [&str; 5] = ["access_token", "apikey", "authorization", "bearer", "token"];

/// Path and query with the query's values taken out: `/ws?room=1&k=v` gives `/ws?room=[redacted]&k=[redacted]`.
/// A part without `=` may be a bare ticket and goes whole.
pub fn redact_query(target: &str) -> String {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let mut safe = shorten(path, LONGEST_PATH).into_owned();
    let mut before = '?';
    for pair in query.into_iter().flat_map(|query| query.split('&')) {
        safe.push(before);
        before = '&';
        if safe.len() > 2 * LONGEST_PATH {
            safe.push('…');
            break;
        }
        match pair.split_once('=') {
            Some((name, _)) => {
                safe.push_str(&shorten(name, 64));
                safe.push('=');
                safe.push_str(GONE);
            }
            None if pair.is_empty() => {}
            None => safe.push_str(GONE),
        }
    }
    safe
}

/// The text of at most `longest` bytes, with an ellipsis where it was cut.
pub(super) fn shorten(text: &str, longest: usize) -> Cow<'_, str> {
    if text.len() <= longest {
        return Cow::Borrowed(text);
    }
    let cut = (0..=longest).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
    Cow::Owned(format!("{}…", &text[..cut]))
}

/// Letters and digits mixed, so many of them in a row: no name that people give to a protocol.
const RANDOM: usize = 12;

fn looks_random(name: &str) -> bool {
    name.split(|c: char| !c.is_ascii_alphanumeric()).any(|run| {
        let digits = run.bytes().filter(u8::is_ascii_digit).count();
        run.len() >= RANDOM && (1..run.len()).contains(&digits)
    })
}

/// Subprotocols as a list, credentials taken out: those that `carries` knows to hold one, and what looks like one.
pub fn redact_subprotocols<'a>(
    subprotocols: impl IntoIterator<Item = &'a str>,
    carries: impl Fn(&str) -> bool,
) -> String {
    let mut safe = String::new();
    let mut announced = false;
    for name in subprotocols {
        if !safe.is_empty() {
            safe.push_str(", ");
        }
        let lower = name.to_ascii_lowercase();
        let secret = announced
            || name.len() > LONGEST_SUBPROTOCOL
            || CREDENTIALS.iter().any(|start| lower.starts_with(start))
            || looks_random(name)
            || carries(name);
        safe.push_str(if secret { GONE } else { name });
        announced = ANNOUNCEMENTS.contains(&&*lower);
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_names_stay_and_values_go() {
        assert_eq!(redact_query("/ws"), "/ws");
        assert_eq!(redact_query("/ws?"), "/ws?");
        assert_eq!(redact_query("/ws?room=1&token=abc"), "/ws?room=[redacted]&token=[redacted]");
        assert_eq!(redact_query("/ws?a=b=c&ticket&"), "/ws?a=[redacted]&[redacted]&");
        assert_eq!(redact_query("/ws?a=b?c=d"), "/ws?a=[redacted]");
    }

    #[test]
    fn long_targets_are_cut_at_a_character() {
        let safe = redact_query(&"/é".repeat(5000));
        assert!(safe.len() <= LONGEST_PATH + '…'.len_utf8() && safe.ends_with('…'));
        let safe = redact_query(&format!("/?{}", "name=secret&".repeat(5000)));
        assert!(safe.len() < 3 * LONGEST_PATH && !safe.contains("secret"));
    }

    #[test]
    fn subprotocols_that_carry_a_credential_go() {
        let redacted = |list: &[&str]| redact_subprotocols(list.iter().copied(), |name| name.starts_with("key."));
        assert_eq!(redacted(&["graphql-transport-ws", "mqtt"]), "graphql-transport-ws, mqtt");
        assert_eq!(redacted(&["phoenix", "base64url.bearer.phx.x"]), "phoenix, [redacted]");
        assert_eq!(redacted(&["realtime", "OpenAI-Insecure-API-Key.k"]), "realtime, [redacted]");
        assert_eq!(redacted(&["token", "s3cr3t", "v1"]), "token, [redacted], v1");
        assert_eq!(redacted(&["key.hunter2", "chat"]), "[redacted], chat", "its route says so");
        assert_eq!(redacted(&["k.5f3a9c71e0b2", "7fQ2kLmN9pXz"]), "[redacted], [redacted]");
        let names = "wamp.2.msgpack.batched, actioncable-v1-json, v12.stomp, ocpp2.0.1, v5.channel.k8s.io";
        assert_eq!(redacted(&names.split(", ").collect::<Vec<_>>()), names);
        assert_eq!(redacted(&[&"x".repeat(33)]), "[redacted]");
        assert_eq!(redacted(&[&"x".repeat(32)]), "x".repeat(32));
    }
}
