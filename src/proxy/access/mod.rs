//! Admission: whether a handshake that has found its rule may go on. Decided before any backend is dialled.
//!
//! ```text
//! client address ─ addresses ─ origin ─ rate ─ (turn) ─ certificate ─ credential ─ authorization ─ rate, slots
//! └───────────────── screen ────────────────┘           └────────────────────── admit ───────────────────────┘
//! ```
//!
//! Cheap questions come first, and what costs work comes behind the rate and behind the wait for a turn, where the
//! process has a pace (`overload`). Each step either passes or is one [`Denial`]. Nothing here knows where the rules
//! come from.

mod api_key;
mod certificate;
mod client;
mod credential;
mod edits;
mod external;
mod fingerprint;
mod inquiry;
mod password;
mod rates;
mod slots;
mod token;

pub(super) use certificate::PresentedCertificate;
pub(super) use client::detect;
pub(super) use credential::subprotocols;
pub use credential::{Ambiguous, Credential, find as find_credential};
pub use edits::Edits;
pub(super) use edits::is_header_value;
pub use inquiry::Inquiries;
pub(super) use password::Verifier;
pub(super) use rates::Rates;
pub(super) use slots::{Slots, SlotsHeld};

use super::Proxy;
use super::answer::Refusal;
use super::handshake::Offer;
use crate::routing::access::{
    Access, Admission, Authentication, Identity, OriginVerdict, Provider, ProviderKind, RateKey,
};
use crate::routing::{Rule, Scheme};
use crate::telemetry::HandshakeReason;
use crate::telemetry::access::Who;
use http::StatusCode;
use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::time::Instant;

/// Why a handshake goes no further.
#[derive(Debug)]
pub(super) struct Denial {
    /// What the client is told.
    pub(super) refusal: Refusal,
    /// The label.
    pub(super) reason: HandshakeReason,
    /// What the record says.
    pub(super) detail: Cow<'static, str>,
    /// Who is refused, as far as that was found out.
    pub(super) who: Option<Box<Who>>,
}

impl Denial {
    /// A denial whose text is no secret.
    pub(super) fn new(status: StatusCode, reason: HandshakeReason, text: impl Into<Cow<'static, str>>) -> Self {
        let text = text.into();
        Self { refusal: Refusal::new(status, text.clone()), reason, detail: text, who: None }
    }

    /// Has the record say more than the client is told.
    #[must_use]
    pub(super) fn detailed(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.detail = detail.into();
        self
    }

    /// Notes the provider that it comes from.
    #[must_use]
    fn of(mut self, provider: &Provider) -> Self {
        self.who = Some(Box::new(Who { consumer: None, provider: Some(Arc::clone(&provider.name)) }));
        self
    }

    /// Notes who is refused.
    #[must_use]
    fn to(mut self, admission: &Admission) -> Self {
        let provider = admission.identity.as_ref().map(|identity| Arc::clone(&identity.provider));
        self.who = Some(Box::new(Who { consumer: admission.consumer().map(Arc::clone), provider }));
        self
    }
}

/// A handshake that may go on.
#[derive(Debug, Default)]
pub(super) struct Admitted {
    /// What let it in; `None` where nothing was asked.
    pub(super) admission: Option<Box<Admission>>,
    /// In what the handshake that goes upstream differs.
    pub(super) edits: Edits,
    /// Its places among the sessions there may be; given back when dropped.
    pub(super) slots: SlotsHeld,
}

/// What providers may look at.
pub(super) struct Asked<'a> {
    pub(super) proxy: &'a Proxy,
    pub(super) rule: &'a Rule,
    pub(super) offer: &'a Offer,
    /// The client's address, as detected.
    pub(super) client: IpAddr,
    /// Seconds since 1970.
    pub(super) now: i64,
    /// When the handshake must be answered.
    pub(super) deadline: Instant,
}

/// Judges of `offer` what costs next to nothing.
pub(super) fn screen(proxy: &Proxy, rule: &Rule, offer: &Offer, client: IpAddr) -> Result<(), Denial> {
    let access = &*rule.access;
    if access.addresses.as_ref().is_some_and(|rules| !rules.admit(client)) {
        let text = "clients of this address are not allowed";
        return Err(Denial::new(StatusCode::FORBIDDEN, HandshakeReason::AddressDenied, text));
    }
    check_origin(access, offer, offer.scheme == Scheme::Wss)?;
    match access.handshakes.as_ref().filter(|limit| limit.key != RateKey::Consumer) {
        Some(limit) => proxy.counts.rates.handshake(limit, &rule.id.route, offer, client, None),
        None => Ok(()),
    }
}

/// Judges the rest of `offer`, which has been screened.
pub(super) async fn admit(
    proxy: &Proxy,
    rule: &Rule,
    offer: &Offer,
    client: IpAddr,
    presented: Option<&PresentedCertificate>,
    deadline: Instant,
) -> Result<Admitted, Denial> {
    let access = &*rule.access;
    if access.is_open() {
        return Ok(Admitted::default());
    }
    let now = seconds();
    let secure = offer.scheme == Scheme::Wss;
    let route = &rule.id.route;
    let certificate = certificate::check(access, presented, now)?;
    let asked = Asked { proxy, rule, offer, client, now, deadline };
    let (identity, mut edits) = match &access.authentication {
        None => (None, Edits::default()),
        Some(authentication) => {
            let (identity, edits) = authenticate(authentication, &asked).await?;
            (Some(identity), edits)
        }
    };
    edits.own(access, certificate.as_ref(), offer);
    let origin = origin(offer).map(Box::from);
    let authority = offer.authority.clone();
    let admission = Admission { client, origin, authority, secure, certificate, identity };
    if access.authorization.as_ref().is_some_and(|authorization| !authorization.admits(&admission)) {
        let who = admission.consumer().map_or("a nameless client".to_owned(), |name| format!("{name:?}"));
        let denial = Denial::new(StatusCode::FORBIDDEN, HandshakeReason::Forbidden, "not allowed to use this route");
        let detail = format!("{who} is not among those that the rule's authorization allows");
        return Err(denial.detailed(detail).to(&admission));
    }
    if let Some(limit) = access.handshakes.as_ref().filter(|limit| limit.key == RateKey::Consumer) {
        let rates = &proxy.counts.rates;
        rates.handshake(limit, route, offer, client, admission.consumer()).map_err(|denial| denial.to(&admission))?;
    }
    let slots = proxy.sessions.slots.take(&access.connections, route, client, admission.consumer());
    let slots = slots.map_err(|denial| denial.to(&admission))?;
    Ok(Admitted { admission: Some(Box::new(admission)), edits, slots })
}

/// C17: the page's origin (RFC 6455 §10.2).
fn check_origin(access: &Access, offer: &Offer, secure: bool) -> Result<(), Denial> {
    let Some(origins) = &access.origins else { return Ok(()) };
    let text = match origins.judge(origin(offer), &offer.authority, secure) {
        OriginVerdict::Allowed => return Ok(()),
        OriginVerdict::Missing => "an Origin header is needed here",
        OriginVerdict::NotAllowed => "pages of this origin may not connect here",
    };
    Err(Denial::new(StatusCode::FORBIDDEN, HandshakeReason::OriginDenied, text))
}

/// `Origin`, if there is exactly one; several are as good as a wrong one.
pub(super) fn origin(offer: &Offer) -> Option<&str> {
    let mut lines = offer.head.fields.all("origin");
    let first = lines.next()?;
    let text = std::str::from_utf8(first).unwrap_or("malformed");
    Some(if lines.next().is_some() { "several" } else { text })
}

/// Asks the providers in order; the first that finds a credential decides.
async fn authenticate(authentication: &Authentication, asked: &Asked<'_>) -> Result<(Identity, Edits), Denial> {
    for provider in &authentication.providers {
        let found = match &provider.kind {
            ProviderKind::ApiKey(ring) => api_key::identify(ring, provider, asked),
            ProviderKind::External(external) => external::identify(external, provider, asked).await,
            ProviderKind::Jwt(jwt) => token::identify(jwt, provider, asked).await,
            ProviderKind::Password(passwords, _) => password::identify(passwords, provider, asked).await,
            ProviderKind::Unavailable(why) => unavailable(why, provider, asked),
        };
        if let Some((identity, mut edits)) = found? {
            edits.decided(provider, &identity);
            return Ok((identity, edits));
        }
    }
    let denial = Denial::new(StatusCode::UNAUTHORIZED, HandshakeReason::Unauthenticated, "a credential is needed here");
    Err(challenge(denial, &authentication.providers))
}

/// A provider that cannot decide: whoever means it is refused, and so is whoever might.
fn unavailable(why: &str, provider: &Provider, asked: &Asked<'_>) -> Found {
    let found = credential::find(&provider.sources, asked.offer)?.is_some();
    if !found && !provider.sources.is_empty() {
        return Ok(None);
    }
    Err(cannot_decide(provider, why.to_owned()))
}

/// 503: not the client's fault, and not an open door either.
pub(super) fn cannot_decide(provider: &Provider, why: impl std::fmt::Display) -> Denial {
    let text = "credentials cannot be checked at the moment: try again later";
    Denial::new(StatusCode::SERVICE_UNAVAILABLE, HandshakeReason::AuthUnavailable, text)
        .detailed(format!("provider {}: {why}", provider.name))
        .of(provider)
}

/// 401 for a credential that is wrong. `detail` is for the record and holds nothing of the credential.
pub(super) fn wrong(provider: &Provider, detail: impl std::fmt::Display) -> Denial {
    let denial = Denial::new(StatusCode::UNAUTHORIZED, HandshakeReason::Unauthenticated, "the credential is not valid");
    let denial = denial.detailed(format!("provider {}: {detail}", provider.name)).of(provider);
    challenge(denial, std::slice::from_ref(provider))
}

/// Says which schemes would be taken (RFC 9110 §11.6.1), where there is one.
fn challenge(mut denial: Denial, providers: &[Provider]) -> Denial {
    for provider in providers {
        let scheme = match &provider.kind {
            ProviderKind::Password(_, realm) => format!("Basic realm=\"{realm}\", charset=\"UTF-8\""),
            ProviderKind::Jwt(_) => "Bearer".to_owned(),
            _ => continue,
        };
        denial.refusal = denial.refusal.header("WWW-Authenticate", scheme);
    }
    denial
}

/// Seconds since 1970.
pub(super) fn seconds() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs().try_into().unwrap_or(0))
}

/// What a provider came to: `None` when the handshake has no credential of its kind.
pub(super) type Found = Result<Option<(Identity, Edits)>, Denial>;
