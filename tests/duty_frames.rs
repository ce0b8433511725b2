//! The duties in both directions after the 101, rows F1 to F9, against the whole proxy over real sockets.
//!
//! What keeps the rules arrives byte for byte. What breaks one goes no further: its sender is told the fault, the
//! other side that its peer is lost, and a service's fault never shows as a client's.

mod support;

use std::time::Duration;
use support::{
    BINARY, CLOSE, CONTINUATION, FIN, Harness, PING, PONG, RSV1, RSV2, RSV3, Service, TEXT, Wire, close, close_body, frame, masked,
};

const DEFLATE: &str = "Sec-WebSocket-Extensions: permessage-deflate";

/// A broken rule: the name of the row, frames before it that pass, and the bytes that break it.
struct Fault {
    row: &'static str,
    good: Vec<u8>,
    bad: Vec<u8>,
}

fn fault(row: &'static str, good: Vec<u8>, bad: Vec<u8>) -> Fault {
    Fault { row, good, bad }
}

/// A session's service and proxy, whose policy is `spec` and whose extensions are `extensions` on both sides.
struct Stage {
    service: Service,
    harness: Harness,
    extensions: &'static str,
}

impl Stage {
    fn new(spec: &str, extensions: &'static str) -> Self {
        let service = Service::start();
        let harness = Harness::start(service.address, spec);
        Self { service, harness, extensions }
    }

    fn open(&self) -> (Wire, Wire) {
        self.harness.open_with(&self.service, self.extensions, self.extensions)
    }

    /// The client breaks a rule: it gets `code`, the service what was good and then a Close that blames nobody.
    fn client_breaks(&self, fault: &Fault, code: u16) {
        let row = fault.row;
        let (mut client, mut upstream) = self.open();
        client.send([&fault.good[..], &fault.bad].concat());
        let told = client.frame();
        assert!(!told.masked, "{row}: {told:?}");
        let (got, reason) = told.close().unwrap_or_else(|| panic!("{row}: no Close: {told:?}"));
        assert_eq!(got, code, "{row}: the client is told its fault ({reason})");
        assert!(!reason.is_empty(), "{row}: and why");
        assert_eq!(upstream.take(fault.good.len()), fault.good, "{row}: what came before passes");
        let told = upstream.frame();
        assert!(told.masked, "{row}: a frame to the service is masked: {told:?}");
        assert_eq!(told.close().map(|(code, _)| code), Some(1001), "{row}: the service did nothing wrong: {told:?}");
        upstream.send(close(1000, ""));
        upstream.finish();
        assert_eq!(upstream.rest(), b"", "{row}: nothing behind the Close to the service");
        client.finish();
        assert_eq!(client.rest(), b"", "{row}: nothing behind the Close to the client");
    }

    /// The service breaks a rule: it gets `code`, the client what was good and then 1014.
    fn service_breaks(&self, fault: &Fault, code: u16) {
        let row = fault.row;
        let (mut client, mut upstream) = self.open();
        upstream.send([&fault.good[..], &fault.bad].concat());
        assert_eq!(client.take(fault.good.len()), fault.good, "{row}: what came before passes");
        let told = client.frame();
        assert!(!told.masked, "{row}: {told:?}");
        assert_eq!(told.close().map(|(code, _)| code), Some(1014), "{row}: the client did nothing wrong: {told:?}");
        let told = upstream.frame();
        assert!(told.masked, "{row}: a frame to the service is masked: {told:?}");
        assert_eq!(told.close().map(|(code, _)| code), Some(code), "{row}: the service is told its fault: {told:?}");
        client.send(masked(FIN | CLOSE, &close_body(1014, "")));
        client.finish();
        assert_eq!(client.rest(), b"", "{row}: nothing behind the Close to the client");
        upstream.finish();
        assert_eq!(upstream.rest(), b"", "{row}: nothing behind the Close to the service");
    }

    /// Both sides may send `frames` of (first byte, payload), and the other gets the same bytes.
    fn passes(&self, row: &str, frames: &[(u8, &[u8])]) {
        let (mut client, mut upstream) = self.open();
        let up: Vec<u8> = frames.iter().flat_map(|(first, payload)| masked(*first, payload)).collect();
        let down: Vec<u8> = frames.iter().flat_map(|(first, payload)| frame(*first, payload)).collect();
        client.send(&up);
        assert!(upstream.take(up.len()) == up, "{row}: changed on the way to the service");
        upstream.send(&down);
        assert!(client.take(down.len()) == down, "{row}: changed on the way to the client");
    }
}

/// Rows of (name, first bytes and payloads that pass, the same that break the rule): 1002 in both directions.
fn breaks_both_ways(stage: &Stage, rows: &[(&'static str, &[(u8, &[u8])], (u8, &[u8]))]) {
    for (row, good, (first, payload)) in rows {
        let join = |make: fn(u8, &[u8]) -> Vec<u8>| good.iter().flat_map(|(f, p)| make(*f, p)).collect::<Vec<u8>>();
        stage.client_breaks(&fault(row, join(masked), masked(*first, payload)), 1002);
        stage.service_breaks(&fault(row, join(frame), frame(*first, payload)), 1002);
    }
}

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
    breaks_both_ways(&Stage::new("", ""), &[
        ("F2 RSV1 without deflate", &[], (FIN | RSV1 | TEXT, b"x")),
        ("F2 RSV2", &[(FIN | TEXT, b"good")], (FIN | RSV2 | TEXT, b"x")),
        ("F2 RSV3", &[], (FIN | RSV3 | BINARY, b"x")),
        ("F2 RSV1 on a ping", &[], (FIN | RSV1 | PING, b"")),
        ("F2 RSV2 on a Close", &[], (FIN | RSV2 | CLOSE, b"")),
    ]);
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
    stage.passes("F2 compressed messages, whole and in fragments", &[
        (FIN | RSV1 | TEXT, &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]),
        (RSV1 | BINARY, b"a"),
        (FIN | PING, b"between"),
        (CONTINUATION, b"b"),
        (FIN | CONTINUATION, b"c"),
        (FIN | TEXT, b"not compressed"),
    ]);
    breaks_both_ways(&stage, &[
        ("F2 RSV1 on a continuation", &[(RSV1 | TEXT, b"a")], (FIN | RSV1 | CONTINUATION, b"b")),
        ("F2 RSV1 on a ping", &[], (FIN | RSV1 | PING, b"")),
        ("F2 RSV2 beside deflate", &[], (FIN | RSV2 | TEXT, b"x")),
        ("F2 RSV1 and RSV3", &[], (FIN | RSV1 | RSV3 | TEXT, b"x")),
    ]);
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
    breaks_both_ways(&Stage::new("", ""), &[
        ("F3 fragmented ping", &[], (PING, b"x")),
        ("F3 fragmented pong", &[], (PONG, b"x")),
        ("F3 fragmented Close", &[], (CLOSE, b"")),
        ("F3 ping of 126 bytes", &[], (FIN | PING, &[0; 126])),
        ("F3 Close of 126 bytes", &[], (FIN | CLOSE, &[3; 126])),
    ]);
}

#[test]
fn f4_fragments_out_of_order_are_a_fault() {
    breaks_both_ways(&Stage::new("", ""), &[
        ("F4 a stray continuation", &[], (FIN | CONTINUATION, b"x")),
        ("F4 a stray fragment", &[], (CONTINUATION, b"x")),
        ("F4 a continuation behind the last", &[(TEXT, b"a"), (FIN | CONTINUATION, b"b")], (FIN | CONTINUATION, b"c")),
        ("F4 text inside a message", &[(TEXT, b"a")], (FIN | TEXT, b"b")),
        ("F4 binary inside a message", &[(TEXT, b"a"), (FIN | PING, b"")], (BINARY, b"b")),
    ]);
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
        stage.client_breaks(&fault(row, masked(FIN | TEXT, b"good"), [&header(0x80)[..], &[1, 2, 3, 4]].concat()), 1002);
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
    let rows: [(&'static str, &[(u8, &[u8])], u8, u16); 4] = [
        ("F6 frame", &[(FIN | TEXT, b"good")], FIN | BINARY, 1001),
        ("F6 message of two frames", &[(BINARY, &[5; 900]), (CONTINUATION, &[5; 900])], FIN | CONTINUATION, 201),
        ("F6 full message", &[(BINARY, &kilobyte), (CONTINUATION, &kilobyte)], CONTINUATION, 126),
        ("F6 fragments", &[(TEXT, b""), (CONTINUATION, b""), (CONTINUATION, b"a"), (CONTINUATION, b"b")], CONTINUATION, 200),
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
    stage.passes("F6 message, twice", &[
        (BINARY, &[1; 1000]),
        (FIN | CONTINUATION, &[2; 1000]),
        (BINARY, &[3; 1000]),
        (FIN | CONTINUATION, &[4; 1000]),
    ]);
    let (first, next, last) = ((TEXT, &b"a"[..]), (CONTINUATION, &b"b"[..]), (FIN | CONTINUATION, &b"c"[..]));
    stage.passes("F6 fragments with pings between", &[first, next, (FIN | PING, b""), next, (FIN | PING, b""), last]);
}

#[test]
fn f7_text_that_is_not_utf_8_passes_for_the_endpoint_to_judge() {
    let stage = Stage::new("", "");
    stage.passes("F7", &[(FIN | TEXT, &[0xff, 0xfe, 0xc0, 0x80]), (TEXT, &[0xc3]), (FIN | CONTINUATION, &[0x28])]);
}

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
        upstream.finish();
        assert_eq!(client.rest(), b"", "{row}");
    }
    let (client, mut upstream) = stage.open();
    client.reset();
    upstream.gone();
}

#[test]
fn f9_a_client_that_is_lost_under_tls_ends_the_service_at_once() {
    let stage = Stage::new("", "");
    let (client, mut upstream) = Harness::open_on(stage.harness.connect_tls(), &stage.service, "", "");
    drop(client);
    upstream.gone();
}

#[test]
fn control_frames_pass_in_both_directions() {
    let stage = Stage::new("", "");
    stage.passes("pings and pongs, asked for or not", &[
        (FIN | PING, b""),
        (FIN | PONG, b"unsolicited"),
        (FIN | PING, &[7; 125]),
        (FIN | PONG, &[7; 125]),
        (FIN | PONG, b"8 bytes."),
    ]);
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
    let frames: Vec<(u8, &[u8])> = frames.iter().map(|(first, payload)| (*first, &payload[..])).collect();
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
    let up = [masked(TEXT, b"a"), masked(FIN | CONTINUATION, &[2; 100_000])].concat();
    client.send(&up);
    assert!(upstream.take(up.len()) == up);
    let down = [frame(TEXT, b"a"), frame(FIN | CONTINUATION, &[2; 100_000])].concat();
    upstream.send(&down);
    assert!(client.take(down.len()) == down);
    client.send(frame(FIN | TEXT, b"bare"));
    assert_eq!(client.frame().close().map(|(code, _)| code), Some(1002), "F1 over TLS");
}
