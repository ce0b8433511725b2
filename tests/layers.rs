//! The modules form a DAG: data flows one way, and the two wings never meet.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What each module may name. Everything else of ours is refused.
const ALLOWED: &[(&str, &[&str])] = &[
    ("admin", &["drain", "routing", "telemetry"]),
    ("api", &[]),
    ("app", &["admin", "compile", "control", "drain", "feedback", "proxy", "routing", "settings", "telemetry"]),
    ("command", &["api", "compile", "control", "proxy", "routing", "settings"]),
    ("compile", &["api", "routing"]),
    ("control", &["api", "compile", "drain", "feedback", "routing", "telemetry"]),
    ("drain", &[]),
    ("feedback", &["routing"]),
    ("proxy", &["drain", "feedback", "routing", "telemetry"]),
    ("routing", &[]),
    ("settings", &["routing"]),
    ("telemetry", &["routing"]),
];

/// Names that the pure middle must not know: it does no I/O, reads no clock and logs nothing.
const IMPURE: &[&str] =
    &["tokio::", "tracing::", "Instant", "SystemTime::now", "std::fs", "std::net::Tcp", "kube::Client"];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("src is readable").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Code of a file without comments and without its tests, which may reach further.
fn code(path: &Path) -> String {
    let text = std::fs::read_to_string(path).expect("sources are UTF-8");
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn modules() -> Vec<(String, PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 20, "the sources were not found");
    let module = |path: &PathBuf| {
        let first = path.strip_prefix(&root).ok()?.components().next()?;
        Some(first.as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned())
    };
    let of = |path: PathBuf| Some((module(&path)?, code(&path), path)).map(|(m, c, p)| (m, p, c));
    files.into_iter().filter_map(of).filter(|(m, ..)| m != "lib" && m != "main").collect()
}

/// The modules that `code` names after `crate::`, alone or in braces.
fn named(code: &str) -> BTreeSet<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut found = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            Some(list) => found.extend(list.split('}').next().unwrap_or_default().split(',').map(|w| word(w.trim()))),
            None => drop(found.insert(word(rest))),
        }
    }
    found.remove("");
    found
}

#[test]
fn every_module_names_only_what_lies_below_it() {
    let allowed: BTreeMap<_, _> = ALLOWED.iter().copied().collect();
    let mut wrong = Vec::new();
    for (module, path, code) in modules() {
        let Some(allowed) = allowed.get(module.as_str()) else {
            wrong.push(format!("{module} is not in the table of {}", file!()));
            continue;
        };
        for other in named(&code).into_iter().filter(|other| *other != module && !allowed.contains(&other.as_str())) {
            wrong.push(format!("{} names crate::{other}: {module} may name only {allowed:?}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_pure_middle_knows_no_clock_no_log_and_no_socket() {
    let mut wrong = Vec::new();
    for (module, path, code) in modules() {
        if module == "compile" || module == "routing" {
            let named = IMPURE.iter().filter(|name| code.contains(**name));
            wrong.extend(named.map(|name| format!("{} names {name}", path.display())));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Walks down the table from `module` and fails on the way back to where it came from.
fn descend(module: &str, allowed: &BTreeMap<&str, &[&str]>, above: &mut Vec<String>) {
    assert!(!above.iter().any(|m| m == module), "a circle: {} -> {module}", above.join(" -> "));
    above.push(module.to_owned());
    for below in allowed.get(module).into_iter().flat_map(|list| list.iter()) {
        descend(below, allowed, above);
    }
    above.pop();
}

#[test]
fn the_table_of_modules_has_no_circle() {
    let allowed: BTreeMap<_, _> = ALLOWED.iter().copied().collect();
    for module in allowed.keys() {
        descend(module, &allowed, &mut Vec::new());
    }
}

#[test]
fn every_file_opens_with_what_it_decides() {
    let silent = |path: &PathBuf| !std::fs::read_to_string(path).expect("readable").starts_with("//!");
    let silent: Vec<_> = modules().into_iter().map(|(_, path, _)| path).filter(silent).collect();
    assert!(silent.is_empty(), "without a `//!` on top: {silent:?}");
}
