//! Classes: which are ours, which one takes the routes that name none, and whose certificate is the default.
//!
//! A class of another controller gets no verdict and its routes no traffic. A faulty default of a class harms
//! none of its routes: the built-in value stands in, and the class is told.

use super::Options;
use super::certificate::Certificates;
use super::policy::class_faults;
use super::snapshot::{ObjectKey, Snapshot, created};
use super::verdict::{Fault, Findings, ObjectRef, Verdict, Verdicts};
use crate::api::status::reason;
use crate::api::{CONTROLLER, Ceilings, DEFAULT_CLASS_ANNOTATION, Defaults, WebSocketClass};
use crate::routing::Certificate;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A class of ours.
pub(super) struct Class {
    pub(super) name: Arc<str>,
    pub(super) defaults: Defaults,
    pub(super) ceilings: Ceilings,
}

/// Every class of ours, and what they decide together.
pub(super) struct Classes {
    ours: BTreeMap<Arc<str>, Class>,
    /// The names of classes that other controllers serve.
    foreign: Vec<String>,
    default: Option<Arc<str>>,
    pub(super) certificate: Option<Arc<Certificate>>,
}

/// What the class of a route came to.
pub(super) enum Claim<'c> {
    /// Another controller's, or nobody's while that is not to be told: no verdict.
    NotOurs,
    /// Nobody's, and the route is to be told.
    Nobody(Fault),
    /// Ours.
    Ours(&'c Class),
}

impl Classes {
    /// Reads the classes and tells each of ours what became of it.
    pub(super) fn read(
        snapshot: &Snapshot,
        options: &Options,
        certificates: &mut Certificates<'_>,
        verdicts: &mut Verdicts,
    ) -> Self {
        let is_ours = |class: &&Arc<WebSocketClass>| class.spec.controller_name == CONTROLLER;
        let mut objects: Vec<&Arc<WebSocketClass>> = snapshot.classes.values().filter(is_ours).collect();
        objects.sort_by_key(|class| (created(&class.metadata), class.metadata.name.clone()));
        let foreign = snapshot.classes.iter().filter(|(_, c)| !is_ours(c)).map(|(name, _)| name.clone()).collect();
        let default = objects.iter().find(|class| wants_default(class)).map(|class| Arc::from(name(class)));
        // The default class's certificate goes first, then the oldest class's.
        let mut by_right = objects.clone();
        by_right.sort_by_key(|class| default.as_deref() != Some(name(class)));

        let mut classes = Self { ours: BTreeMap::new(), foreign, default, certificate: None };
        let mut provider: Option<String> = None;
        for object in by_right {
            let findings = classes.add(object, certificates, &mut provider);
            verdicts.add(Verdict {
                object: ObjectRef { kind: "WebSocketClass", namespace: String::new(), name: name(object).to_owned() },
                generation: object.metadata.generation,
                conditions: findings.conditions(None),
                notes: findings.notes,
            });
        }
        if let (true, Some(built_in)) = (snapshot.classes.is_empty(), &options.builtin_class) {
            let name: Arc<str> = built_in.as_str().into();
            let class = Class { name: name.clone(), defaults: Defaults::default(), ceilings: Ceilings::default() };
            classes.ours.insert(name.clone(), class);
            classes.default = Some(name);
        }
        classes.certificate = classes.certificate.or_else(|| options.fallback_certificate.clone());
        classes
    }

    /// The class of a route that names `wanted`, or names none.
    pub(super) fn claim(&self, wanted: Option<&str>, options: &Options) -> Claim<'_> {
        let name = wanted.or(self.default.as_deref());
        if let Some(class) = name.and_then(|name| self.ours.get(name)) {
            return Claim::Ours(class);
        }
        let foreign = wanted.is_some_and(|name| self.foreign.iter().any(|f| f == name));
        if foreign || !options.report_unclaimed {
            return Claim::NotOurs;
        }
        let known = self.ours.keys().map(|name| &**name).collect::<Vec<_>>().join(", ");
        let message = match (wanted, known.as_str()) {
            (Some(name), "") => {
                format!("there is no WebSocketClass {name}, nor any other of controller {CONTROLLER}: add one")
            }
            (Some(name), known) => format!("there is no WebSocketClass {name}: add it, or name one of {known}"),
            (None, "") => {
                format!("no WebSocketClass has controllerName {CONTROLLER}: add one, or correct controllerName")
            }
            (None, known) => format!(
                "unset, and no WebSocketClass is the default: name one of {known}, or annotate one with \
                 {DEFAULT_CLASS_ANNOTATION}: \"true\""
            ),
        };
        Claim::Nobody(Fault::new(reason::NO_MATCHING_PARENT, format!("spec.className: {message}")))
    }

    fn add(
        &mut self,
        object: &WebSocketClass,
        certificates: &mut Certificates<'_>,
        provider: &mut Option<String>,
    ) -> Findings {
        let mut findings = Findings::default();
        let own: Arc<str> = name(object).into();
        let defaults = object.spec.defaults.clone().unwrap_or_default();
        let ceilings = object.spec.ceilings.clone().unwrap_or_default();
        findings.unacceptable = class_faults(&own, &defaults, &ceilings);
        if let Some(fault) = findings.unacceptable.last_mut() {
            fault.message.push_str("; until then its routes get the built-in value or the ceiling instead");
        }
        if let Some(default) = self.default.as_ref().filter(|default| **default != own && wants_default(object)) {
            findings.remark = format!(
                "metadata.annotations: {default} is the default class already and goes first (older, or first by \
                 name): remove {DEFAULT_CLASS_ANNOTATION} from one of the two"
            );
        }
        if let Some(reference) = &object.spec.default_certificate_ref {
            match certificates.of(&ObjectKey::new(&reference.namespace, &reference.name)) {
                Err(fault) => findings.unresolved.push(fault.at("spec.defaultCertificateRef")),
                Ok(usable) => {
                    findings.unresolved.extend(usable.stale.map(|fault| fault.at("spec.defaultCertificateRef")));
                    match (&self.certificate, &provider) {
                        (Some(held), Some(holder)) if held.fingerprint != usable.certificate.fingerprint => {
                            findings.overlaps.push(format!(
                                "spec.defaultCertificateRef: there is one default certificate, and class {holder} \
                                 provides it: name the same Secret in both classes, or remove this one"
                            ));
                        }
                        (Some(_), _) => {}
                        (None, _) => {
                            self.certificate = Some(usable.certificate);
                            *provider = Some(own.to_string());
                        }
                    }
                }
            }
        }
        self.ours.insert(own.clone(), Class { name: own, defaults, ceilings });
        findings
    }
}

fn name(class: &WebSocketClass) -> &str {
    class.metadata.name.as_deref().unwrap_or_default()
}

fn wants_default(class: &WebSocketClass) -> bool {
    let annotations = class.metadata.annotations.as_ref();
    annotations.and_then(|a| a.get(DEFAULT_CLASS_ANNOTATION)).is_some_and(|value| value == "true")
}
