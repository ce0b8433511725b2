//! Sheave: `proxy --to` where one route takes all, else `serve` with a folder of a hundred routes a file.

use super::{Setup, edition_host, host, replace};
use crate::process::free_port;
use anyhow::Result;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use tokio::process::Command;

/// Begins, behind `#`, a line that holds an object.
pub(crate) const OBJECT: &str = "object ";

/// Routes of one file.
const A_FILE: usize = 100;

/// What it is started with; gives the port of its admin listener.
pub(super) fn command(command: &mut Command, setup: &Setup<'_>, port: u16, folder: &Path) -> Result<u16> {
    let admin = free_port()?;
    if setup.routes == 0 && setup.block.is_none() {
        command.arg("proxy").arg("--to").arg(format!("ws://127.0.0.1:{}", setup.backend));
    } else {
        command.arg("serve").arg(folder.join("routes"));
    }
    command.arg("--workers").arg(setup.workers.to_string());
    command.arg("--admin").arg(format!("127.0.0.1:{admin}"));
    // The plain listener is not optional.
    let plain = if setup.tls { free_port()? } else { port };
    command.arg("--listen").arg(format!("127.0.0.1:{plain}"));
    if setup.tls {
        command.arg("--listen-tls").arg(format!("127.0.0.1:{port}"));
    }
    // The rivals' access logs are off, so Sheave's is.
    command.env("SHEAVE_LOG", "warn");
    Ok(admin)
}

/// Writes the folder; of one that is there only what another edition changes.
pub(super) fn write(setup: &Setup<'_>, folder: &Path) -> Result<()> {
    let routes = folder.join("routes");
    if setup.edition == 0 {
        let _ = fs::remove_dir_all(&routes);
        fs::create_dir(&routes)?;
        let service = format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: echo}}, spec: {{ports: [{{port: {port}}}]}}}}\n---\n\
             {{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, ports: [{{name: '', port: {port}}}], \
             metadata: {{name: echo, labels: {{kubernetes.io/service-name: echo}}}}, endpoints: [{{addresses: [127.0.0.1]}}]}}\n",
            port = setup.backend
        );
        fs::write(routes.join("echo.yaml"), service)?;
        let hosts: Vec<String> = (0..setup.routes).map(host).collect();
        for (at, hosts) in hosts.chunks(A_FILE).enumerate() {
            let mut text = String::new();
            for host in hosts {
                text.push_str(&route(setup, host, ""));
            }
            fs::write(routes.join(format!("routes-{at}.yaml")), text)?;
        }
        if let Some(block) = setup.block {
            fs::write(routes.join("route.yaml"), route(setup, "*.bench.test", block))?;
        }
    }
    if setup.routes > 0 {
        replace(&routes.join("edition.yaml"), &route(setup, &edition_host(setup.edition), ""))?;
    }
    Ok(())
}

/// A route of one host to the echo backend, with further fields; what a line of comment names as an object goes behind it.
fn route(setup: &Setup<'_>, host: &str, block: &str) -> String {
    let name = host.replace('*', "all").replace('.', "-");
    let mut text = String::from("---\napiVersion: sheave.dev/v1alpha1\nkind: WebSocketRoute\n");
    // Writing to a String cannot fail.
    let _ = writeln!(text, "metadata: {{name: {name}}}\nspec:\n  hostnames: ['{host}']\n{block}");
    let _ = writeln!(text, "  rules: [{{backendRefs: [{{name: echo, port: {}}}]}}]", setup.backend);
    let mark = format!("#{OBJECT}");
    for object in block.lines().filter_map(|line| line.strip_prefix(&mark)) {
        let _ = writeln!(text, "---\n{object}");
    }
    text
}
