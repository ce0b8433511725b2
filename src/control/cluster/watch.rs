//! One watch: the objects of one kind, in one namespace or in all, as notices to the task that keeps them.
//!
//! Built on kube's `watcher`, which lists, watches, and lists again when it must. What an object is reduced to before
//! it is sent is decided by the `take` functions in [`super::decode`]; what it means is not decided here.

use super::decode::Item;
use super::health::Health;
use super::retry::Retry;
use crate::compile::ObjectKey;
use futures_util::{Stream, StreamExt, TryStreamExt};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Config, Event, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use std::fmt;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Seconds until the API server ends a watch call that it is to answer again: what bounds how long a connection may be
/// dead before it is noticed.
const CALL_SECONDS: u32 = 60;

/// The kinds that are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kind {
    Class,
    ConfigMap,
    EndpointSlice,
    Namespace,
    Node,
    ReferenceGrant,
    Route,
    Secret,
    Service,
}

impl Kind {
    /// The resource's name, as messages, metrics and RBAC rules have it.
    pub(super) const fn plural(self) -> &'static str {
        match self {
            Self::Class => "websocketclasses",
            Self::ConfigMap => "configmaps",
            Self::EndpointSlice => "endpointslices",
            Self::Namespace => "namespaces",
            Self::Node => "nodes",
            Self::ReferenceGrant => "referencegrants",
            Self::Route => "websocketroutes",
            Self::Secret => "secrets",
            Self::Service => "services",
        }
    }

    /// Whether Sheave serves without it.
    pub(super) const fn is_optional(self) -> bool {
        matches!(self, Self::Namespace | Self::Node | Self::ReferenceGrant)
    }
}

/// What is watched. Shown as `secrets in shop`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Watch {
    pub(super) kind: Kind,
    /// `None` for all.
    pub(super) namespace: Option<Arc<str>>,
}

impl fmt::Display for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.plural())?;
        self.namespace.iter().try_for_each(|namespace| write!(f, " in {namespace}"))
    }
}

/// What a watch tells.
#[derive(Debug)]
pub(super) struct Notice {
    pub(super) watch: Watch,
    pub(super) what: What,
}

/// The events of a watch.
#[derive(Debug)]
pub(super) enum What {
    /// An object is gone.
    Absent(ObjectKey),
    /// A list begins; what is not in it is gone once it has [`What::Listed`].
    Began,
    /// The list is complete.
    Listed,
    /// An object is there.
    Present(ObjectKey, Box<Item>),
}

/// Where notices go, and where health is noted.
#[derive(Clone)]
pub(super) struct Reports {
    pub(super) notices: mpsc::Sender<Notice>,
    pub(super) health: Arc<Health>,
}

impl Reports {
    /// Passes a notice on; false when nobody listens any more.
    pub(super) async fn send(&self, watch: &Watch, what: What) -> bool {
        self.notices.send(Notice { watch: watch.clone(), what }).await.is_ok()
    }

    /// Says that there are no objects of this watch: for a kind that the API server does not have or not show.
    pub(super) async fn none(&self, watch: &Watch) -> bool {
        self.send(watch, What::Began).await && self.send(watch, What::Listed).await
    }
}

/// Follows a watch for as long as anyone listens, or until `stop` says that an error ends it.
pub(super) async fn follow<K>(
    watch: Watch,
    api: Api<K>,
    take: fn(K) -> (ObjectKey, Item),
    reports: Reports,
    stop: fn(&watcher::Error) -> bool,
) where
    K: Resource + Clone + DeserializeOwned + fmt::Debug + Send + 'static,
{
    let events = watcher(api, Config::default().timeout(CALL_SECONDS)).backoff(Retry::default());
    let mut notices = std::pin::pin!(notices(events, take));
    loop {
        match notices.next().await {
            Some(Ok(what)) => {
                reports.health.heard(&watch);
                if !reports.send(&watch, what).await {
                    return;
                }
            }
            Some(Err(error)) => {
                reports.health.failed(&watch, explain(&watch, &error));
                if stop(&error) {
                    return;
                }
            }
            None => return,
        }
    }
}

fn notices<K: Resource>(
    events: impl Stream<Item = watcher::Result<Event<K>>>,
    take: fn(K) -> (ObjectKey, Item),
) -> impl Stream<Item = watcher::Result<What>> {
    events.map_ok(move |event| match event {
        Event::Init => What::Began,
        Event::InitDone => What::Listed,
        Event::Delete(object) => What::Absent(ObjectKey::of(object.meta())),
        Event::Apply(object) | Event::InitApply(object) => {
            let (key, item) = take(object);
            What::Present(key, Box::new(item))
        }
    })
}

/// The API server's own status of a refusal, if it is one.
pub(super) fn status(error: &watcher::Error) -> Option<&kube::core::Status> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => Some(status),
        _ => None,
    }
}

/// What went wrong, and what to do.
fn explain(watch: &Watch, error: &watcher::Error) -> String {
    let plural = watch.kind.plural();
    match status(error) {
        // The server's own words name the account, the verb, the resource and where.
        Some(status) if status.code == 403 => {
            let what = if watch.namespace.is_some() { "a Role" } else { "a ClusterRole" };
            format!("{}: give its service account get, list and watch on {plural} by {what}", status.message)
        }
        Some(status) if status.code == 404 && matches!(watch.kind, Kind::Class | Kind::Route) => {
            format!("the CRD {plural}.sheave.dev is not installed: apply crds/ (the chart does with crds.enabled)")
        }
        Some(status) if status.code == 401 => {
            format!(
                "the API server does not accept Sheave's credentials ({}): look at its service account",
                status.message
            )
        }
        Some(status) => format!("the API server answers {}: {}", status.code, status.message),
        None => format!("cannot reach the API server ({}): look at its address and at network policies", root(error)),
    }
}

/// The innermost cause, which is the one that tells.
pub(super) fn root(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
