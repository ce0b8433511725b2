//! `frontendValidation` to the authorities of client certificates.
//!
//! Fails closed: where no authority can be used, no certificate is valid. One unreadable bundle among readable ones only
//! narrows the trust, so the rest is used and the fault is told.

use super::header::is_of_the_handshake;
use crate::api::status::reason;
use crate::api::{FrontendValidation, FrontendValidationMode};
use crate::compile::certificate::fingerprint;
use crate::compile::inputs::Lookup;
use crate::compile::snapshot::ObjectKey;
use crate::compile::verdict::{Fault, Findings};
use crate::routing::RouteId;
use crate::routing::access::ClientTrust;
use std::sync::Arc;

const FIELD: &str = "spec.tls.frontendValidation";

/// The authorities that sign for a route, and the headers in which its backends are told whose a certificate is.
pub(super) fn client_trust(
    block: &FrontendValidation,
    route: &RouteId,
    lookup: &mut Lookup<'_>,
    findings: &mut Findings,
) -> Arc<ClientTrust> {
    let mut authorities = Vec::new();
    for (at, reference) in block.ca_certificate_refs.iter().enumerate() {
        match lookup.bundle(reference.kind, &ObjectKey::new(&*route.namespace, &reference.name)) {
            Ok(certificates) => authorities.extend(certificates),
            Err(fault) => findings.unresolved.push(fault.at(format_args!("{FIELD}.caCertificateRefs[{at}]"))),
        }
    }
    authorities.sort_unstable_by(|a, b| a.as_ref().cmp(b.as_ref()));
    authorities.dedup();
    let optional = block.mode == Some(FrontendValidationMode::AllowInsecureFallback);
    let fingerprint = fingerprint(authorities.iter().map(AsRef::as_ref));
    let trust = ClientTrust::new(optional, fingerprint.clone()).trusting(authorities);
    let mut trust = trust.unwrap_or_else(|error| {
        let message = format!("{FIELD}.caCertificateRefs: {error}: name certificates of authorities");
        findings.unresolved.push(Fault::new(reason::INVALID_CA_CERTIFICATE_REF, message));
        ClientTrust::new(optional, fingerprint)
    });
    let faults = &mut findings.unacceptable;
    trust.subject_header = header(block.forward_subject_header.as_deref(), "forwardSubjectHeader", faults);
    let names = "forwardSubjectAltNamesHeader";
    trust.subject_alt_names_header = header(block.forward_subject_alt_names_header.as_deref(), names, faults);
    if trust.subject_header.is_some() && trust.subject_header == trust.subject_alt_names_header {
        let message = format!("{FIELD}.{names}: it is that of forwardSubjectHeader, too: name another one");
        faults.push(Fault::new(reason::UNSUPPORTED_VALUE, message));
    }
    Arc::new(trust)
}

/// The name in lower case, unless a handshake needs it for something else.
fn header(written: Option<&str>, field: &str, faults: &mut Vec<Fault>) -> Option<Box<str>> {
    let name = written?.to_ascii_lowercase();
    let taken = matches!(name.as_str(), "cookie" | "origin") || name.starts_with("x-forwarded-");
    if taken || is_of_the_handshake(&name) {
        let message = format!("{FIELD}.{field}: a handshake needs {name} for itself: name another header");
        faults.push(Fault::new(reason::UNSUPPORTED_VALUE, message));
        return None;
    }
    Some(name.into())
}
