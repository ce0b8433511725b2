//! The duties towards services, rows U1 to U9, against the whole proxy over real sockets.
//!
//! What a right answer of the service becomes, and who is asked. A refusal of the service is the client's, whole; wrong
//! answers are in `bad_input`.

mod support;

use std::time::Instant;
use support::{Answer, BINARY, CLOSE, DEADLINE, FIN, Harness, Service, asked, close_body, frame, offer, switching};

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
