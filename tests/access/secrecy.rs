//! Secrecy: Sheave as a program, with every kind of credential; nothing that it emits holds one.
//!
//! Whether a handshake is let in does not matter here, only what is said of it.

use crate::living::folder::{Folder, route, served};
use crate::living::{get, until, within};
use crate::raw::{Does, Server, offer_to, ok, value};
use aws_lc_rs::{digest, hmac};
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD, Engine as _};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::io::Read;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

const KEY: &str = "key-5f3a9c71e0b24d68";
const WRONG_KEY: &str = "key-0000feedbeef1111";
const PASSWORD: &str = "correct-horse-battery";
const WRONG_PASSWORD: &str = "incorrect-horse-battery";
const SHARED: &str = "hs256-shared-secret-of-32-bytes-and-more";
const WRONG_SHARED: &str = "another-shared-secret-of-32-bytes-or-so";
const TICKET: &str = "ticket-for-the-external-service-77";
/// Of a Secret for tokens, and too short for one.
const SHORT: &str = "short-hs";
const BROKEN: [&str; 2] = ["not/base64/at/all!broken", "data-that-is-no-mapping"];

fn token(secret: &str) -> String {
    let part = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
    let claims = r#"{"sub":"alice","exp":4102444800,"hush":"claim-that-nobody-shows"}"#;
    let signed = format!("{}.{}", part(r#"{"alg":"HS256","typ":"JWT"}"#), part(claims));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), signed.as_bytes());
    format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(tag))
}

fn hash() -> String {
    let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, PASSWORD.as_bytes());
    BASE64_STANDARD.encode(hash)
}

fn secret(name: &str, entry: &str, content: &str) -> String {
    let content = BASE64_STANDARD.encode(content);
    format!("---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\ndata: {{{entry}: {content}}}\n")
}

/// Places for a credential of the name `name`, as flow YAML.
fn places(name: &str, header: &str) -> String {
    let one = |kind: &str, name: &str| format!("{{type: {kind}, name: {name}}}");
    let subprotocol = format!("{name}.");
    [one("Header", header), one("QueryParam", name), one("Cookie", name), one("Subprotocol", &subprotocol)].join(", ")
}

/// One route for each kind, host `KIND.test`.
fn objects(backend: u16, auth: u16) -> String {
    let provider = |block: &str| format!("authentication: {{providers: [{{name: door, {block}}}]}}");
    let origins = "origins: {allowOrigins: [\"*\"]}";
    let key = format!(
        "type: APIKey, extractFrom: [{}], apiKey: {{credentialRefs: [{{name: keys}}]}}",
        places("key", "X-Key")
    );
    let jwt =
        format!("type: JWT, extractFrom: [{}], jwt: {{secretRef: {{name: shared}}}}", places("token", "Authorization"));
    let short = "type: JWT, jwt: {secretRef: {name: short}}";
    let lost = "type: APIKey, extractFrom: [{type: Header, name: X-Key}], apiKey: {credentialRefs: [{name: broken}, {name: listed}]}";
    let basic = "type: Basic, basic: {credentialRefs: [{name: users}]}";
    let ask = "type: External, external: {backendRef: {name: auth, port: 80}, consumerHeader: X-Name}";
    let mut text = served("echo", backend) + &served("auth", auth);
    for (name, block) in
        [("key", &*key), ("jwt", &jwt), ("short", short), ("lost", lost), ("basic", basic), ("ask", ask)]
    {
        text += &route(name, &format!("{name}.test"), &[&provider(block), origins], &[("echo", 1)]);
    }
    text += &secret("shared", "hs", SHARED);
    text += &secret("short", "hs", SHORT);
    text + &secret("users", ".htpasswd", &format!("alice:{{SHA}}{}\n", hash()))
}

/// Secrets that are not as they should be, so that somebody has to say so.
fn broken() -> String {
    let [text, list] = BROKEN;
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: broken}}\ndata: {{alice: \"{text}\"}}\n\
         ---\napiVersion: v1\nkind: Secret\nmetadata: {{name: listed}}\ndata: {list}\n"
    )
}

/// A handshake with a credential.
struct Attempt {
    host: &'static str,
    target: String,
    lines: Vec<String>,
}

fn attempts() -> Vec<Attempt> {
    let mut attempts = Vec::new();
    let mut add = |host, target: String, lines: Vec<String>| attempts.push(Attempt { host, target, lines });
    for (host, name, header, prefix, credential) in [
        ("key.test", "key", "X-Key", "", KEY.to_owned()),
        ("key.test", "key", "X-Key", "", WRONG_KEY.to_owned()),
        ("lost.test", "key", "X-Key", "", KEY.to_owned()),
        ("jwt.test", "token", "Authorization", "Bearer ", token(SHARED)),
        ("jwt.test", "token", "Authorization", "Bearer ", token(WRONG_SHARED)),
        ("short.test", "token", "Authorization", "Bearer ", token(SHARED)),
    ] {
        add(host, "/".to_owned(), vec![format!("{header}: {prefix}{credential}")]);
        add(host, format!("/?{name}={credential}"), Vec::new());
        add(host, "/".to_owned(), vec![format!("Cookie: a=1; {name}={credential}")]);
        add(host, "/".to_owned(), vec![format!("Sec-WebSocket-Protocol: {name}.{credential}, chat")]);
        let spelled = escaped(&credential);
        add(host, format!("/?{name}={spelled}"), Vec::new());
        // Two that differ, and one that is broken.
        let lines = vec![format!("{header}: {prefix}{credential}"), format!("Cookie: {name}=x{credential}")];
        add(host, "/".to_owned(), lines);
        add(host, "/".to_owned(), vec![format!("{header}: {prefix}{credential}\u{e9}")]);
    }
    for password in [PASSWORD, WRONG_PASSWORD] {
        let words = BASE64_STANDARD.encode(format!("alice:{password}"));
        add("basic.test", "/".to_owned(), vec![format!("Authorization: Basic {words}")]);
        add("basic.test", "/".to_owned(), vec![format!("Authorization: Basic alice:{password}")]);
    }
    for target in ["/yes", "/no", "/broken"] {
        add(
            "ask.test",
            target.to_owned(),
            vec![format!("Authorization: Ticket {TICKET}"), format!("Cookie: t={TICKET}")],
        );
        add("ask.test", format!("{target}?ticket={TICKET}"), Vec::new());
    }
    attempts
}

/// As a query may spell it: each byte escaped.
fn escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |spelled, byte| spelled + &format!("%{byte:02x}"))
}

/// What nothing may hold: each credential, its parts that are as good, and what somebody might write it as.
fn forbidden() -> Vec<String> {
    let mut plain =
        [KEY, WRONG_KEY, PASSWORD, WRONG_PASSWORD, SHARED, WRONG_SHARED, TICKET].map(str::to_owned).to_vec();
    plain.extend(BROKEN.map(str::to_owned));
    plain.push(SHORT.to_owned());
    plain.push("claim-that-nobody-shows".to_owned());
    plain.push(hash());
    for token in [token(SHARED), token(WRONG_SHARED)] {
        plain.extend(token.split('.').skip(1).map(str::to_owned));
        plain.push(token);
    }
    plain.extend([PASSWORD, WRONG_PASSWORD].map(|password| format!("alice:{password}")));
    let engines = [BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD];
    let encoded = plain.iter().flat_map(|text| engines.iter().map(move |engine| engine.encode(text)));
    let spelled = plain.iter().map(String::as_str).map(escaped);
    let mut forbidden: Vec<String> = encoded.chain(spelled).chain(plain.iter().cloned()).collect();
    forbidden.sort_unstable();
    forbidden.dedup();
    forbidden
}

/// A running `sheave serve` and everything it has said; killed when the test ends.
struct Program {
    process: Child,
    said: Arc<Mutex<String>>,
    readers: Vec<std::thread::JoinHandle<()>>,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Program {
    /// Starts one that tells as much as it can.
    fn start(folder: &Folder) -> Self {
        let any = "127.0.0.1:0";
        let mut command = Command::new(env!("CARGO_BIN_EXE_sheave"));
        command.arg("serve").arg(folder.path()).args(["--listen", any, "--listen-tls", any, "--admin", any]);
        command.args(["--log", "trace", "--log-open", "--log-format", "json", "--workers", "1"]);
        let mut process =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let said = Arc::<Mutex<String>>::default();
        let follow = |mut from: Box<dyn Read + Send>| {
            let said = Arc::clone(&said);
            std::thread::spawn(move || {
                let mut bytes = [0; 4096];
                while let Ok(length @ 1..) = from.read(&mut bytes) {
                    said.lock().expect("no test panics with it").push_str(&String::from_utf8_lossy(&bytes[..length]));
                }
            })
        };
        let (out, err) = (process.stdout.take().expect("piped"), process.stderr.take().expect("piped"));
        let readers = vec![follow(Box::new(out)), follow(Box::new(err))];
        Self { process, said, readers }
    }

    fn said(&self) -> String {
        self.said.lock().expect("no test panics with it").clone()
    }

    /// Where it serves clients in clear, and operators.
    async fn addresses(&self) -> (SocketAddr, SocketAddr) {
        until("it serves", || async {
            let said = self.said();
            let line = said.lines().find(|line| line.contains("\"serving\""))?;
            let line: Value = serde_json::from_str(line).ok()?;
            let field = |name: &str| Some(line.get(name)?.as_str()?.to_owned());
            let listen = field("listen")?;
            let first = listen.trim_start_matches('[').split([',', ']']).next()?;
            Some((first.parse().ok()?, field("admin")?.parse().ok()?))
        })
        .await
    }

    /// Stops it; everything it has said.
    async fn stop(mut self) -> String {
        let id = Pid::from_raw(self.process.id().try_into().expect("an id")).expect("not 0");
        kill_process(id, Signal::TERM).expect("it runs");
        let readers = std::mem::take(&mut self.readers);
        within("its end", tokio::task::spawn_blocking(|| readers.into_iter().for_each(|reader| drop(reader.join()))))
            .await
            .expect("no panic");
        self.said()
    }
}

/// What a command prints.
fn printed(words: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_sheave")).args(words).stdin(Stdio::null()).output().expect("it runs");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_credential_is_in_anything_that_is_emitted() {
    let backend = Server::backend().await;
    let auth = Server::start(|head| {
        Does::Answer(match head.split([' ', '?']).nth(1).unwrap_or_default() {
            "/yes" => ok("X-Name: alice\r\n"),
            "/no" => "HTTP/1.1 403 x\r\nContent-Length: 2\r\n\r\nno".to_owned(),
            // A service that is talkative about what it was sent, in an answer that is none.
            _ => format!(
                "HTTP/1.1 500 {0}\r\nX-Echo: {0}\r\nContent-Length: 34\r\n\r\n{0}",
                value(head, "cookie").unwrap_or_default()
            ),
        })
    })
    .await;
    let folder = Folder::with(&objects(backend.port, auth.port));
    folder.write("keys.yaml", &secret("keys", "alice", KEY));
    let program = Program::start(&folder);
    let (ws, admin) = program.addresses().await;
    let mut emitted = Vec::new();
    let mut live = Vec::new();
    for Attempt { host, target, lines } in attempts() {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let (head, body, stream) = offer_to(ws, host, &target, &lines).await;
        emitted.push((format!("the answer to {host}"), head + &body));
        live.push(stream);
    }
    for path in ["/metrics", "/table", "/sessions?limit=1000"] {
        emitted.push((path.to_owned(), get(admin, path).await.1));
    }
    // The key is replaced, and what it let in has to go: that is told, too.
    let marker = route("marker", "marker.test", &[], &[("echo", 1)]);
    folder.write("keys.yaml", &(secret("keys", "alice", WRONG_KEY) + &marker));
    let table = until("the new key is read", || async {
        Some(get(admin, "/table").await.1).filter(|table| table.contains("marker.test"))
    })
    .await;
    emitted.push(("/table".to_owned(), table));
    folder.write("broken.yaml", &broken());
    until("the broken Secrets are told of", || async { program.said().contains("last good table").then_some(()) })
        .await;
    drop(live);
    let log = program.stop().await;
    for what in ["\"reject\"", "\"open\"", "\"close\"", "\"ask.test\"", "default/key", "drained"] {
        assert!(log.contains(what), "the log does not hold {what}: {log}");
    }
    emitted.push(("the log".to_owned(), log));
    let path = folder.path().to_str().expect("text");
    let check = printed(&["check", path]);
    assert!(check.contains("WebSocketRoute default/key"), "{check}");
    emitted.push(("check".to_owned(), check));
    for Attempt { host, target, lines } in attempts() {
        let url = format!("ws://{host}{target}");
        let mut words = vec!["explain", path, "--url", &url];
        for line in &lines {
            match line.split_once(": ") {
                Some(("Sec-WebSocket-Protocol", offered)) => {
                    offered.split(", ").for_each(|one| words.extend(["--subprotocol", one]));
                }
                _ => words.extend(["-H", line]),
            }
        }
        emitted.push((format!("explain of {host}"), printed(&words)));
    }
    let table = &emitted.iter().find(|(what, _)| what == "/table").expect("it was asked for").1;
    assert!(table.contains("\"ask.test\"") && table.contains("default/auth:80"), "{table}");
    let forbidden = forbidden();
    for (what, text) in &emitted {
        assert!(!text.is_empty(), "{what} is empty");
        for credential in &forbidden {
            let at = text.find(credential.as_str());
            let shown = at.and_then(|at| {
                text[..at].rfind('\n').map_or(text.lines().next(), |start| text[start + 1..].lines().next())
            });
            assert!(at.is_none(), "{what} holds {credential}: {}", shown.unwrap_or_default());
        }
    }
}
