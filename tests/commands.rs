//! `sheave check` and `sheave explain` on folders, by their functions: what they print and their exit code.

use sheave::command::{check, explain};
use sheave::settings::Settings;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

fn golden(case: &str) -> PathBuf {
    Path::new("tests/golden").join(case).join("in.yaml")
}

/// A folder with nothing but the case's objects.
fn folder_of(case: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::copy(golden(case), folder.path().join("in.yaml")).expect("copied");
    folder
}

fn checked(case: &str) -> (ExitCode, String) {
    let mut out = Vec::new();
    let code = check::run(&golden(case), &mut out).expect("the case is readable");
    (code, String::from_utf8(out).expect("text"))
}

fn explained(folder: &Path, words: &[&str]) -> (ExitCode, String) {
    let folder = folder.to_str().expect("text");
    let settings = Settings::parse([&["sheave", "explain", folder], words].concat());
    let Ok(Settings::Explain(explain)) = settings else { panic!("these are good words: {words:?}") };
    let mut out = Vec::new();
    let code = explain::run(&explain, &mut out).expect("the folder is readable");
    (code, String::from_utf8(out).expect("text"))
}

#[test]
fn check_of_a_sound_folder_prints_every_object_and_succeeds() {
    let (code, text) = checked("plain_route_reaches_its_service");
    assert_eq!(code, ExitCode::SUCCESS, "{text}");
    assert!(text.contains("in.yaml:1: WebSocketRoute shop/chat\n  Accepted             True  Accepted\n"), "{text}");
    assert!(text.contains(": Service shop/chat\n"), "{text}");
    assert!(text.ends_with("3 objects read, 0 not accepted, 0 problems in the files\n"), "{text}");
}

#[test]
fn check_fails_when_an_object_is_not_accepted_and_says_why() {
    let (code, text) = checked("value_above_a_ceiling_is_not_accepted");
    assert_eq!(code, ExitCode::FAILURE, "{text}");
    assert!(text.contains("spec.messages.maxMessageBytes: 33554432 is above 1048576"), "{text}");
}

#[test]
fn check_fails_when_a_file_cannot_be_read_and_says_where() {
    let (code, text) = checked("unknown_field_is_told_with_its_line");
    assert_eq!(code, ExitCode::FAILURE, "{text}");
    assert!(text.contains("in.yaml:14:3: WebSocketRoute shop/typo: spec.keepalives"), "{text}");
}

#[test]
fn check_tells_of_what_is_no_fault_by_a_note_and_succeeds() {
    let (code, text) = checked("no_ready_endpoint_is_noted_and_no_fault");
    assert_eq!(code, ExitCode::SUCCESS, "{text}");
    assert!(text.contains("  note: spec.rules[0].backendRefs[0]: no ready endpoint"), "{text}");
}

#[test]
fn explain_names_the_rule_its_backends_and_why_better_ones_were_passed_over() {
    let words = ["--url", "ws://chat.localhost/rooms/7", "-H", "X-Tenant: silver"];
    let (code, text) = explained(Path::new("examples/routes"), &words);
    assert_eq!(code, ExitCode::SUCCESS, "{text}");
    assert!(text.contains("passed over: no header x-tenant=gold"), "{text}");
    assert!(text.contains("passed over: no query parameter v=2"), "{text}");
    assert!(text.contains("\nrule default/chat/rooms on host chat.localhost\n"), "{text}");
    assert!(text.contains("weight 9 of 10"), "{text}");
    assert!(text.contains("  127.0.0.1:9001 Ready\n"), "{text}");
}

#[test]
fn explain_follows_a_header_and_a_subprotocol() {
    let folder = Path::new("examples/routes");
    let (_, text) = explained(folder, &["--url", "ws://chat.localhost/rooms/7", "-H", "X-Tenant: gold"]);
    assert!(text.contains("\nrule default/chat/gold on"), "{text}");
    let words = ["--url", "ws://chat.localhost/graphql", "--subprotocol", "graphql-transport-ws"];
    let (_, text) = explained(folder, &words);
    assert!(text.contains("\nrule default/chat/graphql on"), "{text}");
}

#[test]
fn explain_fails_with_the_refusal_a_client_would_get() {
    let plain = folder_of("plain_route_reaches_its_service");
    let (code, text) = explained(plain.path(), &["--url", "ws://other.example.com/"]);
    assert_eq!(code, ExitCode::FAILURE, "{text}");
    assert!(text.contains("refused with 404: no route for this host"), "{text}");

    let tls = folder_of("route_is_served_with_its_certificate_and_not_in_clear");
    let (code, text) = explained(tls.path(), &["--url", "ws://chat.example.com/"]);
    assert_eq!(code, ExitCode::FAILURE, "{text}");
    assert!(text.contains("refused with 403"), "{text}");
    let (code, text) = explained(tls.path(), &["--url", "wss://chat.example.com/"]);
    assert_eq!(code, ExitCode::SUCCESS, "{text}");
    assert!(text.contains("certificate shop/chat-tls ("), "{text}");

    let idle = folder_of("no_ready_endpoint_is_noted_and_no_fault");
    let (code, text) = explained(idle.path(), &["--url", "ws://chat.example.com/"]);
    assert_eq!(code, ExitCode::FAILURE, "{text}");
    assert!(text.contains("no ready endpoint: its handshakes get 503"), "{text}");
}
