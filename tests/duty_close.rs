//! The duties about how a session ends, rows F8 and F9, against the whole proxy over real sockets.
//!
//! A Close that may be sent passes as it is; an end without one is told to the other side as what it is. A Close that may
//! not be sent, what follows one, and ends inside a frame are in `bad_input`.

mod support;

use std::time::Duration;
use support::{BINARY, CLOSE, FIN, Harness, Stage, TEXT, close, close_body, frame, masked};

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
fn f8_after_a_close_of_one_side_the_other_may_finish_what_it_says() {
    let stage = Stage::new("", "");
    let (mut client, mut upstream) = stage.open();
    client.send(masked(FIN | CLOSE, &close_body(1000, "")));
    let _ = upstream.frame();
    let last = [frame(FIN | TEXT, b"last words"), close(1000, "")].concat();
    upstream.send(&last);
    assert_eq!(client.take(last.len()), last);
}

/// RFC 6455 §7.1.1: whoever ends TCP first has the port in `TIME_WAIT`, and that is the server's to have.
#[test]
fn f8_the_service_may_end_its_connection_first_and_has_a_second_for_it() {
    let stage = Stage::new("", "");
    let (up, down) = (masked(FIN | CLOSE, &close_body(1000, "")), close(1000, ""));
    for (service_begins, ends) in [(false, true), (true, true), (false, false)] {
        let (mut client, mut upstream) = stage.open();
        if service_begins {
            upstream.send(&down);
            assert_eq!(client.take(down.len()), down);
        }
        client.send(&up);
        assert_eq!(upstream.take(up.len()), up);
        if !service_begins {
            upstream.send(&down);
            assert_eq!(client.take(down.len()), down);
        }
        assert_eq!(client.rest(), b"", "the client's connection is ended by the proxy");
        assert!(upstream.is_quiet(Duration::from_millis(300)), "F8: ended before the service could");
        if ends {
            upstream.finish();
        }
        assert_eq!(upstream.rest(), b"", "F8: nothing is left");
    }
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
fn f9_a_service_that_is_lost_inside_a_frame_ends_a_client_that_has_closed_at_once() {
    // Long enough that waiting for it fails.
    let stage = Stage::new("timeouts: {close: 60s}", "");
    let whole = frame(FIN | BINARY, &[8; 1000]);
    let (mut client, mut upstream) = stage.open();
    client.send(masked(FIN | CLOSE, &close_body(1000, "")));
    assert_eq!(upstream.frame().close().map(|(code, _)| code), Some(1000));
    upstream.send(&whole[..500]);
    upstream.finish();
    assert_eq!(client.rest(), &whole[..500], "F9: no answer can follow half a frame, so the stream ends");
    client.finish();
    upstream.gone();
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

#[test]
fn what_the_service_answers_to_what_came_before_a_fault_passes_before_the_close() {
    let stage = Stage::new("", "");
    let (mut client, mut upstream) = stage.open();
    let bad = masked(FIN | 0x3, b"unknown opcode");
    client.send([masked(FIN | TEXT, b"good"), bad].concat());
    assert_eq!(upstream.frame().payload, b"good");
    assert_eq!(upstream.frame().close().map(|(code, _)| code), Some(1001), "the service is told at once");
    upstream.send([frame(FIN | TEXT, b"answer"), close(1001, "")].concat());
    assert_eq!(client.frame().payload, b"answer");
    let (code, _) = client.frame().close().expect("a Close");
    assert_eq!(code, 1002, "the Close of the service is not the client's");
    client.gone();
    // A service that hangs up has nothing more to say either.
    let (mut client, mut upstream) = stage.open();
    client.send(masked(FIN | 0x3, b""));
    let _ = upstream.frame().close().expect("a Close");
    upstream.send(frame(FIN | TEXT, b"answer"));
    drop(upstream);
    assert_eq!(client.frame().payload, b"answer");
    assert_eq!(client.frame().close().map(|(code, _)| code), Some(1002));
}
