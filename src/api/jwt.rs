//! JSON Web Tokens: whose are taken, what they must say, and what a backend is told of them.

use super::{CaRef, CredentialRef, Duration};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A signature algorithm (RFC 7518 §3.1, RFC 8037).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum JwtAlgorithm {
    /// ECDSA, P-256, SHA-256.
    ES256,
    /// ECDSA, P-384, SHA-384.
    ES384,
    /// Ed25519.
    EdDSA,
    /// HMAC, SHA-256. Only with secretRef.
    HS256,
    /// HMAC, SHA-384. Only with secretRef.
    HS384,
    /// HMAC, SHA-512. Only with secretRef.
    HS512,
    /// RSASSA-PSS, SHA-256.
    PS256,
    /// RSASSA-PSS, SHA-384.
    PS384,
    /// RSASSA-PSS, SHA-512.
    PS512,
    /// RSASSA-PKCS1-v1_5, SHA-256.
    RS256,
    /// RSASSA-PKCS1-v1_5, SHA-384.
    RS384,
    /// RSASSA-PKCS1-v1_5, SHA-512.
    RS512,
}

/// JSON Web Tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.remoteJWKS) ? 1 : 0) + (has(self.localJWKS) ? 1 : 0) + (has(self.secretRef) ? 1 : 0) == 1").message("set exactly one of remoteJWKS, localJWKS and secretRef"))]
#[x_kube(validation = Rule::new("!has(self.algorithms) || self.algorithms.all(a, (a in ['HS256', 'HS384', 'HS512']) == has(self.secretRef))").message("HS algorithms belong to secretRef, and no others do: a public key must never be used as a secret").field_path(".algorithms"))]
pub struct JwtProvider {
    /// The iss that tokens must have. Unset: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub issuer: Option<String>,
    /// Any one of these must be in the token's aud. Unset: any token's will do, with aud or without.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 1024)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub audiences: Vec<String>,
    /// Algorithms that tokens may be signed with. Unset: all that fit the keys (RS, PS, ES and EdDSA of a JWKS, HS of a
    /// secretRef). `none` never is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 12))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub algorithms: Vec<JwtAlgorithm>,
    /// How far the clocks of issuer and Sheave may be apart when exp, nbf and iat are judged. Default 60s. A token without
    /// exp never expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leeway: Option<Duration>,
    /// The issuer's keys at a URL.
    #[serde(default, rename = "remoteJWKS", skip_serializing_if = "Option::is_none")]
    pub remote_jwks: Option<RemoteJwks>,
    /// The issuer's keys in a Secret: an entry `jwks` with a JSON Web Key Set (RFC 7517).
    #[serde(default, rename = "localJWKS", skip_serializing_if = "Option::is_none")]
    pub local_jwks: Option<CredentialRef>,
    /// A shared secret for HS algorithms: every entry of the Secret is one; at least 32 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<CredentialRef>,
    /// The claim that names the client to authorization, limits, records and /sessions. Default `sub`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub consumer_claim: Option<String>,
    /// Claims that a token must have, or it is refused with 403.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub claims: Vec<ClaimMatch>,
    /// Claims that the backend is told in headers. A client's own copies of these never pass.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub claim_to_headers: Vec<ClaimToHeader>,
}

/// Keys at a URL.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RemoteJwks {
    /// An https URL that answers with a JSON Web Key Set.
    #[schemars(length(min = 9, max = 2048), regex(pattern = "^https://[^ #@]+$"))]
    pub uri: String,
    /// How long keys are used before they are fetched again. Default 5m, at least 10s. Fetched before they run out,
    /// and at once, though not more often than every 10s, when a token names a key that is not among them. While the
    /// issuer is away the last keys stay in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_duration: Option<Duration>,
    /// For one answer of the issuer. Default 5s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// The authorities that may have signed the issuer's certificate. Unset: those of the system Sheave runs on.
    #[serde(default, rename = "caCertificateRefs", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub ca_certificate_refs: Vec<CaRef>,
}

/// A condition on a claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimMatch {
    /// The claim; a dot leads into an object, as in `realm_access.roles`. A claim whose own name has the dots goes first.
    #[schemars(length(min = 1, max = 256))]
    pub name: String,
    /// Any one of these. Of a claim that is a list any element may be; numbers and booleans are compared as written in
    /// JSON.
    #[schemars(length(min = 1, max = 64), inner(length(max = 1024)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub values: Vec<String>,
}

/// A claim told to the backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimToHeader {
    /// The claim, as in `claims`. A list is joined by commas, an object is written as JSON. An absent claim leaves the
    /// header out.
    #[schemars(length(min = 1, max = 256))]
    pub claim: String,
    /// The header.
    #[schemars(transform = super::pattern::header_name)]
    pub header: String,
}
