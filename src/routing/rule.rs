//! Routes and rules: what one `WebSocketRoute` came to.

use super::access::Access;
use super::endpoint::WeightedBackend;
use super::host::HostPattern;
use super::matching::Match;
use super::policy::{Plaintext, Policy};
use serde::{Serialize, Serializer};
use std::fmt;
use std::sync::Arc;

/// The name of a route.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteId {
    /// Namespace of the object.
    pub namespace: Arc<str>,
    /// Name of the object.
    pub name: Arc<str>,
}

impl fmt::Display for RouteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl Serialize for RouteId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The name of a rule. Shown as `namespace/route/rule`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleId {
    /// The route it belongs to.
    pub route: RouteId,
    /// Its name, or its position among the route's rules when it has none.
    pub rule: Arc<str>,
}

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.route, self.rule)
    }
}

impl Serialize for RuleId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

fn is_plain(access: &Arc<Access>) -> bool {
    access.is_plain()
}

/// One rule of a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// Its name.
    pub id: RuleId,
    /// Whether the user named it: a name identifies a rule across edits, a position does not.
    #[serde(skip)]
    pub named: bool,
    /// `ORed`, never empty.
    pub matches: Vec<Match>,
    /// Where its sessions go, in the order of the object.
    pub backends: Vec<WeightedBackend>,
    /// Its bounds and manners.
    pub policy: Arc<Policy>,
    /// Whether it answers on the plaintext listener.
    pub plaintext: Plaintext,
    /// Who may use it.
    #[serde(skip_serializing_if = "is_plain")]
    pub access: Arc<Access>,
}

/// One route: what survived of an accepted object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Route {
    /// Its name.
    pub id: RouteId,
    /// Name of its class.
    pub class: Arc<str>,
    /// Creation time of the object, seconds since 1970; decides conflicts, oldest first.
    pub created: i64,
    /// The hosts it answers to, never empty.
    pub hosts: Vec<HostPattern>,
    /// Its rules in the order of the object, without dropped ones.
    pub rules: Vec<Arc<Rule>>,
}
