//! Authentication providers: where a credential is looked for, and what judges it.

use super::admission::{Fact, Identity, Revoked};
use super::external::External;
use super::jwt::Jwt;
use super::key_ring::KeyRing;
use super::password::Passwords;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

/// How clients say who they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Authentication {
    /// In order: the first that finds a credential decides.
    pub providers: Vec<Provider>,
    /// How long after its credential's expiry a session goes on; `None` for ever.
    pub grace: Option<Duration>,
}

/// One way to say it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Provider {
    /// Its name, unique in the route.
    pub name: Arc<str>,
    /// Where its credential may be, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<Source>,
    /// Whether the credential reaches the backend.
    pub forward_credential: bool,
    /// A header in which the backend is told the client's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumer_header: Option<Box<str>>,
    /// What judges it.
    pub kind: ProviderKind,
}

/// What judges a credential.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum ProviderKind {
    /// A key of this ring.
    ApiKey(Arc<KeyRing>),
    /// A service.
    External(External),
    /// Keys and rules for tokens.
    Jwt(Arc<Jwt>),
    /// Users with passwords, and the realm.
    Password(Arc<Passwords>, Box<str>),
    /// Nothing: what it needs is not there, and this is why. Its credentials are refused with 503.
    Unavailable(Box<str>),
}

/// Where a credential may be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Source {
    /// The place.
    pub place: Place,
    /// Before the credential, compared without case; empty for nothing.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub prefix: Box<str>,
    /// How it is written.
    pub encoding: Encoding,
}

/// A place in a handshake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Place {
    /// A cookie of this name.
    Cookie(Box<str>),
    /// A header of this name, lower case.
    Header(Box<str>),
    /// A query parameter of this name.
    Query(Box<str>),
    /// What follows this start of an offered subprotocol.
    Subprotocol(Box<str>),
}

/// How a credential is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum Encoding {
    /// Base64url without padding.
    Base64Url,
    /// As it is.
    #[default]
    Plain,
}

impl Authentication {
    /// Whether a session of `identity` would still be let in, `now` in seconds since 1970.
    ///
    /// # Errors
    /// What has become of it.
    pub fn stands(&self, identity: Option<&Identity>, now: i64) -> Result<(), Revoked> {
        let Some(identity) = identity else { return Err(Revoked::Policy) };
        let Some(provider) = self.providers.iter().find(|provider| provider.name == identity.provider) else {
            return Err(Revoked::Policy);
        };
        let grace = self.grace.map(|grace| i64::try_from(grace.as_secs()).unwrap_or(i64::MAX));
        if let (Some(expires), Some(grace)) = (identity.expires, grace)
            && expires.saturating_add(grace) <= now
        {
            return Err(Revoked::Expired);
        }
        let held = |held: bool| if held { Ok(()) } else { Err(Revoked::Credential) };
        match (&provider.kind, &identity.fact) {
            (ProviderKind::ApiKey(ring), Fact::ApiKey(digest)) => {
                held(ring.client(digest).is_some_and(|client| Some(client) == identity.consumer.as_ref()))
            }
            (ProviderKind::Password(passwords, _), Fact::Password(entry)) => {
                held(identity.consumer.as_ref().is_some_and(|user| passwords.has(user, entry)))
            }
            (ProviderKind::Jwt(jwt), Fact::Jwt { key, claims }) => jwt.stands(key, claims),
            (ProviderKind::External(_), Fact::External) => Ok(()),
            // Its Secret is gone, and with it the credential.
            (ProviderKind::Unavailable(_), _) => Err(Revoked::Credential),
            _ => Err(Revoked::Policy),
        }
    }
}
