//! The duties in both directions after the 101, rows F1 to F7, against the whole proxy over real sockets.
//!
//! What keeps the rules arrives byte for byte. What breaks one goes no further: its sender is told the fault, the
//! other side that its peer is lost, and a service's fault never shows as a client's.

mod support;

use support::{
    BINARY, CLOSE, CONTINUATION, FIN, Half, Harness, PING, PONG, RSV1, RSV2, RSV3, Service, Stage, TEXT, Wire,
    breaks_both_ways, close, close_body, fault, frame, masked,
};

const DEFLATE: &str = "Sec-WebSocket-Extensions: permessage-deflate";

#[test]
fn f1_an_unmasked_frame_of_the_client_is_its_fault() {
    let stage = Stage::new("", "");
    for (row, bad) in [
        ("F1 text", frame(FIN | TEXT, b"bare")),
        ("F1 empty", frame(FIN | TEXT, b"")),
        ("F1 ping", frame(FIN | PING, b"bare")),
        ("F1 Close", close(1000, "")),
    ] {
        stage.client_breaks(&fault(row, masked(FIN | TEXT, b"good"), bad), 1002);
    }
}

#[test]
fn f1_a_masked_frame_of_the_service_is_its_fault() {
    let stage = Stage::new("", "");
    for (row, bad) in [
        ("F1 text", masked(FIN | TEXT, b"hidden")),
        ("F1 pong", masked(FIN | PONG, b"hidden")),
        ("F1 Close", masked(FIN | CLOSE, &close_body(1000, ""))),
    ] {
        stage.service_breaks(&fault(row, frame(FIN | TEXT, b"good"), bad), 1002);
    }
}

#[test]
fn f2_a_reserved_bit_that_was_not_negotiated_is_a_fault() {
    breaks_both_ways(
        &Stage::new("", ""),
        &[
            ("F2 RSV1 without deflate", &[], (FIN | RSV1 | TEXT, b"x")),
            ("F2 RSV2", &[(FIN | TEXT, b"good")], (FIN | RSV2 | TEXT, b"x")),
            ("F2 RSV3", &[], (FIN | RSV3 | BINARY, b"x")),
            ("F2 RSV1 on a ping", &[], (FIN | RSV1 | PING, b"")),
            ("F2 RSV2 on a Close", &[], (FIN | RSV2 | CLOSE, b"")),
        ],
    );
}

#[test]
fn f2_deflate_that_was_only_offered_makes_no_reserved_bit_legal() {
    let service = Service::start();
    let harness = Harness::start(service.address, "");
    let (mut client, _upstream) = harness.open_with(&service, DEFLATE, "");
    client.send(masked(FIN | RSV1 | TEXT, b"x"));
    assert_eq!(client.frame().close().map(|(code, _)| code), Some(1002));
}

#[test]
fn f2_accepted_deflate_makes_rsv1_legal_on_first_frames_only() {
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
    breaks_both_ways(
        &stage,
        &[
            ("F2 RSV1 on a continuation", &[(RSV1 | TEXT, b"a")], (FIN | RSV1 | CONTINUATION, b"b")),
            ("F2 RSV1 on a ping", &[], (FIN | RSV1 | PING, b"")),
            ("F2 RSV2 beside deflate", &[], (FIN | RSV2 | TEXT, b"x")),
            ("F2 RSV1 and RSV3", &[], (FIN | RSV1 | RSV3 | TEXT, b"x")),
        ],
    );
}

#[test]
fn f2_bits_of_an_extension_we_do_not_know_are_not_ours_to_judge() {
    let stage = Stage::new("", "Sec-WebSocket-Extensions: x-other");
    stage.passes("F2 another extension", &[(FIN | RSV2 | TEXT, b"a"), (FIN | RSV3 | BINARY, b"b")]);
}

#[test]
fn f3_an_unknown_opcode_is_a_fault() {
    let stage = Stage::new("", "");
    for opcode in [0x3, 0x4, 0x5, 0x6, 0x7, 0xb, 0xc, 0xd, 0xe, 0xf] {
        let row: &'static str = if opcode < 8 { "F3 unknown data opcode" } else { "F3 unknown control opcode" };
        breaks_both_ways(&stage, &[(row, &[(FIN | TEXT, b"good")], (FIN | opcode, b"x"))]);
    }
}

#[test]
fn f3_a_control_frame_that_is_fragmented_or_long_is_a_fault() {
    breaks_both_ways(
        &Stage::new("", ""),
        &[
            ("F3 fragmented ping", &[], (PING, b"x")),
            ("F3 fragmented pong", &[], (PONG, b"x")),
            ("F3 fragmented Close", &[], (CLOSE, b"")),
            ("F3 ping of 126 bytes", &[], (FIN | PING, &[0; 126])),
            ("F3 Close of 126 bytes", &[], (FIN | CLOSE, &[3; 126])),
        ],
    );
}

#[test]
fn f4_fragments_out_of_order_are_a_fault() {
    breaks_both_ways(
        &Stage::new("", ""),
        &[
            ("F4 a stray continuation", &[], (FIN | CONTINUATION, b"x")),
            ("F4 a stray fragment", &[], (CONTINUATION, b"x")),
            (
                "F4 a continuation behind the last",
                &[(TEXT, b"a"), (FIN | CONTINUATION, b"b")],
                (FIN | CONTINUATION, b"c"),
            ),
            ("F4 text inside a message", &[(TEXT, b"a")], (FIN | TEXT, b"b")),
            ("F4 binary inside a message", &[(TEXT, b"a"), (FIN | PING, b"")], (BINARY, b"b")),
        ],
    );
}

#[test]
fn f5_a_length_not_in_its_shortest_form_is_a_fault() {
    let stage = Stage::new("", "");
    for (row, length) in [
        ("F5 16 bits for 5", &[126, 0, 5][..]),
        ("F5 16 bits for 125", &[126, 0, 125]),
        ("F5 64 bits for 5", &[127, 0, 0, 0, 0, 0, 0, 0, 5]),
        ("F5 64 bits for 65535", &[127, 0, 0, 0, 0, 0, 0, 0xff, 0xff]),
        ("F5 the top bit", &[127, 0x80, 0, 0, 0, 0, 0, 0, 0]),
        ("F5 all bits", &[127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
    ] {
        let header = |mask: u8| [&[FIN | BINARY, mask | length[0]], &length[1..]].concat();
        stage
            .client_breaks(&fault(row, masked(FIN | TEXT, b"good"), [&header(0x80)[..], &[1, 2, 3, 4]].concat()), 1002);
        stage.service_breaks(&fault(row, frame(FIN | TEXT, b"good"), header(0)), 1002);
    }
}

const BOUNDS: &str = "messages: {maxFrameBytes: 1000, maxMessageBytes: 2000, maxFragments: 4}";

/// The header alone of a frame of up to 65535 bytes.
fn header(first: u8, masked: bool, length: u16) -> Vec<u8> {
    let [high, low] = length.to_be_bytes();
    if masked { vec![first, 0xfe, high, low, 1, 2, 3, 4] } else { vec![first, 126, high, low] }
}

#[test]
fn f6_a_bound_is_enforced_as_soon_as_the_header_is_read() {
    let stage = Stage::new(BOUNDS, "");
    let kilobyte = [5; 1000];
    let rows: [(&'static str, &[Half<'_>], u8, u16); 4] = [
        ("F6 frame", &[(FIN | TEXT, b"good")], FIN | BINARY, 1001),
        ("F6 message of two frames", &[(BINARY, &[5; 900]), (CONTINUATION, &[5; 900])], FIN | CONTINUATION, 201),
        ("F6 full message", &[(BINARY, &kilobyte), (CONTINUATION, &kilobyte)], CONTINUATION, 126),
        (
            "F6 fragments",
            &[(TEXT, b""), (CONTINUATION, b""), (CONTINUATION, b"a"), (CONTINUATION, b"b")],
            CONTINUATION,
            200,
        ),
    ];
    for (row, good, first, length) in rows {
        let join = |make: fn(u8, &[u8]) -> Vec<u8>| good.iter().flat_map(|(f, p)| make(*f, p)).collect::<Vec<u8>>();
        stage.client_breaks(&fault(row, join(masked), header(first, true, length)), 1009);
        stage.service_breaks(&fault(row, join(frame), header(first, false, length)), 1009);
    }
}

#[test]
fn f6_a_header_that_announces_exabytes_is_refused_by_the_default_bounds() {
    let stage = Stage::new("", "");
    let length = [0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    stage.client_breaks(&fault("F6", vec![], [&[FIN | BINARY, 0xff][..], &length, &[1, 2, 3, 4]].concat()), 1009);
    stage.service_breaks(&fault("F6", vec![], [&[FIN | BINARY, 127][..], &length].concat()), 1009);
}

#[test]
fn f6_endless_fragments_are_refused_by_the_default_bounds() {
    let stage = Stage::new("", "");
    let fragments = |make: fn(u8, &[u8]) -> Vec<u8>| [make(TEXT, b""), make(CONTINUATION, b"").repeat(16_383)].concat();
    stage.client_breaks(&fault("F6", fragments(masked), masked(CONTINUATION, b"")), 1009);
    stage.service_breaks(&fault("F6", fragments(frame), frame(CONTINUATION, b"")), 1009);
}

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
