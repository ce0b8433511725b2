//! Patterns of the schema that several fields share: names of headers, blocks of addresses, labels.

use schemars::Schema;

/// Holds a header's name to a token (RFC 9110 §5.6.2) of at most 128 bytes.
pub(super) fn header_name(schema: &mut Schema) {
    schema.insert("pattern".to_owned(), "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$".into());
    schema.insert("minLength".to_owned(), 1.into());
    schema.insert("maxLength".to_owned(), 128.into());
}

/// Bounds the map and its values, as API servers bound labels.
pub(super) fn label_values(schema: &mut Schema) {
    schema.insert("minProperties".to_owned(), 1.into());
    schema.insert("maxProperties".to_owned(), 16.into());
    schema.insert("additionalProperties".to_owned(), serde_json::json!({"type": "string", "maxLength": 63}));
}

/// Holds the elements to what a block's text may consist of; whether it is one is decided by compile, whose messages say
/// more than a schema's.
pub(super) fn cidrs(schema: &mut Schema) {
    if let Some(items) = schema.pointer_mut("/items").and_then(|items| items.as_object_mut()) {
        items.insert("pattern".to_owned(), "^[0-9a-fA-F.:]+/[0-9]{1,3}$".into());
        items.insert("maxLength".to_owned(), 43.into());
    }
}
