//! nginx: one `server` for each host, which it finds by a hash.

use super::{Buffers, Setup};
use std::fmt::Write as _;
use std::path::Path;
use tokio::process::Command;

/// What it is started with.
pub(super) fn command(command: &mut Command, folder: &Path) {
    command.arg("-p").arg(folder).arg("-c").arg(folder.join("nginx.conf"));
    command.arg("-e").arg(folder.join("nginx-error.log"));
}

/// The configuration file.
pub(super) fn configuration(setup: &Setup<'_>, port: u16, folder: &Path) -> String {
    let folder = folder.display();
    let Setup { backend, workers, .. } = setup;
    // proxy_buffer_size, then ssl_buffer_size whose default is 16 KiB.
    let (buffer, tls_buffer) = match setup.buffers {
        Buffers::Bulk => ("64k", "16k"),
        Buffers::Default => ("4k", "16k"),
        Buffers::Idle => ("1k", "4k"),
    };
    let tls = if setup.tls { " ssl" } else { "" };
    let certificate = if setup.tls {
        format!(
            "ssl_certificate {folder}/certificate.pem;
             ssl_certificate_key {folder}/key.pem;
             ssl_protocols TLSv1.3;
             ssl_buffer_size {tls_buffer};"
        )
    } else {
        String::new()
    };
    let location = format!(
        "location / {{
            proxy_pass http://127.0.0.1:{backend};
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection upgrade;
            proxy_set_header Host $host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_read_timeout 1h;
            proxy_send_timeout 1h;
            proxy_buffer_size {buffer};
            proxy_buffers 8 64k;
            proxy_busy_buffers_size 128k;
        }}"
    );
    let listen = format!("listen 127.0.0.1:{port}{tls}");
    let mut servers = String::new();
    let hosts = setup.hosts();
    if hosts.is_empty() {
        servers = format!("server {{ {listen} backlog=4096; {certificate} {location} }}\n");
    }
    if !hosts.is_empty() {
        // Else the first host would answer for those that are not routed.
        servers = format!("server {{ {listen} default_server backlog=4096; {certificate} return 404; }}\n");
    }
    for host in &hosts {
        // Writing to a String cannot fail.
        let _ = writeln!(servers, "server {{ {listen}; server_name {host}; {certificate} {location} }}");
    }
    format!(
        "daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log crit;
worker_processes {workers};
worker_rlimit_nofile 20000;
events {{ worker_connections 32768; }}
http {{
    access_log off;
    client_body_temp_path {folder}/nginx-body;
    proxy_temp_path {folder}/nginx-proxy;
    fastcgi_temp_path {folder}/nginx-fastcgi;
    uwsgi_temp_path {folder}/nginx-uwsgi;
    scgi_temp_path {folder}/nginx-scgi;
    tcp_nodelay on;
    server_names_hash_max_size 32768;
    server_names_hash_bucket_size 128;
    {servers}
}}
"
    )
}
