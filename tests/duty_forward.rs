//! The duties towards clients, rows C9 to C18: what of a right handshake reaches the service, and when. Against the whole
//! proxy over real sockets. What is refused is in `bad_input`.

mod support;

use std::time::Duration;
use support::{BINARY, FIN, HOST, Harness, KEY, Service, TEXT, masked, offer, request, switching};

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
