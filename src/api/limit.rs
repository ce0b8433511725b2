//! Limits: how often, how many at a time, and how long one side may keep the other waiting.

use super::Duration;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A unit of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RateUnit {
    /// An hour.
    Hour,
    /// A minute.
    Minute,
    /// A second.
    #[default]
    Second,
}

/// So many in a unit of time, and so many at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rate {
    /// How many per unit.
    #[schemars(range(min = 1, max = 1_000_000_000_000_i64))]
    pub limit: i64,
    /// Second (the default), Minute or Hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = super::choice::optional::<super::RateUnit>)]
    pub unit: Option<RateUnit>,
    /// How many at once after a rest. Default: limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000_000_i64))]
    pub burst: Option<i64>,
}

/// By what handshakes are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RateKey {
    /// By client address; IPv6 by /64.
    ClientIP,
    /// By the client's name, after authentication.
    Consumer,
    /// By the value of a header.
    Header,
    /// All handshakes of the route together.
    Route,
}

/// A bound on handshakes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.key == 'Header') == has(self.header)").message("set header when key is Header, and only then").field_path(".header"))]
pub struct HandshakeRate {
    /// How many per unit.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub limit: i64,
    /// Second (the default), Minute or Hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = super::choice::optional::<super::RateUnit>)]
    pub unit: Option<RateUnit>,
    /// How many at once after a rest. Default: limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub burst: Option<i64>,
    /// Route, ClientIP, Consumer or Header. A handshake without the header, or of a nameless client, is counted by
    /// address.
    pub key: RateKey,
    /// The header, when key is Header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = super::pattern::header_name)]
    pub header: Option<String>,
}

/// What happens to a session that exceeds its rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnExceed {
    /// It is closed with 1008 once it has been held back for a second without pause.
    Close,
    /// It is read more slowly: the client feels back-pressure.
    #[default]
    Throttle,
}

/// Rates of what a client sends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConsumerRates {
    /// Data messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<Rate>,
    /// Bytes of frames.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<Rate>,
    /// Pings and pongs, but for those that answer Sheave's own pings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control_frames: Option<Rate>,
}

/// Bounds on how often. Each is counted by each Sheave pod on its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RateLimit {
    /// New handshakes. Above it: 429 with Retry-After.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handshakes: Option<HandshakeRate>,
    /// Data messages that the client of one session sends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<Rate>,
    /// Bytes of frames that the client of one session sends. A frame larger than the burst passes whole once nothing
    /// else has passed for as long as the burst takes to come back; what follows it waits for the rest of its share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<Rate>,
    /// Pings and pongs that the client of one session sends, but for those that answer Sheave's own pings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control_frames: Option<Rate>,
    /// The same for all sessions of one consumer together; nameless clients have none of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_consumer: Option<ConsumerRates>,
    /// Throttle (the default) or Close, for messages, bytes and control frames.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = super::choice::optional::<super::OnExceed>)]
    pub on_exceed: Option<OnExceed>,
}

/// Bounds on live sessions at a time. Each is counted by each Sheave pod on its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionLimit {
    /// Of the route. Above it: 503.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub max_connections: Option<i64>,
    /// Of one client address on this route; IPv6 by /64. Above it: 429.
    #[serde(default, rename = "maxConnectionsPerClientIP", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub max_connections_per_client_ip: Option<i64>,
    /// Of one consumer on this route. Above it: 429.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub max_connections_per_consumer: Option<i64>,
    /// Of one endpoint, by whatever route they came. Full endpoints are passed over; when all are full: 503.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub max_connections_per_endpoint: Option<i64>,
}

/// What is done about a side that takes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SlowConsumerAction {
    /// The session is closed.
    #[default]
    Close,
}

/// A bound on how long a side may take no bytes while the other one is sending.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("duration(self.timeout) > duration('0s')").message("timeout must be above 0s: leave slowConsumer out for no bound").field_path(".timeout"))]
pub struct SlowConsumer {
    /// How long. Above 0s. That a side takes bytes is noticed in steps of what the kernels hold on the way.
    pub timeout: Duration,
    /// Close: the session ends. The client of a slow backend gets 1013, the backend of a slow client 1001; a slow client
    /// that takes bytes again before timeouts.close has passed gets 1008.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = super::choice::optional::<super::SlowConsumerAction>)]
    pub action: Option<SlowConsumerAction>,
}
