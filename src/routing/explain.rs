//! Why a handshake reaches the rule it reaches: the same order and the same checks as the table's lookup.

use super::index::{Candidate, HostRules};
use super::matching::Match;
use super::request::Request;
use super::rule::Rule;
use super::table::{Found, RoutingTable};
use std::fmt;
use std::sync::Arc;

/// The first condition that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// A header condition.
    Header(String),
    /// The path condition.
    Path(String),
    /// A query condition.
    QueryParam(String),
    /// None of these was offered.
    Subprotocol(String),
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(wanted) => write!(f, "no header {wanted}"),
            Self::Path(wanted) => write!(f, "path is not {wanted}"),
            Self::QueryParam(wanted) => write!(f, "no query parameter {wanted}"),
            Self::Subprotocol(wanted) => write!(f, "subprotocol {wanted} not offered"),
        }
    }
}

/// One match that was looked at.
#[derive(Clone, Debug)]
pub struct Considered {
    /// Its rule.
    pub rule: Arc<Rule>,
    /// The host pattern it answers to.
    pub host: String,
    /// The match itself.
    pub matching: Match,
    /// Why it was passed over; `None` is the one that won, or one behind it.
    pub passed_over: Option<Mismatch>,
}

/// A lookup, told in full.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// Every match of every host pattern that covers the host, best first.
    pub considered: Vec<Considered>,
    /// What the lookup finds.
    pub found: Option<Found>,
}

impl RoutingTable {
    /// Looks `request` up and tells of each candidate why it was passed over.
    pub fn explain(&self, request: &Request<'_>) -> Explanation {
        let tell = |host: &HostRules| {
            let tell = |candidate: &Candidate| {
                let matching = candidate.matching();
                let passed_over = if matching.path.accepts(request.path) {
                    matching.accepts_fields(request).err()
                } else {
                    Some(Mismatch::Path(matching.path.to_string()))
                };
                Considered {
                    rule: Arc::clone(&candidate.rule),
                    host: host.pattern.to_string(),
                    matching: matching.clone(),
                    passed_over,
                }
            };
            host.all().map(tell).collect::<Vec<_>>()
        };
        Explanation {
            considered: self.hosts_for(request.host).flat_map(tell).collect(),
            found: self.find(request).ok(),
        }
    }
}
