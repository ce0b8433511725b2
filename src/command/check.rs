//! `sheave check DIR`: what status every object of a folder would get, without serving any of it.
//!
//! Exit code 1 when an object is not accepted or cannot be read. A reference that cannot be resolved is printed and
//! is no failure: the rest of its route is served, as in a cluster.

use crate::compile::{Compiled, Condition, ObjectRef, Options, Verdict, compile};
use crate::control::document::ObjectName;
use crate::control::{folder, rebuild};
use anyhow::Context;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

/// Prints the verdict on every object of `folder` as of now.
///
/// # Errors
/// When the folder cannot be read or the output cannot be written.
pub fn run(folder: &Path, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let contents = folder::read(folder).with_context(|| format!("reading {}", folder.display()))?;
    let places: Vec<_> = contents.documents.iter().map(|d| (d.file.clone(), d.line, d.name.clone())).collect();
    let broken = contents.is_broken();
    let snapshot = rebuild::snapshot(contents.documents, rebuild::now());
    let Compiled { verdicts, .. } = compile(&snapshot, &Options::folder());

    let mut refused = 0;
    for (file, line, name) in &places {
        writeln!(out, "{file}:{line}: {name}")?;
        match reference(name).map(|object| verdicts.get(&object)) {
            None => writeln!(out, "  read; objects of this kind have no status")?,
            Some(None) => writeln!(out, "  left alone: it belongs to a class of another controller")?,
            Some(Some(verdict)) => {
                refused += usize::from(!verdict.accepted());
                print(verdict, out)?;
            }
        }
    }
    for problem in &contents.problems {
        writeln!(out, "{}{problem}", if problem.note { "note: " } else { "" })?;
    }
    let problems = contents.problems.iter().filter(|problem| !problem.note).count();
    writeln!(out, "\n{} objects read, {refused} not accepted, {problems} problems in the files", places.len())?;
    Ok(if refused == 0 && !broken { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The object of a verdict, for kinds that have a status.
fn reference(name: &ObjectName) -> Option<ObjectRef> {
    let kind = ["WebSocketClass", "WebSocketRoute"].into_iter().find(|kind| *kind == name.kind)?;
    Some(ObjectRef { kind, namespace: name.namespace.clone(), name: name.name.clone() })
}

fn print(verdict: &Verdict, out: &mut dyn Write) -> std::io::Result<()> {
    for Condition { kind, status, reason, message } in &verdict.conditions {
        let status = if *status { "True" } else { "False" };
        writeln!(out, "{}", format!("  {kind:<20} {status:<5} {reason:<24} {message}").trim_end())?;
    }
    verdict.notes.iter().try_for_each(|note| writeln!(out, "  note: {note}"))
}
