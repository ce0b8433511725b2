//! Judges the upstream's 101 (RFC 6455 §4.1): only an answer to this very offer opens a session.

use super::answer::accept;
use super::fields::{Only, folds_to_start};
use super::forward::Forwarded;
use super::head::ResponseHead;
use super::negotiation::{extensions, is_deflate};

/// What the upstream has agreed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acceptance {
    /// The chosen one of the offered subprotocols.
    pub subprotocol: Option<Box<str>>,
    /// Whether permessage-deflate is in use.
    pub deflate: bool,
    /// Whether another extension is in use.
    pub other_extensions: bool,
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
    /// No `Upgrade: websocket`, no `Connection: upgrade`, one that names what was agreed, or not HTTP/1.1.
    #[error("the 101 is not an upgrade to websocket")]
    Upgrade,
}

/// Checks a 101 against the offer it answers (U1 to U4).
///
/// # Errors
/// What is wrong with it.
pub fn check(head: &ResponseHead, forwarded: Forwarded<'_>) -> Result<Acceptance, AcceptanceFault> {
    let offer = forwarded.offer;
    let fields = &head.fields;
    let upgrade = fields.only("upgrade");
    let to_websocket = matches!(upgrade, Only::One(value) if value.eq_ignore_ascii_case(b"websocket"));
    // What was agreed may not end at this hop: the client would believe otherwise than we and the service do.
    let ends_here = fields.elements("connection").any(|name| folds_to_start(name, "sec-websocket-"));
    if !head.is_http_1_1 || !to_websocket || !fields.lists("connection", "upgrade") || ends_here {
        return Err(AcceptanceFault::Upgrade);
    }
    if fields.only("sec-websocket-accept") != Only::One(accept(&offer.key).as_bytes()) {
        return Err(AcceptanceFault::Accept);
    }
    let subprotocol = match fields.only("sec-websocket-protocol") {
        Only::Absent => None,
        Only::Several => return Err(AcceptanceFault::Subprotocol),
        Only::One(value) => {
            // Of those that went upstream: a credential is none that may come back.
            let offered = forwarded.edits.subprotocols(offer).find(|s| s.as_bytes() == value);
            Some(offered.ok_or(AcceptanceFault::Subprotocol)?.into())
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
    use crate::proxy::access::Edits;
    use crate::proxy::handshake::tests_support::offer;
    use crate::proxy::head::HeadLimits;
    use crate::proxy::peer::Peer;

    const OFFER: &str =
        "Sec-WebSocket-Protocol: mqtt, Chat\r\nSec-WebSocket-Extensions: permessage-deflate, x-other\r\n";
    const UPGRADE: &str = "Connection: upgrade\r\nUpgrade: WebSocket\r\n";
    const ACCEPT: &str = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";

    #[test]
    fn refuses_a_subprotocol_that_was_kept_from_the_backend() {
        let chosen = [UPGRADE, ACCEPT, "Sec-WebSocket-Protocol: mqtt\r\n"];
        let edits = Edits { without_subprotocols: vec!["mqtt".into()], ..Edits::default() };
        assert_eq!(judge_edited("1.1", &chosen, &edits), Err(AcceptanceFault::Subprotocol));
        assert!(judge("1.1", &chosen).is_ok());
    }

    fn judge(version: &str, lines: &[&str]) -> Result<Acceptance, AcceptanceFault> {
        judge_edited(version, lines, &Edits::default())
    }

    fn judge_edited(version: &str, lines: &[&str], edits: &Edits) -> Result<Acceptance, AcceptanceFault> {
        let text = format!("HTTP/{version} 101 Switching Protocols\r\n{}\r\n", lines.concat());
        let head = ResponseHead::parse(&text.into(), &HeadLimits::default()).expect("well formed");
        let address = ([127, 0, 0, 1], 1).into();
        let peer = Peer::new(address, address);
        check(&head, Forwarded { offer: &offer(OFFER), peer: &peer, edits })
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
            (
                "U1",
                "1.1",
                vec!["Connection: upgrade, Sec-WebSocket-Protocol\r\nUpgrade: websocket\r\n", ACCEPT],
                AcceptanceFault::Upgrade,
            ),
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
