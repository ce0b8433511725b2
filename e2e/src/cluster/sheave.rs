//! The Sheave under test: its pods, what they say at the admin listener, their logs, its lease.

use super::metrics::Metrics;
use super::{until, variable};
use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, LogParams};
use kube::{Api, Client, ResourceExt};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::http::Request;

/// One installed Sheave.
#[derive(Clone)]
pub struct Sheave {
    client: Client,
    /// Where it is installed.
    pub namespace: String,
    /// The name of the release, of its Deployment and its Service.
    pub release: String,
}

impl Sheave {
    /// The one that the suite runs against.
    pub fn of(client: &Client) -> Self {
        Self::at(client, &variable("E2E_NAMESPACE", "sheave-system"), &variable("E2E_RELEASE", "sheave"))
    }

    /// Another one.
    pub fn at(client: &Client, namespace: &str, release: &str) -> Self {
        Self { client: client.clone(), namespace: namespace.to_owned(), release: release.to_owned() }
    }

    fn api(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Its pods, terminating ones included.
    pub async fn all_pods(&self) -> Result<Vec<Pod>> {
        let labels = format!("app.kubernetes.io/name=sheave,app.kubernetes.io/instance={}", self.release);
        let pods = self.api().list(&ListParams::default().labels(&labels)).await?.items;
        // Jobs and test pods of the chart may carry the same labels.
        let serves = |pod: &Pod| {
            let containers = pod.spec.as_ref().map(|spec| spec.containers.as_slice()).unwrap_or_default();
            containers.iter().any(|container| container.name == "sheave")
                && pod.owner_references().iter().any(|owner| matches!(&*owner.kind, "ReplicaSet" | "DaemonSet"))
        };
        Ok(pods.into_iter().filter(serves).collect())
    }

    /// The names of the pods that are ready and stay.
    pub async fn pods(&self) -> Result<Vec<String>> {
        let stays = |pod: &Pod| pod.metadata.deletion_timestamp.is_none() && is_ready(pod);
        Ok(self.all_pods().await?.iter().filter(|pod| stays(pod)).map(ResourceExt::name_any).collect())
    }

    /// Waits until `count` pods are ready and no other is left.
    pub async fn settled(&self, count: usize) -> Result<Vec<String>> {
        until(&format!("{count} ready pods of Sheave and no other"), Duration::from_secs(120), || async {
            let (all, ready) = (self.all_pods().await?.len(), self.pods().await?);
            Ok((all == count && ready.len() == count).then_some(ready))
        })
        .await
    }

    /// What a pod answers at its admin listener, by way of the API server; an answer other than 200 is an error with
    /// the body in it.
    pub async fn admin(&self, pod: &str, path: &str) -> Result<String> {
        let uri = format!("/api/v1/namespaces/{}/pods/{pod}:9090/proxy{path}", self.namespace);
        let answer = self.client.request_text(Request::get(uri).body(Vec::new())?).await;
        answer.with_context(|| format!("{path} of {pod}"))
    }

    /// One pod's metrics.
    pub async fn metrics_of(&self, pod: &str) -> Result<Metrics> {
        Metrics::parse(&self.admin(pod, "/metrics").await?)
    }

    /// The metrics of every ready pod.
    pub async fn metrics(&self) -> Result<BTreeMap<String, Metrics>> {
        let scrape = |pod: String| async move { anyhow::Ok((pod.clone(), self.metrics_of(&pod).await?)) };
        Ok(try_join_all(self.pods().await?.into_iter().map(scrape)).await?.into_iter().collect())
    }

    /// A metric, summed over labels and ready pods.
    pub async fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Result<f64> {
        Ok(self.metrics().await?.values().map(|metrics| metrics.sum(name, labels)).sum())
    }

    /// Waits until a summed metric is at least `least`.
    pub async fn reaches(&self, name: &str, labels: &[(&str, &str)], least: f64) -> Result<f64> {
        until(&format!("{name}{labels:?} of at least {least}"), Duration::from_secs(20), || async {
            let sum = self.sum(name, labels).await?;
            Ok((sum >= least).then_some(sum))
        })
        .await
    }

    /// Waits until a summed metric is `value`.
    pub async fn becomes(&self, name: &str, labels: &[(&str, &str)], value: f64) -> Result<()> {
        until(&format!("{name}{labels:?} of {value}"), Duration::from_secs(20), || async {
            let sum = self.sum(name, labels).await?;
            if (sum - value).abs() < 1e-9 { Ok(Some(())) } else { Err(anyhow::anyhow!("it is {sum}")) }
        })
        .await
    }

    /// Waits until, for three seconds, no pod has said that a status is due and none was written, and tells how many ever
    /// were. (A leader may be away for as long as its lease lasts; then much is due and nothing is written.)
    pub async fn statuses_settled(&self) -> Result<f64> {
        let last = Mutex::new((f64::NAN, Instant::now()));
        until("statuses settle", Duration::from_secs(240), || async {
            let metrics = self.metrics().await?;
            let sum = |name| metrics.values().map(|metrics| metrics.sum(name, &[])).sum::<f64>();
            let (due, now) = (sum("sheave_statuses_due"), sum("sheave_status_writes_total"));
            let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
            if due > 0.5 || last.0.is_nan() || (last.0 - now).abs() > 0.5 {
                *last = (now, Instant::now());
            }
            if last.1.elapsed() > Duration::from_secs(3) {
                return Ok(Some(now));
            }
            Err(anyhow::anyhow!("{due} are due and {now} are written"))
        })
        .await
    }

    /// What the ready pods have logged since `since`, as records; lines that are none are kept as `{"text": ...}`.
    pub async fn records(&self, since: Instant) -> Result<Vec<Value>> {
        let mut records = Vec::new();
        for pod in self.pods().await? {
            records.extend(self.log(&pod, since).await?.lines().map(record));
        }
        Ok(records)
    }

    /// What a pod has logged since `since`.
    pub async fn log(&self, pod: &str, since: Instant) -> Result<String> {
        let seconds = i64::try_from(since.elapsed().as_secs())? + 1;
        let parameters = LogParams { since_seconds: Some(seconds), ..container() };
        Ok(self.api().logs(pod, &parameters).await?)
    }

    /// Waits for a record for which `fits` holds.
    pub async fn logged(&self, what: &str, since: Instant, fits: impl Fn(&Value) -> bool) -> Result<Value> {
        until(&format!("a log record: {what}"), Duration::from_secs(20), || async {
            Ok(self.records(since).await?.into_iter().find(|record| fits(record)))
        })
        .await
    }

    /// Fails if a pod has logged an error or a panic since `since`, or has restarted since then.
    pub async fn sound(&self, since: Instant) -> Result<()> {
        for pod in self.pods().await? {
            let log = self.log(&pod, since).await?;
            let bad = log.lines().find(|line| is_fault(line));
            ensure!(bad.is_none(), "{pod} logged: {}", bad.unwrap_or_default());
        }
        Ok(())
    }

    /// Who holds the lease.
    pub async fn leader(&self) -> Result<Option<String>> {
        let lease = Api::<Lease>::namespaced(self.client.clone(), &self.namespace);
        let name = variable("E2E_LEASE", "sheave");
        let lease = lease.get_opt(&name).await?;
        Ok(lease.and_then(|lease| lease.spec?.holder_identity).filter(|holder| !holder.is_empty()))
    }

    /// The ready pod that says it leads.
    pub async fn leading(&self) -> Result<String> {
        until("one pod with sheave_leader 1", Duration::from_secs(40), || async {
            let metrics = self.metrics().await?;
            let leads = |metrics: &Metrics| metrics.sum("sheave_leader", &[]) > 0.5;
            let mut leaders = metrics.iter().filter(|(_, metrics)| leads(metrics)).map(|(pod, _)| pod.clone());
            Ok(leaders.next().filter(|_| leaders.next().is_none()))
        })
        .await
    }
}

/// Logs of the container that serves.
pub(super) fn container() -> LogParams {
    LogParams { container: Some("sheave".to_owned()), ..LogParams::default() }
}

/// A log line as a record.
pub fn record(line: &str) -> Value {
    match serde_json::from_str(line) {
        Ok(Value::Object(fields)) => Value::Object(fields),
        _ => serde_json::json!({"text": line}),
    }
}

/// A field of a record, which tracing may have put below `fields`.
pub fn field<'a>(record: &'a Value, name: &str) -> &'a Value {
    record.get(name).or_else(|| record.get("fields")?.get(name)).unwrap_or(&Value::Null)
}

/// Whether a log line tells of a fault of Sheave's own.
pub fn is_fault(line: &str) -> bool {
    let record = record(line);
    field(&record, "level") == "ERROR" || line.contains("panicked at")
}

/// Whether a pod's condition Ready is true.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
