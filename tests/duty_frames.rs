//! The duties in both directions after the 101, rows F1 to F7, against the whole proxy over real sockets.
//!
//! What keeps the rules arrives byte for byte. What breaks one is in `bad_input`.

mod support;

use support::{
    BINARY, CONTINUATION, FIN, Half, Harness, PING, PONG, RSV1, RSV2, RSV3, Service, Stage, TEXT, Wire, close, frame,
    masked,
};

const DEFLATE: &str = "Sec-WebSocket-Extensions: permessage-deflate";

#[test]
fn f2_deflate_that_was_only_offered_makes_no_reserved_bit_legal() {
    let service = Service::start();
    let harness = Harness::start(service.address, "");
    let (mut client, _upstream) = harness.open_with(&service, DEFLATE, "");
    client.send(masked(FIN | RSV1 | TEXT, b"x"));
    assert_eq!(client.frame().close().map(|(code, _)| code), Some(1002));
}

#[test]
fn f2_accepted_deflate_makes_rsv1_legal_on_first_frames() {
    let stage = Stage::new("", DEFLATE);
    stage.passes(
        "F2 compressed messages, whole and in fragments",
        &[
            (FIN | RSV1 | TEXT, &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]),
            (RSV1 | BINARY, b"a"),
            (FIN | PING, b"between"),
            (CONTINUATION, b"b"),
            (FIN | CONTINUATION, b"c"),
            (FIN | TEXT, b"not compressed"),
        ],
    );
}

#[test]
fn f2_bits_of_an_extension_we_do_not_know_are_not_ours_to_judge() {
    let stage = Stage::new("", "Sec-WebSocket-Extensions: x-other");
    stage.passes("F2 another extension", &[(FIN | RSV2 | TEXT, b"a"), (FIN | RSV3 | BINARY, b"b")]);
}

const BOUNDS: &str = "messages: {maxFrameBytes: 1000, maxMessageBytes: 2000, maxFragments: 4}";

#[test]
fn f6_what_is_just_within_the_bounds_passes() {
    let stage = Stage::new(BOUNDS, "");
    stage.passes("F6 frame, twice", &[(FIN | BINARY, &[1; 1000]), (FIN | BINARY, &[2; 1000])]);
    stage.passes(
        "F6 message, twice",
        &[
            (BINARY, &[1; 1000]),
            (FIN | CONTINUATION, &[2; 1000]),
            (BINARY, &[3; 1000]),
            (FIN | CONTINUATION, &[4; 1000]),
        ],
    );
    let (first, next, last) = ((TEXT, &b"a"[..]), (CONTINUATION, &b"b"[..]), (FIN | CONTINUATION, &b"c"[..]));
    stage.passes("F6 fragments with pings between", &[first, next, (FIN | PING, b""), next, (FIN | PING, b""), last]);
}

#[test]
fn f7_text_that_is_not_utf_8_passes_for_the_endpoint_to_judge() {
    let stage = Stage::new("", "");
    stage.passes("F7", &[(FIN | TEXT, &[0xff, 0xfe, 0xc0, 0x80]), (TEXT, &[0xc3]), (FIN | CONTINUATION, &[0x28])]);
}

#[test]
fn control_frames_pass_in_both_directions() {
    let stage = Stage::new("", "");
    stage.passes(
        "pings and pongs, asked for or not",
        &[
            (FIN | PING, b""),
            (FIN | PONG, b"unsolicited"),
            (FIN | PING, &[7; 125]),
            (FIN | PONG, &[7; 125]),
            (FIN | PONG, b"8 bytes."),
        ],
    );
}

#[test]
fn fragments_and_every_length_form_pass_byte_for_byte() {
    let stage = Stage::new("", "");
    let mut frames: Vec<(u8, Vec<u8>)> = Vec::new();
    for length in [0, 1, 125, 126, 127, 65_535, 65_536, 200_000] {
        let payload: Vec<u8> = (0..length).map(|i: usize| (i % 251) as u8).collect();
        frames.push((FIN | BINARY, payload.clone()));
        frames.push((TEXT, payload.clone()));
        frames.push((FIN | PING, b"between".to_vec()));
        frames.push((CONTINUATION, payload.clone()));
        frames.push((FIN | PONG, b"".to_vec()));
        frames.push((FIN | CONTINUATION, payload));
    }
    let frames: Vec<Half<'_>> = frames.iter().map(|(first, payload)| (*first, &payload[..])).collect();
    let up: Vec<u8> = frames.iter().flat_map(|(first, payload)| masked(*first, payload)).collect();
    let down: Vec<u8> = frames.iter().flat_map(|(first, payload)| frame(*first, payload)).collect();
    for piece in [1_021, 65_536] {
        let (client, upstream) = stage.open();
        exchange(client, upstream, &up, &down, piece);
    }
}

/// Sends `up` and `down` at the same time in pieces of `piece` bytes and expects both to arrive as they were.
fn exchange(client: Wire, upstream: Wire, up: &[u8], down: &[u8], piece: usize) {
    let send = |mut wire: Wire, bytes: &[u8]| bytes.chunks(piece).for_each(|chunk| wire.send(chunk));
    let (client_sender, upstream_sender) = (client.again(), upstream.again());
    let (mut client, mut upstream) = (client, upstream);
    std::thread::scope(|scope| {
        scope.spawn(|| send(client_sender, up));
        scope.spawn(|| send(upstream_sender, down));
        scope.spawn(|| assert!(upstream.take(up.len()) == up, "changed on the way to the service"));
        assert!(client.take(down.len()) == down, "changed on the way to the client");
    });
}

#[test]
fn frames_that_trickle_in_byte_by_byte_pass() {
    let stage = Stage::new("", "");
    let (mut client, mut upstream) = stage.open();
    let up = [masked(TEXT, b"ab"), masked(FIN | PING, b"p"), masked(FIN | CONTINUATION, &[1; 130])].concat();
    for byte in &up {
        client.send([*byte]);
    }
    assert_eq!(upstream.take(up.len()), up);
    let down = [frame(TEXT, b"ab"), frame(FIN | PING, b"p"), frame(FIN | CONTINUATION, &[1; 130])].concat();
    for byte in &down {
        upstream.send([*byte]);
    }
    assert_eq!(client.take(down.len()), down);
}

#[test]
fn a_part_of_a_frame_passes_before_the_rest_has_come() {
    let stage = Stage::new("", "");
    let (mut client, mut upstream) = stage.open();
    let up = masked(FIN | BINARY, &[1; 5000]);
    client.send(&up[..1000]);
    assert_eq!(upstream.take(1000), &up[..1000]);
    let down = frame(FIN | BINARY, &[1; 5000]);
    upstream.send(&down[..1000]);
    assert_eq!(client.take(1000), &down[..1000]);
}

#[test]
fn a_1009_of_the_service_reaches_a_client_that_is_still_sending() {
    let stage = Stage::new("", "");
    let (client, mut upstream) = stage.open();
    let mut sender = client.again();
    let mut client = client;
    // Nobody reads these: the sender stops when the buffers on the way are full, and fails when the proxy gives up.
    let sending = std::thread::spawn(move || sender.try_send(masked(FIN | BINARY, &vec![0; 3 << 20])));
    let _ = upstream.take(2);
    upstream.send(close(1009, "too big"));
    assert_eq!(client.frame().close(), Some((1009, "too big".to_owned())));
    client.finish();
    drop(upstream);
    let _ = sending.join().expect("no panic in the sender");
}

#[test]
fn sessions_over_tls_relay_as_those_in_clear() {
    let stage = Stage::new("", "");
    let (mut client, mut upstream) = Harness::open_on(stage.harness.connect_tls(), &stage.service, "", "");
    let up = [masked(TEXT, b"a"), masked(FIN | CONTINUATION, &vec![2; 100_000])].concat();
    client.send(&up);
    assert!(upstream.take(up.len()) == up);
    let down = [frame(TEXT, b"a"), frame(FIN | CONTINUATION, &vec![2; 100_000])].concat();
    upstream.send(&down);
    assert!(client.take(down.len()) == down);
    client.send(frame(FIN | TEXT, b"bare"));
    assert_eq!(client.frame().close().map(|(code, _)| code), Some(1002), "F1 over TLS");
}
