//! What is measured: the rows of the table.
//!
//! A message that is relayed one way counts as one message, so the round trip
//! of an echo is two messages, and its bytes count both ways too.

use crate::rivals::Buffers;

/// One line of the table.
pub(crate) struct Row {
    /// Name for `--only`.
    pub(crate) name: &'static str,
    /// Text of the table.
    pub(crate) title: &'static str,
    /// Unit of the figures.
    pub(crate) unit: &'static str,
    /// TLS on the client's side; the upstream side is always plain.
    pub(crate) tls: bool,
    /// What happens.
    pub(crate) shape: Shape,
    /// Figure that Sheave aims not to exceed, beside a ratio of 1.0.
    pub(crate) ceiling: Option<f64>,
}

/// The kinds of measurement.
#[derive(Clone, Copy)]
pub(crate) enum Shape {
    /// CPU a handshake: connect, upgrade, close, on `at_once` connections.
    Handshake {
        /// Handshakes under way at any time.
        at_once: usize,
    },
    /// Memory an idle connection: the slope between two numbers of them.
    Idle,
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
}

const PING_PONG: Shape = Shape::Relay { connections: 100, in_flight: 1, payload_bytes: 128, per_megabyte: false };
const PIPELINED: Shape = Shape::Relay { connections: 32, in_flight: 16, payload_bytes: 128, per_megabyte: false };
const BULK: Shape = Shape::Relay { connections: 8, in_flight: 1, payload_bytes: 64 * 1024, per_megabyte: true };
const HANDSHAKE: Shape = Shape::Handshake { at_once: 16 };

/// All rows, in the order of the table.
pub(crate) const ROWS: [Row; 10] = [
    row("ping-pong-plain", "128 B ping-pong, 100 connections", "µs/message", PING_PONG),
    row("ping-pong-tls", "128 B ping-pong, 100 connections, TLS", "µs/message", PING_PONG),
    row("pipelined-plain", "128 B, 16 in flight on 32", "µs/message", PIPELINED),
    row("pipelined-tls", "128 B, 16 in flight on 32, TLS", "µs/message", PIPELINED),
    row("bulk-plain", "64 KiB up and down", "µs/MB", BULK),
    row("bulk-tls", "64 KiB up and down, TLS", "µs/MB", BULK),
    row("handshake-plain", "handshake", "µs/handshake", HANDSHAKE),
    row("handshake-tls", "handshake, TLS", "µs/handshake", HANDSHAKE),
    row("idle-plain", "idle connection", "bytes", Shape::Idle).at_most(2_400.0),
    row("idle-tls", "idle connection, TLS", "bytes", Shape::Idle).at_most(9_600.0),
];

/// Makes a row; a name that ends in `-tls` makes it a TLS one.
const fn row(name: &'static str, title: &'static str, unit: &'static str, shape: Shape) -> Row {
    let letters = name.as_bytes();
    Row { name, title, unit, tls: letters[letters.len() - 1] == b's', shape, ceiling: None }
}

impl Row {
    const fn at_most(mut self, ceiling: f64) -> Self {
        self.ceiling = Some(ceiling);
        self
    }

    /// What a rival's buffers are best sized for in this row.
    pub(crate) fn buffers(&self) -> Buffers {
        match self.shape {
            Shape::Idle => Buffers::Idle,
            Shape::Relay { per_megabyte: true, .. } => Buffers::Bulk,
            Shape::Handshake { .. } | Shape::Relay { .. } => Buffers::Default,
        }
    }
}
