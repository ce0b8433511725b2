//! Golden cases: `tests/golden/CASE/in.yaml`, read as a folder is and compiled, must give the table and the
//! verdicts beside it. A case whose name begins with `cluster_` is compiled with a cluster's options. `UPDATE_GOLDEN=1 cargo test --test golden` rewrites them; read the diff before committing.

use serde::Serialize;
use sheave::compile::{Compiled, Options, Snapshot, Verdicts, compile};
use sheave::control::folder::{self, FolderContents};
use sheave::control::rebuild::snapshot;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// When the cases happen: 2026-01-01, between the dates of the test certificates.
const TAKEN_AT: i64 = 1_767_225_600;

/// What `status.yaml` holds.
#[derive(Serialize)]
struct Status<'v> {
    problems: Vec<String>,
    verdicts: &'v Verdicts,
}

/// Every case: a folder with an `in.yaml`.
fn cases() -> Vec<PathBuf> {
    let entries = fs::read_dir("tests/golden").expect("tests run at the root of the crate");
    let mut cases: Vec<_> = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    cases.sort();
    assert!(cases.len() >= 40, "the cases were not found");
    cases
}

fn read(case: &Path) -> FolderContents {
    folder::read(&case.join("in.yaml")).expect("in.yaml is readable")
}

fn is_cluster(case: &Path) -> bool {
    case.file_name().is_some_and(|name| name.to_string_lossy().starts_with("cluster_"))
}

fn compiled(case: &Path, contents: &FolderContents) -> Compiled {
    let options = if is_cluster(case) { Options::cluster(false, Vec::new()) } else { Options::folder() };
    compile(&snapshot(contents.documents.clone(), TAKEN_AT), &options)
}

fn status(case: &Path, contents: &FolderContents, verdicts: &Verdicts) -> String {
    let folder = format!("{}/", case.display());
    let problems = contents.problems.iter().map(|problem| problem.to_string().replace(&folder, "")).collect();
    serde_saphyr::to_string(&Status { problems, verdicts }).expect("a status is YAML")
}

#[test]
fn every_case_compiles_to_its_table_and_status() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    for case in cases() {
        let contents = read(&case);
        let Compiled { table, verdicts, .. } = compiled(&case, &contents);
        let outputs = [
            ("table.yaml", serde_saphyr::to_string(&table).expect("a table is YAML")),
            ("status.yaml", status(&case, &contents, &verdicts)),
        ];
        for (name, text) in outputs {
            let path = case.join(name);
            if update {
                fs::write(&path, &text).expect("the case is writable");
            } else if fs::read_to_string(&path).unwrap_or_default() != text {
                wrong.push(format!("{}\n{text}", path.display()));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "these changed; if that is meant, run with UPDATE_GOLDEN=1 and read the diff:\n\n{}",
        wrong.join("\n")
    );
}

#[test]
fn compiling_twice_and_in_another_order_gives_an_equal_table() {
    for case in cases() {
        let contents = read(&case);
        let once = compiled(&case, &contents);
        let again = compiled(&case, &contents);
        let reversed =
            FolderContents { documents: contents.documents.iter().rev().cloned().collect(), problems: Vec::new() };
        let other = compiled(&case, &reversed);
        assert!(once.table == again.table && once.table == other.table, "{}", case.display());
        assert!(once.verdicts == again.verdicts && once.verdicts == other.verdicts, "{}", case.display());
    }
}

#[test]
fn all_cases_at_once_harm_each_other_only_where_they_meet() {
    // Every route of every case in one snapshot, each case in a namespace of its own: a route is accepted there
    // if it is accepted alone, or shares a host and loses it, and is told so.
    let mut together = Snapshot { taken_at: TAKEN_AT, ..Snapshot::default() };
    let mut alone = BTreeMap::new();
    for case in cases().into_iter().filter(|case| !is_cluster(case)) {
        let contents = read(&case);
        let snapshot = snapshot(contents.documents.clone(), TAKEN_AT);
        if !snapshot.classes.is_empty() {
            continue; // classes have no namespace to keep them apart
        }
        let label = case.file_name().expect("a name").to_string_lossy().into_owned();
        let verdicts = compiled(&case, &contents).verdicts;
        for (key, object) in snapshot.routes {
            let verdict = verdicts.iter().find(|v| v.object.namespace == key.namespace && v.object.name == key.name);
            let mut moved = key.clone();
            moved.namespace = format!("{label}.{}", key.namespace);
            alone.insert(moved.clone(), verdict.expect("every route has a verdict").accepted());
            together.routes.insert(moved, object);
        }
    }
    let Compiled { verdicts, .. } = compile(&together, &Options::folder());
    assert_eq!(verdicts.iter().count(), alone.len());
    for verdict in verdicts.iter() {
        let key = sheave::compile::ObjectKey::new(&verdict.object.namespace, &verdict.object.name);
        let conflicted = verdict.conditions[0].reason == "Conflicted";
        assert!(conflicted || verdict.accepted() == alone[&key], "{}: {:?}", verdict.object, verdict.conditions);
    }
}
