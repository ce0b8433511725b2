//! Writes the request that goes upstream: what the client sent, less what ends at this hop, plus what we vouch for.
//!
//! Decides which header lines of a client get through. A line that says who the client is, or how it came in,
//! is ours alone: a client's own copy never passes, in whatever spelling (C12).

use super::access::{Edits, is_header_value};
use super::answer::push_line;
use super::fields::{folds_to, folds_to_start, is_hop_by_hop};
use super::handshake::Offer;
use super::peer::Peer;
use crate::routing::Scheme;

/// Written by us, or belonging to a proxy that has verified something: whole names.
const OURS: [&str; 6] = ["client-cert", "client-cert-chain", "forwarded", "host", "x-real-ip", "x-request-id"];
/// The same by prefix.
const OURS_FROM: [&str; 5] = ["sec-websocket-", "ssl-client-", "x-client-cert", "x-forwarded", "x-ssl-"];

/// A handshake on its way upstream.
#[derive(Clone, Copy, Debug)]
pub struct Forwarded<'a> {
    /// What the client sent.
    pub offer: &'a Offer,
    /// Who it is.
    pub peer: &'a Peer,
    /// In what the two handshakes differ.
    pub edits: &'a Edits,
}

/// The request head for the upstream: the target and `Host` as they came, `websocket` as the only upgrade, the
/// client's key, subprotocols and extensions, and our word on where it comes from.
pub fn request_head(forwarded: Forwarded<'_>) -> Vec<u8> {
    let Forwarded { offer, peer, edits } = forwarded;
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(b"GET ");
    out.extend_from_slice(edits.target(offer).as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    push_line(&mut out, "Host", offer.authority.as_bytes());
    out.extend_from_slice(b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n");
    push_line(&mut out, "Sec-WebSocket-Key", &offer.key);
    let subprotocols: Vec<&str> = edits.subprotocols(offer).collect();
    if !subprotocols.is_empty() {
        push_line(&mut out, "Sec-WebSocket-Protocol", subprotocols.join(", ").as_bytes());
    }
    for value in offer.head.fields.all("sec-websocket-extensions") {
        push_line(&mut out, "Sec-WebSocket-Extensions", value);
    }
    let passes = |name: &str| !is_ours(name.as_bytes()) && edits.passes(name);
    for (name, value) in offer.head.fields.end_to_end().filter(|(name, _)| passes(name)) {
        if name.eq_ignore_ascii_case("cookie") {
            if let Some(cookies) = edits.cookies(value) {
                push_line(&mut out, name, &cookies);
            }
        } else {
            push_line(&mut out, name, value);
        }
    }
    // What says how the handshake is to be read is not theirs to say.
    let told =
        |name: &str, value: &[u8]| !is_written(name.as_bytes()) && !is_hop_by_hop(name) && is_header_value(value);
    for (name, value) in edits.with_headers.iter().filter(|(name, value)| told(name, value)) {
        push_line(&mut out, name, value);
    }
    push_provenance(&mut out, offer, peer);
    out.extend_from_slice(b"\r\n");
    out
}

/// Whether we write a line of this name ourselves, or the handshake rests on it.
fn is_written(name: &[u8]) -> bool {
    ["forwarded", "host", "x-request-id"].iter().any(|written| folds_to(name, written))
        || ["sec-websocket-", "x-forwarded-"].iter().any(|start| folds_to_start(name, start))
}

fn is_ours(name: &[u8]) -> bool {
    OURS.iter().any(|ours| folds_to(name, ours)) || OURS_FROM.iter().any(|ours| folds_to_start(name, ours))
}

/// `X-Forwarded-*`, `Forwarded` (RFC 7239) and `X-Request-Id`.
fn push_provenance(out: &mut Vec<u8>, offer: &Offer, peer: &Peer) {
    let (proto, default_port) = match offer.scheme {
        Scheme::Ws => ("http", "80"),
        Scheme::Wss => ("https", "443"),
    };
    let client = peer.address.ip().to_canonical();
    // The port the client asked for: behind a Service or a node port ours is another one.
    let after_address = offer.authority.rsplit_once(']').map_or(&*offer.authority, |(_, rest)| rest);
    let port = after_address.split_once(':').map_or(default_port, |(_, port)| port);
    let address = client.to_string();
    let (open, close) = if client.is_ipv6() { ("\"[", "]\"") } else { ("", "") };
    push_line(out, "X-Forwarded-For", address.as_bytes());
    push_line(out, "X-Forwarded-Proto", proto.as_bytes());
    push_line(out, "X-Forwarded-Host", offer.authority.as_bytes());
    push_line(out, "X-Forwarded-Port", port.as_bytes());
    let forwarded = ["for=", open, &address, close, ";host=\"", &offer.authority, "\";proto=", proto].concat();
    push_line(out, "Forwarded", forwarded.as_bytes());
    push_line(out, "X-Request-Id", offer.request_id.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::handshake::tests_support::{offer, offer_of};

    fn sent(lines: &str, client: &str) -> String {
        edited(&offer(lines), client, &Edits::default())
    }

    fn edited(offer: &Offer, client: &str, edits: &Edits) -> String {
        let peer = Peer::new(client.parse().expect("an address"), "127.0.0.1:8080".parse().expect("an address"));
        String::from_utf8(request_head(Forwarded { offer, peer: &peer, edits })).expect("text")
    }

    #[test]
    fn what_is_taken_out_goes_and_the_rest_stays_byte_for_byte() {
        let lines = "Cookie: a=1;  sid=x; b=\"2\"\r\nCookie: sid=y\r\nCookie: c=3\r\nX_Key: k\r\nX-Other: o\r\n\
            Sec-WebSocket-Protocol: chat, bearer.t\r\nX-User: forged\r\nx_user: forged\r\n";
        let offer = offer_of("/ws?a=%7e&%74oken=s&b&&token=s&a=+", lines);
        let named = |name: &str| vec![Box::from(name)];
        let edits = Edits {
            without_headers: named("x-key"),
            without_cookies: named("sid"),
            without_query: named("token"),
            without_subprotocols: named("bearer.t"),
            with_headers: vec![("x-user".into(), (*b"ann").into()), ("x-bad".into(), (*b"a\r\nX-Evil: 1").into())],
        };
        let sent = edited(&offer, "192.0.2.1:1", &edits);
        assert!(sent.starts_with("GET /ws?a=%7e&b&&a=+ HTTP/1.1\r\n"), "{sent}");
        assert!(
            sent.contains("\r\nCookie: a=1; b=\"2\"\r\nCookie: c=3\r\nX-Other: o\r\nx-user: ann\r\nX-Forwarded"),
            "{sent}"
        );
        assert!(sent.contains("\r\nSec-WebSocket-Protocol: chat\r\n"), "{sent}");
        for gone in ["forged", "X_Key", "bearer.t", "sid", "Evil", "x-bad"] {
            assert!(!sent.contains(gone), "{gone}: {sent}");
        }
    }

    #[test]
    fn nothing_is_left_of_a_list_that_was_a_credential_alone() {
        let lines = "Sec-WebSocket-Protocol: bearer.t\r\nCookie: sid=x\r\n";
        let named = |name: &str| vec![Box::from(name)];
        let edits = Edits {
            without_cookies: named("sid"),
            without_query: named("token"),
            without_subprotocols: named("bearer.t"),
            ..Edits::default()
        };
        let sent = edited(&offer_of("/ws?token=s", lines), "192.0.2.1:1", &edits);
        assert!(sent.starts_with("GET /ws HTTP/1.1\r\n"), "{sent}");
        assert!(!sent.contains("Cookie") && !sent.contains("Sec-WebSocket-Protocol"), "{sent}");
    }

    #[test]
    fn no_header_of_ours_changes_how_the_request_is_read() {
        for name in
            ["host", "transfer-encoding", "content-length", "connection", "sec-websocket-key", "x-forwarded-for"]
        {
            let edits = Edits { with_headers: vec![(name.into(), (*b"planted").into())], ..Edits::default() };
            assert!(!edited(&offer(""), "192.0.2.1:1", &edits).contains("planted"), "{name}");
        }
    }

    #[test]
    fn writes_the_request_with_our_word_on_its_origin() {
        let lines = "Cookie: a=1\r\nX-Request-Id: id-1\r\nSec-WebSocket-Protocol: b, A\r\n\
            Sec-WebSocket-Protocol: c\r\nSec-WebSocket-Extensions: x; y=1\r\n";
        assert_eq!(
            sent(lines, "[::ffff:192.0.2.1]:5000"),
            "GET /ws?x=1 HTTP/1.1\r\nHost: Chat.example.com:8080\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Protocol: b, A, c\r\nSec-WebSocket-Extensions: x; y=1\r\nCookie: a=1\r\n\
             X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: Chat.example.com:8080\r\n\
             X-Forwarded-Port: 8080\r\nForwarded: for=192.0.2.1;host=\"Chat.example.com:8080\";proto=http\r\n\
             X-Request-Id: id-1\r\n\r\n"
        );
    }

    #[test]
    fn quotes_an_ipv6_client() {
        assert!(sent("", "[2001:db8::1]:5000").contains("\r\nForwarded: for=\"[2001:db8::1]\";host="));
    }

    #[test]
    fn no_spoofed_or_hop_by_hop_line_passes() {
        for name in [
            "X-Forwarded-For",
            "x_forwarded_for",
            "X-Forwarded_Prefix",
            "X-Forwarded-Client-Cert",
            "Forwarded",
            "X-Real-IP",
            "X_REAL_IP",
            "Client-Cert",
            "SSL_CLIENT_VERIFY",
            "Sec_WebSocket_Protocol",
            "Sec-WebSocket-Accept",
            "X_Request_Id",
            "Keep-Alive",
            "Proxy-Connection",
            "TE",
            "Trailer",
            "HTTP2-Settings",
            "Proxy_Authorization",
        ] {
            assert!(!sent(&format!("{name}: spoofed\r\n"), "192.0.2.1:1").contains("spoofed"), "{name}");
        }
        assert!(sent("X-Tenant: gold\r\n", "192.0.2.1:1").contains("\r\nX-Tenant: gold\r\n"));
        assert!(!sent("Connection: X-Hop\r\nX-Hop: spoofed\r\n", "192.0.2.1:1").contains("X-Hop"));
        assert!(!sent("Upgrade: h2c\r\n", "192.0.2.1:1").contains("h2c"));
    }
}
