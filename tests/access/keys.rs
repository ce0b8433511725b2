//! API keys: whose opens a session, where it may be, and what of it goes upstream.

use crate::handshakes::{Backend, offer, provider, secret, status, value};
use crate::living::backend::Service;
use crate::living::client::{open, refused};
use crate::living::folder::{Folder, route, simple};
use crate::living::{Sheave, until};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use std::io::Write;
use std::sync::{Arc, LazyLock, Mutex};

const KEYS: &str = "apiKey: {credentialRefs: [{name: keys}], forwardClientIDHeader: X-Client}";

/// A folder with a route of one provider of API keys, found at `source`, and a Secret `keys`.
fn keyed(backend: &Backend, source: &str, more: &str) -> Folder {
    let spec = provider("APIKey", KEYS, &format!(", extractFrom: [{source}]{more}"));
    let folder = Folder::with(&simple("chat", backend.port, &[&spec]));
    folder.write("keys.yaml", &secret("keys", "", &[("ann", "key-of-ann\n"), ("bob", "key-of-bob")]));
    folder
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_found_at_each_place_and_taken_out_there() {
    let encoded = BASE64_URL_SAFE_NO_PAD.encode("key-of-bob");
    let subprotocol = format!("Sec-WebSocket-Protocol: chat, key.{encoded}");
    for (source, target, line, client) in [
        ("{type: Header, name: X-Api-Key}", "/?a=1", "x-api-key: key-of-ann", "ann"),
        ("{type: Header, name: Authorization}", "/?a=1", "Authorization: bearer key-of-ann", "ann"),
        ("{type: Header, name: X-K, prefix: 'Key '}", "/?a=1", "X-K: key key-of-bob", "bob"),
        ("{type: QueryParam, name: key}", "/?a=1&k%65y=key-of%2dann", "X-None: 1", "ann"),
        ("{type: Cookie, name: key}", "/?a=1", "Cookie: a=1; key=\"key-of-ann\"", "ann"),
        ("{type: Subprotocol, name: key., encoding: Base64URL}", "/?a=1", &subprotocol, "bob"),
        ("{type: Subprotocol, name: bearer}", "/?a=1", "Sec-WebSocket-Protocol: bearer, key-of-ann, chat", "ann"),
    ] {
        let backend = Backend::start().await;
        let folder = keyed(&backend, source, "");
        let sheave = Sheave::start(&folder);
        let answer = offer(sheave.ws, target, &[line, "X-Client: root", "x_client: root"]).await;
        assert_eq!(status(&answer), 101, "{source}: {answer}");
        let seen = backend.last();
        assert_eq!(value(&seen, "x-client").as_deref(), Some(client), "{source}: {seen}");
        assert!(seen.starts_with("GET /?a=1 HTTP/1.1\r\n"), "{source}: {seen}");
        for gone in ["key-of", "of%2d", "root", &encoded, "bearer"] {
            assert!(!seen.contains(gone), "{source}: {gone} went upstream: {seen}");
        }
        if source.contains("Subprotocol") {
            assert_eq!(value(&seen, "sec-websocket-protocol").as_deref(), Some("chat"), "{seen}");
            assert_eq!(value(&answer, "sec-websocket-protocol").as_deref(), Some("chat"), "{answer}");
        }
        if source.contains("Cookie") {
            assert_eq!(value(&seen, "cookie").as_deref(), Some("a=1"), "{seen}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_is_to_be_forwarded_reaches_the_backend() {
    let backend = Backend::start().await;
    let source = "{type: Header, name: X-Api-Key}, {type: QueryParam, name: key}, {type: Subprotocol, name: key.}";
    let folder = keyed(&backend, source, ", forwardCredential: true");
    let sheave = Sheave::start(&folder);
    let lines = ["X-Api-Key: key-of-ann", "Sec-WebSocket-Protocol: key.key-of-ann, chat"];
    assert_eq!(status(&offer(sheave.ws, "/?key=key-of-ann", &lines).await), 101);
    let seen = backend.last();
    assert_eq!(value(&seen, "x-api-key").as_deref(), Some("key-of-ann"), "{seen}");
    assert!(seen.starts_with("GET /?key=key-of-ann HTTP/1.1\r\n"), "{seen}");
    assert_eq!(value(&seen, "sec-websocket-protocol").as_deref(), Some("chat"), "no backend may choose it: {seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_with_a_wrong_one_or_with_two_no_backend_is_reached() {
    let backend = Backend::start().await;
    let source = "{type: Header, name: X-Api-Key}, {type: Cookie, name: key}";
    let folder = keyed(&backend, source, "");
    folder.write("origins.yaml", &route("other", "other.test", &[], &[("chat", 1)]));
    let sheave = Sheave::start(&folder);
    for (lines, expected, reason) in [
        (&[][..], 401, "unauthenticated"),
        (&["X-Api-Key:"], 401, "unauthenticated"),
        (&["X-Api-Key: key-of-eve"], 401, "unauthenticated"),
        (&["X-Api-Key: KEY-OF-ANN"], 401, "unauthenticated"),
        (&["X-Api-Key: key-of-\u{e9}"], 401, "unauthenticated"),
        (&["X_Api_Key: key-of-ann"], 401, "unauthenticated"),
        (&["X-Api-Key: key-of-ann", "Cookie: key=key-of-bob"], 400, "bad_request"),
        (&["Cookie: key=key-of-ann; key=key-of-bob"], 400, "bad_request"),
        (&["X-Api-Key: key-of-ann", "X-Api-Key: key-of-bob"], 400, "bad_request"),
    ] {
        let before = sheave.metric("sheave_handshakes_total", &[("route", "chat"), ("reason", reason)]).await;
        assert_eq!(status(&offer(sheave.ws, "/", lines).await), expected, "{lines:?}");
        let labels = [("route", "chat"), ("reason", reason)];
        sheave.metric_becomes("sheave_handshakes_total", &labels, before.unwrap_or_default() + 1.0).await;
    }
    assert_eq!(backend.heads(), [""; 0]);
    assert_eq!(status(&offer(sheave.ws, "/", &["X-Api-Key: key-of-ann", "Cookie: key=key-of-ann"]).await), 101);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_secrets_and_labelled_ones_serve_together_and_one_that_is_missing_harms_nobody() {
    let backend = Backend::start().await;
    let block = "apiKey: {credentialRefs: [{name: one}, {name: gone}], credentialSelector: {matchLabels: {use: keys}}}";
    let spec = provider("APIKey", block, ", extractFrom: [{type: Header, name: X-Api-Key}]");
    let folder = Folder::with(&simple("chat", backend.port, &[&spec]));
    folder.write("one.yaml", &secret("one", "", &[("ann", "old-key")]));
    folder.write("two.yaml", &secret("two", "use: keys, team: a", &[("ann", "new-key")]));
    folder.write("three.yaml", &secret("three", "use: other", &[("eve", "stray-key")]));
    let sheave = Sheave::start(&folder);
    let with = async |key: &str| status(&offer(sheave.ws, "/", &[&format!("X-Api-Key: {key}")]).await);
    assert_eq!([with("old-key").await, with("new-key").await, with("stray-key").await], [101, 101, 401]);
    // Labelled now, and unlabelled.
    folder.write("three.yaml", &secret("three", "use: keys", &[("eve", "stray-key")]));
    folder.write("two.yaml", &secret("two", "team: a", &[("ann", "new-key")]));
    until("the new labels", async || (with("stray-key").await == 101).then_some(())).await;
    until("the old ones are gone", async || (with("new-key").await == 401).then_some(())).await;
    assert_eq!(with("old-key").await, 101);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_serves_as_soon_as_it_is_added_and_no_secret_at_all_is_503() {
    let backend = Backend::start().await;
    let folder = keyed(&backend, "{type: Header, name: X-Api-Key}", "");
    folder.remove("keys.yaml");
    let sheave = Sheave::start(&folder);
    let with = async |key: &str| status(&offer(sheave.ws, "/", &[&format!("X-Api-Key: {key}")]).await);
    assert_eq!(with("key-of-ann").await, 503);
    assert_eq!(status(&offer(sheave.ws, "/", &[]).await), 401);
    folder.write("keys.yaml", &secret("keys", "", &[("ann", "key-of-ann")]));
    until("the first key", async || (with("key-of-ann").await == 101).then_some(())).await;
    assert_eq!(with("key-of-carl").await, 401);
    folder.write("keys.yaml", &secret("keys", "", &[("ann", "key-of-ann"), ("carl", "key-of-carl")]));
    until("the second key", async || (with("key-of-carl").await == 101).then_some(())).await;
    assert!(backend.heads().len() >= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browsers_token_never_reaches_the_backend_and_is_never_echoed() {
    let (token, source) = ("bearer.key-of-ann", "{type: Subprotocol, name: bearer.}");
    let protocol = |answer: &str| value(answer, "sec-websocket-protocol");
    // The backend chooses of what it sees.
    let backend = Backend::start().await;
    let folder = keyed(&backend, source, "");
    let sheave = Sheave::start(&folder);
    let both = format!("Sec-WebSocket-Protocol: {token}, chat");
    let answer = offer(sheave.ws, "/", &[&both]).await;
    assert_eq!((status(&answer), protocol(&answer).as_deref()), (101, Some("chat")), "{answer}");
    // The token alone: nothing is left to choose, and the answer has no subprotocol.
    let answer = offer(sheave.ws, "/", &[&format!("Sec-WebSocket-Protocol: {token}")]).await;
    assert_eq!((status(&answer), protocol(&answer)), (101, None), "{answer}");
    assert_eq!(protocol(&backend.last()), None);
    assert!(backend.heads().iter().all(|head| !head.contains("key-of-ann")));
    // A wrong one.
    let answer = offer(sheave.ws, "/", &["Sec-WebSocket-Protocol: bearer.wrong, chat"]).await;
    assert_eq!((status(&answer), protocol(&answer)), (401, None), "{answer}");
    assert_eq!(backend.heads().len(), 2);
    // A backend that says it back, wherever it has it from.
    let echo = Backend::choosing(|_| Some("bearer.key-of-ann".to_owned())).await;
    let folder = keyed(&echo, source, "");
    let sheave = Sheave::start(&folder);
    let answer = offer(sheave.ws, "/", &[&both]).await;
    assert_eq!(status(&answer), 502, "{answer}");
    assert!(!answer.contains("key-of-ann"), "{answer}");
    assert_eq!(echo.heads().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_another_provider_than_the_one_that_decides_is_taken_out_too() {
    let backend = Backend::start().await;
    let keys = "type: APIKey, apiKey: {credentialRefs: [{name: keys}], forwardClientIDHeader";
    let spec = format!(
        "authentication: {{providers: [{{name: a, {keys}: X-A}}, extractFrom: [{{type: Header, name: X-Key}}]}}, \
         {{name: b, {keys}: X-B}}, extractFrom: [{{type: Subprotocol, name: key.}}]}}]}}"
    );
    let folder = Folder::with(&simple("chat", backend.port, &[&spec]));
    folder.write("keys.yaml", &secret("keys", "", &[("ann", "key-of-ann")]));
    let sheave = Sheave::start(&folder);
    let lines = ["X-Key: key-of-ann", "Sec-WebSocket-Protocol: key.stray, chat", "X-B: root", "X_A: root"];
    assert_eq!(status(&offer(sheave.ws, "/", &lines).await), 101);
    let seen = backend.last();
    assert_eq!(value(&seen, "x-a").as_deref(), Some("ann"), "{seen}");
    assert!(!seen.contains("root") && !seen.contains("stray"), "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_or_reassigned_key_closes_its_own_sessions_and_no_other() {
    let service = Service::echo().await;
    let spec = provider("APIKey", KEYS, ", extractFrom: [{type: QueryParam, name: key}]");
    let folder = Folder::with(&simple("chat", service.port, &[&spec]));
    folder
        .write("keys.yaml", &secret("keys", "", &[("ann", "key-of-ann"), ("bob", "key-of-bob"), ("cy", "key-of-cy")]));
    let sheave = Sheave::start(&folder);
    let mut ann = open(sheave.ws, "chat.test/?key=key-of-ann").await;
    let mut bob = open(sheave.ws, "chat.test/?key=key-of-bob").await;
    let mut cy = open(sheave.ws, "chat.test/?key=key-of-cy").await;
    cy.echo("in").await;
    // Ann's is gone, and bob's has become eve's.
    folder.write("keys.yaml", &secret("keys", "", &[("eve", "key-of-bob"), ("cy", "key-of-cy")]));
    for client in [&mut ann, &mut bob] {
        assert_eq!(client.close_frame().await, (1008, "credential revoked".to_owned()));
    }
    cy.echo("undisturbed").await;
    assert_eq!(refused(sheave.ws, "chat.test/?key=key-of-ann").await, 401);
}

/// Everything that this process has logged.
static LOG: LazyLock<Log> = LazyLock::new(|| {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt().json().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone()).init();
    log
});

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no test panics with it").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_record_and_no_metric_shows_a_credential_right_or_wrong() {
    let log = LOG.clone();
    let text = || String::from_utf8_lossy(&log.0.lock().expect("no test panics with it")).into_owned();
    let backend = Backend::choosing(|offered| offered.contains("bad").then(|| "k-4711".to_owned())).await;
    let sources = "{type: Subprotocol, name: k-}, {type: Subprotocol, name: pair}, {type: Header, name: X-Api-Key}, \
        {type: QueryParam, name: key}, {type: Cookie, name: key}";
    let spec = provider("APIKey", KEYS, &format!(", extractFrom: [{sources}]")) + "\n  origins: {allowOrigins: ['*']}";
    let folder = Folder::with(&simple("chat", backend.port, &[&spec]));
    folder.write("keys.yaml", &secret("keys", "", &[("ann", "4711"), ("bob", "q4712")]));
    let sheave = Sheave::start_with(&folder, |options| options.record_open = true);
    for (target, lines, expected) in [
        ("/", &["Sec-WebSocket-Protocol: k-4711, chat", "X-Request-Id: r1"][..], 101),
        ("/", &["Sec-WebSocket-Protocol: pair, q4712, chat", "X-Request-Id: r2"], 101),
        ("/", &["Sec-WebSocket-Protocol: k-4713, chat", "X-Request-Id: r3"], 401),
        ("/", &["Sec-WebSocket-Protocol: k-4713, pair, q4712", "X-Request-Id: r4"], 400),
        ("/", &["Sec-WebSocket-Protocol: k-4711, bad", "X-Request-Id: r5"], 502),
        ("/?key=q4712", &["Cookie: key=q4712", "X-Api-Key: q4712", "X-Request-Id: r6"], 101),
        ("/?key=q4714", &["Cookie: key=q4714", "X-Api-Key: q4714", "X-Request-Id: r7"], 401),
        ("/?key=q4714", &["Cookie: key=q4715", "X-Request-Id: r8"], 400),
    ] {
        assert_eq!(status(&offer(sheave.ws, target, lines).await), expected, "{lines:?}");
    }
    for record in 1..=8 {
        let id = format!("\"request_id\":\"r{record}\"");
        until("the record", async || text().contains(&id).then_some(())).await;
    }
    let (_, sessions) = sheave.get("/sessions").await;
    for said in [text(), sheave.metrics().await, sessions] {
        for credential in ["4711", "4712", "4713", "4714", "4715"] {
            let line = said
                .lines()
                .find(|line| line.contains(&format!("k-{credential}")) || line.contains(&format!("q{credential}")));
            assert_eq!(line, None, "{credential}");
        }
    }
}
