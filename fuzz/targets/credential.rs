//! Credentials in a handshake: what is found is taken out, so that a service behind reads none, and what goes upstream
//! is one good handshake whatever the client sent.
//!
//! Input: a byte that chooses the places; then the query, and header lines.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use sheave::proxy::forward::{Forwarded, request_head};
use sheave::proxy::handshake::Offer;
use sheave::proxy::head::{HeadLimits, RequestHead};
use sheave::proxy::peer::Peer;
use sheave::proxy::{Edits, find_credential};
use sheave::routing::Scheme;
use sheave::routing::access::{Encoding, Place, Source};

const ROOMY: HeadLimits = HeadLimits { max_bytes: 1 << 20, max_fields: 1000, max_target_bytes: 1 << 19 };

fn source(place: Place, prefix: &str, encoding: Encoding) -> Source {
    Source { place, prefix: prefix.into(), encoding }
}

/// The places whose bits are set.
fn sources(bits: u8) -> Vec<Source> {
    let all = [
        source(Place::Header("authorization".into()), "Bearer ", Encoding::Plain),
        source(Place::Header("x-api-key".into()), "", Encoding::Plain),
        source(Place::Query("key".into()), "", Encoding::Plain),
        source(Place::Cookie("session".into()), "", Encoding::Plain),
        source(Place::Cookie("key".into()), "k-", Encoding::Base64Url),
        source(Place::Subprotocol("bearer.".into()), "", Encoding::Plain),
        source(Place::Subprotocol("bearer".into()), "", Encoding::Plain),
        source(Place::Subprotocol("base64url.".into()), "", Encoding::Base64Url),
    ];
    all.into_iter().enumerate().filter(|(at, _)| bits & (1 << at) != 0).map(|(_, source)| source).collect()
}

fn offer(head: Vec<u8>) -> Option<Offer> {
    let head = RequestHead::parse(head.into(), &ROOMY).ok()?;
    Offer::check(head, Bytes::new(), Scheme::Wss).ok()
}

/// The handshake that goes upstream.
fn sent_on(offer: &Offer, edits: &Edits) -> Offer {
    let peer = Peer::new(([192, 0, 2, 1], 7).into(), ([127, 0, 0, 1], 443).into());
    let head = request_head(Forwarded { offer, peer: &peer, edits });
    let text = String::from_utf8_lossy(&head).into_owned();
    self::offer(head).unwrap_or_else(|| panic!("no good handshake: {text}"))
}

fuzz_target!(|bytes: &[u8]| {
    let Some((bits, text)) = bytes.split_first() else { return };
    let mut lines = text.split(|byte| *byte == b'\n');
    let mut head = b"GET /ws?".to_vec();
    head.extend_from_slice(lines.next().unwrap_or_default());
    head.extend_from_slice(
        b" HTTP/1.1\r\nHost: chat.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
          Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    );
    for line in lines {
        head.extend_from_slice(line);
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    let Some(offer) = offer(head) else { return };
    let sources = sources(*bits);
    match find_credential(&sources, &offer) {
        Ok(None) => {
            let upstream = sent_on(&offer, &Edits::default());
            assert_eq!(upstream.target(), offer.target());
            assert_eq!(upstream.subprotocols, offer.subprotocols);
        }
        Ok(Some(credential)) => {
            assert!(credential.value.iter().all(u8::is_ascii_graphic));
            let upstream = sent_on(&offer, &credential.removal);
            let left = find_credential(&sources, &upstream);
            assert!(matches!(left, Ok(None)), "a credential goes upstream: {:?}", upstream.target());
        }
        Err(_) => assert!(!sources.is_empty()),
    }
});
