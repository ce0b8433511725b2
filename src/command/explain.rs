//! `sheave explain`: which rule and backend a handshake would reach, or why each candidate was passed over.
//!
//! Asks the very table that a serving process would build, so the answer cannot differ from what happens.

use crate::compile::{Options, compile};
use crate::control::folder;
use crate::control::rebuild::{now, snapshot};
use crate::routing::{BackendTarget, Considered, EndpointState, Plaintext, Request, Rule, Scheme, WeightedBackend};
use crate::settings::Explain;
use anyhow::Context as _;
use std::io::Write;
use std::process::ExitCode;

/// Explains one handshake. The exit code is 0 when it would reach a backend, else 1.
///
/// # Errors
/// When the folder itself cannot be read, or the output not written.
pub fn run(asked: &Explain, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let contents = folder::read(&asked.folder).with_context(|| format!("cannot read {}", asked.folder.display()))?;
    if contents.is_broken() {
        writeln!(out, "some objects cannot be read and are left out; `sheave check` tells which")?;
    }
    let table = compile(&snapshot(contents.documents, now()), &Options::folder()).table;
    let headers: Vec<(&str, &[u8])> = asked.headers.iter().map(|(n, v)| (n.as_str(), v.as_bytes())).collect();
    let subprotocols: Vec<&str> = asked.subprotocols.iter().map(String::as_str).collect();
    let request = Request {
        scheme: asked.url.scheme,
        host: &asked.url.host,
        path: &asked.url.path,
        query: asked.url.query.as_deref(),
        headers: &headers,
        subprotocols: &subprotocols,
    };
    let explanation = table.explain(&request);
    if explanation.considered.is_empty() {
        writeln!(out, "404: no route names the host {}", request.host)?;
        return Ok(ExitCode::FAILURE);
    }
    let mut won = false;
    for candidate in &explanation.considered {
        tell(candidate, &mut won, out)?;
    }
    let Some(found) = explanation.found else {
        writeln!(out, "404: no rule matches")?;
        return Ok(ExitCode::FAILURE);
    };
    if request.scheme == Scheme::Ws && found.rule.plaintext == Plaintext::Reject {
        writeln!(out, "403: {} is served over TLS only; connect with wss://", found.rule.id)?;
        return Ok(ExitCode::FAILURE);
    }
    if request.scheme == Scheme::Wss {
        match table.certificate(Some(request.host)) {
            Some(certificate) => writeln!(out, "certificate: {}", certificate.source)?,
            None => writeln!(out, "certificate: the self-signed one that is made at start")?,
        }
    }
    backends(&found.rule, out)
}

fn tell(candidate: &Considered, won: &mut bool, out: &mut dyn Write) -> std::io::Result<()> {
    let Considered { rule, host, matching, passed_over } = candidate;
    let verdict = match passed_over {
        Some(reason) => format!("passed over: {reason}"),
        None if *won => "matches too, but comes later".to_owned(),
        None => {
            *won = true;
            "TAKEN".to_owned()
        }
    };
    writeln!(out, "{} host {host} {matching}: {verdict}", rule.id)
}

fn backends(rule: &Rule, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let total: u64 = rule.backends.iter().map(|backend| u64::from(backend.weight)).sum();
    let mut reachable = false;
    for WeightedBackend { weight, target } in &rule.backends {
        let share = if total == 0 { 0.0 } else { f64::from(*weight) * 100.0 / total as f64 };
        match target {
            BackendTarget::Invalid(reason) => writeln!(out, "backend {share:.1}%: 500: {reason}")?,
            BackendTarget::Service(backend) => {
                let ready: Vec<_> = backend.endpoints.iter().filter(|e| e.state == EndpointState::Ready).collect();
                let addresses: Vec<_> = ready.iter().map(|endpoint| endpoint.address.to_string()).collect();
                reachable |= !ready.is_empty() && *weight > 0;
                let to = if ready.is_empty() { "503: no ready endpoint".to_owned() } else { addresses.join(", ") };
                writeln!(out, "backend {share:.1}%: {} {:?}: {to}", backend.id, backend.protocol)?;
            }
        }
    }
    Ok(if reachable { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/routes");

    fn explain(words: &[&str]) -> (bool, String) {
        let words = ["sheave", "explain", FOLDER].iter().chain(words);
        let Ok(Settings::Explain(asked)) = Settings::parse(words) else { panic!("explain settings") };
        let mut out = Vec::new();
        let code = run(&asked, &mut out).expect("the examples are readable");
        (format!("{code:?}") == format!("{:?}", ExitCode::SUCCESS), String::from_utf8(out).expect("UTF-8"))
    }

    #[test]
    fn tells_the_rule_the_backends_and_who_was_passed_over() {
        let (reached, out) = explain(&["--url", "ws://chat.localhost/rooms/7", "-H", "X-Tenant: gold"]);
        assert!(reached, "{out}");
        let taken: Vec<_> = out.lines().filter(|line| line.ends_with("TAKEN")).collect();
        assert!(taken.len() == 1 && taken[0].starts_with("default/chat/gold "), "{out}");
        assert!(out.contains("default/chat/graphql") && out.contains("passed over: path is not Exact /graphql"), "{out}");
        assert!(out.contains("127.0.0.1:9001"), "{out}");
    }

    #[test]
    fn tells_why_nothing_is_reached() {
        let (reached, out) = explain(&["--url", "ws://chat.localhost/graphql", "--subprotocol", "mqtt"]);
        assert!(!reached && out.contains("subprotocol graphql-transport-ws not offered"), "{out}");
    }
}
