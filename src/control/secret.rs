//! Secrets on their way in: `stringData` is folded into `data` as an API server does, and nothing of the content
//! is ever shown. A value that cannot be used is named by its key.

use super::schema::Fault;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Map, Value};
use std::fmt;

/// A Secret whose `Debug` shows its name only.
#[derive(Clone)]
pub struct SecretObject(pub Secret);

impl fmt::Debug for SecretObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({})", self.0.metadata.name.as_deref().unwrap_or_default())
    }
}

/// Leaves `secret` with a `data` whose every value is base64 in its plain form, and without `stringData`.
pub(super) fn fold(secret: &mut Map<String, Value>) -> Result<(), Fault> {
    let mut data = take(secret, "data")?;
    for (key, value) in &mut data {
        // An API server ignores line breaks within base64; a folded value that holds blanks it refuses.
        let encoded = match value {
            Value::String(text) => Some(text.replace(['\n', '\r'], "")),
            Value::Null => Some(String::new()),
            _ => None,
        };
        let Some(encoded) = encoded.filter(|text| BASE64_STANDARD.decode(text).is_ok()) else {
            let message = "is not base64: encode the value, or put it under stringData as it is";
            return Err(Fault { field: format!("data.{key}"), message: message.to_owned() });
        };
        *value = Value::String(encoded);
    }
    for (key, text) in take(secret, "stringData")? {
        let Some(text) = text.as_str() else {
            let message = "must be a string; put it in quotes";
            return Err(Fault { field: format!("stringData.{key}"), message: message.to_owned() });
        };
        data.insert(key, Value::String(BASE64_STANDARD.encode(text)));
    }
    secret.insert("data".to_owned(), Value::Object(data));
    Ok(())
}

fn take(secret: &mut Map<String, Value>, field: &str) -> Result<Map<String, Value>, Fault> {
    match secret.remove(field) {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(fields)) => Ok(fields),
        Some(_) => {
            let message = "must be a mapping of keys to values, such as tls.crt and tls.key".to_owned();
            Err(Fault { field: field.to_owned(), message })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn folded(mut secret: Value) -> Result<Value, Fault> {
        fold(secret.as_object_mut().expect("an object")).map(|()| secret)
    }

    #[test]
    fn string_data_goes_over_data_and_line_breaks_in_base64_are_ignored() {
        let secret = json!({"data": {"a": "eA==", "b": "eH\nh4\n", "c": null}, "stringData": {"a": "y"}});
        assert_eq!(folded(secret), Ok(json!({"data": {"a": "eQ==", "b": "eHh4", "c": ""}})));
    }

    #[test]
    fn what_cannot_be_used_is_named_and_never_shown() {
        for (secret, field) in [
            (json!({"data": {"tls.key": "!hunter2!"}}), "data.tls.key"),
            (json!({"data": {"tls.key": ["hunter2"]}}), "data.tls.key"),
            (json!({"data": "hunter2"}), "data"),
            (json!({"stringData": ["hunter2"]}), "stringData"),
            (json!({"stringData": {"pin": 42}}), "stringData.pin"),
        ] {
            let fault = folded(secret.clone()).expect_err("it was taken");
            assert_eq!(fault.field, field, "{secret}");
            assert!(!fault.message.contains("hunter2") && !fault.message.contains("42"), "{secret}: {fault:?}");
        }
    }
}
