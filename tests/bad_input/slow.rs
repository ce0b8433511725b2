//! Input that does not come, or comes a byte at a time: a deadline is of the whole, and no byte buys more of it. A client
//! is told 408, or 504 where the service is slow; an unfinished frame keeps no session open beyond its idle time.

use crate::living::certificate;
use crate::stand::{Case, Stand, WAYS, Way, offer, over_tls};
use crate::support::{BINARY, FIN, Harness, PING, Service, frame, masked, objects, refusal};
use sheave::app::Options;
use sheave::proxy::ListenerLimits;
use std::time::{Duration, Instant};

/// How often a slow peer sends.
const TICK: Duration = Duration::from_millis(20);
/// How long the slowest may go on: a deadline that each byte moves would never come.
const TICKS: usize = 1_000;

/// The deadline for a head, and that of the whole handshake, as [`SPEC`] has it.
const LISTENER: Duration = Duration::from_secs(2);
const ROUTE: Duration = Duration::from_secs(3);

const SPEC: &str = "timeouts: {handshake: 3s, idle: 2s, close: 1s}";

fn impatient(options: &mut Options) {
    options.limits = ListenerLimits { tls_handshake: LISTENER, handshake: LISTENER, ..ListenerLimits::default() };
}

/// Sends `bytes` again and again, one a tick, until `goes_on` says that it was enough.
fn trickle(bytes: &[u8], mut goes_on: impl FnMut(u8) -> bool) {
    let sent = bytes.iter().cycle().take(TICKS).take_while(|byte| goes_on(**byte)).count();
    assert!(sent < TICKS, "nobody has had enough after {sent} bytes");
}

/// Clients that are told 408: how they begin and what they send a tick.
const HEADS: [(&str, &[u8], &[u8]); 8] = [
    ("C10 half a line", b"GET /chat HTTP/1.1\r\nHost: chat", b""),
    ("C10 a byte", b"G", b""),
    ("C10 half a line end", b"GET /chat HTTP/1.1\r", b""),
    ("C10 a head without its end", b"GET /chat HTTP/1.1\r\nHost: a\r\n\r", b""),
    ("C10 HTTP/0.9", b"GET /chat\r\n", b""),
    ("C10 a target byte by byte", b"GET /", b"a"),
    ("C10 a value byte by byte", b"GET /chat HTTP/1.1\r\nX-A: ", b"b"),
    ("C10 header lines byte by byte", b"GET /chat HTTP/1.1\r\n", b"X: y\r\n"),
];

fn slow_clients(cases: &mut Vec<Case<'_>>) {
    for way in [Way::Clear, Way::TlsFromTheClient] {
        for (name, start, more) in HEADS {
            cases.push(Case::new(name, way, move |run| {
                let begun = Instant::now();
                let mut client = run.send(start);
                trickle(more, |byte| client.try_send([byte]).is_ok() && client.is_quiet(TICK));
                refusal(&mut client, name, 408);
                assert!(begun.elapsed() >= LISTENER, "given up early");
            }));
        }
        cases.push(Case::new("C10 nothing", way, |run| {
            assert_eq!(run.connect().gone(), b"", "left without a word");
        }));
    }
}

fn slow_tls(cases: &mut Vec<Case<'_>>) {
    let hello: &[u8] = &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    for (name, start, more) in [
        ("C10 no TLS", &hello[..0], &hello[..0]),
        ("C10 half a hello", hello, &hello[..0]),
        ("C10 a hello byte by byte", hello, &[0]),
    ] {
        cases.push(Case::new(name, Way::Clear, move |run| {
            let mut client = run.connect_beneath_tls();
            client.send(start);
            trickle(more, |byte| client.try_send([byte]).is_ok() && client.is_quiet(TICK));
            client.gone();
        }));
    }
}

/// Services whose clients are told 504: what they send at once and what a tick.
const ANSWERS: [(&str, &[u8], &[u8]); 5] = [
    ("U8 nothing", b"", b""),
    ("U8 half a head", b"HTTP/1.1 101 Sw", b""),
    ("U8 an interim answer", b"HTTP/1.1 103 Early Hints\r\n\r\n", b""),
    ("U8 a value byte by byte", b"HTTP/1.1 101 Switching Protocols\r\nX: ", b"y"),
    ("U8 a reason byte by byte", b"HTTP/1.1 101 ", b"x"),
];

fn slow_services(cases: &mut Vec<Case<'_>>) {
    for (way, (name, start, more)) in WAYS.into_iter().flat_map(|way| ANSWERS.map(|row| (way, row))) {
        cases.push(Case::new(name, way, move |run| {
            let begun = Instant::now();
            let mut client = run.send(&offer(""));
            let mut upstream = run.claim();
            let _ = upstream.head();
            let _ = upstream.try_send(start); // on a slow machine the deadline may have passed
            trickle(more, |byte| upstream.try_send([byte]).is_ok() && client.is_quiet(TICK));
            refusal(&mut client, name, 504);
            assert!(begun.elapsed() >= ROUTE, "given up early");
            assert_eq!(upstream.gone(), b"");
        }));
    }
}

/// Frames that are begun and not gone on with: what passes of them before the session is given up.
fn unfinished(cases: &mut Vec<Case<'_>>) {
    let (up, down) = (masked(FIN | BINARY, &[1; 500]), frame(FIN | BINARY, &[1; 500]));
    let (ping, other_ping) = (masked(FIN | PING, b"12345"), frame(FIN | PING, b"12345"));
    for way in WAYS {
        for (name, part, passes) in
            [("half a header", &up[..5], 0), ("half a frame", &up[..300], 300), ("half a ping", &ping[..8], 0)]
        {
            let part = part.to_vec();
            cases.push(Case::new(format!("{name} of the client"), way, move |run| {
                let (mut client, mut upstream) = run.open("", "");
                client.send(&part);
                assert_eq!(client.frame().close().map(|(code, _)| code), Some(1001), "idle");
                assert_eq!(upstream.take(passes), &part[..passes]);
                client.gone();
                let behind = upstream.gone();
                assert!(behind.is_empty() || passes == 0, "inside a frame: {behind:?}");
                assert!(behind.is_empty() || behind[0] == 0x88, "no Close: {behind:?}");
            }));
        }
        for (name, part, passes) in [
            ("half a header", &down[..3], 0),
            ("half a frame", &down[..300], 300),
            ("half a ping", &other_ping[..4], 0),
        ] {
            let part = part.to_vec();
            cases.push(Case::new(format!("{name} of the service"), way, move |run| {
                let (mut client, mut upstream) = run.open("", "");
                upstream.send(&part);
                assert_eq!(client.take(passes), &part[..passes]);
                if passes == 0 {
                    assert_eq!(client.frame().close().map(|(code, _)| code), Some(1001), "idle");
                }
                assert_eq!(client.gone(), b"", "no Close inside a frame, and nothing behind one");
                upstream.gone();
            }));
        }
    }
}

#[test]
fn what_does_not_come_in_time_is_not_waited_for() {
    let mut cases = Vec::new();
    slow_clients(&mut cases);
    slow_tls(&mut cases);
    slow_services(&mut cases);
    unfinished(&mut cases);
    Stand::new(SPEC, impatient).judge(&cases);
}

#[test]
fn a_service_that_begins_no_tls_is_a_504() {
    let service = Service::start();
    let made = certificate::make(&["chat.internal"]);
    let harness = Harness::serving(&over_tls(&objects(&[service.address], SPEC), &made.certificate), impatient);
    for (row, answer) in
        [("nothing", &b""[..]), ("half a record", &[0x16, 3, 3, 0, 0x7a, 2]), ("no TLS", b"HTTP/1.1 101 ")]
    {
        let mut client = harness.send(crate::support::offer("", ""));
        let mut upstream = service.accept();
        upstream.send(answer);
        let status = if row == "no TLS" { 502 } else { 504 };
        refusal(&mut client, row, status);
        assert!(!String::from_utf8_lossy(&upstream.gone()).contains("GET "), "{row}: the request in clear");
    }
}
