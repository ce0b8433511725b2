//! A JSON Web Key Set (RFC 7517), or a Secret of shared secrets, to keys.
//!
//! What is no signing key of a kind we know is passed over, as RFC 7517 §5 asks; what should not be there at all is told.

use crate::compile::secret::SecretContent;
use crate::routing::access::{MOST_TRIES, TokenKey, sha256};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use serde_json::{Map, Value};
use std::sync::Arc;

/// The shortest shared secret, in bytes: the output of the weakest hash (RFC 7518 §3.2).
const SHORTEST_SECRET: usize = 32;

/// The smallest and largest RSA modulus, in bits (RFC 7518 §3.3).
const MODULUS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// The most keys of a set.
const MOST_KEYS: usize = 128;

/// Keys that can be used, and what else is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::compile) struct Keyed {
    pub(in crate::compile) keys: Arc<[TokenKey]>,
    /// What should not be there, or cannot be used; the keys are used all the same.
    pub(in crate::compile) complaints: Vec<String>,
}

/// Whether `body` is a key set at all, with keys that can be used or without.
pub fn is_key_set(body: &str) -> bool {
    listed(body.as_bytes()).is_ok()
}

fn listed(body: &[u8]) -> Result<Vec<Value>, &'static str> {
    let set: Value = serde_json::from_slice(body).map_err(|_| "is no JSON")?;
    let Value::Object(mut set) = set else { return Err("is no JSON object") };
    match set.remove("keys") {
        Some(Value::Array(keys)) if keys.len() <= MOST_KEYS => Ok(keys),
        Some(Value::Array(_)) => Err("has more than 128 keys"),
        _ => Err("has no list \"keys\""),
    }
}

/// The keys of a set. The error completes a sentence about the set.
pub(in crate::compile) fn key_set(body: &[u8]) -> Result<Keyed, String> {
    let written = listed(body)?;
    if written.is_empty() {
        return Err("has no key".to_owned());
    }
    let mut keyed = Keyed::default();
    let mut keys = Vec::new();
    for (at, jwk) in written.iter().enumerate() {
        let Some(jwk) = jwk.as_object() else {
            keyed.complaints.push(format!("keys[{at}] is no object"));
            continue;
        };
        if jwk.get("kty").and_then(Value::as_str) == Some("oct") {
            let message = "is a shared secret, which has no place in a key set, and is not used: put it into a Secret named by secretRef";
            keyed.complaints.push(format!("keys[{at}] {message}"));
            continue;
        }
        if jwk.contains_key("d") {
            let message =
                "holds the private key, which only the issuer may have: replace it, and publish the public part only";
            keyed.complaints.push(format!("keys[{at}] {message}"));
        }
        match key(jwk) {
            Ok(key) => keys.extend(key),
            Err(why) => keyed.complaints.push(format!("keys[{at}] {why}")),
        }
    }
    if keys.is_empty() {
        return Err(format!("has no key that can verify a signature{}", bracketed(&keyed.complaints)));
    }
    keyed.keys = keys.into();
    Ok(keyed)
}

/// One key; `None` for one that is meant for something else, or of a kind that we do not know.
fn key(jwk: &Map<String, Value>) -> Result<Option<TokenKey>, &'static str> {
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    let verifies = match jwk.get("key_ops") {
        Some(Value::Array(operations)) => operations.iter().any(|operation| operation == "verify"),
        _ => true,
    };
    if !verifies || text("use").is_some_and(|purpose| purpose != "sig") {
        return Ok(None);
    }
    let bytes = |name: &str| text(name).and_then(|text| BASE64_URL_SAFE_NO_PAD.decode(text).ok());
    let encoded = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    // The thumbprint is of exactly these members in this order (RFC 7638 §3.2).
    let (key, algorithms, thumbprint): (_, &[Algorithm], _) = match (text("kty"), text("crv")) {
        (Some("RSA"), _) => {
            let (Some(n), Some(e)) = (bytes("n"), bytes("e")) else { return Err("is an RSA key without n and e") };
            let n = n.iter().skip_while(|byte| **byte == 0).copied().collect::<Vec<_>>();
            let bits = n.len() * 8 - n.first().map_or(0, |first| first.leading_zeros() as usize);
            if !MODULUS.contains(&bits) {
                return Err(
                    "is an RSA key of fewer than 2048 bits, or of more than 8192: no signature by it is accepted",
                );
            }
            let thumbprint = format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, encoded(&e), encoded(&n));
            (DecodingKey::from_rsa_raw_components(&n, &e), AlgorithmFamily::Rsa.algorithms(), thumbprint)
        }
        (Some("EC"), Some(curve @ ("P-256" | "P-384"))) => {
            let (length, algorithm) =
                if curve == "P-256" { (32, &[Algorithm::ES256]) } else { (48, &[Algorithm::ES384]) };
            let (Some(x), Some(y)) = (bytes("x"), bytes("y")) else { return Err("is an EC key without x and y") };
            if x.len() != length || y.len() != length {
                return Err("is an EC key whose x and y have not the length of its curve");
            }
            let thumbprint = format!(r#"{{"crv":"{curve}","kty":"EC","x":"{}","y":"{}"}}"#, encoded(&x), encoded(&y));
            (DecodingKey::from_ec_der(&[&[4], x.as_slice(), y.as_slice()].concat()), algorithm, thumbprint)
        }
        (Some("OKP"), Some("Ed25519")) => {
            let Some(x) = bytes("x").filter(|x| x.len() == 32) else {
                return Err("is an Ed25519 key without an x of 32 bytes");
            };
            let thumbprint = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, encoded(&x));
            (DecodingKey::from_ed_der(&x), &[Algorithm::EdDSA], thumbprint)
        }
        _ => return Ok(None),
    };
    let only: Option<Algorithm> = match text("alg") {
        None => None,
        Some("Ed25519") => Some(Algorithm::EdDSA), // RFC 9864 §2.2
        Some(name) => match name.parse() {
            Ok(algorithm) if algorithms.contains(&algorithm) => Some(algorithm),
            _ => return Ok(None),
        },
    };
    let usable = algorithms.iter().copied().filter(|algorithm| only.is_none_or(|only| only == *algorithm));
    Ok(Some(TokenKey::new(text("kid"), key, usable, sha256(thumbprint.as_bytes()))))
}

fn bracketed(complaints: &[String]) -> String {
    if complaints.is_empty() { String::new() } else { format!(" ({})", complaints.join("; ")) }
}

/// The shared secrets of a Secret: every entry is one. The error completes a sentence about the Secret.
pub(in crate::compile) fn shared_secrets(secret: &SecretContent) -> Result<Keyed, String> {
    let mut keyed = Keyed::default();
    let mut keys = Vec::new();
    for (name, content) in &secret.entries {
        let content = content.expose();
        if content.len() < SHORTEST_SECRET {
            keyed.complaints.push(format!("its entry {name} has fewer than {SHORTEST_SECRET} bytes and is not used: a token could be forged by guessing it"));
            continue;
        }
        let algorithms = AlgorithmFamily::Hmac.algorithms().iter().copied();
        keys.push(TokenKey::new(None, DecodingKey::from_secret(content), algorithms, sha256(content)));
    }
    if keys.is_empty() {
        return Err(format!("has no secret that can be used{}", bracketed(&keyed.complaints)));
    }
    if keys.len() > MOST_TRIES {
        keyed.complaints.push(format!(
            "it has more than {MOST_TRIES} secrets, and only the first {MOST_TRIES} are tried: remove the old ones"
        ));
    }
    keyed.keys = keys.into();
    Ok(keyed)
}
