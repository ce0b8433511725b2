//! The folder that both Sheaves serve: its objects, and the edits that are made to them.
//!
//! Decides what is written; `chaos` decides when.

use crate::certificate::{self, Made};
use crate::doors::{Certified, htpasswd};
use crate::folder::{Folder, route, served, service, slice};
use crate::plan::Route;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use rustls::ClientConfig;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// What the tokens of this run are signed with.
pub(crate) const SHARED_SECRET: &str = "a shared secret of the soak, of 32 bytes or more";

/// The manners of every route: waits so long that a busy machine breaks none, and a drain of a few seconds.
const MANNERS: [&str; 2] = ["drain: {timeout: 60s, spread: 2s}", "connectionLimit: {maxConnections: 100000}"];

/// The folder and what it is made of.
pub(crate) struct Objects {
    folder: Folder,
    /// Shown in turn.
    certificates: [Made; 2],
    /// Who has a certificate.
    clients: Certified,
    backends: Vec<u16>,
    /// Counts the edits.
    edits: AtomicU64,
    /// The key of each consumer; `None` while it is revoked.
    keys: Mutex<Vec<Option<String>>>,
}

impl Objects {
    /// Writes the folder for backends at these ports, and the service that decides at `door`.
    pub(crate) fn new(backends: Vec<u16>, door: u16, keys: Vec<String>) -> Self {
        let hosts: Vec<String> = Route::ALL.iter().map(|route| format!("{}.test", route.name())).collect();
        let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
        let certificates = [certificate::make(&hosts), certificate::make(&hosts)];
        let keys = Mutex::new(keys.into_iter().map(Some).collect());
        let objects = Self {
            folder: Folder::new(),
            certificates,
            backends,
            clients: Certified::new(),
            edits: AtomicU64::new(0),
            keys,
        };
        for one in Route::ALL {
            objects.route(one, 0);
        }
        objects.endpoints(Some("ready: true"));
        objects.secrets();
        objects.certificate(0);
        objects.folder.write("shared.yaml", &secret("shared", &[("a", SHARED_SECRET.to_owned())]));
        objects.folder.write("users.yaml", &secret("users", &[(".htpasswd", htpasswd())]));
        objects.folder.write("clients.yaml", &objects.clients.bundle());
        objects.folder.write("door.yaml", &served("door", door));
        objects.mark();
        objects
    }

    pub(crate) fn path(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// What clients trust, and what they show: nothing, or a certificate.
    pub(crate) fn trust(&self) -> [Arc<ClientConfig>; 2] {
        let made = self.certificates.each_ref();
        [certificate::trusting(&made), self.clients.config(made)]
    }

    /// Writes a route; another `variant` of it means no other thing to live sessions.
    pub(crate) fn route(&self, which: Route, variant: u64) {
        let idle =
            format!("timeouts: {{close: 60s, idle: {}s, handshake: 60s, backendConnect: 20s}}", 600 + variant % 100);
        let fragments =
            format!("messages: {{maxMessageBytes: {}, maxFragments: {}}}", (1 << 20) + variant, 1000 + variant);
        let authentication = match which {
            Route::Keyed => {
                "authentication: {providers: [{name: keys, type: APIKey, apiKey: {credentialRefs: [{name: keys}], \
                 forwardClientIDHeader: X-Client}, extractFrom: [{type: Header, name: x-api-key}]}]}"
            }
            Route::Token => {
                "authentication: {providers: [{name: tokens, type: JWT, jwt: {secretRef: {name: shared}, leeway: 0s}, \
                 extractFrom: [{type: Subprotocol, name: bearer.}]}]}"
            }
            Route::Password => {
                "authentication: {providers: [{name: users, type: Basic, basic: {credentialRefs: [{name: users}]}}]}"
            }
            Route::Asked => {
                "authentication: {providers: [{name: door, type: External, external: {backendRef: {name: door, port: 80}, \
                 timeout: 20s, consumerHeader: X-User}}]}"
            }
            _ => "clientCIDRs: {allow: [127.0.0.0/8]}",
        };
        let own = match which {
            Route::Pinged => "keepalive: {mode: Both, interval: 5s, timeout: 5s}",
            Route::Throttled => {
                "rateLimit: {messages: {limit: 100, burst: 20}, bytes: {limit: 2000000, burst: 500000}, perConsumer: {}}"
            }
            _ => "rateLimit: {handshakes: {limit: 1000000, key: ClientIP}}",
        };
        let tls = match which {
            Route::Certified => ", frontendValidation: {caCertificateRefs: [{name: clients}]}",
            _ => "",
        };
        let tls = format!("tls: {{certificateRefs: [{{name: cert}}], plaintext: Allow{tls}}}");
        let mut spec = vec![idle.as_str(), tls.as_str(), authentication, own];
        spec.extend(MANNERS);
        let small = "messages: {bufferLimitBytes: 8192}";
        spec.push(if which == Route::Throttled { small } else { &fragments });
        let host = format!("{}.test", which.name());
        let mut text = route(which.name(), &host, &spec, &[(which.name(), 1)]);
        if which != Route::Moving {
            text += &service(which.name());
            for (number, backend) in which.backends().enumerate() {
                text +=
                    &slice(which.name(), &format!("{}-{number}", which.name()), self.backends[backend], "ready: true");
            }
        }
        self.folder.write(&format!("{}.yaml", which.name()), &text);
    }

    /// Takes a route away.
    pub(crate) fn remove(&self, which: Route) {
        self.folder.remove(&format!("{}.yaml", which.name()));
    }

    /// Writes the endpoints of the moving route: the first with these conditions, or without it; the second is ready.
    pub(crate) fn endpoints(&self, first: Option<&str>) {
        let (name, backends) = (Route::Moving.name(), Route::Moving.backends());
        let mut text = service(name) + &slice(name, "second", self.backends[backends.start + 1], "ready: true");
        if let Some(conditions) = first {
            text += &slice(name, "first", self.backends[backends.start], conditions);
        }
        self.folder.write("moving-endpoints.yaml", &text);
    }

    /// Shows one of the certificates.
    pub(crate) fn certificate(&self, number: usize) {
        self.folder.write("cert.yaml", &self.certificates[number % 2].secret("cert"));
    }

    /// The key of a consumer.
    pub(crate) fn key(&self, consumer: usize) -> Option<String> {
        self.keys.lock().ok()?.get(consumer).cloned().flatten()
    }

    /// Gives a consumer another key, or none.
    pub(crate) fn set_key(&self, consumer: usize, key: Option<String>) {
        if let Ok(mut keys) = self.keys.lock() {
            keys[consumer] = key;
        }
        self.secrets();
    }

    fn secrets(&self) {
        let keys = self.keys.lock().map(|keys| keys.clone()).unwrap_or_default();
        let entries: Vec<(String, String)> =
            keys.into_iter().enumerate().filter_map(|(number, key)| Some((format!("c{number}"), key?))).collect();
        let entries: Vec<(&str, String)> = entries.iter().map(|(name, key)| (name.as_str(), key.clone())).collect();
        self.folder.write("keys.yaml", &secret("keys", &entries));
    }

    /// Writes something that is nobody's route here; a broken one is no YAML at all.
    pub(crate) fn other(&self, variant: u64, broken: bool) {
        let text = if broken {
            "kind: [".to_owned()
        } else {
            let host = format!("other{}.test", variant % 7);
            route("other", &host, &["timeouts: {idle: 1s}"], &[("other", 1)]) + &served("other", 9)
        };
        self.folder.write("other.yaml", &text);
    }

    /// Writes a host that no other edit has had, and gives it: a table that has it has every edit before.
    pub(crate) fn mark(&self) -> String {
        let number = self.edits.fetch_add(1, Ordering::Relaxed);
        let host = format!("mark{number}.test");
        self.folder.write("zz-mark.yaml", &(route("mark", &host, &[], &[("mark", 1)]) + &served("mark", 9)));
        host
    }
}

fn secret(name: &str, entries: &[(&str, String)]) -> String {
    let data: Vec<String> =
        entries.iter().map(|(name, content)| format!("{name}: {}", BASE64_STANDARD.encode(content))).collect();
    format!("---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\ndata: {{{}}}\n", data.join(", "))
}
