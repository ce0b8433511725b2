//! Objects as a user would write them, short.

use crate::client::certificate::Made;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Map, Value, json};

/// Kinds without a namespace.
const CLUSTER_SCOPED: [&str; 5] =
    ["ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "Namespace", "WebSocketClass"];

/// What the API server calls the kind of an object, and whether it lives in a namespace.
pub fn resource(api_version: &str, kind: &str) -> (ApiResource, bool) {
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    let kind_of = GroupVersionKind::gvk(group, version, kind);
    (ApiResource::from_gvk(&kind_of), !CLUSTER_SCOPED.contains(&kind))
}

/// Puts the fields of `over` over those of `base`, at every depth.
#[must_use]
pub fn merged(base: Value, over: Value) -> Value {
    match (base, over) {
        (Value::Object(mut base), Value::Object(over)) => {
            for (name, value) in over {
                let old = base.remove(&name).unwrap_or(Value::Null);
                base.insert(name, merged(old, value));
            }
            Value::Object(base)
        }
        (_, over) => over,
    }
}

/// A route of the default class with this spec.
pub fn route(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "sheave.dev/v1alpha1", "kind": "WebSocketRoute", "metadata": {"name": name}, "spec": spec})
}

/// A route of one host that leads everything to port 80 of a Service.
pub fn simple(name: &str, host: &str, service: &str) -> Value {
    route(name, &json!({"hostnames": [host], "rules": [{"backendRefs": [to(service)]}]}))
}

/// A reference to port 80 of a Service.
pub fn to(service: &str) -> Value {
    json!({"name": service, "port": 80})
}

/// A rule for a path prefix.
pub fn prefix(path: &str, service: &str) -> Value {
    json!({"matches": [{"path": {"value": path}}], "backendRefs": [to(service)]})
}

/// A class of Sheave's.
pub fn class(name: &str, spec: &Value) -> Value {
    let spec = merged(json!({"controllerName": "sheave.dev/controller"}), spec.clone());
    json!({"apiVersion": "sheave.dev/v1alpha1", "kind": "WebSocketClass", "metadata": {"name": name}, "spec": spec})
}

/// A TLS Secret.
pub fn secret(name: &str, made: &Made) -> Value {
    let data = json!({"tls.crt": coded(&made.certificate), "tls.key": coded(&made.key)});
    json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": {"name": name}, "data": data})
}

/// An opaque Secret with this (coded) data.
pub fn opaque(name: &str, data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": {"name": name}, "data": data})
}

/// As the data of a Secret wants it.
pub fn coded(text: &str) -> String {
    BASE64_STANDARD.encode(text)
}

/// A `ConfigMap` with a CA bundle.
pub fn bundle(name: &str, made: &Made) -> Value {
    let data = json!({"ca.crt": made.certificate});
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

/// Lets routes of one namespace refer to a kind of this one.
pub fn grant(name: &str, from: &str, group: &str, kind: &str) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1beta1", "kind": "ReferenceGrant", "metadata": {"name": name},
        "spec": {
            "from": [{"group": "sheave.dev", "kind": "WebSocketRoute", "namespace": from}],
            "to": [{"group": group, "kind": kind}],
        },
    })
}

/// The scriptable backend: a Deployment, and a Service with ports 80 (ws) and 443 (wss).
#[derive(Clone, Debug)]
pub struct Backend {
    name: String,
    replicas: u32,
    environment: Map<String, Value>,
    grace: u32,
    secret: Option<String>,
    service: Value,
}

impl Backend {
    /// One pod that exits at SIGTERM.
    pub fn new(name: &str) -> Self {
        let (name, environment) = (name.to_owned(), Map::new());
        Self { name, replicas: 1, environment, grace: 10, secret: None, service: json!({}) }
    }

    /// How many pods.
    #[must_use]
    pub fn replicas(mut self, replicas: u32) -> Self {
        self.replicas = replicas;
        self
    }

    /// A variable of the pods' environment.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.into());
        self
    }

    /// What they do at SIGTERM: exit, close or ignore.
    #[must_use]
    pub fn on_term(self, what: &str) -> Self {
        self.set("ON_TERM", what)
    }

    /// terminationGracePeriodSeconds.
    #[must_use]
    pub fn grace(mut self, seconds: u32) -> Self {
        self.grace = seconds;
        self
    }

    /// The TLS Secret whose certificate they show.
    #[must_use]
    pub fn certificate(mut self, secret: &str) -> Self {
        self.secret = Some(secret.to_owned());
        self
    }

    /// Fields put over the Service's spec.
    #[must_use]
    pub fn service(mut self, spec: Value) -> Self {
        self.service = spec;
        self
    }

    /// The Service and the Deployment.
    pub fn objects(&self) -> [Value; 2] {
        let (name, labels) = (&self.name, json!({"app": self.name}));
        let service = json!({
            "selector": labels,
            "ports": [
                {"name": "ws", "port": 80, "targetPort": "ws"},
                {"name": "wss", "port": 443, "targetPort": "wss"},
            ],
        });
        let mut environment =
            vec![json!({"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}})];
        environment.extend(self.environment.iter().map(|(name, value)| json!({"name": name, "value": value})));
        let (mut mounts, mut volumes) = (json!([]), json!([]));
        if let Some(secret) = &self.secret {
            environment.push(json!({"name": "TLS_DIR", "value": "/tls"}));
            mounts = json!([{"name": "tls", "mountPath": "/tls", "readOnly": true}]);
            volumes = json!([{"name": "tls", "secret": {"secretName": secret}}]);
        }
        let container = json!({
            "name": "backend",
            "image": super::variable("E2E_IMAGE", "sheave-e2e:dev"),
            "imagePullPolicy": "IfNotPresent",
            "env": environment,
            "volumeMounts": mounts,
            "ports": [
                {"name": "ws", "containerPort": 8080},
                {"name": "wss", "containerPort": 8443},
                {"name": "control", "containerPort": 8081},
            ],
            "readinessProbe": {"httpGet": {"path": "/ready", "port": "control"}, "periodSeconds": 1, "failureThreshold": 1},
            "resources": {"requests": {"cpu": "5m", "memory": "16Mi"}},
            "securityContext": {
                "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": true,
            },
        });
        let pod = json!({
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": self.grace,
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            "volumes": volumes,
        });
        let deployment = json!({
            "replicas": self.replicas,
            "selector": {"matchLabels": labels},
            "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        });
        [
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
                "spec": merged(service, self.service.clone())}),
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": deployment}),
        ]
    }
}
