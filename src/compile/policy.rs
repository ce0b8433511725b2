//! Policy blocks: what the route says, else what its class says, else what is built in; never above the ceilings.
//!
//! A block set on the route replaces the class's whole; inside a block, what is unset is built in. A value that
//! somebody wrote above a ceiling is a fault of its writer, a value nobody wrote is lowered to it in silence.

use super::access;
use super::verdict::Fault;
use crate::api::status::reason;
use crate::api::{
    self, Ceilings, Defaults, Drain, Duration, Keepalive, KeepaliveMode, LoadBalancer, LoadBalancerType, Messages,
    OnEndpointTerminating, RateLimit, Timeouts, WebSocketRouteSpec,
};
use crate::routing::access::Rate;
use crate::routing::{self, LoadBalancing, Policy};
use std::fmt::{self, Display};
use std::time;

/// A rate as people and ceilings say it; what is not whole is rounded up.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
struct PerSecond(u64);

impl Display for PerSecond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} a second", self.0)
    }
}

/// What the blocks of one object are judged by, and where its faults go.
pub(super) struct Judge<'j> {
    /// `spec` of a route, `spec.defaults` of a class.
    pub(super) field: &'static str,
    /// What to call the ceilings' owner.
    pub(super) class: &'j str,
    pub(super) ceilings: &'j Ceilings,
    pub(super) faults: &'j mut Vec<Fault>,
}

/// The policy of a route, all but its rules' load balancing. Faults of the class's own blocks are not repeated.
pub(super) fn route_policy(
    spec: &WebSocketRouteSpec,
    (class, defaults, ceilings): (&str, &Defaults, &Ceilings),
    faults: &mut Vec<Fault>,
) -> Policy {
    let mut told_on_the_class = Vec::new();
    let mut own = Judge { field: "spec", class, ceilings, faults };
    let mut other = Judge { field: "spec.defaults", class, ceilings, faults: &mut told_on_the_class };
    Policy {
        timeouts: match &spec.timeouts {
            Some(block) => own.timeouts(Some(block)),
            None => other.timeouts(defaults.timeouts.as_ref()),
        },
        keepalive: match &spec.keepalive {
            Some(block) => own.keepalive(Some(block)),
            None => other.keepalive(defaults.keepalive.as_ref()),
        },
        messages: match &spec.messages {
            Some(block) => own.messages(Some(block)),
            None => other.messages(defaults.messages.as_ref()),
        },
        rates: match &spec.rate_limit {
            Some(block) => own.rates(Some(block)),
            None => other.rates(defaults.rate_limit.as_ref()),
        },
        drain: match &spec.drain {
            Some(block) => own.drain(Some(block)),
            None => other.drain(defaults.drain.as_ref()),
        },
        balancing: LoadBalancing::default(),
    }
}

/// What is wrong with the defaults of a class.
pub(super) fn class_faults(class: &str, defaults: &Defaults, ceilings: &Ceilings) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut judge = Judge { field: "spec.defaults", class, ceilings, faults: &mut faults };
    judge.timeouts(defaults.timeouts.as_ref());
    judge.keepalive(defaults.keepalive.as_ref());
    judge.messages(defaults.messages.as_ref());
    judge.rates(defaults.rate_limit.as_ref());
    judge.drain(defaults.drain.as_ref());
    access::judge_limits(&mut judge, defaults.rate_limit.as_ref(), defaults.connection_limit.as_ref());
    faults
}

/// How the endpoints of a rule are chosen.
pub(super) fn balancing(rule: Option<&LoadBalancer>, class: Option<&LoadBalancer>) -> LoadBalancing {
    match rule.or(class).map(|block| block.kind) {
        None => LoadBalancing::default(),
        Some(LoadBalancerType::LeastConnections) => LoadBalancing::LeastConnections,
        Some(LoadBalancerType::PowerOfTwoChoices) => LoadBalancing::PowerOfTwoChoices,
        Some(LoadBalancerType::RoundRobin) => LoadBalancing::RoundRobin,
    }
}

impl Judge<'_> {
    fn timeouts(&mut self, block: Option<&Timeouts>) -> routing::Timeouts {
        let built_in = routing::Timeouts::default();
        let unset = Timeouts::default();
        let block = block.unwrap_or(&unset);
        let handshake = self.above_zero("timeouts.handshake", block.handshake, built_in.handshake);
        let connect = self.above_zero("timeouts.backendConnect", block.backend_connect, built_in.backend_connect);
        let bound = block.max_connection_duration.filter(|d| !d.0.is_zero());
        let bound = self.bounded(
            "timeouts.maxConnectionDuration",
            (block.max_connection_duration.is_some(), bound.or(built_in.max_connection_duration.map(Duration))),
            ("maxConnectionDuration", self.ceilings.max_connection_duration),
        );
        let percent = block.max_connection_duration_jitter_percent.and_then(|p| u8::try_from(p).ok());
        routing::Timeouts {
            handshake,
            backend_connect: connect.min(handshake),
            idle: block.idle.map_or(built_in.idle, |idle| Some(idle.0).filter(|idle| !idle.is_zero())),
            close: self.above_zero("timeouts.close", block.close, built_in.close),
            max_connection_duration: bound.map(|bound| bound.0),
            max_connection_duration_jitter_percent: percent
                .unwrap_or(built_in.max_connection_duration_jitter_percent)
                .min(100),
        }
    }

    fn keepalive(&mut self, block: Option<&Keepalive>) -> routing::Keepalive {
        let built_in = routing::Keepalive::default();
        let Some(block) = block else { return built_in };
        let mode = match block.mode {
            KeepaliveMode::Backend => routing::KeepaliveMode::Backend,
            KeepaliveMode::Both => routing::KeepaliveMode::Both,
            KeepaliveMode::Client => routing::KeepaliveMode::Client,
            KeepaliveMode::Disabled => return built_in, // what else the block says cannot matter
        };
        let interval = self.above_zero("keepalive.interval", block.interval, built_in.interval);
        let timeout = self.above_zero("keepalive.timeout", block.timeout, built_in.timeout);
        routing::Keepalive { mode, interval, timeout: timeout.min(interval) }
    }

    fn messages(&mut self, block: Option<&Messages>) -> routing::MessageLimits {
        let built_in = routing::MessageLimits::default();
        let unset = Messages::default();
        let block = block.unwrap_or(&unset);
        // 0 is "no bound", unset is built in; a negative number is refused by the schema.
        let bytes = |written: Option<i64>, built_in: Option<u64>| match written.map(u64::try_from) {
            Some(Ok(bytes)) => Some(bytes).filter(|bytes| *bytes > 0),
            _ => built_in,
        };
        let ceiling = |written: Option<i64>| written.and_then(|bytes| u64::try_from(bytes).ok());
        let size = |written: Option<i64>| written.and_then(|bytes| usize::try_from(bytes).ok());
        let buffer = size(block.buffer_limit_bytes).filter(|bytes| *bytes > 0);
        let fragments = bytes(block.max_fragments.map(i64::from), built_in.max_fragments.map(u64::from));
        let fragments = self.bounded(
            "messages.maxFragments",
            (block.max_fragments.is_some(), fragments),
            ("maxFragments", ceiling(self.ceilings.max_fragments.map(i64::from))),
        );
        routing::MessageLimits {
            max_message_bytes: self.bounded(
                "messages.maxMessageBytes",
                (block.max_message_bytes.is_some(), bytes(block.max_message_bytes, built_in.max_message_bytes)),
                ("maxMessageBytes", ceiling(self.ceilings.max_message_bytes)),
            ),
            max_frame_bytes: self.bounded(
                "messages.maxFrameBytes",
                (block.max_frame_bytes.is_some(), bytes(block.max_frame_bytes, built_in.max_frame_bytes)),
                ("maxFrameBytes", ceiling(self.ceilings.max_frame_bytes)),
            ),
            max_fragments: fragments.and_then(|n| u32::try_from(n).ok()),
            buffer_limit_bytes: self
                .bounded(
                    "messages.bufferLimitBytes",
                    (block.buffer_limit_bytes.is_some(), buffer.or(Some(built_in.buffer_limit_bytes))),
                    ("bufferLimitBytes", size(self.ceilings.buffer_limit_bytes)),
                )
                .unwrap_or(built_in.buffer_limit_bytes),
            slow_consumer: self.slow_consumer(block),
        }
    }

    /// How long a side may take nothing; the one action there is needs no word in the table.
    fn slow_consumer(&mut self, block: &Messages) -> Option<time::Duration> {
        let timeout = block.slow_consumer.as_ref()?.timeout.0;
        if timeout.is_zero() {
            let field = self.field;
            let message = format!(
                "{field}.messages.slowConsumer.timeout: 0s would end every session at once: write a duration above 0s, \
                 or leave slowConsumer out"
            );
            self.faults.push(Fault::new(reason::UNSUPPORTED_VALUE, message));
        }
        Some(timeout).filter(|timeout| !timeout.is_zero())
    }

    /// How much a client may send in a time. The ceilings are for one session; a consumer may have many.
    fn rates(&mut self, block: Option<&RateLimit>) -> Option<Box<routing::SessionRates>> {
        let unset = RateLimit::default();
        let block = block.unwrap_or(&unset);
        let plain = |rate: &api::Rate| access::rate(rate.limit, rate.unit, rate.burst);
        let (messages, bytes) = (self.ceilings.max_messages_per_second, self.ceilings.max_bytes_per_second);
        let session = routing::Rates {
            messages: self.rate("rateLimit.messages", block.messages.as_ref(), ("maxMessagesPerSecond", messages)),
            bytes: self.rate("rateLimit.bytes", block.bytes.as_ref(), ("maxBytesPerSecond", bytes)),
            control_frames: block.control_frames.as_ref().map(plain),
        };
        let consumer = block.per_consumer.as_ref().map_or(routing::Rates::default(), |block| routing::Rates {
            messages: block.messages.as_ref().map(plain),
            bytes: block.bytes.as_ref().map(plain),
            control_frames: block.control_frames.as_ref().map(plain),
        });
        let on_exceed = match block.on_exceed {
            Some(api::OnExceed::Close) => routing::OnExceed::Close,
            None | Some(api::OnExceed::Throttle) => routing::OnExceed::Throttle,
        };
        let bounded = !session.is_none() || !consumer.is_none();
        bounded.then(|| Box::new(routing::SessionRates { session, consumer, on_exceed }))
    }

    /// A rate under a ceiling, and so its burst: what may come at once is at most what may come in a second.
    fn rate(&mut self, field: &str, written: Option<&api::Rate>, (name, ceiling): (&str, Option<i64>)) -> Option<Rate> {
        let rate = written.map(|rate| access::rate(rate.limit, rate.unit, rate.burst));
        let ceiling = ceiling.and_then(|ceiling| u64::try_from(ceiling).ok());
        let per_second = rate.map(|rate| PerSecond(rate.limit.div_ceil(rate.per.as_secs().max(1))));
        let bound = self.bounded(field, (written.is_some(), per_second), (name, ceiling.map(PerSecond)))?;
        let rate = rate.filter(|_| per_second == Some(bound)).unwrap_or(Rate {
            limit: bound.0,
            per: time::Duration::from_secs(1),
            burst: bound.0,
        });
        let burst = (written.is_some_and(|rate| rate.burst.is_some()), Some(rate.burst));
        let burst = self.bounded(&format!("{field}.burst"), burst, (name, ceiling)).unwrap_or(rate.burst);
        Some(Rate { burst, ..rate })
    }

    fn drain(&mut self, block: Option<&Drain>) -> routing::Drain {
        let built_in = routing::Drain::default();
        let unset = Drain::default();
        let block = block.unwrap_or(&unset);
        let timeout = self.above_zero("drain.timeout", block.timeout, built_in.timeout);
        routing::Drain {
            timeout,
            spread: block.spread.map_or(built_in.spread, |spread| spread.0).min(timeout),
            close_code: block.close_code.and_then(|code| u16::try_from(code).ok()),
            on_endpoint_terminating: match block.on_endpoint_terminating {
                None => built_in.on_endpoint_terminating,
                Some(OnEndpointTerminating::CloseAfterGrace) => routing::OnEndpointTerminating::CloseAfterGrace,
                Some(OnEndpointTerminating::Keep) => routing::OnEndpointTerminating::Keep,
            },
        }
    }

    /// A duration that cannot be switched off.
    fn above_zero(&mut self, field: &str, written: Option<Duration>, built_in: time::Duration) -> time::Duration {
        match written {
            Some(Duration(duration)) if duration.is_zero() => {
                let message = format!(
                    "{}.{field}: 0s would end every session at once: write a duration above 0s, or leave it out for {}",
                    self.field,
                    Duration(built_in)
                );
                self.faults.push(Fault::new(reason::UNSUPPORTED_VALUE, message));
                built_in
            }
            Some(Duration(duration)) => duration,
            None => built_in,
        }
    }

    /// A value under a ceiling; no bound is above any. Returns what is to be used: at most the ceiling.
    pub(super) fn bounded<T: Copy + Display + PartialOrd>(
        &mut self,
        field: &str,
        (written, value): (bool, Option<T>),
        (name, ceiling): (&str, Option<T>),
    ) -> Option<T> {
        let Some(ceiling) = ceiling else { return value };
        if value.is_some_and(|value| value <= ceiling) {
            return value;
        }
        if written {
            let value = value.map_or("no bound".to_owned(), |value| value.to_string());
            let message = format!(
                "{}.{field}: {value} is above {ceiling}, the ceiling of class {}: lower it, or raise \
                 spec.ceilings.{name} of the class",
                self.field, self.class
            );
            self.faults.push(Fault::new(reason::UNSUPPORTED_VALUE, message));
        }
        Some(ceiling)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zero_that_the_schema_let_through_is_told_and_replaced() {
        let spec: WebSocketRouteSpec =
            serde_saphyr::from_str("{rules: [], timeouts: {handshake: 0s}, drain: {timeout: 0s}}").expect("a spec");
        let mut faults = Vec::new();
        let policy = route_policy(&spec, ("websocket", &Defaults::default(), &Ceilings::default()), &mut faults);
        let fields: Vec<_> = faults.iter().filter_map(|fault| fault.message.split(": ").next()).collect();
        assert_eq!(fields, ["spec.timeouts.handshake", "spec.drain.timeout"]);
        assert_eq!(policy, Policy::default());
    }

    #[test]
    fn what_is_wrong_with_a_class_is_not_repeated_on_its_routes() {
        let defaults: Defaults = serde_saphyr::from_str("{messages: {maxMessageBytes: 0}}").expect("defaults");
        let ceilings: Ceilings = serde_saphyr::from_str("{maxMessageBytes: 1024}").expect("ceilings");
        assert_eq!(class_faults("websocket", &defaults, &ceilings).len(), 1);
        let spec: WebSocketRouteSpec = serde_saphyr::from_str("{rules: []}").expect("a spec");
        let mut faults = Vec::new();
        let policy = route_policy(&spec, ("websocket", &defaults, &ceilings), &mut faults);
        assert_eq!(faults, []);
        assert_eq!(policy.messages.max_message_bytes, Some(1024));
    }
}
