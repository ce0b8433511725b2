//! The bounds and manners of a rule's sessions, with every default already filled in by compile.

use super::access::Rate;
use serde::{Serialize, Serializer};
use std::time::Duration;

pub(super) fn whole<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{duration:?}"))
}

#[allow(clippy::ref_option)] // serde hands a reference
fn optional<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => whole(duration, serializer),
        None => serializer.serialize_str("disabled"),
    }
}

/// Everything about a rule that is not where it leads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Policy {
    /// When things take too long.
    pub timeouts: Timeouts,
    /// Pings of our own.
    pub keepalive: Keepalive,
    /// How large messages may be.
    pub messages: MessageLimits,
    /// How much a client may send in a time; `None` where nothing of it is bounded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rates: Option<Box<SessionRates>>,
    /// How sessions are ended when they must be.
    pub drain: Drain,
    /// How an endpoint is chosen.
    pub balancing: LoadBalancing,
}

/// Deadlines of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Timeouts {
    /// From the accepted TCP connection to the answer of the handshake. Default 10 s.
    #[serde(serialize_with = "whole")]
    pub handshake: Duration,
    /// For one TCP (and TLS) connection to an endpoint. Default 3 s.
    #[serde(serialize_with = "whole")]
    pub backend_connect: Duration,
    /// Without a frame in either direction. Default 5 min; `None` never ends.
    #[serde(serialize_with = "optional")]
    pub idle: Option<Duration>,
    /// For the peer's Close after ours. Default 5 s.
    #[serde(serialize_with = "whole")]
    pub close: Duration,
    /// For the session as a whole. Default `None`: no bound.
    #[serde(serialize_with = "optional")]
    pub max_connection_duration: Option<Duration>,
    /// Up to this much is taken off the bound at random, so that sessions opened together end apart. Default 10.
    pub max_connection_duration_jitter_percent: u8,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            backend_connect: Duration::from_secs(3),
            idle: Some(Duration::from_secs(300)),
            close: Duration::from_secs(5),
            max_connection_duration: None,
            max_connection_duration_jitter_percent: 10,
        }
    }
}

/// Which legs get pings of our own (RFC 6455 §5.5.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum KeepaliveMode {
    /// The upstream leg.
    Backend,
    /// Both legs.
    Both,
    /// The downstream leg.
    Client,
    /// None.
    #[default]
    Disabled,
}

impl KeepaliveMode {
    /// Whether the downstream leg is pinged.
    pub fn downstream(self) -> bool {
        matches!(self, Self::Both | Self::Client)
    }

    /// Whether the upstream leg is pinged.
    pub fn upstream(self) -> bool {
        matches!(self, Self::Both | Self::Backend)
    }
}

/// Pings of our own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Keepalive {
    /// On which legs.
    pub mode: KeepaliveMode,
    /// Between two pings. Default 30 s.
    #[serde(serialize_with = "whole")]
    pub interval: Duration,
    /// For the pong. Default 10 s.
    #[serde(serialize_with = "whole")]
    pub timeout: Duration,
}

impl Default for Keepalive {
    fn default() -> Self {
        Self { mode: KeepaliveMode::default(), interval: Duration::from_secs(30), timeout: Duration::from_secs(10) }
    }
}

/// Size bounds, in bytes on the wire (RFC 6455 §10.4). Exceeding one closes with 1009.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MessageLimits {
    /// Payload of all frames of one message. Default 16 MiB; `None` has no bound.
    pub max_message_bytes: Option<u64>,
    /// Payload of one frame. Default `None`: as large as a message may be.
    pub max_frame_bytes: Option<u64>,
    /// Frames of one message. Default 16,384; `None` has no bound.
    pub max_fragments: Option<u32>,
    /// Bytes of one direction that are held while their receiver takes none; then its sender is not read. Default
    /// 64 KiB.
    #[serde(skip_serializing_if = "is_usual")]
    pub buffer_limit_bytes: usize,
    /// How long a side may take no byte while the other one's wait for it. Default `None`: as long as the system lets
    /// it.
    #[serde(serialize_with = "optional", skip_serializing_if = "Option::is_none")]
    pub slow_consumer: Option<Duration>,
}

/// What is held of a direction unless a route says otherwise, in bytes.
const BUFFER_LIMIT: usize = 64 << 10;

#[allow(clippy::trivially_copy_pass_by_ref)] // serde hands a reference
fn is_usual(buffer_limit: &usize) -> bool {
    *buffer_limit == BUFFER_LIMIT
}

impl Default for MessageLimits {
    fn default() -> Self {
        Self {
            max_message_bytes: Some(16 << 20),
            max_frame_bytes: None,
            max_fragments: Some(16_384),
            buffer_limit_bytes: BUFFER_LIMIT,
            slow_consumer: None,
        }
    }
}

/// How often a client may send what; `None` has no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rates {
    /// Data messages, counted at their first frame.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages: Option<Rate>,
    /// Bytes of frames, headers included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<Rate>,
    /// Pings and pongs, but for those that answer our own pings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control_frames: Option<Rate>,
}

impl Rates {
    /// Whether nothing is bounded.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// What happens to a client that is over its rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum OnExceed {
    /// Its session is closed with 1008 once it has been held back for a second without pause.
    Close,
    /// It is read more slowly.
    #[default]
    Throttle,
}

/// How much clients may send in a time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SessionRates {
    /// In one session.
    #[serde(skip_serializing_if = "Rates::is_none")]
    pub session: Rates,
    /// In all sessions of one consumer on the route together.
    #[serde(skip_serializing_if = "Rates::is_none")]
    pub consumer: Rates,
    /// And above it.
    pub on_exceed: OnExceed,
}

/// What happens to sessions of an endpoint that is going away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum OnEndpointTerminating {
    /// They are closed, spread over the drain window.
    #[default]
    CloseAfterGrace,
    /// They stay until either side closes.
    Keep,
}

/// How sessions are ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Drain {
    /// From the start of the drain to the cut. Default 60 s.
    #[serde(serialize_with = "whole")]
    pub timeout: Duration,
    /// The window the Close frames are spread over. Default 30 s.
    #[serde(serialize_with = "whole")]
    pub spread: Duration,
    /// The code of the Close frame; `None` is 1001 when Sheave stops and 1012 when the rule or endpoint goes.
    pub close_code: Option<u16>,
    /// Whether a terminating endpoint's sessions are closed at all.
    pub on_endpoint_terminating: OnEndpointTerminating,
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(60),
            spread: Duration::from_secs(30),
            close_code: None,
            on_endpoint_terminating: OnEndpointTerminating::default(),
        }
    }
}

/// How an endpoint is chosen within a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum LoadBalancing {
    /// The endpoint with the fewest sessions of this process.
    #[default]
    LeastConnections,
    /// The less loaded of two picked at random.
    PowerOfTwoChoices,
    /// In turn.
    RoundRobin,
}

/// Whether a route answers on the plaintext listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum Plaintext {
    /// It does.
    #[default]
    Allow,
    /// 403: `wss` only.
    Reject,
}
