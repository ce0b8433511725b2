//! The matches of a rule: from the words of the API to what the table compares.
//!
//! Conditions are brought into one form (names of headers in lower case, everything sorted, a prefix without its
//! trailing slash), so that equal matches are equal values and a conflict is one comparison.

use super::verdict::Fault;
use crate::api::status::reason;
use crate::api::{Path, PathType, RouteMatch, RouteRule, ValueMatch, ValueType};
use crate::routing::{FieldMatch, Match, PathMatch, Pattern, Text};

/// The matches of `rule`, none of them twice; no match at all means every handshake.
///
/// # Errors
/// The first expression that does not compile. The message begins with the field; `field` is that of the rule.
pub(super) fn matches(rule: &RouteRule, field: &str) -> Result<Vec<Match>, Fault> {
    if rule.matches.is_empty() {
        return Ok(vec![one(&RouteMatch::default(), field)?]);
    }
    let mut all: Vec<Match> = Vec::with_capacity(rule.matches.len());
    for (at, written) in rule.matches.iter().enumerate() {
        let matching = one(written, &format!("{field}.matches[{at}]"))?;
        if !all.contains(&matching) {
            all.push(matching);
        }
    }
    Ok(all)
}

fn one(written: &RouteMatch, field: &str) -> Result<Match, Fault> {
    let fields = |list: &[ValueMatch], name: &str, lower: bool| -> Result<Vec<FieldMatch>, Fault> {
        let each =
            list.iter().enumerate().map(|(at, value)| value_match(value, lower, &format!("{field}.{name}[{at}]")));
        let mut fields = each.collect::<Result<Vec<_>, Fault>>()?;
        fields.sort_by_cached_key(|f| (f.name.clone(), f.value.to_string()));
        fields.dedup();
        Ok(fields)
    };
    let mut subprotocols: Vec<Box<str>> = written.subprotocols.iter().map(|s| s.as_str().into()).collect();
    subprotocols.sort_unstable();
    subprotocols.dedup();
    Ok(Match {
        path: written.path.as_ref().map_or(Ok(PathMatch::Prefix("".into())), |p| path(p, &format!("{field}.path")))?,
        headers: fields(&written.headers, "headers", true)?,
        query: fields(&written.query_params, "queryParams", false)?,
        subprotocols,
    })
}

fn path(written: &Path, field: &str) -> Result<PathMatch, Fault> {
    Ok(match written.kind {
        PathType::Exact => PathMatch::Exact(written.value.as_str().into()),
        PathType::PathPrefix => PathMatch::Prefix(written.value.trim_end_matches('/').into()),
        PathType::RegularExpression => PathMatch::Regular(expression(&written.value, field)?),
    })
}

fn value_match(written: &ValueMatch, lower: bool, field: &str) -> Result<FieldMatch, Fault> {
    let name = if lower { written.name.to_ascii_lowercase() } else { written.name.clone() };
    let value = match written.kind {
        ValueType::Exact => Text::Exact(written.value.as_str().into()),
        ValueType::RegularExpression => Text::Regular(expression(&written.value, field)?),
    };
    Ok(FieldMatch { name: name.into(), value })
}

fn expression(text: &str, field: &str) -> Result<Pattern, Fault> {
    Pattern::whole(text).map_err(|error| {
        let error = error.to_string();
        let why = error.rsplit_once("error: ").map_or(error.as_str(), |(_, why)| why);
        let why = why.trim().trim_end_matches('.');
        let message =
            format!("{field}.value: the expression {text} does not compile ({why}): correct it; the syntax is RE2's");
        Fault::new(reason::UNSUPPORTED_VALUE, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matched(yaml: &str) -> Result<Vec<Match>, Fault> {
        let rule: RouteRule = serde_saphyr::from_str(yaml).expect("a rule");
        matches(&rule, "spec.rules[0]")
    }

    #[test]
    fn brings_equal_conditions_into_one_form() {
        let one = matched(
            "{matches: [{path: {value: /ws/}, headers: [{name: X-B, value: b}, {name: x-a, value: a}]}], backendRefs: []}",
        );
        let other = matched(
            "{matches: [{path: {value: /ws}, headers: [{name: X-A, value: a}, {name: x-b, value: b}]}], backendRefs: []}",
        );
        assert_eq!(one, other);
        let shown: Vec<_> = one.expect("valid").iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["PathPrefix /ws header x-a=a header x-b=b"]);
    }

    #[test]
    fn a_rule_without_matches_takes_every_handshake() {
        let all = matched("{backendRefs: []}").expect("valid");
        assert_eq!(all.iter().map(ToString::to_string).collect::<Vec<_>>(), ["PathPrefix /"]);
    }

    #[test]
    fn names_the_field_of_an_expression_that_does_not_compile() {
        let fault = matched(
            "{matches: [{}, {queryParams: [{name: v, type: RegularExpression, value: '(a'}]}], backendRefs: []}",
        )
        .expect_err("unclosed group");
        assert!(fault.message.starts_with("spec.rules[0].matches[1].queryParams[0].value: "), "{}", fault.message);
        assert!(fault.message.contains("unclosed group"), "{}", fault.message);
    }
}
