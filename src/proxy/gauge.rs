//! The frame walker on its own, so that a bench can say what a frame costs with and without an allowance.
//!
//! Nothing of the proxy uses this.

use super::allowance::{Allowance, Allowances};
use super::frame::{FrameRules, Reserved, Walker};
use crate::routing::{MessageLimits, RouteId, SessionRates};
use crate::telemetry::{Direction, SessionCounters};
use std::sync::Arc;

/// The client's side of a session, all but its socket.
#[derive(Debug)]
pub struct Gauge {
    walker: Walker,
    limits: MessageLimits,
    counters: SessionCounters,
    allowance: Option<Box<Allowance>>,
}

impl Gauge {
    /// One of a consumer whose sessions have these rates.
    pub fn new(rates: Option<&SessionRates>, consumer: &Arc<str>) -> Self {
        let route = RouteId { namespace: "default".into(), name: "chat".into() };
        let allowance = rates.and_then(|rates| Allowances::default().of(rates, &route, Some(consumer)));
        let (walker, limits, counters) = Default::default();
        Self { walker, limits, counters, allowance }
    }

    /// Walks `bytes`, which a read has brought. Gives how many of them may pass.
    pub fn walk(&mut self, bytes: &mut [u8]) -> usize {
        let rules = FrameRules {
            allowance: self.allowance.as_deref(),
            ..FrameRules::new(Direction::In, Reserved::None, &self.limits)
        };
        self.walker.walk(bytes, &rules, &self.counters).forward
    }
}
