//! Frames that are never finished: their sender ends or resets the connection at every byte of them. A data frame passes
//! as far as it came, once its header was whole; of anything else the other side gets nothing.

use crate::stand::{Case, Run, Stand, WAYS};
use crate::support::{BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, TEXT, Wire, close_body, masked};
use crate::violations::Sender;

/// How the sender leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leave {
    Finish,
    Reset,
}

/// A frame, cut.
struct Half {
    name: String,
    sender: Sender,
    leave: Leave,
    /// What came before and passes.
    good: Vec<u8>,
    part: Vec<u8>,
    /// How much of the part passes.
    passes: usize,
}

fn halves(sender: Sender, leave: Leave) -> Vec<Half> {
    let key = if sender == Sender::Client { 4 } else { 0 };
    let long = vec![7; 70_000];
    let kinds: [(&str, u8, &[u8], usize, bool); 6] = [
        ("a short frame", FIN | TEXT, b"hello", 2, true),
        ("a fragment", BINARY, b"hello", 2, true),
        ("a frame of 16 bits", FIN | BINARY, &long[..300], 4, true),
        ("a frame of 64 bits", FIN | BINARY, &long, 10, true),
        ("a ping", FIN | PING, b"hello", 2, false),
        ("a Close", FIN | CLOSE, &[3, 0xe8, b'b', b'y', b'e'], 2, false),
    ];
    let mut rows = Vec::new();
    for (kind, first, payload, header, data) in kinds {
        let whole = sender.frame((first, payload));
        let header = header + key;
        let cuts = (1..=header + 2).chain([whole.len() / 2, whole.len() - 1]);
        rows.extend(cuts.filter(|cut| *cut < whole.len()).map(|cut| Half {
            name: format!("{kind} cut at {cut} of {} ({sender:?}, {leave:?})", whole.len()),
            sender,
            leave,
            good: sender.frame((FIN | PONG, b"good")),
            part: whole[..cut].to_vec(),
            passes: if data && cut >= header { cut } else { 0 },
        }));
    }
    // Between two fragments the frame is whole and the message is not.
    rows.push(Half {
        name: format!("a message between fragments ({sender:?}, {leave:?})"),
        sender,
        leave,
        good: [sender.frame((TEXT, b"a")), sender.frame((CONTINUATION, b"b"))].concat(),
        part: vec![],
        passes: 0,
    });
    rows
}

fn leave(wire: Wire, how: Leave) -> Option<Wire> {
    match how {
        Leave::Finish => {
            wire.finish();
            Some(wire)
        }
        Leave::Reset => {
            wire.reset();
            None
        }
    }
}

fn cut(run: &Run<'_>, row: &Half) {
    let (client, upstream) = run.open("", "");
    let (mut sender, mut other) = match row.sender {
        Sender::Client => (client, upstream),
        Sender::Service => (upstream, client),
    };
    let expected = [&row.good[..], &row.part[..row.passes]].concat();
    sender.send(&row.good);
    assert_eq!(other.take(row.good.len()), row.good, "what came before passes");
    sender.send(&row.part);
    let _left = leave(sender, row.leave);
    if row.leave == Leave::Reset {
        // What a reset overtakes is lost; what comes is no more than what may.
        let mut came = other.gone();
        if row.sender == Sender::Service {
            came.truncate(came.len().min(row.passes)); // behind it, at a boundary, a Close
        }
        assert!(row.part[..row.passes].starts_with(&came), "{came:?}");
        return;
    }
    match row.sender {
        Sender::Client => assert!(other.gone() == expected[row.good.len()..], "more or less than what passes"),
        Sender::Service if row.passes > 0 => {
            assert!(other.gone() == expected[row.good.len()..], "no Close inside a frame, and nothing else");
        }
        Sender::Service => {
            let told = other.frame();
            assert_eq!(told.close().map(|(code, _)| code), Some(1014), "{told:?}");
            other.send(masked(FIN | CLOSE, &close_body(1014, "")));
            assert_eq!(other.rest(), b"", "behind the Close");
        }
    }
}

#[test]
fn a_frame_that_is_never_finished_passes_as_far_as_it_came_or_not_at_all() {
    let rows: Vec<Half> = [Sender::Client, Sender::Service]
        .into_iter()
        .flat_map(|sender| [Leave::Finish, Leave::Reset].into_iter().flat_map(move |leave| halves(sender, leave)))
        .collect();
    let case = |way, row| {
        let row: &Half = row;
        Case::new(row.name.clone(), way, move |run| cut(run, row))
    };
    let cases: Vec<_> = WAYS.iter().flat_map(|way| rows.iter().map(|row| case(*way, row))).collect();
    Stand::new("", |_| {}).judge(&cases);
}
