//! Too much of what is allowed: every byte arrives in order, whoever floods is held to what the other side takes, and
//! nobody else notices.

use crate::stand::{Case, ROW, Run, Stand, WAYS, Way, offer};
use crate::support::{CONTINUATION, FIN, PING, PONG, TEXT, Wire, close, masked, refusal};
use crate::violations::Sender;

/// What is sent, in how many pieces.
struct Flood {
    name: &'static str,
    bytes: fn(Sender) -> Vec<u8>,
    /// The bytes of a piece; 0 for all at once.
    piece: usize,
}

const FLOODS: [Flood; 6] = [
    Flood { name: "10,000 pings", bytes: |sender| sender.frame((FIN | PING, b"")).repeat(10_000), piece: 0 },
    Flood {
        name: "10,000 pongs nobody asked for",
        bytes: |sender| sender.frame((FIN | PONG, b"12345678")).repeat(10_000),
        piece: 0,
    },
    Flood { name: "10,000 empty messages", bytes: |sender| sender.frame((FIN | TEXT, b"")).repeat(10_000), piece: 0 },
    Flood { name: "10,000 fragments of one byte", bytes: fragments, piece: 0 },
    Flood { name: "10,000 fragments of one byte, each in three pieces", bytes: fragments, piece: 3 },
    Flood {
        name: "megabytes of pings",
        bytes: |sender| sender.frame((FIN | PING, &[7; 125])).repeat(30_000),
        piece: 0,
    },
];

/// One message, a ping in its middle.
fn fragments(sender: Sender) -> Vec<u8> {
    let one = sender.frame((CONTINUATION, b"b"));
    let first = [sender.frame((TEXT, b"a")), one.repeat(4_999), sender.frame((FIN | PING, b"between"))].concat();
    [first, one.repeat(4_999), sender.frame((FIN | CONTINUATION, b"c"))].concat()
}

/// Sends all of it to a side that does not read before the first of it is there, and then takes it all.
fn pour(flood: &Flood, sender: Sender, from: &mut Wire, to: &mut Wire) {
    let bytes = (flood.bytes)(sender);
    let piece = if flood.piece == 0 { bytes.len() } else { flood.piece };
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| bytes.chunks(piece).for_each(|chunk| from.send(chunk)));
        assert!(to.take(bytes.len()) == bytes, "lost, changed or out of order");
        sending.join().expect("all of it is taken");
    });
}

#[test]
fn a_flood_of_what_is_allowed_arrives_whole() {
    let case = |way, flood, sender| {
        let flood: &Flood = flood;
        Case::new(format!("{} ({sender:?})", flood.name), way, move |run: &Run<'_>| {
            let (mut client, mut upstream) = run.open("", "");
            match sender {
                Sender::Client => pour(flood, sender, &mut client, &mut upstream),
                Sender::Service => pour(flood, sender, &mut upstream, &mut client),
            }
            upstream.send(close(1000, ""));
            assert_eq!(client.frame().close().map(|(code, _)| code), Some(1000), "behind the flood");
        })
    };
    let senders = [Sender::Client, Sender::Service];
    let of_way = |way: &Way| {
        let way = *way;
        FLOODS.iter().flat_map(move |flood| senders.map(|sender| case(way, flood, sender)))
    };
    Stand::new("", |_| {}).judge(&WAYS.iter().flat_map(of_way).collect::<Vec<_>>());
}

/// What they do, and how one of them comes.
type Crowd = (&'static str, fn(&Run<'_>) -> Wire);

/// Clients that come in numbers and mean no good; each gives what it holds when the others have come, too.
const CROWDS: [Crowd; 6] = [
    ("that say nothing", |run| run.connect()),
    ("that say half a head", |run| run.send(b"GET /chat HTTP/1.1\r\nHost: chat.exa")),
    ("that speak something else", |run| run.send(&[0x16, 3, 1, 2, 0, 1, 0, 1])),
    ("that are refused and stay", |run| {
        let mut client = run.send(b"POST / HTTP/1.1\r\nX-Row: {row}\r\nHost: a\r\n\r\n");
        assert_eq!(client.head().status(), 405);
        client
    }),
    ("that send without end behind a refusal", |run| {
        let mut client = run.send(&[&b"GET / HTTP/1.1\r\n\r\n"[..], &[b'x'; 200_000]].concat());
        assert_eq!(client.head().status(), 400);
        client
    }),
    ("that send two requests in one", |run| run.send(&[b"GET / HTTP/1.1\r\n\r\n".repeat(2), offer("")].concat())),
];

#[test]
fn a_crowd_that_means_no_good_keeps_nobody_out() {
    let case = |way, (name, come): &Crowd, resets: bool| {
        let come = *come;
        Case::new(
            format!("clients {name}, {}", if resets { "then reset" } else { "then leave" }),
            way,
            move |run: &Run<'_>| {
                let crowd: Vec<Wire> = (0..16).map(|_| come(run)).collect();
                let (mut client, mut upstream) = run.open("", "");
                let message = masked(FIN | TEXT, b"still served");
                client.send(&message);
                assert_eq!(upstream.take(message.len()), message);
                for one in crowd {
                    if resets { one.reset() } else { drop(one) }
                }
                client.send(&message);
                assert_eq!(upstream.take(message.len()), message);
            },
        )
    };
    let ways = [Way::Clear, Way::TlsFromTheClient];
    let of_way = |way: &Way| {
        let way = *way;
        CROWDS.iter().flat_map(move |crowd| [false, true].map(|resets| case(way, crowd, resets)))
    };
    Stand::new("", |_| {}).judge(&ways.iter().flat_map(of_way).collect::<Vec<_>>());
}

#[test]
fn a_refused_client_that_never_stops_sending_is_left() {
    let case = |way| {
        Case::new("a request and gigabytes behind it", way, |run: &Run<'_>| {
            let mut client = run.send(format!("GET /{ROW} HTTP/1.1\r\n\r\n").as_bytes());
            refusal(&mut client, "", 400);
            let block = vec![b'x'; 64 << 10];
            let taken = (0..16_384).take_while(|_| client.try_send(&block).is_ok()).count();
            assert!(taken < 16_384, "a gigabyte was taken");
        })
    };
    Stand::new("", |_| {}).judge(&WAYS.map(case));
}
