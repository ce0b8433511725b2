//! Inputs: what compile may look at beside an object itself, and a record of what it did look at.
//!
//! Whoever reads a route or the classes sees the rest of the snapshot through a [`Lookup`] only, and the lookup notes
//! each input it is asked for: a route is to be read anew exactly when one of its inputs has changed.

use super::Options;
use super::access::{Keyed, ring_of, users_of};
use super::backend::{Backends, ServiceTarget, Services, Spoken};
use super::certificate::{Certificates, Usable};
use super::changes::Slices;
use super::grant;
use super::joint::Joint;
use super::key_source::{Fetched, KeySets, KeySource};
use super::reference::selects;
use super::secret::SecretContent;
use super::snapshot::{ObjectKey, Snapshot};
use super::trust::Bundles;
use super::verdict::Fault;
use crate::api::CaKind;
use crate::api::status::reason;
use crate::routing::access::{KeyRing, Passwords};
use crate::routing::{Backend, BackendId};
use rustls_pki_types::CertificateDer;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::mem;
use std::sync::Arc;

/// Something that is looked at as a whole, there or not.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Input {
    ConfigMap(ObjectKey),
    /// The grants in a namespace.
    Grants(String),
    /// The labels of the Secrets in a namespace.
    Labels(String),
    /// The answers of a key source.
    KeySet(Arc<str>),
    /// The labels of a namespace.
    Namespace(String),
    /// A Secret, and how the moment of the snapshot judges its certificate.
    Secret(ObjectKey),
    /// A Service, its endpoint slices, and the zones of the nodes that these ask for.
    Service(ObjectKey),
    /// What the data plane says of the providers of a route.
    Troubles(ObjectKey),
}

/// What inputs came to, worked out once and shared by their readers.
#[derive(Debug, Default)]
pub(super) struct Memo {
    backends: Backends,
    bundles: Bundles,
    certificates: Certificates,
    key_sets: KeySets,
    key_rings: Joint<KeyRing>,
    passwords: Joint<Passwords>,
}

impl Memo {
    /// The Secrets whose certificate is judged differently at `now` than before.
    pub(super) fn move_to(&mut self, now: i64) -> impl Iterator<Item = Input> {
        self.certificates.move_to(now).map(Input::Secret)
    }

    /// Has `input` worked out anew when it is looked at again.
    pub(super) fn forget(&mut self, input: &Input) {
        match input {
            Input::ConfigMap(key) => self.bundles.forget(CaKind::ConfigMap, key),
            Input::Grants(_) | Input::Labels(_) | Input::Namespace(_) | Input::Troubles(_) => {}
            Input::KeySet(name) => self.key_sets.forget_source(name),
            Input::Secret(key) => {
                self.bundles.forget(CaKind::Secret, key);
                self.certificates.forget(key);
                self.key_sets.forget_secret(key);
                self.key_rings.forget(key);
                self.passwords.forget(key);
            }
            Input::Service(key) => self.backends.forget(key),
        }
    }
}

/// The inputs of a snapshot. Faults lack the field that named the object, unless it was given.
pub(super) struct Lookup<'l> {
    services: Services<'l>,
    snapshot: &'l Snapshot,
    memo: &'l mut Memo,
    seen: BTreeSet<Input>,
    key_sources: Vec<KeySource>,
}

impl<'l> Lookup<'l> {
    pub(super) fn new(snapshot: &'l Snapshot, options: &'l Options, slices: &'l Slices, memo: &'l mut Memo) -> Self {
        let services = Services { snapshot, options, slices };
        Self { services, snapshot, memo, seen: BTreeSet::new(), key_sources: Vec::new() }
    }

    /// What was looked at since the last call.
    pub(super) fn take_seen(&mut self) -> BTreeSet<Input> {
        mem::take(&mut self.seen)
    }

    /// The key sources that were looked at since the last call.
    pub(super) fn take_key_sources(&mut self) -> Vec<KeySource> {
        mem::take(&mut self.key_sources)
    }

    /// Whether somebody fetches what key sources answer.
    pub(super) fn fetches_keys(&self) -> bool {
        self.services.options.fetches_keys
    }

    /// The keys of a source, which is wanted from now on.
    pub(super) fn fetched_keys(&mut self, source: KeySource) -> Fetched {
        self.seen.insert(Input::KeySet(Arc::clone(&source.name)));
        let fetched = self.memo.key_sets.fetched(self.snapshot, &source.name);
        self.key_sources.push(source);
        fetched
    }

    /// The key set in a Secret.
    pub(super) fn local_key_set(&mut self, secret: &ObjectKey) -> Result<Keyed, Fault> {
        self.seen.insert(Input::Secret(secret.clone()));
        self.memo.key_sets.local(self.snapshot, secret)
    }

    /// The shared secrets in a Secret.
    pub(super) fn shared_secrets(&mut self, secret: &ObjectKey) -> Result<Keyed, Fault> {
        self.seen.insert(Input::Secret(secret.clone()));
        self.memo.key_sets.shared(self.snapshot, secret)
    }

    /// Whether a provider of a route cannot decide at the moment, as the data plane sees it.
    pub(super) fn is_in_trouble(&mut self, route: &ObjectKey, provider: &str) -> bool {
        self.seen.insert(Input::Troubles(route.clone()));
        self.snapshot.troubles.contains_key(&(route.clone(), Arc::from(provider)))
    }

    /// The labels of a namespace, if they are known.
    pub(super) fn labels(&mut self, namespace: &str) -> Option<&'l BTreeMap<String, String>> {
        self.seen.insert(Input::Namespace(namespace.to_owned()));
        self.snapshot.namespaces.get(namespace)
    }

    /// Whether a route of namespace `from` may name `target`; the fault's message begins with `field`.
    pub(super) fn permit(&mut self, from: &str, kind: &str, target: &ObjectKey, field: &str) -> Result<(), Fault> {
        if from == target.namespace {
            return Ok(());
        }
        self.seen.insert(Input::Grants(target.namespace.clone()));
        grant::permit(self.snapshot, from, kind, target, field)
    }

    /// The certificate of a Secret.
    pub(super) fn certificate(&mut self, secret: &ObjectKey) -> Result<Usable, Fault> {
        self.seen.insert(Input::Secret(secret.clone()));
        self.memo.certificates.of(self.snapshot, secret)
    }

    /// All of a Secret of credentials.
    pub(super) fn secret(&mut self, key: &ObjectKey) -> Result<&'l SecretContent, Fault> {
        self.seen.insert(Input::Secret(key.clone()));
        self.snapshot.secrets.get(key).map(|secret| &**secret).ok_or_else(|| {
            let message = format!("there is no Secret {key}: create it, or correct the name");
            Fault::new(reason::INVALID_CREDENTIAL_REF, message)
        })
    }

    /// The keys of Secrets of API keys, and what is wrong with some.
    pub(super) fn key_ring(&mut self, secrets: &[ObjectKey]) -> (Arc<KeyRing>, Vec<Fault>) {
        let there = self.there(secrets);
        self.memo.key_rings.of(secrets, || ring_of(&there))
    }

    /// The users in Secrets of Basic authentication, and what is wrong with some.
    pub(super) fn passwords(&mut self, secrets: &[ObjectKey]) -> (Arc<Passwords>, Vec<Fault>) {
        let there = self.there(secrets);
        self.memo.passwords.of(secrets, || users_of(&there))
    }

    fn there<'k>(&mut self, secrets: &'k [ObjectKey]) -> Vec<(&'k ObjectKey, &'l SecretContent)> {
        self.seen.extend(secrets.iter().cloned().map(Input::Secret));
        secrets.iter().filter_map(|key| Some((key, &**self.snapshot.secrets.get(key)?))).collect()
    }

    /// The Secrets of a namespace that have all of `labels`, in the order of their names.
    pub(super) fn selected(&mut self, namespace: &str, labels: &BTreeMap<String, String>) -> Vec<ObjectKey> {
        self.seen.insert(Input::Labels(namespace.to_owned()));
        let there = self.snapshot.secrets.range(ObjectKey::new(namespace, "")..);
        let there = there.take_while(|(key, _)| key.namespace == namespace);
        there.filter(|(_, secret)| selects(labels, &secret.labels)).map(|(key, _)| key.clone()).collect()
    }

    /// The authorities of a CA bundle.
    pub(super) fn bundle(&mut self, kind: CaKind, key: &ObjectKey) -> Result<Vec<CertificateDer<'static>>, Fault> {
        self.seen.insert(match kind {
            CaKind::ConfigMap => Input::ConfigMap(key.clone()),
            CaKind::Secret => Input::Secret(key.clone()),
        });
        self.memo.bundles.of(self.snapshot, kind, key)
    }

    /// The endpoints of a Service port.
    pub(super) fn target(&mut self, service: &ObjectKey, port: u16) -> Result<ServiceTarget, Fault> {
        self.seen.insert(Input::Service(service.clone()));
        self.memo.backends.target(&self.services, service, port)
    }

    /// The backend that is spoken to like `spoken` at a target of `service`; equal ones are one.
    pub(super) fn backend(
        &mut self,
        (service, port): (&ObjectKey, u16),
        target: &ServiceTarget,
        spoken: Spoken,
    ) -> Arc<Backend> {
        self.seen.insert(Input::Service(service.clone()));
        let id =
            BackendId { namespace: service.namespace.as_str().into(), service: service.name.as_str().into(), port };
        self.memo.backends.backend(service, id, target, spoken)
    }
}

/// Who looks at inputs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Reader {
    Classes,
    Route(ObjectKey),
}

/// Who has looked at which inputs: the same relation from both sides.
#[derive(Debug, Default)]
pub(super) struct Readers {
    inputs: HashMap<Reader, BTreeSet<Input>>,
    readers: HashMap<Input, BTreeSet<Reader>>,
}

impl Readers {
    /// Notes what `reader` looks at from now on, and returns what nobody looks at any more.
    pub(super) fn renew(&mut self, reader: &Reader, inputs: BTreeSet<Input>) -> Vec<Input> {
        let before = self.inputs.remove(reader).unwrap_or_default();
        for input in inputs.difference(&before) {
            self.readers.entry(input.clone()).or_default().insert(reader.clone());
        }
        let mut unread = Vec::new();
        for input in before.difference(&inputs) {
            let Some(readers) = self.readers.get_mut(input) else { continue };
            readers.remove(reader);
            if readers.is_empty() {
                self.readers.remove(input);
                unread.push(input.clone());
            }
        }
        if !inputs.is_empty() {
            self.inputs.insert(reader.clone(), inputs);
        }
        unread
    }

    /// The routes that have looked at `input`.
    pub(super) fn routes(&self, input: &Input) -> impl Iterator<Item = &ObjectKey> {
        self.readers.get(input).into_iter().flatten().filter_map(|reader| match reader {
            Reader::Classes => None,
            Reader::Route(key) => Some(key),
        })
    }

    /// Whether anybody looks at `input`.
    pub(super) fn has(&self, input: &Input) -> bool {
        self.readers.contains_key(input)
    }
}
