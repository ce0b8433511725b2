//! The Secrets of credentials that a provider names: which of them may be named and are there.

use super::Writer;
use crate::api::CredentialRef;
use crate::compile::inputs::Lookup;
use crate::compile::snapshot::ObjectKey;
use crate::compile::verdict::{Fault, Findings};
use crate::routing::access::ProviderKind;

/// The Secrets among `references` (at `field`) that are there, in order. Each of the others is told.
pub(super) fn present(
    references: &[CredentialRef],
    writer: &Writer<'_>,
    field: &str,
    lookup: &mut Lookup<'_>,
    findings: &mut Findings,
) -> Vec<ObjectKey> {
    let mut found = Vec::with_capacity(references.len());
    for (at, reference) in references.iter().enumerate() {
        let field = format!("{field}[{at}]");
        match writer.secret(reference, &field, lookup) {
            Err(fault) if writer.class => findings.unacceptable.push(fault),
            Err(fault) => findings.unresolved.push(fault),
            Ok(key) => match lookup.secret(&key) {
                Err(fault) => findings.unresolved.push(fault.at(&field)),
                Ok(_) if found.contains(&key) => {}
                Ok(_) => found.push(key),
            },
        }
    }
    found
}

/// What a provider is without any Secret that can be used: the last fault is the reason.
pub(super) fn none_left(findings: &Findings) -> ProviderKind {
    let last = findings.unresolved.last().or(findings.unacceptable.last());
    ProviderKind::Unavailable(last.map_or("no Secret is named", |fault: &Fault| &fault.message).into())
}
