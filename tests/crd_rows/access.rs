//! The rules of the access blocks: each with a spec it refuses for that alone, and the nearest one it lets through.

use super::{route, rule};
use serde_json::{Value, json};

/// Puts `fields` over the object.
fn with(mut object: Value, fields: Value) -> Value {
    let fields = fields.as_object().expect("an object").clone();
    object.as_object_mut().expect("an object").extend(fields);
    object
}

fn providers(providers: Value) -> Value {
    route(json!({"authentication": {"providers": providers}}))
}

fn keys(fields: Value) -> Value {
    let key = json!({
        "name": "keys", "type": "APIKey", "extractFrom": [{"type": "Header", "name": "x-key"}],
        "apiKey": {"credentialRefs": [{"name": "keys"}]},
    });
    with(key, fields)
}

fn jwt(fields: Value) -> Value {
    let keys = if fields.get("secretRef").is_some() { json!({}) } else { json!({"localJWKS": {"name": "keys"}}) };
    let block = with(keys, fields);
    providers(json!([{"name": "tokens", "type": "JWT", "jwt": block}]))
}

fn external(fields: Value) -> Value {
    let block = with(json!({"backendRef": {"name": "judge", "port": 80}}), fields);
    providers(json!([{"name": "judge", "type": "External", "external": block}]))
}

fn allow(principal: Value) -> Value {
    rule(json!({"authorization": {"allow": [principal]}}))
}

/// See the file.
pub fn rules() -> Vec<(&'static str, Value, Value)> {
    let (one, other) = (keys(json!({})), keys(json!({"name": "other"})));
    let basic = json!({"name": "users", "type": "Basic", "basic": {"credentialRefs": [{"name": "users"}]}});
    vec![
        ("provider names must be unique", providers(json!([one, one])), providers(json!([one, other]))),
        (
            "set the block that belongs to type",
            providers(json!([keys(json!({"basic": {"credentialRefs": [{"name": "users"}]}}))])),
            providers(json!([one])),
        ),
        (
            "extractFrom is needed",
            providers(json!([keys(json!({"extractFrom": []}))])),
            providers(json!([keys(json!({"extractFrom": [{"type": "Cookie", "name": "key"}]}))])),
        ),
        (
            "extractFrom belongs to APIKey and JWT",
            providers(json!([with(basic.clone(), json!({"extractFrom": [{"type": "Cookie", "name": "key"}]}))])),
            providers(json!([basic])),
        ),
        (
            "name Secrets by credentialRefs",
            providers(json!([keys(json!({"apiKey": {}}))])),
            providers(json!([keys(json!({"apiKey": {"credentialSelector": {"matchLabels": {"a": "b"}}}}))])),
        ),
        (
            "set exactly one of remoteJWKS",
            jwt(json!({"remoteJWKS": {"uri": "https://idp.example.com/keys"}})),
            jwt(json!({})),
        ),
        (
            "HS algorithms belong to secretRef",
            jwt(json!({"algorithms": ["HS256"]})),
            jwt(json!({"algorithms": ["ES256"]})),
        ),
        (
            "HS algorithms belong to secretRef",
            jwt(json!({"secretRef": {"name": "s"}, "algorithms": ["HS256", "RS256"]})),
            jwt(json!({"secretRef": {"name": "s"}, "algorithms": ["HS256", "HS512"]})),
        ),
        ("timeout must be above 0s", external(json!({"timeout": "0s"})), external(json!({"timeout": "1ms"}))),
        ("an empty entry would mean everybody", allow(json!({})), allow(json!({"consumers": ["alice"]}))),
        (
            "set allow, deny or both",
            route(json!({"clientCIDRs": {}})),
            route(json!({"clientCIDRs": {"deny": ["10.0.0.0/8"]}})),
        ),
        (
            "set header when key is Header",
            route(json!({"rateLimit": {"handshakes": {"limit": 1, "key": "Header"}}})),
            route(json!({"rateLimit": {"handshakes": {"limit": 1, "key": "Header", "header": "x-tenant"}}})),
        ),
        (
            "set header when key is Header",
            route(json!({"rateLimit": {"handshakes": {"limit": 1, "key": "Route", "header": "x-tenant"}}})),
            route(json!({"rateLimit": {"handshakes": {"limit": 1, "key": "Route"}}})),
        ),
        (
            "timeout must be above 0s",
            route(json!({"messages": {"slowConsumer": {"timeout": "0s"}}})),
            route(json!({"messages": {"slowConsumer": {"timeout": "1s"}}})),
        ),
    ]
}
