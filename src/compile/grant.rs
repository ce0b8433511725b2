//! References across namespaces: whether the owner of the other namespace has granted them.
//!
//! A grant holds from the moment it is there and no longer than it is.

use super::snapshot::{ObjectKey, Snapshot};
use super::verdict::Fault;
use crate::api::status::reason;
use crate::api::{GROUP, ReferenceGrantSpec};

/// Whether a route of another namespace, `from`, may name `target`, an object of the core group; the fault's message
/// begins with `field`, which names it.
pub(super) fn permit(
    snapshot: &Snapshot,
    from: &str,
    kind: &str,
    target: &ObjectKey,
    field: &str,
) -> Result<(), Fault> {
    let granted = |grant: &ReferenceGrantSpec| {
        grant.from.iter().any(|f| f.group == GROUP && f.kind == "WebSocketRoute" && f.namespace == from)
            && grant.to.iter().any(|to| {
                let named = to.name.as_deref().is_none_or(|name| name.is_empty() || name == target.name);
                to.group.is_empty() && to.kind == kind && named
            })
    };
    let there = snapshot.reference_grants.range(ObjectKey::new(&target.namespace, "")..);
    let mut there = there.take_while(|(key, _)| key.namespace == target.namespace);
    if there.any(|(_, grant)| granted(&grant.spec)) {
        return Ok(());
    }
    let message = format!(
        "{field}.namespace: no ReferenceGrant in namespace {} lets a WebSocketRoute of namespace {from} use {kind} \
         {}: create one there with from {{group: {GROUP}, kind: WebSocketRoute, namespace: {from}}} and to \
         {{group: \"\", kind: {kind}, name: {}}}, or put both into one namespace",
        target.namespace, target.name, target.name
    );
    Err(Fault::new(reason::REF_NOT_PERMITTED, message))
}
