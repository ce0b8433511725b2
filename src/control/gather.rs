//! The contents of a folder as a snapshot: each object under its name.

use super::document::Object;
use super::folder::FolderContents;
use crate::compile::{ObjectKey, Snapshot};
use std::sync::Arc;

impl FolderContents {
    /// The objects as compile takes them, read at `taken_at` (seconds since 1970).
    pub fn snapshot(&self, taken_at: i64) -> Snapshot {
        let mut snapshot = Snapshot { taken_at, ..Snapshot::default() };
        for document in &self.documents {
            let name = document.name.name.clone();
            let key = ObjectKey::new(&document.name.namespace, &name);
            match &document.object {
                Object::Class(class) => drop(snapshot.classes.insert(name, Arc::new(class.clone()))),
                Object::ConfigMap(map) => drop(snapshot.config_maps.insert(key, Arc::new(map.clone()))),
                Object::EndpointSlice(slice) => drop(snapshot.endpoint_slices.insert(key, Arc::new(slice.clone()))),
                Object::Route(route) => drop(snapshot.routes.insert(key, Arc::new(route.clone()))),
                Object::Secret(secret) => drop(snapshot.secrets.insert(key, Arc::new(secret.0.clone()))),
                Object::Service(service) => drop(snapshot.services.insert(key, Arc::new(service.clone()))),
            }
        }
        snapshot
    }
}
