//! Judges the upstream's 101 (RFC 6455 §4.1): only an answer to this very offer opens a session.

use super::answer::accept;
use super::fields::Only;
use super::handshake::Offer;
use super::head::ResponseHead;
use super::negotiation::{extensions, is_deflate};

/// What the upstream has agreed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Acceptance {
    /// The chosen one of the offered subprotocols.
    pub(super) subprotocol: Option<Box<str>>,
    /// Whether permessage-deflate is in use.
    pub(super) deflate: bool,
    /// Whether another extension is in use.
    pub(super) other_extensions: bool,
}

/// What is wrong with the upstream's 101.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AcceptanceFault {
    /// `Sec-WebSocket-Accept` is missing, repeated or does not fit the key.
    #[error("Sec-WebSocket-Accept does not fit the key")]
    Accept,
    /// An extension that was not offered, or a malformed list.
    #[error("an extension was accepted that was not offered")]
    Extension,
    /// A subprotocol that was not offered, or several.
    #[error("a subprotocol was chosen that was not offered")]
    Subprotocol,
    /// No `Upgrade: websocket`, no `Connection: upgrade`, or not HTTP/1.1.
    #[error("the 101 is not an upgrade to websocket")]
    Upgrade,
}

/// Checks a 101 against the offer it answers (U1 to U4).
pub(super) fn check(head: &ResponseHead, offer: &Offer) -> Result<Acceptance, AcceptanceFault> {
    let fields = &head.fields;
    let upgrade = fields.only("upgrade");
    let to_websocket = matches!(upgrade, Only::One(value) if value.eq_ignore_ascii_case(b"websocket"));
    if !head.is_http_1_1 || !to_websocket || !fields.lists("connection", "upgrade") {
        return Err(AcceptanceFault::Upgrade);
    }
    if fields.only("sec-websocket-accept") != Only::One(accept(&offer.key).as_bytes()) {
        return Err(AcceptanceFault::Accept);
    }
    let subprotocol = match fields.only("sec-websocket-protocol") {
        Only::Absent => None,
        Only::Several => return Err(AcceptanceFault::Subprotocol),
        Only::One(value) => {
            let offered = offer.subprotocols.iter().find(|s| s.as_bytes() == value);
            Some(offered.ok_or(AcceptanceFault::Subprotocol)?.clone())
        }
    };
    let accepted = extensions(fields).ok_or(AcceptanceFault::Extension)?;
    let offered = extensions(&offer.head.fields).unwrap_or_default();
    if accepted.iter().any(|name| !offered.iter().any(|o| o.eq_ignore_ascii_case(name))) {
        return Err(AcceptanceFault::Extension);
    }
    let deflate = accepted.iter().any(|name| is_deflate(name));
    let other_extensions = accepted.iter().any(|name| !is_deflate(name));
    Ok(Acceptance { subprotocol, deflate, other_extensions })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::handshake::tests_support::offer;
    use crate::proxy::head::HeadLimits;

    const OFFER: &str =
        "Sec-WebSocket-Protocol: mqtt, Chat\r\nSec-WebSocket-Extensions: permessage-deflate, x-other\r\n";
    const UPGRADE: &str = "Connection: upgrade\r\nUpgrade: WebSocket\r\n";
    const ACCEPT: &str = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";

    fn judge(version: &str, lines: &[&str]) -> Result<Acceptance, AcceptanceFault> {
        let text = format!("HTTP/{version} 101 Switching Protocols\r\n{}\r\n", lines.concat());
        let head = ResponseHead::parse(&text.into(), &HeadLimits::default()).expect("well formed");
        check(&head, &offer(OFFER))
    }

    #[test]
    fn takes_what_was_offered() {
        let plain = Acceptance { subprotocol: None, deflate: false, other_extensions: false };
        assert_eq!(judge("1.1", &[UPGRADE, ACCEPT]), Ok(plain.clone()));
        let chosen = ["Sec-WebSocket-Protocol: Chat\r\n", "Sec-WebSocket-Extensions: permessage-deflate; a=1\r\n"];
        assert_eq!(
            judge("1.1", &[UPGRADE, ACCEPT, chosen[0], chosen[1]]),
            Ok(Acceptance { subprotocol: Some("Chat".into()), deflate: true, ..plain })
        );
    }

    #[test]
    fn refuses_an_answer_to_another_question() {
        for (row, version, lines, fault) in [
            ("U1", "1.0", vec![UPGRADE, ACCEPT], AcceptanceFault::Upgrade),
            ("U1", "1.1", vec!["Connection: upgrade\r\n", ACCEPT], AcceptanceFault::Upgrade),
            ("U1", "1.1", vec!["Upgrade: websocket\r\n", ACCEPT], AcceptanceFault::Upgrade),
            ("U1", "1.1", vec!["Connection: upgrade\r\nUpgrade: h2c\r\n", ACCEPT], AcceptanceFault::Upgrade),
            ("U2", "1.1", vec![UPGRADE], AcceptanceFault::Accept),
            ("U2", "1.1", vec![UPGRADE, ACCEPT, ACCEPT], AcceptanceFault::Accept),
            (
                "U2",
                "1.1",
                vec![UPGRADE, "Sec-WebSocket-Accept: c3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"],
                AcceptanceFault::Accept,
            ),
            ("U3", "1.1", vec![UPGRADE, ACCEPT, "Sec-WebSocket-Protocol: chat\r\n"], AcceptanceFault::Subprotocol),
            (
                "U3",
                "1.1",
                vec![UPGRADE, ACCEPT, "Sec-WebSocket-Protocol: mqtt, Chat\r\n"],
                AcceptanceFault::Subprotocol,
            ),
            ("U3", "1.1", vec![UPGRADE, ACCEPT, "Sec-WebSocket-Extensions: y\r\n"], AcceptanceFault::Extension),
            ("U3", "1.1", vec![UPGRADE, ACCEPT, "Sec-WebSocket-Extensions: x-other;\r\n"], AcceptanceFault::Extension),
        ] {
            assert_eq!(judge(version, &lines), Err(fault), "{row}: {lines:?}");
        }
    }
}
