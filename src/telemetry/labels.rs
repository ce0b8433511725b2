//! The closed sets of words that metrics and records use. A word is never made from what a client or backend sent.
//!
//! Decides the words only; who uses which one is said where the thing happens (`proxy::close`, mostly).

use serde::{Serialize, Serializer};
use std::fmt;

macro_rules! labels {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// Every value, in order of declaration; `ALL[value as usize]` is the value.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word in metrics and records.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    };
}

labels! {
    /// Why a session ended.
    CloseReason {
        /// A backend broke off without a Close frame.
        BackendReset = "backend_reset",
        /// A client broke off without a Close frame.
        ClientReset = "client_reset",
        /// A side did not answer our Close in time.
        CloseTimeout = "close_timeout",
        /// The credential that let it in is no longer accepted.
        CredentialRevoked = "credential_revoked",
        /// Sheave is stopping.
        Drain = "drain",
        /// The endpoint is terminating or is no longer named by the rule's backends.
        EndpointGone = "endpoint_gone",
        /// A side sent Close 1001 (RFC 6455 §7.4.1).
        GoingAway = "going_away",
        /// No frame in either direction for too long.
        IdleTimeout = "idle_timeout",
        /// A fault of Sheave's own; worth a bug report.
        Internal = "internal",
        /// A ping of ours was not answered in time.
        KeepaliveTimeout = "keepalive_timeout",
        /// The session was as old as it may get.
        MaxDuration = "max_duration",
        /// A frame, message or number of fragments was over the limit.
        MessageTooBig = "message_too_big",
        /// A side sent Close 1000, or a Close without a code.
        Normal = "normal",
        /// A side sent a Close with any other code.
        OtherCode = "other_code",
        /// The rules are others now: the same handshake would be refused.
        PolicyChanged = "policy_changed",
        /// A side broke RFC 6455.
        ProtocolError = "protocol_error",
        /// The client sent more, or more often, than it may.
        RateLimited = "rate_limited",
        /// The rule, or the rule's host, is gone.
        RuleGone = "rule_gone",
        /// A side took no bytes for too long while the other one was sending.
        SlowConsumer = "slow_consumer",
        /// The credential that let it in has expired.
        TokenExpired = "token_expired",
    }
}

labels! {
    /// Who ended a session.
    Initiator {
        /// The upstream side.
        Backend = "backend",
        /// The downstream side.
        Client = "client",
        /// Sheave.
        Proxy = "proxy",
    }
}

labels! {
    /// The family of a close code (RFC 6455 §7.4.2).
    CodeClass {
        /// 1000 to 1999: the protocol's.
        Protocol = "1xxx",
        /// 2000 to 2999: extensions'.
        Extension = "2xxx",
        /// 3000 to 3999: registered by libraries and frameworks.
        Registered = "3xxx",
        /// 4000 to 4999: the application's.
        Application = "4xxx",
        /// No Close frame, or one without a code.
        None = "none",
    }
}

impl CodeClass {
    /// The family of `code`; a code outside 1000 to 4999 counts as none.
    pub fn of(code: Option<u16>) -> Self {
        match code {
            Some(1000..=1999) => Self::Protocol,
            Some(2000..=2999) => Self::Extension,
            Some(3000..=3999) => Self::Registered,
            Some(4000..=4999) => Self::Application,
            _ => Self::None,
        }
    }
}

/// The `code` label of a close code: 1000 to 1015 as they are, others by their family.
pub fn code_label(code: Option<u16>) -> &'static str {
    const EXACT: [&str; 16] = [
        "1000", "1001", "1002", "1003", "1004", "1005", "1006", "1007", "1008", "1009", "1010", "1011", "1012", "1013",
        "1014", "1015",
    ];
    let exact = code.and_then(|code| EXACT.get(usize::from(code.checked_sub(1000)?)));
    exact.copied().unwrap_or_else(|| CodeClass::of(code).as_str())
}

labels! {
    /// What became of a handshake.
    Outcome {
        /// The client got 101.
        Accepted = "accepted",
        /// Our side or the backend's could not do it.
        Failed = "failed",
        /// The client, or what it asked for, was at fault.
        Rejected = "rejected",
    }
}

labels! {
    /// Why a handshake came to its [`Outcome`].
    HandshakeReason {
        /// All is well.
        Accepted = "accepted",
        /// The client's address is not allowed.
        AddressDenied = "address_denied",
        /// Whoever has to decide about the client cannot.
        AuthUnavailable = "auth_unavailable",
        /// No connection to an endpoint.
        BackendConnect = "backend_connect",
        /// The endpoint's answer was not a valid WebSocket answer.
        BackendProtocol = "backend_protocol",
        /// The endpoint refused; its answer was passed on.
        BackendStatus = "backend_status",
        /// The endpoint did not answer in time.
        BackendTimeout = "backend_timeout",
        /// The request broke HTTP or RFC 6455.
        BadRequest = "bad_request",
        /// The client has no valid certificate.
        ClientCertificate = "client_certificate",
        /// The client left before the answer.
        ClientGone = "client_gone",
        /// Too many sessions at a time.
        ConnectionLimit = "connection_limit",
        /// The client is known and not allowed.
        Forbidden = "forbidden",
        /// A line, the number of lines or the whole head was over the limit.
        HeadTooLarge = "head_too_large",
        /// A fault of Sheave's own; worth a bug report.
        Internal = "internal",
        /// The rule's chosen backend cannot be used as configured.
        InvalidBackend = "invalid_backend",
        /// The backend has no ready endpoint.
        NoEndpoint = "no_endpoint",
        /// No route names the host.
        NoRoute = "no_route",
        /// Routes name the host, none of their rules matches.
        NoRule = "no_rule",
        /// Not an upgrade to WebSocket.
        NotUpgrade = "not_upgrade",
        /// The page's origin is not allowed.
        OriginDenied = "origin_denied",
        /// Sheave is at the end of its means.
        Overloaded = "overloaded",
        /// The route answers on TLS only.
        PlaintextRejected = "plaintext_rejected",
        /// No PROXY protocol header where there must be one, or a malformed one.
        ProxyProtocol = "proxy_protocol",
        /// Too many handshakes in a time.
        RateLimited = "rate_limited",
        /// The client did not send its request in time.
        Timeout = "timeout",
        /// The client's TLS handshake failed.
        Tls = "tls",
        /// No credential, or a wrong one.
        Unauthenticated = "unauthenticated",
        /// A version other than 13.
        UnsupportedVersion = "unsupported_version",
    }
}

impl HandshakeReason {
    /// What the reason makes of the handshake.
    pub fn outcome(self) -> Outcome {
        match self {
            Self::Accepted => Outcome::Accepted,
            Self::AuthUnavailable
            | Self::BackendConnect
            | Self::BackendProtocol
            | Self::BackendStatus
            | Self::BackendTimeout
            | Self::Internal
            | Self::InvalidBackend
            | Self::NoEndpoint
            | Self::Overloaded => Outcome::Failed,
            Self::AddressDenied
            | Self::BadRequest
            | Self::ClientCertificate
            | Self::ClientGone
            | Self::ConnectionLimit
            | Self::Forbidden
            | Self::HeadTooLarge
            | Self::NoRoute
            | Self::NoRule
            | Self::NotUpgrade
            | Self::OriginDenied
            | Self::PlaintextRejected
            | Self::ProxyProtocol
            | Self::RateLimited
            | Self::Timeout
            | Self::Tls
            | Self::Unauthenticated
            | Self::UnsupportedVersion => Outcome::Rejected,
        }
    }
}

labels! {
    /// A bound of the process.
    OverloadCause {
        /// Of live sessions.
        Connections = "connections",
        /// Of open files.
        Descriptors = "descriptors",
        /// Of memory.
        Memory = "memory",
        /// Of handshakes that wait for their turn.
        Queue = "queue",
    }
}

labels! {
    /// A part of a handshake whose duration is measured.
    HandshakePhase {
        /// From the dial to an open (TLS) connection.
        BackendConnect = "backend_connect",
        /// From our request to the endpoint's answer.
        BackendResponse = "backend_response",
        /// In line for its turn; of those only that had to wait.
        Queue = "queue",
        /// From the accepted TCP connection to our answer.
        Total = "total",
    }
}

labels! {
    /// Which way frames flow.
    Direction {
        /// From the client to the backend.
        In = "in",
        /// From the backend to the client.
        Out = "out",
    }
}

labels! {
    /// The kind of a data message.
    DataOpcode {
        /// RFC 6455 §5.6, opcode 2.
        Binary = "binary",
        /// RFC 6455 §5.6, opcode 1.
        Text = "text",
    }
}

labels! {
    /// The kind of a control frame.
    ControlOpcode {
        /// RFC 6455 §5.5.1.
        Close = "close",
        /// RFC 6455 §5.5.2.
        Ping = "ping",
        /// RFC 6455 §5.5.3.
        Pong = "pong",
    }
}

labels! {
    /// A side of a session.
    Side {
        /// The upstream side.
        Backend = "backend",
        /// The downstream side.
        Client = "client",
    }
}

labels! {
    /// Why an endpoint could not be reached.
    ConnectReason {
        /// The process has no descriptor or memory left to connect with.
        Exhausted = "exhausted",
        /// No local port is left towards it.
        NoPort = "no_port",
        /// Anything else the system says.
        Other = "other",
        /// Nothing listens there.
        Refused = "refused",
        /// The connection broke while it was being made.
        Reset = "reset",
        /// The name has no address.
        Resolve = "resolve",
        /// No answer in time.
        Timeout = "timeout",
        /// The certificate or the TLS parameters do not fit.
        Tls = "tls",
        /// No way to the network or host.
        Unreachable = "unreachable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_codes_are_named_and_others_only_by_family() {
        assert_eq!(code_label(Some(1000)), "1000");
        assert_eq!(code_label(Some(1015)), "1015");
        assert_eq!(code_label(Some(1016)), "1xxx");
        assert_eq!(code_label(Some(4711)), "4xxx");
        assert_eq!(code_label(Some(999)), "none");
        assert_eq!(code_label(Some(65_535)), "none");
        assert_eq!(code_label(None), "none");
    }

    #[test]
    fn every_value_stands_at_its_own_index() {
        assert!(CloseReason::ALL.iter().enumerate().all(|(at, reason)| *reason as usize == at));
        assert!(ConnectReason::ALL.iter().enumerate().all(|(at, reason)| *reason as usize == at));
    }
}
