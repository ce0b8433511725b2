//! What a session costs the process, measured at the program itself: an idle one, and one that was busy once.
//!
//! Figures are slopes of `RssAnon` over hundreds of sessions, so what the process takes without any is no part of them.
//! `benches/README.md` says how the same is measured beside other proxies, over thousands.

mod living;

use living::certificate::{Made, make, trusting};
use living::client::{Client, open, open_tls};
use living::folder::{Folder, simple};
use living::until;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use tokio_tungstenite::tungstenite::Message;

/// Sessions that are there before anything is measured.
const FIRST: usize = 100;
/// Sessions that are measured.
const MEASURED: usize = 300;
/// A message that is larger than every buffer on its way, in bytes.
const LARGE: usize = 256 << 10;
/// Sessions that are busy at once.
const AT_ONCE: usize = 4;
/// What an idle session may cost, in bytes: in clear and over TLS.
const IDLE: [usize; 2] = [2_400, 9_600];
/// What a session may cost more once it was busy, in bytes. A buffer that is kept has some thousand.
const KEPT: usize = 512;

/// A program that ends with the test.
struct Program {
    child: Child,
    addresses: Vec<SocketAddr>,
}

impl Program {
    fn start(words: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sheave"));
        command.args(words).env_remove("SHEAVE_LOG").stdin(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
        let (out, log) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        // One of them says where it listens; both are read to their end, so that it is never held back.
        let mut lines: Box<dyn BufRead + Send> =
            if words[0] == "echo" { Box::new(BufReader::new(out)) } else { Box::new(BufReader::new(log)) };
        let mut line = String::new();
        while !line.contains("serving") && !line.contains("echoing") {
            line.clear();
            assert_ne!(lines.read_line(&mut line).expect("text"), 0, "it says where it listens");
        }
        std::thread::spawn(move || drop(lines.read_to_end(&mut Vec::new())));
        let listed = line.split_once("listen").map_or(&*line, |(_, listed)| listed);
        let listed = listed.split_once(']').map_or(listed, |(listed, _)| listed);
        let numbers = listed.split(|c: char| !c.is_ascii_digit() && c != '.' && c != ':');
        let addresses = numbers.filter_map(|word| word.parse().ok()).collect();
        Self { child, addresses }
    }

    /// Its anonymous memory in bytes, once that stays as it is.
    async fn memory(&self) -> usize {
        let file = format!("/proc/{}/status", self.child.id());
        let read = || {
            let status = std::fs::read_to_string(&file).expect("it runs");
            let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("Linux says so");
            line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") << 10
        };
        let (mut last, mut same) = (0, 0);
        until("memory stays as it is", || {
            let now = read();
            same = if now == last { same + 1 } else { 0 };
            last = now;
            std::future::ready((same >= 20).then_some(now))
        })
        .await
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Has each of `clients` exchange a message of `size` bytes.
async fn relay(clients: &mut [Client], size: usize) {
    let message = Message::binary(vec![7; size]);
    for group in clients.chunks_mut(AT_ONCE) {
        let exchange = async |client: &mut Client| {
            client.send(message.clone()).await;
            assert_eq!(client.data().await.len(), size);
        };
        futures_util::future::join_all(group.iter_mut().map(exchange)).await;
    }
}

/// Opens `count` sessions, each of which relays a small message.
async fn quiet(clients: &mut Vec<Client>, count: usize, at: SocketAddr, tls: Option<&Made>) {
    let trust = tls.map(|made| trusting(&[made]));
    let before = clients.len();
    for _ in 0..count {
        clients.push(match &trust {
            None => open(at, "echo.test").await,
            Some(trust) => open_tls(at, "echo.test", trust).await,
        });
    }
    relay(&mut clients[before..], 128).await;
}

async fn measure(tls: bool) {
    let echo = Program::start(&["echo", "--listen", "localhost:0"]);
    let made = make(&["echo.test"]);
    let block = "tls: {certificateRefs: [{name: cert}], plaintext: Allow}";
    let folder = Folder::with(&(simple("echo", echo.addresses[0].port(), &[block]) + &made.secret("cert")));
    let path = folder.path().to_str().expect("a path in UTF-8");
    let listen = ["--listen", "localhost:0", "--listen-tls", "localhost:0", "--admin", "localhost:0"];
    let sheave = Program::start(&[&["serve", path, "--workers", "1"], &listen[..]].concat());
    let at = sheave.addresses[usize::from(tls)];

    let mut clients = Vec::new();
    quiet(&mut clients, FIRST, at, tls.then_some(&made)).await;
    let few = sheave.memory().await;
    quiet(&mut clients, MEASURED, at, tls.then_some(&made)).await;
    let never_busy = sheave.memory().await;
    // What the process needs for as many as are busy at once it may keep: it is there before the others' turn.
    relay(&mut clients[..FIRST], LARGE).await;
    let some_busy = sheave.memory().await;
    relay(&mut clients[FIRST..], LARGE).await;
    let once_busy = sheave.memory().await;

    let idle = (never_busy - few) / MEASURED;
    let kept = once_busy.saturating_sub(some_busy) / MEASURED;
    println!("idle {idle}, kept {kept} bytes a session; for busy ones together {}", some_busy - never_busy);
    let bound = IDLE[usize::from(tls)];
    assert!(idle <= bound, "an idle session takes {idle} bytes, and {bound} are promised: `make bench` says where");
    assert!(kept <= KEPT, "a session that was busy keeps {kept} bytes more than one that never was");
    relay(&mut clients, 128).await; // all are still there
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_session_takes_what_is_promised_and_no_more_once_it_was_busy() {
    measure(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_holds_over_tls() {
    measure(true).await;
}
