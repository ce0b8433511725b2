//! Debian's chromium, headless: opens a URL and runs what the page says, until it is dropped.

use rustix::process::{Pid, Signal, kill_process_group};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// A running browser with a profile of its own.
pub(crate) struct Chromium {
    child: Child,
    _profile: TempDir,
}

impl Chromium {
    /// Opens `url`. `hosts` say which `host:port` is at which address; a `*` stands for any characters of the host. There
    /// are no other hosts. It takes every certificate, for those of the tests are signed by nobody.
    pub(crate) fn open(url: &str, hosts: &[(&str, SocketAddr)]) -> Self {
        let profile = TempDir::new().expect("a temporary folder can be made");
        let mapped = hosts.iter().map(|(host, at)| format!("MAP {host} {at}, ")).collect::<Vec<_>>().concat();
        let program = std::env::var("CHROMIUM").unwrap_or_else(|_| "chromium".to_owned());
        let mut command = Command::new(&program);
        command
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
            .args(["--no-first-run", "--no-default-browser-check", "--disable-component-update", "--disable-sync"])
            .args(["--disable-background-networking", "--disable-crash-reporter", "--ignore-certificate-errors"])
            .arg(format!("--host-resolver-rules={mapped}MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"))
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0); // its many processes end together
        let child = command.spawn().unwrap_or_else(|error| {
            panic!("{program}: {error}: apt-get install chromium, or name another one in CHROMIUM")
        });
        Self { child, _profile: profile }
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL); // it may have ended by itself
        }
        let _ = self.child.wait();
    }
}
