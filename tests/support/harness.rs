//! A whole proxy on free ports with a folder of its own, and the handshake that it likes.

use super::service::{Service, switching};
use super::wire::Wire;
use sheave::app::{self, Options, Running};
use std::net::SocketAddr;

/// The `Host` of every handshake here.
pub const HOST: &str = "chat.example.com:8080";
/// The key of every handshake here: RFC 6455 §1.3.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// A running proxy; dropping it drains and stops it.
pub struct Harness {
    running: Option<Running>,
    /// The listener in clear.
    pub ws: SocketAddr,
    /// The TLS listener.
    pub wss: SocketAddr,
    /// The admin listener.
    pub admin: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Harness {
    /// Starts with one route to `service`; `spec` is more of the route's spec, as lines of YAML.
    pub fn start(service: SocketAddr, spec: &str) -> Self {
        Self::start_with(&[service], spec, |_| {})
    }

    /// Starts with one route to `endpoints`, which share a port, after `adjust` has had the options.
    pub fn start_with(endpoints: &[SocketAddr], spec: &str, adjust: impl FnOnce(&mut Options)) -> Self {
        Self::serving(&objects(endpoints, spec), adjust)
    }

    /// Starts with `objects` as the folder's only file, after `adjust` has had the options.
    pub fn serving(objects: &str, adjust: impl FnOnce(&mut Options)) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("route.yaml"), objects).expect("a writable folder");
        let mut options = Options::folder(folder.path());
        adjust(&mut options);
        let running = app::start(options).expect("the proxy starts");
        let addresses = running.addresses();
        let (ws, wss, admin) = (addresses[0], addresses[1], running.admin());
        Self { running: Some(running), ws, wss, admin, _folder: folder }
    }

    /// Connects in clear.
    pub fn connect(&self) -> Wire {
        Wire::connect(self.ws)
    }

    /// Connects by TLS.
    pub fn connect_tls(&self) -> Wire {
        Wire::connect_tls(self.wss)
    }

    /// Connects in clear and sends `bytes`.
    pub fn send(&self, bytes: impl AsRef<[u8]>) -> Wire {
        let mut client = self.connect();
        client.send(bytes);
        client
    }

    /// Opens a session: the client's end and the service's.
    pub fn open(&self, service: &Service) -> (Wire, Wire) {
        self.open_with(service, "", "")
    }

    /// Opens a session with more header lines, separated by `|`, in the offer and in the answer.
    pub fn open_with(&self, service: &Service, offered: &str, answered: &str) -> (Wire, Wire) {
        let client = self.connect();
        Self::open_on(client, service, offered, answered)
    }

    /// Opens a session on a connection of the client's.
    pub fn open_on(mut client: Wire, service: &Service, offered: &str, answered: &str) -> (Wire, Wire) {
        client.send(offer("", offered));
        let (mut upstream, request) = service.request();
        upstream.send(switching(&request, answered));
        let answer = client.head();
        assert_eq!(answer.status(), 101, "{answer:?}");
        (client, upstream)
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop();
        }
    }
}

/// The header lines of a good handshake without those that start with `without`, and with those of `with`,
/// separated by `|`.
pub fn lines(without: &str, with: &str) -> String {
    let good = [
        format!("Host: {HOST}"),
        "Connection: Upgrade".to_owned(),
        "Upgrade: websocket".to_owned(),
        "Sec-WebSocket-Version: 13".to_owned(),
        format!("Sec-WebSocket-Key: {KEY}"),
    ];
    let kept = good.into_iter().filter(|l| without.is_empty() || !l.starts_with(without));
    let added = with.split('|').filter(|l| !l.is_empty()).map(str::to_owned);
    kept.chain(added).map(|l| l + "\r\n").collect()
}

/// A request with `line` as its first and the header lines of [`lines`].
pub fn request(line: &str, without: &str, with: &str) -> String {
    format!("{line}\r\n{}\r\n", lines(without, with))
}

/// A handshake for `/chat?room=1`.
pub fn offer(without: &str, with: &str) -> String {
    request("GET /chat?room=1 HTTP/1.1", without, with)
}

/// A route for every host and path, a Service without a selector, and the slice that says where it is.
pub fn objects(endpoints: &[SocketAddr], spec: &str) -> String {
    let mut more: Vec<&str> = spec.lines().collect();
    if !spec.contains("timeouts:") {
        more.push("timeouts: {close: 1s}");
    }
    if !spec.contains("drain:") {
        more.push("drain: {timeout: 1s, spread: 0s}");
    }
    let more: String = more.iter().flat_map(|l| ["  ", l, "\n"]).collect();
    let port = endpoints[0].port();
    let one = |e: &SocketAddr| {
        format!(
            "- addresses: [{}]
  conditions: {{ready: true}}
",
            e.ip()
        )
    };
    let addresses = endpoints.iter().map(one).collect::<Vec<_>>().concat();
    format!(
        "apiVersion: sheave.dev/v1alpha1
kind: WebSocketRoute
metadata: {{name: chat}}
spec:
  rules:
  - matches: [{{path: {{type: PathPrefix, value: /}}}}]
    backendRefs: [{{name: chat, port: 80}}]
{more}---
apiVersion: v1
kind: Service
metadata: {{name: chat}}
spec:
  ports: [{{name: ws, port: 80}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: chat-1, labels: {{kubernetes.io/service-name: chat}}}}
addressType: IPv4
ports: [{{name: ws, port: {port}}}]
endpoints:
{addresses}"
    )
}
