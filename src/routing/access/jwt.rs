//! JSON Web Tokens (RFC 7519): the keys they may be signed with, what they must say, and whether one is good.
//!
//! Pure: the moment is an argument. Where keys come from is compile's business, where tokens are is `proxy::access`'s.
//!
//! A key says itself which algorithms it can be used with, by its type and curve, and a token's header only chooses
//! among these (RFC 8725 §3.1): a public key is never taken for a shared secret, and `none` is no algorithm at all.

use super::admission::Revoked;
use super::authorization::{ClaimCondition, claim, claim_values};
use aws_lc_rs::digest::{SHA256, digest};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use jsonwebtoken::{Algorithm, DecodingKey, crypto};
use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The longest token that is looked at, in bytes.
const LONGEST: usize = 16 << 10;

/// How many keys a token is tried with at most: one that names none costs no more than this.
pub const MOST_TRIES: usize = 8;

/// What a token is judged by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Jwt {
    /// The keys.
    pub keys: Keys,
    /// Where they are fetched from, if they are: the name of the source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote: Option<Arc<str>>,
    /// The algorithms that are allowed; `None` for all that fit the keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub algorithms: Option<Vec<Algorithm>>,
    /// The `iss` that is wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<Box<str>>,
    /// Any of these must be in `aud`; empty for anything.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub audiences: Vec<Box<str>>,
    /// How far the issuer's clock may be away.
    pub leeway: Duration,
    /// The claim that names the client.
    pub consumer_claim: Box<str>,
    /// All of these must hold.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<ClaimCondition>,
    /// Claims and the headers, lower case, that the backend is told them in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub claim_headers: Vec<(Box<str>, Box<str>)>,
}

/// The keys of an issuer, as far as they are known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Keys {
    /// Its answer is not here yet; with a reason, the last question had none.
    Awaited(Option<Box<str>>),
    /// These.
    Known(Arc<[TokenKey]>),
    /// None that could be used, and why.
    Unusable(Box<str>),
}

/// A key that tokens may be signed with. Equal to another, and shown, by its fingerprint.
#[derive(Clone)]
pub struct TokenKey {
    /// Its name (RFC 7517 §4.5).
    kid: Option<Box<str>>,
    fingerprint: [u8; 32],
    /// What it can be used with, and the fingerprint of that use.
    uses: Box<[(Algorithm, [u8; 32])]>,
    key: DecodingKey,
}

impl TokenKey {
    /// A key named `kid` for `algorithms`, of which those of another family than the key's are left out. `fingerprint`
    /// tells it from every other key: the thumbprint of RFC 7638, or the digest of a secret.
    pub fn new(
        kid: Option<&str>,
        key: DecodingKey,
        algorithms: impl IntoIterator<Item = Algorithm>,
        fingerprint: [u8; 32],
    ) -> Self {
        let fitting = algorithms.into_iter().filter(|algorithm| key.family().algorithms().contains(algorithm));
        let uses = fitting.map(|algorithm| {
            let both = [fingerprint.as_slice(), format!("{algorithm:?}").as_bytes()].concat();
            (algorithm, sha256(&both))
        });
        Self { kid: kid.map(Box::from), fingerprint, uses: uses.collect(), key }
    }

    /// Whether it may be the key of a token that names `kid`, if it names one. A key without a name may be any.
    fn answers_to(&self, kid: Option<&str>) -> bool {
        self.kid.is_none() || kid.is_none() || self.kid.as_deref() == kid
    }

    fn used_with(&self, algorithm: Algorithm) -> Option<[u8; 32]> {
        self.uses.iter().find(|(usable, _)| *usable == algorithm).map(|(_, fingerprint)| *fingerprint)
    }
}

/// The SHA-256 of `bytes`.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

impl PartialEq for TokenKey {
    fn eq(&self, other: &Self) -> bool {
        // The uses hold the fingerprint; their order is that of the algorithms.
        self.kid == other.kid && self.uses == other.uses && self.fingerprint == other.fingerprint
    }
}

impl Eq for TokenKey {}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenKey({})", BASE64_URL_SAFE_NO_PAD.encode(self.fingerprint))
    }
}

impl Serialize for TokenKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut shown = serializer.serialize_struct("TokenKey", 3)?;
        shown.serialize_field("kid", &self.kid)?;
        let algorithms: Vec<_> = self.uses.iter().map(|(algorithm, _)| algorithm).collect();
        shown.serialize_field("algorithms", &algorithms)?;
        shown.serialize_field("fingerprint", &BASE64_URL_SAFE_NO_PAD.encode(self.fingerprint))?;
        shown.end()
    }
}

/// A token that is good.
#[derive(Debug)]
pub struct Token {
    /// Fingerprint of the key it is signed with and the algorithm.
    pub key: [u8; 32],
    /// What it says.
    pub claims: Map<String, Value>,
    /// When it expires, leeway included, in seconds since 1970; `None` for never.
    pub expires: Option<i64>,
}

/// What is wrong with a token. Its text holds nothing of the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenFault {
    /// It is good, and a claim that is required has none of the wanted values.
    Forbidden(Box<str>),
    /// It names a key that is not among those known.
    UnknownKey,
    /// It is not good, for this reason.
    Wrong(&'static str),
}

impl fmt::Display for TokenFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forbidden(claim) => write!(f, "the token's claim {claim} has none of the required values"),
            Self::UnknownKey => f.write_str("the token names a key that is not among the issuer's"),
            Self::Wrong(why) => write!(f, "the token {why}"),
        }
    }
}

/// The parts of a token's header that decide (RFC 7515 §4.1). Of a name twice the header is refused.
#[derive(Deserialize)]
struct Header<'t> {
    #[serde(borrow)]
    alg: Cow<'t, str>,
    #[serde(borrow, default)]
    kid: Option<Cow<'t, str>>,
    #[serde(default)]
    crit: Option<Value>,
}

impl Jwt {
    /// Judges `token` at `now`, in seconds since 1970.
    ///
    /// # Errors
    /// What is wrong with it: the first thing found, the signature before anything it says.
    pub fn verify(&self, token: &[u8], now: i64) -> Result<Token, TokenFault> {
        let wrong = TokenFault::Wrong;
        if token.len() > LONGEST {
            return Err(wrong("is too long"));
        }
        let text = std::str::from_utf8(token).map_err(|_| wrong("is not text"))?;
        let (message, signature) = text.rsplit_once('.').ok_or(wrong("has not three parts"))?;
        let (header, payload) = message.split_once('.').ok_or(wrong("has not three parts"))?;
        if payload.contains('.') {
            return Err(wrong("has not three parts"));
        }
        let header = decoded(header).ok_or(wrong("has a malformed header"))?;
        let header: Header<'_> = serde_json::from_slice(&header).map_err(|_| wrong("has a malformed header"))?;
        if header.crit.is_some() {
            return Err(wrong("demands an extension that is not understood (crit)"));
        }
        let key = self.signer(&header, message, signature)?;
        let payload = decoded(payload).ok_or(wrong("has malformed claims"))?;
        let claims: Map<String, Value> = serde_json::from_slice(&payload).map_err(|_| wrong("has malformed claims"))?;
        let expires = self.in_time(&claims, now).map_err(wrong)?;
        self.addressed(&claims).map_err(wrong)?;
        match self.claims.iter().find(|condition| !condition.holds(&claims)) {
            Some(condition) => Err(TokenFault::Forbidden(condition.name.clone())),
            None => Ok(Token { key, claims, expires }),
        }
    }

    /// The key that has signed `message`.
    fn signer(&self, header: &Header<'_>, message: &str, signature: &str) -> Result<[u8; 32], TokenFault> {
        let wrong = TokenFault::Wrong;
        let algorithm = header.alg.parse().ok().filter(|algorithm| self.allows(*algorithm));
        let algorithm: Algorithm = algorithm.ok_or(wrong("is signed with an algorithm that is not allowed"))?;
        let Keys::Known(keys) = &self.keys else { return Err(TokenFault::UnknownKey) };
        let kid = header.kid.as_deref();
        let mut fitting = false;
        let candidates = keys.iter().filter(|key| key.answers_to(kid));
        let candidates = candidates.filter_map(|key| Some((key, key.used_with(algorithm)?)));
        for (key, used) in candidates.take(MOST_TRIES) {
            fitting = true;
            if crypto::verify(signature, message.as_bytes(), &key.key, algorithm).is_ok_and(|good| good) {
                return Ok(used);
            }
        }
        let named = keys.iter().any(|key| key.kid.as_deref() == kid);
        Err(match (kid, named, fitting) {
            (Some(_), false, tried) if !tried || self.remote.is_some() => TokenFault::UnknownKey,
            (_, _, true) => wrong("has a signature that is not right"),
            _ => wrong("is signed with an algorithm that no key is for"),
        })
    }

    fn allows(&self, algorithm: Algorithm) -> bool {
        self.algorithms.as_ref().is_none_or(|allowed| allowed.contains(&algorithm))
    }

    /// When it expires; an error if that is over or its time has not come. A token without `exp` never expires.
    fn in_time(&self, claims: &Map<String, Value>, now: i64) -> Result<Option<i64>, &'static str> {
        let leeway = i64::try_from(self.leeway.as_secs()).unwrap_or(i64::MAX);
        let moment = |name| claims.get(name).map(|value| moment(value).ok_or("has a time that is no number"));
        let expires = moment("exp").transpose()?.map(|at| at.saturating_add(leeway));
        if expires.is_some_and(|expires| expires <= now) {
            return Err("has expired");
        }
        let latest = now.saturating_add(leeway);
        if moment("nbf").transpose()?.is_some_and(|at| at > latest) {
            return Err("is not valid yet");
        }
        if moment("iat").transpose()?.is_some_and(|at| at > latest) {
            return Err("was issued in the future");
        }
        Ok(expires)
    }

    /// Whether it is of the wanted issuer and for a wanted audience.
    fn addressed(&self, claims: &Map<String, Value>) -> Result<(), &'static str> {
        let issuer = claims.get("iss").and_then(Value::as_str);
        if self.issuer.as_deref().is_some_and(|wanted| issuer != Some(wanted)) {
            return Err("is of another issuer");
        }
        let meant = |audience: &Value| audience.as_str().is_some_and(|a| self.audiences.iter().any(|w| **w == *a));
        let fits = claims.get("aud").is_some_and(|aud| match aud {
            Value::Array(list) => list.iter().any(meant),
            one => meant(one),
        });
        if fits || self.audiences.is_empty() { Ok(()) } else { Err("is for another audience") }
    }

    /// The client's name that `claims` say, if they say one.
    pub fn consumer(&self, claims: &Map<String, Value>) -> Option<Arc<str>> {
        match claim(claims, &self.consumer_claim)? {
            Value::String(text) if !text.is_empty() => Some(text.as_str().into()),
            Value::Number(number) => Some(number.to_string().into()),
            _ => None,
        }
    }

    /// The headers, lower case, that are only for us to set.
    pub fn headers(&self) -> impl Iterator<Item = &str> {
        self.claim_headers.iter().map(|(_, header)| &**header)
    }

    /// What the backend is told of `claims`: header and value. A list is joined by commas, an object is JSON; what is
    /// absent, or cannot stand in a header, is left out.
    pub fn told(&self, claims: &Map<String, Value>) -> impl Iterator<Item = (&str, String)> {
        self.claim_headers.iter().filter_map(|(name, header)| {
            let text = match claim(claims, name)? {
                Value::Null => return None,
                object @ Value::Object(_) => object.to_string(),
                value => claim_values(value).collect::<Vec<_>>().join(","),
            };
            let safe = text.bytes().all(|byte| byte >= b' ' && byte != 0x7f) && text.trim() == text;
            (safe && !text.is_empty()).then_some((&**header, text))
        })
    }

    /// Whether a token that was accepted with these claims, signed with `key`, still would be. While the issuer's keys
    /// are awaited, its sessions stay: they are judged when the keys are there.
    ///
    /// # Errors
    /// What has become of it.
    pub fn stands(&self, key: &[u8; 32], claims: &Map<String, Value>) -> Result<(), Revoked> {
        let held = match &self.keys {
            Keys::Awaited(_) => true,
            Keys::Known(keys) => {
                let mut uses = keys.iter().flat_map(|key| &key.uses);
                uses.any(|(algorithm, used)| used == key && self.allows(*algorithm))
            }
            Keys::Unusable(_) => false,
        };
        if !held {
            return Err(Revoked::Credential);
        }
        let meets = self.addressed(claims).is_ok() && self.claims.iter().all(|condition| condition.holds(claims));
        if meets { Ok(()) } else { Err(Revoked::Policy) }
    }
}

fn decoded(part: &str) -> Option<Vec<u8>> {
    BASE64_URL_SAFE_NO_PAD.decode(part).ok()
}

/// Seconds since 1970 (RFC 7519 §2, `NumericDate`); a fraction is cut off.
fn moment(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_f64().filter(|at| at.is_finite()).map(|at| at as i64))
}

#[cfg(test)]
mod tests;
