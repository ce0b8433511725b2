//! What an API server checks of an object of ours before it stores it: structure, bounds and CEL rules of the CRD.
//!
//! A folder has no API server, so this stands in for it with strict field validation. It decides nothing of its
//! own: every rule comes from the generated CRD.

use crate::api;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube_cel::{CompiledSchema, Validator};
use regex::Regex;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::OnceLock;

/// One thing wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Path of the field, `spec.rules[0].name`.
    pub field: String,
    /// What is wrong and what to write instead.
    pub message: String,
}

/// The schema of one kind, compiled.
struct Schema {
    structure: Value,
    rules: CompiledSchema,
    /// Every `pattern` of the structure by its text; to compile one costs more than to check an object.
    patterns: HashMap<String, Regex>,
}

/// The fields of metadata that a user may find or write there.
const METADATA: [&str; 15] = [
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

thread_local! {
    /// One for each thread: to set one up costs more than to check an object, and it cannot be shared.
    static VALIDATOR: Validator = Validator::new();
}

/// The schema of one of our kinds.
fn of(kind: &str) -> Option<&'static Schema> {
    static SCHEMAS: OnceLock<HashMap<String, Schema>> = OnceLock::new();
    SCHEMAS.get_or_init(|| api::crds().iter().filter_map(|(_, crd)| schema(crd)).collect()).get(kind)
}

/// Checks the structure and bounds of an `object` that an API server has stored, whose CRD may be older or newer than
/// ours. Its rules are taken on trust.
pub(crate) fn check_structure(kind: &str, object: &mut Value) -> Vec<Fault> {
    let Some(schema) = of(kind) else { return Vec::new() };
    drop_nulls(&schema.structure, object);
    structure(schema, object)
}

/// Checks `object` of one of our kinds and fills in the schema's defaults; `None` for kinds that are not ours.
pub(crate) fn check(kind: &str, object: &mut Value) -> Option<Vec<Fault>> {
    let schema = of(kind)?;
    drop_nulls(&schema.structure, object);
    *object = kube_cel::apply_defaults(&schema.structure, object);
    let mut faults = structure(schema, object);
    if faults.is_empty() {
        let broken = VALIDATOR.with(|validator| validator.validate_compiled(&schema.rules, object, None)).err();
        let broken = broken.into_iter().flat_map(kube_cel::ValidationErrors::into_vec);
        faults.extend(broken.map(|e| Fault { field: e.field_path, message: e.message }));
    }
    // The rules are evaluated in no particular order.
    faults.sort_by(|a, b| (&a.field, &a.message).cmp(&(&b.field, &b.message)));
    Some(faults)
}

fn structure(schema: &Schema, object: &Value) -> Vec<Fault> {
    let mut walk = Walk { patterns: &schema.patterns, faults: Vec::new() };
    for (name, value) in object.as_object().into_iter().flatten() {
        match name.as_str() {
            "apiVersion" | "kind" | "status" => {}
            "metadata" => walk.metadata(value),
            _ => walk.field(&schema.structure, name, value, ""),
        }
    }
    let mut faults = walk.faults;
    if object.get("spec").is_none() {
        faults.push(Fault { field: "spec".into(), message: "is required".into() });
    }
    faults
}

fn schema(crd: &CustomResourceDefinition) -> Option<(String, Schema)> {
    let validation = crd.spec.versions.first()?.schema.as_ref()?;
    let structure = serde_json::to_value(validation.open_api_v3_schema.as_ref()?).ok()?;
    let rules = kube_cel::compile_schema(&structure);
    let mut patterns = HashMap::new();
    collect_patterns(&structure, &mut patterns);
    Some((crd.spec.names.kind.clone(), Schema { structure, rules, patterns }))
}

fn collect_patterns(schema: &Value, patterns: &mut HashMap<String, Regex>) {
    match schema {
        Value::Object(fields) => {
            if let Some(pattern) = fields.get("pattern").and_then(Value::as_str)
                && let Ok(regex) = Regex::new(pattern)
            {
                patterns.insert(pattern.to_owned(), regex);
            }
            fields.values().for_each(|field| collect_patterns(field, patterns));
        }
        Value::Array(items) => items.iter().for_each(|item| collect_patterns(item, patterns)),
        _ => {}
    }
}

/// Takes away nulls where an optional field is meant to be absent, so that defaults and rules see it so.
fn drop_nulls(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let Some(properties) = schema.get("properties") else { return };
            let required = schema.get("required").and_then(Value::as_array);
            fields.retain(|name, value| {
                let required = required.is_some_and(|names| names.iter().any(|required| required == name));
                required || !value.is_null() || properties.get(name).is_none()
            });
            for (name, value) in fields {
                if let Some(schema) = properties.get(name) {
                    drop_nulls(schema, value);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                for item in items {
                    drop_nulls(schema, item);
                }
            }
        }
        _ => {}
    }
}

/// Collects the paths of `written` that are not in `understood`, which was decoded from it and encoded again.
pub(crate) fn left_out(written: &Value, understood: &Value, path: &str, found: &mut Vec<String>) {
    match (written, understood) {
        (Value::Object(written), Value::Object(understood)) => {
            for (name, value) in written.iter().filter(|(_, value)| !is_empty(value)) {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                match understood.get(name) {
                    Some(understood) => left_out(value, understood, &path, found),
                    None => found.push(path),
                }
            }
        }
        (Value::Array(written), Value::Array(understood)) => {
            for (at, (value, understood)) in written.iter().zip(understood).enumerate() {
                left_out(value, understood, &format!("{path}[{at}]"), found);
            }
        }
        _ => {}
    }
}

/// Whether an encoder may leave the value out although it understood it.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

fn unknown(name: &str, known: &[&str]) -> String {
    let nearest = known.iter().map(|known| (distance(name, known), known)).min();
    match nearest {
        Some((distance, known)) if distance <= 1 + name.len() / 4 => format!("unknown field; did you mean {known}?"),
        _ => format!("unknown field; known ones are {}", known.join(", ")),
    }
}

/// Edit distance without regard to case.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, a) in a.to_lowercase().chars().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in b.iter().enumerate() {
            let cost = corner + usize::from(a != *b);
            corner = std::mem::replace(&mut row[j + 1], 0);
            row[j + 1] = cost.min(corner + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// A way through an object along its schema.
struct Walk<'s> {
    patterns: &'s HashMap<String, Regex>,
    faults: Vec<Fault>,
}

impl Walk<'_> {
    fn fault(&mut self, path: &str, message: String) {
        self.faults.push(Fault { field: path.to_owned(), message });
    }

    /// Types of metadata's fields are seen to when the object is decoded.
    fn metadata(&mut self, metadata: &Value) {
        for (name, value) in metadata.as_object().into_iter().flatten() {
            let field = format!("metadata.{name}");
            match name.as_str() {
                "name" | "namespace" => {
                    let namespace = name == "namespace";
                    if value.as_str().is_some_and(|text| !is_name(text, namespace)) {
                        let form = if namespace { NAMESPACE_FORM } else { NAME_FORM };
                        self.fault(&field, format!("{value} is not a name: write {form}"));
                    }
                }
                "labels" | "annotations" => self.marks(&field, value),
                _ if METADATA.contains(&name.as_str()) => {}
                _ => self.fault(&field, unknown(name, &METADATA)),
            }
        }
    }

    /// Checks labels or annotations.
    fn marks(&mut self, path: &str, marks: &Value) {
        for (key, value) in marks.as_object().into_iter().flatten() {
            let field = format!("{path}.{key}");
            let (prefix, word) =
                key.split_once('/').map_or((None, key.as_str()), |(prefix, word)| (Some(prefix), word));
            if !is_word(word) || prefix.is_some_and(|prefix| !is_name(prefix, false)) {
                self.fault(&field, format!("is not a key: write {WORD_FORM}, after a domain and / if you like"));
            }
            let unfit = |text: &&str| path == "metadata.labels" && !text.is_empty() && !is_word(text);
            if let Some(text) = value.as_str().filter(unfit) {
                self.fault(&field, format!("{text:?} is not the value of a label: write {WORD_FORM}"));
            }
        }
    }

    /// Checks a field against the properties of the object it is in.
    fn field(&mut self, parent: &Value, name: &str, value: &Value, path: &str) {
        let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        let Some(properties) = parent.get("properties").and_then(Value::as_object) else { return };
        let Some(schema) = properties.get(name) else {
            let known: Vec<_> = properties.keys().map(String::as_str).collect();
            return self.fault(&path, unknown(name, &known));
        };
        self.value(schema, value, &path);
    }

    fn value(&mut self, schema: &Value, value: &Value, path: &str) {
        let kind = schema.get("type").and_then(Value::as_str).unwrap_or("object");
        let fits = match kind {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_i64() || value.is_u64(),
            _ => value.is_number(),
        };
        if !fits {
            let hint = if kind == "string" { "; put it in quotes" } else { "" };
            return self.fault(path, format!("must be of type {kind}, not {}{hint}", name_of(value)));
        }
        match value {
            Value::Object(fields) => {
                let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
                for name in required.filter_map(Value::as_str).filter(|name| !fields.contains_key(*name)) {
                    self.fault(&format!("{path}.{name}"), "is required".to_owned());
                }
                fields.iter().for_each(|(name, value)| self.field(schema, name, value, path));
            }
            Value::Array(items) => {
                if let Some(limits) = exceeded(schema, items.len() as f64, "minItems", "maxItems") {
                    self.fault(path, format!("has {} items, must have {limits}", items.len()));
                }
                let schema = schema.get("items").unwrap_or(&Value::Null);
                let each = items.iter().enumerate();
                each.for_each(|(at, item)| self.value(schema, item, &format!("{path}[{at}]")));
            }
            Value::String(text) => self.text(schema, text, path),
            Value::Number(number) => {
                let size = number.as_f64().unwrap_or_default();
                if let Some(limits) = exceeded(schema, size, "minimum", "maximum") {
                    self.fault(path, format!("is {number}, must be {limits}"));
                }
            }
            Value::Bool(_) | Value::Null => {}
        }
    }

    fn text(&mut self, schema: &Value, text: &str, path: &str) {
        let pattern = schema.get("pattern").and_then(Value::as_str).unwrap_or_default();
        if let Some(allowed) = schema.get("enum").and_then(Value::as_array)
            && !allowed.iter().any(|allowed| allowed == text)
        {
            let allowed: Vec<_> = allowed.iter().filter_map(Value::as_str).collect();
            self.fault(path, format!("unknown value {text:?}; write one of {}", allowed.join(", ")));
        } else if let Some(limits) = exceeded(schema, text.chars().count() as f64, "minLength", "maxLength") {
            self.fault(path, format!("must have {limits} characters"));
        } else if self.patterns.get(pattern).is_some_and(|regex| !regex.is_match(text)) {
            self.fault(path, format!("{text:?} is not of the form {pattern}"));
        }
    }
}

const NAME_FORM: &str = "at most 253 of a-z, 0-9, - and ., with a letter or digit at both ends of each part";
const NAMESPACE_FORM: &str = "at most 63 of a-z, 0-9 and -, with a letter or digit at both ends";
const WORD_FORM: &str = "at most 63 of A-Z, a-z, 0-9, -, _ and ., with a letter or digit at both ends";

/// Whether this is a name as objects have it (RFC 1123 §2.1), or one label of it.
fn is_name(text: &str, label: bool) -> bool {
    let part = |part: &str| {
        let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        let bytes = part.as_bytes();
        bytes.iter().all(|c| inner(*c) || *c == b'-') && ends(bytes, inner)
    };
    text.len() <= if label { 63 } else { 253 } && if label { part(text) } else { text.split('.').all(part) }
}

/// Whether this is the value of a label or the name in a key.
fn is_word(text: &str) -> bool {
    let inner = |c: u8| c.is_ascii_alphanumeric();
    let bytes = text.as_bytes();
    text.len() <= 63 && bytes.iter().all(|c| inner(*c) || b"-_.".contains(c)) && ends(bytes, inner)
}

/// Whether there is a first and a last byte, and both are of this kind.
fn ends(bytes: &[u8], kind: impl Fn(u8) -> bool) -> bool {
    bytes.first().is_some_and(|c| kind(*c)) && bytes.last().is_some_and(|c| kind(*c))
}

/// The bounds of `schema` in words, if `size` is not within them.
fn exceeded(schema: &Value, size: f64, low: &str, high: &str) -> Option<String> {
    let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
    let (low, high) = (bound(low), bound(high));
    if low.is_none_or(|low| size >= low) && high.is_none_or(|high| size <= high) {
        return None;
    }
    Some(match (low, high) {
        (Some(low), Some(high)) => format!("{low} to {high}"),
        (Some(low), None) => format!("at least {low}"),
        (None, high) => format!("at most {}", high.unwrap_or_default()),
    })
}

fn name_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    }
}
