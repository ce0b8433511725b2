//! What one value of the settings means: addresses, URLs, durations. Each mistake says what to give instead.

use super::LogFormat;
use crate::routing::Scheme;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tracing_subscriber::EnvFilter;

/// Where `sheave proxy` sends every session: a URL without a path, because the client's own goes through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackendUrl {
    /// `wss` rather than `ws`.
    pub tls: bool,
    /// A name or a literal address without brackets.
    pub host: String,
    /// As given, or 80 and 443 as the scheme has it.
    pub port: u16,
}

impl BackendUrl {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let advice = || "give ws://HOST:PORT or wss://HOST:PORT".to_owned();
        let (tls, rest) = scheme(text).ok_or_else(advice)?;
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if !matches!(path, "" | "/") {
            return Err(format!("leave {path:?} out: the path that the client asks for goes to the backend"));
        }
        if authority.contains('@') {
            return Err("leave the user out: credentials are the client's to send".to_owned());
        }
        let (host, port) = host_and_port(authority, tls).ok_or_else(advice)?;
        Ok(Self { tls, host, port })
    }
}

/// Where a handshake that is to be explained goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandshakeUrl {
    /// `ws` or `wss`.
    pub scheme: Scheme,
    /// Lower case, without port, brackets or trailing dot.
    pub host: String,
    /// Host and port as given: what `Host` would be.
    pub authority: String,
    /// Starts with a slash.
    pub path: String,
    /// Without `?`.
    pub query: Option<String>,
}

impl Default for HandshakeUrl {
    fn default() -> Self {
        let (host, authority) = (String::new(), String::new());
        Self { scheme: Scheme::Ws, host, authority, path: "/".to_owned(), query: None }
    }
}

impl HandshakeUrl {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let advice = || "give ws://HOST/PATH or wss://HOST/PATH".to_owned();
        let (tls, rest) = scheme(text).ok_or_else(advice)?;
        let rest = rest.split_once('#').map_or(rest, |(before, _)| before);
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (host, _) = host_and_port(authority, tls).ok_or_else(advice)?;
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        Ok(Self {
            scheme: if tls { Scheme::Wss } else { Scheme::Ws },
            host: host.trim_end_matches('.').to_ascii_lowercase(),
            authority: authority.to_owned(),
            path: if path.is_empty() { "/" } else { path }.to_owned(),
            query: query.map(str::to_owned),
        })
    }
}

/// A WebSocket that `sheave connect` opens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SocketUrl {
    /// `wss` rather than `ws`.
    pub tls: bool,
    /// A name or a literal address without brackets.
    pub host: String,
    /// As given, or 80 and 443 as the scheme has it.
    pub port: u16,
    /// The whole URL, as given but for a fragment.
    pub text: String,
}

impl std::fmt::Display for SocketUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl SocketUrl {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let advice = || "give ws://HOST/PATH or wss://HOST/PATH".to_owned();
        let text = text.split_once('#').map_or(text, |(before, _)| before);
        let (tls, rest) = scheme(text).ok_or_else(advice)?;
        let authority = &rest[..rest.find(['/', '?']).unwrap_or(rest.len())];
        let (host, port) = host_and_port(authority, tls).ok_or_else(advice)?;
        text.parse::<http::Uri>().map_err(|error| format!("{error}; {}", advice()))?;
        Ok(Self { tls, host, port, text: text.to_owned() })
    }
}

fn scheme(text: &str) -> Option<(bool, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    match scheme.to_ascii_lowercase().as_str() {
        "ws" => Some((false, rest)),
        "wss" => Some((true, rest)),
        _ => None,
    }
}

fn host_and_port(authority: &str, tls: bool) -> Option<(String, u16)> {
    let bracketed = authority.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let (host, port) = match bracketed {
        Some((host, rest)) => {
            host.parse::<Ipv6Addr>().ok()?;
            (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
        }
        None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
    };
    let name = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    let valid = bracketed.is_some() || (!host.is_empty() && host.chars().all(name));
    let port = match port {
        Some(port) => port.parse().ok().filter(|port| *port != 0)?,
        None if tls => 443,
        None => 80,
    };
    valid.then(|| (host.to_owned(), port))
}

/// `ADDRESS:PORT`, `:PORT` for all interfaces, or `localhost:PORT`.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    let advice = "give ADDRESS:PORT such as 127.0.0.1:8080 or [::1]:8080, :PORT for all interfaces, or localhost:PORT";
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let (host, port) = text.rsplit_once(':').ok_or(advice)?;
    let port = port.parse().map_err(|_| advice)?;
    match host {
        // Both families, where there are two.
        "" | "*" => Ok((IpAddr::V6(Ipv6Addr::UNSPECIFIED), port).into()),
        "localhost" => Ok((IpAddr::V4(Ipv4Addr::LOCALHOST), port).into()),
        _ => Err(advice.to_owned()),
    }
}

/// An address without a port.
pub(super) fn ip(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| "give an IP address, without a port".to_owned())
}

/// A name as namespaces and leases have it (RFC 1123 label).
pub(super) fn label(text: &str) -> Result<&str, String> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let fits =
        (1..=63).contains(&text.len()) && text.chars().all(inner) && !text.starts_with('-') && !text.ends_with('-');
    fits.then_some(text)
        .ok_or_else(|| "is no name: write small letters, digits and inner hyphens, 63 at most".to_owned())
}

pub(super) fn workers(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| (1..=256).contains(n)).ok_or_else(|| "give a number from 1 to 256".to_owned())
}

/// Whole numbers with units, largest first or not: `1h`, `1m30s`, `500ms`; `0` needs none.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let advice = || "give a duration such as 500ms, 30s, 5m or 1h30m".to_owned();
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(advice)?;
        let number: u32 = rest[..digits].parse().map_err(|_| advice())?;
        rest = &rest[digits..];
        let units = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = match &rest[..units] {
            "ms" => Duration::from_millis(1),
            "s" => Duration::from_secs(1),
            "m" => Duration::from_secs(60),
            "h" => Duration::from_secs(3600),
            _ => return Err(advice()),
        };
        rest = &rest[units..];
        total = unit.checked_mul(number).and_then(|part| total.checked_add(part)).ok_or_else(advice)?;
    }
    if text.is_empty() { Err(advice()) } else { Ok(total) }
}

/// A whole `WebSocketClass`. What its fields mean is the cluster's to say.
pub(super) fn class(text: &str) -> Result<serde_json::Value, String> {
    let class: serde_json::Value = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
    let named = class["metadata"]["name"].as_str().is_some_and(|name| !name.is_empty());
    let ours = class["apiVersion"] == "sheave.dev/v1alpha1" && class["kind"] == "WebSocketClass";
    if named && ours { Ok(class) } else { Err("give a WebSocketClass of sheave.dev/v1alpha1 with a name".to_owned()) }
}

pub(super) fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "json" => Ok(LogFormat::Json),
        "text" => Ok(LogFormat::Text),
        _ => Err("give json or text".to_owned()),
    }
}

pub(super) fn log_filter(text: &str) -> Result<(), String> {
    EnvFilter::try_new(text)
        .map(drop)
        .map_err(|error| format!("{error}; give a level such as info, or a list such as info,sheave::proxy=debug"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_addresses_in_every_documented_form() {
        for (text, address_text) in [
            (":8000", "[::]:8000"),
            ("localhost:8080", "127.0.0.1:8080"),
            ("10.1.2.3:1", "10.1.2.3:1"),
            ("[::1]:8443", "[::1]:8443"),
        ] {
            assert_eq!(address(text).unwrap().to_string(), address_text);
        }
        for text in ["", "8080", "host:80", ":", ":65536", "1.2.3.4"] {
            assert!(address(text).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn reads_durations_with_units_only() {
        assert_eq!(duration("1h1m1s1ms").unwrap(), Duration::from_millis(3_661_001));
        assert_eq!(duration("0").unwrap(), Duration::ZERO);
        for text in ["", "5", "s", "1.5s", "-1s", "1d", "99999999999h", "1s ", "é"] {
            assert!(duration(text).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn a_socket_url_keeps_its_text_and_knows_its_port() {
        let url = SocketUrl::parse("wss://[::1]/a?b#c").unwrap();
        assert_eq!((url.tls, url.host.as_str(), url.port, url.text.as_str()), (true, "::1", 443, "wss://[::1]/a?b"));
        for text in ["h:1", "http://h", "ws://", "ws://h:0", "ws://u@h", "ws://h/a b"] {
            assert!(SocketUrl::parse(text).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn a_class_is_a_whole_object() {
        let whole = r#"{"apiVersion": "sheave.dev/v1alpha1", "kind": "WebSocketClass", "metadata": {"name": "a"}}"#;
        assert_eq!(class(whole).unwrap()["metadata"]["name"], "a");
        for text in ["", "{", "{}", &whole.replace("WebSocketClass", "Secret"), &whole.replace(r#""a""#, r#""""#)] {
            assert!(class(text).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn a_backend_url_has_no_path() {
        let url = BackendUrl::parse("wss://[::1]").unwrap();
        assert_eq!((url.tls, url.host.as_str(), url.port), (true, "::1", 443));
        assert!(BackendUrl::parse("ws://h:1/chat").unwrap_err().contains("/chat"));
        for text in ["h:1", "http://h:1", "ws://", "ws://h:x", "ws://h:0", "ws://u@h", "ws://[::1]x", "ws://a b"] {
            assert!(BackendUrl::parse(text).is_err(), "{text:?} was taken");
        }
    }
}
