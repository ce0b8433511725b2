//! `sheave explain DIR --url URL`: which rule and backends a handshake would reach, or why each was passed over, and what
//! access would say of it.
//!
//! Asks the same table that `sheave serve` would serve, by the same lookup; nothing is dialled. Exit code 1 when the
//! handshake would be refused.

use super::access;
use crate::compile::{Compiled, Options, compile};
use crate::control::{folder, rebuild};
use crate::routing::{
    BackendTarget, Considered, EndpointState, Plaintext, Request, RoutingTable, Rule, Scheme, WeightedBackend,
};
use crate::settings::Explain;
use anyhow::Context;
use std::io::Write;
use std::process::ExitCode;

/// Prints what the table of the folder says of the handshake.
///
/// # Errors
/// When the folder cannot be read or the output cannot be written.
pub fn run(explain: &Explain, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let contents = folder::read(&explain.folder).with_context(|| format!("reading {}", explain.folder.display()))?;
    let broken = contents.is_broken();
    let snapshot = rebuild::snapshot(contents.documents, rebuild::now());
    let Compiled { table, verdicts, .. } = compile(&snapshot, &Options::folder());
    if broken || !verdicts.all_accepted() {
        writeln!(out, "some objects are not served; sheave check {} says which and why\n", explain.folder.display())?;
    }
    let url = &explain.url;
    let headers: Vec<(&str, &[u8])> = explain.headers.iter().map(|(n, v)| (n.as_str(), v.as_bytes())).collect();
    let subprotocols: Vec<&str> = explain.subprotocols.iter().map(String::as_str).collect();
    let request = Request {
        scheme: url.scheme,
        host: &url.host,
        path: &url.path,
        query: url.query.as_deref(),
        headers: &headers,
        subprotocols: &subprotocols,
    };
    let explanation = table.explain(&request);
    candidates(&explanation.considered, out)?;
    if url.scheme == Scheme::Wss {
        certificate(&table, &url.host, out)?;
    }
    let found = match table.find(&request) {
        Ok(found) => found,
        Err(why) => {
            writeln!(out, "refused with 404: {why}")?;
            return Ok(ExitCode::FAILURE);
        }
    };
    if url.scheme == Scheme::Ws && found.rule.plaintext == Plaintext::Reject {
        writeln!(
            out,
            "refused with 403: rule {} answers over TLS only: use wss://, or set tls.plaintext to Allow",
            found.rule.id
        )?;
        return Ok(ExitCode::FAILURE);
    }
    let rule = &found.rule;
    writeln!(out, "rule {} on host {}", rule.id, found.host)?;
    let shown = access::Shown { request, authority: &url.authority, from: explain.from };
    let refused = access::explain(rule, &shown, out)?;
    taken(rule, refused, out)
}

/// Every match that was looked at, best first.
fn candidates(considered: &[Considered], out: &mut dyn Write) -> std::io::Result<()> {
    let winner = considered.iter().position(|candidate| candidate.passed_over.is_none());
    for (at, candidate) in considered.iter().enumerate() {
        let word = match (&candidate.passed_over, winner) {
            (Some(why), _) => format!("passed over: {why}"),
            (None, Some(winner)) if winner == at => "taken".to_owned(),
            (None, _) => "fits, but comes later".to_owned(),
        };
        writeln!(out, "{}. {} on {}: {}", at + 1, candidate.rule.id, candidate.host, candidate.matching)?;
        writeln!(out, "   {word}")?;
    }
    if considered.is_empty() { Ok(()) } else { writeln!(out) }
}

fn certificate(table: &RoutingTable, host: &str, out: &mut dyn Write) -> std::io::Result<()> {
    match table.certificate(Some(host)) {
        Some(certificate) => writeln!(out, "certificate {} ({})", certificate.source, certificate.fingerprint),
        None => writeln!(out, "certificate: no object has one for {host}; the self-signed one made at start"),
    }
}

/// Prints the backends of a rule, and `refused` if access lets nobody through to them.
fn taken(rule: &Rule, refused: Option<String>, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let total: u64 = rule.backends.iter().map(|backend| u64::from(backend.weight)).sum();
    let mut served = false;
    for backend in &rule.backends {
        served |= backend_line(rule, backend, total, out)? && backend.weight > 0;
    }
    if let Some(refused) = refused {
        writeln!(out, "refused with {refused}")?;
        return Ok(ExitCode::FAILURE);
    }
    if served {
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(out, "refused: no backend of the rule can take the handshake")?;
    Ok(ExitCode::FAILURE)
}

/// Prints a backend with its share and endpoints; says whether it can take a handshake.
fn backend_line(rule: &Rule, backend: &WeightedBackend, total: u64, out: &mut dyn Write) -> std::io::Result<bool> {
    let share = format!("weight {} of {total}", backend.weight);
    let service = match &backend.target {
        BackendTarget::Invalid(why) => {
            writeln!(out, "backend unusable, {share}: its handshakes get 500: {why}")?;
            return Ok(false);
        }
        BackendTarget::Service(service) => service,
    };
    let protocol = service.protocol;
    writeln!(out, "backend {} {protocol:?}, {share}, {:?}", service.id, rule.policy.balancing)?;
    if let Some(tls) = &service.tls {
        writeln!(out, "  trusted as {} ({})", tls.hostname, tls.fingerprint)?;
    }
    for endpoint in service.endpoints.iter() {
        writeln!(out, "  {} {:?}", endpoint.address, endpoint.state)?;
    }
    let ready = service.endpoints.iter().any(|endpoint| endpoint.state == EndpointState::Ready);
    if !ready {
        writeln!(out, "  no ready endpoint: its handshakes get 503")?;
    }
    Ok(ready)
}
