//! `WebSocketRoute`: hosts, rules and backends of WebSocket connections, with their bounds and manners.

use super::{
    Authentication, Authorization, BackendProxyProtocol, ClientCidrs, ConnectionLimit, Drain, FrontendValidation,
    Keepalive, LoadBalancer, Messages, OriginPolicy, RateLimit, Status, Timeouts,
};
use kube::CustomResource;
use kube::KubeSchema;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};

/// Leads WebSocket connections of some hosts to Services.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "sheave.dev",
    version = "v1alpha1",
    kind = "WebSocketRoute",
    namespaced,
    doc = "Leads WebSocket connections of some hosts to Services.",
    derive = "PartialEq",
    status = "Status",
    shortname = "wsr",
    category = "websocket",
    selectable = ".spec.className",
    printcolumn(name = "Class", type_ = "string", json_path = ".spec.className"),
    printcolumn(name = "Hostnames", type_ = "string", json_path = ".spec.hostnames"),
    printcolumn(name = "Accepted", type_ = "string", json_path = ".status.conditions[?(@.type==\"Accepted\")].status"),
    printcolumn(
        name = "Programmed",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Programmed\")].status"
    ),
    printcolumn(
        name = "ResolvedRefs",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"ResolvedRefs\")].status",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.tls) || (has(self.hostnames) && size(self.hostnames) > 0)").message("tls needs hostnames: name the hosts the certificates are for").field_path(".tls"))]
#[x_kube(validation = Rule::new("self.rules.all(r, !has(r.name) || self.rules.exists_one(q, has(q.name) && q.name == r.name))").message("rule names must be unique within the route").field_path(".rules"))]
pub struct WebSocketRouteSpec {
    /// The WebSocketClass that serves this route. Unset: the default class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub class_name: Option<String>,
    /// The hosts this route answers to: `chat.example.com`, or `*.example.com` for one or more labels in place of
    /// the star. Empty: every host of the class. A more specific host of another route goes first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        inner(
            length(min = 1, max = 253),
            regex(
                pattern = r"^(\*\.)?[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?(\.[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?)*$"
            )
        )
    )]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub hostnames: Vec<String>,
    /// Certificates for the hostnames. Unset: the class's default certificate answers on the TLS listener, and the
    /// route is served in clear as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<RouteTls>,
    /// Where connections go. Of all rules of all routes of a host the most specific match wins: exact path, then
    /// regular expression, then longest prefix, then most headers, then most query parameters, then subprotocols;
    /// a tie goes to the oldest route, then by namespace and name, then to the first rule.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub rules: Vec<RouteRule>,
    /// Deadlines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<Timeouts>,
    /// Pings of Sheave's own. Unset: the class's, else none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keepalive: Option<Keepalive>,
    /// Size bounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<Messages>,
    /// How sessions are ended when they must be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<Drain>,
    /// Who clients are. Unset: the class's, else everybody is let in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentication: Option<Authentication>,
    /// Which web pages may open sessions. Unset: the class's, else every page, except where a cookie authenticates: then
    /// only pages of the same origin, or any page could use its visitors' cookies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origins: Option<OriginPolicy>,
    /// From which addresses clients may come. Unset: the class's, else every address.
    #[serde(default, rename = "clientCIDRs", skip_serializing_if = "Option::is_none")]
    pub client_cidrs: Option<ClientCidrs>,
    /// How often. Unset: the class's, else no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// How many at a time. Unset: the class's, else no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_limit: Option<ConnectionLimit>,
}

/// TLS of a route towards clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteTls {
    /// Secrets of type kubernetes.io/tls (keys tls.crt and tls.key). Each hostname gets the first whose
    /// certificate names it. Replacing a Secret's contents serves new connections at once and cuts no live one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub certificate_refs: Vec<CertificateRef>,
    /// Whether the route also answers in clear: Allow or Reject (403). Default Reject when `tls` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = super::choice::optional::<super::Plaintext>)]
    pub plaintext: Option<Plaintext>,
    /// Certificates of clients (mutual TLS). Clients are asked for one on every hostname of this route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frontend_validation: Option<FrontendValidation>,
}

/// Whether a route answers in clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Plaintext {
    /// It does.
    Allow,
    /// It refuses with 403.
    Reject,
}

/// A certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificateRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Namespace of the Secret. Default: the route's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
}

/// A Secret of the route's own namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// One way through the route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteRule {
    /// Unique within the route. Shown as `rule` in metrics and records, and keeps sessions with their rule when
    /// rules are reordered. Default: the rule's position, counted from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: Option<String>,
    /// Which handshakes this rule takes: any of these. Empty: all (the prefix `/`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub matches: Vec<RouteMatch>,
    /// The Services that share the rule's connections by weight.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub backend_refs: Vec<BackendRef>,
    /// How WSS backends are trusted. Needed for every backend with protocol WSS.
    #[serde(default, rename = "backendTLS", skip_serializing_if = "Option::is_none")]
    pub backend_tls: Option<BackendTls>,
    /// How an endpoint is chosen within a backend. Unset: the class's, else LeastConnections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_balancer: Option<LoadBalancer>,
    /// Who of the known clients may use this rule. Unset: all of them. Once set, nobody whom it does not allow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization: Option<Authorization>,
}

/// Conditions on a handshake, all of which must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteMatch {
    /// The path. Unset: every path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<Path>,
    /// Headers, each of which must be there with that value. Of several lines of one name any may match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), transform = header_names)]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub headers: Vec<ValueMatch>,
    /// Query parameters, each of which must be there with that (decoded) value. Of a repeated one the first counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub query_params: Vec<ValueMatch>,
    /// Subprotocols, any of which the client must offer (Sec-WebSocket-Protocol). Which one is spoken remains the
    /// backend's choice.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 128), regex(pattern = "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub subprotocols: Vec<String>,
}

/// Holds names of headers to a token (RFC 9110 §5.6.2): no handshake has a header of another name. By schema and
/// not by CEL, whose cost for this many strings an API server would not bear.
fn header_names(headers: &mut Schema) {
    if let Some(name) = headers.pointer_mut("/items/properties/name").and_then(|name| name.as_object_mut()) {
        name.insert("pattern".to_owned(), "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$".into());
    }
}

/// How a path is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PathType {
    /// The whole path, byte for byte.
    Exact,
    /// Whole segments from the left: /chat takes /chat and /chat/1, not /chats.
    #[default]
    PathPrefix,
    /// The whole path against an expression of RE2 syntax, in linear time.
    RegularExpression,
}

/// A condition on the path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.type == 'RegularExpression' || (self.value.startsWith('/') && !self.value.contains('//') && !self.value.contains('/./') && !self.value.contains('/../') && !self.value.contains('%2f') && !self.value.contains('%2F') && !self.value.contains('#') && !self.value.endsWith('/..') && !self.value.endsWith('/.'))").message("path must begin with / and hold no //, /./, /../, %2F or #").field_path(".value"))]
pub struct Path {
    /// Exact, PathPrefix (the default) or RegularExpression.
    #[serde(default, rename = "type")]
    pub kind: PathType,
    /// The path, prefix or expression. Default `/`.
    #[serde(default = "root")]
    #[schemars(length(min = 1, max = 1024))]
    pub value: String,
}

fn root() -> String {
    "/".to_owned()
}

/// How a value is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ValueType {
    /// Byte for byte.
    #[default]
    Exact,
    /// The whole value against an expression of RE2 syntax, in linear time.
    RegularExpression,
}

/// A condition on a named value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ValueMatch {
    /// Exact (the default) or RegularExpression.
    #[serde(default, rename = "type")]
    pub kind: ValueType,
    /// The name. Of headers in any case.
    #[schemars(length(min = 1, max = 256))]
    pub name: String,
    /// The value or expression.
    #[schemars(length(min = 1, max = 1024))]
    pub value: String,
}

/// What is spoken to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BackendProtocol {
    /// WebSocket in clear.
    WS,
    /// WebSocket over TLS.
    WSS,
}

/// A Service port and its share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackendRef {
    /// Name of the Service.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Namespace of the Service. Default: the route's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
    /// Port of the Service.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// Share of the rule's connections, relative to its other backends. Default 1; 0 gets none.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub weight: i32,
    /// WS or WSS. Default: what the Service's appProtocol says (kubernetes.io/ws, kubernetes.io/wss, http, https),
    /// else WS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = super::choice::optional::<super::BackendProtocol>)]
    pub protocol: Option<BackendProtocol>,
    /// Tells the backend the client's address before the first byte: V1 or V2 of the PROXY protocol. Default: not at
    /// all, which is what a backend that does not expect it needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = super::choice::optional::<super::BackendProxyProtocol>)]
    pub proxy_protocol: Option<BackendProxyProtocol>,
}

fn one() -> i32 {
    1
}

/// Where a CA bundle is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CaKind {
    /// A ConfigMap.
    #[default]
    ConfigMap,
    /// A Secret.
    Secret,
}

/// A CA bundle: PEM under the key `ca.crt`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CaRef {
    /// ConfigMap (the default) or Secret.
    #[serde(default)]
    pub kind: CaKind,
    /// Its name, in the route's own namespace.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Authorities that need no bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WellKnownCa {
    /// Those of the system Sheave runs on.
    System,
}

/// How WSS backends are trusted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.caCertificateRefs) != has(self.wellKnownCACertificates)").message("set either caCertificateRefs or wellKnownCACertificates"))]
pub struct BackendTls {
    /// Sent as the server name and required of the backend's certificate.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?(\.[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?)*$")
    )]
    pub hostname: String,
    /// The authorities that may have signed the backend's certificate.
    #[serde(default, rename = "caCertificateRefs", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub ca_certificate_refs: Vec<CaRef>,
    /// `System`: the authorities of the system Sheave runs on.
    #[serde(default, rename = "wellKnownCACertificates", skip_serializing_if = "Option::is_none")]
    #[schemars(transform = super::choice::optional::<super::WellKnownCa>)]
    pub well_known_ca_certificates: Option<WellKnownCa>,
    /// The certificate Sheave shows when the backend asks: a kubernetes.io/tls Secret of the route's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate_ref: Option<SecretRef>,
}
