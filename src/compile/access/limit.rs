//! Limits on new handshakes and on live sessions: the route's own block, else its class's, never above the ceiling.

use crate::api::status::reason;
use crate::api::{self, ConnectionLimit, RateLimit, RateUnit, WebSocketRouteSpec};
use crate::compile::class::Class;
use crate::compile::policy::Judge;
use crate::compile::verdict::Fault;
use crate::routing::access::{ConnectionLimits, HandshakeRate, Rate, RateKey};
use std::time::Duration;

/// What a route limits. Faults of the class's own blocks are told there, and not repeated.
pub(super) fn limits(
    spec: &WebSocketRouteSpec,
    class: &Class,
    faults: &mut Vec<Fault>,
) -> (Option<HandshakeRate>, ConnectionLimits) {
    let Class { name, defaults, ceilings, .. } = class;
    let mut told_on_the_class = Vec::new();
    let mut own = Judge { field: "spec", class: name, ceilings, faults };
    let mut other = Judge { field: "spec.defaults", class: name, ceilings, faults: &mut told_on_the_class };
    let handshakes = match &spec.rate_limit {
        Some(block) => own.handshakes(Some(block)),
        None => other.handshakes(defaults.rate_limit.as_ref()),
    };
    let connections = match &spec.connection_limit {
        Some(block) => own.connections(Some(block)),
        None => other.connections(defaults.connection_limit.as_ref()),
    };
    (handshakes, connections)
}

/// Looks for faults in the limits that a class sets for its routes.
pub(in crate::compile) fn judge_limits(
    judge: &mut Judge<'_>,
    rates: Option<&RateLimit>,
    connections: Option<&ConnectionLimit>,
) {
    judge.handshakes(rates);
    judge.connections(connections);
}

/// A rate as it is counted.
pub(in crate::compile) fn rate(limit: i64, unit: Option<RateUnit>, burst: Option<i64>) -> Rate {
    let limit = u64::try_from(limit).unwrap_or(1).max(1);
    let per = match unit {
        None | Some(RateUnit::Second) => 1,
        Some(RateUnit::Minute) => 60,
        Some(RateUnit::Hour) => 3600,
    };
    let burst = burst.and_then(|burst| u64::try_from(burst).ok()).filter(|burst| *burst > 0).unwrap_or(limit);
    Rate { limit, per: Duration::from_secs(per), burst }
}

impl Judge<'_> {
    /// How often handshakes may come.
    fn handshakes(&mut self, block: Option<&RateLimit>) -> Option<HandshakeRate> {
        let block = block?.handshakes.as_ref()?;
        let key = match (block.key, &block.header) {
            (api::RateKey::ClientIP, _) => RateKey::ClientIp,
            (api::RateKey::Consumer, _) => RateKey::Consumer,
            (api::RateKey::Header, Some(header)) => RateKey::Header(header.to_ascii_lowercase().into()),
            (api::RateKey::Header, None) => {
                let message = format!(
                    "{}.rateLimit.handshakes.header: unset, while key is Header: name the header to count by, or set \
                     another key",
                    self.field
                );
                self.faults.push(Fault::new(reason::UNSUPPORTED_VALUE, message));
                RateKey::ClientIp
            }
            (api::RateKey::Route, _) => RateKey::Route,
        };
        Some(HandshakeRate { rate: rate(block.limit, block.unit, block.burst), key })
    }

    /// How many sessions there may be at a time.
    fn connections(&mut self, block: Option<&ConnectionLimit>) -> ConnectionLimits {
        let unset = ConnectionLimit::default();
        let block = block.unwrap_or(&unset);
        let route = self.at_least_one("maxConnections", block.max_connections);
        let ceiling = self.ceilings.max_connections_per_route.and_then(|ceiling| u32::try_from(ceiling).ok());
        ConnectionLimits {
            route: self.bounded(
                "connectionLimit.maxConnections",
                (block.max_connections.is_some(), route),
                ("maxConnectionsPerRoute", ceiling),
            ),
            client_ip: self.at_least_one("maxConnectionsPerClientIP", block.max_connections_per_client_ip),
            consumer: self.at_least_one("maxConnectionsPerConsumer", block.max_connections_per_consumer),
            endpoint: self.at_least_one("maxConnectionsPerEndpoint", block.max_connections_per_endpoint),
        }
    }

    /// A number of sessions. The schema lets no other through; one that came past it bounds to 1, for what was meant is
    /// a bound.
    fn at_least_one(&mut self, field: &str, written: Option<i64>) -> Option<u32> {
        let written = written?;
        let number = u32::try_from(written).ok().filter(|number| *number > 0);
        if number.is_none() {
            let message = format!(
                "{}.connectionLimit.{field}: {written} is no number of connections: write 1 or more, or leave it out \
                 for no bound",
                self.field
            );
            self.faults.push(Fault::new(reason::UNSUPPORTED_VALUE, message));
        }
        Some(number.unwrap_or(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Ceilings;

    /// What becomes of a `connectionLimit` and a `rateLimit` in flow YAML, and the fields at fault.
    fn judged(
        connections: &str,
        rates: &str,
        ceiling: Option<i64>,
    ) -> (ConnectionLimits, Option<HandshakeRate>, Vec<String>) {
        let ceilings = Ceilings { max_connections_per_route: ceiling, ..Ceilings::default() };
        let mut faults = Vec::new();
        let mut judge = Judge { field: "spec", class: "websocket", ceilings: &ceilings, faults: &mut faults };
        let connections = judge.connections(Some(&serde_saphyr::from_str(connections).expect("a block")));
        let handshakes = judge.handshakes(Some(&serde_saphyr::from_str(rates).expect("a block")));
        let field = |fault: &Fault| fault.message.split(": ").next().unwrap_or_default().to_owned();
        (connections, handshakes, faults.iter().map(field).collect())
    }

    #[test]
    fn a_ceiling_bounds_what_is_written_and_what_is_not() {
        let judged = |block: &str| {
            let (connections, _, faults) = judged(block, "{}", Some(100));
            (connections.route, faults)
        };
        assert_eq!(judged("{}"), (Some(100), vec![]));
        assert_eq!(judged("{maxConnections: 100}"), (Some(100), vec![]));
        assert_eq!(judged("{maxConnections: 5}"), (Some(5), vec![]));
        assert_eq!(
            judged("{maxConnections: 101}"),
            (Some(100), vec!["spec.connectionLimit.maxConnections".to_owned()])
        );
    }

    #[test]
    fn what_came_past_the_schema_is_told_and_opens_nothing() {
        let rates = "{handshakes: {limit: 0, key: Header}}";
        let (connections, handshakes, faults) =
            judged("{maxConnections: 0, maxConnectionsPerConsumer: -1}", rates, None);
        assert_eq!((connections.route, connections.consumer), (Some(1), Some(1)));
        let one = Rate { limit: 1, per: Duration::from_secs(1), burst: 1 };
        assert_eq!(handshakes, Some(HandshakeRate { rate: one, key: RateKey::ClientIp }));
        let fields = ["connectionLimit.maxConnections", "connectionLimit.maxConnectionsPerConsumer"];
        let fields = fields.iter().chain(&["rateLimit.handshakes.header"]).map(|field| format!("spec.{field}"));
        assert_eq!(faults, fields.collect::<Vec<_>>());
    }
}
