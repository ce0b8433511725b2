//! Whether the cluster's CRDs are older than this Sheave: a field that they lack is taken away from every object before
//! Sheave sees it, without a word to its author.
//!
//! Looked up in the API server's OpenAPI document, which every account may read.

use crate::api;
use crate::telemetry::cluster::ClusterMetrics;
use kube::Client;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(60);

/// How many fields a message names.
const NAMED: usize = 5;

/// Looks now and then, and tells what is news.
pub(super) async fn watch(client: Client, metrics: Arc<ClusterMetrics>) {
    let mut told: Vec<String> = Vec::new();
    loop {
        // While it cannot be read nothing is known, and the watches say what is wrong.
        if let Ok(document) = read(&client).await {
            let mut news = Vec::new();
            for (_, crd) in api::crds() {
                let lacking = lacking(&document, &serde_json::to_value(&crd).unwrap_or_default());
                metrics.outdated(&crd.spec.names.plural, !lacking.is_empty());
                if !lacking.is_empty() {
                    news.push(message(crd.metadata.name.as_deref().unwrap_or_default(), &lacking));
                }
            }
            if news != told {
                for line in &news {
                    tracing::warn!("{line}");
                }
                if news.is_empty() {
                    tracing::info!("the CRDs know every field of this Sheave now");
                }
                told = news;
            }
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

async fn read(client: &Client) -> anyhow::Result<Value> {
    let request = http::Request::get(format!("/openapi/v3/apis/{}/{}", api::GROUP, api::VERSION)).body(Vec::new())?;
    Ok(client.request(request).await?)
}

fn message(crd: &str, lacking: &[String]) -> String {
    let more = if lacking.len() > NAMED { " and others" } else { "" };
    format!(
        "the CRD {crd} is older than this Sheave: it drops the fields {}{more} from every object; apply the CRDs that \
         this Sheave came with (the chart does with crds.enabled)",
        lacking[..lacking.len().min(NAMED)].join(", ")
    )
}

/// The fields that `crd` has and the schema of its kind in an OpenAPI `document` has not. None while the document does
/// not know the kind at all.
fn lacking(document: &Value, crd: &Value) -> Vec<String> {
    let kind = &crd["spec"]["names"]["kind"];
    let schemas = document.pointer("/components/schemas").and_then(Value::as_object);
    let theirs = schemas.into_iter().flat_map(|schemas| schemas.values()).find(|schema| {
        let named = schema.get("x-kubernetes-group-version-kind").and_then(Value::as_array);
        named.is_some_and(|kinds| kinds.iter().any(|k| k["kind"] == *kind))
            && schema.pointer("/properties/spec").is_some()
    });
    let mut found = Vec::new();
    if let Some(theirs) = theirs {
        let ours = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        compare(&ours["properties"]["spec"], &theirs["properties"]["spec"], "spec", &mut found);
    }
    found
}

fn compare(ours: &Value, theirs: &Value, path: &str, found: &mut Vec<String>) {
    for (name, field) in ours["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        match theirs["properties"].get(name) {
            None => found.push(path),
            Some(known) => compare(field, known, &path, found),
        }
    }
    if let (Some(ours), Some(theirs)) = (ours.get("items"), theirs.get("items")) {
        compare(ours, theirs, &format!("{path}[]"), found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_the_fields_that_an_older_crd_lacks() {
        let (_, crd) = &api::crds()[0];
        let crd = serde_json::to_value(crd).expect("JSON");
        let mut schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
        schema["x-kubernetes-group-version-kind"] = json!([{"kind": "WebSocketRoute"}]);
        let document = |schema: &Value| json!({"components": {"schemas": {"dev.sheave": schema}}});
        assert_eq!(lacking(&document(&schema), &crd), [""; 0]);
        let rule = schema.pointer_mut("/properties/spec/properties/rules/items/properties").expect("rules");
        rule.as_object_mut().expect("fields").remove("loadBalancer");
        let found = lacking(&document(&schema), &crd);
        assert_eq!(found, ["spec.rules[].loadBalancer"]);
        assert!(
            message("x", &found).contains("drops the fields spec.rules[].loadBalancer from"),
            "{}",
            message("x", &found)
        );
        assert_eq!(lacking(&json!({}), &crd), [""; 0]);
    }
}
