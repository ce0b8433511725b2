//! Policy blocks: what the route says, else what its class says, else what is built in; never above the ceilings.
//!
//! A block set on the route replaces the class's whole; inside a block, what is unset is built in. A value that
//! somebody wrote above a ceiling is a fault of its writer, a value nobody wrote is lowered to it in silence.

use super::verdict::Fault;
use crate::api::status::reason;
use crate::api::{
    Ceilings, Defaults, Drain, Duration, Keepalive, KeepaliveMode, LoadBalancer, LoadBalancerType, Messages,
    OnEndpointTerminating, Timeouts, WebSocketRouteSpec,
};
use crate::routing::{self, LoadBalancing, Policy};
use std::fmt::Display;
use std::time;

/// What the blocks of one object are judged by, and where its faults go.
struct Judge<'j> {
    /// `spec` of a route, `spec.defaults` of a class.
    field: &'static str,
    /// What to call the ceilings' owner.
    class: &'j str,
    ceilings: &'j Ceilings,
    faults: &'j mut Vec<Fault>,
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
    judge.drain(defaults.drain.as_ref());
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
        }
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
    fn bounded<T: Copy + Display + PartialOrd>(
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
