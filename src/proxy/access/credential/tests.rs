//! What is found where, and what is taken out.

use super::*;
use crate::proxy::handshake::tests_support::{offer, offer_of};

fn source(place: Place, prefix: &str, encoding: Encoding) -> Source {
    Source { place, prefix: prefix.into(), encoding }
}

fn plain(place: Place) -> Source {
    source(place, "", Encoding::Plain)
}

/// The credential that `sources` find; `refused` for a 400.
fn found(sources: &[Source], offer: &Offer) -> Option<String> {
    match find(sources, offer) {
        Ok(found) => found.map(|found| String::from_utf8(found.value.to_vec()).expect("visible ASCII")),
        Err(Ambiguous) => Some("refused".to_owned()),
    }
}

#[test]
fn a_header_is_read_behind_its_prefix_in_any_case() {
    let bearer = [source(Place::Header("authorization".into()), "Bearer ", Encoding::Plain)];
    for (lines, expected) in [
        ("Authorization: Bearer abc\r\n", Some("abc")),
        ("authorization: bEARER   abc\r\n", Some("abc")),
        ("Authorization: Basic abc\r\n", None),
        ("Authorization: Bearer\r\n", None),
        ("Authorization: Bearer a b\r\n", Some("")),
        ("Authorization: Bearer \u{e9}\r\n", Some("")),
        ("Authorization: Bearer abc\r\nAuthorization: Bearer abc\r\n", Some("abc")),
        ("Authorization: Bearer abc\r\nAuthorization: Bearer def\r\n", Some("refused")),
        ("Authorization: Basic x\r\nAuthorization: Bearer abc\r\n", Some("abc")),
        ("", None),
    ] {
        assert_eq!(found(&bearer, &offer(lines)).as_deref(), expected, "{lines:?}");
    }
}

#[test]
fn a_cookie_is_read_from_any_line_and_two_that_differ_are_refused() {
    let cookie = [plain(Place::Cookie("sid".into()))];
    for (lines, expected) in [
        ("Cookie: a=1; sid=abc; b=2\r\n", Some("abc")),
        ("Cookie: a=1\r\nCookie: sid=\"abc\"\r\n", Some("abc")),
        ("Cookie: sid=a=b\r\n", Some("a=b")),
        ("Cookie: sid=\r\n", None),
        ("Cookie: sid\r\n", None),
        ("Cookie: SID=abc; xsid=abc\r\n", None),
        ("Cookie: sid=abc; sid=abc\r\n", Some("abc")),
        ("Cookie: sid=abc; sid=def\r\n", Some("refused")),
        ("Cookie: sid=abc\r\nCookie: sid=def\r\n", Some("refused")),
    ] {
        assert_eq!(found(&cookie, &offer(lines)).as_deref(), expected, "{lines:?}");
    }
}

#[test]
fn a_query_parameter_is_decoded_once_however_its_name_is_spelled() {
    let query = [plain(Place::Query("token".into()))];
    for (target, expected) in [
        ("/ws?a=1&token=abc", Some("abc")),
        ("/ws?%74oken=abc", Some("abc")),
        ("/ws?token=a%2Bb+c", Some("a+b+c")),
        ("/ws?token=a%252Bb", Some("a%2Bb")),
        ("/ws?token=a%2", Some("")),
        ("/ws?token=a%00", Some("")),
        ("/ws?token=%20%20", None),
        ("/ws?token=", None),
        ("/ws?token", None),
        ("/ws?Token=abc", None),
        ("/ws?token=abc&token=abc", Some("abc")),
        ("/ws?token=abc&%74oken=def", Some("refused")),
        ("/ws", None),
    ] {
        assert_eq!(found(&query, &offer_of(target, "")).as_deref(), expected, "{target}");
    }
}

#[test]
fn a_subprotocol_carries_a_credential_behind_its_start_or_in_the_next_element() {
    let dotted = [plain(Place::Subprotocol("bearer.".into()))];
    let pair = [plain(Place::Subprotocol("bearer".into()))];
    let encoded = [source(Place::Subprotocol("base64url.".into()), "", Encoding::Base64Url)];
    for (sources, list, expected, left) in [
        (&dotted, "chat, bearer.abc", Some("abc"), "chat"),
        (&dotted, "bearer., abc, chat", Some("abc"), "chat"),
        (&dotted, "chat, bearer.", None, "chat bearer."),
        (&dotted, "Bearer.abc", None, "Bearer.abc"),
        (&dotted, "bearer.abc, bearer.def", Some("refused"), ""),
        (&pair, "bearer, abc", Some("abc"), ""),
        (&encoded, "base64url.YS9iPQ, chat", Some("a/b="), "chat"),
        (&encoded, "base64url.A, chat", Some(""), "chat"),
    ] {
        let offer = offer(&format!("Sec-WebSocket-Protocol: {list}\r\n"));
        assert_eq!(found(sources, &offer).as_deref(), expected, "{list}");
        if let Ok(credential) = find(sources, &offer) {
            let gone = credential.map(|c| c.removal.without_subprotocols).unwrap_or_default();
            let kept: Vec<&str> = offer.subprotocols.iter().filter(|p| !gone.contains(p)).map(|p| &**p).collect();
            assert_eq!(kept.join(" "), left, "{list}");
        }
    }
}

#[test]
fn several_places_must_agree_and_each_is_taken_out() {
    let sources = [
        plain(Place::Header("x-key".into())),
        plain(Place::Cookie("key".into())),
        plain(Place::Query("key".into())),
        plain(Place::Subprotocol("key.".into())),
    ];
    let lines = "X-Key: abc\r\nCookie: key=abc\r\nSec-WebSocket-Protocol: key.abc\r\n";
    let agreed = find(&sources, &offer_of("/ws?key=abc", lines)).ok().flatten().expect("found");
    let name = |name: &str| vec![Box::from(name)];
    let removal = Edits {
        without_headers: name("x-key"),
        without_cookies: name("key"),
        without_query: name("key"),
        without_subprotocols: name("key.abc"),
        with_headers: Vec::new(),
    };
    assert!(agreed.removal == removal && **agreed.value == *b"abc");
    assert_eq!(found(&sources, &offer_of("/ws?key=abd", lines)).as_deref(), Some("refused"));
    assert_eq!(found(&sources, &offer_of("/ws?key=a%00", lines)).as_deref(), Some("refused"));
}

#[test]
fn what_is_too_long_to_be_a_credential_is_wrong_before_it_is_decoded() {
    let header = source(Place::Header("x".into()), "", Encoding::Base64Url);
    let longest = b"YWFh".repeat(LONGEST / 4);
    assert!(read(&header, &longest).is_some_and(|value| !value.is_empty()));
    assert!(read(&header, &[&longest[..], b"YWFh"].concat()).is_some_and(|value| value.is_empty()));
}
