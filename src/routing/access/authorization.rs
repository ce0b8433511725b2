//! Authorization: which of the known clients may use a rule.

use super::admission::{Admission, Fact};
use super::cidr::CidrSet;
use serde::Serialize;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::BTreeSet;

/// Deny wins; whom nothing allows is not admitted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Authorization {
    /// Any of these may.
    pub allow: Vec<Principal>,
    /// None of these may.
    pub deny: Vec<Principal>,
}

/// A description of clients: what is set must hold, all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Principal {
    /// Any of these names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumers: Option<BTreeSet<Box<str>>>,
    /// All of these claims.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<ClaimCondition>,
    /// Any of these addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub addresses: Option<CidrSet>,
    /// Any of these subjects of a certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subjects: Option<BTreeSet<Box<str>>>,
    /// Any of these alternative names of a certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject_alt_names: Option<BTreeSet<Box<str>>>,
}

/// A claim and the values it may have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClaimCondition {
    /// The claim; a dot leads into an object.
    pub name: Box<str>,
    /// Any of these.
    pub values: BTreeSet<Box<str>>,
}

impl ClaimCondition {
    /// Whether `claims` meet it.
    pub fn holds(&self, claims: &Map<String, Value>) -> bool {
        claim(claims, &self.name).is_some_and(|value| claim_values(value).any(|value| self.values.contains(&*value)))
    }
}

/// The claim that `name` leads to: a claim of the whole name, else through objects from dot to dot.
pub fn claim<'c>(claims: &'c Map<String, Value>, name: &str) -> Option<&'c Value> {
    if let Some(value) = claims.get(name) {
        return Some(value);
    }
    let (outer, inner) = name.split_once('.')?;
    claim(claims.get(outer)?.as_object()?, inner)
}

/// The values of a claim as text: the elements of a list, or the one value. Numbers and booleans as in JSON.
pub fn claim_values(value: &Value) -> impl Iterator<Item = Cow<'_, str>> {
    let values = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    values.iter().map(|value| match value {
        Value::String(text) => Cow::Borrowed(&**text),
        other => Cow::Owned(other.to_string()),
    })
}

impl Principal {
    fn describes(&self, who: &Admission) -> bool {
        let named = |names: &BTreeSet<Box<str>>| who.consumer().is_some_and(|name| names.contains(&**name));
        let claims = who.identity.as_ref().and_then(|identity| match &identity.fact {
            Fact::Jwt { claims, .. } => Some(claims),
            _ => None,
        });
        let certificate = who.certificate.as_ref();
        self.consumers.as_ref().is_none_or(named)
            && self.claims.iter().all(|condition| claims.is_some_and(|claims| condition.holds(claims)))
            && self.addresses.as_ref().is_none_or(|addresses| addresses.contains(who.client))
            && self.subjects.as_ref().is_none_or(|subjects| certificate.is_some_and(|c| subjects.contains(&c.subject)))
            && self.subject_alt_names.as_ref().is_none_or(|names| {
                certificate.is_some_and(|c| c.subject_alt_names.iter().any(|name| names.contains(name)))
            })
    }
}

impl Authorization {
    /// Whether `who` may use the rule.
    pub fn admits(&self, who: &Admission) -> bool {
        let any = |principals: &[Principal]| principals.iter().any(|principal| principal.describes(who));
        !any(&self.deny) && any(&self.allow)
    }
}
