//! Stub: types only.
#![allow(missing_docs, clippy::all)]
#[derive(Default)]
pub struct Balancer {}
/// Counts the session from choice to drop.
pub struct Lease {}
