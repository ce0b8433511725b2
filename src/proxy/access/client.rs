//! The client's address: the connection's, or what a trusted load balancer says of it.
//!
//! Decides whose word counts for a route. What is not there, or is no address, leaves the address as it was; only a
//! header that must be there and is not refuses a handshake.

use super::Denial;
use crate::proxy::handshake::Offer;
use crate::proxy::hops::{forwarded, x_forwarded_for};
use crate::proxy::peer::Peer;
use crate::proxy::proxy_protocol::ProxyHeader;
use crate::routing::access::{ClientDetection, ProxyProtocol};
use crate::telemetry::HandshakeReason;
use http::StatusCode;
use std::net::{IpAddr, SocketAddr};

/// The peer, with the client's address in the place of the load balancer's.
pub(in crate::proxy) fn detect(
    detection: &ClientDetection,
    peer: &Peer,
    header: Option<&ProxyHeader>,
    offer: &Offer,
) -> Result<Peer, Denial> {
    if detection.is_direct() {
        return Ok(*peer);
    }
    let trusted = detection.trusted.contains(peer.address.ip());
    let header = header.filter(|_| trusted && detection.proxy_protocol != ProxyProtocol::Disabled);
    if detection.proxy_protocol == ProxyProtocol::Required && header.is_none() {
        let text = "connections to this route come through its load balancer";
        let why = if trusted {
            "no PROXY protocol header, though its address is trusted: have it send one"
        } else {
            "its address is not among trustedCIDRs, so no PROXY protocol header is read from it"
        };
        let denial = Denial::new(StatusCode::BAD_REQUEST, HandshakeReason::ProxyProtocol, text);
        return Err(denial.detailed(format!("{}: {why}", peer.address)));
    }
    let mut client = header.and_then(|header| header.source);
    if trusted && let Some(address) = hop(detection.trusted_hops, offer) {
        client = Some(SocketAddr::new(address, 0));
    }
    Ok(match client {
        None => *peer,
        Some(address) => Peer { address, via: Some(peer.address), ..*peer },
    })
}

/// What the headers say of the client: `X-Forwarded-For`, or `Forwarded` where the other is absent.
fn hop(hops: u8, offer: &Offer) -> Option<IpAddr> {
    if hops == 0 {
        return None;
    }
    let lines: Vec<&[u8]> = offer.head.fields.all("x-forwarded-for").collect();
    if !lines.is_empty() {
        return x_forwarded_for(&lines, hops);
    }
    forwarded(&offer.head.fields.all("forwarded").collect::<Vec<_>>(), hops)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::handshake::tests_support::offer;

    const LISTENER: &str = "10.0.0.1:443";

    fn detection(proxy_protocol: ProxyProtocol, trusted_hops: u8) -> ClientDetection {
        let trusted = ["10.0.0.0/8".parse().expect("a block")].into_iter().collect();
        ClientDetection { proxy_protocol, trusted, trusted_hops }
    }

    fn seen(detection: &ClientDetection, from: &str, header: Option<&str>, lines: &str) -> String {
        let address = |text: &str| text.parse().expect("an address");
        let header = header.map(|source| ProxyHeader { source: source.parse().ok() });
        match detect(detection, &Peer::new(address(from), address(LISTENER)), header.as_ref(), &offer(lines)) {
            Ok(Peer { address, via: None, .. }) => address.to_string(),
            Ok(Peer { address, via: Some(via), .. }) => format!("{address} via {via}"),
            Err(denial) => denial.refusal.status.to_string(),
        }
    }

    #[test]
    fn only_the_word_of_a_trusted_peer_counts() {
        let detection = detection(ProxyProtocol::Optional, 1);
        let (lines, header) = ("X-Forwarded-For: 192.0.2.1\r\n", Some("192.0.2.2:7"));
        assert_eq!(seen(&detection, "203.0.113.9:5", header, lines), "203.0.113.9:5");
        assert_eq!(seen(&detection, "10.2.0.9:5", header, ""), "192.0.2.2:7 via 10.2.0.9:5");
        assert_eq!(seen(&detection, "10.2.0.9:5", None, lines), "192.0.2.1:0 via 10.2.0.9:5");
        assert_eq!(seen(&detection, "10.2.0.9:5", header, lines), "192.0.2.1:0 via 10.2.0.9:5");
        assert_eq!(seen(&ClientDetection::default(), "10.2.0.9:5", header, lines), "10.2.0.9:5");
    }

    #[test]
    fn a_class_takes_the_proxy_protocol_as_it_says() {
        use ProxyProtocol::{Disabled, Optional, Required};
        let seen = |mode, from, header| seen(&detection(mode, 1), from, header, "");
        let (trusted, stranger, header) = ("10.2.0.9:5", "203.0.113.9:5", Some("192.0.2.2:7"));
        assert_eq!(seen(Disabled, trusted, header), trusted, "it was read for another class");
        assert_eq!(seen(Optional, trusted, None), trusted);
        assert_eq!(seen(Required, trusted, header), "192.0.2.2:7 via 10.2.0.9:5");
        assert_eq!(seen(Required, trusted, Some("LOCAL")), trusted);
        assert_eq!(seen(Required, trusted, None), "400 Bad Request");
        assert_eq!(seen(Required, stranger, None), "400 Bad Request");
        assert_eq!(seen(Required, stranger, header), "400 Bad Request", "it was read for another class");
    }

    #[test]
    fn headers_that_say_nothing_leave_the_address_as_it_was() {
        let two = detection(ProxyProtocol::Optional, 2);
        for lines in ["", "X-Forwarded-For: 192.0.2.1\r\n", "X-Forwarded-For: x, 192.0.2.1\r\n", "Forwarded: for=x\r\n"]
        {
            assert_eq!(seen(&two, "10.2.0.9:5", None, lines), "10.2.0.9:5", "{lines}");
            assert_eq!(seen(&two, "10.2.0.9:5", Some("192.0.2.2:7"), lines), "192.0.2.2:7 via 10.2.0.9:5", "{lines}");
        }
        let both = "Forwarded: for=192.0.2.8, for=192.0.2.9\r\nX-Forwarded-For: 192.0.2.1, 192.0.2.2\r\n";
        assert_eq!(seen(&two, "10.2.0.9:5", None, both), "192.0.2.1:0 via 10.2.0.9:5");
        let one = "Forwarded: for=192.0.2.8\r\nForwarded: for=192.0.2.9\r\n";
        assert_eq!(seen(&two, "10.2.0.9:5", None, one), "192.0.2.8:0 via 10.2.0.9:5");
    }
}
