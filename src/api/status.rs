//! Status of both kinds: condition types and reasons, spelled once.
//!
//! Names are the Gateway API's where it has one. Messages are written by compile.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// The object is valid and belongs to a class of ours.
pub const ACCEPTED: &str = "Accepted";
/// Two routes name one host with different certificates.
pub const OVERLAPPING_TLS_CONFIG: &str = "OverlappingTLSConfig";
/// Some rules were dropped; the rest is served.
pub const PARTIALLY_INVALID: &str = "PartiallyInvalid";
/// The object is in the live table.
pub const PROGRAMMED: &str = "Programmed";
/// Every object it names exists and can be used.
pub const RESOLVED_REFS: &str = "ResolvedRefs";

/// Reasons, by the condition they belong to.
pub mod reason {
    /// Accepted: it is.
    pub const ACCEPTED: &str = "Accepted";
    /// ResolvedRefs: a service that decides who may connect does not answer.
    pub const AUTHORIZATION_SERVICE_UNAVAILABLE: &str = "AuthorizationServiceUnavailable";
    /// ResolvedRefs: a Service, or its port, does not exist.
    pub const BACKEND_NOT_FOUND: &str = "BackendNotFound";
    /// Accepted, OverlappingTLSConfig: an older object has what this one asks for.
    pub const CONFLICTED: &str = "Conflicted";
    /// Programmed: it is not, for the reason another condition gives.
    pub const INVALID: &str = "Invalid";
    /// ResolvedRefs: a CA bundle cannot be used.
    pub const INVALID_CA_CERTIFICATE_REF: &str = "InvalidCACertificateRef";
    /// ResolvedRefs: a certificate cannot be used as it is.
    pub const INVALID_CERTIFICATE_REF: &str = "InvalidCertificateRef";
    /// ResolvedRefs: a Secret of credentials, or some of it, cannot be used.
    pub const INVALID_CREDENTIAL_REF: &str = "InvalidCredentialRef";
    /// ResolvedRefs: an issuer's keys cannot be fetched, or not used.
    pub const JWKS_UNAVAILABLE: &str = "JWKSUnavailable";
    /// Accepted: the class does not admit the route's namespace.
    pub const NOT_ALLOWED_BY_LISTENERS: &str = "NotAllowedByListeners";
    /// Accepted: the class does not exist.
    pub const NO_MATCHING_PARENT: &str = "NoMatchingParent";
    /// Programmed: it is.
    pub const PROGRAMMED: &str = "Programmed";
    /// ResolvedRefs: the other namespace has not allowed the reference.
    pub const REF_NOT_PERMITTED: &str = "RefNotPermitted";
    /// ResolvedRefs: they are.
    pub const RESOLVED_REFS: &str = "ResolvedRefs";
    /// ResolvedRefs: what the backend speaks cannot be spoken with these settings.
    pub const UNSUPPORTED_PROTOCOL: &str = "UnsupportedProtocol";
    /// Accepted, PartiallyInvalid: a value is well formed and still cannot be used.
    pub const UNSUPPORTED_VALUE: &str = "UnsupportedValue";
}

/// What Sheave made of the object.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The generation of the spec that the conditions speak of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What holds of the object: Accepted, ResolvedRefs, Programmed; PartiallyInvalid and OverlappingTLSConfig
    /// only while they are true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}
