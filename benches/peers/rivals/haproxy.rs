//! haproxy: the backend of a host by a map file, which it looks up in a tree.

use super::{Buffers, Setup};
use anyhow::Result;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use tokio::process::Command;

/// What it is started with: one process in the foreground; a master above it only where it is to take another configuration.
pub(super) fn command(command: &mut Command, setup: &Setup<'_>, folder: &Path) {
    command.arg(if setup.routes > 0 { "-W" } else { "-db" }).arg("-f").arg(folder.join("haproxy.cfg"));
}

/// Writes its files.
pub(super) fn write(setup: &Setup<'_>, port: u16, folder: &Path) -> Result<()> {
    let tls =
        if setup.tls { format!(" ssl crt {}/both.pem ssl-min-ver TLSv1.3", folder.display()) } else { String::new() };
    let buffer_bytes = match setup.buffers {
        Buffers::Bulk => 65_536,
        Buffers::Default | Buffers::Idle => 16_384,
    };
    let hosts = setup.hosts();
    let route = if hosts.is_empty() {
        "default_backend upstream".to_owned()
    } else {
        let mut map = String::new();
        for host in &hosts {
            // Writing to a String cannot fail.
            let _ = writeln!(map, "{host} upstream");
        }
        fs::write(folder.join("hosts.map"), map)?;
        format!("use_backend %[req.hdr(host),field(1,:),lower,map({}/hosts.map)]", folder.display())
    };
    // maxconn: two descriptors each must fit under 20,000.
    let text = format!(
        "global
    nbthread {}
    maxconn 9500
    tune.bufsize {buffer_bytes}
defaults
    mode http
    option forwardfor
    timeout connect 5s
    timeout client 1m
    timeout server 1m
    timeout tunnel 1h
frontend downstream
    bind 127.0.0.1:{port} backlog 4096{tls}
    http-request set-header X-Forwarded-Proto {}
    {route}
backend upstream
    server echo 127.0.0.1:{}
",
        setup.workers,
        if setup.tls { "https" } else { "http" },
        setup.backend
    );
    Ok(fs::write(folder.join("haproxy.cfg"), text)?)
}
