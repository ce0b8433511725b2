//! The PROXY protocol: what a load balancer says of a client before its first byte, and what we say to a backend
//! (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>, versions 1 and 2).
//!
//! Decides where a header ends, to the byte: what comes behind it is TLS or HTTP and is not touched. Whose header is
//! read is the listener's question, whose word counts is `access::client`'s.

use crate::routing::ProxyVersion;
use ppp::PartialResult;
use ppp::{v1, v2};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

/// Both versions begin with one of these, and neither TLS nor a GET does.
const V1: &[u8] = b"PROXY ";
const V2: &[u8] = v2::PROTOCOL_PREFIX;

/// The longest line of version 1, its end included (§2.1).
const V1_MAX: usize = 107;
/// Signature, version, family and length of version 2.
const V2_FIXED: usize = 16;
/// The longest header of version 2 that is read, its extensions included: they are skipped.
const V2_MAX: usize = 4096;

/// A header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    /// The client; `None` when the load balancer speaks for itself (`LOCAL`, as in a health check) or does not know
    /// (`UNKNOWN`, or a Unix socket).
    pub source: Option<SocketAddr>,
}

/// What the first bytes of a connection are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A header, and how many bytes it has.
    Header(ProxyHeader, usize),
    /// The beginning of a header, which has at least this many bytes in all.
    More(usize),
    /// Something else.
    Other,
}

/// Why what begins like a header is none.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The connection broke or ended within it.
    #[error("the PROXY protocol header is cut off: {0}")]
    Io(#[from] io::Error),
    /// It does not say what it must.
    #[error("the PROXY protocol header is malformed: {0}")]
    Malformed(String),
    /// It is not over in time.
    #[error("the PROXY protocol header did not arrive in time")]
    Timeout,
}

/// Reads the first bytes of a connection.
///
/// # Errors
/// [`ProxyError::Malformed`].
pub fn parse(bytes: &[u8]) -> Result<Parsed, ProxyError> {
    let begins = |signature: &[u8]| bytes.starts_with(signature) || signature.starts_with(bytes);
    match bytes {
        [] => Ok(Parsed::More(1)),
        _ if begins(V1) => parse_v1(bytes),
        _ if begins(V2) => parse_v2(bytes),
        _ => Ok(Parsed::Other),
    }
}

fn parse_v1(bytes: &[u8]) -> Result<Parsed, ProxyError> {
    let malformed = |why: &str| Err(ProxyError::Malformed(why.to_owned()));
    let line = &bytes[..bytes.len().min(V1_MAX)];
    let Some(end) = line.windows(2).position(|pair| pair == b"\r\n") else {
        return if line.len() == V1_MAX { malformed("version 1 has no end") } else { Ok(Parsed::More(line.len() + 1)) };
    };
    let line = &bytes[..end + 2];
    let header = v1::Header::try_from(line).map_err(|error| ProxyError::Malformed(error.to_string()))?;
    let source = match header.addresses {
        v1::Addresses::Unknown => None,
        v1::Addresses::Tcp4(ends) => Some(SocketAddr::new(ends.source_address.into(), ends.source_port)),
        v1::Addresses::Tcp6(ends) => Some(SocketAddr::new(ends.source_address.into(), ends.source_port)),
    };
    Ok(Parsed::Header(ProxyHeader { source: source.map(canonical) }, line.len()))
}

fn parse_v2(bytes: &[u8]) -> Result<Parsed, ProxyError> {
    let Some(fixed) = bytes.get(..V2_FIXED) else { return Ok(Parsed::More(V2_FIXED)) };
    let length = V2_FIXED + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if length > V2_MAX {
        return Err(ProxyError::Malformed(format!("{length} bytes are more than {V2_MAX}")));
    }
    let whole = v2::Header::try_from(&bytes[..bytes.len().min(length)]);
    if whole.is_incomplete() {
        return Ok(Parsed::More(length));
    }
    let header = whole.map_err(|error| ProxyError::Malformed(error.to_string()))?;
    let source = match (header.command, header.protocol, header.addresses) {
        (v2::Command::Local, ..) => None,
        // A datagram is no WebSocket's.
        (v2::Command::Proxy, v2::Protocol::Datagram, _) => {
            return Err(ProxyError::Malformed("it speaks of a datagram".to_owned()));
        }
        (_, _, v2::Addresses::IPv4(ends)) => Some(SocketAddr::new(ends.source_address.into(), ends.source_port)),
        (_, _, v2::Addresses::IPv6(ends)) => Some(SocketAddr::new(ends.source_address.into(), ends.source_port)),
        (_, _, v2::Addresses::Unspecified | v2::Addresses::Unix(_)) => None,
    };
    Ok(Parsed::Header(ProxyHeader { source: source.map(canonical) }, length))
}

/// An IPv4 client that is written as an IPv6 one is an IPv4 client.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Takes the header from the front of `stream`, if there is one; everything else stays in the socket. A peer that ends
/// or keeps silent before its first byte has no header: whoever reads next will find out.
///
/// # Errors
/// [`ProxyError`]: the connection is good for nothing any more.
pub(super) async fn take(stream: &mut TcpStream, deadline: Instant) -> Result<Option<ProxyHeader>, ProxyError> {
    let mut bytes = vec![0; 256];
    let mut taken = 0;
    loop {
        // Looked at first and taken afterwards: only what is known to be of the header.
        let seen = match timeout_at(deadline, stream.peek(&mut bytes[taken..])).await {
            Ok(seen) => seen,
            Err(_) if taken == 0 => return Ok(None),
            Err(_) => return Err(ProxyError::Timeout),
        };
        let seen = match seen {
            Ok(0) | Err(_) if taken == 0 => return Ok(None),
            Ok(0) => return Err(io::Error::from(ErrorKind::UnexpectedEof).into()),
            seen => seen?,
        };
        let (upto, header, wanted) = match parse(&bytes[..taken + seen])? {
            Parsed::Other if taken == 0 => return Ok(None),
            Parsed::Other => return Err(ProxyError::Malformed("it only begins like one".to_owned())),
            Parsed::Header(header, length) => (length, Some(header), length),
            Parsed::More(wanted) => (taken + seen, None, wanted),
        };
        stream.read_exact(&mut bytes[taken..upto]).await?;
        if header.is_some() {
            return Ok(header);
        }
        taken = upto;
        bytes.resize(bytes.len().max(wanted), 0);
    }
}

/// The header that tells a backend of the client at `source`, who has reached us at `destination`. Where the two are of
/// different families both are written as IPv6 addresses (`::ffff:a.b.c.d`), which `HAProxy` and nginx read in either
/// version; `UNKNOWN` would keep the client's address from the backend.
pub fn write(version: ProxyVersion, source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let (source, destination) = match (source.ip(), destination.ip()) {
        (IpAddr::V4(_), IpAddr::V4(_)) => (source, destination),
        _ => (mapped(source), mapped(destination)),
    };
    match version {
        ProxyVersion::V1 => {
            let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
            let (from, to) = (source.ip(), destination.ip());
            format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port()).into_bytes()
        }
        ProxyVersion::V2 => {
            let mut out = V2.to_vec();
            // Version 2, PROXY; then the family over TCP, and the length of the addresses (§2.2).
            out.push(0x21);
            match (source.ip(), destination.ip()) {
                (IpAddr::V4(from), IpAddr::V4(to)) => {
                    out.extend_from_slice(&[0x11, 0, 12]);
                    out.extend_from_slice(&from.octets());
                    out.extend_from_slice(&to.octets());
                }
                (from, to) => {
                    out.extend_from_slice(&[0x21, 0, 36]);
                    out.extend_from_slice(&v6(from).octets());
                    out.extend_from_slice(&v6(to).octets());
                }
            }
            out.extend_from_slice(&source.port().to_be_bytes());
            out.extend_from_slice(&destination.port().to_be_bytes());
            out
        }
    }
}

fn mapped(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(v6(address.ip()).into(), address.port())
}

fn v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(bytes: &[u8]) -> Option<String> {
        match parse(bytes) {
            Ok(Parsed::Header(header, length)) => {
                assert_eq!(length, bytes.len(), "the header is the whole of it");
                Some(header.source.map_or("none".to_owned(), |source| source.to_string()))
            }
            Ok(_) => None,
            Err(error) => Some(error.to_string()),
        }
    }

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).expect("it is short").to_be_bytes();
        [V2, &[0x20 | command, family], &length, rest].concat()
    }

    #[test]
    fn a_header_names_the_client_or_nobody() {
        let text = |text: &str| source(text.as_bytes());
        assert_eq!(text("PROXY TCP4 192.0.2.1 10.0.0.1 56324 443\r\n").as_deref(), Some("192.0.2.1:56324"));
        assert_eq!(text("PROXY TCP6 2001:db8::1 ::1 4000 443\r\n").as_deref(), Some("[2001:db8::1]:4000"));
        assert_eq!(text("PROXY TCP6 ::ffff:192.0.2.1 ::1 4000 443\r\n").as_deref(), Some("192.0.2.1:4000"));
        assert_eq!(text("PROXY UNKNOWN\r\n").as_deref(), Some("none"));
        assert_eq!(text("PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n").as_deref(), Some("none"));
        let v4 = [192, 0, 2, 1, 10, 0, 0, 1, 0xdc, 4, 1, 187];
        assert_eq!(source(&v2(1, 0x11, &v4)).as_deref(), Some("192.0.2.1:56324"));
        assert_eq!(source(&v2(0, 0x11, &v4)).as_deref(), Some("none"), "LOCAL");
        assert_eq!(source(&v2(1, 0x00, &[])).as_deref(), Some("none"));
        assert_eq!(source(&v2(1, 0x31, &[0; 216])).as_deref(), Some("none"), "a Unix socket");
        let with_extensions = [&v4[..], &[4, 0, 3, 1, 2, 3]].concat();
        assert_eq!(source(&v2(1, 0x11, &with_extensions)).as_deref(), Some("192.0.2.1:56324"));
    }

    #[test]
    fn what_is_no_header_is_left_alone_and_what_only_looks_like_one_is_malformed() {
        for other in [&b"GET / HTTP/1.1\r\n"[..], b"\x16\x03\x01", b"POST /", b"PROPFIND / ", b"\r\n\r\nGET", b"\0"] {
            assert_eq!(parse(other).expect("no fault"), Parsed::Other, "{other:?}");
        }
        let long = format!("PROXY UNKNOWN {}", "x".repeat(120));
        for text in [
            "PROXY TCP4 192.0.2.1 10.0.0.1 56324\r\n",
            "PROXY TCP4 192.0.2.256 10.0.0.1 1 2\r\n",
            "PROXY TCP4 2001:db8::1 ::1 1 2\r\n",
            "PROXY TCP6 192.0.2.1 10.0.0.1 1 2\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 1 65536\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 01 2\r\n",
            "PROXY UDP4 192.0.2.1 10.0.0.1 1 2\r\n",
            "PROXY  TCP4 192.0.2.1 10.0.0.1 1 2\r\n",
            &long,
        ] {
            parse(text.as_bytes()).expect_err(text);
        }
        let too_long = [V2, &[0x21, 0x11, 0xff, 0xff]].concat();
        let faulty =
            [v2(2, 0x11, &[0; 12]), v2(1, 0x41, &[0; 12]), v2(1, 0x12, &[0; 12]), v2(1, 0x11, &[0; 11]), too_long];
        for bytes in faulty {
            parse(&bytes).expect_err("it is malformed");
        }
        let version_3 = [V2, &[0x31, 0x11, 0, 12], &[0; 12]].concat();
        parse(&version_3).expect_err("there is no version 3");
    }

    #[test]
    fn every_beginning_of_a_header_asks_for_no_more_than_its_rest() {
        let text = b"PROXY TCP4 192.0.2.1 10.0.0.1 56324 443\r\n".to_vec();
        for whole in [text, v2(1, 0x11, &[7; 12]), v2(1, 0x21, &[7; 300])] {
            for cut in 0..whole.len() {
                match parse(&whole[..cut]).expect("it is a beginning") {
                    Parsed::More(wanted) => assert!(wanted > cut && wanted <= whole.len(), "{wanted} at {cut}"),
                    parsed => panic!("{parsed:?} at {cut}"),
                }
            }
            let behind = [&whole[..], b"GET"].concat();
            assert!(matches!(parse(&behind), Ok(Parsed::Header(_, length)) if length == whole.len()));
        }
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut random = fastrand::Rng::with_seed(11);
        for _ in 0..20_000 {
            let mut bytes = if random.bool() { V1.to_vec() } else { V2.to_vec() };
            bytes.extend((0..random.usize(..140)).map(|_| random.u8(..)));
            let cut = random.usize(..=bytes.len());
            let _ = parse(&bytes[..cut]);
        }
    }

    #[test]
    fn what_is_written_can_be_read_again() {
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let (v4, v6) = (address("192.0.2.1:56324"), address("[2001:db8::1]:4000"));
        for version in [ProxyVersion::V1, ProxyVersion::V2] {
            for (from, to) in [(v4, v4), (v6, v6), (v4, v6), (v6, v4)] {
                let written = write(version, from, to);
                assert_eq!(source(&written), Some(from.to_string()), "{version:?} {from} {to}");
            }
        }
        assert_eq!(write(ProxyVersion::V1, v4, v6), b"PROXY TCP6 ::ffff:192.0.2.1 2001:db8::1 56324 4000\r\n");
    }
}
