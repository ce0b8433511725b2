//! The contestants: how each proxy is configured and started.
//!
//! Every rival is set up as somebody who knows it would for WebSocket traffic,
//! and wherever a setting trades one row for another, each row gets the setting
//! that serves the rival best. Sheave runs as it comes.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tokio::process::Command;

use crate::process::{Proxy, free_port};

/// A proxy that takes part.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contestant {
    /// Debian's haproxy.
    Haproxy,
    /// Debian's nginx.
    Nginx,
    /// The program of this repository.
    Sheave,
}

/// In the order of a round and of the table's columns.
pub(crate) const CONTESTANTS: [Contestant; 3] = [Contestant::Sheave, Contestant::Nginx, Contestant::Haproxy];

/// What a trial asks of a proxy.
#[derive(Clone, Copy)]
pub(crate) struct Setup {
    /// Port of the echo backend on 127.0.0.1.
    pub(crate) backend: u16,
    /// TLS on the client's side.
    pub(crate) tls: bool,
    /// Worker threads (Sheave, haproxy) or processes (nginx).
    pub(crate) workers: usize,
    /// What the rivals' buffers are sized for.
    pub(crate) buffers: Buffers,
}

/// What a rival's buffers are sized for, where one size does not suit all rows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Buffers {
    /// Few large reads: 64 KiB. Larger ones brought nothing more.
    Bulk,
    /// As the rivals come: a page for nginx, 16 KiB for haproxy.
    Default,
    /// As little memory as nginx can be set to; haproxy gives its buffers back.
    Idle,
}

impl Contestant {
    /// Name in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
            Self::Sheave => "Sheave",
        }
    }

    /// Path of the program; `None` when it is not on this machine.
    ///
    /// Sheave is what cargo built together with this bench, unless `SHEAVE_BIN`
    /// names another one.
    pub(crate) fn program(self) -> Option<PathBuf> {
        if self == Self::Sheave {
            let built = || env!("CARGO_BIN_EXE_sheave").into();
            let path = std::env::var_os("SHEAVE_BIN").map_or_else(built, PathBuf::from);
            return path.is_file().then_some(path);
        }
        // Debian keeps both where an ordinary user's PATH does not look.
        let search = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&search)
            .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
            .map(|folder| folder.join(self.name()))
            .find(|path| path.is_file())
    }

    /// What the program says of its version, or `None` when it is absent.
    pub(crate) async fn version(self) -> Option<String> {
        let flag = if self == Self::Sheave { "--version" } else { "-v" };
        let output = Command::new(self.program()?).arg(flag).output().await.ok()?;
        // nginx prints it on standard error.
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let words = |word: &&str| word.starts_with(|first: char| first.is_ascii_digit());
        let numbers = text.split([' ', '/', '\n']).find(words);
        Some(format!("{} {}", self.name(), numbers.unwrap_or("of unknown version")))
    }

    /// Starts the proxy with its files in `folder`; gives it and its port.
    pub(crate) async fn start(self, setup: &Setup, folder: &Path) -> Result<(Proxy, u16)> {
        let program = self.program().context("not installed")?;
        let port = free_port()?;
        let mut ports = vec![port];
        let mut command = Command::new(program);
        match self {
            Self::Haproxy => {
                let file = folder.join("haproxy.cfg");
                fs::write(&file, haproxy(setup, port, folder))?;
                // -db: stay in the foreground, one process, no master.
                command.arg("-db").arg("-f").arg(file);
            }
            Self::Nginx => {
                let file = folder.join("nginx.conf");
                fs::write(&file, nginx(setup, port, folder))?;
                command.arg("-p").arg(folder).arg("-c").arg(file);
                command.arg("-e").arg(folder.join("nginx-error.log"));
            }
            Self::Sheave => {
                let admin = free_port()?;
                ports.push(admin);
                command.arg("proxy").arg("--workers").arg(setup.workers.to_string());
                command.arg("--to").arg(format!("ws://127.0.0.1:{}", setup.backend));
                command.arg("--admin").arg(format!("127.0.0.1:{admin}"));
                // The plain listener is not optional.
                let plain = if setup.tls { free_port()? } else { port };
                command.arg("--listen").arg(format!("127.0.0.1:{plain}"));
                if setup.tls {
                    command.arg("--listen-tls").arg(format!("127.0.0.1:{port}"));
                }
                // The rivals' access logs are off, so Sheave's is.
                command.env("SHEAVE_LOG", "warn");
            }
        }
        let log = folder.join(format!("{}.log", self.name()));
        Ok((Proxy::start(command, &ports, log).await?, port))
    }
}

/// Writes the rivals' certificate: self-signed, ECDSA on P-256, as Sheave makes
/// one itself.
pub(crate) fn write_certificate(folder: &Path) -> Result<()> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    fs::write(folder.join("certificate.pem"), &certificate)?;
    fs::write(folder.join("key.pem"), &key)?;
    // haproxy wants both in one file.
    fs::write(folder.join("both.pem"), certificate + &key)?;
    Ok(())
}

fn nginx(setup: &Setup, port: u16, folder: &Path) -> String {
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
    format!(
        "daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log crit;
worker_processes {workers};
worker_rlimit_nofile 20000;
events {{ worker_connections 19000; }}
http {{
    access_log off;
    client_body_temp_path {folder}/nginx-body;
    proxy_temp_path {folder}/nginx-proxy;
    fastcgi_temp_path {folder}/nginx-fastcgi;
    uwsgi_temp_path {folder}/nginx-uwsgi;
    scgi_temp_path {folder}/nginx-scgi;
    tcp_nodelay on;
    server {{
        listen 127.0.0.1:{port}{tls} backlog=4096;
        {certificate}
        location / {{
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
        }}
    }}
}}
"
    )
}

fn haproxy(setup: &Setup, port: u16, folder: &Path) -> String {
    let tls =
        if setup.tls { format!(" ssl crt {}/both.pem ssl-min-ver TLSv1.3", folder.display()) } else { String::new() };
    let buffer_bytes = match setup.buffers {
        Buffers::Bulk => 65_536,
        Buffers::Default | Buffers::Idle => 16_384,
    };
    // maxconn: two descriptors each must fit under 20,000.
    format!(
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
    default_backend upstream
backend upstream
    server echo 127.0.0.1:{}
",
        setup.workers,
        if setup.tls { "https" } else { "http" },
        setup.backend
    )
}
