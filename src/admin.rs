//! The admin listener: health, metrics, the live table and the live sessions. Read-only.
//!
//! Decides nothing about traffic; what it shows comes from closures that the wiring gives it. It is meant for a thread
//! of its own, so that a busy proxy still answers its probes. Nothing secret passes here: the table shows key material
//! by fingerprint. There is no authentication, so the listener belongs on a private address.

use crate::routing::{RoutingTable, RuleId, decode_query};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// How many connections are served at once; more wait in the listen queue.
const CONNECTIONS: usize = 32;

/// For the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// For a connection as a whole, so that a slow reader cannot keep its place.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);

/// How many sessions `/sessions` shows unless asked for another number.
const SESSIONS: usize = 100;

/// How many it shows at most: about 5 MB of JSON.
const MAX_SESSIONS: usize = 10_000;

const PATHS: &str = "Sheave admin. Paths:
  /livez     200 while the process runs
  /readyz    200 when ready for traffic, else 503 with the reason
  /metrics   Prometheus text
  /table     the live routing table, JSON
  /sessions  live sessions, JSON; ?route=NAMESPACE/NAME[/RULE]&endpoint=ADDRESS&peer=ADDRESS[:PORT]
             &consumer=NAME&limit=N
";

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const METRICS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// What the listener shows.
pub struct Admin {
    /// Whether new connections are welcome; the error is the reason why not, for people.
    pub ready: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
    /// The metrics as Prometheus text.
    pub metrics: Box<dyn Fn() -> String + Send + Sync>,
    /// The live table.
    pub table: Box<dyn Fn() -> Arc<RoutingTable> + Send + Sync>,
    /// The live sessions that the query asks for, at most [`SessionsQuery::limit`] of them.
    pub sessions: Box<dyn Fn(&SessionsQuery) -> serde_json::Value + Send + Sync>,
}

/// Which sessions to show. All given conditions must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionsQuery {
    /// `namespace/name` of a route, or `namespace/name/rule`.
    pub route: Option<String>,
    /// The endpoint as the table shows it.
    pub endpoint: Option<String>,
    /// The client's address, with or without its port.
    pub peer: Option<String>,
    /// The client's name.
    pub consumer: Option<String>,
    /// How many at most, 1 to 10,000. Default 100.
    pub limit: usize,
}

impl SessionsQuery {
    fn parse(query: &str) -> Result<Self, String> {
        let mut parsed = Self { route: None, endpoint: None, peer: None, consumer: None, limit: SESSIONS };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decode_query(value).into_owned();
            match name {
                "route" => parsed.route = Some(value),
                "endpoint" => parsed.endpoint = Some(value),
                "peer" => parsed.peer = Some(value),
                "consumer" => parsed.consumer = Some(value),
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=MAX_SESSIONS).contains(limit));
                    parsed.limit = limit.ok_or_else(|| format!("limit: give a number from 1 to {MAX_SESSIONS}\n"))?;
                }
                _ => return Err("unknown parameter: give route, endpoint, peer, consumer or limit\n".to_owned()),
            }
        }
        Ok(parsed)
    }

    /// Whether a session is asked for.
    pub fn accepts(&self, rule: &RuleId, endpoint: &str, peer: SocketAddr, consumer: Option<&str>) -> bool {
        let route = self.route.as_deref().is_none_or(|wanted| {
            let route = rule.route.to_string();
            wanted == route || wanted.strip_prefix(&route).and_then(|w| w.strip_prefix('/')) == Some(&*rule.rule)
        });
        let peers = |wanted: &str| wanted == peer.to_string() || wanted == peer.ip().to_string();
        route
            && self.endpoint.as_deref().is_none_or(|wanted| wanted == endpoint)
            && self.peer.as_deref().is_none_or(peers)
            && self.consumer.as_deref().is_none_or(|wanted| Some(wanted) == consumer)
    }
}

/// Serves until dropped. Never fails: a connection's trouble is its own.
///
/// # Cancel safety
/// Dropping it stops accepting; connections under way end within their timeout or with their runtime.
pub async fn serve(listener: TcpListener, admin: Admin) {
    let admin = Arc::new(admin);
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let admin = Arc::clone(&admin);
                tokio::spawn(async move {
                    converse(stream, &admin).await;
                    drop(place);
                });
            }
            Err(error) => {
                // Out of descriptors, most likely: they come back when sessions end.
                tracing::warn!(%error, "admin listener cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, admin: &Admin) {
    let service = hyper::service::service_fn(|request: Request<Incoming>| async move {
        Ok::<_, Infallible>(answer(request.method(), request.uri().path(), request.uri().query(), admin))
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(CONNECTION_TIMEOUT, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "admin connection failed"),
        Err(_) => tracing::debug!("admin connection took too long"),
    }
}

fn answer(method: &Method, path: &str, query: Option<&str>, admin: &Admin) -> Response<Full<Bytes>> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut refusal = respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n".into());
        refusal.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refusal;
    }
    match path {
        "/livez" => respond(StatusCode::OK, TEXT, "ok\n".into()),
        "/readyz" => match (admin.ready)() {
            Ok(()) => respond(StatusCode::OK, TEXT, "ok\n".into()),
            Err(reason) => respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, reason + "\n"),
        },
        "/metrics" => respond(StatusCode::OK, METRICS, (admin.metrics)()),
        "/table" => match serde_json::to_string_pretty(&*(admin.table)()) {
            Ok(table) => respond(StatusCode::OK, JSON, table + "\n"),
            Err(error) => respond(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n")),
        },
        "/sessions" => match SessionsQuery::parse(query.unwrap_or_default()) {
            Ok(query) => respond(StatusCode::OK, JSON, format!("{:#}\n", (admin.sessions)(&query))),
            Err(advice) => respond(StatusCode::BAD_REQUEST, TEXT, advice),
        },
        "/" => respond(StatusCode::OK, TEXT, PATHS.into()),
        _ => respond(StatusCode::NOT_FOUND, TEXT, PATHS.into()),
    }
}

fn respond(status: StatusCode, kind: HeaderValue, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::RouteId;
    use http_body_util::BodyExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn admin(ready: Result<(), String>) -> Admin {
        Admin {
            ready: Box::new(move || ready.clone()),
            metrics: Box::new(|| "sheave_draining 0\n".to_owned()),
            table: Box::new(|| Arc::new(RoutingTable::default())),
            sessions: Box::new(|query| serde_json::json!({ "limit": query.limit, "peer": query.peer })),
        }
    }

    async fn ask(admin: &Admin, method: &Method, target: &str) -> (u16, String) {
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let response = answer(method, path, query, admin);
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn readiness_says_why_not() {
        let get = Method::GET;
        assert_eq!(ask(&admin(Ok(())), &get, "/readyz").await, (200, "ok\n".to_owned()));
        let draining = admin(Err("draining".to_owned()));
        assert_eq!(ask(&draining, &get, "/readyz").await, (503, "draining\n".to_owned()));
        assert_eq!(ask(&draining, &get, "/livez").await.0, 200);
    }

    #[tokio::test]
    async fn refuses_what_it_does_not_know_and_says_what_it_does() {
        let admin = admin(Ok(()));
        let (status, body) = ask(&admin, &Method::GET, "/favicon.ico").await;
        assert_eq!(status, 404);
        assert!(body.contains("/sessions"), "{body}");
        assert_eq!(ask(&admin, &Method::POST, "/livez").await.0, 405);
        assert_eq!(ask(&admin, &Method::GET, "/sessions?limit=0").await.0, 400);
        assert_eq!(ask(&admin, &Method::GET, "/sessions?path=/x").await.0, 400);
        let (status, body) = ask(&admin, &Method::GET, "/sessions?peer=%3A%3A1&limit=7").await;
        assert_eq!((status, body.contains("\"limit\": 7") && body.contains("\"::1\"")), (200, true), "{body}");
        assert_eq!(ask(&admin, &Method::GET, "/table").await.0, 200);
    }

    #[tokio::test]
    async fn answers_over_a_socket_and_closes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(serve(listener, admin(Ok(()))));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("sheave_draining 0\n"), "{text}");
        server.abort();
    }

    #[test]
    fn sessions_are_chosen_by_route_rule_endpoint_peer_and_consumer() {
        let rule = RuleId { route: RouteId { namespace: "ns".into(), name: "chat".into() }, rule: "0".into() };
        let accepts = |query: &str| {
            let peer = "[::1]:5000".parse().unwrap();
            SessionsQuery::parse(query).unwrap().accepts(&rule, "10.0.0.1:80", peer, Some("alice"))
        };
        for query in [
            "",
            "route=ns/chat",
            "route=ns/chat/0",
            "peer=::1&endpoint=10.0.0.1:80",
            "peer=%5B::1%5D:5000",
            "consumer=alice",
        ] {
            assert!(accepts(query), "{query}");
        }
        for query in
            ["route=ns", "route=ns/chat/1", "route=ns/chat2", "peer=::2", "endpoint=10.0.0.1:8", "consumer=ali"]
        {
            assert!(!accepts(query), "{query}");
        }
    }
}
