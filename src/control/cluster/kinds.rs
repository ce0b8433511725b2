//! How each kind is watched: through which API, reduced by what, and what happens where it may not be read.
//!
//! ReferenceGrants come and go with the Gateway API's CRDs; namespaces and nodes may be hidden from an install that was
//! given no more than some namespaces. All else must be readable, and is asked for until it is.

use super::decode::{self, Item};
use super::retry::LONGEST;
use super::watch::{Kind, Reports, Watch, follow, root, status};
use crate::api::{GROUP, VERSION};
use crate::compile::ObjectKey;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::core::{GroupVersionKind, PartialObjectMeta};
use kube::runtime::watcher;
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::time::Duration;

/// The group of ReferenceGrant.
const GATEWAY: &str = "gateway.networking.k8s.io";

/// Between two looks for a kind that the API server does not have or not show.
const ABSENT_KIND: Duration = Duration::from_secs(10);

/// One of our kinds, by the name that objects and verdicts give it.
pub(super) fn ours(kind: &str) -> ApiResource {
    let watched = if kind == "WebSocketClass" { Kind::Class } else { Kind::Route };
    dynamic(GROUP, VERSION, kind, watched.plural())
}

/// A kind whose objects are read as they are.
fn dynamic(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    let named = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    ApiResource { plural: plural.to_owned(), ..named }
}

/// The objects that `watch` is of.
fn scoped(client: &Client, watch: &Watch, kind: &ApiResource) -> Api<DynamicObject> {
    match watch.namespace.as_deref() {
        None => Api::all_with(client.clone(), kind),
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, kind),
    }
}

/// Starts a watch on a task of its own.
pub(super) fn start(client: &Client, watch: Watch, reports: Reports) {
    let client = client.clone();
    macro_rules! core {
        ($kind:ty) => {
            match watch.namespace.as_deref() {
                None => Api::<$kind>::all(client),
                Some(namespace) => Api::<$kind>::namespaced(client, namespace),
            }
        };
    }
    macro_rules! follow_on_a_task {
        ($api:expr, $take:expr) => {
            drop(tokio::spawn(follow(watch.clone(), $api, $take, reports, never)))
        };
    }
    match watch.kind {
        Kind::Class => follow_on_a_task!(scoped(&client, &watch, &ours("WebSocketClass")), decode::class),
        Kind::Route => follow_on_a_task!(scoped(&client, &watch, &ours("WebSocketRoute")), decode::route),
        Kind::ConfigMap => follow_on_a_task!(core!(ConfigMap), decode::config_map),
        Kind::EndpointSlice => follow_on_a_task!(core!(EndpointSlice), decode::endpoint_slice),
        Kind::Secret => follow_on_a_task!(core!(Secret), decode::secret),
        Kind::Service => follow_on_a_task!(core!(Service), decode::service),
        Kind::Namespace => {
            let api = Api::<PartialObjectMeta<Namespace>>::all(client);
            drop(tokio::spawn(optional(watch, api, decode::namespace, reports)));
        }
        Kind::Node => {
            let api = Api::<PartialObjectMeta<Node>>::all(client);
            drop(tokio::spawn(optional(watch, api, decode::node, reports)));
        }
        Kind::ReferenceGrant => drop(tokio::spawn(grants(client, watch, reports))),
    }
}

/// An error that ends no watch.
fn never(_: &watcher::Error) -> bool {
    false
}

/// Whether the API server has no such kind, or does not show it.
fn absent(error: &watcher::Error) -> bool {
    status(error).is_some_and(|status| matches!(status.code, 403 | 404))
}

/// Follows a watch that may be refused: then there is nothing of it, and it is tried again later.
async fn optional<K>(watch: Watch, api: Api<K>, take: fn(K) -> (ObjectKey, Item), reports: Reports)
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    loop {
        follow(watch.clone(), api.clone(), take, reports.clone(), absent).await;
        if !reports.none(&watch).await {
            return;
        }
        tokio::time::sleep(ABSENT_KIND).await;
    }
}

/// Follows ReferenceGrants while the API server has their kind, in the newest version that it serves.
async fn grants(client: Client, watch: Watch, reports: Reports) {
    loop {
        match served(&client).await {
            Ok(Some(version)) => {
                let kind = dynamic(GATEWAY, version, "ReferenceGrant", watch.kind.plural());
                let api = scoped(&client, &watch, &kind);
                follow(watch.clone(), api, decode::reference_grant, reports.clone(), absent).await;
            }
            Ok(None) => {}
            // Neither there nor gone: what was granted stays granted.
            Err(error) => {
                reports.health.failed(&watch, format!("cannot look for ReferenceGrants: {}", root(&error)));
                tokio::time::sleep(LONGEST).await;
                continue;
            }
        }
        if !reports.none(&watch).await {
            return;
        }
        tokio::time::sleep(ABSENT_KIND).await;
    }
}

/// The newest version of ReferenceGrant that the API server has.
async fn served(client: &Client) -> kube::Result<Option<&'static str>> {
    for version in ["v1", "v1beta1"] {
        match client.list_api_group_resources(&format!("{GATEWAY}/{version}")).await {
            Ok(list) if list.resources.iter().any(|resource| resource.kind == "ReferenceGrant") => {
                return Ok(Some(version));
            }
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}
