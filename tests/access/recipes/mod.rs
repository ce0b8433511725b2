//! The recipes of `examples/recipes`, run as they stand there: their routes, their programs, their commands, their pages.
//!
//! Nothing in their files is replaced: names are led to the tests' addresses by whoever looks them up. A recipe promises what
//! its README says below its files, and that is what is asserted here.

mod echo;
mod python;

use crate::browser::{Chromium, Site};
use crate::handshakes::{secret, status, value};
use crate::living::certificate::{Made, make, trusting};
use crate::living::client::tls;
use crate::living::folder::{Folder, served};
use crate::living::{Sheave, get, within};
use echo::Echo;
use python::Program;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn recipes() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/recipes")
}

/// A secret of this run.
fn random() -> String {
    (0..48).map(|_| fastrand::alphanumeric()).collect()
}

/// A recipe that is served.
struct Kitchen {
    recipe: PathBuf,
    route: String,
    host: &'static str,
    made: Made,
    folder: Folder,
    sheave: Sheave,
}

impl Kitchen {
    /// Serves the recipe's route for `host`, with a certificate, and a Service of the route's name at `port`; `more` are the
    /// objects that the recipe's commands make.
    fn open(recipe: &str, host: &'static str, service: (&str, u16), more: &str) -> Self {
        let recipe = recipes().join(recipe);
        let route = std::fs::read_to_string(recipe.join("route.yaml")).expect("a recipe has a route");
        let certificate = route.split("certificateRefs: [{name: ").nth(1).and_then(|rest| rest.split('}').next());
        let made = make(&[host]);
        let folder = Folder::with(&route);
        folder.write("certificate.yaml", &made.secret(certificate.expect("a recipe names its certificate")));
        folder.write("service.yaml", &served(service.0, service.1));
        folder.write("more.yaml", more);
        let sheave = Sheave::start(&folder);
        Self { recipe, route, host, made, folder, sheave }
    }

    /// A program of the recipe, for which the route's host is Sheave, whose certificate it trusts.
    fn program(&self, file: &str) -> Program {
        let hosts = format!("{}:443", self.host);
        let program = Program::new(&self.recipe.join(file), &[(&hosts, self.sheave.wss)]);
        program.env("SSL_CERT_FILE", self.trusted())
    }

    /// Sheave's certificate in a file.
    fn trusted(&self) -> PathBuf {
        let path = self.folder.path().join(".certificate.pem");
        std::fs::write(&path, &self.made.certificate).expect("a file can be written");
        path
    }

    /// The answer to a handshake with more header lines.
    async fn offer(&self, target: &str, lines: &[&str]) -> String {
        let more: String = lines.iter().flat_map(|line| [line, "\r\n"]).collect();
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n",
            self.host
        );
        let mut stream = tls(self.sheave.wss, self.host, &trusting(&[&self.made])).await.expect("TLS works");
        within("an answer", async {
            stream.write_all(request.as_bytes()).await.expect("a handshake can be sent");
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.expect("an answer comes"));
            }
            String::from_utf8(head).expect("answers are UTF-8")
        })
        .await
    }
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Fails with what a command said unless it went well.
fn succeeded(output: &Output) {
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}");
}

#[test]
fn every_recipe_shows_each_of_its_files_as_it_is() {
    let mut shown = 0;
    for folder in std::fs::read_dir(recipes()).expect("there are recipes").flatten() {
        let readme = std::fs::read_to_string(folder.path().join("README.md")).expect("a recipe has a README");
        for file in std::fs::read_dir(folder.path()).expect("a recipe is a folder").flatten() {
            let name = file.file_name().to_string_lossy().into_owned();
            if name == "README.md" {
                continue;
            }
            let text = std::fs::read_to_string(file.path()).expect("a recipe's files are text");
            assert!(readme.contains(&format!("\n{text}```\n")), "{:?}: copy {name} into README.md", folder.path());
            shown += 1;
        }
    }
    assert_eq!(shown, 16, "every file of every recipe");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium and python3: make test-browser"]
async fn a_browsers_cookie_opens_the_socket_of_its_page_and_no_other_pages() {
    let key = random();
    let backend = Echo::start().await;
    let app = Program::new(&recipes().join("browser-cookie/app.py"), &[]).env("SESSION_KEY", &key);
    let (_app, app) = app.serve().await;
    let more = secret("chat-session", "", &[("hs256", &key)]);
    let kitchen = Kitchen::open("browser-cookie", "chat.example.com", ("chat", backend.port), &more);
    let site = Site::before(&kitchen.made, kitchen.sheave.wss, Some(app)).await;
    let _browser = Chromium::open("https://chat.example.com/", &[("chat.example.com:443", site.https)]);
    let (page, socket) = ("https://chat.example.com", "wss://chat.example.com/rooms/7");
    assert_eq!(site.outcome(page, socket).await, ["open as \"\""]);
    site.hears(socket, "message hello").await;
    assert_eq!(backend.header("x-user").as_deref(), Some("ann"));
    assert_eq!(backend.header("cookie"), None);

    let signed_in = post(app, "/sign-in").await;
    let cookie = value(&signed_in, "set-cookie").expect("signing in sets a cookie");
    assert!(cookie.contains("HttpOnly; Secure; SameSite=Lax"), "{cookie}");
    let cookie = format!("Cookie: a=1; {}; b=2", cookie.split(';').next().unwrap_or_default());
    let (own, foreign) = ("Origin: https://chat.example.com", "Origin: https://evil.example.com");
    let lines = |lines: &[&str]| lines.iter().map(ToString::to_string).collect::<Vec<_>>();
    for (lines, expected) in [
        (lines(&[&cookie, foreign]), 403),
        (lines(&[&cookie, "Origin: http://chat.example.com"]), 403),
        (lines(&[own]), 401),
        (lines(&[own, &cookie.replace("session=", "session=x")]), 401),
        (lines(&[own, &cookie, "X-User: root"]), 101),
    ] {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let answer = kitchen.offer("/rooms/7", &lines).await;
        assert_eq!(status(&answer), expected, "{lines:?}: {answer}");
    }
    assert_eq!((backend.count(), backend.header("x-user").as_deref()), (2, Some("ann")));
    assert_eq!(backend.header("cookie").as_deref(), Some("a=1; b=2"));

    kitchen.folder.write("more.yaml", &secret("chat-session", "", &[("hs256", &random())]));
    site.hears(socket, "close 1008 \"credential revoked\"").await;
}

/// The head of the answer to a POST without a body.
async fn post(port: u16, path: &str) -> String {
    let request = format!("POST {path} HTTP/1.0\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    let mut answer = String::new();
    within(path, async {
        let mut stream = TcpStream::connect(local(port)).await.expect("the application listens");
        stream.write_all(request.as_bytes()).await.expect("a request can be sent");
        stream.read_to_string(&mut answer).await.expect("an answer can be read");
    })
    .await;
    answer
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium and python3: make test-browser"]
async fn a_browsers_ticket_among_the_subprotocols_opens_and_the_backends_choice_reaches_the_page() {
    let key = random();
    let recipe = recipes().join("browser-subprotocol");
    let (_backend, backend) = Program::new(&recipe.join("backend.py"), &[]).serve().await;
    let (_app, app) = Program::new(&recipe.join("app.py"), &[]).env("TICKET_KEY", &key).serve().await;
    let more = secret("chat-tickets", "", &[("hs256", &key)]);
    let kitchen = Kitchen::open("browser-subprotocol", "ws.example.com", ("chat", backend), &more);
    let site = Site::before(&kitchen.made, kitchen.sheave.wss, Some(app)).await;
    let hosts = [("ws.example.com:443", kitchen.sheave.wss), ("app.example.com:443", site.https)];
    let _browser = Chromium::open("https://app.example.com/", &hosts);
    let (page, socket) = ("https://app.example.com", "wss://ws.example.com/rooms/7");
    assert_eq!(site.outcome(page, socket).await, ["open as \"chat\""]);
    site.hears(socket, "message ann: hello by chat").await;

    let (_, ticket) = get(local(app), "/ticket").await;
    let own = "Origin: https://app.example.com";
    for (origin, offered, expected, chosen) in [
        (own, format!("chat, bearer.{ticket}"), 101, Some("chat")),
        // By the library of this backend, not by Sheave.
        (own, format!("bearer.{ticket}"), 400, None),
        (own, format!("bearer.{ticket}, news"), 400, None),
        (own, format!("bearer.{ticket}x, chat"), 401, None),
        (own, "chat".to_owned(), 401, None),
        ("Origin: https://evil.example.com", format!("bearer.{ticket}, chat"), 403, None),
    ] {
        let answer = kitchen.offer("/", &[origin, &format!("Sec-WebSocket-Protocol: {offered}")]).await;
        assert_eq!(status(&answer), expected, "{origin}, {offered}: {answer}");
        assert_eq!(value(&answer, "sec-websocket-protocol").as_deref(), chosen, "{offered}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs python3, openssl and curl: make test-browser"]
async fn a_machines_key_opens_until_it_is_taken_out_of_the_secret() {
    let (billing, other) = (random(), random());
    let backend = Echo::start().await;
    let more = secret("feed-keys", "", &[("billing", &billing), ("other", &other)]);
    let kitchen = Kitchen::open("machine-api-key", "feed.example.com", ("feed", backend.port), &more);
    let mut client = kitchen.program("client.py").env("API_KEY", &billing).start();
    assert_eq!(client.line().await, "subscribe");
    assert_eq!(backend.header("x-client").as_deref(), Some("billing"));
    assert_eq!(backend.header("x-api-key"), None);

    let curl = Folder::new();
    let to = format!("connect-to = feed.example.com:443:{}\n", kitchen.sheave.wss);
    std::fs::write(curl.path().join(".curlrc"), to).expect("a file can be written");
    let check = async |key: &str| {
        let mut shell = Command::new("sh");
        shell.arg(kitchen.recipe.join("check.sh")).env("API_KEY", key);
        shell.env("CURL_HOME", curl.path()).env("CURL_CA_BUNDLE", kitchen.trusted());
        let output =
            tokio::task::spawn_blocking(move || shell.output()).await.expect("it ends").expect("sh can be run");
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(told.starts_with("HTTP/1.1 "), "{told:?}: {}", String::from_utf8_lossy(&output.stderr));
        status(&told)
    };
    assert_eq!([check(&billing).await, check("stray").await], [101, 401]);
    let lines = [format!("X-Api-Key: {billing}"), format!("X-Api-Key: {other}")];
    assert_eq!(status(&kitchen.offer("/events", &[&lines[0], &lines[1]]).await), 400);
    assert_eq!(status(&kitchen.offer("/events", &[]).await), 401);

    kitchen.folder.write("more.yaml", &secret("feed-keys", "", &[("other", &other)]));
    assert_eq!(client.line().await, "closed: 1008 credential revoked");
    assert_eq!(status(&kitchen.offer("/events", &[&lines[0]]).await), 401);
    assert_eq!(status(&kitchen.offer("/events", &[&lines[1]]).await), 101);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs python3 and openssl: make test-browser"]
async fn a_devices_certificate_opens_until_its_subject_is_denied() {
    let desk = Folder::new();
    let script = recipes().join("device-mtls/certificates.sh");
    for name in ["device-7", "device-13"] {
        let mut shell = Command::new("sh");
        shell.arg(&script).arg(name).current_dir(desk.path());
        succeeded(&shell.output().expect("sh can be run"));
    }
    let authority = std::fs::read_to_string(desk.path().join("ca.crt")).expect("the script makes an authority");
    let authority = authority.trim_end().replace('\n', "\n    ");
    let more = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: device-ca}}\ndata:\n  ca.crt: |\n    {authority}\n"
    );
    let backend = Echo::start().await;
    let kitchen = Kitchen::open("device-mtls", "devices.example.com", ("devices", backend.port), &more);
    let device = |name| kitchen.program("device.py").arg(name).within(desk.path());
    let mut seven = device("device-7").start();
    assert_eq!(seven.line().await, "21.5");
    assert_eq!(backend.header("x-device").as_deref(), Some("CN=device-7,O=Example"));
    let (went_well, told) = device("device-13").run().await;
    assert!(!went_well && told.contains("HTTP 403"), "{told}");
    assert_eq!(status(&kitchen.offer("/telemetry", &["X-Device: CN=device-7,O=Example"]).await), 403);
    // One of another authority under the same name.
    for file in ["ca.crt", "ca.key"] {
        std::fs::remove_file(desk.path().join(file)).expect("the script made it");
    }
    let mut shell = Command::new("sh");
    succeeded(&shell.arg(&script).arg("device-7").current_dir(desk.path()).output().expect("sh can be run"));
    let (went_well, told) = device("device-7").run().await;
    assert!(!went_well && told.contains("HTTP 403"), "{told}");
    assert_eq!(backend.count(), 1, "none of these reached the backend");

    let denied = kitchen.route.replace("CN=device-13,", "CN=device-7,");
    kitchen.folder.write("all.yaml", &denied);
    assert_eq!(seven.line().await, "closed: 1008 policy changed");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs python3: make test-browser"]
async fn a_service_of_ones_own_decides_and_its_words_reach_the_client() {
    let backend = Echo::start().await;
    let (auth, port) = Program::new(&recipes().join("external-auth/auth.py"), &[]).serve().await;
    let kitchen = Kitchen::open("external-auth", "chat.example.com", ("chat", backend.port), &served("auth", port));
    let client = |token, room| kitchen.program("client.py").env("TOKEN", token).arg(room).run();
    assert_eq!(client("ann-of-the-example", "7").await, (true, "hello\n".to_owned()));
    assert_eq!(backend.header("x-user").as_deref(), Some("ann"));
    assert_eq!(client("ann-of-the-example", "2").await, (true, "403 you are not in this room\n\n".to_owned()));
    assert_eq!(client("stray", "7").await, (true, "401 sign in first\n\n".to_owned()));
    assert_eq!(status(&kitchen.offer("/rooms/7", &["X-User: ann"]).await), 401);
    drop(auth);
    let away = kitchen.offer("/rooms/7", &["Authorization: Bearer ann-of-the-example"]).await;
    assert_eq!(status(&away), 503, "{away}");
    assert_eq!(backend.count(), 1, "only the yes reached the backend");
}
