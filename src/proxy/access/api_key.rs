//! API keys: whose key a handshake carries.

use super::{Asked, Found, credential, wrong};
use crate::routing::access::{Fact, Identity, KeyRing, Provider};
use std::sync::Arc;

/// Finds the key and its client.
pub(super) fn identify(ring: &KeyRing, provider: &Provider, asked: &Asked<'_>) -> Found {
    let Some(found) = credential::find(&provider.sources, asked.offer)? else { return Ok(None) };
    let digest = KeyRing::digest(&found.value);
    let Some(client) = ring.client(&digest) else { return Err(wrong(provider, "the key belongs to no client")) };
    let identity = Identity {
        provider: Arc::clone(&provider.name),
        consumer: Some(Arc::clone(client)),
        fact: Fact::ApiKey(digest),
        expires: None,
    };
    Ok(Some((identity, found.removal)))
}
