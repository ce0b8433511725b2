//! The lease: which pod writes statuses and events. It decides nothing else; every pod serves.
//!
//! A leader that cannot reach the API server believes that it still leads for as long as nobody else can have taken the
//! lease. All it does as leader is to write what compile said, which another leader would write alike.

use super::retry::Retry;
use crate::telemetry::cluster::ClusterMetrics;
use kube::Client;
use kube::runtime::utils::Backoff;
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder, LeaseManagerError};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};

/// Seconds after which a lease that was not renewed is free.
const SECONDS: u64 = 15;

/// Seconds before that at which its holder renews it.
const GRACE: u64 = 5;

/// How long letting go of the lease may take.
const RELEASE: Duration = Duration::from_secs(2);

/// Which lease, and who wants it.
#[derive(Clone, Debug)]
pub(super) struct Name {
    pub(super) namespace: String,
    pub(super) lease: String,
    pub(super) holder: String,
}

/// Wants the lease until `stop` is said or dropped, then lets it go. `leading` says whether this pod has it.
pub(super) async fn hold(
    client: Client,
    name: Name,
    leading: watch::Sender<bool>,
    metrics: Arc<ClusterMetrics>,
    mut stop: oneshot::Receiver<()>,
) {
    let say = |leads: bool| {
        metrics.leads(leads);
        if leading.send_replace(leads) != leads {
            tracing::info!(holder = name.holder, leads, "the lease that lets one pod write statuses has changed hands");
        }
    };
    let mut retry = Retry::default();
    let mut told = false;
    loop {
        let error = match build(client.clone(), &name).await {
            Ok(manager) => {
                retry.reset();
                told = false;
                tokio::select! {
                    error = follow(&manager, &say) => error,
                    _ = &mut stop => {
                        say(false);
                        return release(&manager).await;
                    }
                }
            }
            Err(error) => error,
        };
        say(false);
        if !std::mem::replace(&mut told, true) {
            let lease = format!("{}/{}", name.namespace, name.lease);
            tracing::warn!(lease, "cannot use the lease, so this pod writes no status: {}", super::watch::root(&error));
        }
        tokio::select! { () = retry.wait() => {}, _ = &mut stop => return }
    }
}

/// Says who has the lease until it has failed for as long as another pod needs to take it.
async fn follow(manager: &LeaseManager, say: &impl Fn(bool)) -> LeaseManagerError {
    let long = Duration::from_secs(SECONDS);
    let mut retry = Retry::default();
    let mut failing: Option<(Instant, Instant)> = None;
    loop {
        match manager.changed().await {
            Ok(leads) => say(leads),
            Err(error) => {
                let now = Instant::now();
                // What failed long ago has worked since: it fails again within seconds, or it does not.
                let recent = failing.filter(|(_, last)| now.duration_since(*last) < long);
                let first = recent.map_or(now, |(first, _)| first);
                if recent.is_none() {
                    retry.reset();
                }
                if now.duration_since(first) >= long {
                    return error;
                }
                failing = Some((first, now));
                retry.wait().await;
            }
        }
    }
}

/// Lets the lease go, if this pod has it.
async fn release(manager: &LeaseManager) {
    if !matches!(tokio::time::timeout(RELEASE, manager.release()).await, Ok(Ok(()))) {
        tracing::warn!("could not let go of the lease; another pod has it in {SECONDS} s");
    }
}

async fn build(client: Client, name: &Name) -> Result<LeaseManager, LeaseManagerError> {
    LeaseManagerBuilder::new(client, &name.lease)
        .with_namespace(&name.namespace)
        .with_identity(&name.holder)
        .with_duration(SECONDS)
        .with_grace(GRACE)
        .build()
        .await
}
