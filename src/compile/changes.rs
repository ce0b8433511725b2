//! Changes: which routes and which inputs differ between the last snapshot and this one.
//!
//! Objects are compared by identity, for an object that has not changed stays the same `Arc`. What was last seen is
//! kept alive here, so that no other object can take its address.

use super::backend::{SERVICE_NAME, asks_zone_of};
use super::inputs::Input;
use super::secret::SecretContent;
use super::snapshot::{KeySet, ObjectKey, Snapshot};
use crate::api::{ReferenceGrant, WebSocketRoute};
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// What differs.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Routes that are new, other or gone.
    pub(super) routes: BTreeSet<ObjectKey>,
    pub(super) inputs: BTreeSet<Input>,
}

/// One kind of objects as the last snapshot had it.
#[derive(Debug)]
struct Seen<K, V>(BTreeMap<K, V>);

/// An object that is new, other or gone.
struct Change<K, V> {
    key: K,
    before: Option<V>,
    after: Option<V>,
}

impl<K, V> Default for Seen<K, V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord + Clone, V: Clone> Seen<K, V> {
    /// Becomes `now`, and returns in what that differs by `same`.
    fn follow(&mut self, now: &BTreeMap<K, V>, same: impl Fn(&V, &V) -> bool) -> Vec<Change<K, V>> {
        let mut changes = Vec::new();
        let (mut old, mut new) = (self.0.iter().peekable(), now.iter().peekable());
        loop {
            let order = match (old.peek(), new.peek()) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((old, _)), Some((new, _))) => old.cmp(new),
            };
            let (before, after) = (old.next_if(|_| order.is_le()), new.next_if(|_| order.is_ge()));
            let (key, before, after) = match (before, after) {
                (Some((_, before)), Some((_, after))) if same(before, after) => continue,
                (Some((key, before)), after) => (key, Some(before), after.map(|(_, after)| after)),
                (None, Some((key, after))) => (key, None, Some(after)),
                (None, None) => break,
            };
            changes.push(Change { key: key.clone(), before: before.cloned(), after: after.cloned() });
        }
        for Change { key, after, .. } in &changes {
            match after {
                Some(after) => drop(self.0.insert(key.clone(), after.clone())),
                None => drop(self.0.remove(key)),
            }
        }
        changes
    }
}

/// The slices of each Service, in the order of their names.
#[derive(Debug, Default)]
pub(super) struct Slices(HashMap<ObjectKey, BTreeMap<ObjectKey, Arc<EndpointSlice>>>);

impl Slices {
    pub(super) fn of(&self, service: &ObjectKey) -> impl Iterator<Item = &EndpointSlice> + Clone {
        self.0.get(service).into_iter().flat_map(|slices| slices.values().map(|slice| &**slice))
    }

    /// Moves a slice from the Service it named to the one it names, and returns both.
    fn renew(&mut self, change: &Change<ObjectKey, Arc<EndpointSlice>>) -> impl Iterator<Item = ObjectKey> + use<> {
        let service = |slice: &Arc<EndpointSlice>| service_of(&change.key, slice);
        let (left, entered) = (change.before.as_ref().and_then(service), change.after.as_ref().and_then(service));
        if let Some(service) = &left
            && let Some(slices) = self.0.get_mut(service)
        {
            slices.remove(&change.key);
            if slices.is_empty() {
                self.0.remove(service);
            }
        }
        if let (Some(service), Some(slice)) = (&entered, &change.after) {
            self.0.entry(service.clone()).or_default().insert(change.key.clone(), Arc::clone(slice));
        }
        left.into_iter().chain(entered)
    }
}

/// The Service that a slice names.
fn service_of(key: &ObjectKey, slice: &EndpointSlice) -> Option<ObjectKey> {
    let name = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
    Some(ObjectKey::new(&key.namespace, name))
}

/// The last snapshot, but for what is read anew each time: classes, and objects that could not be read.
#[derive(Debug, Default)]
pub(super) struct Last {
    routes: Seen<ObjectKey, Arc<WebSocketRoute>>,
    services: Seen<ObjectKey, Arc<Service>>,
    endpoint_slices: Seen<ObjectKey, Arc<EndpointSlice>>,
    secrets: Seen<ObjectKey, Arc<SecretContent>>,
    config_maps: Seen<ObjectKey, Arc<ConfigMap>>,
    reference_grants: Seen<ObjectKey, Arc<ReferenceGrant>>,
    namespaces: Seen<String, BTreeMap<String, String>>,
    key_sets: Seen<Arc<str>, Arc<KeySet>>,
    troubles: Seen<(ObjectKey, Arc<str>), Arc<str>>,
    zones: Seen<String, Box<str>>,
    pub(super) slices: Slices,
}

impl Last {
    /// Becomes `now`, and returns in what that differs.
    pub(super) fn follow(&mut self, now: &Snapshot) -> Changes {
        let routes = self.routes.follow(&now.routes, Arc::ptr_eq).into_iter().map(|change| change.key).collect();
        let mut inputs = BTreeSet::new();
        for change in self.services.follow(&now.services, Arc::ptr_eq) {
            inputs.insert(Input::Service(change.key));
        }
        for change in self.endpoint_slices.follow(&now.endpoint_slices, Arc::ptr_eq) {
            inputs.extend(self.slices.renew(&change).map(Input::Service));
        }
        for change in self.secrets.follow(&now.secrets, Arc::ptr_eq) {
            let labels = |secret: &Option<Arc<SecretContent>>| secret.as_ref().is_some_and(|s| !s.labels.is_empty());
            let same = || change.before.as_ref().map(|s| &s.labels) == change.after.as_ref().map(|s| &s.labels);
            if (labels(&change.before) || labels(&change.after)) && !same() {
                inputs.insert(Input::Labels(change.key.namespace.clone()));
            }
            inputs.insert(Input::Secret(change.key));
        }
        for change in self.config_maps.follow(&now.config_maps, Arc::ptr_eq) {
            inputs.insert(Input::ConfigMap(change.key));
        }
        for change in self.reference_grants.follow(&now.reference_grants, Arc::ptr_eq) {
            inputs.insert(Input::Grants(change.key.namespace));
        }
        for change in self.namespaces.follow(&now.namespaces, PartialEq::eq) {
            inputs.insert(Input::Namespace(change.key));
        }
        for change in self.key_sets.follow(&now.key_sets, Arc::ptr_eq) {
            inputs.insert(Input::KeySet(change.key));
        }
        for change in self.troubles.follow(&now.troubles, PartialEq::eq) {
            inputs.insert(Input::Troubles(change.key.0));
        }
        let moved = self.zones.follow(&now.zones, PartialEq::eq).into_iter().map(|change| change.key).collect();
        inputs.extend(self.services_on(&moved).map(Input::Service));
        Changes { routes, inputs }
    }

    /// Keeps of each Secret only that it is there, and its labels.
    pub(super) fn let_go_of_secrets(&mut self) {
        for secret in self.secrets.0.values_mut() {
            *secret = Arc::new(secret.without_entries());
        }
    }

    /// The Services with an endpoint whose zone is that of one of these nodes.
    fn services_on(&self, nodes: &BTreeSet<String>) -> impl Iterator<Item = ObjectKey> {
        let asks = |slice: &EndpointSlice| slice.endpoints.iter().filter_map(asks_zone_of).any(|n| nodes.contains(n));
        let slices = self.endpoint_slices.0.iter().filter(move |(_, slice)| !nodes.is_empty() && asks(slice));
        slices.filter_map(|(key, slice)| service_of(key, slice))
    }
}
