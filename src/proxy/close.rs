//! Why a session ends, and what each side is told: the only place where a close code is invented.
//!
//! Codes of our own are 1001, 1012, 1013 and 1014, which clients answer by reconnecting; 1002, 1008 and 1009 name a
//! fault to the side that committed it and to nobody else (RFC 6455 §7.4.1, IANA close code registry).

use super::frame::Violation;
use crate::routing::Drain;
use crate::routing::access::Revoked;
use crate::telemetry::{CloseReason, Initiator};

/// Why the proxy ends a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The client does not answer our pings.
    DownstreamSilent,
    /// The client broke the protocol or a bound.
    DownstreamViolation(Violation),
    /// Sheave is stopping.
    Drain,
    /// The endpoint is terminating or gone.
    EndpointGone,
    /// The endpoint was known to go, and went before the session's turn came.
    EndpointLost,
    /// No frame for too long.
    Idle,
    /// The session is as old as it may get.
    MaxDuration,
    /// The client was over its rate for too long.
    RateLimited,
    /// The same handshake would be refused now.
    Refused(Revoked),
    /// The rule or its host is gone.
    RuleGone,
    /// The client took no byte for too long while the service's waited for it.
    SlowDownstream,
    /// The service took no byte for too long while the client's waited for it.
    SlowUpstream,
    /// The service's connection ended between two frames without a Close.
    UpstreamLost,
    /// The service does not answer our pings.
    UpstreamSilent,
    /// The service broke the protocol or a bound.
    UpstreamViolation(Violation),
}

impl Cause {
    /// The label of metrics and records.
    pub(crate) fn reason(self) -> CloseReason {
        match self {
            Self::DownstreamSilent | Self::UpstreamSilent => CloseReason::KeepaliveTimeout,
            Self::DownstreamViolation(fault) | Self::UpstreamViolation(fault) => {
                if fault.code() == 1009 {
                    CloseReason::MessageTooBig
                } else {
                    CloseReason::ProtocolError
                }
            }
            Self::Drain => CloseReason::Drain,
            Self::EndpointGone | Self::EndpointLost => CloseReason::EndpointGone,
            Self::Idle => CloseReason::IdleTimeout,
            Self::MaxDuration => CloseReason::MaxDuration,
            Self::RateLimited => CloseReason::RateLimited,
            Self::Refused(Revoked::Credential) => CloseReason::CredentialRevoked,
            Self::Refused(Revoked::Expired) => CloseReason::TokenExpired,
            Self::Refused(Revoked::Policy) => CloseReason::PolicyChanged,
            Self::RuleGone => CloseReason::RuleGone,
            Self::SlowDownstream | Self::SlowUpstream => CloseReason::SlowConsumer,
            Self::UpstreamLost => CloseReason::BackendReset,
        }
    }

    /// Whose doing it is.
    pub(crate) fn initiator(self) -> Initiator {
        match self {
            Self::DownstreamSilent | Self::DownstreamViolation(_) | Self::RateLimited | Self::SlowDownstream => {
                Initiator::Client
            }
            Self::EndpointLost
            | Self::SlowUpstream
            | Self::UpstreamLost
            | Self::UpstreamSilent
            | Self::UpstreamViolation(_) => Initiator::Backend,
            _ => Initiator::Proxy,
        }
    }

    /// The Close for the client.
    pub(crate) fn downstream(self, drain: &Drain) -> (u16, String) {
        let (code, reason) = match self {
            Self::DownstreamSilent => (1001, "no answer to ping"),
            Self::DownstreamViolation(fault) => return (fault.code(), fault.to_string()),
            Self::Drain => (drain.close_code.unwrap_or(1001), "proxy is draining, reconnect"),
            Self::EndpointGone => (drain.close_code.unwrap_or(1012), "backend is going away, reconnect"),
            Self::EndpointLost => (drain.close_code.unwrap_or(1012), "backend has gone away, reconnect"),
            Self::Idle => (1001, "idle timeout"),
            Self::MaxDuration => (1001, "maximum connection duration reached, reconnect"),
            Self::RateLimited => (1008, "rate limit exceeded"),
            Self::Refused(Revoked::Credential) => (1008, "credential revoked"),
            Self::Refused(Revoked::Expired) => (1008, "token expired"),
            Self::Refused(Revoked::Policy) => (1008, "policy changed"),
            Self::RuleGone => (drain.close_code.unwrap_or(1012), "route changed, reconnect"),
            Self::SlowDownstream => (1008, "slow consumer"),
            Self::SlowUpstream => (1013, "backend takes no data, try again later"),
            Self::UpstreamLost => (1014, "backend connection lost"),
            Self::UpstreamSilent => (1014, "backend does not answer ping"),
            Self::UpstreamViolation(fault) => return (1014, format!("backend error: {fault}")),
        };
        (code, reason.to_owned())
    }

    /// The Close for the service, for when the client's own does not come in time.
    pub(crate) fn upstream(self, drain: &Drain) -> (u16, String) {
        match self {
            Self::DownstreamSilent => (1001, "client does not answer ping".to_owned()),
            Self::DownstreamViolation(fault) => (1001, format!("client error: {fault}")),
            Self::RateLimited => (1001, "client error: rate limit exceeded".to_owned()),
            Self::SlowDownstream => (1001, "client takes no data".to_owned()),
            Self::Refused(_) => (1001, format!("client must leave: {}", self.downstream(drain).1)),
            Self::UpstreamSilent => (1001, "no answer to ping".to_owned()),
            Self::UpstreamViolation(fault) => (fault.code(), fault.to_string()),
            _ => self.downstream(drain),
        }
    }

    /// Whether the service's connection has ended already.
    pub(crate) fn lost_upstream(self) -> bool {
        matches!(self, Self::EndpointLost | Self::UpstreamLost)
    }

    /// Whether what the client still sends is worth passing on until its Close comes: it is, unless one side can
    /// no longer be trusted or reached.
    pub(crate) fn keeps_downstream(self) -> bool {
        matches!(self, Self::Drain | Self::EndpointGone | Self::Idle | Self::MaxDuration | Self::RuleGone)
    }
}

/// How a session ended, as metrics and the close record tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Closed {
    /// The label.
    pub reason: CloseReason,
    /// Whose doing it was.
    pub initiator: Initiator,
    /// The code of the first Close frame, `None` if no Close was seen or sent; 1005 for a Close without a code.
    pub code: Option<u16>,
    /// Whether a connection was cut because the peer's Close did not come in time.
    pub forced: bool,
}
