//! The Gateway API's `ReferenceGrant`: how the owner of a namespace lets objects of another one refer to its own.
//! Only read, never written, and its CRD belongs to the Gateway API; so this is its shape and no schema.

use kube::CustomResource;
use serde::{Deserialize, Serialize};

/// Which kinds of which namespace may refer to which objects of the grant's own namespace.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "gateway.networking.k8s.io",
    version = "v1",
    kind = "ReferenceGrant",
    namespaced,
    schema = "disabled",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct ReferenceGrantSpec {
    /// Who may refer.
    #[serde(default)]
    pub from: Vec<GrantFrom>,
    /// To what.
    #[serde(default)]
    pub to: Vec<GrantTo>,
}

/// Objects of one kind in one namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantFrom {
    /// API group, such as `sheave.dev`.
    pub group: String,
    /// Kind, such as `WebSocketRoute`.
    pub kind: String,
    /// Their namespace.
    pub namespace: String,
}

/// Objects of one kind in the grant's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantTo {
    /// API group; empty for the core one.
    pub group: String,
    /// Kind, such as `Service` or `Secret`.
    pub kind: String,
    /// Only the object of this name; unset: all of the kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}
