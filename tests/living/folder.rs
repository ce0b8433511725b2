//! A folder of objects as a user writes them, and short ways to write the usual ones.
//!
//! A file is replaced by renaming, as editors and mounted `ConfigMap`s do.

use std::fmt::Write as _;
use std::path::Path;
use tempfile::TempDir;

/// A folder that goes away with the test.
pub struct Folder(TempDir);

impl Folder {
    /// An empty one.
    pub fn new() -> Self {
        Self(TempDir::new().expect("a temporary folder can be made"))
    }

    /// One with a single file.
    pub fn with(text: &str) -> Self {
        let folder = Self::new();
        folder.write("all.yaml", text);
        folder
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes or replaces a file at once.
    pub fn write(&self, name: &str, text: &str) {
        let draft = self.path().join(format!(".{name}.draft"));
        std::fs::write(&draft, text).expect("a file can be written");
        std::fs::rename(&draft, self.path().join(name)).expect("a file can be renamed");
    }

    /// Deletes a file.
    pub fn remove(&self, name: &str) {
        std::fs::remove_file(self.path().join(name)).expect("a file can be removed");
    }
}

/// A route of one rule over the whole host. `spec` holds further lines of flow YAML, such as
/// `timeouts: {idle: 1s}`, one a line; `services` are names with weights.
pub fn route(name: &str, host: &str, spec: &[&str], services: &[(&str, u32)]) -> String {
    let mut refs = String::new();
    for (service, weight) in services {
        let _ = write!(refs, "{{name: {service}, port: 80, weight: {weight}}}, ");
    }
    let mut text = format!(
        "---\napiVersion: sheave.dev/v1alpha1\nkind: WebSocketRoute\nmetadata: {{name: {name}}}\nspec:\n  \
         hostnames: [{host}]\n  rules: [{{backendRefs: [{refs}]}}]\n"
    );
    for line in spec {
        let _ = writeln!(text, "  {line}");
    }
    text
}

/// A Service of port 80 without a selector.
pub fn service(name: &str) -> String {
    format!("---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: 80}}]}}\n")
}

/// An `EndpointSlice` of one address of the loopback; `conditions` are those of flow YAML, such as `ready: true`.
pub fn slice(service: &str, name: &str, port: u16, conditions: &str) -> String {
    format!(
        "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {name}, labels: \
         {{kubernetes.io/service-name: {service}}}}}\naddressType: IPv4\nendpoints: [{{addresses: [127.0.0.1], \
         conditions: {{{conditions}}}}}]\nports: [{{name: \"\", port: {port}}}]\n"
    )
}

/// A Service with one ready endpoint.
pub fn served(name: &str, port: u16) -> String {
    service(name) + &slice(name, name, port, "ready: true")
}

/// A route `name` for host `name.test` to a service `name` with one ready endpoint.
pub fn simple(name: &str, port: u16, spec: &[&str]) -> String {
    route(name, &format!("{name}.test"), spec, &[(name, 1)]) + &served(name, port)
}
