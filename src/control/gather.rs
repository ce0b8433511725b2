//! Objects of a folder to the snapshot that compile looks at.

use super::document::{Document, Object, ObjectName};
use crate::compile::{ObjectKey, Snapshot};
use std::sync::Arc;

/// The snapshot of these objects. `taken_at`, seconds since 1970, is what certificates are judged by. Of several
/// objects of one name the last counts; the folder's reader lets only one through.
pub fn snapshot(documents: Vec<Document>, taken_at: i64) -> Snapshot {
    let mut snapshot = Snapshot { taken_at, ..Snapshot::default() };
    for document in documents {
        let ObjectName { namespace, name, .. } = document.name;
        let key = ObjectKey::new(namespace, name);
        match document.object {
            Object::Class(class) => drop(snapshot.classes.insert(key.name, Arc::new(class))),
            Object::ConfigMap(map) => drop(snapshot.config_maps.insert(key, Arc::new(map))),
            Object::EndpointSlice(slice) => drop(snapshot.endpoint_slices.insert(key, Arc::new(slice))),
            Object::Route(route) => drop(snapshot.routes.insert(key, Arc::new(route))),
            Object::Secret(secret) => drop(snapshot.secrets.insert(key, Arc::new(secret.0))),
            Object::Service(service) => drop(snapshot.services.insert(key, Arc::new(service))),
        }
    }
    snapshot
}
