//! Classes: which are ours, which one takes the routes that name none, and whose certificate is the default.
//!
//! A class of another controller gets no verdict and its routes no traffic. A faulty default of a class harms
//! none of its routes: the built-in value stands in, and the class is told.

use super::Options;
use super::access::{class_faults as access_faults, detection};
use super::inputs::Lookup;
use super::policy::class_faults;
use super::snapshot::{ObjectKey, Snapshot, created};
use super::verdict::{self, Fault, Findings, ObjectRef, Verdict, Verdicts};
use crate::api::status::reason;
use crate::api::{CONTROLLER, Ceilings, DEFAULT_CLASS_ANNOTATION, Defaults, NamespaceSource, WebSocketClass};
use crate::routing::Certificate;
use crate::routing::access::ClientDetection;
use kube::core::{Selector, SelectorExt};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A class of ours.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Class {
    pub(super) name: Arc<str>,
    /// The namespaces whose routes it admits; `None` for all.
    admitted: Option<Result<Selector, String>>,
    pub(super) defaults: Defaults,
    pub(super) ceilings: Ceilings,
    pub(super) detection: Arc<ClientDetection>,
}

/// Every class of ours, and what they decide together: all that a route depends on of classes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Classes {
    ours: BTreeMap<Arc<str>, Class>,
    /// The names of classes that other controllers serve.
    foreign: Vec<String>,
    default: Option<Arc<str>>,
}

/// The default certificate as far as it is settled, and the name of the class that provides it.
type Provided = Option<(Arc<Certificate>, Arc<str>)>;

/// What the class of a route came to.
pub(super) enum Claim<'c> {
    /// Another controller's: no verdict.
    NotOurs,
    /// Nobody's, and the route is to be told.
    Nobody(Fault),
    /// Ours.
    Ours(&'c Class),
}

impl Class {
    /// Whether a route of `namespace` may belong to this class.
    fn admits(&self, namespace: &str, lookup: &mut Lookup<'_>) -> Result<(), Fault> {
        let Some(selector) = &self.admitted else { return Ok(()) };
        let labels = lookup.labels(namespace);
        let name = &self.name;
        let message = match (selector, labels) {
            (Ok(selector), Some(labels)) if selector.matches(labels) => return Ok(()),
            (Ok(selector), Some(_)) => format!(
                "class {name} admits namespaces with the labels {selector}, and {namespace} lacks them: label the \
                 namespace, or name another class"
            ),
            (Ok(_), None) => format!(
                "class {name} admits namespaces by their labels, and those of {namespace} are not known: let Sheave \
                 list namespaces, or set from: All in the class's allowedRoutes"
            ),
            (Err(error), _) => format!("the selector of class {name} cannot be used ({error}): correct it there"),
        };
        Err(Fault::new(reason::NOT_ALLOWED_BY_LISTENERS, format!("spec.className: {message}")))
    }
}

impl Classes {
    /// Reads the classes, tells each of ours what became of it, and returns the default certificate beside them.
    pub(super) fn read(
        snapshot: &Snapshot,
        options: &Options,
        lookup: &mut Lookup<'_>,
        verdicts: &mut Verdicts,
    ) -> (Self, Option<Arc<Certificate>>) {
        let is_ours = |class: &&Arc<WebSocketClass>| class.spec.controller_name == CONTROLLER;
        let mut objects: Vec<&Arc<WebSocketClass>> = snapshot.classes.values().filter(is_ours).collect();
        objects.sort_by_key(|class| (created(&class.metadata), class.metadata.name.clone()));
        let foreign = snapshot.classes.iter().filter(|(_, c)| !is_ours(c)).map(|(name, _)| name.clone()).collect();
        let default = objects.iter().find(|class| wants_default(class)).map(|class| Arc::from(name(class)));
        // The default class's certificate goes first, then the oldest class's.
        let mut by_right = objects.clone();
        by_right.sort_by_key(|class| default.as_deref() != Some(name(class)));

        let mut classes = Self { ours: BTreeMap::new(), foreign, default };
        let mut provided: Provided = None;
        for object in by_right {
            let findings = classes.add(object, lookup, &mut provided);
            verdicts.add(Verdict {
                object: ObjectRef { kind: "WebSocketClass", namespace: String::new(), name: name(object).to_owned() },
                generation: object.metadata.generation,
                conditions: findings.conditions(None),
                notes: findings.notes,
            });
        }
        for (name, unreadable) in &snapshot.unreadable_classes {
            verdicts.add(verdict::unreadable("WebSocketClass", "", name, unreadable, false));
        }
        let none = snapshot.classes.is_empty() && snapshot.unreadable_classes.is_empty();
        if let (true, Some(built_in)) = (none, &options.builtin_class) {
            let name: Arc<str> = built_in.as_str().into();
            let (defaults, ceilings) = (Defaults::default(), Ceilings::default());
            let class = Class { name: name.clone(), admitted: None, defaults, ceilings, detection: Arc::default() };
            classes.ours.insert(name.clone(), class);
            classes.default = Some(name);
        }
        let certificate = provided.map(|(certificate, _)| certificate);
        (classes, certificate.or_else(|| options.fallback_certificate.clone()))
    }

    /// The class of a route in `namespace` that names `wanted`, or names none.
    pub(super) fn claim(&self, wanted: Option<&str>, namespace: &str, lookup: &mut Lookup<'_>) -> Claim<'_> {
        let name = wanted.or(self.default.as_deref());
        if let Some(class) = name.and_then(|name| self.ours.get(name)) {
            return match class.admits(namespace, lookup) {
                Ok(()) => Claim::Ours(class),
                Err(fault) => Claim::Nobody(fault),
            };
        }
        if wanted.is_some_and(|name| self.foreign.iter().any(|f| f == name)) {
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

    fn add(&mut self, object: &WebSocketClass, lookup: &mut Lookup<'_>, provided: &mut Provided) -> Findings {
        let mut findings = Findings::default();
        let own: Arc<str> = name(object).into();
        let defaults = object.spec.defaults.clone().unwrap_or_default();
        let ceilings = object.spec.ceilings.clone().unwrap_or_default();
        findings.unacceptable = class_faults(&own, &defaults, &ceilings);
        let access = access_faults(&defaults);
        if let Some(fault) = findings.unacceptable.last_mut() {
            fault.message.push_str("; until then its routes get the built-in value or the ceiling instead");
        }
        findings.unacceptable.extend(access);
        if let Some(default) = self.default.as_ref().filter(|default| **default != own && wants_default(object)) {
            findings.remark = format!(
                "metadata.annotations: {default} is the default class already and goes first (older, or first by \
                 name): remove {DEFAULT_CLASS_ANNOTATION} from one of the two"
            );
        }
        if let Some(reference) = &object.spec.default_certificate_ref {
            match lookup.certificate(&ObjectKey::new(&reference.namespace, &reference.name)) {
                Err(fault) => findings.unresolved.push(fault.at("spec.defaultCertificateRef")),
                Ok(usable) => {
                    findings.unresolved.extend(usable.stale.map(|fault| fault.at("spec.defaultCertificateRef")));
                    match provided {
                        Some((held, holder)) if held.fingerprint != usable.certificate.fingerprint => {
                            findings.overlaps.push(format!(
                                "spec.defaultCertificateRef: there is one default certificate, and class {holder} \
                                 provides it: name the same Secret in both classes, or remove this one"
                            ));
                        }
                        Some(_) => {}
                        None => *provided = Some((usable.certificate, Arc::clone(&own))),
                    }
                }
            }
        }
        let namespaces = object.spec.allowed_routes.as_ref().map(|allowed| &allowed.namespaces);
        let admitted = namespaces.filter(|namespaces| namespaces.from == NamespaceSource::Selector).map(|namespaces| {
            let selector = Selector::try_from(namespaces.selector.clone().unwrap_or_default());
            selector.map_err(|error| error.to_string())
        });
        if let Some(Err(error)) = &admitted {
            let message = format!(
                "spec.allowedRoutes.namespaces.selector: {error}: use the operators In, NotIn, Exists and DoesNotExist; \
                 until then no route is admitted"
            );
            findings.unacceptable.push(Fault::new(reason::UNSUPPORTED_VALUE, message));
        }
        let detection = Arc::new(detection(object.spec.client_ip_detection.as_ref(), &mut findings.unacceptable));
        self.ours.insert(own.clone(), Class { name: own, admitted, defaults, ceilings, detection });
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
