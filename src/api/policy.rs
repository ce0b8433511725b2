//! Policy blocks shared by routes and class defaults. Everything is optional here; built-in defaults are named in
//! the docs and filled in by compile. A block set on the route replaces the class's block whole.

use super::{Duration, SlowConsumer};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Deadlines. Durations are written as `10s`, `1h30m`, `500ms`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.handshake) || duration(self.handshake) > duration('0s')").message("handshake must be above 0s").field_path(".handshake"))]
#[x_kube(validation = Rule::new("!has(self.backendConnect) || duration(self.backendConnect) > duration('0s')").message("backendConnect must be above 0s").field_path(".backendConnect"))]
#[x_kube(validation = Rule::new("!has(self.close) || duration(self.close) > duration('0s')").message("close must be above 0s").field_path(".close"))]
#[x_kube(validation = Rule::new("!has(self.backendConnect) || duration(self.backendConnect) <= duration(has(self.handshake) ? self.handshake : '10s')").message("backendConnect must not exceed handshake (10s unless set): shorten backendConnect or lengthen handshake").field_path(".backendConnect"))]
pub struct Timeouts {
    /// From the accepted connection to the answer of the handshake, everything included. Default 10s; must be
    /// above 0s. The client gets 408 or 504 when it passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handshake: Option<Duration>,
    /// For connecting to one endpoint, TLS included. Default 3s; must be above 0s. Then another endpoint is tried,
    /// three in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend_connect: Option<Duration>,
    /// Ends a session (Close 1001) in which neither side has sent a frame for this long. Default 5m; 0s never
    /// ends one. Pings of the peers count as frames, those of `keepalive` do not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<Duration>,
    /// How long a peer may take to answer a Close before its connection is cut. Default 5s; must be above 0s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub close: Option<Duration>,
    /// Ends a session (Close 1001) of this age, however busy. Default 0s: no bound. Lower it when new pods get no
    /// load because old sessions never move.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_connection_duration: Option<Duration>,
    /// Takes up to this share off maxConnectionDuration at random, so that sessions opened together do not end
    /// together. Percent, 0 to 100, default 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub max_connection_duration_jitter_percent: Option<i32>,
}

/// Which peers Sheave pings itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum KeepaliveMode {
    /// The backend only.
    Backend,
    /// Client and backend.
    Both,
    /// The client only.
    Client,
    /// Nobody.
    #[default]
    Disabled,
}

/// Pings that Sheave sends itself, to keep middleboxes from forgetting the connection and to notice a peer that
/// vanished. Their pongs are not passed on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.mode == 'Disabled' || !has(self.interval) || duration(self.interval) >= duration('1s')").message("interval must be at least 1s; to send no pings, set mode to Disabled").field_path(".interval"))]
#[x_kube(validation = Rule::new("self.mode == 'Disabled' || !has(self.timeout) || duration(self.timeout) > duration('0s')").message("timeout must be above 0s; to send no pings, set mode to Disabled").field_path(".timeout"))]
#[x_kube(validation = Rule::new("self.mode == 'Disabled' || !has(self.timeout) || duration(self.timeout) <= duration(has(self.interval) ? self.interval : '30s')").message("timeout must not exceed interval (30s unless set): a pong would be awaited past the next ping").field_path(".timeout"))]
pub struct Keepalive {
    /// Who is pinged: Disabled, Client, Backend or Both.
    pub mode: KeepaliveMode,
    /// Between two pings to one peer, give or take a tenth. Default 30s, at least 1s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Duration>,
    /// How long a pong may take. A peer that sends nothing at all meanwhile is taken for dead and the session ends.
    /// Default 10s, or the interval where that is shorter; above 0s and at most the interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
}

/// Size bounds, counted in bytes on the wire: a message compressed by permessage-deflate counts as compressed.
/// A client that exceeds one is closed with 1009; towards a backend that does, the client sees 1014.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Messages {
    /// Payload of one message, all its frames together. Default 16777216 (16 MiB); 0 is no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_099_511_627_776_i64))]
    pub max_message_bytes: Option<i64>,
    /// Payload of one frame. Default 0: no bound of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_099_511_627_776_i64))]
    pub max_frame_bytes: Option<i64>,
    /// Frames of one message. Default 16384; 0 is no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 16_777_216))]
    pub max_fragments: Option<i32>,
    /// Bytes of one direction that Sheave holds while their receiver takes none; then it stops reading from the sender.
    /// TLS towards that receiver may hold as much again, 65536 at most, and the kernel its own. Default 65536, at least
    /// 4096.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 4096, max = 16_777_216))]
    pub buffer_limit_bytes: Option<i64>,
    /// Ends sessions of which one side takes nothing while the other one sends. Unset: only the kernel's own bound holds,
    /// which is 30 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_consumer: Option<SlowConsumer>,
}

/// What happens to the sessions of an endpoint that is going away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnEndpointTerminating {
    /// They are closed, spread over the window.
    #[default]
    CloseAfterGrace,
    /// They stay until the backend or the client closes.
    Keep,
}

/// How sessions are ended when they must be: Sheave stops, or a change takes away their rule or endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.closeCode) || self.closeCode in [1001, 1012, 1013] || (self.closeCode >= 4000 && self.closeCode <= 4999)").message("closeCode must be 1001, 1012, 1013 or 4000 to 4999: clients give up on others").field_path(".closeCode"))]
#[x_kube(validation = Rule::new("!has(self.timeout) || duration(self.timeout) > duration('0s')").message("timeout must be above 0s").field_path(".timeout"))]
pub struct Drain {
    /// From the start of a drain to the cut of what is left. Default 60s; must be above 0s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// The window over which Close frames are spread evenly, with jitter, so that clients do not reconnect in the
    /// same second. Default 30s; 0s closes all at once. Cut to `timeout` when longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<Duration>,
    /// The code of the Close. Default 1001 when Sheave stops and 1012 when the rule or endpoint goes. Set one of
    /// 1001, 1012, 1013 or 4000 to 4999 to use it for both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub close_code: Option<i32>,
    /// Whether the sessions of a terminating endpoint are closed (CloseAfterGrace, the default) or left to it (Keep).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = super::choice::optional::<super::OnEndpointTerminating>)]
    pub on_endpoint_terminating: Option<OnEndpointTerminating>,
}

/// How an endpoint is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LoadBalancerType {
    /// The endpoint with the fewest sessions of this proxy.
    #[default]
    LeastConnections,
    /// The less loaded of two picked at random.
    PowerOfTwoChoices,
    /// In turn.
    RoundRobin,
}

/// Load balancing within one backend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoadBalancer {
    /// RoundRobin, LeastConnections (the default) or PowerOfTwoChoices.
    #[serde(rename = "type")]
    pub kind: LoadBalancerType,
}
