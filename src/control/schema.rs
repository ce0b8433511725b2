//! What an API server checks of an object of ours before it stores it: structure, bounds and CEL rules of the CRD.
//!
//! A folder has no API server, so this stands in for it with strict field validation. It decides nothing of its
//! own: every rule comes from the generated CRD.

use crate::api;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube_cel::{CompiledSchema, Validator};
use serde_json::{Map, Value};
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

/// The schema of one kind.
struct Schema {
    structure: Value,
    rules: CompiledSchema,
}

/// Checks `object` of one of our kinds and fills in the schema's defaults; `None` for kinds that are not ours.
pub(crate) fn check(kind: &str, object: &mut Value) -> Option<Vec<Fault>> {
    static SCHEMAS: OnceLock<HashMap<String, Schema>> = OnceLock::new();
    let schemas = SCHEMAS.get_or_init(|| api::crds().iter().filter_map(|(_, crd)| schema(crd)).collect());
    let schema = schemas.get(kind)?;
    *object = kube_cel::apply_defaults(&schema.structure, object);
    let mut faults = Vec::new();
    for (name, value) in object.as_object().into_iter().flatten() {
        match name.as_str() {
            "apiVersion" | "kind" | "metadata" | "status" => {}
            _ => field(&schema.structure, name, value, "", &mut faults),
        }
    }
    if object.get("spec").is_none() {
        faults.push(Fault { field: "spec".into(), message: "is required".into() });
    }
    if faults.is_empty() {
        let broken = Validator::new().validate_compiled(&schema.rules, object, None).err();
        let broken = broken.into_iter().flat_map(kube_cel::ValidationErrors::into_vec);
        faults.extend(broken.map(|e| Fault { field: e.field_path, message: e.message }));
    }
    Some(faults)
}

fn schema(crd: &CustomResourceDefinition) -> Option<(String, Schema)> {
    let validation = crd.spec.versions.first()?.schema.as_ref()?;
    let structure = serde_json::to_value(validation.open_api_v3_schema.as_ref()?).ok()?;
    let rules = kube_cel::compile_schema(&structure);
    Some((crd.spec.names.kind.clone(), Schema { structure, rules }))
}

/// Checks a field against the properties of the object it is in.
fn field(parent: &Value, name: &str, value: &Value, path: &str, faults: &mut Vec<Fault>) {
    let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    let Some(properties) = parent.get("properties").and_then(Value::as_object) else { return };
    match properties.get(name) {
        Some(schema) => walk(schema, value, &path, faults),
        None => faults.push(Fault { field: path, message: unknown(name, properties) }),
    }
}

fn unknown(name: &str, properties: &Map<String, Value>) -> String {
    let nearest = properties.keys().map(|known| (distance(name, known), known)).min();
    match nearest {
        Some((distance, known)) if distance <= 1 + name.len() / 4 => format!("unknown field; did you mean {known}?"),
        _ => {
            let known: Vec<_> = properties.keys().map(String::as_str).collect();
            format!("unknown field; known ones are {}", known.join(", "))
        }
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

fn walk(schema: &Value, value: &Value, path: &str, faults: &mut Vec<Fault>) {
    let mut fault = |message: String| faults.push(Fault { field: path.to_owned(), message });
    if value.is_null() && schema.get("nullable") == Some(&Value::Bool(true)) {
        return;
    }
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
        return fault(format!("must be of type {kind}, not {}{hint}", name_of(value)));
    }
    if let Some(allowed) = schema.get("enum").and_then(Value::as_array)
        && !allowed.contains(value)
    {
        let allowed: Vec<_> = allowed.iter().filter_map(Value::as_str).collect();
        return fault(format!("unknown value {value}; write one of {}", allowed.join(", ")));
    }
    let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
    let within = |size: f64, low: &str, high: &str| {
        bound(low).is_none_or(|low| size >= low) && bound(high).is_none_or(|high| size <= high)
    };
    let limits = |low: &str, high: &str| match (bound(low), bound(high)) {
        (Some(low), Some(high)) => format!("{low} to {high}"),
        (Some(low), None) => format!("at least {low}"),
        (_, high) => format!("at most {}", high.unwrap_or_default()),
    };
    match value {
        Value::Object(fields) => {
            let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
            for name in required.filter_map(Value::as_str).filter(|name| !fields.contains_key(*name)) {
                fault(format!("lacks the required field {name}"));
            }
            fields.iter().for_each(|(name, value)| field(schema, name, value, path, faults));
        }
        Value::Array(items) => {
            if !within(items.len() as f64, "minItems", "maxItems") {
                fault(format!("has {} items, must have {}", items.len(), limits("minItems", "maxItems")));
            }
            if let Some(schema) = schema.get("items") {
                let each = items.iter().enumerate();
                each.for_each(|(at, item)| walk(schema, item, &format!("{path}[{at}]"), faults));
            }
        }
        Value::String(text) => {
            if !within(text.chars().count() as f64, "minLength", "maxLength") {
                fault(format!("must have {} characters", limits("minLength", "maxLength")));
            } else if let Some(pattern) = schema.get("pattern").and_then(Value::as_str)
                && !regex::Regex::new(pattern).is_ok_and(|regex| regex.is_match(text))
            {
                fault(format!("{value} is not of the form {pattern}"));
            }
        }
        Value::Number(number) if !within(number.as_f64().unwrap_or_default(), "minimum", "maximum") => {
            fault(format!("is {number}, must be {}", limits("minimum", "maximum")));
        }
        _ => {}
    }
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
