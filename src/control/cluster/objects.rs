//! The objects of the cluster as they are known now: a snapshot that notices keep up to date, and the statuses beside it.
//!
//! Content of Secrets and ConfigMaps is kept only while a route or class names them (see [`Contents`]); of the others no
//! more than that they exist. One that is named later is asked for again ([`Objects::missing`]). Nothing is judged here.

use super::contents::{Contents, Entries, Extent, Keys};
use super::decode::{Item, Stored};
use super::watch::{Kind, Notice, Watch, What};
use crate::compile::{ObjectKey, ObjectRef, Reference, Refers, SecretContent, Snapshot, Unreadable};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// What a notice came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Effect {
    /// Nothing that anyone looks at.
    Nothing,
    /// The status of an object of ours is another.
    Status,
    /// A table made of this may be another.
    Table,
}

/// Everything known.
#[derive(Debug, Default)]
pub(super) struct Objects {
    pub(super) snapshot: Snapshot,
    pub(super) statuses: HashMap<ObjectRef, Stored>,
    /// Lists under way: what they have shown so far.
    listing: HashMap<Watch, HashSet<ObjectKey>>,
    listed: HashSet<Watch>,
    contents: Contents,
}

impl Objects {
    /// Whether a watch has brought everything there is at least once.
    pub(super) fn has_listed(&self, watch: &Watch) -> bool {
        self.listed.contains(watch)
    }

    /// Objects that are named and exist, and whose content was not kept when it came.
    pub(super) fn missing(&self) -> Vec<Reference> {
        self.contents.missing()
    }

    /// Notes that everything a reference means has been taken in.
    pub(super) fn answered(&mut self, reference: &Reference) {
        self.contents.answered(reference);
    }

    /// Takes a notice in.
    pub(super) fn take(&mut self, Notice { watch, what }: Notice) -> Effect {
        match what {
            What::Began => {
                self.listing.insert(watch, HashSet::new());
                Effect::Nothing
            }
            What::Present(key, item) => {
                if let Some(seen) = self.listing.get_mut(&watch) {
                    seen.insert(key.clone());
                }
                self.present(key, *item)
            }
            What::Absent(key) => {
                if let Some(seen) = self.listing.get_mut(&watch) {
                    seen.remove(&key);
                }
                self.absent(watch.kind, &key)
            }
            What::Listed => {
                let seen = self.listing.remove(&watch).unwrap_or_default();
                let gone: Vec<_> = self.keys(&watch).into_iter().filter(|key| !seen.contains(key)).collect();
                // The first list is news even when it is empty: somebody waits for it.
                let first = if self.listed.insert(watch.clone()) { Effect::Table } else { Effect::Nothing };
                gone.iter().map(|key| self.absent(watch.kind, key)).fold(first, Effect::max)
            }
        }
    }

    /// The objects known of a watch.
    fn keys(&self, watch: &Watch) -> Vec<ObjectKey> {
        let snapshot = &self.snapshot;
        let cluster = |name: &String| ObjectKey::new("default", name);
        let all: Box<dyn Iterator<Item = ObjectKey>> = match watch.kind {
            Kind::Class => Box::new(snapshot.classes.keys().chain(snapshot.unreadable_classes.keys()).map(cluster)),
            Kind::ConfigMap | Kind::Secret => {
                Box::new(self.contents.present().filter_map(|reference| match (watch.kind, reference) {
                    (Kind::ConfigMap, Reference::ConfigMap(key)) | (Kind::Secret, Reference::Secret(key)) => {
                        Some(key.clone())
                    }
                    _ => None,
                }))
            }
            Kind::EndpointSlice => Box::new(snapshot.endpoint_slices.keys().cloned()),
            Kind::Namespace => Box::new(snapshot.namespaces.keys().map(cluster)),
            Kind::Node => Box::new(snapshot.zones.keys().map(cluster)),
            Kind::ReferenceGrant => Box::new(snapshot.reference_grants.keys().cloned()),
            Kind::Route => Box::new(snapshot.routes.keys().chain(snapshot.unreadable_routes.keys()).cloned()),
            Kind::Service => Box::new(snapshot.services.keys().cloned()),
        };
        let within = |key: &ObjectKey| watch.namespace.as_deref().is_none_or(|namespace| *namespace == *key.namespace);
        all.filter(within).collect()
    }

    fn present(&mut self, key: ObjectKey, item: Item) -> Effect {
        let snapshot = &mut self.snapshot;
        match item {
            Item::Class(class, stored) => {
                let object = owner(Kind::Class, &key);
                let status = set(&mut self.statuses, object.clone(), stored);
                let references = class.as_ref().as_ref().map(Refers::references).unwrap_or_default();
                let table = either(&mut snapshot.classes, &mut snapshot.unreadable_classes, key.name, *class);
                self.name(object, references);
                changed(table).max(if status { Effect::Status } else { Effect::Nothing })
            }
            Item::Route(route, stored) => {
                let object = owner(Kind::Route, &key);
                let status = set(&mut self.statuses, object.clone(), stored);
                let references = route.as_ref().as_ref().map(Refers::references).unwrap_or_default();
                let table = either(&mut snapshot.routes, &mut snapshot.unreadable_routes, key, *route);
                self.name(object, references);
                changed(table).max(if status { Effect::Status } else { Effect::Nothing })
            }
            Item::ConfigMap(map) => {
                let wanted = self.contents.appeared(Reference::ConfigMap(key.clone()));
                changed(wanted && replace(&mut snapshot.config_maps, key, map))
            }
            Item::Secret(content) => {
                self.contents.appeared(Reference::Secret(key.clone()));
                changed(self.keep(key, content))
            }
            Item::EndpointSlice(slice) => changed(replace(&mut snapshot.endpoint_slices, key, slice)),
            Item::Namespace(labels) => changed(insert(&mut snapshot.namespaces, key.name, labels)),
            Item::Node(Some(zone)) => changed(insert(&mut snapshot.zones, key.name, zone)),
            Item::Node(None) => changed(snapshot.zones.remove(&key.name).is_some()),
            Item::ReferenceGrant(grant) => changed(replace(&mut snapshot.reference_grants, key, grant)),
            Item::Service(service) => changed(replace(&mut snapshot.services, key, *service)),
        }
    }

    fn absent(&mut self, kind: Kind, key: &ObjectKey) -> Effect {
        let snapshot = &mut self.snapshot;
        changed(match kind {
            Kind::Class => {
                let gone = snapshot.classes.remove(&key.name).is_some();
                let gone = snapshot.unreadable_classes.remove(&key.name).is_some() || gone;
                self.forget(owner(kind, key));
                gone
            }
            Kind::Route => {
                let gone = snapshot.routes.remove(key).is_some();
                let gone = snapshot.unreadable_routes.remove(key).is_some() || gone;
                self.forget(owner(kind, key));
                gone
            }
            Kind::ConfigMap => {
                self.contents.vanished(&Reference::ConfigMap(key.clone()));
                snapshot.config_maps.remove(key).is_some()
            }
            Kind::Secret => {
                self.contents.vanished(&Reference::Secret(key.clone()));
                snapshot.secrets.remove(key).is_some()
            }
            Kind::EndpointSlice => snapshot.endpoint_slices.remove(key).is_some(),
            Kind::Namespace => snapshot.namespaces.remove(&key.name).is_some(),
            Kind::Node => snapshot.zones.remove(&key.name).is_some(),
            Kind::ReferenceGrant => snapshot.reference_grants.remove(key).is_some(),
            Kind::Service => snapshot.services.remove(key).is_some(),
        })
    }

    fn forget(&mut self, object: ObjectRef) {
        self.statuses.remove(&object);
        self.name(object, Vec::new());
    }

    /// Notes what an object names, and lets go of what nobody names any more.
    fn name(&mut self, object: ObjectRef, references: Vec<Reference>) {
        let Self { snapshot, contents, .. } = self;
        let held = |key: &ObjectKey| snapshot.config_maps.contains_key(key);
        // Of Secrets that come later nothing can have been missed.
        let came = self.listing.keys().chain(&self.listed).any(|watch| watch.kind == Kind::Secret);
        for unwanted in contents.name(object, references, held, came) {
            match unwanted {
                Reference::ConfigMap(key) => drop(self.snapshot.config_maps.remove(&key)),
                Reference::Credentials(key) | Reference::Keys(key) | Reference::Secret(key) => self.settle(&key),
                Reference::Selected(selection) => {
                    let selected = |(key, secret): &(&ObjectKey, &Arc<SecretContent>)| {
                        selection.selects(&key.namespace, &secret.labels)
                    };
                    let keys: Vec<_> =
                        self.snapshot.secrets.iter().filter(selected).map(|(key, _)| key.clone()).collect();
                    for key in &keys {
                        self.settle(key);
                    }
                }
            }
        }
    }

    /// Keeps of a Secret what is wanted of it, which must be here. Says whether that is news.
    fn keep(&mut self, key: ObjectKey, mut content: SecretContent) -> bool {
        let want = self.contents.want(&key, &content.labels);
        self.contents.keeps(&key, want);
        match want.keys {
            Keys::None => content.keys.clear(),
            Keys::Digests | Keys::Selected => content.digest(),
        }
        if want.keys != Keys::Selected {
            content.labels.clear();
        }
        match want.entries {
            Entries::None => content.retain(|_| false),
            Entries::Certificates => content.retain(Reference::wants),
            Entries::All => {}
        }
        if want == Extent::default() {
            return self.snapshot.secrets.remove(&key).is_some();
        }
        replace(&mut self.snapshot.secrets, key, content)
    }

    /// Lets go of what is not wanted any more of a Secret.
    fn settle(&mut self, key: &ObjectKey) {
        let Some(content) = self.snapshot.secrets.get(key) else { return };
        // What is wanted and not kept is on its way, and then so is this.
        if self.contents.kept(key).covers(self.contents.want(key, &content.labels)) {
            let content = SecretContent::clone(content);
            self.keep(key.clone(), content);
        }
    }
}

/// How verdicts name an object of ours.
fn owner(kind: Kind, key: &ObjectKey) -> ObjectRef {
    match kind {
        Kind::Class => ObjectRef { kind: "WebSocketClass", namespace: String::new(), name: key.name.clone() },
        _ => ObjectRef { kind: "WebSocketRoute", namespace: key.namespace.clone(), name: key.name.clone() },
    }
}

fn changed(changed: bool) -> Effect {
    if changed { Effect::Table } else { Effect::Nothing }
}

/// Puts a value in and says whether that is news. An equal one keeps its place, and so its identity.
fn insert<K: Ord, V: PartialEq>(map: &mut BTreeMap<K, V>, key: K, value: V) -> bool {
    if map.get(&key) == Some(&value) {
        return false;
    }
    map.insert(key, value);
    true
}

fn replace<K: Ord, V: PartialEq>(map: &mut BTreeMap<K, Arc<V>>, key: K, value: V) -> bool {
    if map.get(&key).is_some_and(|held| **held == value) {
        return false;
    }
    map.insert(key, Arc::new(value));
    true
}

fn set(statuses: &mut HashMap<ObjectRef, Stored>, object: ObjectRef, stored: Stored) -> bool {
    let before = statuses.get(&object);
    if before == Some(&stored) {
        return false;
    }
    statuses.insert(object, stored);
    true
}

/// Puts an object among the readable or the unreadable ones.
fn either<K: Ord + Clone, T: PartialEq>(
    readable: &mut BTreeMap<K, Arc<T>>,
    unreadable: &mut BTreeMap<K, Unreadable>,
    key: K,
    object: Result<T, Unreadable>,
) -> bool {
    match object {
        Ok(object) => {
            let mended = unreadable.remove(&key).is_some();
            replace(readable, key, object) || mended
        }
        Err(faults) => {
            let lost = readable.remove(&key).is_some();
            insert(unreadable, key, faults) || lost
        }
    }
}

#[cfg(test)]
mod tests;
