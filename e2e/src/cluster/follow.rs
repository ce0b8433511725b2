//! The logs of all of Sheave's pods from now on, kept when a pod goes: a rolling update is judged by them.

use super::sheave::{Sheave, container, is_fault, record};
use anyhow::{Result, ensure};
use futures_util::{AsyncBufReadExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, ResourceExt};
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::{JoinHandle, JoinSet};

type Lines = Arc<Mutex<BTreeMap<String, Vec<String>>>>;

/// Logs under way; ends when dropped.
pub struct Follow {
    lines: Lines,
    task: JoinHandle<()>,
}

impl Drop for Follow {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Follow {
    /// Starts with what pods have logged so far and goes on with every pod that comes.
    pub fn start(client: &Client, sheave: &Sheave) -> Self {
        let lines = Lines::default();
        let (client, sheave, kept) = (client.clone(), sheave.clone(), Arc::clone(&lines));
        let task = tokio::spawn(async move {
            let mut known = HashSet::new();
            let mut followers = JoinSet::new();
            let mut turn = tokio::time::interval(Duration::from_millis(250));
            loop {
                turn.tick().await;
                for pod in sheave.all_pods().await.unwrap_or_default() {
                    let name = pod.name_any();
                    let started = pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Running"));
                    if started && known.insert(name.clone()) {
                        let api = Api::<Pod>::namespaced(client.clone(), &sheave.namespace);
                        followers.spawn(follow(api, name, Arc::clone(&kept)));
                    }
                }
            }
        });
        Self { lines, task }
    }

    /// Every line by pod.
    pub fn lines(&self) -> BTreeMap<String, Vec<String>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Every record of every pod.
    pub fn records(&self) -> Vec<Value> {
        self.lines().values().flatten().map(|line| record(line)).collect()
    }

    /// Fails if a pod has logged an error or a panic.
    pub fn sound(&self) -> Result<()> {
        for (pod, lines) in self.lines() {
            let bad = lines.iter().find(|line| is_fault(line));
            ensure!(bad.is_none(), "{pod} logged: {}", bad.map(String::as_str).unwrap_or_default());
        }
        Ok(())
    }
}

async fn follow(api: Api<Pod>, pod: String, kept: Lines) {
    let parameters = kube::api::LogParams { follow: true, ..container() };
    let Ok(stream) = api.log_stream(&pod, &parameters).await else { return };
    let mut lines = stream.lines();
    while let Ok(Some(line)) = lines.try_next().await {
        kept.lock().unwrap_or_else(PoisonError::into_inner).entry(pod.clone()).or_default().push(line);
    }
}
