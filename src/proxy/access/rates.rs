//! Rates of handshakes: by what a limit counts them, and what a client above it is told.
//!
//! A bucket is known by route and key, not by the limit: a changed limit goes on with what was taken under the old one,
//! and applies at once. Where buckets are kept, and that they are bounded, is `buckets`'s business.

use super::Denial;
use super::fingerprint::{Counted, Fingerprints};
use crate::proxy::buckets::Buckets;
use crate::proxy::gcra::nanoseconds;
use crate::proxy::handshake::Offer;
use crate::routing::RouteId;
use crate::routing::access::{HandshakeRate, RateKey};
use crate::telemetry::HandshakeReason;
use http::StatusCode;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// The buckets of this process.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Rates {
    fingerprints: Fingerprints,
    buckets: Buckets,
}

impl Rates {
    /// Takes one from the bucket that `limit` counts this handshake in.
    pub(super) fn handshake(
        &self,
        limit: &HandshakeRate,
        route: &RouteId,
        offer: &Offer,
        client: IpAddr,
        consumer: Option<&Arc<str>>,
    ) -> Result<(), Denial> {
        let counted = match &limit.key {
            RateKey::ClientIp => Counted::address(client),
            RateKey::Consumer => Counted::consumer(consumer.map(|name| &**name), client),
            RateKey::Header(name) => {
                let lines: Vec<_> = offer.head.fields.all(name).collect();
                if lines.is_empty() { Counted::address(client) } else { Counted::Header(name, lines) }
            }
            RateKey::Route => Counted::Route,
        };
        let fingerprint = self.fingerprints.of(route, &counted);
        self.buckets.take(fingerprint, &limit.rate).map_err(|wait| {
            let text = "too many handshakes: try again later";
            let mut denial = Denial::new(StatusCode::TOO_MANY_REQUESTS, HandshakeReason::RateLimited, text);
            denial.refusal = denial.refusal.retry_after(whole_seconds(wait));
            denial.detailed(detail(limit))
        })
    }
}

/// Rounded up, for a client that comes too early has come in vain; 1 at least.
fn whole_seconds(wait: Duration) -> u32 {
    u32::try_from(nanoseconds(wait).div_ceil(1_000_000_000)).unwrap_or(u32::MAX).max(1)
}

/// What the record says: the limit, and by what it counts, but not whose bucket it was.
fn detail(limit: &HandshakeRate) -> String {
    let rate = limit.rate;
    let key = match &limit.key {
        RateKey::ClientIp => "client address".to_owned(),
        RateKey::Consumer => "consumer".to_owned(),
        RateKey::Header(name) => format!("value of the header {name}"),
        RateKey::Route => "route".to_owned(),
    };
    format!("rateLimit.handshakes: {} each {:?}, {} at once, by {key}", rate.limit, rate.per, rate.burst)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::handshake::tests_support::offer;
    use crate::routing::access::Rate;

    fn rate(limit: u64, seconds: u64, burst: u64) -> Rate {
        Rate { limit, per: Duration::from_secs(seconds), burst }
    }

    fn route(name: &str) -> RouteId {
        RouteId { namespace: "ns".into(), name: name.into() }
    }

    fn told(denied: Result<(), Denial>) -> Option<(u16, String)> {
        let refusal = denied.err()?.refusal;
        let header = refusal.headers.iter().find(|(name, _)| *name == "Retry-After");
        Some((refusal.status.as_u16(), header.map(|(_, value)| value.to_string()).unwrap_or_default()))
    }

    type Asked<'a> = (&'a Offer, IpAddr, Option<&'a Arc<str>>);

    #[test]
    fn counts_by_what_the_key_says() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let (here, near, far) = (address("2001:db8::1"), address("2001:db8::2"), address("192.0.2.1"));
        let (alice, bob): (Arc<str>, Arc<str>) = ("alice".into(), "bob".into());
        let (red, blue, none) = (offer("X-Colour: red\r\n"), offer("X-Colour: blue\r\n"), offer(""));
        let limit = |key| HandshakeRate { rate: rate(1, 60, 1), key };
        // For each kind: one handshake, one that is counted with it, and one that is not.
        let by_header = RateKey::Header("x-colour".into());
        let cases: [(RateKey, Asked<'_>, Asked<'_>, Option<Asked<'_>>); 6] = [
            (RateKey::ClientIp, (&none, here, None), (&none, near, Some(&bob)), Some((&none, far, None))),
            (
                RateKey::Consumer,
                (&none, here, Some(&alice)),
                (&none, far, Some(&alice)),
                Some((&none, here, Some(&bob))),
            ),
            (RateKey::Consumer, (&none, here, None), (&none, near, None), Some((&none, far, None))),
            (by_header.clone(), (&red, here, None), (&red, far, None), Some((&blue, here, None))),
            (by_header, (&none, here, None), (&none, near, None), Some((&none, far, None))),
            (RateKey::Route, (&red, here, Some(&alice)), (&blue, far, Some(&bob)), None),
        ];
        for (key, first, same, other) in cases {
            let (rates, limit) = (Rates::default(), limit(key));
            let ask = |route: &str, (offer, client, consumer): Asked| {
                told(rates.handshake(&limit, &self::route(route), offer, client, consumer))
            };
            assert_eq!(ask("a", first), None, "{limit:?}");
            assert_eq!(ask("a", same), Some((429, "60".to_owned())), "{limit:?}");
            assert_eq!(other.and_then(|other| ask("a", other)), None, "{limit:?}");
            assert_eq!(ask("b", same), None, "{limit:?}: another route counts for itself");
        }
    }

    #[test]
    fn a_header_of_the_same_value_is_counted_by_name() {
        let rates = Rates::default();
        let both = offer("X-A: 1\r\nX-B: 1\r\n");
        for name in ["x-a", "x-b"] {
            let limit = HandshakeRate { rate: rate(1, 60, 1), key: RateKey::Header(name.into()) };
            let client = IpAddr::from([192, 0, 2, 1]);
            assert!(rates.handshake(&limit, &route("a"), &both, client, None).is_ok(), "{name}");
        }
    }

    #[test]
    fn the_client_is_told_whole_seconds_and_the_record_the_limit() {
        for (wait, seconds) in [(0, 1), (1, 1), (999, 1), (1000, 1), (1001, 2), (59_001, 60)] {
            assert_eq!(whole_seconds(Duration::from_millis(wait)), seconds, "{wait} ms");
        }
        let limit = HandshakeRate { rate: rate(5, 60, 7), key: RateKey::Header("x-tenant".into()) };
        let said = "rateLimit.handshakes: 5 each 60s, 7 at once, by value of the header x-tenant";
        assert_eq!(detail(&limit), said);
    }
}
