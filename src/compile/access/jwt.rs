//! A provider of type jwt to what judges its credentials.
//!
//! Keys that cannot be had make it refuse, and its route is told. What it would tell the backend stays known then: those
//! headers are not a client's to set, whatever lets the client in.

use super::{Writer, no_block};
use crate::api::status::reason;
use crate::api::{CaRef, JwtAlgorithm, JwtProvider, RemoteJwks};
use crate::compile::certificate::fingerprint;
use crate::compile::inputs::Lookup;
use crate::compile::key_source::{Fetched, KeySource};
use crate::compile::snapshot::ObjectKey;
use crate::compile::verdict::{Fault, Findings};
use crate::routing::Roots;
use crate::routing::access::{Jwt, Keys, ProviderKind};
use jsonwebtoken::Algorithm;
use rustls_pki_types::ServerName;
use std::sync::Arc;
use std::time::Duration;

/// How far clocks may be apart unless the provider says.
const LEEWAY: Duration = Duration::from_secs(60);
/// How long fetched keys are used unless the provider says.
const CACHE: Duration = Duration::from_secs(300);
/// The shortest time between fetches that a provider may ask for.
const SHORTEST_CACHE: Duration = Duration::from_secs(10);
/// For one answer of the issuer unless the provider says.
const TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn jwt(
    block: Option<&JwtProvider>,
    writer: &Writer<'_>,
    field: &str,
    lookup: &mut Lookup<'_>,
    findings: &mut Findings,
) -> ProviderKind {
    let Some(block) = block else { return no_block("jwt", field, findings) };
    let field = format!("{field}.jwt");
    let shared = block.secret_ref.is_some();
    let symmetric =
        |algorithm: &JwtAlgorithm| matches!(algorithm, JwtAlgorithm::HS256 | JwtAlgorithm::HS384 | JwtAlgorithm::HS512);
    if block.algorithms.iter().any(|algorithm| symmetric(algorithm) != shared) {
        let message =
            "HS algorithms belong to secretRef, and no others do: a public key must never be used as a secret";
        findings.unacceptable.push(Fault::new(reason::UNSUPPORTED_VALUE, format!("{field}.algorithms: {message}")));
    }
    let mut remote = None;
    let keys = match (&block.remote_jwks, &block.local_jwks, &block.secret_ref) {
        (Some(block), None, None) => {
            let source = source(block, writer, &format!("{field}.remoteJWKS"), lookup, findings);
            remote = source.as_ref().map(|source| Arc::clone(&source.name));
            match source {
                Some(source) => fetched(source, &format!("{field}.remoteJWKS"), lookup, findings),
                None => Keys::Unusable("its caCertificateRefs cannot be used".into()),
            }
        }
        (None, Some(reference), None) => {
            let field = format!("{field}.localJWKS");
            let keyed = writer
                .secret(reference, &field, lookup)
                .and_then(|key| lookup.local_key_set(&key).map_err(|fault| fault.at(&field)));
            known(keyed, &field, findings)
        }
        (None, None, Some(reference)) => {
            let field = format!("{field}.secretRef");
            let keyed = writer
                .secret(reference, &field, lookup)
                .and_then(|key| lookup.shared_secrets(&key).map_err(|fault| fault.at(&field)));
            known(keyed, &field, findings)
        }
        _ => {
            let message = format!("{field}: set exactly one of remoteJWKS, localJWKS and secretRef");
            findings.unacceptable.push(Fault::new(reason::UNSUPPORTED_VALUE, message.clone()));
            Keys::Unusable(message.into())
        }
    };
    ProviderKind::Jwt(Arc::new(Jwt {
        keys,
        remote,
        algorithms: (!block.algorithms.is_empty()).then(|| block.algorithms.iter().copied().map(algorithm).collect()),
        issuer: block.issuer.as_deref().map(Box::from),
        audiences: block.audiences.iter().map(|audience| audience.as_str().into()).collect(),
        leeway: block.leeway.map_or(LEEWAY, |leeway| leeway.0),
        consumer_claim: block.consumer_claim.as_deref().unwrap_or("sub").into(),
        claims: block.claims.iter().map(super::claim_condition).collect(),
        claim_headers: claim_headers(block, &field, findings),
    }))
}

/// The claims that the backend is told, each with the name of its header.
fn claim_headers(block: &JwtProvider, field: &str, findings: &mut Findings) -> Vec<(Box<str>, Box<str>)> {
    let named = block.claim_to_headers.iter().enumerate().filter_map(|(at, told)| {
        let field = format!("{field}.claimToHeaders[{at}].header");
        let header = super::header::own(&told.header, &field, &mut findings.unacceptable)?;
        Some((told.claim.as_str().into(), header))
    });
    named.collect()
}

type Keyed = super::key_set::Keyed;

/// The keys of a Secret. Complaints about some of them are told under `field`, and the rest is used.
fn known(keyed: Result<Keyed, Fault>, field: &str, findings: &mut Findings) -> Keys {
    match keyed {
        Ok(Keyed { keys, complaints }) => {
            let told = complaints.into_iter().map(|why| Fault::new(reason::INVALID_CREDENTIAL_REF, why).at(field));
            findings.unresolved.extend(told);
            Keys::Known(keys)
        }
        Err(fault) => {
            let why = fault.message.as_str().into();
            findings.unresolved.push(fault);
            Keys::Unusable(why)
        }
    }
}

/// The keys that an issuer has answered with.
fn fetched(source: KeySource, field: &str, lookup: &mut Lookup<'_>, findings: &mut Findings) -> Keys {
    let told = |why: &str| Fault::new(reason::JWKS_UNAVAILABLE, format!("{field}.uri: {why}"));
    let fetches = lookup.fetches_keys();
    match lookup.fetched_keys(source) {
        Fetched::Nothing if fetches => Keys::Awaited(None),
        Fetched::Nothing => {
            findings.notes.push(format!("{field}.uri: fetched by sheave serve, and not looked at here"));
            Keys::Awaited(None)
        }
        Fetched::Trouble(why) => {
            let fault = told(&format!("{why}, so there are no keys yet and tokens are refused with 503"));
            findings.unresolved.push(fault);
            Keys::Awaited(Some(why))
        }
        Fetched::Body(Ok(Keyed { keys, complaints })) => {
            findings.unresolved.extend(complaints.iter().map(|why| told(&format!("the key set: {why}"))));
            Keys::Known(keys)
        }
        Fetched::Body(Err(why)) => {
            let why = format!("the key set {why}: publish the keys that tokens are signed with");
            findings.unresolved.push(told(&why));
            Keys::Unusable(why.into())
        }
    }
}

/// Where keys are fetched from, and how; `None` when it is not known whom to trust.
fn source(
    block: &RemoteJwks,
    writer: &Writer<'_>,
    field: &str,
    lookup: &mut Lookup<'_>,
    findings: &mut Findings,
) -> Option<KeySource> {
    let roots = roots(&block.ca_certificate_refs, writer, field, lookup, findings)?;
    let uri = &block.uri;
    if !is_https(uri) {
        let message = format!("{field}.uri: {uri:?} is no https URL: write one as in https://id.example.com/jwks.json");
        findings.unacceptable.push(Fault::new(reason::UNSUPPORTED_VALUE, message));
        return None;
    }
    let positive = |written: Option<crate::api::Duration>, usual| {
        written.map_or(usual, |written| if written.0.is_zero() { usual } else { written.0 })
    };
    // Whoever trusts another authority must not decide what those see that do not.
    let name = match &roots {
        Roots::System => uri.clone(),
        Roots::Certificates(trusted) => format!("{uri}#{}", fingerprint(trusted.iter().map(AsRef::as_ref))),
    };
    Some(KeySource {
        name: name.into(),
        uri: uri.as_str().into(),
        cache: positive(block.cache_duration, CACHE).max(SHORTEST_CACHE),
        timeout: positive(block.timeout, TIMEOUT),
        roots,
    })
}

/// Whether `uri` is an https URL of a host that a certificate can name, and a port if it has one.
fn is_https(uri: &str) -> bool {
    let Ok(uri) = uri.parse::<http::Uri>() else { return false };
    let (Some(authority), Some("https")) = (uri.authority(), uri.scheme_str()) else { return false };
    let host = authority.host();
    let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = authority.as_str().strip_prefix(host).is_some_and(|rest| match rest.strip_prefix(':') {
        Some(port) => port.parse::<u16>().is_ok_and(|port| port > 0),
        None => rest.is_empty(),
    });
    port && ServerName::try_from(name).is_ok()
}

fn roots(
    references: &[CaRef],
    writer: &Writer<'_>,
    field: &str,
    lookup: &mut Lookup<'_>,
    findings: &mut Findings,
) -> Option<Roots> {
    if references.is_empty() {
        return Some(Roots::System);
    }
    let mut trusted = Vec::new();
    for (at, reference) in references.iter().enumerate() {
        let field = format!("{field}.caCertificateRefs[{at}]");
        if writer.class {
            let message = format!(
                "{field}: a class has no namespace of its own to look in: leave it out, or say it in the route"
            );
            findings.unacceptable.push(Fault::new(reason::UNSUPPORTED_VALUE, message));
            continue;
        }
        match lookup.bundle(reference.kind, &ObjectKey::new(&*writer.route.namespace, &reference.name)) {
            Ok(certificates) => trusted.extend(certificates),
            Err(fault) => findings.unresolved.push(fault.at(&field)),
        }
    }
    trusted.sort_unstable_by(|a, b| a.as_ref().cmp(b.as_ref()));
    trusted.dedup();
    (!trusted.is_empty()).then_some(Roots::Certificates(trusted))
}

fn algorithm(written: JwtAlgorithm) -> Algorithm {
    match written {
        JwtAlgorithm::ES256 => Algorithm::ES256,
        JwtAlgorithm::ES384 => Algorithm::ES384,
        JwtAlgorithm::EdDSA => Algorithm::EdDSA,
        JwtAlgorithm::HS256 => Algorithm::HS256,
        JwtAlgorithm::HS384 => Algorithm::HS384,
        JwtAlgorithm::HS512 => Algorithm::HS512,
        JwtAlgorithm::PS256 => Algorithm::PS256,
        JwtAlgorithm::PS384 => Algorithm::PS384,
        JwtAlgorithm::PS512 => Algorithm::PS512,
        JwtAlgorithm::RS256 => Algorithm::RS256,
        JwtAlgorithm::RS384 => Algorithm::RS384,
        JwtAlgorithm::RS512 => Algorithm::RS512,
    }
}
