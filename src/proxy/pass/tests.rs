//! Answers of services, as the client gets them.

use super::*;
use crate::proxy::balance::Balancer;
use crate::proxy::head::HeadLimits;
use crate::routing::{BackendId, Endpoint, EndpointState, LoadBalancing, Protocol};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

/// Passes on an answer whose head is `head`, whose first body bytes came with it, and whose rest follows.
async fn pass(head: &str, first: &'static str, rest: &str) -> (io::Result<u64>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    let (dialled, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    let (mut service, _) = accepted.expect("a connection");
    service.write_all(rest.as_bytes()).await.expect("room");
    drop(service);
    let endpoint = Address::Socket(address);
    let ready = Endpoint { address: endpoint.clone(), state: EndpointState::Ready, zone: None };
    let backend = Arc::new(Backend {
        id: BackendId { namespace: "ns".into(), service: "s".into(), port: 80 },
        protocol: Protocol::Ws,
        tls: None,
        proxy_protocol: None,
        endpoints: [ready].into(),
    });
    let (_, lease) =
        Balancer::default().choose(&backend, LoadBalancing::default(), &[], None).expect("one endpoint is ready");
    let answer = Answered {
        head: ResponseHead::parse(&format!("{head}\r\n\r\n").into(), &HeadLimits::default()).expect("well formed"),
        transport: Transport::Plain(dialled.expect("a connection")),
        leftover: Bytes::from_static(first.as_bytes()),
        backend,
        endpoint,
        lease,
    };
    let (mut client, downstream) = tokio::io::duplex(256);
    let receive = async move {
        let mut seen = String::new();
        client.read_to_string(&mut seen).await.expect("text");
        seen
    };
    tokio::join!(pass_on(answer, downstream, Instant::now() + Duration::from_secs(10)), receive)
}

#[tokio::test]
async fn the_refusal_of_a_service_passes_whole() {
    let head = "HTTP/1.1 401 Who Are You\r\nWWW-Authenticate: Bearer\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\
        Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nContent-Length: 9\r\nContent-Type: text/plain";
    let (passed, seen) = pass(head, "not ", "todayjunk").await;
    assert_eq!(passed.expect("whole"), 9);
    assert_eq!(
        seen,
        "HTTP/1.1 401 Who Are You\r\nWWW-Authenticate: Bearer\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\
         Content-Type: text/plain\r\nContent-Length: 9\r\nConnection: close\r\n\r\nnot today"
    );
}

#[tokio::test]
async fn every_framing_of_a_body_ends_where_it_should() {
    for (head, first, rest, framing, body) in [
        (
            "HTTP/1.1 403 No\r\nTransfer-Encoding: chunked",
            "2\r\nno",
            "\r\n0\r\n\r\njunk",
            "Transfer-Encoding: chunked\r\n",
            "2\r\nno\r\n0\r\n\r\n",
        ),
        ("HTTP/1.0 503 No", "until ", "the close", "", "until the close"),
        ("HTTP/1.1 302 Found\r\nContent-Length: 0", "", "junk", "Content-Length: 0\r\n", ""),
        ("HTTP/1.1 304 Same\r\nContent-Length: 70", "", "", "", ""),
        ("HTTP/1.1 400 Bad\r\nContent-Length: 2\r\nContent-Length: 2", "no", "", "Content-Length: 2\r\n", "no"),
    ] {
        let (passed, seen) = pass(head, first, rest).await;
        assert_eq!(passed.expect(head), body.len() as u64, "{head}");
        assert!(seen.ends_with(&format!("\r\n{framing}Connection: close\r\n\r\n{body}")), "{head}: {seen}");
    }
}

#[tokio::test]
async fn an_upgrade_required_keeps_its_upgrade() {
    let head = "HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 8\r\nContent-Length: 0";
    let (_, seen) = pass(head, "", "").await;
    assert!(seen.contains("\r\nSec-WebSocket-Version: 8\r\n"), "{seen}");
    assert!(seen.ends_with("\r\nUpgrade: websocket\r\nConnection: close, Upgrade\r\n\r\n"), "{seen}");
}

#[tokio::test]
async fn no_tunnel_to_a_service_that_answers_200_with_an_upgrade() {
    let head = "HTTP/1.1 200 OK\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x";
    let (_, seen) = pass(head, "body", "").await;
    assert_eq!(seen, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nbody", "U1");
}

#[tokio::test]
async fn ambiguous_framing_is_502() {
    for head in [
        "HTTP/1.1 403 No\r\nContent-Length: 2\r\nTransfer-Encoding: chunked",
        "HTTP/1.1 403 No\r\nContent-Length: 2\r\nContent-Length: 3",
        "HTTP/1.1 403 No\r\nContent-Length: +2",
        "HTTP/1.1 403 No\r\nTransfer-Encoding: gzip, chunked",
    ] {
        let (passed, seen) = pass(head, "no", "").await;
        assert_eq!(passed.expect_err(head).kind(), io::ErrorKind::InvalidData, "{head}");
        assert!(seen.starts_with("HTTP/1.1 502 "), "{head}: {seen}");
    }
}

#[tokio::test]
async fn a_body_cut_short_is_not_completed() {
    let (passed, seen) = pass("HTTP/1.1 403 No\r\nContent-Length: 9", "no", "").await;
    assert_eq!(passed.expect_err("cut").kind(), io::ErrorKind::UnexpectedEof);
    assert!(seen.ends_with("\r\n\r\nno"), "{seen}");
}
