//! The schema of an optional field that takes one of a few words.
//!
//! As derived, such a field shows the docs of its type in place of its own, and is nullable, which does harm: an API
//! server keeps a null where it may be and then misses it among the words, even if it is one of them. Where null may
//! not be it is dropped first, and counts as absent as in every other field.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Value, json};

/// Writes the words of `T` into the schema of an `Option<T>`, and leaves the field's docs alone.
pub(super) fn optional<T: JsonSchema>(field: &mut Schema) {
    let choice = T::json_schema(&mut SchemaGenerator::default());
    // A variant with docs is a schema of its own.
    let variants = choice.get("oneOf").and_then(Value::as_array).into_iter().flatten();
    let mut words: Vec<Value> = variants.filter_map(|variant| variant.get("const").cloned()).collect();
    words.extend(choice.get("enum").and_then(Value::as_array).into_iter().flatten().cloned());
    for composed in ["anyOf", "oneOf", "$ref"] {
        field.remove(composed);
    }
    field.insert("type".to_owned(), json!("string"));
    field.insert("enum".to_owned(), Value::Array(words));
}
