//! Edits: in what the handshake that goes upstream differs from the one that came.
//!
//! Decides which lines, cookies, parameters and subprotocols pass. How the request is written is `forward`'s.

use super::credential;
use crate::proxy::fields::fold_alike;
use crate::proxy::handshake::Offer;
use crate::routing::access::{Access, ClientCertificate, Identity, Provider, ProviderKind, header_value};
use std::borrow::Cow;

/// What is taken out and what is put in. `Debug` shows no value.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Edits {
    /// Headers that do not pass, in whatever spelling a backend may read as theirs; lower case.
    pub without_headers: Vec<Box<str>>,
    /// Cookies that do not pass.
    pub without_cookies: Vec<Box<str>>,
    /// Query parameters that do not pass, as decoded.
    pub without_query: Vec<Box<str>>,
    /// Offered subprotocols that do not pass.
    pub without_subprotocols: Vec<Box<str>>,
    /// Headers of ours; a client's own copies do not pass. One with a control character is left out.
    pub with_headers: Vec<(Box<str>, Box<[u8]>)>,
}

impl std::fmt::Debug for Edits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut edits = f.debug_struct("Edits");
        edits.field("without_headers", &self.without_headers).field("without_cookies", &self.without_cookies);
        edits.field("without_query", &self.without_query);
        edits.field("without_subprotocols", &self.without_subprotocols.len());
        edits.field("with_headers", &self.with_headers.iter().map(|(name, _)| name).collect::<Vec<_>>());
        edits.finish()
    }
}

impl Edits {
    /// Takes out every header that only Sheave may set under `access`, and every subprotocol that carries a credential,
    /// whoever decided; puts in what `certificate` says.
    pub(super) fn own(&mut self, access: &Access, certificate: Option<&ClientCertificate>, offer: &Offer) {
        for provider in access.authentication.iter().flat_map(|block| &block.providers) {
            self.without_headers.extend(provider.consumer_header.clone());
            match &provider.kind {
                ProviderKind::External(external) => {
                    self.without_headers.extend(external.response_headers.iter().cloned());
                }
                ProviderKind::Jwt(jwt) => self.without_headers.extend(jwt.headers().map(Box::from)),
                ProviderKind::ApiKey(_) | ProviderKind::Password(..) | ProviderKind::Unavailable(_) => {}
            }
        }
        self.without_subprotocols.extend(credential::subprotocols(access, offer));
        if let Some(trust) = &access.certificates {
            let subject = |certificate: &ClientCertificate| certificate.subject.to_string();
            self.own_of(trust.subject_header.as_deref(), certificate.map(subject));
            let names = |certificate: &ClientCertificate| header_value(&certificate.subject_alt_names);
            self.own_of(trust.subject_alt_names_header.as_deref(), certificate.map(names));
        }
    }

    /// Keeps a header for ourselves: a client's copies never pass, with or without one of ours.
    fn own_of(&mut self, header: Option<&str>, value: Option<String>) {
        let Some(header) = header else { return };
        self.without_headers.push(header.into());
        if let Some(value) = value {
            self.with_headers.push((header.into(), value.into_bytes().into()));
        }
    }

    /// What follows from `provider` having decided: the backend is told the client's name, and the credential passes if it
    /// is to. Of a subprotocol it never does.
    pub(super) fn decided(&mut self, provider: &Provider, identity: &Identity) {
        if provider.forward_credential {
            self.without_headers.clear();
            self.without_cookies.clear();
            self.without_query.clear();
        }
        if let (Some(header), Some(consumer)) = (&provider.consumer_header, &identity.consumer) {
            self.with_headers.push((header.clone(), consumer.as_bytes().into()));
        }
    }

    /// Whether a client's header line of this name passes.
    pub(in crate::proxy) fn passes(&self, name: &str) -> bool {
        let ours = self.with_headers.iter().map(|(name, _)| name);
        !self.without_headers.iter().chain(ours).any(|taken| fold_alike(name.as_bytes(), taken.as_bytes()))
    }

    /// The offered subprotocols that pass, in order.
    pub(in crate::proxy) fn subprotocols<'o>(&self, offer: &'o Offer) -> impl Iterator<Item = &'o str> {
        offer.subprotocols.iter().filter(|name| !self.without_subprotocols.contains(name)).map(|name| &**name)
    }

    /// Path and query without the parameters that do not pass; the rest byte for byte.
    pub(in crate::proxy) fn target<'o>(&self, offer: &'o Offer) -> Cow<'o, str> {
        let Some(query) = offer.query().filter(|_| !self.without_query.is_empty()) else {
            return Cow::Borrowed(offer.target());
        };
        let named = |name: &String| self.without_query.iter().any(|gone| **gone == **name);
        let kept: Vec<&str> =
            credential::parameters(query).filter(|(_, name)| !named(name)).map(|(part, _)| part).collect();
        let question = if kept.is_empty() { "" } else { "?" };
        Cow::Owned([offer.path(), question, &kept.join("&")].concat())
    }

    /// A line of cookies without those that do not pass; `None` when none is left.
    pub(in crate::proxy) fn cookies<'l>(&self, line: &'l [u8]) -> Option<Cow<'l, [u8]>> {
        let gone = |name: &[u8]| self.without_cookies.iter().any(|gone| gone.as_bytes() == name);
        if !credential::cookies(line).any(|(name, _)| gone(name)) {
            return Some(Cow::Borrowed(line));
        }
        let pairs = line.split(|byte| *byte == b';').zip(credential::cookies(line));
        let kept: Vec<&[u8]> = pairs.filter(|(_, (name, _))| !gone(name)).map(|(pair, _)| pair.trim_ascii()).collect();
        let any = kept.iter().any(|pair| !pair.is_empty());
        any.then(|| Cow::Owned(kept.join(&b"; "[..])))
    }
}

/// Whether `value` may stand in a header line (RFC 9110 §5.5).
pub(in crate::proxy) fn is_header_value(value: &[u8]) -> bool {
    !value.iter().any(u8::is_ascii_control)
}
