//! Names of headers that an object may not claim: they say how a handshake is read, or where it comes from.
//!
//! Decides what no block may have; each block adds what it alone may not.

use crate::api::status::reason;
use crate::compile::verdict::Fault;

/// Headers that a handshake consists of, or that Sheave writes whatever an object says (RFC 9110 §7.6.1).
const HANDSHAKE: [&str; 10] = [
    "connection",
    "content-length",
    "forwarded",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-request-id",
];

/// Whether a handshake needs `name` (lower case) for itself.
pub(super) fn is_of_the_handshake(name: &str) -> bool {
    HANDSHAKE.contains(&name) || name.starts_with("sec-websocket-")
}

/// What else a header of a client's name may not be: those of credentials, and those of other proxies.
const RESERVED: [&str; 6] = ["client-cert", "client-cert-chain", "cookie", "http2-settings", "origin", "x-real-ip"];

/// The same by prefix.
const RESERVED_FROM: [&str; 5] = ["proxy-", "ssl-client-", "x-client-cert", "x-forwarded", "x-ssl-"];

/// A header that Sheave is to set, in lower case, unless it is one that says how the handshake is to be read.
pub(super) fn own(name: &str, field: &str, faults: &mut Vec<Fault>) -> Option<Box<str>> {
    let name = name.to_ascii_lowercase();
    let folded = name.replace('_', "-");
    let reserved = RESERVED.contains(&&*folded) || RESERVED_FROM.iter().any(|start| folded.starts_with(start));
    if reserved || is_of_the_handshake(&folded) {
        let message = format!(
            "{field}: {name} belongs to the handshake itself, or is set by Sheave already: choose another, such as \
             X-Consumer"
        );
        faults.push(Fault::new(reason::UNSUPPORTED_VALUE, message));
        return None;
    }
    Some(name.into())
}
