//! Properties of the way of a frame: chopping a stream changes nothing of what the walker sees in it, and what comes out
//! of the relay is what went in.
//!
//! The streams are made up: sizes around the ends of the length forms, fragments, control frames between them, and now
//! and then something that is no frame. A failure names the smallest stream that shows it.

mod frame_model;
mod support;

use frame_model::Terms;
use proptest::collection::vec;
use proptest::prelude::*;
use sheave::proxy::frame::{Reserved, Stop};
use sheave::routing::MessageLimits;
use sheave::telemetry::Direction;
use support::{BINARY, CLOSE, CONTINUATION, FIN, Harness, PING, PONG, Service, TEXT, Wire, close_body, frame, masked};

/// A control frame's opcode and how long its payload is.
type Control = (u8, usize);

/// One thing that a side says.
#[derive(Clone, Debug)]
enum Word {
    Control(Control),
    /// The opcode; of each fragment the size, and what comes between it and the next.
    Message(u8, Vec<(usize, Option<Control>)>),
    /// Not made by a rule.
    Raw(Vec<u8>),
}

/// Payload sizes: at the ends of the three length forms, and others.
fn size() -> impl Strategy<Value = usize> {
    prop_oneof![
        6 => 0..=130_usize,
        2 => Just(125_usize),
        2 => Just(126_usize),
        1 => Just(65_535_usize),
        1 => Just(65_536_usize),
        2 => 0..=3_000_usize,
    ]
}

fn control() -> impl Strategy<Value = Control> {
    (prop_oneof![Just(PING), Just(PONG)], 0..=125_usize)
}

fn message() -> impl Strategy<Value = Word> {
    let opcode = prop_oneof![Just(TEXT), Just(BINARY)];
    (opcode, vec((size(), proptest::option::of(control())), 1..5))
        .prop_map(|(opcode, parts)| Word::Message(opcode, parts))
}

/// What keeps the rules.
fn conversation() -> impl Strategy<Value = Vec<Word>> {
    vec(prop_oneof![3 => message(), 1 => control().prop_map(Word::Control)], 0..10)
}

/// What may break them, or end in a Close.
fn stream() -> impl Strategy<Value = Vec<Word>> {
    let close = (prop_oneof![900..1100_u16, 2990..5010_u16], any::<bool>())
        .prop_map(|(code, masks)| Word::Raw(build(masks, FIN | CLOSE, &close_body(code, "bye"))));
    let end = prop_oneof![3 => vec(any::<u8>(), 0..20).prop_map(Word::Raw), 1 => close];
    (conversation(), end).prop_map(|(mut words, end)| {
        words.push(end);
        words
    })
}

/// How many bytes come at once, again and again.
fn pieces() -> impl Strategy<Value = Vec<usize>> {
    vec(prop_oneof![3 => 1..=8_usize, 2 => 9..=200_usize, 1 => 201..=70_000_usize], 1..12)
}

fn build(masks: bool, first: u8, payload: &[u8]) -> Vec<u8> {
    if masks { masked(first, payload) } else { frame(first, payload) }
}

/// The bytes of what a side says; a client `masks`.
fn bytes(words: &[Word], masks: bool) -> Vec<u8> {
    let payload = |size: usize| (0..size).map(|at| (at * 31 + size) as u8).collect::<Vec<u8>>();
    let mut out = Vec::new();
    for word in words {
        match word {
            Word::Control((opcode, size)) => out.extend(build(masks, FIN | opcode, &payload(*size))),
            Word::Message(opcode, parts) => {
                for (at, (size, between)) in parts.iter().enumerate() {
                    let last = at + 1 == parts.len();
                    let opcode = if at == 0 { *opcode } else { CONTINUATION };
                    out.extend(build(masks, if last { FIN | opcode } else { opcode }, &payload(*size)));
                    if let Some((opcode, size)) = between.filter(|_| !last) {
                        out.extend(build(masks, FIN | opcode, &payload(size)));
                    }
                }
            }
            Word::Raw(bytes) => out.extend(bytes),
        }
    }
    out
}

fn limits() -> impl Strategy<Value = MessageLimits> {
    let narrow = MessageLimits {
        max_message_bytes: Some(4_000),
        max_frame_bytes: Some(2_000),
        max_fragments: Some(3),
        ..MessageLimits::default()
    };
    prop_oneof![3 => Just(MessageLimits::default()), 1 => Just(narrow)]
}

fn terms() -> impl Strategy<Value = Terms> {
    let direction = prop_oneof![Just(Direction::In), Just(Direction::Out)];
    let reserved = prop_oneof![2 => Just(Reserved::None), 1 => Just(Reserved::Deflate), 1 => Just(Reserved::Any)];
    let nonce = proptest::option::of(Just([8, 39, 70, 101, 132, 163, 194, 225])); // the payload of a pong of eight bytes
    (direction, reserved, limits(), nonce).prop_map(|(direction, reserved, limits, nonce)| Terms {
        direction,
        reserved,
        limits,
        nonce,
    })
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 2_000, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(400))]

    #[test]
    fn any_chopping_of_any_frame_stream_gives_the_same_events(
        words in stream(),
        terms in terms(),
        sizes in pieces(),
        stops in vec(prop_oneof![4 => Just(Stop::Never), 1 => Just(Stop::Frame), 1 => Just(Stop::Message)], 1..8),
    ) {
        let stream = bytes(&words, terms.direction == Direction::In);
        let (wanted, boundaries) = frame_model::read(&stream, &terms);
        let whole = frame_model::walk(&stream, &terms, &boundaries, || (stream.len(), Stop::Never));
        prop_assert_eq!(&whole, &wanted, "at once");
        let mut next = sizes.iter().copied().cycle().zip(stops.iter().copied().cycle());
        let chopped = frame_model::walk(&stream, &terms, &boundaries, || next.next().expect("a cycle"));
        prop_assert_eq!(&chopped, &wanted, "in pieces");
    }
}

/// What is said in one session, and in what pieces it is sent and taken.
#[derive(Clone, Debug)]
struct Talk {
    up: Vec<Word>,
    down: Vec<Word>,
    pieces: [Vec<usize>; 4],
}

fn talk() -> impl Strategy<Value = Talk> {
    (conversation(), conversation(), [pieces(), pieces(), pieces(), pieces()]).prop_map(|(up, down, pieces)| Talk {
        up,
        down,
        pieces,
    })
}

/// Parts of `bytes` as long as `sizes` say, again and again.
fn parts<'b>(mut bytes: &'b [u8], sizes: &[usize]) -> Vec<&'b [u8]> {
    let mut parts = Vec::new();
    for size in sizes.iter().cycle() {
        if bytes.is_empty() {
            break;
        }
        let (part, rest) = bytes.split_at((*size).min(bytes.len()));
        parts.push(part);
        bytes = rest;
    }
    parts
}

/// Both sides talk at once. What each takes is what the other sent, to the last byte of its Close.
fn relays(client: Wire, service: &Service, talk: &Talk) -> Result<(), TestCaseError> {
    let (mut client, mut upstream) = Harness::open_on(client, service, "", "");
    let up = [bytes(&talk.up, true), masked(FIN | CLOSE, &close_body(1000, "done"))].concat();
    let down = [bytes(&talk.down, false), frame(FIN | CLOSE, &close_body(1000, "done"))].concat();
    let (before, close) = down.split_at(down.len() - 8);
    let [client_sends, client_takes, service_sends, service_takes] = &talk.pieces;
    std::thread::scope(|scope| {
        let mut speaking = upstream.again();
        let said = scope.spawn(move || parts(before, service_sends).into_iter().for_each(|part| speaking.send(part)));
        let heard = scope.spawn(|| {
            let heard: Vec<u8> = parts(&up, service_takes).iter().flat_map(|part| upstream.take(part.len())).collect();
            (heard, upstream)
        });
        // The client does both in turn: what it takes comes whatever it has sent, so neither waits for the other.
        let (mut sends, mut takes) = (parts(&up, client_sends).into_iter(), parts(before, client_takes).into_iter());
        let last = sends.next_back();
        let mut got = Vec::new();
        loop {
            let (send, take) = (sends.next(), takes.next());
            if let Some(part) = send {
                client.send(part);
            }
            if let Some(part) = take {
                got.extend(client.take(part.len()));
            }
            if send.is_none() && take.is_none() {
                break;
            }
        }
        // Only now its Close, behind which nothing of the service's would have to come through.
        if let Some(part) = last {
            client.send(part);
        }
        said.join().expect("the service has spoken");
        let (heard, mut upstream) = heard.join().expect("the service has heard");
        prop_assert!(heard == up, "changed on the way to the service");
        upstream.send(close);
        got.extend(client.take(close.len()));
        prop_assert!(got == down, "changed on the way to the client");
        client.finish();
        upstream.finish();
        prop_assert!(upstream.rest().is_empty() && client.rest().is_empty(), "something behind the Closes");
        Ok(())
    })
}

/// Has `cases` sessions of one proxy relay what they are told.
fn each_session(cases: u32, connect: impl Fn(&Harness) -> Wire) {
    let service = Service::start();
    let harness = Harness::start(service.address, "timeouts: {close: 30s}"); // so that a busy machine cuts nobody off
    let config = ProptestConfig { max_shrink_iters: 60, ..config(cases) };
    let relayed =
        proptest::test_runner::TestRunner::new(config).run(&talk(), |talk| relays(connect(&harness), &service, &talk));
    relayed.unwrap_or_else(|fault| panic!("{fault}"));
}

#[test]
fn what_comes_out_of_the_relay_is_what_went_in() {
    each_session(40, Harness::connect);
}

#[test]
fn what_comes_out_of_the_relay_by_tls_is_what_went_in() {
    each_session(20, Harness::connect_tls);
}
