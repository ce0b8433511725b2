//! What is measured: the rows of the table.
//!
//! A message that is relayed one way counts as one message, so the round trip
//! of an echo is two messages, and its bytes count both ways too.

use crate::rivals::Buffers;

/// What is measured in one go: a line of the table for each of its parts.
pub(crate) struct Row {
    /// Name for `--only`.
    pub(crate) name: &'static str,
    /// The figures of one trial.
    pub(crate) parts: &'static [Part],
    /// TLS on the client's side; the upstream side is always plain.
    pub(crate) tls: bool,
    /// What happens.
    pub(crate) shape: Shape,
}

/// One line of the table.
#[derive(Clone, Copy)]
pub(crate) struct Part {
    /// Text of the table.
    pub(crate) title: &'static str,
    /// Unit of the figures.
    pub(crate) unit: &'static str,
    /// What Sheave aims at.
    pub(crate) aim: Aim,
}

/// What Sheave aims at.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Aim {
    /// Nothing: the figure is told.
    None,
    /// Not to exceed the best rival.
    Best,
    /// Nor this figure.
    BestAndAtMost(f64),
}

/// The kinds of measurement.
#[derive(Clone, Copy)]
pub(crate) enum Shape {
    /// CPU a handshake: connect, upgrade, close, on `at_once` connections.
    Handshake {
        /// Handshakes under way at any time.
        at_once: usize,
        /// Hosts that are routed, each by a route of its own; 0 for one route that takes all.
        routes: usize,
        /// Whether the TLS sessions resume earlier ones.
        resumed: bool,
    },
    /// Memory an idle connection: the slope over growing numbers of them; then CPU while they are idle.
    Idle,
    /// Time added to a round trip at a fixed rate: its median, and what one in a hundred exceeds.
    Latency {
        /// Open connections.
        connections: usize,
        /// Messages a second over all of them.
        per_second: usize,
    },
    /// CPU a message or a megabyte, echoed.
    Relay {
        /// Open connections, all busy.
        connections: usize,
        /// Messages under way on each.
        in_flight: usize,
        /// Payload of one message in bytes.
        payload_bytes: usize,
        /// Count megabytes (10^6 bytes of payload) and not messages.
        per_megabyte: bool,
    },
    /// CPU of an edit of one route among many, while messages pass at a fixed rate; and how long until it is live.
    Swap {
        /// Routes.
        routes: usize,
        /// Open connections.
        connections: usize,
        /// Messages a second over all of them.
        per_second: usize,
    },
}

const PING_PONG: Shape = Shape::Relay { connections: 100, in_flight: 1, payload_bytes: 128, per_megabyte: false };
const PIPELINED: Shape = Shape::Relay { connections: 32, in_flight: 16, payload_bytes: 128, per_megabyte: false };
const BULK: Shape = Shape::Relay { connections: 8, in_flight: 1, payload_bytes: 64 * 1024, per_megabyte: true };
const HANDSHAKE: Shape = Shape::Handshake { at_once: 16, routes: 0, resumed: false };
// As many as tickets that the load keeps for one server, so that each handshake finds one.
const RESUMED: Shape = Shape::Handshake { at_once: 6, routes: 0, resumed: true };
const ROUTED: Shape = Shape::Handshake { at_once: 16, routes: 5_000, resumed: false };
const LATENCY: Shape = Shape::Latency { connections: 100, per_second: 2_000 };
const SWAP: Shape = Shape::Swap { routes: 5_000, connections: 100, per_second: 2_000 };

/// All rows, in the order of the table.
pub(crate) const ROWS: [Row; 15] = [
    row("ping-pong-plain", &[best("128 B ping-pong, 100 connections", "µs/message")], PING_PONG),
    row("ping-pong-tls", &[best("128 B ping-pong, 100 connections, TLS", "µs/message")], PING_PONG),
    row("pipelined-plain", &[best("128 B, 16 in flight on 32", "µs/message")], PIPELINED),
    row("pipelined-tls", &[best("128 B, 16 in flight on 32, TLS", "µs/message")], PIPELINED),
    row("bulk-plain", &[best("64 KiB up and down", "µs/MB")], BULK),
    row("bulk-tls", &[best("64 KiB up and down, TLS", "µs/MB")], BULK),
    row(
        "latency-plain",
        &[best("added round trip, p50, 2,000 messages/s", "µs"), best("added round trip, p99, 2,000 messages/s", "µs")],
        LATENCY,
    ),
    row(
        "latency-tls",
        &[
            best("added round trip, p50, 2,000 messages/s, TLS", "µs"),
            best("added round trip, p99, 2,000 messages/s, TLS", "µs"),
        ],
        LATENCY,
    ),
    row("handshake-plain", &[best("handshake", "µs/handshake")], HANDSHAKE),
    row("handshake-routes", &[best("handshake, 5,000 routes", "µs/handshake")], ROUTED),
    row("handshake-tls", &[best("handshake, TLS", "µs/handshake")], HANDSHAKE),
    row("handshake-resumed-tls", &[best("handshake, TLS resumed", "µs/handshake")], RESUMED),
    row(
        "swap",
        &[best("edit of one route of 5,000, under load", "ms CPU/edit"), told("the same, until it answers 101", "ms")],
        SWAP,
    ),
    row(
        "idle-plain",
        &[at_most("idle connection", "bytes", 2_400.0), told("CPU of 9,000 idle connections", "ms/s")],
        Shape::Idle,
    ),
    row(
        "idle-tls",
        &[at_most("idle connection, TLS", "bytes", 9_600.0), told("CPU of 9,000 idle connections, TLS", "ms/s")],
        Shape::Idle,
    ),
];

/// Makes a row; a name that ends in `-tls` makes it a TLS one.
const fn row(name: &'static str, parts: &'static [Part], shape: Shape) -> Row {
    let letters = name.as_bytes();
    let tls = matches!(letters, [.., b'-', b't', b'l', b's']);
    Row { name, parts, tls, shape }
}

const fn best(title: &'static str, unit: &'static str) -> Part {
    Part { title, unit, aim: Aim::Best }
}

const fn at_most(title: &'static str, unit: &'static str, ceiling: f64) -> Part {
    Part { title, unit, aim: Aim::BestAndAtMost(ceiling) }
}

const fn told(title: &'static str, unit: &'static str) -> Part {
    Part { title, unit, aim: Aim::None }
}

impl Row {
    /// What a rival's buffers are best sized for in this row.
    pub(crate) fn buffers(&self) -> Buffers {
        match self.shape {
            Shape::Idle => Buffers::Idle,
            Shape::Relay { per_megabyte: true, .. } => Buffers::Bulk,
            _ => Buffers::Default,
        }
    }

    /// Routes that the proxy has; 0 for one that takes all.
    pub(crate) fn routes(&self) -> usize {
        match self.shape {
            Shape::Handshake { routes, .. } | Shape::Swap { routes, .. } => routes,
            _ => 0,
        }
    }
}
