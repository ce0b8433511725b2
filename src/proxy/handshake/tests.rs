//! What is read as an offer, and what is refused how: the rows of the opening handshake.

use super::*;
use std::time::Duration;
use tokio::io::AsyncWriteExt;

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// A good handshake with the lines that start with `without` left out and `with` added.
fn lines(without: &str, with: &str) -> String {
    let good = [
        "Host: Chat.example.com:8080".to_owned(),
        "Connection: keep-alive, Upgrade".to_owned(),
        "Upgrade: websocket".to_owned(),
        "Sec-WebSocket-Version: 13".to_owned(),
        format!("Sec-WebSocket-Key: {KEY}"),
    ];
    let kept = good.into_iter().filter(|l| without.is_empty() || !l.starts_with(without));
    let added = with.split('|').filter(|l| !l.is_empty()).map(str::to_owned);
    kept.chain(added).map(|l| l + "\r\n").collect()
}

async fn read(text: &str) -> Result<Offer, HandshakeError> {
    let deadline = Instant::now() + Duration::from_secs(10);
    read_offer(&mut text.as_bytes(), Scheme::Ws, deadline, &HeadLimits::default()).await
}

async fn offer(without: &str, with: &str) -> Result<Offer, HandshakeError> {
    read(&format!("GET /ws?x=1 HTTP/1.1\r\n{}\r\nframes", lines(without, with))).await
}

#[tokio::test]
async fn reads_an_offer() {
    let with = "Sec-WebSocket-Protocol: mqtt, chat|Sec-WebSocket-Extensions: permessage-deflate|X-Request-Id: abc";
    let offer = offer("", with).await.expect("a good handshake");
    assert_eq!((offer.path(), offer.query(), offer.target()), ("/ws", Some("x=1"), "/ws?x=1"));
    assert_eq!((&*offer.host, &*offer.authority), ("chat.example.com", "Chat.example.com:8080"));
    assert_eq!((&offer.key[..], &*offer.request_id), (KEY.as_bytes(), "abc"));
    assert_eq!(offer.subprotocols.join(" "), "mqtt chat");
    assert!(offer.offers_deflate);
    assert_eq!(offer.leftover, "frames");
    offer.with_request(|request| {
        assert_eq!(request.header("upgrade").collect::<Vec<_>>(), ["websocket"]);
        assert_eq!(request.subprotocols, ["mqtt", "chat"]);
    });
}

#[tokio::test]
async fn debug_shows_no_credential() {
    let offer = offer("", "Sec-WebSocket-Protocol: token-secret").await.expect("a good handshake");
    let shown = format!("{offer:?}");
    assert!(!shown.contains("secret") && !shown.contains("x=1") && !shown.contains(KEY), "{shown}");
}

#[tokio::test]
async fn accepts_every_spelling_of_an_upgrade() {
    for (without, with) in [
        ("Connection", "connection: close|CONNECTION: uPGRADE"),
        ("Upgrade", "upgrade: h2c, WebSocket"),
        ("", "Content-Length: 0"),
        ("", "HTTP2-Settings: AAM|Upgrade: h2c"),
    ] {
        assert!(offer(without, with).await.is_ok(), "{with}");
    }
}

#[tokio::test]
async fn refuses_header_lines_with_the_status_of_their_row() {
    let long = format!("X: {}", "y".repeat(17_000));
    let many = "X: y|".repeat(101);
    let nominations = format!("Connection: {}", "a,".repeat(40));
    for (row, without, with, status) in [
        ("C2", "Host", "", 400),
        ("C2", "", "Host: other", 400),
        ("C2", "Host", "Host: a b", 400),
        ("C2", "Host", "Host:", 400),
        ("C3", "Connection", "", 426),
        ("C3", "Upgrade", "", 426),
        ("C3", "Upgrade", "Upgrade: h2c", 426),
        ("C3", "Upgrade", "Upgrade: websockets", 426),
        ("C4", "Sec-WebSocket-Key", "", 400),
        ("C4", "", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", 400),
        ("C4", "Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j", 400),
        ("C4", "Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZR==", 400),
        ("C4", "Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZWFi", 400),
        ("C4", "Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub2*jZQ==", 400),
        ("C5", "Sec-WebSocket-Version", "Sec-WebSocket-Version: 8", 426),
        ("C5", "Sec-WebSocket-Version", "", 426),
        ("C5", "Sec-WebSocket-Version", "Sec-WebSocket-Version: 13, 8", 400),
        ("C5", "", "Sec-WebSocket-Version: 13", 400),
        ("C6", "", "Content-Length: 5", 400),
        ("C6", "", "Content-Length: 0|Content-Length: 0", 400),
        ("C6", "", "Content-Length: +0", 400),
        ("C6", "", "Transfer-Encoding: chunked", 400),
        ("C6", "", "Transfer-Encoding:", 400),
        ("C7", "", "Content-Length: 0|Transfer-Encoding: chunked", 400),
        ("C8", "", " folded", 400),
        ("C8", "", "Name : x", 400),
        ("C8", "", "X: a\nY: b", 400),
        ("C8", "", "X: a\rb", 400),
        ("C8", "", "X: a\0", 400),
        ("C9", "", &long, 431),
        ("C9", "", &many, 431),
        ("C11", "", "Connection: X-Forwarded-For", 400),
        ("C11", "", "Connection: x_forwarded_for", 400),
        ("C11", "", "Connection: Authorization", 400),
        ("C11", "", "Connection: cookie", 400),
        ("C11", "", "Connection: Sec-WebSocket-Key", 400),
        ("C11", "", &nominations, 400),
        ("C13", "", "Sec-WebSocket-Protocol: a b", 400),
        ("C13", "", "Sec-WebSocket-Protocol: a,,b", 400),
        ("C13", "", "Sec-WebSocket-Protocol: a, a", 400),
        ("C14", "", "Sec-WebSocket-Extensions: a;;b", 400),
    ] {
        let error = offer(without, with).await.expect_err(with);
        let got = error.status().map(|s| s.as_u16());
        assert_eq!(got, Some(status), "{row}: without {without:?} with {:?}: {error}", &with[..with.len().min(80)]);
    }
}

#[tokio::test]
async fn refuses_request_lines_with_the_status_of_their_row() {
    let long = format!("GET /{} HTTP/1.1", "a".repeat(9000));
    for (row, line, status) in [
        ("C1", "POST /ws HTTP/1.1", 405),
        ("C1", "get /ws HTTP/1.1", 405),
        ("C1", "GET /ws HTTP/1.0", 505),
        ("C1", "GET /ws", 400),
        ("C1", "\u{16}\u{3}\u{1}", 400),
        ("C2", "GET http://other/ws HTTP/1.1", 400),
        ("C9", &long, 414),
        ("C18", "GET * HTTP/1.1", 400),
        ("C18", "GET ws HTTP/1.1", 400),
        ("C18", "GET /ws/../admin HTTP/1.1", 400),
        ("C18", "GET /%2e%2e/admin HTTP/1.1", 400),
        ("C18", "GET /ws#x HTTP/1.1", 400),
        ("C18", "GET /ws?a#x HTTP/1.1", 400),
        ("C18", "GET http://chat.example.com:8080#x HTTP/1.1", 400),
    ] {
        let error = read(&format!("{line}\r\n{}\r\n", lines("", ""))).await.expect_err(line);
        assert_eq!(
            error.status().map(|s| s.as_u16()),
            Some(status),
            "{row}: {:?}: {error}",
            &line[..line.len().min(80)]
        );
    }
}

#[tokio::test]
async fn takes_the_absolute_form_as_its_path() {
    for (line, path, target) in [
        ("GET http://chat.example.com:8080/ws?a HTTP/1.1", "/ws", "/ws?a"),
        ("GET ws://CHAT.example.com:8080 HTTP/1.1", "/", "/"),
        ("GET ws://chat.example.com:8080?a HTTP/1.1", "/", "/?a"),
    ] {
        let offer = read(&format!("{line}\r\n{}\r\n", lines("", ""))).await.expect(line);
        assert_eq!((offer.path(), offer.target()), (path, target), "{line}");
    }
}

#[tokio::test]
async fn an_upgrade_required_says_to_what() {
    let headers = |error: HandshakeError| error.refusal().expect("a refusal").headers;
    let error = offer("Upgrade", "").await.expect_err("no upgrade");
    assert_eq!(headers(error), [("Upgrade", "websocket".into())]);
    let error = offer("Sec-WebSocket-Version", "Sec-WebSocket-Version: 7").await.expect_err("wrong version");
    assert!(headers(error).contains(&("Sec-WebSocket-Version", "13".into())));
}

#[tokio::test(start_paused = true)]
async fn a_late_head_is_refused_and_a_silent_client_is_left() {
    for (sent, status) in [(&b""[..], None), (b"GET / HT", Some(StatusCode::REQUEST_TIMEOUT))] {
        let (mut client, mut server) = tokio::io::duplex(1024);
        client.write_all(sent).await.expect("room");
        let deadline = Instant::now() + Duration::from_secs(10);
        let read = read_offer(&mut server, Scheme::Ws, deadline, &HeadLimits::default()).await;
        assert_eq!(read.expect_err("late").status(), status, "{sent:?}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_at_once_gets_no_answer() {
    assert_eq!(read("").await.expect_err("nothing").status(), None);
    assert_eq!(read("GET").await.expect_err("cut").status(), Some(StatusCode::BAD_REQUEST));
}
