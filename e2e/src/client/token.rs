//! An issuer of JSON Web Tokens (RFC 7519) with a key of its own.

use anyhow::{Context, Result};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{KeyPair, PublicKeyData};
use serde_json::json;
use std::time::{SystemTime, UNIX_EPOCH};

/// Signs with ES256.
pub struct Issuer {
    name: String,
    key: KeyPair,
}

impl Issuer {
    /// With a new key.
    pub fn new(name: &str) -> Result<Self> {
        Ok(Self { name: name.to_owned(), key: KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)? })
    }

    /// Its public key as a key set (RFC 7517).
    pub fn key_set(&self) -> String {
        // An uncompressed point: a byte, then both coordinates.
        let (x, y) = self.key.der_bytes()[1..].split_at(32);
        let coordinate = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let key =
            json!({"kty": "EC", "crv": "P-256", "kid": "one", "alg": "ES256", "x": coordinate(x), "y": coordinate(y)});
        json!({ "keys": [key] }).to_string()
    }

    /// A token that ends `seconds` from now.
    pub fn token(&self, subject: &str, audience: &str, seconds: i64) -> Result<String> {
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?;
        let claims = json!({"iss": self.name, "sub": subject, "aud": audience, "exp": now + seconds});
        let header = Header { kid: Some("one".to_owned()), ..Header::new(Algorithm::ES256) };
        let key = EncodingKey::from_ec_pem(self.key.serialize_pem().as_bytes()).context("the key")?;
        Ok(encode(&header, &claims, &key)?)
    }
}
