//! A provider of type `APIKey` to the ring of its keys.
//!
//! One Secret that is missing, or one key that cannot be used, takes nothing from the others: it is told, and the rest
//! works. Without any Secret the provider cannot decide.

use super::{Writer, credentials, no_block};
use crate::api::ApiKeyProvider;
use crate::api::status::reason;
use crate::compile::inputs::Lookup;
use crate::compile::reference::Selection;
use crate::compile::secret::{Key, SecretContent};
use crate::compile::snapshot::ObjectKey;
use crate::compile::verdict::{Fault, Findings};
use crate::routing::access::{KeyRing, ProviderKind};
use std::collections::HashMap;
use std::sync::Arc;

pub(super) fn ring(
    block: Option<&ApiKeyProvider>,
    writer: &Writer<'_>,
    field: &str,
    lookup: &mut Lookup<'_>,
    findings: &mut Findings,
) -> ProviderKind {
    let Some(block) = block else { return no_block("apiKey", field, findings) };
    let field = format!("{field}.apiKey");
    let refs = format!("{field}.credentialRefs");
    let mut secrets = credentials::present(&block.credential_refs, writer, &refs, lookup, findings);
    if let Some(selector) = &block.credential_selector {
        let field = format!("{field}.credentialSelector");
        match selected(selector.match_labels.clone(), writer, &field, lookup) {
            Err(fault) if writer.class => findings.unacceptable.push(fault),
            Err(fault) => findings.unresolved.push(fault),
            Ok(found) => {
                let others: Vec<_> = found.into_iter().filter(|key| !secrets.contains(key)).collect();
                secrets.extend(others);
            }
        }
    }
    if secrets.is_empty() {
        return credentials::none_left(findings);
    }
    let (ring, faults) = lookup.key_ring(&secrets);
    findings.unresolved.extend(faults.iter().map(|fault| fault.at(&field)));
    ProviderKind::ApiKey(ring)
}

/// The Secrets with these labels beside the route; at least one.
fn selected(
    labels: std::collections::BTreeMap<String, String>,
    writer: &Writer<'_>,
    field: &str,
    lookup: &mut Lookup<'_>,
) -> Result<Vec<ObjectKey>, Fault> {
    if writer.class {
        let message = format!("{field}: a class has no namespace of its own: use credentialRefs");
        return Err(Fault::new(reason::UNSUPPORTED_VALUE, message));
    }
    let namespace = &*writer.route.namespace;
    let found = lookup.selected(namespace, &labels);
    if found.is_empty() {
        let labels = Selection { namespace: namespace.to_owned(), labels };
        let message = format!("{field}: no Secret of namespace {namespace} has the labels {labels}: label one");
        return Err(Fault::new(reason::INVALID_CREDENTIAL_REF, message));
    }
    Ok(found)
}

/// The ring of the keys in `secrets`, and what is wrong with some of them. Content is never said.
pub(in crate::compile) fn ring_of(secrets: &[(&ObjectKey, &SecretContent)]) -> (KeyRing, Vec<Fault>) {
    let mut faults = Vec::new();
    let mut tell = |message: String| faults.push(Fault::new(reason::INVALID_CREDENTIAL_REF, message));
    let mut keys = Vec::new();
    // A client of several Secrets has one name in memory.
    let mut clients: HashMap<&str, Arc<str>> = HashMap::new();
    for (secret, content) in secrets {
        let mut any = false;
        for (client, key) in content.api_keys() {
            any = true;
            match key {
                Key::Digest(digest) => {
                    let client = clients.entry(client).or_insert_with(|| client.into());
                    keys.push((digest, Arc::clone(client)));
                }
                Key::Empty => tell(format!("Secret {secret}: the key of {client} is empty: write one, or remove it")),
                Key::Unsendable => tell(format!(
                    "Secret {secret}: the key of {client} has a character that no client can send, such as a space: \
                     make it of letters, digits and punctuation"
                )),
            }
        }
        if !any {
            tell(format!(
                "Secret {secret} has no entry: add one for each client, its id as the name, its key as content"
            ));
        }
    }
    let (ring, shared) = KeyRing::new(keys);
    for shared in shared {
        tell(format!(
            "{} has the same key as {}, for whom it is taken: give each client a key of its own",
            shared.other, shared.holder
        ));
    }
    (ring, faults)
}
