//! Dials real sockets on loopback and answers like good and bad services.

use super::*;
use crate::proxy::access::Edits;
use crate::proxy::handshake::tests_support::offer;
use crate::proxy::peer::Peer;
use crate::routing::access::{Access, ConnectionLimits};
use crate::routing::{
    Endpoint, EndpointState, Plaintext, Policy, Protocol, Roots, RouteId, RuleId, UpstreamTls, WeightedBackend,
};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

const ACCEPTED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

fn rule(target: BackendTarget) -> Rule {
    let route = RouteId { namespace: "ns".into(), name: "r".into() };
    Rule {
        id: RuleId { route, rule: "0".into() },
        named: false,
        matches: vec![],
        backends: vec![WeightedBackend { weight: 1, target }],
        policy: Arc::new(Policy::default()),
        plaintext: Plaintext::Allow,
        access: Arc::default(),
    }
}

fn service(addresses: &[Address], tls: Option<UpstreamTls>) -> BackendTarget {
    let endpoint = |a: &Address| Endpoint { address: a.clone(), state: EndpointState::Ready, zone: None };
    BackendTarget::Service(Arc::new(Backend {
        id: BackendId { namespace: "ns".into(), service: "s".into(), port: 80 },
        protocol: if tls.is_some() { Protocol::Wss } else { Protocol::Ws },
        tls: tls.map(Arc::new),
        proxy_protocol: None,
        endpoints: addresses.iter().map(endpoint).collect(),
    }))
}

async fn listen() -> (TcpListener, Address) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    (listener, Address::Socket(address))
}

/// An address nobody listens on. The listener was closed, and its port is not given out again so soon.
async fn nobody() -> Address {
    listen().await.1
}

async fn connect(dialer: &Dialer, rule: &Rule, within: Duration) -> Result<Upstream, ConnectError> {
    let address: SocketAddr = ([192, 0, 2, 1], 5000).into();
    let peer = Peer::new(address, ([127, 0, 0, 1], 8080).into());
    let (offered, edits) = (offer(""), Edits::default());
    let forwarded = Forwarded { offer: &offered, peer: &peer, edits: &edits };
    dialer.connect(rule, forwarded, Instant::now() + within, &mut |_, _| {}).await
}

/// Takes one connection, reads the request and sends `answer`; gives back the request and the connection.
async fn answer(listener: TcpListener, answer: &str) -> (String, TcpStream) {
    let (mut stream, _) = listener.accept().await.expect("a connection");
    let mut request = BytesMut::new();
    let head = read_head(&mut stream, &mut request, &HeadLimits::default()).await.expect("a request");
    stream.write_all(answer.as_bytes()).await.expect("written");
    (String::from_utf8_lossy(&head).into_owned(), stream)
}

/// What becomes of a handshake whose service sends `text` and closes.
async fn outcome(text: &str) -> Result<Upstream, ConnectError> {
    let (listener, address) = listen().await;
    let dialer = Dialer::default();
    let rule = rule(service(&[address], None));
    let serve = async { drop(answer(listener, text).await) };
    tokio::join!(connect(&dialer, &rule, Duration::from_secs(10)), serve).0
}

#[tokio::test]
async fn opens_the_upstream_and_keeps_its_first_bytes() {
    let (listener, address) = listen().await;
    let dialer = Dialer::default();
    let rule = rule(service(std::slice::from_ref(&address), None));
    let text = format!("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n{ACCEPTED}frame");
    let (upstream, (request, mut stream)) =
        tokio::join!(connect(&dialer, &rule, Duration::from_secs(10)), answer(listener, &text));
    let mut upstream = upstream.expect("accepted");
    assert!(request.starts_with("GET /ws?x=1 HTTP/1.1\r\nHost: Chat.example.com:8080\r\n"), "{request}");
    assert!(request.contains("\r\nX-Forwarded-For: 192.0.2.1\r\n"), "{request}");
    let mut first = upstream.leftover.to_vec();
    stream.shutdown().await.expect("open");
    upstream.transport.read_to_end(&mut first).await.expect("readable");
    assert_eq!(first, b"frame", "U7");
    assert_eq!(dialer.balancer.sessions(&address), 1);
    assert!(upstream.transport.tcp().nodelay().expect("a live socket"));
    drop(upstream);
    assert_eq!(dialer.balancer.sessions(&address), 0);
}

#[tokio::test]
async fn a_bad_answer_is_refused_with_the_status_of_its_row() {
    for (row, text, status, reason) in [
        (
            "U1",
            "HTTP/1.1 200 OK\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
            200,
            HandshakeReason::BackendStatus,
        ),
        ("U1", "HTTP/1.1 101 x\r\n\r\n", 502, HandshakeReason::BackendProtocol),
        (
            "U2",
            "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
            502,
            HandshakeReason::BackendProtocol,
        ),
        ("U6", &"HTTP/1.1 100 Continue\r\n\r\n".repeat(20), 502, HandshakeReason::BackendProtocol),
        ("U8", "", 502, HandshakeReason::BackendConnect),
        ("U8", "HTTP/1.1 101", 502, HandshakeReason::BackendConnect),
        ("U8", "SSH-2.0-server\r\n\r\n", 502, HandshakeReason::BackendProtocol),
        ("U9", "HTTP/1.1 302 Found\r\nLocation: /login\r\n\r\n", 302, HandshakeReason::BackendStatus),
    ] {
        let error = outcome(text).await.expect_err(row);
        assert_eq!((error.status().as_u16(), error.reason()), (status, reason), "{row}: {error}");
    }
}

#[tokio::test]
async fn a_failed_connect_goes_elsewhere_at_most_twice_and_only_to_new_endpoints() {
    let (listener, good) = listen().await;
    let dialer = Dialer::default();
    let mut addresses = [nobody().await, nobody().await, good.clone()];
    let mut chosen = Vec::new();
    let rule = rule(service(&addresses, None));
    let BackendTarget::Service(backend) = &rule.backends[0].target else { unreachable!("a service was made") };
    let loaded = dialer.balancer.choose(backend, rule.policy.balancing, &addresses[..2], None);
    assert!(loaded.is_ok(), "the good endpoint has a session, so it is the last choice");
    let serve = answer(listener, ACCEPTED);
    let peer = Peer::new(([127, 0, 0, 1], 1).into(), ([127, 0, 0, 1], 2).into());
    let deadline = Instant::now() + Duration::from_secs(10);
    let (offered, edits) = (offer(""), Edits::default());
    let forwarded = Forwarded { offer: &offered, peer: &peer, edits: &edits };
    let mut note = |_: &Arc<Backend>, endpoint: &Address| chosen.push(endpoint.clone());
    let (upstream, _) = tokio::join!(dialer.connect(&rule, forwarded, deadline, &mut note), serve);
    assert_eq!(upstream.expect("accepted").endpoint, good);
    assert_eq!(chosen.last(), Some(&good));
    chosen.sort();
    addresses.sort();
    assert_eq!(chosen, addresses, "each was dialled once");
}

#[tokio::test]
async fn nobody_there_is_502_and_no_endpoint_503_and_no_backend_500() {
    let refused = rule(service(&[nobody().await], None));
    let named = rule(service(&[Address::Name("host.invalid".into(), 1)], None));
    let empty = rule(service(&[], None));
    let invalid = rule(BackendTarget::Invalid("no such Service".into()));
    for (rule, status, reason) in [
        (refused, 502, HandshakeReason::BackendConnect),
        (named, 502, HandshakeReason::BackendConnect),
        (empty, 503, HandshakeReason::NoEndpoint),
        (invalid, 500, HandshakeReason::InvalidBackend),
    ] {
        let error = connect(&Dialer::default(), &rule, Duration::from_secs(10)).await.expect_err("refused");
        assert_eq!((error.status().as_u16(), error.reason()), (status, reason), "{error}");
        assert!(!error.refusal().text.contains("127.0.0.1"), "a stranger learns no address");
    }
}

#[tokio::test]
async fn a_silent_service_is_504() {
    let (listener, address) = listen().await;
    let rule = rule(service(&[address], None));
    let error = connect(&Dialer::default(), &rule, Duration::from_millis(50)).await.expect_err("silent");
    assert_eq!((error.status().as_u16(), error.reason()), (504, HandshakeReason::BackendTimeout));
    drop(listener);
}

#[tokio::test]
async fn a_name_is_resolved_and_each_address_tried() {
    let (listener, address) = listen().await;
    let Address::Socket(socket) = address else { unreachable!("listen gives a literal address") };
    let rule = rule(service(&[Address::Name("localhost".into(), socket.port())], None));
    let dialer = Dialer::default();
    let (upstream, _) = tokio::join!(connect(&dialer, &rule, Duration::from_secs(10)), answer(listener, ACCEPTED));
    upstream.expect("127.0.0.1 is among the addresses of localhost");
}

#[tokio::test]
async fn tls_verifies_the_name_and_the_authority() {
    use tokio_rustls::{TlsAcceptor, rustls};
    let made = rcgen::generate_simple_self_signed(["chat.test".to_owned()]).expect("generated");
    let certificate = made.cert.der().clone();
    let key = rustls_pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![certificate.clone()], key))
        .expect("a key that fits");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let dialer = Dialer::default();
    for (hostname, roots, opens) in [
        ("chat.test", Roots::Certificates(vec![certificate.clone()]), true),
        ("other.test", Roots::Certificates(vec![certificate.clone()]), false),
        ("chat.test", Roots::Certificates(vec![]), false),
    ] {
        let (listener, address) = listen().await;
        let fingerprint = format!("{hostname} {roots:?}").into();
        let tls = UpstreamTls { hostname: hostname.into(), roots, client: None, fingerprint };
        let rule = rule(service(&[address], Some(tls)));
        let serve = async {
            let (tcp, _) = listener.accept().await.expect("a connection");
            let mut stream = acceptor.accept(tcp).await.ok()?;
            let mut buffer = BytesMut::new();
            read_head(&mut stream, &mut buffer, &HeadLimits::default()).await.ok()?;
            stream.write_all(ACCEPTED.as_bytes()).await.ok()?;
            stream.flush().await.ok()
        };
        let (upstream, _) = tokio::join!(connect(&dialer, &rule, Duration::from_secs(10)), serve);
        match upstream {
            Ok(upstream) => assert!(opens && matches!(upstream.transport, Transport::Tls(_)), "{hostname}"),
            Err(ConnectError::Dial { error: DialError::Tls(_), .. }) => assert!(!opens, "{hostname}"),
            Err(error) => panic!("{hostname}: {error}"),
        }
    }
}

#[tokio::test]
async fn a_full_endpoint_is_passed_over_and_when_all_are_full_the_answer_is_503() {
    let (first, second) = (listen().await, listen().await);
    let dialer = Dialer::default();
    let mut rule = rule(service(&[first.1.clone(), second.1.clone()], None));
    let connections = ConnectionLimits { endpoint: Some(1), ..ConnectionLimits::default() };
    rule.access = Arc::new(Access { connections, ..Access::default() });
    let serve = async { (answer(first.0, ACCEPTED).await, answer(second.0, ACCEPTED).await) };
    let connect = || connect(&dialer, &rule, Duration::from_secs(10));
    let (one, other, _served) = tokio::join!(connect(), connect(), serve);
    let (one, other) = (one.expect("accepted"), other.expect("accepted"));
    assert_ne!(one.endpoint, other.endpoint);
    let refused = connect().await.expect_err("both are full");
    assert_eq!((refused.status().as_u16(), refused.reason()), (503, HandshakeReason::ConnectionLimit));
    let (name, wait) = &refused.refusal().headers[0];
    assert!(*name == "Retry-After" && (1..=LONGEST_WAIT).contains(&wait.parse().expect("seconds")), "{name}: {wait}");
    let said = "connectionLimit.maxConnectionsPerEndpoint: 1 are open at every ready endpoint of ns/s:80";
    assert_eq!(refused.to_string(), said);
    drop(one);
    assert!(dialer.balancer.has_other(&other.backend, &[], Some(1)), "its place came back");
}
