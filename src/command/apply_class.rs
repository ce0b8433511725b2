//! `sheave apply-class CLASS`: writes a `WebSocketClass` by server-side apply, as soon as the cluster knows the kind.
//!
//! What the chart runs after an install, an upgrade and a rollback. The class cannot be part of a release whose first
//! install brings the kind itself, and it must never be deleted and made anew: that would end every session of its
//! routes. Only fields of CLASS are written; what it no longer names, and we had written, goes.

use crate::api::WebSocketClass;
use anyhow::Context;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::ApiResource;
use kube::core::params::ValidationDirective;
use kube::{Client, Error};
use serde_json::Value;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

/// Whose the written fields are.
pub const MANAGER: &str = "sheave.dev/chart";

/// For everything together. A cluster with several API servers takes about five seconds to serve a new kind.
const LONGEST: Duration = Duration::from_secs(60);

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(250);

/// Writes `class`, a whole object, to the cluster of the environment, and says on `out` how it went.
///
/// # Errors
/// Without a cluster in the environment, when the cluster refuses, and when it does not answer in time.
pub fn run(class: &Value, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = Client::try_default().await.context("no cluster: run this in a pod, or give a kubeconfig")?;
        let name = class["metadata"]["name"].as_str().unwrap_or_default();
        let api: Api<DynamicObject> = Api::all_with(client, &ApiResource::erase::<WebSocketClass>(&()));
        let manner =
            PatchParams { field_validation: Some(ValidationDirective::Strict), ..PatchParams::apply(MANAGER).force() };
        let mut last = "no answer".to_owned();
        let whole = async {
            loop {
                match api.patch(name, &manner, &Patch::Apply(class)).await {
                    Ok(_) => break writeln!(out, "applied: WebSocketClass {name}").map_err(anyhow::Error::from),
                    Err(error) if passes(&error) => {
                        let told = error.to_string();
                        if told != last {
                            writeln!(out, "not yet: {told}; trying again")?;
                            last = told;
                        }
                        tokio::time::sleep(PAUSE).await;
                    }
                    Err(error) => {
                        break Err(anyhow::Error::from(error).context(format!("WebSocketClass {name} is refused")));
                    }
                }
            }
        };
        match tokio::time::timeout(LONGEST, whole).await {
            Ok(outcome) => outcome?,
            Err(_) => anyhow::bail!("WebSocketClass {name} could not be written within {LONGEST:?}: {last}"),
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Whether the same may go well in a moment: the kind is not served yet, the API server is busy or away.
fn passes(error: &Error) -> bool {
    match error {
        Error::Api(status) => matches!(status.code, 404 | 429 | 500..),
        Error::Service(_) | Error::HyperError(_) => true,
        _ => false,
    }
}
