//! Access blocks of a route to [`Access`]: what the route says, else what its class says, else nothing is asked.
//!
//! Fails closed. A value that cannot be understood makes the route not accepted; a Secret that is not there makes its
//! provider refuse, and the route is told.

mod api_key;
mod basic;
mod certificate;
mod credentials;
mod detection;
mod external;
mod header;
mod jwt;
mod key_set;
mod limit;

pub(super) use api_key::ring_of;
pub(super) use basic::users_of;
pub(super) use detection::detection;
pub use key_set::is_key_set;
pub(super) use key_set::{Keyed, key_set, shared_secrets};
pub(super) use limit::{judge_limits, rate};

use super::class::Class;
use super::inputs::Lookup;
use super::snapshot::ObjectKey;
use super::verdict::{Fault, Findings};
use crate::api::status::reason;
use crate::api::{
    AuthenticationProvider, CredentialEncoding, CredentialRef, CredentialSource, CredentialSourceType, Defaults,
    Missing, OnCredentialExpiry, OriginPolicy, ProviderType, RouteRule, WebSocketRouteSpec,
};
use crate::routing::RouteId;
use crate::routing::access::{
    Access, AddressRules, Authentication, Authorization, CidrSet, ClaimCondition, Encoding, OriginError, Origins,
    Place, Principal, Provider, ProviderKind, Source,
};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Who wrote a block, and where its faults go.
pub(super) struct Writer<'w> {
    /// `spec` of a route; of a class its name and `spec.defaults`.
    pub(super) field: &'w str,
    /// The route; of a class the namespace is empty and every reference must name one.
    pub(super) route: &'w RouteId,
    /// Whether a class wrote it: its references need no grant.
    pub(super) class: bool,
}

impl Writer<'_> {
    /// The object of `kind` that a reference at `field` means, if it may be named.
    fn object(
        &self,
        kind: &str,
        (namespace, name): (Option<&str>, &str),
        field: &str,
        lookup: &mut Lookup<'_>,
    ) -> Result<ObjectKey, Fault> {
        let namespace = match (namespace, self.class) {
            (Some(namespace), _) => namespace,
            (None, false) => &self.route.namespace,
            (None, true) => {
                let message = format!("{field}.namespace: a class has no namespace of its own: name one");
                return Err(Fault::new(reason::UNSUPPORTED_VALUE, message));
            }
        };
        let key = ObjectKey::new(namespace, name);
        if !self.class {
            lookup.permit(&self.route.namespace, kind, &key, field)?;
        }
        Ok(key)
    }

    /// The Secret that `reference` (at `field`) means, if it may be named.
    fn secret(&self, reference: &CredentialRef, field: &str, lookup: &mut Lookup<'_>) -> Result<ObjectKey, Fault> {
        self.object("Secret", (reference.namespace.as_deref(), &reference.name), field, lookup)
    }
}

/// What is asked of the handshakes of a route, its rules' authorization aside.
pub(super) fn route_access(
    spec: &WebSocketRouteSpec,
    class: &Class,
    route: &RouteId,
    lookup: &mut Lookup<'_>,
    findings: &mut Findings,
) -> Access {
    let defaults = &class.defaults;
    let own = Writer { field: "spec", route, class: false };
    let field = format!("class {}: spec.defaults", class.name);
    let other = Writer { field: &field, route, class: true };
    let writer = |own_block: bool| if own_block { &own } else { &other };
    let mut access = Access { detection: Arc::clone(&class.detection), ..Access::default() };
    if let Some(block) = spec.client_cidrs.as_ref().or(defaults.client_cidrs.as_ref()) {
        let field = format!("{}.clientCIDRs", writer(spec.client_cidrs.is_some()).field);
        let allow = cidrs(&block.allow, &format!("{field}.allow"), &mut findings.unacceptable);
        let deny = cidrs(&block.deny, &format!("{field}.deny"), &mut findings.unacceptable);
        let allow = (!block.allow.is_empty()).then_some(allow);
        access.addresses = Some(Arc::new(AddressRules { allow, deny }));
    }
    if let Some(block) = spec.authentication.as_ref().or(defaults.authentication.as_ref()) {
        let writer = writer(spec.authentication.is_some());
        let providers = block.providers.iter().enumerate().map(|(at, provider)| {
            let field = format!("{}.authentication.providers[{at}]", writer.field);
            provider_of(provider, writer, &field, lookup, findings)
        });
        let keeps = block.on_credential_expiry == Some(OnCredentialExpiry::Keep);
        let grace = (!keeps).then(|| block.expiry_grace.map(|grace| grace.0).unwrap_or_default());
        access.authentication = Some(Arc::new(Authentication { providers: providers.collect(), grace }));
    }
    access.origins = origins(spec, defaults, &access, other.field, &mut findings.unacceptable);
    if let Some(block) = spec.tls.as_ref().and_then(|tls| tls.frontend_validation.as_ref()) {
        access.certificates = Some(certificate::client_trust(block, route, lookup, findings));
    }
    (access.handshakes, access.connections) = limit::limits(spec, class, &mut findings.unacceptable);
    access
}

/// What is wrong with the access blocks among the defaults of a class. Its routes are told, too, and serve nobody: they
/// would stand open.
pub(super) fn class_faults(defaults: &Defaults) -> Vec<Fault> {
    let mut faults = Vec::new();
    if let Some(block) = &defaults.client_cidrs {
        cidrs(&block.allow, "spec.defaults.clientCIDRs.allow", &mut faults);
        cidrs(&block.deny, "spec.defaults.clientCIDRs.deny", &mut faults);
    }
    if let Some(Err(error)) = defaults.origins.as_ref().map(allow_list) {
        faults.push(Fault::new(reason::UNSUPPORTED_VALUE, format!("spec.defaults.origins.allowOrigins: {error}")));
    }
    for (at, provider) in defaults.authentication.iter().flat_map(|block| &block.providers).enumerate() {
        let field = format!("spec.defaults.authentication.providers[{at}]");
        for (block, what) in homeless(provider) {
            let message = format!("{field}.{block}: a class has no namespace of its own: {what}");
            faults.push(Fault::new(reason::UNSUPPORTED_VALUE, message));
        }
    }
    faults
}

/// The references of a provider that only make sense in a namespace, and what to do about them.
fn homeless(provider: &AuthenticationProvider) -> Vec<(&'static str, &'static str)> {
    const NAME_ONE: &str = "name one in every reference";
    let mut found = Vec::new();
    let lacking = |refs: &[CredentialRef]| refs.iter().any(|reference| reference.namespace.is_none());
    if let Some(block) = &provider.api_key {
        if lacking(&block.credential_refs) {
            found.push(("apiKey.credentialRefs", NAME_ONE));
        }
        if block.credential_selector.is_some() {
            found.push(("apiKey.credentialSelector", "use credentialRefs"));
        }
    }
    if provider.basic.as_ref().is_some_and(|block| lacking(&block.credential_refs)) {
        found.push(("basic.credentialRefs", NAME_ONE));
    }
    if let Some(block) = &provider.jwt {
        let keys = [&block.local_jwks, &block.secret_ref];
        if keys.into_iter().flatten().any(|reference| reference.namespace.is_none()) {
            found.push(("jwt", NAME_ONE));
        }
        if block.remote_jwks.as_ref().is_some_and(|remote| !remote.ca_certificate_refs.is_empty()) {
            found.push(("jwt.remoteJWKS.caCertificateRefs", "leave it out to use the system's authorities"));
        }
    }
    if provider.external.as_ref().is_some_and(|block| block.backend_ref.namespace.is_none()) {
        found.push(("external.backendRef", NAME_ONE));
    }
    found
}

/// The access of one rule: the route's, and whom the rule itself allows.
pub(super) fn rule_access(access: &Access, rule: &RouteRule, field: &str, faults: &mut Vec<Fault>) -> Access {
    let authorization = rule.authorization.as_ref().map(|block| {
        let mut principals = |written: &[crate::api::Principal], list: &str| {
            let one =
                |(at, principal)| self::principal(principal, &format!("{field}.authorization.{list}[{at}]"), faults);
            written.iter().enumerate().map(one).collect()
        };
        Arc::new(Authorization { allow: principals(&block.allow, "allow"), deny: principals(&block.deny, "deny") })
    });
    Access { authorization, ..access.clone() }
}

fn principal(written: &crate::api::Principal, field: &str, faults: &mut Vec<Fault>) -> Principal {
    let set = |texts: &[String]| {
        (!texts.is_empty()).then(|| texts.iter().map(|text| Box::from(text.as_str())).collect::<BTreeSet<_>>())
    };
    let addresses = cidrs(&written.client_cidrs, &format!("{field}.clientCIDRs"), faults);
    Principal {
        consumers: set(&written.consumers),
        claims: written.claims.iter().map(claim_condition).collect(),
        addresses: (!written.client_cidrs.is_empty()).then_some(addresses),
        subjects: set(&written.subjects),
        subject_alt_names: set(&written.subject_alt_names),
    }
}

fn claim_condition(written: &crate::api::ClaimMatch) -> ClaimCondition {
    let values = written.values.iter().map(|value| Box::from(value.as_str())).collect();
    ClaimCondition { name: written.name.as_str().into(), values }
}

/// The blocks of a list; what is none is a fault.
fn cidrs(written: &[String], field: &str, faults: &mut Vec<Fault>) -> CidrSet {
    let parsed = written.iter().enumerate().filter_map(|(at, text)| match text.parse() {
        Ok(block) => Some(block),
        Err(error) => {
            faults.push(Fault::new(reason::UNSUPPORTED_VALUE, format!("{field}[{at}]: {error}")));
            None
        }
    });
    parsed.collect()
}

fn allow_list(block: &OriginPolicy) -> Result<Origins, OriginError> {
    let missing = block.missing != Some(Missing::Deny);
    Origins::new(block.allow_origins.iter().map(String::as_str), missing)
}

/// The allow-list of origins; where a cookie authenticates and nobody says otherwise, the same origin only.
fn origins(
    spec: &WebSocketRouteSpec,
    defaults: &Defaults,
    access: &Access,
    defaults_field: &str,
    faults: &mut Vec<Fault>,
) -> Option<Arc<Origins>> {
    let Some(block) = spec.origins.as_ref().or(defaults.origins.as_ref()) else {
        let by_cookie = |provider: &Provider| match &provider.kind {
            ProviderKind::External(external) => external.request_headers.iter().any(|name| **name == *"cookie"),
            _ => provider.sources.iter().any(|source| matches!(source.place, Place::Cookie(_))),
        };
        let by_cookie = access.authentication.as_ref().is_some_and(|block| block.providers.iter().any(by_cookie));
        return by_cookie.then(|| Arc::new(Origins::same()));
    };
    let field = if spec.origins.is_some() { "spec" } else { defaults_field };
    match allow_list(block) {
        Ok(origins) => Some(Arc::new(origins)),
        Err(error) => {
            faults.push(Fault::new(reason::UNSUPPORTED_VALUE, format!("{field}.origins.allowOrigins: {error}")));
            None
        }
    }
}

fn provider_of(
    written: &AuthenticationProvider,
    writer: &Writer<'_>,
    field: &str,
    lookup: &mut Lookup<'_>,
    findings: &mut Findings,
) -> Provider {
    let kind = match written.kind {
        ProviderType::APIKey => api_key::ring(written.api_key.as_ref(), writer, field, lookup, findings),
        ProviderType::Basic => basic::passwords(written.basic.as_ref(), writer, field, lookup, findings),
        ProviderType::External => {
            trouble(written, writer, field, lookup, findings);
            external::external(written.external.as_ref(), writer, field, lookup, findings)
        }
        ProviderType::JWT => jwt::jwt(written.jwt.as_ref(), writer, field, lookup, findings),
    };
    let header = match written.kind {
        ProviderType::APIKey => written.api_key.as_ref().and_then(|block| block.forward_client_id_header.as_ref()),
        ProviderType::Basic => written.basic.as_ref().and_then(|block| block.forward_client_id_header.as_ref()),
        ProviderType::External | ProviderType::JWT => None,
    };
    let block = if written.kind == ProviderType::Basic { "basic" } else { "apiKey" };
    let header = header.and_then(|name| {
        header::own(name, &format!("{field}.{block}.forwardClientIDHeader"), &mut findings.unacceptable)
    });
    Provider {
        name: written.name.as_str().into(),
        sources: sources(written),
        forward_credential: written.forward_credential.unwrap_or_default(),
        consumer_header: header,
        kind,
    }
}

/// Tells the route when the data plane finds that a provider's service cannot be asked. Not why: that changes by the
/// minute, and the records of refused handshakes say it.
fn trouble(
    written: &AuthenticationProvider,
    writer: &Writer<'_>,
    field: &str,
    lookup: &mut Lookup<'_>,
    findings: &mut Findings,
) {
    let route = ObjectKey::new(&*writer.route.namespace, &*writer.route.name);
    if lookup.is_in_trouble(&route, &written.name) {
        let message = "its service cannot be asked at the moment, and handshakes that it should judge are refused with 503: \
                       the reject records say why";
        findings.unresolved.push(Fault::new(reason::AUTHORIZATION_SERVICE_UNAVAILABLE, message).at(field));
    }
}

/// Where a provider looks, the built-in place included.
fn sources(written: &AuthenticationProvider) -> Vec<Source> {
    const BEARER: &str = "Bearer ";
    let built_in = match written.kind {
        ProviderType::Basic => Some("Basic "),
        ProviderType::JWT if written.extract_from.is_empty() => Some(BEARER),
        ProviderType::APIKey | ProviderType::External | ProviderType::JWT => None,
    };
    if let Some(prefix) = built_in {
        let place = Place::Header("authorization".into());
        return vec![Source { place, prefix: prefix.into(), encoding: Encoding::Plain }];
    }
    let source = |source: &CredentialSource| {
        let place = match source.kind {
            CredentialSourceType::Cookie => Place::Cookie(source.name.as_str().into()),
            CredentialSourceType::Header => Place::Header(source.name.to_ascii_lowercase().into()),
            CredentialSourceType::QueryParam => Place::Query(source.name.as_str().into()),
            CredentialSourceType::Subprotocol => Place::Subprotocol(source.name.as_str().into()),
        };
        // As kubectl and its kin write a token that may have any character.
        let encoded = source.kind == CredentialSourceType::Subprotocol && source.name.starts_with("base64url.");
        let usual = if place == Place::Header("authorization".into()) { BEARER } else { "" };
        Source {
            place,
            prefix: source.prefix.as_deref().unwrap_or(usual).into(),
            encoding: match source.encoding {
                Some(CredentialEncoding::Base64URL) => Encoding::Base64Url,
                None if encoded => Encoding::Base64Url,
                None | Some(CredentialEncoding::Plain) => Encoding::Plain,
            },
        }
    };
    written.extract_from.iter().map(source).collect()
}

/// A provider that cannot work, for a reason that its route is told.
fn unavailable(fault: Fault, findings: &mut Findings) -> ProviderKind {
    let why = fault.message.as_str().into();
    findings.unresolved.push(fault);
    ProviderKind::Unavailable(why)
}

/// The block that belongs to a type is missing; the schema of a cluster lets no such object through.
fn no_block(name: &str, field: &str, findings: &mut Findings) -> ProviderKind {
    let message = format!("{field}.{name}: it is missing: set the block that belongs to the type");
    findings.unacceptable.push(Fault::new(reason::UNSUPPORTED_VALUE, message.clone()));
    ProviderKind::Unavailable(message.into())
}
