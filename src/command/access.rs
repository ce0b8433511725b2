//! What access would say of a handshake that has found its rule: each step in the order in which `sheave serve` takes it.
//!
//! Judges what the words alone decide: address, origin, whether a credential is there. Whether a credential is good is not
//! decided here, for nothing is asked and nothing verified; no credential is printed.

use crate::routing::access::{
    Access, AddressRules, Authorization, ClientDetection, ConnectionLimits, Encoding, External, HandshakeRate,
    OriginVerdict, Place, Principal, Provider, ProviderKind, ProxyProtocol, RateKey, Source,
};
use crate::routing::{Request, Rule, Scheme};
use std::io::{Result, Write};
use std::net::IpAddr;

/// A handshake as the words describe it.
pub(super) struct Shown<'s> {
    pub(super) request: Request<'s>,
    /// `Host`, with its port.
    pub(super) authority: &'s str,
    /// The client's address, if it was given.
    pub(super) from: Option<IpAddr>,
}

/// Prints the steps; the first refusal, if there is one, as status and reason.
pub(super) fn explain(rule: &Rule, shown: &Shown<'_>, out: &mut dyn Write) -> Result<Option<String>> {
    let access = &*rule.access;
    detection(&access.detection, out)?;
    let mut refused = None;
    let mut verdict = |step: Option<String>| {
        if refused.is_none() {
            refused = step;
        }
    };
    if let Some(rules) = &access.addresses {
        verdict(addresses(rules, shown.from, out)?);
    }
    verdict(origin(access, shown, out)?);
    let rate = access.handshakes.as_ref();
    if let Some(rate) = rate.filter(|rate| rate.key != RateKey::Consumer) {
        handshakes(rate, out)?;
    }
    if let Some(trust) = &access.certificates {
        let missing = if trust.optional { "not needed; one that is not valid counts as none" } else { "else 403" };
        writeln!(out, "client certificate: asked for, of an authority of the route; {missing}")?;
    }
    if let Some(authentication) = &access.authentication {
        verdict(credential(&authentication.providers, shown, out)?);
    }
    if let Some(authorization) = &access.authorization {
        self::authorization(authorization, out)?;
    }
    if let Some(rate) = rate.filter(|rate| rate.key == RateKey::Consumer) {
        handshakes(rate, out)?;
    }
    connections(&access.connections, out)?;
    Ok(refused)
}

fn detection(detection: &ClientDetection, out: &mut dyn Write) -> Result<()> {
    let word = match detection.proxy_protocol {
        ProxyProtocol::Disabled => None,
        ProxyProtocol::Optional => Some("PROXY protocol, if it is there"),
        ProxyProtocol::Required => Some("PROXY protocol, which must be there"),
    };
    let hops = match detection.trusted_hops {
        0 => None,
        hops => Some(format!("X-Forwarded-For or Forwarded, {hops} from the right")),
    };
    let words: Vec<_> = word.map(str::to_owned).into_iter().chain(hops).collect();
    if words.is_empty() {
        return Ok(());
    }
    writeln!(out, "client address: by {}; believed from trustedCIDRs only", words.join("; by "))
}

fn addresses(rules: &AddressRules, from: Option<IpAddr>, out: &mut dyn Write) -> Result<Option<String>> {
    let Some(from) = from else {
        writeln!(out, "address: not judged; give --from ADDRESS")?;
        return Ok(None);
    };
    if rules.admit(from) {
        writeln!(out, "address: {from} is allowed")?;
        return Ok(None);
    }
    let why = if rules.deny.contains(from) { "is in a block of deny" } else { "is in no block of allow" };
    writeln!(out, "address: {from} {why}")?;
    Ok(Some("403: clients of this address are not allowed".to_owned()))
}

fn origin(access: &Access, shown: &Shown<'_>, out: &mut dyn Write) -> Result<Option<String>> {
    let Some(origins) = &access.origins else { return Ok(None) };
    let mut lines = shown.request.header("origin");
    let origin = lines.next();
    let several = lines.next().is_some();
    let judged = if several { Some("several") } else { origin };
    let verdict = origins.judge(judged, shown.authority, shown.request.scheme == Scheme::Wss);
    let word = match (origin, several) {
        (_, true) => "several".to_owned(),
        (Some(origin), false) => format!("{origin:?}"),
        (None, false) => "none".to_owned(),
    };
    writeln!(out, "origin: {word}: {verdict}")?;
    Ok((verdict != OriginVerdict::Allowed).then(|| format!("403: {verdict}")))
}

fn handshakes(rate: &HandshakeRate, out: &mut dyn Write) -> Result<()> {
    let of = match &rate.key {
        RateKey::ClientIp => "of a client address".to_owned(),
        RateKey::Consumer => "of a consumer".to_owned(),
        RateKey::Header(name) => format!("with the same {name}"),
        RateKey::Route => "of the route".to_owned(),
    };
    let rate = rate.rate;
    writeln!(out, "handshake rate: {} in {:?} {of}, {} at once; above it 429", rate.limit, rate.per, rate.burst)
}

/// Which provider would decide; the providers behind it are not asked.
fn credential(providers: &[Provider], shown: &Shown<'_>, out: &mut dyn Write) -> Result<Option<String>> {
    let mut decided = false;
    let mut refused = None;
    for provider in providers {
        let name = &provider.name;
        write!(out, "provider {name} ({}): ", kind(&provider.kind))?;
        let (place, carried) = match &provider.kind {
            ProviderKind::External(external) => looked_at(external, shown),
            ProviderKind::Password(..) => {
                let basic = Source {
                    place: Place::Header("authorization".into()),
                    prefix: "Basic ".into(),
                    encoding: Encoding::Plain,
                };
                (place(&basic), carries(&basic, &shown.request))
            }
            _ => {
                let places: Vec<_> = provider.sources.iter().map(place).collect();
                let carried = provider.sources.iter().any(|source| carries(source, &shown.request));
                // Of one that cannot work it is not known where it would have looked.
                (places.join(", "), carried || provider.sources.is_empty())
            }
        };
        if !place.is_empty() {
            write!(out, "{place}: ")?;
        }
        match &provider.kind {
            _ if decided => writeln!(out, "not asked, for one before it decides")?,
            _ if !carried => writeln!(out, "no credential")?,
            ProviderKind::Unavailable(why) => {
                decided = true;
                refused = Some(format!("503: provider {name} cannot decide"));
                writeln!(out, "cannot decide: {why}")?;
            }
            ProviderKind::External(_) => {
                decided = true;
                writeln!(out, "would be asked")?;
            }
            ProviderKind::ApiKey(_) | ProviderKind::Jwt(_) | ProviderKind::Password(..) => {
                decided = true;
                writeln!(out, "a credential that would be verified")?;
            }
        }
    }
    Ok(if decided { refused } else { Some("401: a credential is needed here".to_owned()) })
}

fn kind(kind: &ProviderKind) -> &'static str {
    match kind {
        ProviderKind::ApiKey(_) => "API key",
        ProviderKind::External(_) => "external",
        ProviderKind::Jwt(_) => "JWT",
        ProviderKind::Password(..) => "basic",
        ProviderKind::Unavailable(_) => "unavailable",
    }
}

/// What a service is shown, and whether it is asked about this handshake.
fn looked_at(external: &External, shown: &Shown<'_>) -> (String, bool) {
    let headers = &external.request_headers;
    let there = headers.iter().any(|name| shown.request.header(name).next().is_some());
    (format!("service {}, which is shown {}", external.backend.id, headers.join(", ")), external.always || there)
}

fn place(source: &Source) -> String {
    let prefix = source.prefix.trim_end();
    let behind = if prefix.is_empty() { String::new() } else { format!(" behind {prefix:?}") };
    match &source.place {
        Place::Cookie(name) => format!("cookie {name}{behind}"),
        Place::Header(name) => format!("header {name}{behind}"),
        Place::Query(name) => format!("query parameter {name}{behind}"),
        Place::Subprotocol(start) => format!("subprotocol {start}*{behind}"),
    }
}

/// Whether there is something at a place; what it is does not matter here.
fn carries(source: &Source, request: &Request<'_>) -> bool {
    let prefix = &*source.prefix;
    let fits = |value: &str| {
        let start = value.get(..prefix.len());
        value.len() > prefix.len() && start.is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    match &source.place {
        Place::Cookie(name) => request.header("cookie").flat_map(|line| line.split(';')).any(|pair| {
            let (found, value) = pair.trim().split_once('=').unwrap_or((pair, ""));
            *found == **name && fits(value)
        }),
        Place::Header(name) => request.header(name).any(fits),
        Place::Query(name) => request.query_value(name).is_some_and(|value| fits(&value)),
        Place::Subprotocol(start) => {
            request.subprotocols.iter().any(|offered| offered.strip_prefix(&**start).is_some_and(fits))
        }
    }
}

fn authorization(authorization: &Authorization, out: &mut dyn Write) -> Result<()> {
    writeln!(out, "authorization: judged once the client is known; whom nothing allows gets 403")?;
    let lists = [("deny", &authorization.deny), ("allow", &authorization.allow)];
    for (word, principal) in lists.iter().flat_map(|(word, list)| list.iter().map(move |one| (word, one))) {
        writeln!(out, "  {word} {}", principal_words(principal))?;
    }
    Ok(())
}

fn principal_words(principal: &Principal) -> String {
    let mut words = Vec::new();
    let mut list = |what: &str, names: &mut dyn Iterator<Item = &str>| {
        words.push(format!("{what} {}", names.collect::<Vec<_>>().join(" or ")));
    };
    if let Some(names) = &principal.consumers {
        list("consumer", &mut names.iter().map(|name| &**name));
    }
    for claim in &principal.claims {
        list(&format!("claim {}", claim.name), &mut claim.values.iter().map(|value| &**value));
    }
    if let Some(names) = &principal.subjects {
        list("subject", &mut names.iter().map(|name| &**name));
    }
    if let Some(names) = &principal.subject_alt_names {
        list("alternative name", &mut names.iter().map(|name| &**name));
    }
    if principal.addresses.is_some() {
        words.push("address in clientCIDRs".to_owned());
    }
    words.join(", and ")
}

fn connections(limits: &ConnectionLimits, out: &mut dyn Write) -> Result<()> {
    let bounds = [
        (limits.route, "of the route", "503"),
        (limits.client_ip, "of a client address", "429"),
        (limits.consumer, "of a consumer", "429"),
        (limits.endpoint, "of an endpoint", "503 when all are full"),
    ];
    for (most, of, status) in bounds {
        if let Some(most) = most {
            writeln!(out, "sessions: at most {most} {of}; above it {status}")?;
        }
    }
    Ok(())
}
