//! The duties towards clients, rows C11 to C16 and C18: what of a handshake reaches the service, and when. Against the
//! whole proxy over real sockets.

mod support;

use std::time::Duration;
use support::{
    BINARY, FIN, HOST, Harness, KEY, Service, TEXT, close, masked, offer, refused, refuses_each, refuses_each_line,
    request, switching,
};

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
        "X-Forwarded-For",
        "x_forwarded_for",
        "X-Forwarded_For",
        "X-Forwarded-Proto",
        "X-Forwarded-Host",
        "X_Forwarded_Host",
        "X-Forwarded-Port",
        "X-Forwarded-Prefix",
        "X-Forwarded-Client-Cert",
        "Forwarded",
        "X-Real-IP",
        "x_real_ip",
        "Client-Cert",
        "Client-Cert-Chain",
        "SSL-Client-Cert",
        "ssl_client_verify",
        "X-SSL-Client-DN",
        "X-Client-Cert",
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
    let with =
        "Origin: https://app.example.com|Cookie: a=b; c=d|Authorization: Bearer t|X-Tenant: gold|X-Tenant: \u{e4}";
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
