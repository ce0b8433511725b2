//! Frames of services that break a rule: the service is told, the client learns that its backend failed (1014) and gets
//! no byte of the frame, however it comes.

use crate::stand::{Case, Run, Stand, WAYS, Way, offer};
use crate::support::{
    CLOSE, FIN, PING, PONG, TEXT, close, close_body, fault, frame, masked, service_is_told, switching,
};
use crate::violations::{BOUNDS, Sender, Violation, beyond, of, violation};

/// Those that are wrong only because a service sends them.
fn own() -> Vec<Violation> {
    let good = || frame(FIN | TEXT, b"good");
    vec![
        violation("F1 text", good(), masked(FIN | TEXT, b"hidden"), 1002),
        violation("F1 empty", good(), masked(FIN | TEXT, b""), 1002),
        violation("F1 pong", vec![], masked(FIN | PONG, b"hidden"), 1002),
        violation("F1 Close", good(), masked(FIN | CLOSE, &close_body(1000, "")), 1002),
        violation("U4 a second 101", vec![], b"HTTP/1.1 101 Switching Protocols\r\n\r\n".to_vec(), 1002),
    ]
}

/// Frames and fault in one piece.
fn at_once(run: &Run<'_>, row: &Violation) {
    let (client, mut upstream) = run.open(row.extensions, row.extensions);
    let _ = upstream.try_send([&row.good[..], &row.bad].concat());
    service_is_told(&fault("at once", row.good.clone(), row.bad.clone()), row.code, client, upstream);
}

/// The fault byte by byte.
fn trickling(run: &Run<'_>, row: &Violation) {
    let (client, mut upstream) = run.open(row.extensions, row.extensions);
    upstream.send(&row.good);
    let _ = row.bad.iter().try_for_each(|byte| upstream.try_send([*byte]));
    service_is_told(&fault("byte by byte", row.good.clone(), row.bad.clone()), row.code, client, upstream);
}

/// All of it behind the 101.
fn early(run: &Run<'_>, row: &Violation) {
    let mut client = run.send(&offer(row.extensions));
    let mut upstream = run.claim();
    let asked = upstream.head();
    let _ = upstream.try_send([switching(&asked, row.extensions), row.good.clone(), row.bad.clone()].concat());
    assert_eq!(client.head().status(), 101);
    service_is_told(&fault("behind the 101", row.good.clone(), row.bad.clone()), row.code, client, upstream);
}

/// Every row by every way, and in clear in every manner.
fn judge(spec: &str, rows: &[Violation]) {
    let case = |way, row, manner: fn(&Run<'_>, &Violation)| {
        let row: &Violation = row;
        Case::new(row.name.clone(), way, move |run| manner(run, row))
    };
    let mut cases: Vec<_> = WAYS.iter().flat_map(|way| rows.iter().map(|row| case(*way, row, at_once))).collect();
    cases.extend(
        [Way::Clear, Way::TlsToTheService].iter().flat_map(|way| rows.iter().map(|row| case(*way, row, early))),
    );
    cases.extend(rows.iter().filter(|row| row.bad.len() < 200).map(|row| case(Way::Clear, row, trickling)));
    Stand::new(spec, |_| {}).judge(&cases);
}

#[test]
fn a_service_that_breaks_a_rule_is_told_so_and_the_client_gets_no_byte_of_it() {
    let mut rows = of(Sender::Service);
    rows.extend(own());
    judge("", &rows);
}

#[test]
fn a_service_beyond_the_bounds_is_told_1009_before_its_payload_has_come() {
    judge(BOUNDS, &beyond(Sender::Service));
}

#[test]
fn nothing_follows_a_close_of_the_service() {
    let end = close(1000, "");
    let behind: Vec<(&str, Vec<u8>)> = vec![
        ("a message", frame(FIN | TEXT, b"more")),
        ("another Close", end.clone()),
        ("a hundred Closes", end.repeat(100)),
        ("pings", frame(FIN | PING, b"x").repeat(100)),
        ("a masked frame", masked(FIN | TEXT, b"hidden")),
        ("an answer", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec()),
        ("half a frame", frame(FIN | TEXT, b"more")[..3].to_vec()),
    ];
    let case = |way, (name, behind): &(&'static str, Vec<u8>)| {
        let (end, behind) = (end.clone(), behind.clone());
        Case::new(*name, way, move |run| {
            let (mut client, mut upstream) = run.open("", "");
            upstream.send([end.clone(), behind.clone()].concat());
            assert_eq!(client.take(end.len()), end);
            client.send(masked(FIN | CLOSE, &close_body(1000, "")));
            assert_eq!(upstream.frame().close().map(|(code, _)| code), Some(1000));
            upstream.finish();
            assert_eq!(client.rest(), b"", "behind the Close");
        })
    };
    let cases: Vec<_> = WAYS.iter().flat_map(|way| behind.iter().map(|row| case(*way, row))).collect();
    Stand::new("", |_| {}).judge(&cases);
}
