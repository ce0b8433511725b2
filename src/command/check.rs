//! `sheave check`: what status each object of a folder would get, and what in it cannot be read.
//!
//! Prints everything, good or bad, and says by its exit code whether all of it is accepted.

use crate::compile::{Compiled, Options, Verdict, compile};
use crate::control::document::{Document, ObjectName};
use crate::control::folder;
use crate::control::rebuild::{now, snapshot};
use anyhow::Context as _;
use std::collections::HashMap;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

/// Checks `folder`. The exit code is 0 when every object is read and accepted, else 1.
///
/// # Errors
/// When the folder itself cannot be read, or the output not written.
pub fn run(folder: &Path, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let contents = folder::read(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let broken = contents.is_broken();
    for problem in &contents.problems {
        let severity = if problem.note { "note" } else { "error" };
        writeln!(out, "{severity}: {problem}")?;
    }
    let places: HashMap<ObjectName, String> = contents.documents.iter().map(place).collect();
    let read = contents.documents.len();
    let Compiled { verdicts, .. } = compile(&snapshot(contents.documents, now()), &Options::folder());
    for verdict in verdicts.iter() {
        tell(verdict, &places, out)?;
    }
    let refused = verdicts.iter().filter(|verdict| !verdict.accepted()).count();
    let unread = contents.problems.iter().filter(|problem| !problem.note).count();
    let accepted = verdicts.iter().count() - refused;
    writeln!(out, "{read} objects read; {accepted} accepted, {refused} not; {unread} problems in files")?;
    Ok(if broken || refused > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn place(document: &Document) -> (ObjectName, String) {
    (document.name.clone(), format!("{}:{}", document.file, document.line))
}

fn tell(verdict: &Verdict, places: &HashMap<ObjectName, String>, out: &mut dyn Write) -> std::io::Result<()> {
    let object = &verdict.object;
    let name = ObjectName {
        kind: object.kind.to_owned(),
        namespace: object.namespace.clone(),
        name: object.name.clone(),
    };
    let place = places.get(&name).map(|place| format!(" ({place})")).unwrap_or_default();
    writeln!(out, "{object}{place}")?;
    for condition in &verdict.conditions {
        let status = if condition.status { "True" } else { "False" };
        write!(out, "  {}={status} {}", condition.kind, condition.reason)?;
        if !condition.message.is_empty() {
            write!(out, ": {}", condition.message)?;
        }
        writeln!(out)?;
    }
    for note in &verdict.notes {
        writeln!(out, "  note: {note}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(yaml: &str) -> (bool, String) {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("a.yaml"), yaml).expect("file written");
        let mut out = Vec::new();
        let code = run(folder.path(), &mut out).expect("readable");
        (format!("{code:?}") == format!("{:?}", ExitCode::SUCCESS), String::from_utf8(out).expect("UTF-8"))
    }

    const ROUTE: &str = "apiVersion: sheave.dev/v1alpha1\nkind: WebSocketRoute\nmetadata: {name: r}\n";

    #[test]
    fn an_accepted_route_is_told_with_its_place() {
        let spec = "spec: {rules: [{backendRefs: [{name: s, port: 1}]}]}\n";
        let (_, out) = check(&format!("{ROUTE}{spec}"));
        assert!(out.contains("WebSocketRoute default/r (a.yaml:1)"), "{out}");
        assert!(out.contains("Accepted=True"), "{out}");
        assert!(out.contains("ResolvedRefs=False BackendNotFound"), "{out}");
    }

    #[test]
    fn a_route_that_is_not_accepted_fails_the_check() {
        let spec = "spec: {className: none, rules: [{backendRefs: [{name: s, port: 1}]}]}\n";
        let (passed, out) = check(&format!("{ROUTE}{spec}"));
        assert!(!passed && out.contains("Accepted=False"), "{out}");
        let (passed, out) = check(&format!("{ROUTE}spec: {{rule: []}}\n"));
        assert!(!passed && out.contains("error: a.yaml:4"), "{out}");
    }
}
