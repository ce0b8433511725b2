//! The snapshot: everything compile looks at, as it was at one moment.
//!
//! Sorted maps of shared objects, so that equal contents compile to an equal table whatever order they arrived
//! in. Who fills it (the folder's reader, later the watches of a cluster) is not decided here.

use super::secret::SecretContent;
use crate::api::{ReferenceGrant, WebSocketClass, WebSocketRoute};
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The name of a namespaced object. Shown as `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl ObjectKey {
    /// The key of `name` in `namespace`.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The key under which an object with this metadata is kept; without a namespace it is in `default`.
    pub fn of(metadata: &ObjectMeta) -> Self {
        let namespace = metadata.namespace.as_deref().unwrap_or("default");
        Self::new(namespace, metadata.name.as_deref().unwrap_or_default())
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// An object of ours that could not be read: stored by an API server that knows more than this Sheave, or less.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// The generation of its spec.
    pub generation: Option<i64>,
    /// What is wrong, beginning with the field.
    pub faults: Vec<String>,
}

/// What a URL of keys (RFC 7517 §5) has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySet {
    /// The last good answer.
    pub body: Option<Box<str>>,
    /// Why the last question had none.
    pub trouble: Option<Box<str>>,
}

/// All objects at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The moment, seconds since 1970: what certificates are judged by.
    pub taken_at: i64,
    /// Classes by name, those of other controllers included.
    pub classes: BTreeMap<String, Arc<WebSocketClass>>,
    /// Classes that could not be read.
    pub unreadable_classes: BTreeMap<String, Unreadable>,
    /// Routes.
    pub routes: BTreeMap<ObjectKey, Arc<WebSocketRoute>>,
    /// Routes that could not be read.
    pub unreadable_routes: BTreeMap<ObjectKey, Unreadable>,
    /// Services.
    pub services: BTreeMap<ObjectKey, Arc<Service>>,
    /// Endpoint slices; a slice names its Service by the label `kubernetes.io/service-name`.
    pub endpoint_slices: BTreeMap<ObjectKey, Arc<EndpointSlice>>,
    /// Secrets.
    pub secrets: BTreeMap<ObjectKey, Arc<SecretContent>>,
    /// Config maps.
    pub config_maps: BTreeMap<ObjectKey, Arc<ConfigMap>>,
    /// Who may refer to objects of another namespace.
    pub reference_grants: BTreeMap<ObjectKey, Arc<ReferenceGrant>>,
    /// The labels of namespaces.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// What each issuer's URL of keys has last answered.
    pub key_sets: BTreeMap<Arc<str>, Arc<KeySet>>,
    /// Why a route's provider cannot decide at the moment, by the provider's name.
    pub troubles: BTreeMap<(ObjectKey, Arc<str>), Arc<str>>,
    /// The zone of each node that has one (label `topology.kubernetes.io/zone`).
    pub zones: BTreeMap<String, Box<str>>,
}

/// Creation time in seconds since 1970; 0 for an object that has never been in a cluster, so that among files
/// the name decides.
pub(super) fn created(metadata: &ObjectMeta) -> i64 {
    metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second())
}
