//! YAML documents to objects: reads what `kubectl apply` would take, and says file, line and field of what it would
//! not.
//!
//! Objects of ours are checked as an API server with strict validation does; core objects are decoded by type. One
//! bad document never loses the others of its file. What the objects mean together is compile's business.

use super::location::{Locations, Position};
pub use super::problem::{ObjectName, Problem};
pub use super::secret::SecretObject;
use super::{schema, secret};
use crate::api::{ReferenceGrant, WebSocketClass, WebSocketRoute};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::cell::OnceCell;
use std::sync::Arc;

/// An object of a kind Sheave reads. Shared with whoever remembers what a file held; content of Secrets nobody does.
#[derive(Clone, Debug)]
pub enum Object {
    /// `sheave.dev/v1alpha1`.
    Class(Arc<WebSocketClass>),
    /// `v1`.
    ConfigMap(Arc<ConfigMap>),
    /// `discovery.k8s.io/v1`.
    EndpointSlice(Arc<EndpointSlice>),
    /// `v1`. Only its labels are looked at.
    Namespace(Namespace),
    /// `gateway.networking.k8s.io/v1` or `v1beta1`, which are alike.
    ReferenceGrant(Arc<ReferenceGrant>),
    /// `sheave.dev/v1alpha1`.
    Route(Arc<WebSocketRoute>),
    /// `v1`. Its content is never printed.
    Secret(SecretObject),
    /// `v1`.
    Service(Arc<Service>),
}

/// An object and where it stands.
#[derive(Clone, Debug)]
pub struct Document {
    /// Its name.
    pub name: ObjectName,
    /// The object.
    pub object: Object,
    /// The file, as given.
    pub file: Arc<str>,
    /// Its first line, counted from 1.
    pub line: usize,
}

/// Reads every document of a file.
pub fn read_documents(file: &str, text: &str) -> (Vec<Document>, Vec<Problem>) {
    let file: Arc<str> = file.into();
    let mut reading = Reading { documents: Vec::new(), problems: Vec::new() };
    for (line, text) in split(text) {
        let part = Part { file: Arc::clone(&file), line, text, locations: OnceCell::new() };
        match serde_saphyr::from_str::<Value>(text) {
            Ok(Value::Null) => {}
            Ok(value) => reading.value(&part, value, ""),
            Err(error) => {
                let at = error.location().map(|at| Position {
                    line: usize::try_from(at.line()).unwrap_or(1) + line - 1,
                    column: usize::try_from(at.column()).unwrap_or(1),
                });
                let message = format!("is not YAML: {}", first_line(&error.without_snippet().to_string()));
                reading.problems.push(Problem { position: at, ..part.problem(None, "", message) });
            }
        }
    }
    (reading.documents, reading.problems)
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or(text)
}

/// The documents of a file, each with its first line. A line that begins with `---` separates (YAML 1.2 §9.1.2).
fn split(text: &str) -> Vec<(usize, &str)> {
    let mut parts = Vec::new();
    let (mut start, mut first, mut at) = (0, 1, 0);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        if line.starts_with("---") && line[3..].starts_with([' ', '\n', '\r', '\t']) || line.trim_end() == "---" {
            parts.push((first, &text[start..at]));
            start = at + 3;
            first = number + 1;
        }
        at += line.len();
    }
    parts.push((first, &text[start..]));
    parts
}

/// One document's text.
struct Part<'t> {
    file: Arc<str>,
    line: usize,
    text: &'t str,
    /// Filled at the first question: most documents are never asked where a field stands.
    locations: OnceCell<Locations>,
}

impl Part<'_> {
    fn position(&self, field: &str) -> Position {
        let start = Position { line: self.line, column: 1 };
        if field.is_empty() {
            return start;
        }
        self.locations.get_or_init(|| Locations::of(self.text, self.line)).find(field).unwrap_or(start)
    }

    fn problem(&self, object: Option<&ObjectName>, field: &str, message: String) -> Problem {
        Problem {
            file: Arc::clone(&self.file),
            position: Some(self.position(field)),
            object: object.cloned(),
            field: field.to_owned(),
            message,
            note: false,
        }
    }
}

struct Reading {
    documents: Vec<Document>,
    problems: Vec<Problem>,
}

impl Reading {
    /// Takes one value: an object, or a List of them. `at` is where it stands within its document.
    fn value(&mut self, part: &Part<'_>, value: Value, at: &str) {
        let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (version, kind) = (text("apiVersion"), text("kind"));
        let missing = [("apiVersion", &version), ("kind", &kind)].into_iter().find(|(_, text)| text.is_empty());
        if let Some((field, _)) = missing {
            let message = format!("is not an object: begin it with apiVersion and kind ({field} is missing)");
            self.problems.push(part.problem(None, at, message));
            return;
        }
        if version == "v1" && kind == "List" {
            let items = value.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
            for (number, item) in items.into_iter().enumerate() {
                self.value(part, item, &format!("items[{number}]"));
            }
            return;
        }
        let meta = |name: &str| value.pointer(&format!("/metadata/{name}")).and_then(Value::as_str);
        let Some(name) = meta("name").filter(|name| !name.is_empty()) else {
            let field = if at.is_empty() { "metadata.name".to_owned() } else { format!("{at}.metadata.name") };
            self.problems.push(part.problem(None, &field, format!("{kind} without a name: set metadata.name")));
            return;
        };
        let namespace =
            if matches!(&*kind, "Namespace" | "WebSocketClass") { "" } else { meta("namespace").unwrap_or("default") };
        let name = ObjectName { kind: kind.clone(), namespace: namespace.to_owned(), name: name.to_owned() };
        let taken = Taking { reading: self, part, at, name };
        match (version.as_str(), kind.as_str()) {
            ("sheave.dev/v1alpha1", "WebSocketRoute") => taken.ours(value, |mut route: WebSocketRoute| {
                route.metadata.namespace.get_or_insert_with(|| "default".to_owned());
                Object::Route(Arc::new(route))
            }),
            ("sheave.dev/v1alpha1", "WebSocketClass") => taken.ours(value, |class| Object::Class(Arc::new(class))),
            ("v1", "Service") => taken.decode(&value, |object| Object::Service(Arc::new(object))),
            ("v1", "ConfigMap") => taken.decode(&value, |object| Object::ConfigMap(Arc::new(object))),
            ("v1", "Namespace") => taken.decode(&value, Object::Namespace),
            ("v1", "Secret") => taken.secret(value),
            ("gateway.networking.k8s.io/v1" | "gateway.networking.k8s.io/v1beta1", "ReferenceGrant") => {
                taken.decode(&value, |object| Object::ReferenceGrant(Arc::new(object)));
            }
            ("discovery.k8s.io/v1", "EndpointSlice") => {
                taken.decode(&value, |object| Object::EndpointSlice(Arc::new(object)));
            }
            ("sheave.dev/v1alpha1", _) => taken.fault("kind", format!("sheave.dev/v1alpha1 has no kind {kind}")),
            _ if version.starts_with("sheave.dev/") => {
                taken.fault("apiVersion", format!("unknown version {version}: write sheave.dev/v1alpha1"));
            }
            _ => taken.note(format!("left out: Sheave does not read {version} {kind}")),
        }
    }
}

/// One object on its way in.
struct Taking<'a, 't> {
    reading: &'a mut Reading,
    part: &'a Part<'t>,
    at: &'a str,
    name: ObjectName,
}

impl Taking<'_, '_> {
    /// Checks an object of ours, then decodes it.
    fn ours<T: DeserializeOwned + Serialize>(self, mut value: Value, wrap: impl FnOnce(T) -> Object) {
        let faults = schema::check(&self.name.kind, &mut value).unwrap_or_default();
        if faults.is_empty() {
            return self.decode(&value, wrap);
        }
        for schema::Fault { field, message } in faults {
            let problem = self.problem(&field, message);
            self.reading.problems.push(problem);
        }
    }

    fn decode<T: DeserializeOwned + Serialize>(mut self, value: &Value, wrap: impl FnOnce(T) -> Object) {
        match serde_path_to_error::deserialize::<_, T>(value) {
            Ok(object) => {
                self.note_unknown_fields(value, &object);
                self.reading.documents.push(Document {
                    line: self.part.position(self.at).line,
                    name: self.name,
                    object: wrap(object),
                    file: Arc::clone(&self.part.file),
                });
            }
            Err(error) => {
                let field = error.path().to_string();
                self.fault(if field == "." { "" } else { &field }, error.into_inner().to_string());
            }
        }
    }

    /// Notes what was written and did not come through. It is no fault: a newer cluster may know the field.
    fn note_unknown_fields(&mut self, written: &Value, understood: &impl Serialize) {
        let Ok(understood) = serde_json::to_value(understood) else { return };
        let mut unknown = Vec::new();
        schema::left_out(written, &understood, "", &mut unknown);
        for field in unknown {
            let message = "unknown field, left out; look for a typing error".to_owned();
            let problem = Problem { note: true, ..self.problem(&field, message) };
            self.reading.problems.push(problem);
        }
    }

    fn secret(self, mut value: Value) {
        if let Some(Err(schema::Fault { field, message })) = value.as_object_mut().map(secret::fold) {
            return self.fault(&field, message);
        }
        self.decode(&value, |secret| Object::Secret(SecretObject(secret)));
    }

    fn problem(&self, field: &str, message: String) -> Problem {
        let full = if self.at.is_empty() { field.to_owned() } else { format!("{}.{field}", self.at) };
        self.part.problem(Some(&self.name), &full, message)
    }

    fn fault(self, field: &str, message: String) {
        let problem = self.problem(field, message);
        self.reading.problems.push(problem);
    }

    fn note(self, message: String) {
        let problem = Problem { note: true, ..self.problem("", message) };
        self.reading.problems.push(problem);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        read_documents("f.yaml", text).1.iter().map(ToString::to_string).collect()
    }

    const ROUTE: &str = "apiVersion: sheave.dev/v1alpha1\nkind: WebSocketRoute\nmetadata: {name: r}\n";

    #[test]
    fn a_broken_document_leaves_the_others_of_its_file() {
        let good = format!("{ROUTE}spec: {{rules: [{{backendRefs: [{{name: s, port: 1}}]}}]}}\n");
        let text = format!("{good}---\nkind: [\n---\n# nothing\n---\n{}", good.replace("name: r", "name: q"));
        let (documents, problems) = read_documents("f.yaml", &text);
        let names: Vec<_> = documents.iter().map(|d| (d.name.to_string(), d.line)).collect();
        assert_eq!(names, [("WebSocketRoute default/r".to_owned(), 1), ("WebSocketRoute default/q".to_owned(), 9)]);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].message.starts_with("is not YAML"), "{problems:?}");
    }

    #[test]
    fn an_unknown_field_is_told_with_line_and_suggestion() {
        let text = format!("{ROUTE}spec:\n  rules:\n  - backendRefs:\n    - {{name: s, prt: 1}}\n");
        let got = problems(&text);
        assert!(
            got[0].starts_with("f.yaml:7") && got.iter().any(|p| p.contains("did you mean port?")),
            "unexpected: {got:?}"
        );
    }

    #[test]
    fn bounds_enums_patterns_and_rules_are_told_by_field() {
        let rules = "rules: [{backendRefs: [{name: s, port: 1}]}]";
        for (spec, field, says) in [
            ("{hostnames: [a_b], ".to_owned() + rules + "}", "spec.hostnames[0]", "is not of the form"),
            ("{rules: []}".to_owned(), "spec.rules", "must have 1 to 16"),
            ("{keepalive: {mode: Sometimes}, ".to_owned() + rules + "}", "spec.keepalive.mode", "write one of"),
            ("{keepalive: {mode: off}, ".to_owned() + rules + "}", "spec.keepalive.mode", ""),
            ("{tls: {}, ".to_owned() + rules + "}", "spec.tls", "tls needs hostnames"),
            (
                "{rules: [{matches: [{headers: [{name: 'x y', value: z}]}], backendRefs: [{name: s, port: 1}]}]}"
                    .to_owned(),
                "spec.rules[0].matches[0].headers[0].name",
                "is not of the form",
            ),
            ("{drain: {closeCode: 1000}, ".to_owned() + rules + "}", "spec.drain.closeCode", "closeCode must be"),
            (
                "{rules: [{backendRefs: [{name: s, port: 70000}]}]}".to_owned(),
                "spec.rules[0].backendRefs[0].port",
                "is 70000",
            ),
        ] {
            let got = read_documents("f.yaml", &format!("{ROUTE}spec: {spec}\n")).1;
            assert!(got.iter().any(|p| p.field == field && p.message.contains(says)), "{spec}: {got:?}");
        }
    }

    #[test]
    fn a_field_that_is_null_counts_as_absent() {
        let text = format!(
            "{ROUTE}spec: {{tls: null, keepalive: {{mode: Both, interval: null}}, rules: [{{backendRefs: [{{name: s, port: 1, weight: null}}]}}]}}\n"
        );
        assert_eq!(problems(&text), [""; 0]);
    }

    #[test]
    fn a_rule_broken_deep_inside_is_told_with_its_line() {
        let text = format!(
            "{ROUTE}spec:\n  rules:\n  - backendRefs: [{{name: s, port: 1}}]\n    matches:\n    - path:\n        value: ws\n"
        );
        let got = problems(&text);
        let told = "f.yaml:9:9: WebSocketRoute default/r: spec.rules[0].matches[0].path.value: path must begin";
        assert!(got.len() == 1 && got[0].starts_with(told), "{got:?}");
    }

    #[test]
    fn a_document_that_is_no_object_is_told_so() {
        for (text, says) in [
            ("- a\n", "apiVersion is missing"),
            ("apiVersion: v1\nknd: Service\nmetadata: {name: s}\n", "kind is missing"),
            ("apiVersion: v1\nkind: Service\nmetadata: {nam: s}\n", "set metadata.name"),
        ] {
            let got = problems(text);
            assert!(got.len() == 1 && got[0].contains(says), "{text}: {got:?}");
        }
    }

    #[test]
    fn an_unknown_field_of_a_core_object_is_noted_and_the_object_used() {
        let text =
            "apiVersion: v1\nkind: Service\nmetadata: {name: s, labels: {}}\nspec:\n  clusterIP: None\n  port: 80\n";
        let (documents, problems) = read_documents("f.yaml", text);
        assert_eq!(documents.len(), 1);
        let told: Vec<_> = problems.iter().map(|p| (p.note, p.field.as_str())).collect();
        assert_eq!(told, [(true, "spec.port")]);
    }

    #[test]
    fn a_broken_value_of_a_secret_is_told_by_line_and_not_shown() {
        let text = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata:\n  tls.key: '!hunter2!'\n";
        let got = problems(text);
        assert!(got[0].starts_with("f.yaml:5:3: Secret default/s: data.tls.key: is not base64"), "{got:?}");
        assert!(!got[0].contains("hunter2"), "{got:?}");
    }

    #[test]
    fn string_data_is_folded_in_and_foreign_kinds_are_noted() {
        let text = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Secret, metadata: {name: s}, stringData: {a: b}}\n- {apiVersion: apps/v1, kind: Deployment, metadata: {name: d}}\n";
        let (documents, problems) = read_documents("f.yaml", text);
        let Object::Secret(SecretObject(secret)) = &documents[0].object else { panic!("{documents:?}") };
        assert_eq!(secret.data.as_ref().and_then(|d| d.get("a")).map(|v| v.0.as_slice()), Some(&b"b"[..]));
        assert!(problems[0].note, "{problems:?}");
    }
}
