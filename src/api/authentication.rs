//! Authentication: who a client is, and where its credential is looked for. Tokens have a file of their own, `jwt.rs`.

use super::{Duration, JwtProvider};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Who a client is. Providers are asked in order; the first that finds its kind of credential in the handshake
/// decides. A handshake without any credential gets 401, one with a wrong credential 401.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.providers.all(p, self.providers.exists_one(q, q.name == p.name))").message("provider names must be unique within the block").field_path(".providers"))]
pub struct Authentication {
    /// The ways to prove who one is, in order.
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub providers: Vec<AuthenticationProvider>,
    /// What happens to a live session when its token expires (exp): Close (the default) ends it with 1008 "token
    /// expired", Keep lets it live. A revoked credential ends it either way, and so does a client certificate's end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = super::choice::optional::<super::OnCredentialExpiry>)]
    pub on_credential_expiry: Option<OnCredentialExpiry>,
    /// How long after its token's expiry a session may go on, so that a client can finish. Default 0s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiry_grace: Option<Duration>,
}

/// What an expired credential means to a live session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnCredentialExpiry {
    /// It ends.
    #[default]
    Close,
    /// It goes on.
    Keep,
}

/// How a client proves who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ProviderType {
    /// A key of a Secret.
    APIKey,
    /// User name and password (RFC 7617) of an htpasswd file in a Secret.
    Basic,
    /// A service of yours decides.
    External,
    /// A JSON Web Token (RFC 7519).
    JWT,
}

/// One way to prove who one is. Set the block that belongs to the type, and only that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.type == 'APIKey') == has(self.apiKey) && (self.type == 'Basic') == has(self.basic) && (self.type == 'JWT') == has(self.jwt) && (self.type == 'External') == has(self.external)").message("set the block that belongs to type (apiKey, basic, jwt or external), and only that"))]
#[x_kube(validation = Rule::new("!(self.type in ['APIKey', 'JWT']) || (has(self.extractFrom) && size(self.extractFrom) > 0) || self.type == 'JWT'").message("extractFrom is needed: say where clients send the key").field_path(".extractFrom"))]
#[x_kube(validation = Rule::new("!(self.type in ['Basic', 'External']) || !has(self.extractFrom)").message("extractFrom belongs to APIKey and JWT: Basic reads Authorization, External is shown requestHeaders").field_path(".extractFrom"))]
pub struct AuthenticationProvider {
    /// Its name, unique within the block: shown in records, /sessions and messages.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// APIKey, Basic, JWT or External.
    #[serde(rename = "type")]
    pub kind: ProviderType,
    /// Where the credential is looked for, in order. Of a JWT unset: the Authorization header with the scheme Bearer.
    /// Several at once that differ are refused with 400.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub extract_from: Vec<CredentialSource>,
    /// Whether the credential also reaches the backend. Default false: it is taken out of header, query, cookie and
    /// subprotocols. Of a subprotocol it is taken out in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forward_credential: Option<bool>,
    /// For type APIKey.
    #[serde(default, rename = "apiKey", skip_serializing_if = "Option::is_none")]
    pub api_key: Option<ApiKeyProvider>,
    /// For type Basic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic: Option<BasicProvider>,
    /// For type JWT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<JwtProvider>,
    /// For type External.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalProvider>,
}

/// Where in a handshake a credential may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CredentialSourceType {
    /// A cookie.
    Cookie,
    /// A header.
    Header,
    /// A parameter of the query. Its value is shown in no record.
    QueryParam,
    /// An element of Sec-WebSocket-Protocol: what a browser's `new WebSocket(url, [...])` can send.
    Subprotocol,
}

/// A place in a handshake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CredentialSource {
    /// Header, QueryParam, Cookie or Subprotocol.
    #[serde(rename = "type")]
    pub kind: CredentialSourceType,
    /// Name of the header (any case), query parameter or cookie. Of a subprotocol the start of the element, such as
    /// `bearer.`: what follows is the credential. An element that is just the start, as in `bearer, TOKEN`, announces the
    /// next one as the credential. With a start that begins with `base64url.`, or with encoding Base64URL, the credential
    /// is decoded first.
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"))]
    pub name: String,
    /// What stands before the credential in the value, such as `Bearer `. Compared without regard to case. Default
    /// none; for the header Authorization `Bearer `.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub prefix: Option<String>,
    /// Plain (the default), or Base64URL for a credential with characters that no subprotocol may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = super::choice::optional::<super::CredentialEncoding>)]
    pub encoding: Option<CredentialEncoding>,
}

/// How a credential is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CredentialEncoding {
    /// As base64url without padding (RFC 4648 §5).
    Base64URL,
    /// As it is.
    #[default]
    Plain,
}

/// A Secret that holds credentials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CredentialRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Namespace of the Secret. Default: the route's own; another one needs a ReferenceGrant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
}

/// Secrets by their labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CredentialSelector {
    /// Labels that a Secret must have, all of them.
    #[schemars(transform = super::pattern::label_values)]
    pub match_labels: BTreeMap<String, String>,
}

/// API keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.credentialRefs) && size(self.credentialRefs) > 0) || has(self.credentialSelector)").message("name Secrets by credentialRefs, or select them by credentialSelector"))]
pub struct ApiKeyProvider {
    /// Secrets with one key per entry: the entry's name is the client's id, its content the key. Of an id in several
    /// Secrets all keys count, so that a key can be replaced without a gap. A change applies at once, to live sessions
    /// too: the sessions of a key that is gone are closed with 1008 "credential revoked".
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub credential_refs: Vec<CredentialRef>,
    /// Further Secrets of the route's own namespace, by their labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential_selector: Option<CredentialSelector>,
    /// A header in which the backend is told the client's id. A client's own copy of it never passes.
    #[serde(default, rename = "forwardClientIDHeader", skip_serializing_if = "Option::is_none")]
    #[schemars(transform = super::pattern::header_name)]
    pub forward_client_id_header: Option<String>,
}

/// User names and passwords.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BasicProvider {
    /// Secrets with an entry `.htpasswd` (or `auth`) of lines `user:hash`: bcrypt ($2y$, $2b$, $2a$), apr1 ($apr1$) or
    /// {SHA}. Of a user in several the first counts.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub credential_refs: Vec<CredentialRef>,
    /// The realm shown to clients. Default: the route's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[ !#-\\[\\]-~]+$"))]
    pub realm: Option<String>,
    /// A header in which the backend is told the user's name. A client's own copy of it never passes.
    #[serde(default, rename = "forwardClientIDHeader", skip_serializing_if = "Option::is_none")]
    #[schemars(transform = super::pattern::header_name)]
    pub forward_client_id_header: Option<String>,
}

/// A service of yours that decides. It is asked with GET for the handshake's path behind pathPrefix and answers 2xx for
/// yes. 401 and 403 and their body reach the client; anything else, or no answer in time, is 503.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.timeout) || duration(self.timeout) > duration('0s')").message("timeout must be above 0s").field_path(".timeout"))]
pub struct ExternalProvider {
    /// The Service to ask, in clear HTTP/1.1.
    pub backend_ref: ExternalBackendRef,
    /// Put before the handshake's path. Default none. With a trailing `?` the path is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = "^/[!-~]*$"))]
    pub path_prefix: Option<String>,
    /// For the whole answer. Default 2s; must be above 0s. There is no second try.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// Headers of the handshake that the service is shown. Default Authorization and Cookie. Always shown:
    /// X-Forwarded-Method, -Proto, -Host, -Uri, -For, Origin, Sec-WebSocket-Protocol and X-Request-Id. When the
    /// handshake has none of these headers (the default ones, or those named here), this provider finds no credential
    /// only if `always` is false.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 128), regex(pattern = "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub request_headers: Vec<String>,
    /// Whether the service is asked about handshakes without any of requestHeaders, too. Default true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub always: Option<bool>,
    /// Headers of a yes that the backend is sent. A client's own copies of these never pass.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 128), regex(pattern = "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub response_headers: Vec<String>,
    /// A header of a yes that names the client to authorization, limits, records and /sessions. Unset: nameless.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = super::pattern::header_name)]
    pub consumer_header: Option<String>,
}

/// The Service that decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalBackendRef {
    /// Name of the Service.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Namespace of the Service. Default: the route's own; another one needs a ReferenceGrant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
    /// Port of the Service.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
}
