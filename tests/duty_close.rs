//! The duties about how a session ends, rows F8 and F9, against the whole proxy over real sockets.
//!
//! A Close that may be sent passes as it is and nothing follows it; an end without one is told to the other side as
//! what it is.

mod support;

use std::time::Duration;
use support::{BINARY, CLOSE, FIN, Harness, Stage, TEXT, breaks_both_ways, close, close_body, frame, masked};

#[test]
fn f8_a_close_that_may_not_be_sent_is_a_fault() {
    let stage = Stage::new("", "");
    let codes = [0, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65_535u16];
    let mut bodies: Vec<Vec<u8>> = codes.iter().map(|code| close_body(*code, "")).collect();
    bodies.push(vec![3]); // half a code
    bodies.push(vec![3, 0xe8, 0xff]); // 1000 with a reason that is not UTF-8
    for body in bodies {
        let row: &'static str = Box::leak(format!("F8 {body:?}").into_boxed_str());
        breaks_both_ways(&stage, &[(row, &[(FIN | TEXT, b"good")], (FIN | CLOSE, &body))]);
    }
}

#[test]
fn f8_every_close_that_may_be_sent_passes_as_it_is_and_is_answered() {
    let stage = Stage::new("", "");
    let reason = "r".repeat(123);
    let mut bodies: Vec<Vec<u8>> = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 4999]
        .map(|code| close_body(code, "why"))
        .to_vec();
    bodies.extend([vec![], close_body(4000, &reason), close_body(4001, "gr\u{fc}n")]);
    for body in bodies {
        let (up, down) = (masked(FIN | CLOSE, &body), frame(FIN | CLOSE, &body));

        let (mut client, mut upstream) = stage.open();
        client.send(&up);
        assert_eq!(upstream.take(up.len()), up, "F8 {body:?} of the client");
        upstream.send(&down);
        upstream.finish();
        assert_eq!(client.rest(), down, "F8 {body:?} answered by the service");
        assert_eq!(upstream.rest(), b"", "F8 {body:?}");

        let (mut client, mut upstream) = stage.open();
        upstream.send(&down);
        assert_eq!(client.take(down.len()), down, "F8 {body:?} of the service");
        client.send(&up);
        assert_eq!(upstream.take(up.len()), up, "F8 {body:?} answered by the client");
        upstream.finish();
        assert_eq!(client.rest(), b"", "F8 {body:?}: the proxy ends the client's connection");
    }
}

#[test]
fn f8_nothing_follows_a_close() {
    let stage = Stage::new("", "");
    let (mut client, mut upstream) = stage.open();
    let end = masked(FIN | CLOSE, &close_body(1000, ""));
    client.send([end.clone(), masked(FIN | TEXT, b"one more thing")].concat());
    assert_eq!(upstream.take(end.len()), end);
    assert!(upstream.is_quiet(Duration::from_millis(100)), "F8: a frame behind the client's Close");

    let (mut client, mut upstream) = stage.open();
    let end = close(1000, "");
    upstream.send([end.clone(), frame(FIN | TEXT, b"one more thing")].concat());
    assert_eq!(client.take(end.len()), end);
    assert!(client.is_quiet(Duration::from_millis(100)), "F8: a frame behind the service's Close");
}

#[test]
fn f8_after_a_close_of_one_side_the_other_may_finish_what_it_says() {
    let stage = Stage::new("", "");
    let (mut client, mut upstream) = stage.open();
    client.send(masked(FIN | CLOSE, &close_body(1000, "")));
    let _ = upstream.frame();
    let last = [frame(FIN | TEXT, b"last words"), close(1000, "")].concat();
    upstream.send(&last);
    assert_eq!(client.take(last.len()), last);
}

#[test]
fn f9_a_service_that_is_lost_between_frames_becomes_a_close_1014() {
    let stage = Stage::new("", "");
    for (row, sent) in [
        ("F9 at once", vec![]),
        ("F9 behind a message", frame(FIN | TEXT, b"whole")),
        ("F9 between fragments", frame(TEXT, b"a part")),
    ] {
        let (mut client, mut upstream) = stage.open();
        upstream.send(&sent);
        upstream.finish();
        assert_eq!(client.take(sent.len()), sent, "{row}");
        let (code, reason) = client.frame().close().expect("a Close");
        assert_eq!(code, 1014, "{row}");
        assert!(!reason.is_empty(), "{row}: says why");
        client.send(masked(FIN | CLOSE, &close_body(1014, "")));
        assert_eq!(client.rest(), b"", "{row}");
    }
}

#[test]
fn f9_a_service_that_resets_becomes_a_close_1014() {
    let stage = Stage::new("", "");
    let (mut client, upstream) = stage.open();
    upstream.reset();
    assert_eq!(client.frame().close().map(|(code, _)| code), Some(1014));
}

#[test]
fn f9_a_service_that_is_lost_inside_a_frame_becomes_the_end_of_the_stream() {
    let stage = Stage::new("", "");
    let whole = frame(FIN | BINARY, &[8; 1000]);
    for cut in [5, 500, 1003] {
        let (mut client, mut upstream) = stage.open();
        upstream.send(&whole[..cut]);
        upstream.finish();
        assert_eq!(client.rest(), &whole[..cut], "F9 cut at {cut}: what came, and no Close inside a frame");
        client.finish();
        upstream.gone();
    }
}

#[test]
fn f9_a_client_that_is_lost_ends_the_service_at_once() {
    let stage = Stage::new("timeouts: {close: 60s}", "");
    let whole = masked(FIN | TEXT, b"whole");
    for (row, sent) in
        [("F9 at once", &[][..]), ("F9 behind a message", &whole[..]), ("F9 inside a frame", &whole[..8])]
    {
        let (mut client, mut upstream) = stage.open();
        client.send(sent);
        client.finish();
        assert_eq!(upstream.rest(), sent, "{row}: FIN, and no Close that nobody sent");
    }
    let (client, mut upstream) = stage.open();
    client.reset();
    upstream.gone();
}

#[test]
fn f9_a_service_that_ends_after_its_client_has_is_not_called_lost() {
    let stage = Stage::new("", "");
    let (mut client, mut upstream) = stage.open();
    client.finish();
    assert_eq!(upstream.rest(), b"");
    upstream.finish();
    assert_eq!(client.rest(), b"", "F9: the client ended first, so no Close 1014");
}

#[test]
fn f9_a_client_that_is_lost_under_tls_ends_the_service_at_once() {
    let stage = Stage::new("", "");
    let (client, mut upstream) = Harness::open_on(stage.harness.connect_tls(), &stage.service, "", "");
    drop(client);
    upstream.gone();
}
