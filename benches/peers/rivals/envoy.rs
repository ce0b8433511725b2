//! Envoy: one virtual host for each host, which it finds by a hash; where there are many, they come by a watched file.

use super::{Setup, replace};
use anyhow::Result;
use serde_json::{Value, json};
use std::path::Path;
use tokio::process::Command;

const EXTENSIONS: &str = "type.googleapis.com/envoy.extensions";

/// What it is started with.
pub(super) fn command(command: &mut Command, setup: &Setup<'_>, folder: &Path) {
    command.arg("--concurrency").arg(setup.workers.to_string());
    command.args(["--disable-hot-restart", "--log-level", "error", "-c"]).arg(folder.join("envoy.json"));
}

/// Writes its files, in JSON, which is YAML.
pub(super) fn write(setup: &Setup<'_>, port: u16, folder: &Path) -> Result<()> {
    let virtual_host = |name: &str, domain: &str| {
        json!({
            "name": name, "domains": [domain],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "echo", "timeout": "0s"}}],
        })
    };
    let hosts = setup.hosts();
    let mut manager = json!({
        "@type": format!("{EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "downstream",
        "codec_type": "HTTP1",
        "use_remote_address": true,
        "stream_idle_timeout": "3600s",
        // It would wait a second for the client to close first.
        "delayed_close_timeout": "0s",
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": {"@type": format!("{EXTENSIONS}.filters.http.router.v3.Router"), "suppress_envoy_headers": true},
        }],
    });
    if hosts.is_empty() {
        manager["route_config"] = json!({"name": "all", "virtual_hosts": [virtual_host("all", "*")]});
    } else {
        let path = folder.join("envoy-routes.json");
        let virtual_hosts: Vec<Value> = hosts.iter().map(|host| virtual_host(host, host)).collect();
        let routes = json!({
            "version_info": setup.edition.to_string(),
            "resources": [{
                "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
                "name": "many", "virtual_hosts": virtual_hosts,
            }],
        });
        replace(&path, &routes.to_string())?;
        manager["rds"] = json!({
            "route_config_name": "many",
            "config_source": {"resource_api_version": "V3", "path_config_source": {"path": path}},
        });
    }
    let mut chain =
        json!({"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]});
    if setup.tls {
        chain["transport_socket"] = json!({
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": format!("{EXTENSIONS}.transport_sockets.tls.v3.DownstreamTlsContext"),
                "common_tls_context": {
                    "tls_params": {"tls_minimum_protocol_version": "TLSv1_3"},
                    "tls_certificates": [{
                        "certificate_chain": {"filename": folder.join("certificate.pem")},
                        "private_key": {"filename": folder.join("key.pem")},
                    }],
                },
            },
        });
    }
    let address = |port: u16| json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    // Its bounds of 1,024 would refuse most of the connections of some rows.
    let bounds = json!({"max_connections": 100_000, "max_pending_requests": 100_000, "max_requests": 100_000});
    let bootstrap = json!({
        "node": {"id": "bench", "cluster": "bench"},
        "static_resources": {
            "listeners": [{"address": address(port), "tcp_backlog_size": 4096, "filter_chains": [chain]}],
            "clusters": [{
                "name": "echo", "type": "STATIC", "connect_timeout": "5s",
                "circuit_breakers": {"thresholds": [bounds]},
                "load_assignment": {
                    "cluster_name": "echo",
                    "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(setup.backend)}}]}],
                },
            }],
        },
    });
    replace(&folder.join("envoy.json"), &bootstrap.to_string())
}
