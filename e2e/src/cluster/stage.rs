//! One scenario's surroundings: a namespace of its own, and everything it does there.

use super::dump::dump;
use super::objects::{Backend, resource};
use super::sheave::Sheave;
use super::{steady, until, variable};
use crate::backend::ledger::Counts;
use crate::client::dial::Target;
use anyhow::{Context, Result, anyhow, ensure};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::{Api, Client, Config, ResourceExt};
use rustls::ClientConfig;
use serde_json::{Value, json};
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::http::Request;

/// The longest that objects may take to come to what a scenario wants, a pod's start included.
pub const CEILING: Duration = Duration::from_secs(60);

/// How many answers in a row speak for every pod of Sheave: with two, one missed is a matter of one in a thousand.
const ROW: usize = 10;

/// The surroundings of one scenario.
pub struct Stage {
    /// The API server.
    pub client: Client,
    /// The scenario's own.
    pub namespace: String,
    /// The Sheave under test.
    pub sheave: Sheave,
    /// When the scenario began.
    pub began: Instant,
    cluster_objects: Mutex<Vec<(String, String, String)>>,
}

/// Runs a scenario in a namespace of its own, which is deleted afterwards unless `E2E_KEEP` is set. Afterwards Sheave
/// must not have logged an error. Panics with what failed, after a dump.
pub async fn scenario<F: Future<Output = Result<()>> + Send + 'static>(name: &str, play: impl FnOnce(Arc<Stage>) -> F) {
    let stage = Arc::new(Stage::new(name).await.expect("the scenario gets its namespace"));
    // A task of its own, so that a failed assertion is shown and cleaned up like any other failure.
    let mut played = match tokio::spawn(play(Arc::clone(&stage))).await {
        Ok(played) => played,
        Err(panic) => Err(anyhow!("{panic}")),
    };
    if played.is_ok() {
        played = stage.sheave.sound(stage.began).await;
    }
    if let Err(error) = &played {
        eprintln!("{name} failed: {error:#}");
        dump(&stage.namespace, &stage.sheave.namespace).await;
    }
    let cleaned = stage.clean().await;
    if let Err(error) = played.and(cleaned) {
        panic!("{name}: {error:#}");
    }
}

impl Stage {
    async fn new(name: &str) -> Result<Self> {
        // Another crate may have brought a second provider into the build.
        let _there_is_one = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut config = Config::infer().await.context("no cluster: see `make e2e`")?;
        // A 503 of a pod's admin listener is an answer, not something to try again.
        config.default_retry = false;
        let client = Client::try_from(config)?;
        let namespace = format!("e2e-{name}-{:06x}", fastrand::u32(..1 << 24));
        let sheave = Sheave::of(&client);
        let stage = Self { client, namespace, sheave, began: Instant::now(), cluster_objects: Mutex::default() };
        stage
            .apply(&json!({
                "apiVersion": "v1", "kind": "Namespace",
                "metadata": {"name": stage.namespace, "labels": {"sheave.dev/e2e": "true"}},
            }))
            .await?;
        Ok(stage)
    }

    async fn clean(&self) -> Result<()> {
        if !variable("E2E_KEEP", "").is_empty() {
            eprintln!("kept: namespace {}", self.namespace);
            return Ok(());
        }
        let others = std::mem::take(&mut *self.cluster_objects.lock().unwrap_or_else(PoisonError::into_inner));
        for (api_version, kind, name) in others {
            self.delete(&api_version, &kind, &name).await?;
        }
        Ok(())
    }

    fn api(&self, api_version: &str, kind: &str, namespace: &str) -> Api<DynamicObject> {
        let (resource, namespaced) = resource(api_version, kind);
        if namespaced {
            Api::namespaced_with(self.client.clone(), namespace, &resource)
        } else {
            Api::all_with(self.client.clone(), &resource)
        }
    }

    /// Applies an object (server-side), in this namespace unless it says otherwise. What has no namespace goes when
    /// the scenario ends.
    pub async fn apply(&self, object: &Value) -> Result<DynamicObject> {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let (api_version, kind, name) = (text("/apiVersion"), text("/kind"), text("/metadata/name"));
        let namespace = object.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or(&self.namespace);
        if !resource(api_version, kind).1 {
            let mut others = self.cluster_objects.lock().unwrap_or_else(PoisonError::into_inner);
            let this = (api_version.to_owned(), kind.to_owned(), name.to_owned());
            if !others.contains(&this) {
                others.push(this);
            }
        }
        let parameters = PatchParams::apply("sheave-e2e").force();
        let api = self.api(api_version, kind, namespace);
        let applied = api.patch(name, &parameters, &Patch::Apply(object)).await;
        applied.with_context(|| format!("applying {kind} {name}"))
    }

    /// Applies several.
    pub async fn apply_all(&self, objects: &[Value]) -> Result<()> {
        for object in objects {
            self.apply(object).await?;
        }
        Ok(())
    }

    /// An object of this namespace, if it is there.
    pub async fn get(&self, api_version: &str, kind: &str, name: &str) -> Result<Option<DynamicObject>> {
        Ok(self.api(api_version, kind, &self.namespace).get_opt(name).await?)
    }

    /// Deletes an object; one that is not there is fine.
    pub async fn delete(&self, api_version: &str, kind: &str, name: &str) -> Result<()> {
        let deleted = self.api(api_version, kind, &self.namespace).delete(name, &DeleteParams::background()).await;
        match deleted {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(error).with_context(|| format!("deleting {kind} {name}")),
        }
    }

    /// Deletes a route.
    pub async fn delete_route(&self, name: &str) -> Result<()> {
        self.delete("sheave.dev/v1alpha1", "WebSocketRoute", name).await
    }

    /// Applies a backend and waits for its pods.
    pub async fn deploy(&self, name: &str, backend: &Backend) -> Result<()> {
        self.apply_all(&backend.objects()).await?;
        self.rolled_out(name).await
    }

    /// Waits until the pods of a Deployment are the wanted ones, ready, and no other is left.
    pub async fn rolled_out(&self, deployment: &str) -> Result<()> {
        until(&format!("the rollout of {deployment}"), Duration::from_secs(120), || async {
            let object = self.get("apps/v1", "Deployment", deployment).await?.context("no such Deployment")?;
            let number = |pointer: &str| object.data.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
            let wanted = number("/spec/replicas");
            let counts = ["/status/replicas", "/status/updatedReplicas", "/status/readyReplicas"];
            let seen = number("/status/observedGeneration") == object.metadata.generation.unwrap_or(0);
            Ok((seen && counts.iter().all(|count| number(count) == wanted)).then_some(()))
        })
        .await
    }

    /// The pods of a backend that stay.
    pub async fn pods(&self, backend: &str) -> Result<Vec<String>> {
        let api = Api::<Pod>::namespaced(self.client.clone(), &self.namespace);
        let pods = api.list(&ListParams::default().labels(&format!("app={backend}"))).await?;
        let stays = |pod: &&Pod| pod.metadata.deletion_timestamp.is_none();
        Ok(pods.items.iter().filter(stays).map(ResourceExt::name_any).collect())
    }

    /// Asks the control port of a backend's pod.
    pub async fn control(&self, pod: &str, path: &str) -> Result<String> {
        let uri = format!("/api/v1/namespaces/{}/pods/{pod}:8081/proxy{path}", self.namespace);
        let answer = self.client.request_text(Request::get(uri).body(Vec::new())?).await;
        answer.with_context(|| format!("{path} of {pod}"))
    }

    /// What the pods of a backend have seen, together.
    pub async fn counts(&self, backend: &str) -> Result<Counts> {
        let mut all = Counts::default();
        for pod in self.pods(backend).await? {
            let counts: Counts = serde_json::from_str(&self.control(&pod, "/counts").await?)?;
            all.open += counts.open;
            all.opened += counts.opened;
            all.ids.extend(counts.ids);
        }
        Ok(all)
    }

    /// Handshakes in clear for `host` through Sheave's Service.
    pub fn target(&self, host: &str) -> Target {
        Target::new(&variable("E2E_WS", "127.0.0.1:30080"), host)
    }

    /// Handshakes over TLS.
    pub fn secure(&self, host: &str, config: &Arc<ClientConfig>) -> Target {
        Target::new(&variable("E2E_WSS", "127.0.0.1:30443"), host).tls(config)
    }

    /// Waits until every pod of Sheave answers handshakes with this status.
    pub async fn answers(&self, target: &Target, status: u16) -> Result<()> {
        steady(&format!("status {status}"), ROW, CEILING, || async {
            let answered = target.status().await?;
            if answered == status { Ok(true) } else { Err(anyhow!("the status is {answered}")) }
        })
        .await
    }

    /// A condition of a route, if it is there and speaks of the route as it is.
    pub async fn condition(&self, route: &str, kind: &str) -> Result<Option<Condition>> {
        condition(self.get("sheave.dev/v1alpha1", "WebSocketRoute", route).await?.as_ref(), kind)
    }

    /// Waits until a condition of a route has this status and reason, and returns its message.
    pub async fn told(&self, route: &str, kind: &str, status: &str, reason: &str) -> Result<String> {
        until(&format!("{route}: {kind}={status}/{reason}"), CEILING, || async {
            match self.condition(route, kind).await? {
                Some(found) if found.status == status && found.reason == reason => Ok(Some(found.message)),
                Some(found) => Err(anyhow!("it is {}/{}: {}", found.status, found.reason, found.message)),
                None => Err(anyhow!("there is none")),
            }
        })
        .await
    }

    /// As [`Stage::told`], for a class.
    pub async fn class_told(&self, class: &str, kind: &str, status: &str, reason: &str) -> Result<String> {
        until(&format!("class {class}: {kind}={status}/{reason}"), CEILING, || async {
            let object = self.get("sheave.dev/v1alpha1", "WebSocketClass", class).await?;
            match condition(object.as_ref(), kind)? {
                Some(found) if found.status == status && found.reason == reason => Ok(Some(found.message)),
                Some(found) => Err(anyhow!("it is {}/{}: {}", found.status, found.reason, found.message)),
                None => Err(anyhow!("there is none")),
            }
        })
        .await
    }

    /// Waits until a route is programmed.
    pub async fn programmed(&self, route: &str) -> Result<()> {
        self.told(route, "Programmed", "True", "Programmed").await.map(drop)
    }

    /// Applies a route and waits until it is programmed.
    pub async fn serve(&self, route: &Value) -> Result<()> {
        let applied = self.apply(route).await?;
        self.programmed(&applied.name_any()).await
    }

    /// Fails unless a message says each of these.
    pub fn says(message: &str, words: &[&str]) -> Result<()> {
        let missing = words.iter().find(|word| !message.contains(**word));
        ensure!(missing.is_none(), "the message does not say {:?}: {message}", missing.unwrap_or(&""));
        Ok(())
    }
}

fn condition(object: Option<&DynamicObject>, kind: &str) -> Result<Option<Condition>> {
    let Some(object) = object else { return Ok(None) };
    let conditions = object.data.pointer("/status/conditions").cloned().unwrap_or_else(|| json!([]));
    let conditions: Vec<Condition> = serde_json::from_value(conditions)?;
    let current = |found: &Condition| found.type_ == kind && found.observed_generation == object.metadata.generation;
    Ok(conditions.into_iter().find(current))
}
