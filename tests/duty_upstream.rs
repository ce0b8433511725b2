//! The duties towards services, rows U1 to U9, against the whole proxy over real sockets.
//!
//! The client gets its 101 only for a right answer of the service. A refusal of the service is the client's,
//! whole; a wrong answer becomes a 502 and a missing one a 502 or 504.

mod support;

use std::time::{Duration, Instant};
use support::{
    Answer, BINARY, CLOSE, DEADLINE, FIN, Harness, Head, Service, TEXT, accept_for, asked, bad_gateway, close_body,
    frame, masked, offer, switching,
};

/// A 101 from `head`'s key with these lines instead of the usual ones; `{accept}` is the right value.
fn odd_101(head: &Head, lines: &str) -> String {
    let lines = lines.replace("{accept}", &accept_for(head)).replace('|', "\r\n");
    format!("HTTP/1.1 101 Switching Protocols\r\n{lines}\r\n\r\n")
}

/// One answer for each row of (name of the row, lines of the offer, lines of the 101): all become a 502.
fn refuses_each_101(rows: &[(&str, &str, &str)]) {
    let service = Service::start();
    let harness = Harness::start(service.address, "");
    for (row, offered, answered) in rows {
        let (mut client, mut upstream, head) = asked(&harness, &service, offered);
        upstream.send(odd_101(&head, answered));
        bad_gateway(row, &mut client, &mut upstream);
    }
}

const UPGRADE: &str = "Upgrade: websocket|Connection: Upgrade";
const RIGHT: &str = "Upgrade: websocket|Connection: Upgrade|Sec-WebSocket-Accept: {accept}";

#[test]
fn u1_refuses_a_101_that_is_no_upgrade_to_websocket() {
    refuses_each_101(&[
        ("U1 no Upgrade", "", "Connection: Upgrade|Sec-WebSocket-Accept: {accept}"),
        ("U1 no Connection", "", "Upgrade: websocket|Sec-WebSocket-Accept: {accept}"),
        ("U1 another protocol", "", "Upgrade: h2c|Connection: Upgrade|Sec-WebSocket-Accept: {accept}"),
        ("U1 two protocols", "", "Upgrade: websocket, h2c|Connection: Upgrade|Sec-WebSocket-Accept: {accept}"),
        ("U1 Connection closes", "", "Upgrade: websocket|Connection: close|Sec-WebSocket-Accept: {accept}"),
    ]);
}

#[test]
fn u1_takes_every_spelling_of_a_right_101() {
    let service = Service::start();
    let harness = Harness::start(service.address, "");
    for (row, lines) in [
        ("U1 case", "UPGRADE: WebSocket|connection: upgrade|sec-websocket-accept: {accept}"),
        ("U1 a list", "Upgrade: websocket|Connection: keep-alive, Upgrade|Sec-WebSocket-Accept: {accept}"),
    ] {
        let (mut client, mut upstream, head) = asked(&harness, &service, "");
        upstream.send(odd_101(&head, lines));
        assert_eq!(client.head().status(), 101, "{row}");
    }
}

#[test]
fn u1_a_200_with_upgrade_headers_is_a_plain_answer_and_opens_no_tunnel() {
    let service = Service::start();
    let harness = Harness::start(service.address, "");
    let (mut client, mut upstream, head) = asked(&harness, &service, "");
    let lines = odd_101(&head, RIGHT).replace("101 Switching Protocols", "200 OK");
    upstream.send(lines.replace("\r\n\r\n", "\r\nContent-Length: 5\r\n\r\nhello"));
    let answer = client.answer();
    assert_eq!((answer.head.status(), &*answer.body), (200, "hello"));
    assert_eq!(answer.head.get("Upgrade"), None);
    let _ = client.try_send(masked(FIN | TEXT, b"into the tunnel"));
    client.finish();
    upstream.finish();
    let seen = upstream.rest();
    assert_eq!(seen, b"", "nothing passes after a plain answer");
}

#[test]
fn u2_refuses_an_accept_that_does_not_fit_the_key() {
    let with = |accept: &str| format!("{UPGRADE}|Sec-WebSocket-Accept: {accept}");
    let twice = format!("{RIGHT}|Sec-WebSocket-Accept: {{accept}}");
    refuses_each_101(&[
        ("U2 none", "", UPGRADE),
        ("U2 empty", "", &with("")),
        ("U2 of another key", "", &with("HSmrc0sMlYUkAGmm5OPpG2HaGWk=")),
        ("U2 two", "", &twice),
        ("U2 a list", "", &with("{accept}, {accept}")),
        ("U2 quoted", "", &with("\"{accept}\"")),
        ("U2 the key itself", "", &with("dGhlIHNhbXBsZSBub25jZQ==")),
    ]);
}

#[test]
fn u3_refuses_what_the_client_did_not_offer() {
    let with = |line: &str| format!("{RIGHT}|{line}");
    let protocol = "Sec-WebSocket-Protocol: mqtt, chat";
    let deflate = "Sec-WebSocket-Extensions: permessage-deflate";
    refuses_each_101(&[
        ("U3 a subprotocol, none offered", "", &with("Sec-WebSocket-Protocol: mqtt")),
        ("U3 another subprotocol", protocol, &with("Sec-WebSocket-Protocol: soap")),
        ("U3 another case", protocol, &with("Sec-WebSocket-Protocol: MQTT")),
        ("U3 two subprotocols", protocol, &with("Sec-WebSocket-Protocol: mqtt, chat")),
        ("U3 two lines", protocol, &with("Sec-WebSocket-Protocol: mqtt|Sec-WebSocket-Protocol: chat")),
        ("U3 an extension, none offered", "", &with(deflate)),
        ("U3 another extension", deflate, &with("Sec-WebSocket-Extensions: x-other")),
        ("U3 one more extension", deflate, &with("Sec-WebSocket-Extensions: permessage-deflate, x-other")),
        ("U3 a malformed list", deflate, &with("Sec-WebSocket-Extensions: permessage-deflate;;")),
    ]);
}

#[test]
fn u4_a_101_is_never_asked_for_by_a_plain_request() {
    let service = Service::start();
    let harness = Harness::start(service.address, "");
    for (row, without) in [("U4 no Upgrade", "Upgrade"), ("U4 no Connection", "Connection")] {
        let mut client = harness.send(offer(without, ""));
        assert_eq!(client.answer().head.status(), 426, "{row}");
        assert!(service.is_untouched(), "{row}: a service that was not asked cannot answer");
    }
}

#[test]
fn u4_a_second_101_is_no_frame() {
    let service = Service::start();
    let harness = Harness::start(service.address, "");
    let (mut client, mut upstream, head) = asked(&harness, &service, "");
    upstream.send([switching(&head, ""), switching(&head, "")].concat());
    assert_eq!(client.head().status(), 101);
    assert_eq!(client.frame().close().map(|(code, _)| code), Some(1014));
    assert_eq!(upstream.frame().close().map(|(code, _)| code), Some(1002));
}

#[test]
fn u5_framing_headers_of_a_101_are_void_and_do_not_reach_the_client() {
    let service = Service::start();
    let harness = Harness::start(service.address, "");
    for (row, line) in [
        ("U5 zero", "Content-Length: 0"),
        ("U5 length", "Content-Length: 5"),
        ("U5 chunked", "Transfer-Encoding: chunked"),
        ("U5 both", "Content-Length: 5|Transfer-Encoding: chunked"),
    ] {
        let (mut client, mut upstream, head) = asked(&harness, &service, "");
        let greeting = frame(FIN | TEXT, b"greetings, all frames");
        upstream.send([switching(&head, line), greeting.clone()].concat());
        let answer = client.head();
        assert_eq!(answer.status(), 101, "{row}");
        assert_eq!(answer.get("Content-Length"), None, "{row}");
        assert_eq!(answer.get("Transfer-Encoding"), None, "{row}");
        assert_eq!(client.take(greeting.len()), greeting, "{row}: all that follows are frames");
    }
}

#[test]
fn u6_interim_answers_are_waited_out() {
    let service = Service::start();
    let harness = Harness::start(service.address, "");
    let interim = [
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 102 Processing\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n",
    ];
    for (row, before) in [("U6 103", &interim[2..]), ("U6 all", &interim[..])] {
        let (mut client, mut upstream, head) = asked(&harness, &service, "");
        upstream.send([before.concat().into_bytes(), switching(&head, "")].concat());
        assert_eq!(client.answer().head.status(), 101, "{row} in one segment");

        let (mut client, mut upstream, head) = asked(&harness, &service, "");
        for one in before {
            upstream.send(one);
        }
        upstream.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
        let answer = client.answer();
        assert_eq!((answer.head.status(), &*answer.body), (403, "no"), "{row} before a refusal");
        drop(head);
    }
}

#[test]
fn u6_endless_interim_answers_end() {
    let service = Service::start();
    let harness = Harness::start(service.address, "");
    let (mut client, mut upstream, _) = asked(&harness, &service, "");
    upstream.send("HTTP/1.1 102 Processing\r\n\r\n".repeat(100));
    bad_gateway("U6 a hundred", &mut client, &mut upstream);
}

#[test]
fn u7_frames_behind_the_101_reach_the_client_in_order() {
    let service = Service::start();
    let harness = Harness::start(service.address, "");
    let frames =
        [frame(FIN | TEXT, b"hello"), frame(FIN | BINARY, &vec![9; 70_000]), frame(FIN | TEXT, b"there")].concat();
    for (row, mut client) in [("U7 ws", harness.connect()), ("U7 wss", harness.connect_tls())] {
        client.send(offer("", ""));
        let (mut upstream, head) = service.request();
        upstream.send([switching(&head, ""), frames.clone()].concat());
        assert_eq!(client.head().status(), 101, "{row}");
        assert!(client.take(frames.len()) == frames, "{row}: lost, changed or out of order");
    }
}

#[test]
fn u7_half_a_frame_behind_the_101_is_completed_by_the_rest() {
    let service = Service::start();
    let harness = Harness::start(service.address, "");
    let whole = frame(FIN | BINARY, &[3; 300]);
    for cut in [1, 3, 4, 5, 200] {
        let (mut client, mut upstream, head) = asked(&harness, &service, "");
        upstream.send([&switching(&head, "")[..], &whole[..cut]].concat());
        assert_eq!(client.head().status(), 101, "U7 cut at {cut}");
        upstream.send(&whole[cut..]);
        assert_eq!(client.take(whole.len()), whole, "U7 cut at {cut}");
    }
}

#[test]
fn u7_a_close_right_behind_the_101_reaches_the_client() {
    let service = Service::start();
    let harness = Harness::start(service.address, "");
    let (mut client, mut upstream, head) = asked(&harness, &service, "");
    upstream.send([switching(&head, ""), frame(FIN | CLOSE, &close_body(4403, "not in here"))].concat());
    upstream.finish();
    assert_eq!(client.head().status(), 101);
    assert_eq!(client.frame().close(), Some((4403, "not in here".to_owned())));
}

#[test]
fn u8_a_refused_connection_is_a_502() {
    let nobody = Service::start().address; // dropped at once: its port refuses
    let harness = Harness::start(nobody, "");
    let mut client = harness.send(offer("", ""));
    let answer = client.answer();
    assert_eq!(answer.head.status(), 502, "{answer:?}");
    assert!(!format!("{answer:?}").contains(&nobody.port().to_string()), "addresses inside are not for clients");
    assert_eq!(client.rest(), b"");
}

#[test]
fn u8_a_service_that_hangs_up_without_a_whole_answer_is_a_502() {
    let service = Service::start();
    let harness = Harness::start(service.address, "");
    for (row, sent) in
        [("U8 nothing", ""), ("U8 half a head", "HTTP/1.1 101 Switch"), ("U8 after 103", "HTTP/1.1 103 E\r\n\r\n")]
    {
        let (mut client, mut upstream, _) = asked(&harness, &service, "");
        upstream.send(sent);
        upstream.finish();
        bad_gateway(row, &mut client, &mut upstream);
    }
}

#[test]
fn u8_an_answer_that_is_not_http_1_1_is_a_502() {
    let service = Service::start();
    let harness = Harness::start(service.address, "");
    let long = format!("HTTP/1.1 101 Switching Protocols\r\nX: {}", "y".repeat(70_000));
    for (row, sent) in [
        ("U8 another protocol", "SSH-2.0-OpenSSH_9.9\r\n\r\n"),
        ("U8 bare LF", "HTTP/1.1 200 OK\nContent-Length: 0\n\n"),
        ("U8 no status", "HTTP/1.1 OK\r\n\r\n"),
        ("U8 a folded line", "HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n"),
        ("U8 an endless head", &long),
    ] {
        let (mut client, mut upstream, _) = asked(&harness, &service, "");
        // The proxy may hang up on a bad answer before it is all sent.
        let _ = upstream.try_send(sent);
        bad_gateway(row, &mut client, &mut upstream);
    }
}

#[test]
fn u8_a_silent_service_is_a_504_at_the_deadline() {
    let service = Service::start();
    let harness = Harness::start(service.address, "timeouts: {handshake: 800ms, close: 1s}");
    for (row, sent) in
        [("U8 silent", ""), ("U8 half a head", "HTTP/1.1 101 Sw"), ("U8 interim only", "HTTP/1.1 103 E\r\n\r\n")]
    {
        let began = Instant::now();
        let (mut client, mut upstream, _) = asked(&harness, &service, "");
        let _ = upstream.try_send(sent); // on a slow machine the deadline may have passed
        let answer = client.answer();
        assert_eq!(answer.head.status(), 504, "{row}: {answer:?}");
        assert!(began.elapsed() >= Duration::from_millis(700), "{row}: gave up early");
        assert_eq!(client.rest(), b"", "{row}");
        upstream.gone();
    }
}

/// One refusal of the service as (name of the row, what it sends, status, body), and what the client gets.
fn passes_refusal(row: &str, sent: &str, status: u16, body: &str) -> Answer {
    let service = Service::start();
    let harness = Harness::start(service.address, "");
    let (mut client, mut upstream, _) = asked(&harness, &service, "");
    upstream.send(sent);
    upstream.finish();
    let answer = client.answer();
    assert_eq!((answer.head.status(), &*answer.body), (status, body), "{row}: {answer:?}");
    assert!(answer.head.lists("Connection", "close"), "{row}: {answer:?}");
    assert_eq!(client.rest(), b"", "{row}: closes after the answer");
    assert!(service.is_untouched(), "{row}: asked a second time");
    answer
}

#[test]
fn u9_a_refusal_of_the_service_is_the_clients_whole() {
    let sent = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer realm=\"chat\"\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\
                Content-Type: application/json\r\nContent-Length: 13\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\n\r\n{\"ok\": false}";
    let answer = passes_refusal("U9 401", sent, 401, "{\"ok\": false}");
    assert_eq!(answer.head.start, "HTTP/1.1 401 Unauthorized");
    assert_eq!(answer.head.get("WWW-Authenticate"), Some("Bearer realm=\"chat\""));
    assert_eq!(answer.head.get("Content-Type"), Some("application/json"));
    assert_eq!(answer.head.all("Set-Cookie"), ["a=1", "b=2"]);
    assert_eq!(answer.head.get("X-Hop"), None, "ends at this hop");
    assert_eq!(answer.head.get("Content-Length"), Some("13"));
}

#[test]
fn u9_every_kind_of_refusal_passes() {
    let moved = "HTTP/1.1 302 Found\r\nLocation: https://login.example.com/?next=chat\r\nContent-Length: 0\r\n\r\n";
    let answer = passes_refusal("U9 302", moved, 302, "");
    assert_eq!(answer.head.get("Location"), Some("https://login.example.com/?next=chat"));

    let chunked = "HTTP/1.1 500 Oops\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nbroken\r\n5;x=y\r\n pipe\r\n0\r\n\r\n";
    passes_refusal("U9 chunked", chunked, 500, "broken pipe")
        .head
        .start
        .strip_prefix("HTTP/1.1 500 Oops")
        .expect("reason");

    let to_the_end = "HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\n\r\n<p>no</p>";
    passes_refusal("U9 to the end", to_the_end, 403, "<p>no</p>");

    let busy = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\nbusy";
    assert_eq!(passes_refusal("U9 503", busy, 503, "busy").head.get("Retry-After"), Some("7"));

    let upgrade = "HTTP/1.1 426 Upgrade Required\r\nSec-WebSocket-Version: 13\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(passes_refusal("U9 426", upgrade, 426, "").head.get("Sec-WebSocket-Version"), Some("13"));
}

#[test]
fn u9_a_refusal_with_ambiguous_framing_is_a_502() {
    let service = Service::start();
    let harness = Harness::start(service.address, "");
    for (row, line) in [
        ("U9 length and coding", "Content-Length: 2\r\nTransfer-Encoding: chunked"),
        ("U9 two lengths", "Content-Length: 2\r\nContent-Length: 3"),
        ("U9 an unknown coding", "Transfer-Encoding: gzip"),
    ] {
        let (mut client, mut upstream, _) = asked(&harness, &service, "");
        upstream.send(format!("HTTP/1.1 403 Forbidden\r\n{line}\r\n\r\nno"));
        bad_gateway(row, &mut client, &mut upstream);
    }
}

#[test]
fn u9_a_large_refusal_passes_whole() {
    let body = "x".repeat(1 << 20);
    let sent = format!("HTTP/1.1 400 Bad Request\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let service = Service::start();
    let harness = Harness::start(service.address, "");
    let (mut client, mut upstream, _) = asked(&harness, &service, "");
    let sender = std::thread::spawn(move || upstream.send(sent));
    let answer = client.answer();
    sender.join().expect("all of it is taken");
    assert!(answer.body == body, "{} of {} bytes", answer.body.len(), body.len());
}

#[test]
fn u9_another_endpoint_is_tried_when_the_first_refuses_the_connection() {
    let (service, other) = Service::twins();
    let dead = other.address;
    drop(other); // its port refuses from now on
    let harness = Harness::start_with(&[dead, service.address], "", |_| {});
    for round in 0..6 {
        let (mut client, mut upstream, head) = asked(&harness, &service, "");
        upstream.send(switching(&head, ""));
        assert_eq!(client.head().status(), 101, "U9 round {round}");
    }
}

#[test]
fn u9_nothing_is_tried_again_once_the_request_is_out() {
    let (first, second) = Service::twins();
    let harness = Harness::start_with(&[first.address, second.address], "", |_| {});
    let mut client = harness.send(offer("", ""));
    let limit = Instant::now() + DEADLINE;
    let (asked, other) = loop {
        if !first.is_untouched() {
            break (&first, &second); // that look took the connection and dropped it, request unanswered
        }
        if !second.is_untouched() {
            break (&second, &first);
        }
        assert!(Instant::now() < limit, "the proxy dials one of them");
        std::thread::yield_now();
    };
    assert_eq!(client.answer().head.status(), 502);
    assert!(asked.is_untouched() && other.is_untouched(), "U9: asked a second time");
}
