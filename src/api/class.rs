//! `WebSocketClass`: who serves a route, and what its routes start from and may not exceed.

use super::{Drain, Duration, Keepalive, LoadBalancer, Messages, Status, Timeouts};
use kube::CustomResource;
use kube::KubeSchema;
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
    /// The certificate for server names that no route has one for: a Secret of type kubernetes.io/tls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_certificate_ref: Option<NamespacedSecretRef>,
    /// What routes of this class start from. A block that a route sets itself replaces the one here whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defaults: Option<Defaults>,
    /// What no route of this class may exceed. A route that does is not accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ceilings: Option<Ceilings>,
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
}
