//! What a leg holds, over real sockets.

use super::*;
use crate::proxy::frame::Reserved;
use crate::routing::MessageLimits;
use tokio::net::{TcpListener, TcpStream};

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap());
    let (near, far) = tokio::join!(near, listener.accept());
    (near.unwrap(), far.unwrap().0)
}

/// What a leg holds, at most and at the end, for a receiver that takes nothing until its sender is held back.
async fn held(limit: usize) -> (usize, Leg) {
    let ((sender, from), (to, receiver)) = (pair().await, pair().await);
    let (mut from, mut to) = (Transport::Plain(from), Transport::Plain(to));
    let limits = MessageLimits { buffer_limit_bytes: limit, ..MessageLimits::default() };
    let rules = FrameRules::new(Direction::Out, Reserved::None, &limits);
    let (counters, mut leg, mut most) = (SessionCounters::default(), Leg::default(), 0);
    let frame = [&[0x82, 126, 0xf0, 0x00][..], &vec![7; 0xf000]].concat();
    let mut sent = 0;
    loop {
        let more = sender.try_write(&frame[sent % frame.len()..]).unwrap_or(0);
        sent += more;
        let waker = std::task::Waker::noop();
        let seen = leg.poll(&mut Context::from_waker(waker), &mut from, &mut to, &rules, &counters);
        most = most.max(leg.backlog.as_ref().map_or(0, |backlog| backlog.len()) + leg.held.len());
        if more == 0 && seen == Seen::Blocked && leg.stalled_since().is_some() {
            break;
        }
        tokio::task::yield_now().await;
    }
    let mut scratch = vec![0; 1 << 20];
    let mut taken = 0;
    while taken < sent {
        let _ = receiver.try_read(&mut scratch).map(|more| taken += more);
        let waker = std::task::Waker::noop();
        leg.poll(&mut Context::from_waker(waker), &mut from, &mut to, &rules, &counters);
        tokio::task::yield_now().await;
    }
    (most, leg)
}

#[tokio::test]
async fn it_holds_up_to_its_limit_while_nothing_is_taken_and_nothing_afterwards() {
    for limit in [4096, 64 << 10, 1 << 20] {
        let (most, leg) = held(limit).await;
        assert!(most <= limit + MAX_HELD, "{most} bytes held with a limit of {limit}");
        assert!(most >= limit / 2 || limit <= SCRATCH, "{most} bytes held only with a limit of {limit}");
        assert!(leg.backlog.is_none() && leg.held.is_empty(), "an idle leg holds a buffer");
    }
}

/// What a leg says until it has seen a Close, while its receiver takes nothing more and its sender sends `pieces`.
async fn said_to_nobody(pieces: &[&[u8]]) -> Vec<Seen> {
    let ((sender, from), (to, _receiver)) = (pair().await, pair().await);
    socket2::SockRef::from(&to).shutdown(std::net::Shutdown::Write).unwrap();
    let (mut from, mut to) = (Transport::Plain(from), Transport::Plain(to));
    let limits = MessageLimits::default();
    let rules = FrameRules::new(Direction::Out, Reserved::None, &limits);
    let (counters, mut leg, mut said) = (SessionCounters::default(), Leg::default(), Vec::new());
    for piece in pieces {
        assert_eq!(sender.try_write(piece).unwrap(), piece.len());
        loop {
            let turn = |cx: &mut Context<'_>| match leg.poll(cx, &mut from, &mut to, &rules, &counters) {
                Seen::Blocked => Poll::Pending,
                seen => Poll::Ready(seen),
            };
            said.push(
                tokio::time::timeout(std::time::Duration::from_secs(5), std::future::poll_fn(turn)).await.unwrap(),
            );
            if leg.held.is_empty() || !leg.unwalked {
                break;
            }
        }
    }
    assert_eq!(leg.output, Output::Broken);
    said
}

#[tokio::test]
async fn a_close_counts_though_the_receiver_takes_nothing_more() {
    let close = [0x88, 2, 0x03, 0xe8];
    let whole = [&[0x82, 3, 1, 2, 3][..], &close].concat();
    assert_eq!(said_to_nobody(&[&whole]).await, [Seen::Close(1000)], "in the read whose write fails");
    let (before, after) = ([0x82, 3, 1, 2, 3, 0x82], [&[2, 0x88, 0x88][..], &close].concat());
    let said = said_to_nobody(&[&before, &after]).await;
    assert_eq!(said, [Seen::WriteFailed, Seen::Close(1000)], "behind half a header that came in that read");
}
