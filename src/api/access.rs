//! Access beside credentials: who of the known clients, from which page, from which address, with which certificate.

use super::{CaRef, ClaimMatch};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who of the known clients may use a rule. Deny wins; whom nothing here allows is refused with 403.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Authorization {
    /// Those who may: any of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub allow: Vec<Principal>,
    /// Those who may not, whatever allow says: any of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub deny: Vec<Principal>,
}

/// A description of clients. All that is set must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.consumers) || has(self.claims) || has(self.clientCIDRs) || has(self.subjects) || has(self.subjectAltNames)").message("an empty entry would mean everybody: name consumers, claims, clientCIDRs, subjects or subjectAltNames"))]
pub struct Principal {
    /// The client's name is any of these: the id of an API key, a user, the consumerClaim of a token.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 256)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub consumers: Vec<String>,
    /// The token has all of these claims.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub claims: Vec<ClaimMatch>,
    /// The client's address is in any of these blocks.
    #[serde(default, rename = "clientCIDRs", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), transform = super::pattern::cidrs)]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub client_cidrs: Vec<String>,
    /// The subject of the client's certificate is any of these, as in `CN=device-7,O=Example` (RFC 4514).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 512)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub subjects: Vec<String>,
    /// The client's certificate has any of these alternative names: `DNS:device-7.example.com`,
    /// `URI:spiffe://example.com/device/7`, `email:ops@example.com` or `IP:10.0.0.7`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 4, max = 512)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub subject_alt_names: Vec<String>,
}

/// Whether something that is not there is let in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Missing {
    /// It is.
    #[default]
    Allow,
    /// It is not.
    Deny,
}

/// Which web pages may open sessions. Browsers send the page's origin with every handshake and let no page change it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct OriginPolicy {
    /// Origins: scheme, host, and port if it is not the usual one, as in `https://chat.example.com` or
    /// `http://localhost:3000`; `https://*.example.com` for one or more labels in place of the star; `*` for all;
    /// `null` for pages without an origin. Others get 403.
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 512)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub allow_origins: Vec<String>,
    /// Whether a handshake without an origin, which no browser sends, is let in: Allow (the default) or Deny.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = super::choice::optional::<super::Missing>)]
    pub missing: Option<Missing>,
}

/// Addresses that clients may have. Judged by the address that the class's clientIPDetection finds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.allow) || has(self.deny)").message("set allow, deny or both"))]
pub struct ClientCidrs {
    /// Blocks, as in 10.0.0.0/8 or 2001:db8::/32. Addresses outside all of them get 403. Unset: every address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16384), transform = super::pattern::cidrs)]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub allow: Vec<String>,
    /// Blocks whose addresses get 403, whatever allow says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16384), transform = super::pattern::cidrs)]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub deny: Vec<String>,
}

/// Whether connections begin with a PROXY protocol header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ProxyProtocolMode {
    /// They do not.
    #[default]
    Disabled,
    /// Those from trustedCIDRs may.
    Optional,
    /// They must, and come from trustedCIDRs.
    Required,
}

/// How a client's address is found when load balancers stand before Sheave.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(!has(self.proxyProtocol) || self.proxyProtocol == 'Disabled') && (!has(self.numTrustedHops) || self.numTrustedHops == 0) || has(self.trustedCIDRs) && size(self.trustedCIDRs) > 0").message("trustedCIDRs is needed: name the addresses of your load balancers, or any client could claim any address").field_path(".trustedCIDRs"))]
pub struct ClientIpDetection {
    /// PROXY protocol, version 1 or 2: Disabled (the default), Optional or Required. Never read from other addresses
    /// than trustedCIDRs. With Required a connection without it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = super::choice::optional::<super::ProxyProtocolMode>)]
    pub proxy_protocol: Option<ProxyProtocolMode>,
    /// The addresses of your load balancers: what they say of a client is believed, what others say is not.
    #[serde(default, rename = "trustedCIDRs", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), transform = super::pattern::cidrs)]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub trusted_cidrs: Vec<String>,
    /// How many entries of X-Forwarded-For, from the right, were written by proxies of yours: the last of them is the
    /// client's address. Forwarded is read where X-Forwarded-For is absent: a proxy that writes Forwarded must remove
    /// the other. Default 0: neither header is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 16))]
    pub num_trusted_hops: Option<i32>,
}

/// Whether clients show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FrontendValidationMode {
    /// They may; one that is not valid counts as none.
    AllowInsecureFallback,
    /// They must, and it must be valid.
    #[default]
    AllowValidOnly,
}

/// Certificates of clients (mutual TLS).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct FrontendValidation {
    /// AllowValidOnly (the default): a handshake without a valid certificate gets 403. AllowInsecureFallback: it goes
    /// on without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = super::choice::optional::<super::FrontendValidationMode>)]
    pub mode: Option<FrontendValidationMode>,
    /// The authorities that may have signed them. A change applies to live sessions, too.
    #[serde(rename = "caCertificateRefs")]
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub ca_certificate_refs: Vec<CaRef>,
    /// A header in which the backend is told the subject (RFC 4514), as `openssl x509 -noout -subject -nameopt RFC2253`
    /// writes it. A client's own copy of it never passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = super::pattern::header_name)]
    pub forward_subject_header: Option<String>,
    /// A header in which the backend is told the alternative names (DNS:, URI:, email: or IP: before each), joined by
    /// commas; a comma within one is written %2C. A client's own copy of it never passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = super::pattern::header_name)]
    pub forward_subject_alt_names_header: Option<String>,
}

/// The version of the PROXY protocol that a backend is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BackendProxyProtocol {
    /// Version 1, a line of text.
    V1,
    /// Version 2, binary.
    V2,
}
