//! Frames of clients that break a rule: the client is told, what it sent before has passed, and of the frame itself the
//! service gets no byte, however it comes.

use crate::stand::{Case, Run, Stand, WAYS, Way, offer};
use crate::support::{CLOSE, FIN, PING, TEXT, client_is_told, close, close_body, fault, frame, masked, switching};
use crate::violations::{BOUNDS, Sender, Violation, beyond, of, violation};

/// Those that are wrong only because a client sends them.
fn own() -> Vec<Violation> {
    let good = || masked(FIN | TEXT, b"good");
    vec![
        violation("F1 text", good(), frame(FIN | TEXT, b"bare"), 1002),
        violation("F1 empty", good(), frame(FIN | TEXT, b""), 1002),
        violation("F1 ping", vec![], frame(FIN | PING, b"bare"), 1002),
        violation("F1 Close", good(), close(1000, ""), 1002),
        violation("F1 inside a message", masked(TEXT, b"a"), frame(FIN, b"b"), 1002),
        violation("F1 a length that comes without a key", good(), vec![FIN | TEXT, 126, 1, 0], 1002),
    ]
}

/// Frames and fault in one piece.
fn at_once(run: &Run<'_>, row: &Violation) {
    let (mut client, upstream) = run.open(row.extensions, row.extensions);
    let _ = client.try_send([&row.good[..], &row.bad].concat());
    client_is_told(&fault("at once", row.good.clone(), row.bad.clone()), row.code, client, upstream);
}

/// The fault byte by byte.
fn trickling(run: &Run<'_>, row: &Violation) {
    let (mut client, upstream) = run.open(row.extensions, row.extensions);
    client.send(&row.good);
    let _ = row.bad.iter().try_for_each(|byte| client.try_send([*byte]));
    client_is_told(&fault("byte by byte", row.good.clone(), row.bad.clone()), row.code, client, upstream);
}

/// All of it behind the head, before the service has answered.
fn early(run: &Run<'_>, row: &Violation) {
    let mut client = run.send(&[offer(row.extensions), row.good.clone(), row.bad.clone()].concat());
    let mut upstream = run.claim();
    let asked = upstream.head();
    upstream.send(switching(&asked, row.extensions));
    assert_eq!(client.head().status(), 101);
    client_is_told(&fault("behind the head", row.good.clone(), row.bad.clone()), row.code, client, upstream);
}

/// Every row by every way, and in clear in every manner.
fn judge(spec: &str, rows: &[Violation]) {
    let case = |way, row, manner: fn(&Run<'_>, &Violation)| {
        let row: &Violation = row;
        Case::new(row.name.clone(), way, move |run| manner(run, row))
    };
    let mut cases: Vec<_> = WAYS.iter().flat_map(|way| rows.iter().map(|row| case(*way, row, at_once))).collect();
    cases.extend(rows.iter().map(|row| case(Way::Clear, row, early)));
    cases.extend(rows.iter().filter(|row| row.bad.len() < 200).map(|row| case(Way::Clear, row, trickling)));
    Stand::new(spec, |_| {}).judge(&cases);
}

#[test]
fn a_client_that_breaks_a_rule_is_told_so_and_the_service_gets_no_byte_of_it() {
    let mut rows = of(Sender::Client);
    rows.extend(own());
    judge("", &rows);
}

#[test]
fn a_client_beyond_the_bounds_is_told_1009_before_its_payload_has_come() {
    judge(BOUNDS, &beyond(Sender::Client));
}

#[test]
fn nothing_follows_a_close_of_the_client() {
    let end = masked(FIN | CLOSE, &close_body(1000, ""));
    let more = masked(FIN | TEXT, b"more");
    let behind: Vec<(&str, Vec<u8>)> = vec![
        ("a message", more.clone()),
        ("another Close", end.clone()),
        ("a hundred Closes", end.repeat(100)),
        ("pings", masked(FIN | PING, b"x").repeat(100)),
        ("an unmasked frame", frame(FIN | TEXT, b"bare")),
        ("a request", b"GET /admin HTTP/1.1\r\n\r\n".to_vec()),
        ("half a frame", more[..3].to_vec()),
    ];
    let case = |way, (name, behind): &(&'static str, Vec<u8>)| {
        let (end, behind) = (end.clone(), behind.clone());
        Case::new(*name, way, move |run| {
            let (mut client, mut upstream) = run.open("", "");
            client.send([end.clone(), behind.clone()].concat());
            assert_eq!(upstream.take(end.len()), end);
            upstream.send(close(1000, ""));
            assert_eq!(client.frame().close().map(|(code, _)| code), Some(1000));
            client.finish();
            assert_eq!(upstream.rest(), b"", "behind the Close");
        })
    };
    let cases: Vec<_> = WAYS.iter().flat_map(|way| behind.iter().map(|row| case(*way, row))).collect();
    Stand::new("", |_| {}).judge(&cases);
}
