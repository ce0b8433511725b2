//! The CRDs under `crds/` are what the types say, and every CEL rule refuses what it should and nothing else.

mod crd_rows;

use kube_cel::Validator;
use serde_json::{Value, json};
use sheave::api;
use std::path::Path;

#[test]
fn committed_crds_are_generated_from_the_types() {
    for (file, crd) in api::crds() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds").join(file);
        let text = api::render(&crd).expect("a CRD is YAML");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &text).expect("crds/ is writable");
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(committed == text, "crds/{file} has drifted from src/api: run `make generate` and commit the result");
    }
}

/// The CEL faults of `spec` as a new object, or as an update of `old`.
fn faults(kind: &str, spec: &Value, old: Option<&Value>) -> Vec<String> {
    let (_, crd) = api::crds().into_iter().find(|(_, crd)| crd.spec.names.kind == kind).expect("a kind of ours");
    let schema = crd.spec.versions[0].schema.clone().and_then(|s| s.open_api_v3_schema).expect("a schema");
    let schema = serde_json::to_value(schema).expect("a schema is JSON");
    let object = |spec: &Value| crd_rows::object(kind, "x", spec);
    let result = Validator::new().validate(&schema, &object(spec), old.map(object).as_ref());
    result.err().into_iter().flat_map(kube_cel::ValidationErrors::into_vec).map(|e| e.to_string()).collect()
}

#[test]
fn every_rule_of_the_route_refuses_what_it_should_and_nothing_else() {
    for (says, bad, good) in crd_rows::rules_of_the_route() {
        let refused = faults("WebSocketRoute", &bad, None);
        assert!(refused.len() == 1 && refused[0].contains(says), "{says}: {bad}: {refused:?}");
        assert_eq!(faults("WebSocketRoute", &good, None), [""; 0], "{says}: {good}");
    }
}

#[test]
fn a_folder_judges_structure_by_the_table() {
    let mut wrong = Vec::new();
    for (object, refused) in crd_rows::structures() {
        let faults = crd_rows::faults_in_a_folder(&object.to_string());
        let right = match refused {
            None => faults.is_empty(),
            // A folder may say which of the labels.
            Some(field) => faults.iter().any(|(at, _)| at == field || at.starts_with(&format!("{field}."))),
        };
        if !right {
            wrong.push(format!("{object}\n  wanted {refused:?}, got {faults:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_controller_of_a_class_cannot_be_changed() {
    let (ours, other) = (json!({"controllerName": "sheave.dev/controller"}), json!({"controllerName": "x/y"}));
    assert_eq!(faults("WebSocketClass", &ours, Some(&ours)), [""; 0]);
    let refused = faults("WebSocketClass", &other, Some(&ours));
    assert!(refused.len() == 1 && refused[0].contains("controllerName cannot be changed"), "{refused:?}");
}

#[test]
fn a_class_has_a_selector_when_namespaces_are_selected_and_only_then() {
    let class = |namespaces: Value| json!({"controllerName": "x/y", "allowedRoutes": {"namespaces": namespaces}});
    for namespaces in [json!({"from": "All"}), json!({"from": "Selector", "selector": {}})] {
        assert_eq!(faults("WebSocketClass", &class(namespaces.clone()), None), [""; 0], "{namespaces}");
    }
    for namespaces in [json!({"from": "All", "selector": {}}), json!({"from": "Selector"})] {
        let refused = faults("WebSocketClass", &class(namespaces.clone()), None);
        assert!(refused.len() == 1 && refused[0].contains("set selector when"), "{namespaces}: {refused:?}");
    }
}

#[test]
fn no_list_or_string_of_the_schemas_is_unbounded() {
    fn walk(schema: &Value, path: &str, unbounded: &mut Vec<String>) {
        let bounded = |bounds: &[&str]| bounds.iter().any(|bound| schema.get(bound).is_some());
        match schema.get("type").and_then(Value::as_str) {
            Some("array") if !bounded(&["maxItems"]) => unbounded.push(path.to_owned()),
            Some("string") if !bounded(&["maxLength", "enum", "format"]) => unbounded.push(path.to_owned()),
            _ => {}
        }
        for (name, field) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            walk(field, &format!("{path}.{name}"), unbounded);
        }
        if let Some(items) = schema.get("items") {
            walk(items, &format!("{path}[]"), unbounded);
        }
    }
    for (file, crd) in api::crds() {
        let schema = crd.spec.versions[0].schema.clone().and_then(|s| s.open_api_v3_schema).expect("a schema");
        let schema = serde_json::to_value(schema).expect("a schema is JSON");
        let mut unbounded = Vec::new();
        walk(&schema["properties"]["spec"], "spec", &mut unbounded);
        assert_eq!(unbounded, [""; 0], "{file}");
    }
}
