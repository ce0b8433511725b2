//! Credentials in a handshake: where one is, and how it is taken out of what goes upstream.
//!
//! All places are looked at, and what is found there must be one and the same: a handshake that says two things could be
//! read in one way here and in another behind. What cannot be a credential (not decodable, too long, other characters
//! than visible ASCII) is found as an empty one, which nothing accepts. Whether one is right is not decided here.

use super::Denial;
use super::edits::Edits;
use crate::proxy::handshake::Offer;
use crate::routing::access::{Access, Encoding, Place, Source};
use crate::telemetry::HandshakeReason;
use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::StatusCode;
use std::borrow::Cow;
use zeroize::Zeroizing;

/// The longest credential as it is written, in bytes.
const LONGEST: usize = 16 << 10;

/// RFC 4648 §5, with or without padding.
const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A credential as it was found.
pub struct Credential {
    /// Decoded; empty when it cannot be one.
    pub value: Zeroizing<Vec<u8>>,
    /// What takes it out of the handshake.
    pub removal: Edits,
}

/// A handshake carries several credentials that differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ambiguous;

impl From<Ambiguous> for Denial {
    fn from(_: Ambiguous) -> Self {
        let text = "the handshake carries different credentials: send one";
        Self::new(StatusCode::BAD_REQUEST, HandshakeReason::BadRequest, text)
    }
}

/// Looks in every place. An empty credential is none.
///
/// # Errors
/// When there are several that differ: answered with 400.
pub fn find(sources: &[Source], offer: &Offer) -> Result<Option<Credential>, Ambiguous> {
    let mut found: Option<Zeroizing<Vec<u8>>> = None;
    let mut removal = Edits::default();
    let mut differ = false;
    for source in sources {
        let mut take = |written: &[u8]| {
            let Some(value) = read(source, written) else { return false };
            match &found {
                None => found = Some(value),
                Some(known) => differ |= **known != *value,
            }
            true
        };
        match &source.place {
            Place::Cookie(name) => {
                // Every one of them, for the check that they are alike.
                let cookies = offer.head.fields.all("cookie").flat_map(cookies);
                let named = cookies.filter(|(cookie, _)| *cookie == name.as_bytes());
                if named.fold(false, |any, (_, value)| take(value) | any) {
                    removal.without_cookies.push(name.clone());
                }
            }
            Place::Header(name) => {
                if offer.head.fields.all(name).fold(false, |any, value| take(value) | any) {
                    removal.without_headers.push(name.clone());
                }
            }
            Place::Query(name) => {
                let named = parameters(offer.query().unwrap_or_default()).filter(|(_, parameter)| *parameter == **name);
                let mut any = false;
                for (part, _) in named {
                    let value = part.split_once('=').map_or("", |(_, value)| value);
                    // A broken escape cannot be what anybody means: taken as a credential that is wrong.
                    any |= take(&unescape(value).unwrap_or(Cow::Borrowed(b"\0")));
                }
                if any {
                    removal.without_query.push(name.clone());
                }
            }
            Place::Subprotocol(start) => {
                for (credential, elements) in announced(start, &offer.subprotocols) {
                    if take(credential.as_bytes()) {
                        removal.without_subprotocols.extend(elements.iter().cloned());
                    }
                }
            }
        }
    }
    if differ {
        return Err(Ambiguous);
    }
    Ok(found.map(|value| Credential { value, removal }))
}

/// The elements of the offered subprotocols that carry a credential for any provider of `access`, right or wrong.
pub(in crate::proxy) fn subprotocols(access: &Access, offer: &Offer) -> Vec<Box<str>> {
    let providers = access.authentication.iter().flat_map(|block| &block.providers);
    let starts = providers.flat_map(|provider| &provider.sources).filter_map(|source| match &source.place {
        Place::Subprotocol(start) => Some(start),
        _ => None,
    });
    let elements = starts.flat_map(|start| announced(start, &offer.subprotocols)).flat_map(|(_, elements)| elements);
    elements.cloned().collect()
}

/// What a place holds: the credential behind its prefix, decoded. `None` when it holds none.
fn read(source: &Source, written: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (prefix, rest) = written.split_at_checked(source.prefix.len())?;
    if !prefix.eq_ignore_ascii_case(source.prefix.as_bytes()) {
        return None;
    }
    let rest = rest.trim_ascii();
    if rest.is_empty() {
        return None;
    }
    let nothing = || Zeroizing::new(Vec::new());
    if rest.len() > LONGEST {
        return Some(nothing());
    }
    let value = match source.encoding {
        Encoding::Plain => Zeroizing::new(rest.to_vec()),
        Encoding::Base64Url => BASE64URL.decode(rest).map_or_else(|_| nothing(), Zeroizing::new),
    };
    Some(if value.iter().all(u8::is_ascii_graphic) { value } else { nothing() })
}

/// Names and values of the cookies of one line (RFC 6265 §5.4), quotes around a value removed (§4.1.1).
pub(in crate::proxy) fn cookies(line: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    line.split(|byte| *byte == b';').map(|pair| {
        let at = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
        let value = pair.get(at + 1..).unwrap_or_default().trim_ascii();
        let unquoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
        (pair[..at].trim_ascii(), unquoted.unwrap_or(value))
    })
}

/// The parts of a query between `&`, each with its decoded name.
pub(in crate::proxy) fn parameters(query: &str) -> impl Iterator<Item = (&str, String)> {
    query.split('&').map(|part| {
        let name = part.split_once('=').map_or(part, |(name, _)| name);
        let decoded = unescape(name).unwrap_or(Cow::Borrowed(name.as_bytes()));
        (part, String::from_utf8_lossy(&decoded).into_owned())
    })
}

/// `text` with its percent escapes decoded, once; `None` if one is broken.
fn unescape(text: &str) -> Option<Cow<'_, [u8]>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text.as_bytes()));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (escape, after) = rest.split_first_chunk::<2>()?;
        let digit = |byte: u8| char::from(byte).to_digit(16);
        bytes.push((digit(escape[0])? * 16 + digit(escape[1])?) as u8);
        rest = after;
    }
    Some(Cow::Owned(bytes))
}

/// The credentials among `offered`, each with the elements that it takes up: what follows `start` in an element, or the
/// element after one that is just `start` (`bearer, TOKEN`).
fn announced<'o>(start: &'o str, offered: &'o [Box<str>]) -> impl Iterator<Item = (&'o str, &'o [Box<str>])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < offered.len() {
            let here = at;
            at += 1;
            match offered[here].strip_prefix(start) {
                Some("") if at < offered.len() => {
                    at += 1;
                    return Some((&*offered[here + 1], &offered[here..at]));
                }
                Some("") | None => {}
                Some(credential) => return Some((credential, &offered[here..at])),
            }
        }
        None
    })
}

#[cfg(test)]
mod tests;
