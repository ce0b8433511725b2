//! The duties towards clients, rows C1 to C10: is this a handshake at all? Against the whole proxy over real sockets.
//!
//! A refused handshake gets the status of its row and a reason to read, and nothing of it reaches the service.

mod support;

use sheave::proxy::ListenerLimits;
use std::time::Duration;
use support::{
    FIN, HOST, Harness, PING, Service, TEXT, Wire, frame, lines, masked, offer, refused, refuses_each,
    refuses_each_line, request, switching,
};

#[test]
fn c1_refuses_another_method_or_version_than_get_and_http_1_1() {
    refuses_each_line(&[
        ("C1 POST", "POST /chat HTTP/1.1", 405),
        ("C1 CONNECT", "CONNECT /chat HTTP/1.1", 405),
        ("C1 methods have case", "get /chat HTTP/1.1", 405),
        ("C1 HTTP/1.0", "GET /chat HTTP/1.0", 505),
        ("C1 HTTP/2.0", "GET /chat HTTP/2.0", 505),
        ("C1 no version", "GET /chat", 400),
        ("C1 no request line", "hello", 400),
    ]);
}

#[test]
fn c1_a_refused_method_is_told_the_right_one() {
    let service = Service::start();
    let harness = Harness::start(service.address, "");
    let answer = refused(&harness, &service, "C1", request("POST / HTTP/1.1", "", ""), 405);
    assert_eq!(answer.head.get("Allow"), Some("GET"));
}

#[test]
fn c2_refuses_none_several_or_contradicting_hosts() {
    refuses_each(&[
        ("C2 none", "Host", "", 400),
        ("C2 two", "", "Host: other.example.com", 400),
        ("C2 twice the same", "", "Host: chat.example.com:8080", 400),
        ("C2 empty", "Host", "Host:", 400),
        ("C2 a list", "Host", "Host: a.example.com, b.example.com", 400),
        ("C2 user information", "Host", "Host: user@chat.example.com", 400),
        ("C2 a port that is none", "Host", "Host: chat.example.com:http", 400),
        ("C2 a path", "Host", "Host: chat.example.com/x", 400),
    ]);
    refuses_each_line(&[
        ("C2 another authority", "GET http://other.example.com/chat HTTP/1.1", 400),
        ("C2 another port", "GET http://chat.example.com:81/chat HTTP/1.1", 400),
        ("C2 authority form", "GET chat.example.com:8080 HTTP/1.1", 400),
    ]);
}

#[test]
fn c2_takes_an_absolute_target_that_agrees_with_the_host() {
    let service = Service::start();
    let harness = Harness::start(service.address, "");
    let _client = harness.send(request("GET ws://chat.example.com:8080/chat?room=1 HTTP/1.1", "", ""));
    let (_upstream, head) = service.request();
    assert_eq!(head.start, "GET /chat?room=1 HTTP/1.1");
    assert_eq!(head.get("Host"), Some(HOST));
}

#[test]
fn c3_refuses_a_request_that_asks_for_no_websocket_and_says_so() {
    let service = Service::start();
    let harness = Harness::start(service.address, "");
    for (row, without, with) in [
        ("C3 no Connection", "Connection", ""),
        ("C3 no Upgrade", "Upgrade", ""),
        ("C3 Connection without upgrade", "Connection", "Connection: keep-alive"),
        ("C3 another word that holds it", "Connection", "Connection: upgraded"),
        ("C3 another protocol", "Upgrade", "Upgrade: h2c"),
        ("C3 another word that begins so", "Upgrade", "Upgrade: websockets"),
    ] {
        let answer = refused(&harness, &service, row, offer(without, with), 426);
        assert_eq!(answer.head.get("Upgrade"), Some("websocket"), "{row}");
        assert!(answer.head.lists("Connection", "upgrade"), "{row}");
    }
}

#[test]
fn c3_takes_every_spelling_of_the_upgrade() {
    let service = Service::start();
    let harness = Harness::start(service.address, "");
    for (row, without, with) in [
        ("C3 case", "Connection", "cOnNeCtIoN: uPgRaDe"),
        ("C3 a list", "Connection", "Connection: keep-alive , Upgrade"),
        ("C3 several lines", "Connection", "Connection: keep-alive|Connection: Upgrade"),
        ("C3 empty elements", "Connection", "Connection: ,, Upgrade,"),
        ("C3 case of the protocol", "Upgrade", "upgrade: WebSocket"),
    ] {
        let mut client = harness.send(offer(without, with));
        let (mut upstream, head) = service.request();
        upstream.send(switching(&head, ""));
        assert_eq!(client.head().status(), 101, "{row}");
    }
}

#[test]
fn c4_refuses_a_key_that_is_not_the_base64_of_sixteen_bytes() {
    let name = "Sec-WebSocket-Key";
    refuses_each(&[
        ("C4 none", name, "", 400),
        ("C4 two", "", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", 400),
        ("C4 empty", name, "Sec-WebSocket-Key:", 400),
        ("C4 15 bytes", name, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j", 400),
        ("C4 18 bytes in 24 characters", name, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZWFi", 400),
        ("C4 no padding", name, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ", 400),
        ("C4 bits after the end", name, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZR==", 400),
        ("C4 not base64", name, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub2*jZQ==", 400),
        ("C4 not that base64", name, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub2-jZQ==", 400),
        ("C4 a list", name, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==, x", 400),
    ]);
}

#[test]
fn c5_refuses_another_version_than_thirteen_and_names_it() {
    let name = "Sec-WebSocket-Version";
    let service = Service::start();
    let harness = Harness::start(service.address, "");
    for (row, with) in [("C5 none", ""), ("C5 8", "Sec-WebSocket-Version: 8"), ("C5 013", "Sec-WebSocket-Version: 013")]
    {
        let answer = refused(&harness, &service, row, offer(name, with), 426);
        assert_eq!(answer.head.get("Sec-WebSocket-Version"), Some("13"), "{row}");
    }
    refuses_each(&[
        ("C5 a list", name, "Sec-WebSocket-Version: 13, 8", 400),
        ("C5 twice", "", "Sec-WebSocket-Version: 13", 400),
        ("C5 two lines", "", "Sec-WebSocket-Version: 8", 400),
    ]);
}

#[test]
fn c6_refuses_a_request_with_a_body() {
    refuses_each(&[
        ("C6 length", "", "Content-Length: 5", 400),
        ("C6 two lengths", "", "Content-Length: 0|Content-Length: 0", 400),
        ("C6 signed length", "", "Content-Length: +0", 400),
        ("C6 a list of lengths", "", "Content-Length: 0, 0", 400),
        ("C6 chunked", "", "Transfer-Encoding: chunked", 400),
        ("C6 an unknown coding", "", "Transfer-Encoding: identity", 400),
        ("C6 an empty coding", "", "Transfer-Encoding:", 400),
    ]);
}

#[test]
fn c7_refuses_a_length_beside_a_transfer_coding() {
    refuses_each(&[
        ("C7 length first", "", "Content-Length: 0|Transfer-Encoding: chunked", 400),
        ("C7 coding first", "", "Transfer-Encoding: chunked|Content-Length: 5", 400),
    ]);
    let service = Service::start();
    let harness = Harness::start(service.address, "");
    let smuggled = offer("", "Content-Length: 0|Transfer-Encoding: chunked") + "0\r\n\r\nGET /admin HTTP/1.1\r\n\r\n";
    refused(&harness, &service, "C7 with a request behind it", smuggled, 400);
}

#[test]
fn c8_refuses_lines_that_others_read_differently() {
    refuses_each(&[
        ("C8 folded", "", "X-A: b| c", 400),
        ("C8 folded by a tab", "", "X-A: b|\tc", 400),
        ("C8 space before the colon", "", "X-A : b", 400),
        ("C8 no colon", "", "X-A", 400),
        ("C8 no name", "", ": b", 400),
        ("C8 a name that is no token", "", "X(A): b", 400),
        ("C8 bare CR", "", "X-A: b\rc", 400),
        ("C8 bare LF", "", "X-A: b\nX-B: c", 400),
        ("C8 NUL", "", "X-A: b\0", 400),
        ("C8 DEL", "", "X-A: b\u{7f}", 400),
        ("C8 NUL in a name", "", "X-\0: b", 400),
    ]);
    refuses_each_line(&[
        ("C8 two spaces", "GET  /chat HTTP/1.1", 400),
        ("C8 a space in the target", "GET /chat room HTTP/1.1", 400),
        ("C8 a space before the method", " GET /chat HTTP/1.1", 400),
        ("C8 a space after the version", "GET /chat HTTP/1.1 ", 400),
        ("C8 a tab", "GET\t/chat HTTP/1.1", 400),
    ]);
    let service = Service::start();
    let harness = Harness::start(service.address, "");
    refused(&harness, &service, "C8 LF only", offer("", "").replace("\r\n", "\n"), 400);
    refused(&harness, &service, "C8 LF only at the end", format!("GET / HTTP/1.1\r\n{}\n", lines("", "")), 400);
}

#[test]
fn c9_refuses_a_head_over_its_bounds() {
    let line = format!("GET /{} HTTP/1.1", "a".repeat(9000));
    refuses_each_line(&[("C9 target", &line, 414)]);
    let long = format!("X-A: {}", "b".repeat(17_000));
    refuses_each(&[("C9 one long line", "", &long, 431), ("C9 many lines", "", &"X-A: b|".repeat(120), 431)]);
}

#[test]
fn c9_takes_a_head_within_its_bounds() {
    let service = Service::start();
    let harness = Harness::start(service.address, "");
    let with = format!("{}X-Long: {}", "X-A: b|".repeat(80), "b".repeat(8000));
    let _client = harness.send(offer("", &with));
    let (_upstream, head) = service.request();
    assert_eq!(head.all("X-A").len(), 80);
    assert_eq!(head.get("X-Long").map(str::len), Some(8000));
}

/// A proxy with deadlines that a test can wait for.
fn impatient(service: &Service) -> Harness {
    let bound = Duration::from_secs(1);
    Harness::start_with(&[service.address], "", |options| {
        options.limits = ListenerLimits { tls_handshake: bound, handshake: bound, ..ListenerLimits::default() };
    })
}

#[test]
fn c10_a_head_that_does_not_come_in_time_is_refused() {
    let service = Service::start();
    let harness = impatient(&service);
    refused(&harness, &service, "C10 half a head", "GET /chat HTTP/1.1\r\nHost: chat", 408);
}

#[test]
fn c10_a_byte_at_a_time_buys_no_time() {
    let service = Service::start();
    let harness = impatient(&service);
    let mut client = harness.connect();
    let sent = std::iter::from_fn(|| {
        let byte = client.try_send("G").is_ok();
        (byte && client.is_quiet(Duration::from_millis(20))).then_some(())
    });
    assert!(sent.take(200).count() < 200, "4 s of single bytes");
    assert!(service.is_untouched());
}

#[test]
fn c10_a_silent_client_is_left_without_a_word() {
    let service = Service::start();
    let harness = impatient(&service);
    assert_eq!(harness.connect().rest(), b"");
    assert!(service.is_untouched());
}

#[test]
fn c10_a_tls_handshake_has_its_own_deadline() {
    let service = Service::start();
    let harness = impatient(&service);
    let mut silent = Wire::connect(harness.wss);
    silent.gone();
    let mut stalled = Wire::connect(harness.wss);
    stalled.send([0x16, 3, 1, 2, 0, 1]); // the start of a ClientHello
    stalled.gone();
    assert!(service.is_untouched());
}

#[test]
fn the_refused_do_not_disturb_the_living() {
    let service = Service::start();
    let harness = Harness::start(service.address, "");
    let (mut client, mut upstream) = harness.open(&service);
    refused(&harness, &service, "C4 beside a session", offer("Sec-WebSocket-Key", ""), 400);
    let ping = masked(FIN | PING, b"still there?");
    client.send(&ping);
    assert_eq!(upstream.take(ping.len()), ping);
}

#[test]
fn a_client_that_leaves_in_the_middle_of_its_head_reaches_nobody() {
    let service = Service::start();
    let harness = Harness::start(service.address, "");
    let mut client = harness.send("GET /chat HTTP/1.1\r\nHost:");
    client.finish();
    assert_eq!(client.answer().head.status(), 400);
    refused(&harness, &service, "a frame where a head should be", frame(FIN | TEXT, b"hi"), 400);
    refused(&harness, &service, "TLS where none is spoken", [0x16, 3, 1, 2, 0, 1], 400);
    assert!(service.is_untouched());
}
