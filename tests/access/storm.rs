//! A storm: thousands of clients that come back at the same moment, to a Sheave that admits so many in a second.
//!
//! Sheave runs as a process of its own, for both ends of so many sessions would not fit into one. What is asserted are
//! numbers, order and that nothing goes faster than the pace; how long it takes beyond that is the machine's affair.

use crate::living::backend::Service;
use crate::living::client::open;
use crate::living::folder::{Folder, simple};
use crate::living::{get, until};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

/// How many come at once.
const CLIENTS: usize = 5000;

/// How many go on in a second.
const PACE: usize = 2000;

/// A storm that has not passed by then never will.
const PATIENCE: Duration = Duration::from_secs(60);

const ACCEPTED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// A Sheave in a process, and so with descriptors, of its own; killed when the test ends.
struct Apart {
    child: Child,
    ws: SocketAddr,
    admin: SocketAddr,
    /// Of each session that opened: its number, which it has been given as it got its turn, and the number that its
    /// path is.
    turns: Arc<Mutex<Vec<(u64, usize)>>>,
}

impl Apart {
    fn start(folder: &Folder, flags: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sheave"));
        command.arg("serve").arg(folder.path()).args(["--listen", "localhost:0", "--admin", "localhost:0"]);
        command.args(["--workers", "1", "--log-open", "--log-format", "json"]).args(flags);
        command.env_remove("SHEAVE_LOG").stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let line = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("\"serving\"")));
        let line = line.expect("it serves").expect("text");
        let turns = Arc::new(Mutex::new(Vec::with_capacity(CLIENTS)));
        let noted = Arc::clone(&turns);
        std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| noted.lock().unwrap().extend(turn(&line)));
        });
        let mut found =
            line.split(|c: char| !c.is_ascii_digit() && c != '.' && c != ':').filter_map(|s| s.parse().ok());
        let mut next = || found.next().unwrap_or_else(|| panic!("two addresses are in {line}"));
        // The fields stand in the order of the alphabet, or in that of the source: the admin listener is named.
        let (one, other) = (next(), next());
        let admin_first = line.find("admin").unwrap_or(0) < line.find("listen").unwrap_or(0);
        let (ws, admin) = if admin_first { (other, one) } else { (one, other) };
        Self { child, ws, admin, turns }
    }

    async fn metric(&self, start: &str) -> f64 {
        let (_, text) = get(self.admin, "/metrics").await;
        text.lines().find_map(|line| line.strip_prefix(start)?.trim().parse().ok()).unwrap_or(0.0)
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the record of an opened session says of its turn; `None` for any other line.
fn turn(line: &str) -> Option<(u64, usize)> {
    let record: serde_json::Value = serde_json::from_str(line).ok()?;
    let number = record["path"].as_str()?.trim_start_matches('/').parse().ok()?;
    (record["event"] == "open").then_some((record["conn"].as_u64()?, number))
}

/// A service that accepts every handshake and says nothing more.
async fn accepting() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("the loopback has a free port");
    let port = listener.local_addr().expect("it is bound").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                head(&mut stream).await;
                stream.write_all(ACCEPTED).await.expect("it can be sent");
                let _end = stream.read(&mut [0]).await;
            });
        }
    });
    port
}

/// Reads up to the end of a head.
async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut head).await.expect("it can be read") == 0 {
            break;
        }
    }
    String::from_utf8(head).expect("a head is text")
}

fn request(number: usize) -> String {
    format!(
        "GET /{number} HTTP/1.1\r\nHost: storm.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_at_once_are_all_admitted_in_order_at_the_pace_and_who_is_there_notices_nothing() {
    let (port, echo) = (accepting().await, Service::echo().await);
    let patient = "timeouts: {handshake: 60s}";
    let folder = Folder::with(&(simple("storm", port, &[patient]) + &simple("echo", echo.port, &[])));
    let (pace, queue) = (PACE.to_string(), CLIENTS.to_string());
    let sheave = Apart::start(&folder, &["--handshakes-per-second", &pace, "--handshake-queue", &queue]);
    let mut lived = open(sheave.ws, "echo.test/").await;

    let mut streams = Vec::with_capacity(CLIENTS);
    for _ in 0..CLIENTS {
        streams.push(TcpStream::connect(sheave.ws).await.expect("the listener takes everybody"));
    }
    // Who is accepted is known by the order of the requests that follow, not by that of the connections.
    let accepted = || async { (sheave.metric("process_open_fds").await >= CLIENTS as f64).then_some(()) };
    until("every connection is accepted", accepted).await;
    let began = Instant::now();
    let mut clients = Vec::with_capacity(CLIENTS);
    for (number, mut stream) in streams.into_iter().enumerate() {
        stream.write_all(request(number).as_bytes()).await.expect("it can be sent");
        clients.push(tokio::spawn(async move {
            let answer = head(&mut stream).await;
            (answer.starts_with("HTTP/1.1 101 "), answer, stream)
        }));
    }
    until("a line", || async { (sheave.metric("sheave_handshakes_queued").await > 0.0).then_some(()) }).await;
    lived.echo("in the midst of it").await;

    let all = async {
        let mut held = Vec::with_capacity(CLIENTS);
        for client in clients {
            let (accepted, answer, stream) = client.await.expect("no panic");
            assert!(accepted, "one was refused: {answer}");
            held.push(stream);
        }
        held
    };
    let held = tokio::time::timeout(PATIENCE, all).await.expect("everybody has an answer");
    let took = began.elapsed();

    assert_eq!(held.len(), CLIENTS);
    let least = Duration::from_secs_f64((CLIENTS - PACE / 10) as f64 / PACE as f64);
    assert!(took >= least, "{took:?} is faster than the pace allows");
    // By the turns, not by when the service hears of them: a dial may take its time (a lost SYN costs a second), and
    // that is no matter of the line.
    let all = || async { (sheave.turns.lock().unwrap().len() == CLIENTS).then_some(()) };
    until("the records of all", all).await;
    let mut turns = sheave.turns.lock().unwrap().clone();
    turns.sort_unstable();
    let overtaken = turns.iter().enumerate().map(|(at, (_, number))| at.abs_diff(*number)).max().unwrap_or(0);
    assert!(overtaken <= CLIENTS / 100, "one had its turn {overtaken} places away from its own");
    let queue = "sheave_handshake_duration_seconds";
    let waited = sheave.metric(&format!("{queue}_count{{phase=\"queue\"}}")).await;
    assert!(waited >= (CLIENTS - PACE) as f64, "only {waited} had to wait");
    let in_time = sheave.metric(&format!("{queue}_bucket{{phase=\"queue\",le=\"10\"}}")).await;
    assert!(in_time >= waited, "somebody starved: {in_time} of {waited} had their turn within ten seconds");
    let refused = sheave.metric("sheave_overload_refused_total{cause=\"queue\"}").await;
    assert!(refused < 0.5, "{refused} were refused");
    lived.echo("after it").await;
    println!("{CLIENTS} in {took:?}, {overtaken} places out of order at most");
}
