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

/// A folder whose one route has access blocks.
fn guarded() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let text = "
apiVersion: sheave.dev/v1alpha1
kind: WebSocketRoute
metadata: {name: chat}
spec:
  clientCIDRs: {allow: [10.0.0.0/8], deny: [10.9.0.0/16]}
  origins: {allowOrigins: [\"https://chat.test\"]}
  rateLimit: {handshakes: {limit: 5, unit: Minute, burst: 7, key: ClientIP}}
  connectionLimit: {maxConnections: 100, maxConnectionsPerConsumer: 3}
  authentication:
    providers:
    - {name: gone, type: External, external: {backendRef: {name: gone, port: 80}, requestHeaders: [X-Gone], always: false}}
    - {name: door, type: External, external: {backendRef: {name: chat, port: 80}, requestHeaders: [X-Ticket], always: false}}
    - {name: last, type: External, external: {backendRef: {name: chat, port: 80}, requestHeaders: [X-Last], always: false}}
  rules:
  - matches: [{path: {type: PathPrefix, value: /}}]
    backendRefs: [{name: chat, port: 80}]
    authorization: {allow: [{consumers: [alice, bob], clientCIDRs: [10.0.0.0/8]}], deny: [{consumers: [mallory]}]}
---
apiVersion: v1
kind: Service
metadata: {name: chat}
spec: {ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: gone}
spec: {ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: chat, labels: {kubernetes.io/service-name: chat}}
addressType: IPv4
endpoints: [{addresses: [10.0.0.1]}]
ports: [{name: \"\", port: 80}]
";
    std::fs::write(folder.path().join("all.yaml"), text).expect("written");
    folder
}

#[test]
fn explain_tells_each_step_of_access_and_no_credential() {
    let folder = guarded();
    let words = [
        "--url",
        "wss://chat.test/",
        "--from",
        "10.1.2.3",
        "-H",
        "Origin: https://chat.test",
        "-H",
        "X-Ticket: s3cr3t",
    ];
    let (code, text) = explained(folder.path(), &words);
    assert_eq!(code, ExitCode::SUCCESS, "{text}");
    let steps = "address: 10.1.2.3 is allowed
origin: \"https://chat.test\": allowed
handshake rate: 5 in 60s of a client address, 7 at once; above it 429
provider gone (external): service default/gone:80, which is shown x-gone: no credential
provider door (external): service default/chat:80, which is shown x-ticket: would be asked
provider last (external): service default/chat:80, which is shown x-last: not asked, for one before it decides
authorization: judged once the client is known; whom nothing allows gets 403
  deny consumer mallory
  allow consumer alice or bob, and address in clientCIDRs
sessions: at most 100 of the route; above it 503
sessions: at most 3 of a consumer; above it 429
backend default/chat:80";
    assert!(text.contains(steps), "{text}");
    assert!(!text.contains("s3cr3t"), "{text}");
}

#[test]
fn explain_fails_with_the_first_refusal_of_access() {
    let folder = guarded();
    let ticket = ["-H", "X-Ticket: 1"];
    for (words, refusal) in [
        (vec!["--from", "10.9.0.1", "-H", "Origin: https://evil.test"], "403: clients of this address are not allowed"),
        (vec!["--from", "192.0.2.1"], "403: clients of this address are not allowed"),
        (
            vec!["--from", "10.1.2.3", "-H", "Origin: https://evil.test"],
            "403: pages of this origin may not connect here",
        ),
        (vec!["-H", "Origin: https://chat.test"], "401: a credential is needed here"),
    ] {
        let (code, text) = explained(folder.path(), &[&["--url", "wss://chat.test/"], &*words].concat());
        assert_eq!(code, ExitCode::FAILURE, "{text}");
        assert!(text.ends_with(&format!("\nrefused with {refusal}\n")), "{words:?}: {text}");
    }
    let (code, text) = explained(folder.path(), &[&["--url", "wss://chat.test/"], &ticket[..]].concat());
    assert_eq!(code, ExitCode::SUCCESS, "{text}");
    assert!(text.contains("address: not judged; give --from ADDRESS\norigin: none: allowed\n"), "{text}");
}
