//! Traefik: one router for each host, from a watched file.

use super::{Setup, replace};
use anyhow::Result;
use serde_json::{Map, json};
use std::path::Path;
use tokio::process::Command;

/// What it is started with.
pub(super) fn command(command: &mut Command, setup: &Setup<'_>, port: u16, folder: &Path) {
    command.arg(format!("--entrypoints.downstream.address=127.0.0.1:{port}"));
    command.arg("--entrypoints.downstream.transport.respondingtimeouts.readtimeout=0");
    command.arg(format!("--providers.file.filename={}", folder.join("traefik.json").with_extension("yml").display()));
    command.args(["--providers.providersthrottleduration=50ms", "--log.level=ERROR"]);
    command.args(["--global.checknewversion=false", "--global.sendanonymoususage=false"]);
    // It has no number of workers; this is how many threads of it run at once.
    command.env("GOMAXPROCS", setup.workers.to_string());
}

/// Writes its file, in JSON, which is YAML.
pub(super) fn write(setup: &Setup<'_>, folder: &Path) -> Result<()> {
    let rules: Vec<String> = match setup.hosts() {
        hosts if hosts.is_empty() => vec!["PathPrefix(`/`)".to_owned()],
        hosts => hosts.iter().map(|host| format!("Host(`{host}`)")).collect(),
    };
    let mut routers = Map::new();
    for (at, rule) in rules.into_iter().enumerate() {
        let mut router = json!({"rule": rule, "service": "echo", "entryPoints": ["downstream"]});
        if setup.tls {
            router["tls"] = json!({});
        }
        routers.insert(format!("r{at}"), router);
    }
    let server = format!("http://127.0.0.1:{}", setup.backend);
    let mut dynamic = json!({
        "http": {"routers": routers, "services": {"echo": {"loadBalancer": {"servers": [{"url": server}]}}}},
    });
    if setup.tls {
        let certificate = json!({"certFile": folder.join("certificate.pem"), "keyFile": folder.join("key.pem")});
        dynamic["tls"] = json!({
            "stores": {"default": {"defaultCertificate": certificate}},
            "options": {"default": {"minVersion": "VersionTLS13"}},
        });
    }
    replace(&folder.join("traefik.yml"), &dynamic.to_string())
}
