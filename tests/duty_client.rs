//! The duties towards clients, rows C1 to C16 and C18, against the whole proxy over real sockets.
//!
//! A refused handshake gets the status of its row and a reason to read, and nothing of it reaches the service.

mod support;

use sheave::proxy::ListenerLimits;
use std::time::Duration;
use support::{Answer, BINARY, FIN, HOST, Harness, KEY, PING, RSV1, Service, TEXT, Wire, close, lines, masked, offer, request, switching};

/// Sends `bytes` and expects a whole refusal with `status`, of which nothing reached the service.
fn refused(harness: &Harness, service: &Service, row: &str, bytes: impl AsRef<[u8]>, status: u16) -> Answer {
    let shown = String::from_utf8_lossy(&bytes.as_ref()[..bytes.as_ref().len().min(300)]).into_owned();
    let row = format!("{row}: {shown:?}");
    let mut client = harness.send(bytes);
    let answer = client.answer();
    assert_eq!(answer.head.status(), status, "{row}: {answer:?}");
    assert!(answer.head.lists("Connection", "close"), "{row}: says that it closes: {answer:?}");
    assert!(answer.head.get("Content-Type").is_some_and(|t| t.starts_with("text/plain")), "{row}: {answer:?}");
    assert!(answer.body.len() > 10, "{row}: has a reason to read: {answer:?}");
    assert_eq!(client.rest(), b"", "{row}: closes after its answer");
    assert!(service.is_untouched(), "{row}: reached the service");
    answer
}

/// One offer for each row of (name of the row, header to leave out, lines to add, status).
fn refuses_each(rows: &[(&str, &str, &str, u16)]) {
    let service = Service::start();
    let harness = Harness::start(service.address, "");
    for (row, without, with, status) in rows {
        refused(&harness, &service, row, offer(without, with), *status);
    }
}

/// One request for each row of (name of the row, first line, status).
fn refuses_each_line(rows: &[(&str, &str, u16)]) {
    let service = Service::start();
    let harness = Harness::start(service.address, "");
    for (row, line, status) in rows {
        refused(&harness, &service, row, request(line, "", ""), *status);
    }
}

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
    for (row, with) in [("C5 none", ""), ("C5 8", "Sec-WebSocket-Version: 8"), ("C5 013", "Sec-WebSocket-Version: 013")] {
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
    let bound = Duration::from_millis(300);
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
fn c11_refuses_a_connection_header_that_takes_away_what_others_rely_on() {
    let long = format!("Connection: {}", "a,".repeat(40));
    refuses_each(&[
        ("C11 X-Forwarded-For", "", "Connection: X-Forwarded-For", 400),
        ("C11 underscores", "", "Connection: x_forwarded_for", 400),
        ("C11 Forwarded", "", "Connection: Forwarded", 400),
        ("C11 X-Real-IP", "", "Connection: X-Real-IP", 400),
        ("C11 Host", "", "Connection: Host", 400),
        ("C11 Origin", "", "Connection: Origin", 400),
        ("C11 Authorization", "", "Connection: authorization", 400),
        ("C11 Cookie", "Connection", "Connection: Upgrade, Cookie", 400),
        ("C11 Sec-WebSocket-Key", "", "Connection: Sec-WebSocket-Key", 400),
        ("C11 Sec-WebSocket-Protocol", "", "Connection: Sec-WebSocket-Protocol", 400),
        ("C11 a long list", "", &long, 400),
    ]);
}

#[test]
fn c11_what_connection_names_ends_at_this_hop() {
    let service = Service::start();
    let harness = Harness::start(service.address, "");
    let with = "Connection: X-Hop|X-Hop: a|X-End: b|Keep-Alive: timeout=5|TE: trailers|Proxy-Connection: keep-alive";
    let _client = harness.send(offer("", with));
    let (_upstream, head) = service.request();
    assert_eq!(head.get("Connection"), Some("Upgrade"));
    assert_eq!(head.get("X-End"), Some("b"));
    for name in ["X-Hop", "Keep-Alive", "TE", "Proxy-Connection"] {
        assert_eq!(head.get(name), None, "C11 {name}");
    }
}

#[test]
fn c12_headers_about_the_client_are_ours_in_every_spelling() {
    let service = Service::start();
    let harness = Harness::start(service.address, "");
    let names = [
        "X-Forwarded-For", "x_forwarded_for", "X-Forwarded_For", "X-Forwarded-Proto", "X-Forwarded-Host", "X_Forwarded_Host",
        "X-Forwarded-Port", "X-Forwarded-Prefix", "X-Forwarded-Client-Cert", "Forwarded", "X-Real-IP", "x_real_ip",
        "Client-Cert", "Client-Cert-Chain", "SSL-Client-Cert", "ssl_client_verify", "X-SSL-Client-DN", "X-Client-Cert",
    ];
    for (name, client, proto) in
        names.iter().flat_map(|n| [(n, harness.connect(), "http"), (n, harness.connect_tls(), "https")])
    {
        let mut client = client;
        client.send(offer("", &format!("{name}: spoofed")));
        let (_upstream, head) = service.request();
        assert!(!format!("{head:?}").contains("spoofed"), "C12 {name} by {proto}: {head:?}");
        assert_eq!(head.get("X-Forwarded-For"), Some("127.0.0.1"), "C12 {name}");
        assert_eq!(head.get("X-Forwarded-Proto"), Some(proto), "C12 {name}");
        assert_eq!(head.get("X-Forwarded-Host"), Some(HOST), "C12 {name}");
        let forwarded = format!("for=127.0.0.1;host=\"{HOST}\";proto={proto}");
        assert_eq!(head.get("Forwarded"), Some(&*forwarded), "C12 {name}");
    }
}

#[test]
fn c13_refuses_a_subprotocol_list_that_is_not_one() {
    refuses_each(&[
        ("C13 a space", "", "Sec-WebSocket-Protocol: a b", 400),
        ("C13 an empty element", "", "Sec-WebSocket-Protocol: a,,b", 400),
        ("C13 empty", "", "Sec-WebSocket-Protocol:", 400),
        ("C13 a duplicate", "", "Sec-WebSocket-Protocol: a, b, a", 400),
        ("C13 a duplicate on another line", "", "Sec-WebSocket-Protocol: a|Sec-WebSocket-Protocol: a", 400),
        ("C13 no token", "", "Sec-WebSocket-Protocol: a/b", 400),
    ]);
}

#[test]
fn c13_c14_what_is_offered_reaches_the_service_and_what_is_chosen_the_client() {
    let service = Service::start();
    let harness = Harness::start(service.address, "");
    let deflate = "permessage-deflate; client_max_window_bits; server_max_window_bits=\"10\", x-other";
    let mut client =
        harness.send(offer("", &format!("Sec-WebSocket-Protocol: mqtt, v1.Chat|Sec-WebSocket-Extensions: {deflate}")));
    let (mut upstream, head) = service.request();
    assert_eq!(head.get("Sec-WebSocket-Protocol"), Some("mqtt, v1.Chat"));
    assert_eq!(head.get("Sec-WebSocket-Extensions"), Some(deflate));
    assert_eq!(head.get("Sec-WebSocket-Key"), Some(KEY), "end to end, as the Accept is");
    upstream.send(switching(&head, "Sec-WebSocket-Protocol: v1.Chat|Sec-WebSocket-Extensions: permessage-deflate"));
    let answer = client.head();
    assert_eq!(answer.get("Sec-WebSocket-Protocol"), Some("v1.Chat"));
    assert_eq!(answer.get("Sec-WebSocket-Extensions"), Some("permessage-deflate"));
    assert_eq!(answer.get("Sec-WebSocket-Accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
}

#[test]
fn c13_a_subprotocol_is_neither_added_nor_dropped() {
    let service = Service::start();
    let harness = Harness::start(service.address, "");
    let mut client = harness.send(offer("", "Sec-WebSocket-Protocol: mqtt"));
    let (mut upstream, head) = service.request();
    upstream.send(switching(&head, ""));
    assert_eq!(client.head().get("Sec-WebSocket-Protocol"), None);
}

#[test]
fn c14_refuses_an_extension_list_that_is_not_one() {
    refuses_each(&[
        ("C14 an empty parameter", "", "Sec-WebSocket-Extensions: a;;b", 400),
        ("C14 empty", "", "Sec-WebSocket-Extensions:", 400),
        ("C14 a space", "", "Sec-WebSocket-Extensions: a b", 400),
        ("C14 no value", "", "Sec-WebSocket-Extensions: a; b=", 400),
        ("C14 an open quote", "", "Sec-WebSocket-Extensions: a; b=\"c", 400),
    ]);
}

#[test]
fn c15_only_websocket_is_asked_of_the_service() {
    let service = Service::start();
    let harness = Harness::start(service.address, "");
    for (row, without, with) in [
        ("C15 h2c behind", "Upgrade", "Upgrade: websocket, h2c"),
        ("C15 h2c before", "Upgrade", "Upgrade: h2c, websocket"),
        ("C15 TLS", "", "Upgrade: TLS/1.2"),
        ("C15 settings", "", "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA|Connection: HTTP2-Settings"),
    ] {
        let _client = harness.send(offer(without, with));
        let (_upstream, head) = service.request();
        assert_eq!(head.get("Upgrade"), Some("websocket"), "{row}");
        assert_eq!(head.get("Connection"), Some("Upgrade"), "{row}");
        assert_eq!(head.get("HTTP2-Settings"), None, "{row}");
    }
    refuses_each(&[("C15 h2c alone", "Upgrade", "Upgrade: h2c", 426)]);
}

#[test]
fn c16_a_frame_behind_the_head_waits_for_the_101_and_goes_first() {
    let service = Service::start();
    let harness = Harness::start(service.address, "");
    for (row, mut client) in [("C16 ws", harness.connect()), ("C16 wss", harness.connect_tls())] {
        let (first, second) = (masked(FIN | TEXT, b"early"), masked(FIN | BINARY, b"later"));
        client.send([offer("", "").into_bytes(), first.clone()].concat());
        let (mut upstream, head) = service.request();
        assert!(upstream.is_quiet(Duration::from_millis(100)), "{row}: a frame before the 101");
        upstream.send(switching(&head, ""));
        assert_eq!(client.head().status(), 101, "{row}");
        client.send(&second);
        assert_eq!(upstream.take(first.len() + second.len()), [first, second].concat(), "{row}");
    }
}

#[test]
fn c16_half_a_frame_behind_the_head_is_completed_by_the_rest() {
    let service = Service::start();
    let harness = Harness::start(service.address, "");
    let frame = masked(FIN | BINARY, &[7; 300]);
    for cut in [1, 3, 7, 8, 9, 200] {
        let mut client = harness.send([offer("", "").as_bytes(), &frame[..cut]].concat());
        let (mut upstream, head) = service.request();
        upstream.send(switching(&head, ""));
        assert_eq!(client.head().status(), 101, "C16 cut at {cut}");
        client.send(&frame[cut..]);
        assert_eq!(upstream.take(frame.len()), frame, "C16 cut at {cut}");
    }
}

#[test]
fn c16_what_came_behind_a_refused_head_reaches_nobody() {
    let service = Service::start();
    let harness = Harness::start(service.address, "");
    let pipelined = request("GET /admin HTTP/1.1", "", "").into_bytes();
    for (row, behind) in [("C16 a frame", masked(FIN | TEXT, b"early")), ("C16 a request", pipelined.clone())] {
        let mut client = harness.send([offer("", "").into_bytes(), behind].concat());
        let (mut upstream, _) = service.request();
        upstream.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
        assert_eq!(client.answer().head.status(), 403, "{row}");
        assert_eq!(client.rest(), b"", "{row}: one answer, then the end");
        assert_eq!(upstream.rest(), b"", "{row}: bytes behind the head");
    }
    let bad = [offer("Sec-WebSocket-Key", "").into_bytes(), pipelined].concat();
    refused(&harness, &service, "C16 behind our own refusal", bad, 400);
}

#[test]
fn c16_a_pipelined_request_is_no_frame() {
    let service = Service::start();
    let harness = Harness::start(service.address, "");
    let mut client = harness.send(offer("", "") + &request("GET /admin HTTP/1.1", "", ""));
    let (mut upstream, head) = service.request();
    upstream.send(switching(&head, ""));
    assert_eq!(client.head().status(), 101);
    assert_eq!(client.frame().close().map(|(code, _)| code), Some(1002));
    let told = upstream.frame();
    assert!(told.masked && told.close().is_some(), "the service sees a Close and nothing else: {told:?}");
    upstream.send(close(1000, ""));
    assert_eq!(upstream.rest(), b"");
}

#[test]
fn c18_refuses_paths_that_can_be_read_in_two_ways() {
    refuses_each_line(&[
        ("C18 dot segments", "GET /ws/../admin HTTP/1.1", 400),
        ("C18 at the end", "GET /ws/.. HTTP/1.1", 400),
        ("C18 one dot", "GET /./ws HTTP/1.1", 400),
        ("C18 escaped dots", "GET /%2e%2E/admin HTTP/1.1", 400),
        ("C18 escaped slash", "GET /ws%2fadmin HTTP/1.1", 400),
        ("C18 escaped backslash", "GET /ws%5Cadmin HTTP/1.1", 400),
        ("C18 backslash", "GET /ws\\admin HTTP/1.1", 400),
        ("C18 escaped twice", "GET /ws%252fadmin HTTP/1.1", 400),
        ("C18 escaped NUL", "GET /ws%00 HTTP/1.1", 400),
        ("C18 broken escape", "GET /ws%2 HTTP/1.1", 400),
        ("C18 empty segment", "GET //admin HTTP/1.1", 400),
        ("C18 parameter", "GET /ws;x/admin HTTP/1.1", 400),
        ("C18 parameter behind dots", "GET /ws/..;/admin HTTP/1.1", 400),
        ("C18 fragment", "GET /ws#x HTTP/1.1", 400),
        ("C18 fragment in the query", "GET /ws?a#x HTTP/1.1", 400),
        ("C18 asterisk", "GET * HTTP/1.1", 400),
        ("C18 no slash", "GET ws HTTP/1.1", 400),
        ("C18 absolute form with dots", "GET http://chat.example.com:8080/ws/../admin HTTP/1.1", 400),
        ("C18 another scheme", "GET ftp://chat.example.com:8080/ws HTTP/1.1", 400),
    ]);
}

#[test]
fn c18_a_path_reaches_the_service_as_it_came() {
    let service = Service::start();
    let harness = Harness::start(service.address, "");
    for target in ["/", "/r%C3%A4um%20eins", "/a:b@c!$&'()*+,=~|/.well-known/...", "/ws/?", "/ws?x=/../%2f//&y=%zz;z"] {
        let _client = harness.send(request(&format!("GET {target} HTTP/1.1"), "", ""));
        let (_upstream, head) = service.request();
        assert_eq!(head.start, format!("GET {target} HTTP/1.1"), "C18");
    }
}

#[test]
fn passes_host_origin_cookies_and_own_headers_as_they_came() {
    let service = Service::start();
    let harness = Harness::start(service.address, "");
    let with = "Origin: https://app.example.com|Cookie: a=b; c=d|Authorization: Bearer t|X-Tenant: gold|X-Tenant: \u{e4}";
    let mut client = harness.send(offer("", with));
    let (mut upstream, head) = service.request();
    assert_eq!(head.get("Host"), Some(HOST), "with its port: services compare Origin with it");
    assert_eq!(head.get("Origin"), Some("https://app.example.com"));
    assert_eq!(head.get("Cookie"), Some("a=b; c=d"));
    assert_eq!(head.get("Authorization"), Some("Bearer t"));
    assert_eq!(head.all("X-Tenant"), ["gold", "\u{e4}"]);
    assert_eq!(head.all("Sec-WebSocket-Version"), ["13"]);
    upstream.send(switching(&head, "X-Node: 7|Set-Cookie: a=1; Path=/|Set-Cookie: b=2"));
    let answer = client.head();
    assert_eq!(answer.get("X-Node"), Some("7"));
    assert_eq!(answer.all("Set-Cookie"), ["a=1; Path=/", "b=2"]);
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
    let mut binary = harness.send(masked(FIN | RSV1 | TEXT, b"hello")); // a frame where a head should be
    assert_eq!(binary.answer().head.status(), 400);
    assert!(service.is_untouched());
}
