//! What blocks of access add: Sheave beside itself, with a block and without.
//!
//! Not how the blocks work in detail, which `benches/access.rs` and `benches/limits.rs` measure on their own.

use crate::rivals::OBJECT;
use crate::row::{ROWS, Row};
use anyhow::{Context, Result};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;
use std::fmt::Write as _;

/// Their names for `--only`.
pub(crate) const NAMES: [&str; 7] = [
    "block-none",
    "block-api-key",
    "block-jwt-es256",
    "block-jwt-rs256",
    "block-cidr",
    "block-messages-one",
    "block-messages-many",
];

/// A block of access and where it is felt.
pub(crate) struct Block {
    /// Name for `--only`.
    pub(crate) name: &'static str,
    /// Text of the table.
    pub(crate) title: &'static str,
    /// What is measured.
    pub(crate) row: &'static Row,
    /// Fields of the route, and objects behind it.
    pub(crate) fields: String,
    /// The header line that carries the credential; sent without the block, too.
    pub(crate) header: String,
}

/// All blocks.
pub(crate) fn all() -> Result<Vec<Block>> {
    let handshake = row("handshake-plain")?;
    let block =
        |name, title, row, fields: String, header: &str| Block { name, title, row, fields, header: header.to_owned() };
    let (es256, es256_header) = jwt(Algorithm::ES256)?;
    let (rs256, rs256_header) = jwt(Algorithm::RS256)?;
    let messages = || "  rateLimit: {messages: {limit: 100000000}}".to_owned();
    Ok(vec![
        // The same twice: what the measurement itself makes of nothing.
        block(NAMES[0], "nothing, as a check of the measurement", handshake, String::new(), "X-Api-Key: key-77"),
        block(NAMES[1], "an API key, of 1,000", handshake, api_keys(), "X-Api-Key: key-77"),
        block(NAMES[2], "a JWT, ES256", handshake, es256, &es256_header),
        block(NAMES[3], "a JWT, RS256", handshake, rs256, &rs256_header),
        block(NAMES[4], "10,000 client CIDRs", handshake, cidrs(), "X-Api-Key: key-77"),
        block(NAMES[5], "a limit on messages/s", row("ping-pong-plain")?, messages(), "X-Api-Key: key-77"),
        block(NAMES[6], "a limit on messages/s", row("pipelined-plain")?, messages(), "X-Api-Key: key-77"),
    ])
}

fn row(name: &str) -> Result<&'static Row> {
    ROWS.iter().find(|row| row.name == name).with_context(|| format!("no row {name}"))
}

/// A provider, and the Secret it takes its keys from.
fn with_secret(provider: &str, entries: &serde_json::Value) -> String {
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": entries});
    format!("  authentication: {{providers: [{{name: who, {provider}}}]}}\n#{OBJECT}{secret}")
}

fn api_keys() -> String {
    let keys: serde_json::Map<_, _> =
        (0..1000).map(|at| (format!("client-{at}"), json!(format!("key-{at}")))).collect();
    let provider =
        "type: APIKey, extractFrom: [{type: Header, name: X-Api-Key}], apiKey: {credentialRefs: [{name: keys}]}";
    with_secret(provider, &json!(keys))
}

fn jwt(algorithm: Algorithm) -> Result<(String, String)> {
    let (kind, curve) = match algorithm {
        Algorithm::ES256 => (&rcgen::PKCS_ECDSA_P256_SHA256, true),
        _ => (&rcgen::PKCS_RSA_SHA256, false),
    };
    let pem = rcgen::KeyPair::generate_for(kind)?.serialize_pem();
    let key =
        if curve { EncodingKey::from_ec_pem(pem.as_bytes())? } else { EncodingKey::from_rsa_pem(pem.as_bytes())? };
    let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&key, algorithm)?)?;
    jwk["kid"] = json!("a");
    let header = Header { kid: Some("a".to_owned()), ..Header::new(algorithm) };
    let claims = json!({"iss": "https://id.example.com", "aud": ["chat"], "sub": "alice", "exp": 4_000_000_000_u64});
    let token = encode(&header, &claims, &key)?;
    let provider = "type: JWT, jwt: {issuer: 'https://id.example.com', audiences: [chat], localJWKS: {name: keys}}";
    let set = json!({"keys": [jwk]}).to_string();
    Ok((with_secret(provider, &json!({"jwks": set})), format!("Authorization: Bearer {token}")))
}

fn cidrs() -> String {
    let mut list = String::from("127.0.0.0/8");
    for at in 0..10_000_u32 {
        let [_, high, middle, low] = (at * 1_000).to_be_bytes();
        // Writing to a String cannot fail.
        let _ = write!(list, ", 10.{high}.{middle}.{low}/32");
    }
    format!("  clientCIDRs: {{allow: [{list}]}}")
}
