//! A web site: pages by URL, in clear and over TLS, and what their scripts saw.
//!
//! It stands where an Ingress would: WebSocket handshakes that arrive here go to Sheave, everything else is a page, its own
//! or an application's. What it decides is only that; who may connect is Sheave's business.

use crate::living::certificate::{Made, trusting};
use crate::living::client::{Bytestream, tls};
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// The longest that a browser may take to start and run a page, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Tells the site what happens to a page's sockets.
const WATCH: &str = include_str!("watch.js");

/// Something that happened to a WebSocket of a page.
#[derive(Clone, Debug, serde::Deserialize)]
pub(crate) struct Note {
    /// The page's origin.
    pub(crate) page: String,
    /// The socket's URL; empty for a fault of the page.
    pub(crate) socket: String,
    /// `open as "chat"`, `message hello`, `error`, `close 1006 ""`, or a fault.
    pub(crate) event: String,
}

/// What the site serves.
struct Served {
    /// Whole answers by URL without query.
    pages: Mutex<Vec<(String, String)>>,
    /// The program that serves every other URL.
    application: Option<u16>,
    /// Where handshakes go, in TLS, and what its certificate is.
    sheave: (SocketAddr, Arc<ClientConfig>),
    notes: watch::Sender<Vec<Note>>,
}

/// A running site.
pub(crate) struct Site {
    /// Where it listens in clear.
    pub(crate) http: SocketAddr,
    /// Where it listens for TLS.
    pub(crate) https: SocketAddr,
    served: Arc<Served>,
    listening: [JoinHandle<()>; 2],
}

impl Drop for Site {
    fn drop(&mut self) {
        self.listening.iter().for_each(JoinHandle::abort);
    }
}

impl Site {
    /// A site with a certificate, before a Sheave with the same one at `sheave`.
    pub(crate) async fn start(made: &Made, sheave: SocketAddr) -> Self {
        Self::before(made, sheave, None).await
    }

    /// As [`Site::start`]; pages it does not have are those of the program at the port `application`.
    pub(crate) async fn before(made: &Made, sheave: SocketAddr, application: Option<u16>) -> Self {
        let key = PrivateKeyDer::from_pem_slice(made.key.as_bytes()).expect("a made key can be read");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has them")
            .with_no_client_auth()
            .with_single_cert(vec![made.der.clone()], key)
            .expect("a made certificate fits its key");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let served = Arc::new(Served {
            pages: Mutex::default(),
            application,
            sheave: (sheave, trusting(&[made])),
            notes: watch::Sender::default(),
        });
        let (clear, secure) = (listen().await, listen().await);
        let at = |listener: &TcpListener| listener.local_addr().expect("it is bound");
        let (http, https) = (at(&clear), at(&secure));
        let (one, other) = (Arc::clone(&served), Arc::clone(&served));
        let clear = tokio::spawn(async move {
            while let Ok((stream, _)) = clear.accept().await {
                let served = Arc::clone(&one);
                tokio::spawn(async move { served.serve(Box::new(stream), "http").await });
            }
        });
        let secure = tokio::spawn(async move {
            while let Ok((stream, _)) = secure.accept().await {
                let (served, acceptor) = (Arc::clone(&other), acceptor.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return None };
                    served.serve(Box::new(stream), "https").await
                });
            }
        });
        Self { http, https, served, listening: [clear, secure] }
    }

    fn put(&self, url: &str, answer: String) {
        self.served.pages.lock().expect("no test panics with it").push((url.to_owned(), answer));
    }

    /// Serves a page with a script at `url`, whose origin is written as browsers write it.
    pub(crate) fn page(&self, url: &str, script: &str) {
        self.put(url, html(&format!("<!doctype html><script>{script}</script>")));
    }

    /// Serves a redirect at `url` that sets a cookie.
    pub(crate) fn sign_in(&self, url: &str, cookie: &str, next: &str) {
        let head = format!("HTTP/1.1 303 x\r\nSet-Cookie: {cookie}\r\nLocation: {next}\r\nContent-Length: 0\r\n");
        self.put(url, format!("{head}Connection: close\r\n\r\n"));
    }

    /// Waits for what `find` looks for in what the pages saw so far.
    pub(crate) async fn sees<T>(&self, what: &str, mut find: impl FnMut(&[Note]) -> Option<T>) -> T {
        let mut view = self.served.notes.subscribe();
        let found = async {
            loop {
                if let Some(found) = find(&view.borrow_and_update()) {
                    return found;
                }
                view.changed().await.expect("the site lives");
            }
        };
        match tokio::time::timeout(PATIENCE, found).await {
            Ok(found) => found,
            Err(late) => panic!("{what}: {late} within {PATIENCE:?}; seen: {:#?}", self.served.notes.borrow()),
        }
    }

    /// Waits for an event of the socket to `url`.
    pub(crate) async fn hears(&self, url: &str, event: &str) {
        let find = |notes: &[Note]| notes.iter().any(|note| note.socket == url && note.event == event).then_some(());
        self.sees(&format!("{url}: {event}"), find).await;
    }

    /// Waits until a page of `origin` knows how its socket to `url` fares: the events up to `open` or `close`.
    pub(crate) async fn outcome(&self, origin: &str, url: &str) -> Vec<String> {
        self.sees(&format!("{url} opens or not for {origin}"), |notes| {
            if let Some(fault) = notes.iter().find(|note| note.socket.is_empty()) {
                panic!("{}: {}", fault.page, fault.event);
            }
            let events = notes.iter().filter(|note| note.page == origin && note.socket == url).map(|note| &note.event);
            let events = events.cloned().collect::<Vec<_>>();
            let end = events.iter().position(|event| event.starts_with("open") || event.starts_with("close"))?;
            Some(events[..=end].to_vec())
        })
        .await
    }
}

async fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("the loopback has a free port")
}

fn html(text: &str) -> String {
    let body = format!("<script>{WATCH}</script>{text}");
    let head = "HTTP/1.1 200 x\r\nContent-Type: text/html; charset=utf-8\r\nConnection: close\r\n";
    format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())
}

impl Served {
    /// Serves one request; `None` when the connection ends before.
    async fn serve(&self, mut stream: Box<dyn Bytestream>, scheme: &str) -> Option<()> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.ok()?);
        }
        let head = String::from_utf8(head).expect("browsers send UTF-8");
        let field = |name: &str| {
            let mut fields = head.lines().filter_map(|line| line.split_once(": "));
            fields.find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
        };
        let host = field("host")?;
        if field("upgrade").is_some_and(|upgrade| upgrade == "websocket") {
            let name = host.split(':').next()?;
            let mut sheave = tls(self.sheave.0, name, &self.sheave.1).await.ok()?;
            sheave.write_all(head.as_bytes()).await.ok()?;
            copy_bidirectional(&mut stream, &mut sheave).await.ok()?;
            return Some(());
        }
        let mut body = vec![0; field("content-length").map_or(0, |length| length.parse().expect("a length"))];
        stream.read_exact(&mut body).await.ok()?;
        let target = head.split(' ').nth(1)?;
        let answer = if target == "/.seen" {
            let note = serde_json::from_slice(&body).expect("watch.js writes notes");
            self.notes.send_modify(|notes| notes.push(note));
            "HTTP/1.1 204 x\r\nConnection: close\r\n\r\n".to_owned()
        } else {
            let path = target.split('?').next().unwrap_or_default();
            let url = format!("{scheme}://{host}{path}");
            let known = self.pages.lock().expect("no test panics with it").iter().find(|(u, _)| *u == url).cloned();
            match (known, self.application) {
                (Some((_, answer)), _) => answer,
                (None, Some(port)) => ask(port, &head, &body).await?,
                (None, None) => "HTTP/1.1 404 x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned(),
            }
        };
        stream.write_all(answer.as_bytes()).await.ok()?;
        stream.shutdown().await.ok()
    }
}

/// The application's answer, with its pages watched.
async fn ask(port: u16, head: &str, body: &[u8]) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    // Old enough that every server closes after its answer.
    stream
        .write_all(head.replacen("HTTP/1.1\r\n", "HTTP/1.0\r\n", 1).replace("keep-alive", "close").as_bytes())
        .await
        .ok()?;
    stream.write_all(body).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let (lines, text) = answer.split_once("\r\n\r\n")?;
    let is_page = lines.to_ascii_lowercase().contains("content-type: text/html");
    Some(if is_page { html(text) } else { answer })
}
