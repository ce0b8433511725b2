//! Access: who may open a session under a rule, and by what a live one is judged again when the table changes.
//!
//! Values only. How a credential is found and checked is `proxy::access`'s; what a check came to is an [`Admission`], and
//! [`Access::stands`] says whether the same handshake would be let in today.

mod address;
mod admission;
mod authorization;
mod certificate;
mod cidr;
mod detection;
mod external;
mod jwt;
mod key_ring;
mod limit;
mod origin;
mod password;
mod provider;
mod subject;

pub use address::AddressRules;
pub use admission::{Admission, Fact, Identity, Revoked};
pub use authorization::{Authorization, ClaimCondition, Principal, claim, claim_values};
pub use certificate::{ClientCertificate, ClientTrust};
pub use cidr::{Cidr, CidrError, CidrSet};
pub use detection::{ClientDetection, ProxyProtocol};
pub use external::External;
pub use jwt::{Jwt, Keys, MOST_TRIES, Token, TokenFault, TokenKey, sha256};
pub use key_ring::{KeyRing, SharedKey};
pub use limit::{ConnectionLimits, HandshakeRate, Rate, RateKey, counted_address};
pub use origin::{OriginError, OriginVerdict, Origins};
pub use password::{Entry as PasswordEntry, HashError, PasswordHash, Passwords};
pub use provider::{Authentication, Encoding, Place, Provider, ProviderKind, Source};
pub use subject::header_value;

use serde::Serialize;
use std::sync::Arc;

/// Everything that a handshake is judged by before a backend is dialled. The default lets everybody in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Access {
    /// How the client's address is found: the class's.
    #[serde(skip_serializing_if = "ClientDetection::is_direct")]
    pub detection: Arc<ClientDetection>,
    /// From which addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub addresses: Option<Arc<AddressRules>>,
    /// From which pages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origins: Option<Arc<Origins>>,
    /// With a certificate of whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificates: Option<Arc<ClientTrust>>,
    /// With which credential.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authentication: Option<Arc<Authentication>>,
    /// Who of those.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorization: Option<Arc<Authorization>>,
    /// How often.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handshakes: Option<HandshakeRate>,
    /// How many at a time.
    #[serde(skip_serializing_if = "ConnectionLimits::is_none")]
    pub connections: ConnectionLimits,
}

impl Access {
    /// Whether it asks nothing of anybody.
    pub fn is_open(&self) -> bool {
        self.addresses.is_none()
            && self.origins.is_none()
            && self.certificates.is_none()
            && self.authentication.is_none()
            && self.authorization.is_none()
            && self.handshakes.is_none()
            && self.connections.is_none()
    }

    /// Whether there is nothing to tell of it.
    pub(super) fn is_plain(&self) -> bool {
        self.is_open() && self.detection.is_direct()
    }

    /// Whether a session that was let in by `admission` would still be, `now` in seconds since 1970. Rates and numbers
    /// of sessions are not asked again: they bound what is new.
    ///
    /// # Errors
    /// What has become of it.
    pub fn stands(&self, admission: &Admission, now: i64) -> Result<(), Revoked> {
        if self.addresses.as_ref().is_some_and(|rules| !rules.admit(admission.client)) {
            return Err(Revoked::Policy);
        }
        let judge =
            |origins: &Arc<Origins>| origins.judge(admission.origin.as_deref(), &admission.authority, admission.secure);
        if self.origins.as_ref().is_some_and(|origins| judge(origins) != OriginVerdict::Allowed) {
            return Err(Revoked::Policy);
        }
        if let Some(trust) = &self.certificates {
            trust.stands(admission.certificate.as_ref(), now)?;
        }
        if let Some(authentication) = &self.authentication {
            authentication.stands(admission.identity.as_ref(), now)?;
        }
        let Some(authorization) = &self.authorization else { return Ok(()) };
        // Where certificates are no longer asked for, nobody is known by one.
        let admitted = if self.certificates.is_none() && admission.certificate.is_some() {
            authorization.admits(&Admission { certificate: None, ..admission.clone() })
        } else {
            authorization.admits(admission)
        };
        if admitted { Ok(()) } else { Err(Revoked::Policy) }
    }
}
