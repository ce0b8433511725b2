//! Where a client comes from: the PROXY protocol in and out, and the headers of load balancers.

use super::living::certificate::{make, trusting};
use super::living::folder::{Folder, route, service, simple, slice};
use super::living::{Sheave, within};
use super::witness::{Answer, Witness, ask, from};
use rustls_pki_types::ServerName;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsConnector;

/// The load balancer, whose address is trusted, and somebody else.
const BALANCER: &str = "127.0.0.2";
const STRANGER: &str = "127.0.0.1";

/// A class with this detection, the default one.
fn class(detection: &str) -> String {
    named_class("websocket", detection, true)
}

fn named_class(name: &str, detection: &str, default: bool) -> String {
    format!(
        "---\napiVersion: sheave.dev/v1alpha1\nkind: WebSocketClass\nmetadata: {{name: {name}, annotations: \
         {{sheave.dev/is-default-class: \"{default}\"}}}}\nspec:\n  controllerName: sheave.dev/controller\n  \
         clientIPDetection: {{{detection}}}\n"
    )
}

/// A Sheave whose route `app` leads to a witness.
async fn detecting(detection: &str, spec: &[&str]) -> (Folder, Witness, Sheave) {
    let witness = Witness::start().await;
    let folder = Folder::with(&(class(detection) + &simple("app", witness.port, spec)));
    let sheave = Sheave::start(&folder);
    (folder, witness, sheave)
}

/// Sends bytes, then a handshake.
async fn says(at: SocketAddr, source: &str, preface: &[u8], lines: &str) -> Answer {
    let mut stream = from(source, at).await;
    stream.write_all(preface).await.expect("it can be sent");
    ask(&mut stream, "app.test", lines).await
}

/// A header of version 2 over TCP and IPv4 from 192.0.2.7:4711, with an extension behind the addresses.
fn v2(command: u8) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend_from_slice(&[0x20 | command, 0x11, 0, 17]);
    header.extend_from_slice(&[192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x67, 1, 187, 4, 0, 2, 9, 9]);
    header
}

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 443\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn forwarded_headers_are_believed_from_a_trusted_address_only() {
    let (_folder, witness, sheave) = detecting("trustedCIDRs: [127.0.0.2/32], numTrustedHops: 1", &[]).await;
    for (lines, seen) in [
        ("X-Forwarded-For: 192.0.2.7\r\n", "192.0.2.7"),
        ("X-Forwarded-For: 203.0.113.66, 192.0.2.7\r\n", "192.0.2.7"),
        ("X-Forwarded-For: 203.0.113.66\r\nX-Forwarded-For: 2001:db8::7\r\n", "2001:db8::7"),
        ("Forwarded: for=203.0.113.66, for=\"[2001:db8::7]:4711\";proto=https\r\n", "2001:db8::7"),
        ("Forwarded: for=203.0.113.66\r\nX-Forwarded-For: 192.0.2.7\r\n", "192.0.2.7"),
        ("X-Forwarded-For: unknown\r\n", BALANCER),
        ("", BALANCER),
    ] {
        assert_eq!(says(sheave.ws, BALANCER, b"", lines).await.status, 101);
        assert_eq!(witness.header("X-Forwarded-For"), [seen], "{lines}");
        assert_eq!(says(sheave.ws, STRANGER, b"", lines).await.status, 101);
        assert_eq!(witness.header("X-Forwarded-For"), [STRANGER], "forged: {lines}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_two_trusted_hops_the_second_entry_from_the_right_is_the_client() {
    let (_folder, witness, sheave) = detecting("trustedCIDRs: [127.0.0.2/32], numTrustedHops: 2", &[]).await;
    for (lines, seen) in [
        ("X-Forwarded-For: 203.0.113.66, 192.0.2.7, 198.51.100.1\r\n", "192.0.2.7"),
        ("Forwarded: for=203.0.113.66, for=192.0.2.7\r\nForwarded: for=198.51.100.1\r\n", "192.0.2.7"),
        ("X-Forwarded-For: 198.51.100.1\r\n", BALANCER),
    ] {
        assert_eq!(says(sheave.ws, BALANCER, b"", lines).await.status, 101);
        assert_eq!(witness.header("X-Forwarded-For"), [seen], "{lines}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_optional_proxy_header_is_read_from_a_trusted_address_only() {
    let detection = "proxyProtocol: Optional, trustedCIDRs: [127.0.0.2/32]";
    let (_folder, witness, sheave) = detecting(detection, &[]).await;
    let (v2_proxy, v2_local) = (v2(1), v2(0));
    for (preface, seen) in [
        (V1, "192.0.2.7"),
        (&v2_proxy, "192.0.2.7"),
        (b"PROXY TCP6 2001:db8::7 ::1 4711 443\r\n", "2001:db8::7"),
        (b"PROXY UNKNOWN\r\n", BALANCER),
        (&v2_local, BALANCER),
        (b"", BALANCER),
    ] {
        let answer = says(sheave.ws, BALANCER, preface, "X-Forwarded-For: 203.0.113.66\r\n").await;
        assert_eq!(answer.status, 101, "{preface:?}");
        assert_eq!(witness.header("X-Forwarded-For"), [seen], "{preface:?}");
    }
    let reached = witness.count();
    assert_eq!(says(sheave.ws, STRANGER, b"", "").await.status, 101);
    for preface in [V1, &v2_proxy] {
        assert_ne!(says(sheave.ws, STRANGER, preface, "").await.status, 101, "it is no HTTP");
    }
    assert_eq!(witness.count(), reached + 1, "no forged header reaches a backend");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_header_may_come_in_pieces_and_ends_at_its_last_byte() {
    let detection = "proxyProtocol: Optional, trustedCIDRs: [127.0.0.2/32]";
    let (_folder, witness, sheave) = detecting(detection, &[]).await;
    for header in [V1.to_vec(), v2(1)] {
        let mut stream = from(BALANCER, sheave.ws).await;
        stream.set_nodelay(true).expect("it can be set");
        for byte in header {
            stream.write_all(&[byte]).await.expect("it can be sent");
            tokio::task::yield_now().await;
        }
        assert_eq!(ask(&mut stream, "app.test", "").await.status, 101);
        assert_eq!(witness.header("X-Forwarded-For"), ["192.0.2.7"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_proxy_header_is_required_nothing_goes_without() {
    let detection = "proxyProtocol: Required, trustedCIDRs: [127.0.0.2/32]";
    let (_folder, witness, sheave) = detecting(detection, &[]).await;
    assert_eq!(says(sheave.ws, BALANCER, V1, "").await.status, 101);
    assert_eq!(witness.header("X-Forwarded-For"), ["192.0.2.7"]);
    assert_eq!(says(sheave.ws, BALANCER, &v2(0), "").await.status, 101, "a health check");
    for source in [BALANCER, STRANGER] {
        let answer = says(sheave.ws, source, b"", "").await;
        assert_eq!(answer.status, 400, "{answer:?}");
    }
    assert_eq!(witness.count(), 2, "a refused handshake reaches no backend");
    sheave.metric_becomes("sheave_handshakes_total", &[("reason", "proxy_protocol"), ("route", "app")], 2.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_proxy_header_is_closed_without_an_answer_and_counted() {
    let detection = "proxyProtocol: Optional, trustedCIDRs: [127.0.0.2/32]";
    let (_folder, witness, sheave) = detecting(detection, &[]).await;
    let endless = format!("PROXY UNKNOWN {}", "x".repeat(200));
    let large = [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &[0x21, 0x11, 0xff, 0xff]].concat();
    let faulty: [&[u8]; 4] = [b"PROXY TCP4 192.0.2.7 10.0.0.1 4711\r\n", endless.as_bytes(), &large, &v2(5)];
    for preface in faulty {
        assert_eq!(says(sheave.ws, BALANCER, preface, "").await.status, 0, "{preface:?}");
    }
    assert_eq!(witness.count(), 0);
    sheave.metric_becomes("sheave_handshakes_total", &[("reason", "proxy_protocol")], 4.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_header_comes_before_tls() {
    let (witness, made) = (Witness::start().await, make(&["app.test"]));
    let detection = class("proxyProtocol: Required, trustedCIDRs: [127.0.0.2/32]");
    let route = simple("app", witness.port, &["tls: {certificateRefs: [{name: cert}]}"]);
    let folder = Folder::with(&(detection + &route + &made.secret("cert")));
    let sheave = Sheave::start(&folder);
    let connector = TlsConnector::from(trusting(&[&made]));
    for (preface, status) in [(V1.to_vec(), 101), (v2(1), 101), (vec![], 400)] {
        let mut tcp = from(BALANCER, sheave.wss).await;
        tcp.write_all(&preface).await.expect("it can be sent");
        let name = ServerName::try_from("app.test").expect("a name");
        let mut tls = within("TLS", connector.connect(name, tcp)).await.expect("TLS begins behind the header");
        assert_eq!(ask(&mut tls, "app.test", "").await.status, status);
    }
    assert_eq!(witness.header("X-Forwarded-For"), ["192.0.2.7"]);
    let mut tcp = from(STRANGER, sheave.wss).await;
    tcp.write_all(V1).await.expect("it can be sent");
    let name = ServerName::try_from("app.test").expect("a name");
    within("TLS", connector.connect(name, tcp)).await.expect_err("from elsewhere it is no TLS");
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_are_judged_by_what_was_detected() {
    let detection = "proxyProtocol: Optional, trustedCIDRs: [127.0.0.2/32], numTrustedHops: 1";
    let (_folder, witness, sheave) = detecting(detection, &["clientCIDRs: {deny: [192.0.2.0/24]}"]).await;
    assert_eq!(says(sheave.ws, BALANCER, V1, "").await.status, 403);
    assert_eq!(says(sheave.ws, BALANCER, b"", "X-Forwarded-For: 192.0.2.9\r\n").await.status, 403);
    assert_eq!(witness.count(), 0, "a refused handshake reaches no backend");
    assert_eq!(says(sheave.ws, BALANCER, V1, "X-Forwarded-For: 203.0.113.9\r\n").await.status, 101);
    assert_eq!(says(sheave.ws, STRANGER, b"", "X-Forwarded-For: 192.0.2.9\r\n").await.status, 101);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_one_class_reads_means_nothing_to_another() {
    let (reads, does_not) = (Witness::start().await, Witness::start().await);
    let text = class("proxyProtocol: Optional, trustedCIDRs: [127.0.0.2/32]")
        + &named_class("plain", "proxyProtocol: Disabled", false)
        + &simple("app", reads.port, &[])
        + &simple("other", does_not.port, &["className: plain"]);
    let folder = Folder::with(&text);
    let sheave = Sheave::start(&folder);
    let mut stream = from(BALANCER, sheave.ws).await;
    stream.write_all(V1).await.expect("it can be sent");
    assert_eq!(ask(&mut stream, "other.test", "").await.status, 101);
    assert_eq!(does_not.header("X-Forwarded-For"), [BALANCER]);
    assert_eq!(says(sheave.ws, BALANCER, V1, "").await.status, 101);
    assert_eq!(reads.header("X-Forwarded-For"), ["192.0.2.7"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_is_told_the_client_before_the_first_byte() {
    let witness = Witness::start().await;
    let route = |version: &str| {
        let text = route("app", "app.test", &[], &[("app", 1)]);
        text.replace("port: 80, weight: 1", &format!("port: 80, weight: 1, proxyProtocol: {version}"))
    };
    let served = service("app") + &slice("app", "app", witness.port, "ready: true");
    let detection = class("trustedCIDRs: [127.0.0.2/32], numTrustedHops: 1");
    for version in ["V1", "V2"] {
        let folder = Folder::with(&(detection.clone() + &route(version) + &served));
        let sheave = Sheave::start(&folder);
        for (source, lines) in [(STRANGER, ""), (BALANCER, "X-Forwarded-For: 2001:db8::7\r\n")] {
            let mut stream = from(source, sheave.ws).await;
            let port = stream.local_addr().expect("it is bound").port();
            assert_eq!(ask(&mut stream, "app.test", lines).await.status, 101);
            let to = sheave.ws.port();
            let expected = match (version, source) {
                ("V1", STRANGER) => format!("PROXY TCP4 127.0.0.1 127.0.0.1 {port} {to}\r\n").into_bytes(),
                ("V1", _) => format!("PROXY TCP6 2001:db8::7 ::ffff:127.0.0.1 0 {to}\r\n").into_bytes(),
                (_, STRANGER) => {
                    let fixed = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01".as_slice();
                    [fixed, &port.to_be_bytes(), &to.to_be_bytes()].concat()
                }
                _ => {
                    let fixed = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24".as_slice();
                    let from = b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x07".as_slice();
                    let own = b"\0\0\0\0\0\0\0\0\0\0\xff\xff\x7f\0\0\x01".as_slice();
                    [fixed, from, own, &[0, 0], &to.to_be_bytes()].concat()
                }
            };
            let seen = witness.last();
            let end = seen.windows(4).position(|window| window == b"GET ").expect("a handshake follows");
            assert_eq!(seen[..end], expected, "{version} {source}: {}", String::from_utf8_lossy(&seen));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_speaks_tls_is_told_before_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("the loopback has a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let made = make(&["app.internal"]);
    let pem = made.certificate.replace('\n', "\n    ");
    let rule = "rules: [{backendRefs: [{name: app, port: 80, protocol: WSS, proxyProtocol: V1}], backendTLS: {hostname: \
                app.internal, caCertificateRefs: [{name: ca}]}}]";
    let text = format!(
        "---\napiVersion: sheave.dev/v1alpha1\nkind: WebSocketRoute\nmetadata: {{name: app}}\nspec:\n  hostnames: \
         [app.test]\n  {rule}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: ca}}\ndata:\n  ca.crt: |\n    \
         {pem}\n"
    );
    let served = service("app") + &slice("app", "app", port, "ready: true");
    let folder = Folder::with(&(text + &served));
    let sheave = Sheave::start(&folder);
    let mut client = from(STRANGER, sheave.ws).await;
    let own = client.local_addr().expect("it is bound").port();
    let asking = tokio::spawn(async move { ask(&mut client, "app.test", "").await.status });
    let (mut stream, _) = within("a connection", listener.accept()).await.expect("Sheave connects");
    let expected = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {own} {}\r\n", sheave.ws.port());
    let mut seen = vec![0; expected.len() + 1];
    within("the header", stream.read_exact(&mut seen)).await.expect("it comes");
    assert_eq!(String::from_utf8_lossy(&seen), expected + "\x16", "the header, then a TLS handshake record");
    drop(stream);
    assert_eq!(asking.await.expect("it ends"), 502);
}
