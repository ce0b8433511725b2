//! What an object of ours names: the Secrets and ConfigMaps whose content compile will ask for, and which entries.
//!
//! The control wing keeps nothing else of them in memory. Whether a reference is permitted is not decided here.

use super::certificate::{CHAIN_KEY, PRIVATE_KEY};
use super::snapshot::ObjectKey;
use super::trust::CA_KEY;
use crate::api::{Authentication, CaKind, CredentialRef, WebSocketClass, WebSocketRoute};
use std::collections::BTreeMap;
use std::fmt;

/// An object whose content is needed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reference {
    /// A ConfigMap, of which the entries that [`Reference::wants`] says yes to are looked at.
    ConfigMap(ObjectKey),
    /// A Secret of credentials, of which every entry is looked at.
    Credentials(ObjectKey),
    /// A Secret of API keys, of which every entry's digest is looked at, and none itself.
    Keys(ObjectKey),
    /// A Secret, of which the entries that [`Reference::wants`] says yes to are looked at.
    Secret(ObjectKey),
    /// Secrets of API keys by their labels.
    Selected(Selection),
}

impl Reference {
    /// Whether an entry of this name is ever asked for, but for Secrets of credentials.
    pub fn wants(entry: &str) -> bool {
        matches!(entry, CA_KEY | CHAIN_KEY | PRIVATE_KEY)
    }
}

/// Secrets by their labels. Shown as the API server takes it: `team=chat,use=api-key`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Selection {
    /// Where they are: with the route that selects them.
    pub namespace: String,
    /// What they are labelled with, all of it. Without any label nothing is selected.
    pub labels: BTreeMap<String, String>,
}

impl Selection {
    /// Whether it selects a Secret of `namespace` with `labels`.
    pub fn selects(&self, namespace: &str, labels: &BTreeMap<String, String>) -> bool {
        self.namespace == namespace && selects(&self.labels, labels)
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (name, value)) in self.labels.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{name}={value}")?;
        }
        Ok(())
    }
}

/// Whether `labels` has all that is `wanted`, which is something.
pub(super) fn selects(wanted: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    !wanted.is_empty() && wanted.iter().all(|(name, value)| labels.get(name) == Some(value))
}

/// What an object names.
pub trait Refers {
    /// Every reference, in no order, perhaps several times.
    fn references(&self) -> Vec<Reference>;
}

impl Refers for WebSocketClass {
    fn references(&self) -> Vec<Reference> {
        let certificate = self.spec.default_certificate_ref.iter();
        let certificate = certificate.map(|r| Reference::Secret(ObjectKey::new(&r.namespace, &r.name)));
        let defaults = self.spec.defaults.iter().flat_map(|defaults| &defaults.authentication);
        certificate.chain(defaults.flat_map(|block| authentication(block, None))).collect()
    }
}

impl Refers for WebSocketRoute {
    fn references(&self) -> Vec<Reference> {
        let own = self.metadata.namespace.as_deref().unwrap_or("default");
        let key = |namespace: Option<&String>, name: &str| ObjectKey::new(namespace.map_or(own, |n| n), name);
        let certificates = self.spec.tls.iter().flat_map(|tls| &tls.certificate_refs);
        let mut found: Vec<_> = certificates.map(|r| Reference::Secret(key(r.namespace.as_ref(), &r.name))).collect();
        let bundle = |kind, name: &str| match kind {
            CaKind::ConfigMap => Reference::ConfigMap(key(None, name)),
            CaKind::Secret => Reference::Secret(key(None, name)),
        };
        for tls in self.spec.rules.iter().filter_map(|rule| rule.backend_tls.as_ref()) {
            found.extend(tls.ca_certificate_refs.iter().map(|reference| bundle(reference.kind, &reference.name)));
            found.extend(tls.client_certificate_ref.iter().map(|r| Reference::Secret(key(None, &r.name))));
        }
        let clients = self.spec.tls.iter().flat_map(|tls| &tls.frontend_validation);
        let clients = clients.flat_map(|block| &block.ca_certificate_refs);
        found.extend(clients.map(|reference| bundle(reference.kind, &reference.name)));
        let jwt = self.spec.authentication.iter().flat_map(|block| &block.providers).flat_map(|p| &p.jwt);
        let issuers = jwt.flat_map(|jwt| &jwt.remote_jwks).flat_map(|jwks| &jwks.ca_certificate_refs);
        found.extend(issuers.map(|reference| bundle(reference.kind, &reference.name)));
        found.extend(self.spec.authentication.iter().flat_map(|block| authentication(block, Some(own))));
        found
    }
}

/// The Secrets of credentials that `block` names; `own` is the namespace of the route that wrote it.
fn authentication(block: &Authentication, own: Option<&str>) -> Vec<Reference> {
    let mut found = Vec::new();
    for provider in &block.providers {
        // What a class names without a namespace names nothing, which compile tells.
        let key = |reference: &CredentialRef| {
            let namespace = reference.namespace.as_deref().or(own)?;
            Some(ObjectKey::new(namespace, &reference.name))
        };
        let keys = provider.api_key.iter().flat_map(|block| &block.credential_refs);
        found.extend(keys.filter_map(key).map(Reference::Keys));
        let users = provider.basic.iter().flat_map(|block| &block.credential_refs);
        let tokens = provider.jwt.iter().flat_map(|block| block.local_jwks.iter().chain(&block.secret_ref));
        found.extend(users.chain(tokens).filter_map(key).map(Reference::Credentials));
        // Nor does what it selects: it has no namespace to select in.
        let selector = provider.api_key.as_ref().and_then(|block| block.credential_selector.as_ref());
        found.extend(selector.zip(own).map(|(selector, own)| {
            Reference::Selected(Selection { namespace: own.to_owned(), labels: selector.match_labels.clone() })
        }));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_named_by_reference_and_by_label() {
        let route: WebSocketRoute = serde_saphyr::from_str(
            "{apiVersion: sheave.dev/v1alpha1, kind: WebSocketRoute, metadata: {name: r, namespace: n}, spec: {
              authentication: {providers: [
                {name: a, type: APIKey, apiKey: {credentialRefs: [{name: k}, {name: k, namespace: m}],
                                                 credentialSelector: {matchLabels: {a: b, c: d}}}},
                {name: b, type: Basic, basic: {credentialRefs: [{name: u}]}},
                {name: c, type: JWT, jwt: {localJWKS: {name: j}}},
                {name: d, type: JWT, jwt: {secretRef: {name: s}}}]},
              rules: []}}",
        )
        .expect("a route");
        let key = |namespace: &str, name: &str| Reference::Keys(ObjectKey::new(namespace, name));
        let whole = |name: &str| Reference::Credentials(ObjectKey::new("n", name));
        let labels = [("a".to_owned(), "b".to_owned()), ("c".to_owned(), "d".to_owned())].into();
        let selection = Selection { namespace: "n".to_owned(), labels };
        assert_eq!(selection.to_string(), "a=b,c=d");
        let selected = Reference::Selected(selection);
        let expected = [key("n", "k"), key("m", "k"), selected, whole("u"), whole("j"), whole("s")];
        assert_eq!(route.references(), expected);
    }

    #[test]
    fn the_authorities_of_clients_are_named() {
        let route: WebSocketRoute = serde_saphyr::from_str(
            "{apiVersion: sheave.dev/v1alpha1, kind: WebSocketRoute, metadata: {name: r, namespace: n}, spec: {
              tls: {frontendValidation: {caCertificateRefs: [{name: a}, {kind: Secret, name: b}]}}, rules: []}}",
        )
        .expect("a route");
        let key = |name: &str| ObjectKey::new("n", name);
        assert_eq!(route.references(), [Reference::ConfigMap(key("a")), Reference::Secret(key("b"))]);
    }

    #[test]
    fn a_selection_without_labels_selects_nothing() {
        let labels: BTreeMap<_, _> = [("a".to_owned(), "b".to_owned())].into();
        assert!(!selects(&BTreeMap::new(), &labels) && selects(&labels, &labels));
        assert!(!selects(&labels, &BTreeMap::new()));
    }
}
