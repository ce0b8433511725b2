//! The snapshot: everything compile looks at, as it was at one moment.
//!
//! Sorted maps of shared objects, so that equal contents compile to an equal table whatever order they arrived
//! in. Who fills it (the folder's reader, later the watches of a cluster) is not decided here.

use crate::api::{WebSocketClass, WebSocketRoute};
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
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

/// All objects at one moment. Has no `Debug`: it holds private keys.
#[derive(Clone, Default)]
pub struct Snapshot {
    /// The moment, seconds since 1970: what certificates are judged by.
    pub taken_at: i64,
    /// Classes by name, those of other controllers included.
    pub classes: BTreeMap<String, Arc<WebSocketClass>>,
    /// Routes.
    pub routes: BTreeMap<ObjectKey, Arc<WebSocketRoute>>,
    /// Services.
    pub services: BTreeMap<ObjectKey, Arc<Service>>,
    /// Endpoint slices; a slice names its Service by the label `kubernetes.io/service-name`.
    pub endpoint_slices: BTreeMap<ObjectKey, Arc<EndpointSlice>>,
    /// Secrets, with `stringData` as `kubectl apply` takes it.
    pub secrets: BTreeMap<ObjectKey, Arc<Secret>>,
    /// Config maps.
    pub config_maps: BTreeMap<ObjectKey, Arc<ConfigMap>>,
}

/// Creation time in seconds since 1970; 0 for an object that has never been in a cluster, so that among files
/// the name decides.
pub(super) fn created(metadata: &ObjectMeta) -> i64 {
    metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second())
}

/// The bytes under `key`; `stringData` goes before `data`, as the API server merges them.
pub(super) fn secret_entry<'s>(secret: &'s Secret, key: &str) -> Option<&'s [u8]> {
    let written = secret.string_data.as_ref().and_then(|entries| entries.get(key)).map(String::as_bytes);
    written.or_else(|| secret.data.as_ref()?.get(key).map(|bytes| bytes.0.as_slice()))
}
