//! External authorization: asks a service about a handshake, and takes its word.
//!
//! Decides what the service is shown and what its answer means: 2xx is yes, 401 and 403 are no and are the client's to
//! read, anything else is no answer (503). How it is asked is `inquiry`'s. No credential is taken out of the handshake:
//! which of the headers shown is one is known to the service alone.

use super::edits::Edits;
use super::{Asked, Denial, Found, cannot_decide};
use crate::proxy::answer::Told;
use crate::proxy::fields::Fields;
use crate::proxy::handshake::Offer;
use crate::routing::access::{External, Fact, Identity, Provider};
use crate::routing::{Address, Backend, LoadBalancing, Scheme};
use crate::telemetry::HandshakeReason;
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderMap, ORIGIN, SET_COOKIE, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Request, StatusCode, Uri};
use http_body_util::Empty;
use std::net::IpAddr;
use std::sync::Arc;

/// Headers of a no that reach the client, with its body.
const PASSED_ON: [(HeaderName, &str); 4] = [
    (CONTENT_ENCODING, "Content-Encoding"),
    (CONTENT_TYPE, "Content-Type"),
    (SET_COOKIE, "Set-Cookie"),
    (WWW_AUTHENTICATE, "WWW-Authenticate"),
];

/// A client's name, in bytes.
const NAME: usize = 256;

/// Asks, and takes the service's word.
pub(super) async fn identify(external: &External, provider: &Provider, asked: &Asked<'_>) -> Found {
    let Asked { proxy, rule, offer, client, deadline, .. } = *asked;
    if !external.always && !shows_any(&offer.head.fields, &external.request_headers) {
        return Ok(None);
    }
    let target = target(&external.path_prefix, offer).ok_or_else(|| {
        let text = "a character of the path or query may be in no URI: percent-encode it";
        Denial::new(StatusCode::BAD_REQUEST, HandshakeReason::BadRequest, text)
    })?;
    let backend = &external.backend;
    let from = (&rule.id.route, &provider.name);
    let trouble = |why: String| {
        let why = format!("the service {} {why}", backend.id);
        proxy.inquiries.note(&proxy.reporter, from, Some(&why));
        cannot_decide(provider, why)
    };
    let balancer = &proxy.dialer.balancer;
    let Ok((endpoint, _lease)) = balancer.choose(backend, LoadBalancing::LeastConnections, &[], None) else {
        return Err(trouble("has no ready endpoint".to_owned()));
    };
    let request = request(target, external, offer, (backend, &endpoint), client);
    let in_time = (external.timeout, deadline);
    let answer = match proxy.inquiries.ask(&endpoint, request, &proxy.dialer.tls, in_time).await {
        Ok(answer) => answer,
        Err(silence) => return Err(trouble(format!("at {endpoint} {silence}"))),
    };
    let (head, body) = answer.into_parts();
    let found = match head.status {
        status if status.is_success() => match yes(external, provider, &head.headers) {
            Ok(yes) => Ok(Some(yes)),
            Err(why) => return Err(trouble(format!("at {endpoint} {why}"))),
        },
        status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => Err(no(provider, status, &head.headers, body)),
        status => {
            let why = format!("at {endpoint} answered {}, which is neither 2xx nor 401 nor 403", status.as_u16());
            return Err(trouble(why));
        }
    };
    proxy.inquiries.note(&proxy.reporter, from, None);
    found
}

/// Whether the handshake has one of the headers `shown`.
fn shows_any(fields: &Fields, shown: &[Box<str>]) -> bool {
    fields.end_to_end().any(|(name, _)| shown.iter().any(|shown| name.eq_ignore_ascii_case(shown)))
}

/// The request target: the prefix, then the handshake's path unless the prefix ends in `?`, then its query. `None` if that is
/// no URI.
fn target(prefix: &str, offer: &Offer) -> Option<Uri> {
    let path = prefix.strip_suffix('?').map_or_else(|| [prefix, offer.path()].concat(), str::to_owned);
    let target = match offer.query() {
        Some(query) => [&path, "?", query].concat(),
        None => path,
    };
    Uri::try_from(target).ok()
}

/// What the service is shown. Everything is from the handshake, and none of it is believed to be more than that, but for
/// the client's address, which is the detected one.
fn request(
    target: Uri,
    external: &External,
    offer: &Offer,
    (backend, endpoint): (&Backend, &Address),
    client: IpAddr,
) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = target;
    let headers = request.headers_mut();
    let mut put = |name: HeaderName, value: &[u8]| {
        // A head's values are free of control characters, which is all that could be wrong.
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(name, value);
        }
    };
    let proto = match offer.scheme {
        Scheme::Ws => "http",
        Scheme::Wss => "https",
    };
    put(HOST, host(backend, endpoint).as_bytes());
    put(HeaderName::from_static("x-forwarded-method"), b"GET");
    put(HeaderName::from_static("x-forwarded-proto"), proto.as_bytes());
    put(HeaderName::from_static("x-forwarded-host"), offer.authority.as_bytes());
    put(HeaderName::from_static("x-forwarded-uri"), offer.target().as_bytes());
    put(HeaderName::from_static("x-forwarded-for"), client.to_canonical().to_string().as_bytes());
    put(HeaderName::from_static("x-request-id"), offer.request_id.as_bytes());
    offer.head.fields.all("origin").for_each(|value| put(ORIGIN, value));
    if !offer.subprotocols.is_empty() {
        put(HeaderName::from_static("sec-websocket-protocol"), offer.subprotocols.join(", ").as_bytes());
    }
    let always = ["origin", "sec-websocket-protocol"];
    for (name, value) in offer.head.fields.end_to_end() {
        let wanted = external.request_headers.iter().find(|wanted| name.eq_ignore_ascii_case(wanted));
        if let Some(wanted) = wanted.filter(|wanted| !always.contains(&&***wanted))
            && let Ok(name) = HeaderName::from_bytes(wanted.as_bytes())
        {
            put(name, value);
        }
    }
    request
}

/// The service's own name: what it is called in its cluster, or the name outside that the Service stands for.
fn host(backend: &Backend, endpoint: &Address) -> String {
    let (name, port) = match endpoint {
        Address::Name(name, port) => (name.to_string(), *port),
        Address::Socket(_) => (format!("{}.{}.svc", backend.id.service, backend.id.namespace), backend.id.port),
    };
    if port == 80 { name } else { format!("{name}:{port}") }
}

/// What a yes says of the client and to the backend; the error continues "the service".
fn yes(external: &External, provider: &Provider, headers: &HeaderMap) -> Result<(Identity, Edits), String> {
    let consumer = external.consumer_header.as_deref().map_or(Ok(None), |name| {
        let mut values = headers.get_all(name).iter();
        let value = values.next().map_or(Ok(""), |value| std::str::from_utf8(value.as_bytes()));
        match value {
            Ok(text) if text.len() <= NAME && values.next().is_none() => {
                Ok(Some(text.trim()).filter(|text| !text.is_empty()).map(Arc::from))
            }
            _ => Err(format!("said yes with a {name} that is not one text of at most {NAME} bytes")),
        }
    })?;
    let with_headers = external.response_headers.iter().flat_map(|name| {
        let values = headers.get_all(&**name).iter();
        values.map(|value| (name.clone(), Box::from(value.as_bytes())))
    });
    let edits = Edits { with_headers: with_headers.collect(), ..Edits::default() };
    let identity = Identity { provider: Arc::clone(&provider.name), consumer, fact: Fact::External, expires: None };
    Ok((identity, edits))
}

/// The service's no, in its own words unless they are too many.
fn no(provider: &Provider, status: StatusCode, headers: &HeaderMap, body: Option<Bytes>) -> Denial {
    let (reason, text) = if status == StatusCode::UNAUTHORIZED {
        (HandshakeReason::Unauthenticated, "a valid credential is needed here")
    } else {
        (HandshakeReason::Forbidden, "not allowed to use this route")
    };
    let lines = PASSED_ON
        .iter()
        .flat_map(|(name, written)| headers.get_all(name).iter().map(|value| (*written, Box::from(value.as_bytes()))));
    let mut denial = Denial::new(status, reason, text).of(provider);
    let told = if let Some(body) = body {
        Told { lines: lines.collect(), body }
    } else {
        let about_the_body = ["Content-Encoding", "Content-Type"];
        let lines = lines.filter(|(name, _)| !about_the_body.contains(name));
        let own = ("Content-Type", Box::from(&b"text/plain; charset=utf-8"[..]));
        Told { lines: lines.chain([own]).collect(), body: format!("{text}\n").into() }
    };
    denial.refusal.told = Some(Box::new(told));
    denial.detailed(format!("provider {}: the service said no with {}", provider.name, status.as_u16()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::handshake::tests_support::offer;

    #[test]
    fn a_prefix_goes_before_the_path_or_takes_its_place() {
        let offer = offer("");
        for (prefix, wanted) in
            [("", "/ws?x=1"), ("/verify", "/verify/ws?x=1"), ("/verify?", "/verify?x=1"), ("/?", "/?x=1")]
        {
            assert_eq!(target(prefix, &offer).map(|uri| uri.to_string()).as_deref(), Some(wanted), "{prefix}");
        }
    }
}
