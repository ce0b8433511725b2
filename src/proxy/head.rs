//! Stub: types only.
#![allow(missing_docs, clippy::all)]
use bytes::Bytes;
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits { pub max_bytes: usize, pub max_fields: usize, pub max_target_bytes: usize }
impl Default for HeadLimits { fn default() -> Self { Self { max_bytes: 16 << 10, max_fields: 100, max_target_bytes: 8 << 10 } } }
pub struct RequestHead { raw: Bytes }
pub struct ResponseHead { raw: Bytes, pub status: u16 }
