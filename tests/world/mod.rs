//! A small world to edit at random: few names, so that everything meets everything.

use fastrand::Rng;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sheave::compile::{KeySet, ObjectKey, Options, SecretContent, Snapshot, Unreadable};
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

const NAMESPACES: [&str; 3] = ["one", "two", "three"];
const NODES: [&str; 2] = ["node-a", "node-b"];
const SERVICES: [&str; 3] = ["chat", "game", "gone"];
const SECRETS: [&str; 3] = ["tls-a", "tls-b", "ca"];
const CLASSES: [&str; 4] = ["main", "other", "foreign", "nobody"];

/// What an issuer may answer, or a Secret hold: an EC key (RFC 7517 appendix A.1), nothing, and no key set at all.
const KEY_SETS: [&str; 3] = [
    r#"{"keys": [{"kty": "EC", "crv": "P-256", "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
        "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}"#,
    r#"{"keys": []}"#,
    "<html>",
];
const ISSUERS: [&str; 2] = ["https://id.test/keys", "https://id.other/keys"];

/// Moments before, in and after the validity of one certificate or the other (2019 to 2031).
const MOMENTS: [i64; 5] = [1_546_300_800, 1_600_000_000, 1_767_225_600, 1_800_000_000, 1_924_992_000];

/// Certificates for different names and times, with their keys.
static CERTIFICATES: LazyLock<Vec<(String, String)>> = LazyLock::new(|| {
    let make = |names: &[&str], from, to| {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).expect("these names are valid");
        (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
        let key = KeyPair::generate().expect("a key");
        (params.self_signed(&key).expect("a certificate").pem(), key.serialize_pem())
    };
    vec![
        make(&["a.test"], 2020, 2025),
        make(&["a.test", "b.test"], 2020, 2030),
        make(&["*.b.test", "*.test"], 2026, 2028),
    ]
});

pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) snapshot: Snapshot,
    pub(crate) options: Options,
}

fn object<T: DeserializeOwned>(value: Value) -> Arc<T> {
    Arc::new(serde_json::from_value(value).expect("well formed"))
}

/// Puts an object into a map or, now and then, takes it away.
fn put<K: Ord, V>(rng: &mut Rng, map: &mut BTreeMap<K, V>, key: K, value: V) {
    if rng.u8(..4) == 0 {
        map.remove(&key);
    } else {
        map.insert(key, value);
    }
}

impl World {
    pub(crate) fn new(rng: Rng) -> Self {
        let mut world = Self { rng, snapshot: Snapshot::default(), options: Options::default() };
        world.snapshot.taken_at = MOMENTS[2];
        for _ in 0..40 {
            world.edit();
        }
        world
    }

    fn one_of<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.rng.usize(..of.len())]
    }

    fn some_of(&mut self, most: usize, mut make: impl FnMut(&mut Self) -> Value) -> Vec<Value> {
        (0..self.rng.usize(..=most)).map(|_| make(self)).collect()
    }

    fn rarely(&mut self) -> bool {
        self.rng.u8(..5) == 0
    }

    fn key(&mut self, names: &[&str]) -> ObjectKey {
        let namespace = self.one_of(&NAMESPACES);
        ObjectKey::new(namespace, self.one_of(names))
    }

    /// Changes one thing and says of what kind.
    pub(crate) fn edit(&mut self) -> &'static str {
        match self.rng.u8(..21) {
            0..7 => self.route(),
            7 | 8 => self.service(),
            9..12 => self.slice(),
            12 | 13 => self.secret(),
            14 => self.config_map(),
            15 => self.class(),
            16 => self.grant(),
            17 => self.namespace(),
            18 => self.node_or_moment(),
            19 => self.learnt(),
            _ => self.unreadable_or_touched(),
        }
    }

    fn route(&mut self) -> &'static str {
        let key = self.key(&["r1", "r2", "r3", "r4"]);
        let mut spec = json!({"rules": self.rules()});
        let hosts = self.some_of(3, |w| w.one_of(&["a.test", "b.test", "*.b.test", "*.test"]).into());
        if self.rng.bool() && !hosts.is_empty() {
            let references = self.some_of(2, |w| {
                let mut reference = json!({"name": w.one_of(&SECRETS)});
                if w.rarely() {
                    reference["namespace"] = w.one_of(&NAMESPACES).into();
                }
                reference
            });
            spec["tls"] = json!({"certificateRefs": references});
        }
        spec["hostnames"] = hosts.into();
        if self.rng.bool() {
            spec["className"] = self.one_of(&CLASSES).into();
        }
        if self.rarely() {
            spec["messages"] = json!({"maxMessageBytes": self.rng.u32(..3) * 1000});
        }
        if self.rarely() {
            spec["authentication"] = json!({"providers": [self.provider()]});
        }
        let mut metadata = json!({"name": key.name, "namespace": key.namespace, "generation": self.rng.u8(2..)});
        if self.rng.bool() {
            metadata["creationTimestamp"] = self.one_of(&["2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z"]).into();
        }
        let route = json!({
            "apiVersion": "sheave.dev/v1alpha1", "kind": "WebSocketRoute", "metadata": metadata, "spec": spec,
        });
        put(&mut self.rng, &mut self.snapshot.routes, key, object(route));
        "route"
    }

    /// A way to authenticate.
    fn provider(&mut self) -> Value {
        match self.rng.u8(..4) {
            0 => {
                let uri = self.one_of(&ISSUERS);
                let mut remote = json!({"uri": uri, "cacheDuration": self.one_of(&["1m", "2m"])});
                if self.rarely() {
                    remote["caCertificateRefs"] = json!([{"name": self.one_of(&SECRETS)}]);
                }
                json!({"name": "tokens", "type": "JWT", "jwt": {"remoteJWKS": remote}})
            }
            1 => {
                let keys = self.one_of(&["localJWKS", "secretRef"]);
                json!({"name": "tokens", "type": "JWT", "jwt": {keys: {"name": self.one_of(&SECRETS)}}})
            }
            2 => {
                let service = json!({"name": self.one_of(&SERVICES), "port": 80});
                json!({"name": "asked", "type": "External", "external": {"backendRef": service}})
            }
            _ => self.provider_by_secrets(),
        }
    }

    /// What is known beside the objects: the answer of an issuer, or that a provider is in trouble.
    fn learnt(&mut self) -> &'static str {
        if self.rng.bool() {
            let body = (!self.rarely()).then(|| self.one_of(&KEY_SETS).into());
            let trouble = self.rng.bool().then(|| "it does not answer in time".into());
            let name = Arc::from(self.one_of(&ISSUERS));
            put(&mut self.rng, &mut self.snapshot.key_sets, name, Arc::new(KeySet { body, trouble }));
            return "key set";
        }
        let key = (self.key(&["r1", "r2", "r3", "r4"]), Arc::from("asked"));
        put(&mut self.rng, &mut self.snapshot.troubles, key, "no answer".into());
        "trouble"
    }

    fn provider_by_secrets(&mut self) -> Value {
        let references = self.some_of(2, |w| {
            let mut reference = json!({"name": w.one_of(&SECRETS)});
            if w.rarely() {
                reference["namespace"] = w.one_of(&NAMESPACES).into();
            }
            reference
        });
        if self.rng.bool() {
            return json!({"name": "users", "type": "Basic", "basic": {"credentialRefs": references}});
        }
        let mut keys = json!({"credentialRefs": references});
        if self.rng.bool() {
            keys["credentialSelector"] = json!({"matchLabels": {"use": self.one_of(&["keys", "more"])}});
        }
        json!({"name": "keys", "type": "APIKey", "extractFrom": [{"type": "Header", "name": "x-key"}], "apiKey": keys})
    }

    fn rules(&mut self) -> Vec<Value> {
        let mut rules = self.some_of(2, Self::rule);
        rules.push(self.rule());
        rules
    }

    fn rule(&mut self) -> Value {
        let matches = self.some_of(2, |w| {
            let (kind, path) = [
                ("Exact", "/x"),
                ("PathPrefix", "/"),
                ("PathPrefix", "/x"),
                ("PathPrefix", "/x/y"),
                ("RegularExpression", "/r/[0-9]+"),
                ("RegularExpression", "/(r|x)/?.*"),
                ("RegularExpression", "/("),
            ][w.rng.usize(..7)];
            let mut matching = json!({"path": {"type": kind, "value": path}});
            if w.rarely() {
                matching["headers"] = json!([{"name": "X-V", "value": w.one_of(&["1", "2"])}]);
            }
            if w.rarely() {
                matching["subprotocols"] = json!(["mqtt"]);
            }
            matching
        });
        let mut backends = self.some_of(1, Self::backend);
        backends.push(self.backend());
        let mut rule = json!({"matches": matches, "backendRefs": backends});
        if self.rng.bool() {
            let name = self.one_of(&SECRETS);
            let kind = self.one_of(&["ConfigMap", "Secret"]);
            rule["backendTLS"] = json!({"hostname": "b.test", "caCertificateRefs": [{"kind": kind, "name": name}]});
            if self.rng.bool() {
                rule["backendTLS"]["clientCertificateRef"] = json!({"name": self.one_of(&SECRETS)});
            }
        }
        rule
    }

    fn backend(&mut self) -> Value {
        let mut backend = json!({"name": self.one_of(&SERVICES), "port": 80 + self.rng.u8(..2)});
        if self.rarely() {
            backend["namespace"] = self.one_of(&NAMESPACES).into();
        }
        if self.rng.bool() {
            backend["protocol"] = self.one_of(&["WS", "WSS"]).into();
        }
        backend
    }

    fn service(&mut self) -> &'static str {
        let key = self.key(&SERVICES);
        let protocol = self.one_of(&["http", "https", "h2c"]);
        let spec = if self.rarely() {
            json!({"type": "ExternalName", "externalName": "outside.example"})
        } else {
            json!({"ports": [{"name": self.one_of(&["ws", "other"]), "port": 80, "appProtocol": protocol}]})
        };
        let service = json!({"metadata": {"name": key.name, "namespace": key.namespace}, "spec": spec});
        put(&mut self.rng, &mut self.snapshot.services, key, object(service));
        "service"
    }

    fn slice(&mut self) -> &'static str {
        let key = self.key(&["s1", "s2", "s3"]);
        let endpoints = self.some_of(3, |w| {
            let mut endpoint = json!({
                "addresses": [format!("10.0.0.{}", w.rng.u8(1..5))],
                "conditions": {"ready": w.rng.bool(), "terminating": w.rarely()},
                "nodeName": w.one_of(&NODES),
            });
            if w.rng.bool() {
                endpoint["zone"] = "own".into();
            }
            endpoint
        });
        let mut metadata = json!({"name": key.name, "namespace": key.namespace});
        if !self.rarely() {
            metadata["labels"] = json!({"kubernetes.io/service-name": self.one_of(&SERVICES)});
        }
        let slice = json!({
            "metadata": metadata, "addressType": "IPv4", "endpoints": endpoints,
            "ports": [{"name": "ws", "port": 8080}],
        });
        put(&mut self.rng, &mut self.snapshot.endpoint_slices, key, object(slice));
        "slice"
    }

    fn secret(&mut self) -> &'static str {
        let key = self.key(&SECRETS);
        let (certificate, own) = &CERTIFICATES[self.rng.usize(..CERTIFICATES.len())];
        let private = if self.rarely() { &CERTIFICATES[0].1 } else { own };
        let mut secret = json!({
            "type": if self.rarely() { "Opaque" } else { "kubernetes.io/tls" },
            "stringData": {"tls.crt": certificate, "tls.key": private, "ca.crt": certificate},
        });
        if self.rng.bool() {
            secret["stringData"]["jwks"] = self.one_of(&KEY_SETS).into();
        }
        if self.rng.bool() {
            secret["stringData"]["ann"] = self.one_of(&["key-1", "key-2", ""]).into();
            secret["stringData"]["auth"] =
                self.one_of(&["ann:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "ann:hunter2", "# nobody"]).into();
        }
        if self.rng.bool() {
            secret["metadata"] = json!({"labels": {"use": self.one_of(&["keys", "more", "other"])}});
        }
        let secret = SecretContent::take(serde_json::from_value(secret).expect("a Secret"), |_| true);
        put(&mut self.rng, &mut self.snapshot.secrets, key, Arc::new(secret));
        "secret"
    }

    fn config_map(&mut self) -> &'static str {
        let key = self.key(&SECRETS);
        let bundle = if self.rarely() { "nothing" } else { &CERTIFICATES[self.rng.usize(..CERTIFICATES.len())].0 };
        let map = object(json!({"data": {"ca.crt": bundle}}));
        put(&mut self.rng, &mut self.snapshot.config_maps, key, map);
        "config map"
    }

    fn class(&mut self) -> &'static str {
        let name = self.one_of(&CLASSES[..3]);
        let controller = if name == "foreign" { "example.com/other" } else { "sheave.dev/controller" };
        let mut class = json!({
            "apiVersion": "sheave.dev/v1alpha1", "kind": "WebSocketClass",
            "metadata": {"name": name}, "spec": {"controllerName": controller},
        });
        if self.rng.bool() {
            class["metadata"]["annotations"] = json!({"sheave.dev/is-default-class": "true"});
        }
        if self.rng.bool() {
            let (namespace, name) = (self.one_of(&NAMESPACES), self.one_of(&SECRETS));
            class["spec"]["defaultCertificateRef"] = json!({"namespace": namespace, "name": name});
        }
        if self.rarely() {
            class["spec"]["ceilings"] = json!({"maxMessageBytes": 1500});
        }
        if self.rarely() {
            class["spec"]["defaults"] = json!({"authentication": {"providers": [self.provider()]}});
        }
        if self.rarely() {
            let selector = json!({"matchLabels": {"tier": self.one_of(&["gold", "lead"])}});
            class["spec"]["allowedRoutes"] = json!({"namespaces": {"from": "Selector", "selector": selector}});
        }
        if self.rarely() {
            let unreadable = Unreadable { generation: Some(1), faults: vec!["spec: odd".to_owned()] };
            put(&mut self.rng, &mut self.snapshot.unreadable_classes, name.to_owned(), unreadable);
        }
        put(&mut self.rng, &mut self.snapshot.classes, name.to_owned(), object(class));
        "class"
    }

    fn grant(&mut self) -> &'static str {
        let key = self.key(&["g1", "g2"]);
        let from = json!([{"group": "sheave.dev", "kind": "WebSocketRoute", "namespace": self.one_of(&NAMESPACES)}]);
        let mut to = json!({"group": "", "kind": self.one_of(&["Secret", "Service"])});
        if self.rng.bool() {
            to["name"] = self.one_of(&SERVICES).into();
        }
        let metadata = json!({"name": key.name, "namespace": key.namespace});
        let spec = json!({"from": from, "to": [to]});
        let grant = json!({
            "apiVersion": "gateway.networking.k8s.io/v1beta1", "kind": "ReferenceGrant", "metadata": metadata,
            "spec": spec,
        });
        put(&mut self.rng, &mut self.snapshot.reference_grants, key, object(grant));
        "grant"
    }

    fn namespace(&mut self) -> &'static str {
        let name = self.one_of(&NAMESPACES).to_owned();
        let labels = [("tier".to_owned(), self.one_of(&["gold", "lead"]).to_owned())].into();
        put(&mut self.rng, &mut self.snapshot.namespaces, name, labels);
        "namespace"
    }

    fn node_or_moment(&mut self) -> &'static str {
        if self.rng.bool() {
            self.snapshot.taken_at = MOMENTS[self.rng.usize(..MOMENTS.len())];
            return "moment";
        }
        let node = self.one_of(&NODES).to_owned();
        let zone = self.one_of(&["zone-1", "zone-2"]).into();
        put(&mut self.rng, &mut self.snapshot.zones, node, zone);
        "node"
    }

    fn unreadable_or_touched(&mut self) -> &'static str {
        let key = self.key(&["r1", "r2", "r3", "r4"]);
        if self.rng.bool() {
            let unreadable = Unreadable { generation: Some(1), faults: vec!["spec: odd".to_owned()] };
            put(&mut self.rng, &mut self.snapshot.unreadable_routes, key, unreadable);
            return "unreadable";
        }
        if let Some(route) = self.snapshot.routes.get_mut(&key) {
            *route = Arc::new((**route).clone());
        }
        "touched"
    }
}
