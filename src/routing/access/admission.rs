//! What let a session in: kept for as long as it lives, so that it can be judged again without its credential.
//!
//! No credential is kept, nor anything it could be guessed from faster than from a Secret's own hash.

use super::certificate::ClientCertificate;
use serde_json::{Map, Value};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// A handshake that was let in.
#[derive(Clone, Debug)]
pub struct Admission {
    /// The client's address, as detected.
    pub client: IpAddr,
    /// `Origin` as it came.
    pub origin: Option<Box<str>>,
    /// `Host` as it came, with its port.
    pub authority: Box<str>,
    /// Whether it came over TLS.
    pub secure: bool,
    /// The client's certificate, once it has been found valid.
    pub certificate: Option<ClientCertificate>,
    /// Who it is; `None` where nobody asked.
    pub identity: Option<Identity>,
}

impl Admission {
    /// That of a handshake of which nothing was asked.
    pub fn bare(client: IpAddr, origin: Option<Box<str>>, secure: bool) -> Self {
        Self { client, origin, authority: Box::default(), secure, certificate: None, identity: None }
    }

    /// When the credential that let it in expires, in seconds since 1970.
    pub fn expires(&self) -> Option<i64> {
        self.identity.as_ref().and_then(|identity| identity.expires)
    }

    /// The name of the client, if it has one.
    pub fn consumer(&self) -> Option<&Arc<str>> {
        self.identity.as_ref()?.consumer.as_ref()
    }
}

/// Who a client is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The provider that found it out.
    pub provider: Arc<str>,
    /// Its name.
    pub consumer: Option<Arc<str>>,
    /// By what.
    pub fact: Fact,
    /// When its credential expires, leeway included, in seconds since 1970.
    pub expires: Option<i64>,
}

/// What an identity rests on.
#[derive(Clone)]
pub enum Fact {
    /// A key, by its digest.
    ApiKey([u8; 32]),
    /// The answer of an external service.
    External,
    /// A token: the key it is signed with, by its fingerprint, and its claims.
    Jwt {
        /// Fingerprint of the key.
        key: [u8; 32],
        /// The claims.
        claims: Box<Map<String, Value>>,
    },
    /// A user, and the digest of the entry that holds the password's hash.
    Password([u8; 32]),
}

impl fmt::Debug for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ApiKey(_) => "ApiKey",
            Self::External => "External",
            Self::Jwt { .. } => "Jwt",
            Self::Password(_) => "Password",
        })
    }
}

/// Why a live session would not be let in any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revoked {
    /// Its credential is no longer accepted.
    Credential,
    /// Its credential has expired.
    Expired,
    /// The credential is good, the rules are others.
    Policy,
}
