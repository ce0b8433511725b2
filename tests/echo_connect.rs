//! `sheave echo` and `sheave connect` as programs, over real sockets: what they print, how they end.

use futures_util::{SinkExt, StreamExt};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

fn sheave(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sheave"));
    command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A running `sheave echo`; killed when the test ends.
struct Echo {
    process: Child,
    out: BufReader<ChildStdout>,
    address: String,
}

impl Echo {
    fn start() -> Self {
        let mut process = sheave(&["echo", "--listen", "localhost:0"]).spawn().expect("the program starts");
        let mut out = BufReader::new(process.stdout.take().expect("piped"));
        let mut line = String::new();
        out.read_line(&mut line).expect("it says where it listens");
        let address = line.trim().strip_prefix("echoing on ws://").expect("as documented").to_owned();
        Self { process, out, address }
    }

    async fn open(&self) -> WebSocketStream<TcpStream> {
        let stream = TcpStream::connect(&self.address).await.expect("it listens");
        let mut request = format!("ws://{}/", self.address).into_client_request().expect("a URL");
        request.headers_mut().insert("sec-websocket-protocol", "one, two".parse().expect("a value"));
        let (socket, answer) = tokio_tungstenite::client_async(request, stream).await.expect("a 101");
        assert_eq!(answer.headers()["sec-websocket-protocol"], "one");
        socket
    }

    fn terminate(&self) {
        let id = Pid::from_raw(self.process.id().try_into().expect("an id")).expect("not 0");
        kill_process(id, Signal::TERM).expect("it runs");
    }

    /// How it ended and what it said after its first line.
    async fn ended(mut self) -> (ExitStatus, String) {
        tokio::task::spawn_blocking(move || {
            let status = self.process.wait().expect("it ends");
            let mut said = String::new();
            self.out.read_to_string(&mut said).expect("text");
            (status, said)
        })
        .await
        .expect("no panic")
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn connect(words: Vec<String>) -> (bool, String) {
    tokio::task::spawn_blocking(move || {
        let words: Vec<&str> = std::iter::once("connect").chain(words.iter().map(String::as_str)).collect();
        let Output { status, stdout, stderr } = sheave(&words).output().expect("the program runs");
        let said = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
        (status.success(), said)
    })
    .await
    .expect("no panic")
}

fn words(url: &str, more: &[&str]) -> Vec<String> {
    std::iter::once(&url).chain(more).map(ToString::to_string).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn echo_sends_back_text_and_binary_and_answers_pings_and_closes() {
    let echo = Echo::start();
    let mut socket = echo.open().await;
    for message in [Message::text("hello"), Message::binary(vec![0, 255]), Message::text("")] {
        socket.send(message.clone()).await.expect("sent");
        assert_eq!(socket.next().await.expect("an answer").expect("no fault"), message);
    }
    socket.send(Message::Ping("p".into())).await.expect("sent");
    assert_eq!(socket.next().await.expect("an answer").expect("no fault"), Message::Pong("p".into()));
    socket.close(Some(CloseFrame { code: CloseCode::Library(4001), reason: "bye".into() })).await.expect("sent");
    let Some(Ok(Message::Close(Some(frame)))) = socket.next().await else { panic!("no Close came back") };
    assert_eq!(u16::from(frame.code), 4001);
    assert!(socket.next().await.is_none(), "the connection ends after the Close");
}

#[tokio::test(flavor = "multi_thread")]
async fn echo_takes_16_mib_and_answers_more_with_1009() {
    let echo = Echo::start();
    let stream = TcpStream::connect(&echo.address).await.expect("it listens");
    let unbounded = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
    let url = format!("ws://{}/", echo.address);
    let opened = tokio_tungstenite::client_async_with_config(url, stream, Some(unbounded)).await;
    let (mut socket, _) = opened.expect("a 101");
    let longest = Message::binary(vec![7; 16 << 20]);
    socket.send(longest.clone()).await.expect("sent");
    assert!(socket.next().await.expect("an answer").expect("no fault") == longest);
    // One frame header that announces too much: the refusal does not wait for the payload.
    let raw = socket.get_mut();
    let mut header = vec![0x82, 0xff];
    header.extend((16_u64 * 1024 * 1024 + 1).to_be_bytes());
    header.extend([0; 4]);
    tokio::io::AsyncWriteExt::write_all(raw, &header).await.expect("sent");
    let Some(Ok(Message::Close(Some(frame)))) = socket.next().await else { panic!("no Close") };
    assert_eq!(frame.code, CloseCode::Size);
}

#[tokio::test(flavor = "multi_thread")]
async fn echo_ends_in_order_on_sigterm() {
    let echo = Echo::start();
    let mut socket = echo.open().await;
    socket.send(Message::text("before")).await.expect("sent");
    assert_eq!(socket.next().await.expect("an answer").expect("no fault"), Message::text("before"));
    echo.terminate();
    let Some(Ok(Message::Close(Some(frame)))) = socket.next().await else { panic!("no Close") };
    assert_eq!(frame.code, CloseCode::Away);
    assert!(socket.next().await.is_none(), "the answer is sent and the connection ends");
    let (status, said) = echo.ended().await;
    assert!(status.success(), "{status}: {said}");
    assert_eq!(said, "stopping: 1 open\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_says_each_step_and_succeeds() {
    let echo = Echo::start();
    let url = format!("ws://{}/room?x=1", echo.address);
    let (well, said) = connect(words(&url, &["--message", "ahoy"])).await;
    assert!(well, "{said}");
    let steps: Vec<_> = said.lines().filter_map(|line| line.split(':').next()).collect();
    assert_eq!(steps, ["open", "sent", "echoed", "closed"], "{said}");
    assert!(said.contains(&format!("open: {url}\nsent: \"ahoy\"\n")), "{said}");
    assert!(said.ends_with("closed: with 1000, from both sides\n"), "{said}");
}

/// A `sheave proxy` before `to`, with a listener in clear and one over TLS; killed when the test ends.
struct Proxy(Child, String, String);

impl Proxy {
    fn start(to: &str) -> Self {
        let any = "localhost:0";
        let words = ["proxy", "--to", to, "--listen", any, "--listen-tls", any, "--admin", any, "--log-format", "json"];
        let mut command = sheave(&words);
        let mut process = command.stdout(Stdio::null()).spawn().expect("the program starts");
        let mut lines = BufReader::new(process.stderr.take().expect("piped")).lines();
        let line = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("\"serving\"")));
        let line = line.expect("it serves").expect("text");
        let listen = line.split('[').nth(1).and_then(|rest| rest.split(']').next()).expect("two addresses");
        let addresses: Vec<_> = listen.split(',').map(|address| address.trim().to_owned()).collect();
        std::thread::spawn(move || lines.for_each(drop)); // so that its log never blocks it
        Self(process, addresses[0].clone(), addresses[1].clone())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_wants_a_certificate_it_trusts_unless_told_otherwise() {
    let echo = Echo::start();
    let proxy = Proxy::start(&format!("ws://{}", echo.address));
    let url = format!("wss://{}/", proxy.2);
    let (well, said) = connect(words(&url, &["--insecure"])).await;
    assert!(well, "{said}");
    let (well, said) = connect(words(&url, &["--timeout", "600ms"])).await;
    assert!(!well && said.contains("invalid peer certificate"), "{said}");
    let (well, said) = connect(words(&format!("ws://{}/", proxy.1), &[])).await;
    assert!(well, "{said}");
}

/// Answers the handshakes of one connection after the other: `refusals` times with this status, then for good.
async fn late(refusals: usize, status: u16, close: CloseCode) -> String {
    use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    tokio::spawn(async move {
        for attempt in 0.. {
            let (stream, _) = listener.accept().await.expect("a client");
            #[allow(clippy::result_large_err)] // the shape is the library's
            let judge = |_: &Request, answer: Response| -> Result<Response, ErrorResponse> {
                if attempt >= refusals {
                    return Ok(answer);
                }
                let mut refusal = ErrorResponse::new(Some("try later".to_owned()));
                *refusal.status_mut() = status.try_into().expect("a status");
                Err(refusal)
            };
            let Ok(mut socket) = tokio_tungstenite::accept_hdr_async(stream, judge).await else { continue };
            let Some(Ok(message)) = socket.next().await else { continue };
            socket.send(Message::text("welcome")).await.expect("sent");
            socket.send(message).await.expect("sent");
            if close != CloseCode::Normal {
                socket.close(Some(CloseFrame { code: close, reason: "enough".into() })).await.expect("sent");
            }
            while let Some(Ok(_)) = socket.next().await {}
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_tries_again_while_the_route_is_not_there_yet() {
    for status in [404, 503] {
        let address = late(2, status, CloseCode::Normal).await;
        let (well, said) = connect(words(&format!("ws://{address}/"), &[])).await;
        assert!(well, "{said}");
        assert!(said.starts_with(&format!("not yet: refused with {status}")), "{said}");
        assert_eq!(said.matches("not yet").count(), 1, "said once: {said}");
        assert!(said.contains("passed over: a message that is not the echo\nechoed"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_fails_at_once_where_asking_again_would_bring_the_same() {
    let address = late(usize::MAX, 403, CloseCode::Normal).await;
    let (well, said) = connect(words(&format!("ws://{address}/"), &["--timeout", "1h"])).await;
    assert!(!well, "{said}");
    assert_eq!(said, "failed: refused with 403 Forbidden: try later\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_fails_when_its_close_is_answered_with_another_code() {
    let address = late(0, 404, CloseCode::Error).await;
    let (well, said) = connect(words(&format!("ws://{address}/"), &[])).await;
    assert!(!well, "{said}");
    assert!(said.contains("failed: our Close 1000 was answered with 1011 \"enough\""), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_fails_when_time_is_up_and_says_what_it_was_waiting_for() {
    let address = late(usize::MAX, 503, CloseCode::Normal).await;
    let (well, said) = connect(words(&format!("ws://{address}/"), &["--timeout", "600ms"])).await;
    assert!(!well, "{said}");
    assert!(said.contains("failed: not done within 600ms: refused with 503"), "{said}");
    // A port that nobody listens on any more.
    let gone = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("bound");
    let (well, said) = connect(words(&format!("ws://{gone}/"), &["--timeout", "300ms"])).await;
    assert!(!well && said.contains("cannot connect to 127.0.0.1:"), "{said}");
}
