//! `WebSocketClass`: who serves a route, and what its routes start from and may not exceed.

use super::{
    Authentication, ClientCidrs, ClientIpDetection, ConnectionLimit, Drain, Duration, Keepalive, LoadBalancer,
    Messages, OriginPolicy, RateLimit, Status, Timeouts,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::CustomResource;
use kube::KubeSchema;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};

/// A class of routes: which controller serves them, and their defaults and ceilings. The class with the
/// annotation `sheave.dev/is-default-class: "true"` takes the routes that name none.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "sheave.dev",
    version = "v1alpha1",
    kind = "WebSocketClass",
    doc = "A class of WebSocketRoutes: which controller serves them, and their defaults and ceilings.",
    derive = "PartialEq",
    status = "Status",
    shortname = "wsc",
    category = "websocket",
    printcolumn(name = "Controller", type_ = "string", json_path = ".spec.controllerName"),
    printcolumn(name = "Accepted", type_ = "string", json_path = ".status.conditions[?(@.type==\"Accepted\")].status"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct WebSocketClassSpec {
    /// Who serves the routes of this class: `sheave.dev/controller` for Sheave. Cannot be changed; make a new
    /// class instead.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("controllerName cannot be changed: create a new class"))]
    pub controller_name: String,
    /// Which routes may belong to this class. Unset: those of every namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_routes: Option<AllowedRoutes>,
    /// The certificate for server names that no route has one for: a Secret of type kubernetes.io/tls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_certificate_ref: Option<NamespacedSecretRef>,
    /// How a client's address is found. Unset: it is the address of the connection.
    #[serde(default, rename = "clientIPDetection", skip_serializing_if = "Option::is_none")]
    pub client_ip_detection: Option<ClientIpDetection>,
    /// What routes of this class start from. A block that a route sets itself replaces the one here whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defaults: Option<Defaults>,
    /// What no route of this class may exceed. A route that does is not accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ceilings: Option<Ceilings>,
}

/// Which routes may belong to a class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AllowedRoutes {
    /// The namespaces they may be in.
    pub namespaces: RouteNamespaces,
}

/// Which namespaces are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NamespaceSource {
    /// Every namespace.
    All,
    /// Those whose labels the selector matches.
    Selector,
}

/// Namespaces that routes may be in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.from == 'Selector') == has(self.selector)").message("set selector when from is Selector, and only then").field_path(".selector"))]
pub struct RouteNamespaces {
    /// All, or Selector. A route of another namespace is not accepted.
    pub from: NamespaceSource,
    /// Labels of the namespaces, when from is Selector. An empty selector matches all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = bounded)]
    pub selector: Option<LabelSelector>,
}

/// Gives the lists and strings of a label selector the bounds that the cost budget of rules wants.
fn bounded(selector: &mut Schema) {
    let set = |schema: Option<&mut serde_json::Value>, name: &str, bound: u32| {
        if let Some(schema) = schema.and_then(serde_json::Value::as_object_mut) {
            schema.insert(name.to_owned(), bound.into());
        }
    };
    set(selector.pointer_mut("/properties/matchLabels"), "maxProperties", 16);
    set(selector.pointer_mut("/properties/matchLabels/additionalProperties"), "maxLength", 63);
    set(selector.pointer_mut("/properties/matchExpressions"), "maxItems", 16);
    let expression = "/properties/matchExpressions/items/properties";
    set(selector.pointer_mut(&format!("{expression}/key")), "maxLength", 317);
    set(selector.pointer_mut(&format!("{expression}/operator")), "maxLength", 16);
    set(selector.pointer_mut(&format!("{expression}/values")), "maxItems", 16);
    set(selector.pointer_mut(&format!("{expression}/values/items")), "maxLength", 63);
}

/// A Secret of any namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NamespacedSecretRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Namespace of the Secret.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
}

/// Defaults for the blocks of a route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Defaults {
    /// For routes without `timeouts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<Timeouts>,
    /// For routes without `keepalive`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keepalive: Option<Keepalive>,
    /// For routes without `messages`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<Messages>,
    /// For routes without `drain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<Drain>,
    /// For rules without `loadBalancer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_balancer: Option<LoadBalancer>,
    /// For routes without `authentication`. References here must name their namespace and need no ReferenceGrant;
    /// selectors are not possible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentication: Option<Authentication>,
    /// For routes without `origins`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origins: Option<OriginPolicy>,
    /// For routes without `clientCIDRs`.
    #[serde(default, rename = "clientCIDRs", skip_serializing_if = "Option::is_none")]
    pub client_cidrs: Option<ClientCidrs>,
    /// For routes without `rateLimit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// For routes without `connectionLimit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_limit: Option<ConnectionLimit>,
}

/// Upper bounds. Of a bound set here, "no bound" on a route is above it, too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ceilings {
    /// For `messages.maxMessageBytes`, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_099_511_627_776_i64))]
    pub max_message_bytes: Option<i64>,
    /// For `messages.maxFrameBytes`, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_099_511_627_776_i64))]
    pub max_frame_bytes: Option<i64>,
    /// For `messages.maxFragments`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16_777_216))]
    pub max_fragments: Option<i32>,
    /// For `timeouts.maxConnectionDuration`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_connection_duration: Option<Duration>,
    /// For `connectionLimit.maxConnections` of each route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub max_connections_per_route: Option<i64>,
    /// For `messages.bufferLimitBytes`, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 4096, max = 16_777_216))]
    pub buffer_limit_bytes: Option<i64>,
    /// For `rateLimit.messages`, per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub max_messages_per_second: Option<i64>,
    /// For `rateLimit.bytes`, per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000_000_i64))]
    pub max_bytes_per_second: Option<i64>,
}
