//! A provider of type external to what judges its credentials: the Service that is asked, and what it is shown.
//!
//! A Service that cannot be used makes the provider refuse with 503; a value that cannot be understood makes the route
//! not accepted. Asking is `proxy::access`'s.

use super::header::is_of_the_handshake;
use super::{Writer, no_block, unavailable};
use crate::api::status::reason;
use crate::api::{ExternalBackendRef, ExternalProvider};
use crate::compile::backend::{Spoken, port_of};
use crate::compile::inputs::Lookup;
use crate::compile::verdict::{Fault, Findings};
use crate::routing::access::{External, ProviderKind};
use crate::routing::{Backend, Protocol};
use std::sync::Arc;
use std::time::Duration;

/// Default of `timeout`.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Default of `requestHeaders`.
const SHOWN: [&str; 2] = ["authorization", "cookie"];

/// What else ends at one hop, or is told to the service by Sheave: nobody else decides on it.
const RESERVED: [&str; 10] = [
    "expect",
    "http2-settings",
    "proxy-authorization",
    "proxy-connection",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-method",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-forwarded-uri",
];
/// The header of the handshake's own that may hold a credential, and so may be named among `requestHeaders`.
const SUBPROTOCOLS: &str = "sec-websocket-protocol";

pub(super) fn external(
    block: Option<&ExternalProvider>,
    writer: &Writer<'_>,
    field: &str,
    lookup: &mut Lookup<'_>,
    findings: &mut Findings,
) -> ProviderKind {
    let Some(block) = block else { return no_block("external", field, findings) };
    let field = format!("{field}.external");
    let faults = &mut findings.unacceptable;
    let path_prefix = path_prefix(block.path_prefix.as_deref().unwrap_or_default(), &field, faults);
    let shown = names(&block.request_headers, &format!("{field}.requestHeaders"), |name| name == SUBPROTOCOLS, faults);
    let response_headers = names(&block.response_headers, &format!("{field}.responseHeaders"), |_| false, faults);
    let timeout = block.timeout.map_or(TIMEOUT, |timeout| timeout.0);
    if timeout.is_zero() {
        let message = format!("{field}.timeout: must be above 0s");
        faults.push(Fault::new(reason::UNSUPPORTED_VALUE, message));
    }
    let backend = match service(&block.backend_ref, writer, &format!("{field}.backendRef"), lookup) {
        Ok((backend, idle)) => {
            findings.notes.extend(idle.map(|why| format!("{field}.backendRef: {why}")));
            backend
        }
        Err(fault) => return unavailable(fault, findings),
    };
    ProviderKind::External(External {
        backend,
        path_prefix,
        timeout,
        request_headers: if shown.is_empty() { SHOWN.map(Box::from).into() } else { shown },
        always: block.always.unwrap_or(true),
        response_headers,
        consumer_header: block.consumer_header.as_deref().map(|name| name.to_ascii_lowercase().into()),
    })
}

/// The start of the target. A `?` ends it: what would stand behind belongs to the handshake.
fn path_prefix(written: &str, field: &str, faults: &mut Vec<Fault>) -> Box<str> {
    let path = written.strip_suffix('?').unwrap_or(written);
    let readable = written.is_empty() || path.starts_with('/') && http::uri::PathAndQuery::try_from(path).is_ok();
    if path.contains(['?', '#']) || !readable {
        let message = format!(
            "{field}.pathPrefix: {written:?} is no path: begin with /, and write a ? only at the end, to leave the \
             handshake's path out"
        );
        faults.push(Fault::new(reason::UNSUPPORTED_VALUE, message));
    }
    // The handshake's path begins with one.
    written.trim_end_matches('/').into()
}

/// Names in lower case, each once.
fn names(written: &[String], field: &str, fine: fn(&str) -> bool, faults: &mut Vec<Fault>) -> Vec<Box<str>> {
    let mut names: Vec<Box<str>> = Vec::with_capacity(written.len());
    for (at, name) in written.iter().enumerate() {
        let lower = name.to_ascii_lowercase();
        if (RESERVED.contains(&&*lower) || is_of_the_handshake(&lower)) && !fine(&lower) {
            let message = format!("{field}[{at}]: {name} is written by Sheave itself: leave it out");
            faults.push(Fault::new(reason::UNSUPPORTED_VALUE, message));
        }
        if !names.iter().any(|known| **known == *lower) {
            names.push(lower.into());
        }
    }
    names
}

/// The Service that is asked, and why it has no ready endpoint if it has none.
fn service(
    reference: &ExternalBackendRef,
    writer: &Writer<'_>,
    field: &str,
    lookup: &mut Lookup<'_>,
) -> Result<(Arc<Backend>, Option<String>), Fault> {
    let key = writer.object("Service", (reference.namespace.as_deref(), &reference.name), field, lookup)?;
    let port = port_of(reference.port, field)?;
    let target = lookup.target(&key, port).map_err(|fault| fault.at(field))?;
    if !matches!(target.protocol(None), Ok(Protocol::Ws)) {
        let message = format!(
            "{field}: the appProtocol of the Service port is not HTTP/1.1 in clear, which is all that is asked in: \
             name a port that speaks it"
        );
        return Err(Fault::new(reason::UNSUPPORTED_PROTOCOL, message));
    }
    let spoken = Spoken { protocol: Protocol::Ws, tls: None, proxy_protocol: None };
    Ok((lookup.backend((&key, port), &target, spoken), target.idle))
}
