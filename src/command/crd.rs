//! `sheave crd`: the CRDs as YAML, ready for `kubectl apply --server-side -f -`.

use crate::api;
use std::io::Write;

/// Prints every CRD as one stream of documents.
///
/// # Errors
/// When the output cannot be written.
pub fn run(out: &mut dyn Write) -> anyhow::Result<()> {
    for (_, crd) in api::crds() {
        write!(out, "---\n{}", api::render(&crd)?)?;
    }
    Ok(())
}
