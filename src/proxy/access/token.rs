//! JSON Web Tokens (RFC 7519): who a token says the client is.
//!
//! Finds the token and has the rule's [`Jwt`] judge it. When the token names a key that is not known, the issuer may have
//! a new one: the control wing is told, and the handshake waits a little for a table that has it.

use super::credential::{self, Credential};
use super::{Asked, Denial, Found, cannot_decide, wrong};
use crate::feedback::Report;
use crate::routing::RoutingTable;
use crate::routing::access::{Fact, Identity, Jwt, Keys, Provider, ProviderKind, Token, TokenFault};
use crate::telemetry::HandshakeReason;
use http::StatusCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How long a handshake waits for keys that are not known yet.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Finds the token and verifies it.
pub(super) async fn identify(jwt: &Jwt, provider: &Provider, asked: &Asked<'_>) -> Found {
    let Some(Credential { value, removal }) = credential::find(&provider.sources, asked.offer)? else {
        return Ok(None);
    };
    let mut edits = removal;
    let (judge, token) = match judge(jwt, &value, asked.now) {
        Judged::Open => later(jwt, provider, &value, asked).await?,
        Judged::Done(done) => (None, done.map_err(|fault| denial(jwt, provider, &fault))?),
    };
    let jwt = judge.as_deref().unwrap_or(jwt);
    edits.with_headers.extend(jwt.told(&token.claims).map(|(name, value)| (name.into(), value.into_bytes().into())));
    let identity = Identity {
        provider: Arc::clone(&provider.name),
        consumer: jwt.consumer(&token.claims),
        expires: token.expires,
        fact: Fact::Jwt { key: token.key, claims: Box::new(token.claims) },
    };
    Ok(Some((identity, edits)))
}

/// What the keys of the moment say.
enum Judged {
    /// This is so whatever comes.
    Done(Result<Token, TokenFault>),
    /// Keys that the issuer may have would decide it.
    Open,
}

fn judge(jwt: &Jwt, token: &[u8], now: i64) -> Judged {
    match (jwt.verify(token, now), &jwt.keys) {
        (Err(TokenFault::UnknownKey), Keys::Awaited(None) | Keys::Known(_)) if jwt.remote.is_some() => Judged::Open,
        (verdict, _) => Judged::Done(verdict),
    }
}

/// Judges again by each table that comes, until one decides or the time is over.
async fn later(
    jwt: &Jwt,
    provider: &Provider,
    token: &[u8],
    asked: &Asked<'_>,
) -> Result<(Option<Arc<Jwt>>, Token), Denial> {
    let mut tables = asked.proxy.table.clone();
    let mut last = None;
    let mut told = false;
    let decided = async {
        loop {
            let table = Arc::clone(&tables.borrow_and_update());
            // Gone altogether: whatever the rule says now, the next handshake is told.
            let newer = in_table(&table, provider, asked)?;
            if let Judged::Done(done) = judge(&newer, token, asked.now) {
                return Some((newer, done));
            }
            // Keys that are awaited are being fetched already.
            if let (Keys::Known(_), Some(source), false) = (&newer.keys, &newer.remote, told) {
                told = true;
                asked.proxy.reporter.report(Report::UnknownKey { uri: Arc::clone(source) });
            }
            last = Some(newer);
            tables.changed().await.ok()?;
        }
    };
    match timeout_at(asked.deadline.min(Instant::now() + LONGEST_WAIT), decided).await {
        Ok(Some((newer, Ok(token)))) => Ok((Some(newer), token)),
        Ok(Some((newer, Err(fault)))) => Err(denial(&newer, provider, &fault)),
        Ok(None) | Err(_) => Err(denial(last.as_deref().unwrap_or(jwt), provider, &TokenFault::UnknownKey)),
    }
}

/// What the provider is in `table`.
fn in_table(table: &RoutingTable, provider: &Provider, asked: &Asked<'_>) -> Option<Arc<Jwt>> {
    let found = asked.offer.with_request(|request| table.find(request)).ok()?;
    let providers = &found.rule.access.authentication.as_ref()?.providers;
    match &providers.iter().find(|other| other.name == provider.name)?.kind {
        ProviderKind::Jwt(jwt) => Some(Arc::clone(jwt)),
        _ => None,
    }
}

/// How `fault` is answered.
fn denial(jwt: &Jwt, provider: &Provider, fault: &TokenFault) -> Denial {
    match (fault, &jwt.keys) {
        (TokenFault::UnknownKey, Keys::Awaited(None)) => {
            cannot_decide(provider, "the issuer's keys have not been fetched yet")
        }
        (TokenFault::UnknownKey, Keys::Awaited(Some(why))) => {
            cannot_decide(provider, format_args!("the issuer's keys have never been fetched: {why}"))
        }
        (TokenFault::UnknownKey, Keys::Unusable(why)) => cannot_decide(provider, why),
        (TokenFault::Forbidden(_), _) => {
            let text = "not allowed to use this route";
            let denial = Denial::new(StatusCode::FORBIDDEN, HandshakeReason::Forbidden, text);
            denial.detailed(format!("provider {}: {fault}", provider.name))
        }
        _ => {
            let mut denial = wrong(provider, fault);
            // RFC 6750 §3.1.
            for (name, value) in &mut denial.refusal.headers {
                if name.eq_ignore_ascii_case("WWW-Authenticate") {
                    *value = "Bearer error=\"invalid_token\"".into();
                }
            }
            denial
        }
    }
}
