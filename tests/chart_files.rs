//! What the chart copies and names: its CRDs are ours, its schema knows the class, and what its alerts, dashboard and
//! pods speak of exists. Needs no helm; `tests/chart.rs` renders it.

use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn updating() -> bool {
    std::env::var_os("UPDATE_GOLDEN").is_some()
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn crds_of_the_chart_are_those_of_crds() {
    for (file, crd) in sheave::api::crds() {
        let (ours, copy) = (sheave::api::render(&crd).expect("YAML"), format!("charts/sheave/files/crds/{file}"));
        if updating() {
            fs::write(&copy, &ours).expect("the chart is writable");
        }
        assert!(read(&copy) == ours, "{copy} has drifted from src/api: run `make generate` and commit the result");
    }
    let copies = fs::read_dir("charts/sheave/files/crds").expect("a folder").count();
    assert_eq!(copies, sheave::api::crds().len(), "a CRD in the chart is not one of ours");
}

/// A schema of a CRD as helm takes it: no unknown fields, null where the API takes it, nothing that only an API
/// server understands.
fn plain(schema: &Value) -> Value {
    let Some(fields) = schema.as_object() else { return schema.clone() };
    let mut made = Map::new();
    for (key, value) in fields {
        match key.as_str() {
            "properties" => {
                let properties = value.as_object().expect("properties are an object");
                made.insert(key.clone(), properties.iter().map(|(name, of)| (name.clone(), plain(of))).collect());
            }
            "items" | "additionalProperties" => drop(made.insert(key.clone(), plain(value))),
            "nullable" | "format" => {}
            key if key.starts_with("x-kubernetes-") => {}
            _ => drop(made.insert(key.clone(), value.clone())),
        }
    }
    let nullable = fields.get("nullable") == Some(&Value::Bool(true));
    if nullable && let Some(kind) = fields.get("type") {
        made.insert("type".to_owned(), json!([kind, "null"]));
        if let Some(Value::Array(words)) = made.get_mut("enum") {
            words.push(Value::Null);
        }
    }
    if made.contains_key("properties") {
        made.entry("additionalProperties").or_insert(Value::Bool(false));
    }
    Value::Object(made)
}

#[test]
fn the_schema_of_the_values_knows_every_field_of_the_class() {
    let path = "charts/sheave/values.schema.json";
    let mut schema: Value = serde_json::from_str(&read(path)).expect("JSON");
    let (_, crd) = sheave::api::crds().into_iter().find(|(_, crd)| crd.spec.names.kind == "WebSocketClass").unwrap();
    let spec = serde_json::to_value(&crd.spec.versions[0].schema).expect("JSON");
    let mut spec = plain(&spec["openAPIV3Schema"]["properties"]["spec"]);
    spec.as_object_mut().expect("an object").remove("required");
    let set = spec["properties"].as_object_mut().expect("an object").remove("controllerName");
    assert!(set.is_some(), "the chart sets controllerName itself");
    let place = schema.pointer_mut("/properties/class/properties/spec").expect("class.spec is a value");
    let same = *place == spec;
    if updating() && !same {
        *place = spec;
        fs::write(path, serde_json::to_string_pretty(&schema).expect("JSON") + "\n").expect("the chart is writable");
    } else {
        assert!(same, "class.spec in {path} has drifted from src/api: run `make generate` and commit the result");
    }
}

/// Every object schema below `schema` that takes unknown keys though it lists some.
fn open(schema: &Value, path: &str, found: &mut Vec<String>) {
    match schema {
        Value::Object(fields) => {
            if fields.contains_key("properties") && !path.ends_with("/properties") {
                let closed = fields.get("additionalProperties") == Some(&Value::Bool(false));
                found.extend((!closed).then(|| path.to_owned()));
            }
            fields.iter().for_each(|(key, value)| open(value, &format!("{path}/{key}"), found));
        }
        Value::Array(items) => items.iter().for_each(|item| open(item, path, found)),
        _ => {}
    }
}

#[test]
fn no_part_of_the_values_takes_unknown_keys() {
    let schema: Value = serde_json::from_str(&read("charts/sheave/values.schema.json")).expect("JSON");
    let mut found = Vec::new();
    open(&schema, "", &mut found);
    assert_eq!(found, [""; 0]);
}

/// Every path of `schema` that has no default, and every default that `schema` does not name.
fn differences(schema: &Value, values: &Value, path: &str, found: &mut Vec<String>) {
    let (Some(properties), Some(values)) = (schema["properties"].as_object(), values.as_object()) else { return };
    for key in properties.keys().filter(|key| !values.contains_key(*key)) {
        found.push(format!("{path}.{key} has no default in values.yaml"));
    }
    for (key, value) in values {
        match properties.get(key) {
            Some(schema) => differences(schema, value, &format!("{path}.{key}"), found),
            None => found.push(format!("{path}.{key} is not in values.schema.json")),
        }
    }
}

#[test]
fn every_value_has_a_default_and_a_schema() {
    let schema: Value = serde_json::from_str(&read("charts/sheave/values.schema.json")).expect("JSON");
    let mut found = Vec::new();
    differences(&schema, &yaml("charts/sheave/values.yaml"), "", &mut found);
    // What is absent unless it is set: parts of objects of Kubernetes, and what Helm itself brings.
    let free = [".affinity.", ".resources.claims", ".class.spec.", ".global", ".autoscaling.behavior."];
    found.retain(|line| !free.iter().any(|free| line.starts_with(free)));
    assert_eq!(found, [""; 0]);
}

#[test]
fn the_chart_says_the_version_of_the_binary() {
    let chart = yaml("charts/sheave/Chart.yaml");
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));
}

/// Every word of `text` that begins with `prefix`.
fn words(text: &str, prefix: &str) -> BTreeSet<String> {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c: char| !part(c)).filter(|word| word.starts_with(prefix)).map(str::to_owned).collect()
}

fn texts(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            texts(&path, text);
        } else {
            text.push_str(&fs::read_to_string(&path).expect("UTF-8"));
        }
    }
}

fn known(name: &str, source: &BTreeSet<String>) -> bool {
    let family = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
    source.contains(name) || family.is_some_and(|family| source.contains(family))
}

#[test]
fn every_metric_of_alerts_and_dashboard_exists() {
    let mut source = String::new();
    texts(Path::new("src"), &mut source);
    for prefix in ["sheave_", "process_"] {
        let source = words(&source, prefix);
        for file in ["alerts.yaml", "dashboard.json"] {
            let named = words(&read(&format!("charts/sheave/files/{file}")), prefix);
            let unknown: Vec<_> = named.iter().filter(|name| !known(name, &source)).collect();
            assert!(unknown.is_empty(), "{file} names metrics that Sheave does not have: {unknown:?}");
            assert!(file == "alerts.yaml" || !named.is_empty(), "{file} was not read");
        }
    }
}

#[test]
fn every_reason_that_alerts_select_exists() {
    let mut source = String::new();
    texts(Path::new("src/telemetry"), &mut source);
    let alerts = read("charts/sheave/files/alerts.yaml");
    let selected = |label: &str| -> Vec<String> {
        let selector = format!("{label}=");
        let values = alerts.split(&selector).skip(1);
        let values = values.filter_map(|rest| rest.trim_start_matches('~').strip_prefix('"')?.split('"').next());
        values.flat_map(|words| words.split('|')).map(str::to_owned).collect()
    };
    for label in ["reason", "outcome", "state"] {
        let words = selected(label);
        assert!(!words.is_empty(), "{label}");
        for word in words {
            assert!(source.contains(&format!("\"{word}\"")), "no {label} is called {word}");
        }
    }
}

#[test]
fn every_variable_that_the_pod_sets_is_read() {
    let (mut source, mut templates) = (String::new(), String::new());
    texts(Path::new("src"), &mut source);
    texts(Path::new("charts/sheave/templates"), &mut templates);
    let source = words(&source, "SHEAVE_");
    let named = words(&templates, "SHEAVE_");
    assert!(named.len() > 10, "the templates were not read");
    let unknown: Vec<_> = named.iter().filter(|name| name.len() > 7 && !known(name, &source)).collect();
    assert!(unknown.is_empty(), "the pod sets variables that nobody reads: {unknown:?}");
}

#[test]
fn the_dashboard_takes_its_data_source_from_a_variable() {
    let board: Value = serde_json::from_str(&read("charts/sheave/files/dashboard.json")).expect("JSON");
    let variables = board["templating"]["list"].as_array().expect("variables");
    assert!(variables.iter().any(|v| v["name"] == "datasource" && v["type"] == "datasource"));
    let mut ids = BTreeSet::new();
    for panel in board["panels"].as_array().expect("panels") {
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "two panels have the id {}", panel["id"]);
        if panel["type"] == "row" {
            continue;
        }
        let title = &panel["title"];
        let targets = panel["targets"].as_array().expect("targets");
        assert!(!targets.is_empty(), "{title} shows nothing");
        for source in std::iter::once(panel).chain(targets).map(|of| &of["datasource"]["uid"]) {
            assert_eq!(source, "${datasource}", "{title}");
        }
        for target in targets {
            let query = target["expr"].as_str().expect("a query");
            assert!(query.contains("namespace=~\"$namespace\",job=~\"$job\""), "{title} is not of this place: {query}");
        }
    }
    assert!(ids.len() > 20);
}
