//! What one connection does, as the query of its URL says. Unknown names are ignored: routes are matched by query
//! parameters, too.

use std::collections::HashMap;
use std::time::Duration;

/// A connection's part. Without any parameter: echo every message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    /// `id=TEXT`: what is received is counted under this id.
    pub id: Option<String>,
    /// `hello`: first send pod, path, headers and subprotocol as JSON.
    pub hello: bool,
    /// `status=503`: refuse the handshake with this.
    pub status: Option<u16>,
    /// `subprotocol=NAME`: choose this one if it is offered. Otherwise the first that is offered.
    pub subprotocol: Option<String>,
    /// `close=4001` with `after=MS`: send a Close with this code.
    pub close: Option<u16>,
    /// `drop` with `after=MS`: end the TCP connection without a Close.
    pub drop: bool,
    /// See `close` and `drop`.
    pub after: Duration,
    /// `sequence=N` with `every=MS`: send the texts `1` to `N`.
    pub sequence: u64,
    /// See `sequence`; 10 ms unless given.
    pub every: Duration,
    /// `big=BYTES`: send one binary message of this size.
    pub big: Option<usize>,
    /// `delay=MS`: wait before each echo.
    pub delay: Duration,
    /// `mute`: read everything and answer nothing, not even pings and Closes.
    pub mute: bool,
}

impl Script {
    /// Reads a query string. A number that is none counts as 0.
    pub fn parse(query: &str) -> Self {
        let values: HashMap<&str, &str> =
            query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, ""))).collect();
        let number = |name: &str| values.get(name).and_then(|value| value.parse::<u64>().ok());
        let millis = |name: &str| Duration::from_millis(number(name).unwrap_or(0));
        let text = |name: &str| values.get(name).map(|value| (*value).to_owned());
        let code = |name: &str| number(name).and_then(|code| u16::try_from(code).ok());
        Self {
            id: text("id"),
            hello: values.contains_key("hello"),
            status: code("status"),
            subprotocol: text("subprotocol"),
            close: code("close"),
            drop: values.contains_key("drop"),
            after: millis("after"),
            sequence: number("sequence").unwrap_or(0),
            every: Duration::from_millis(number("every").unwrap_or(10).max(1)),
            big: number("big").and_then(|size| usize::try_from(size).ok()),
            delay: millis("delay"),
            mute: values.contains_key("mute"),
        }
    }

    /// The subprotocol to answer with.
    pub fn choose<'a>(&self, offered: &'a str) -> Option<&'a str> {
        let mut names = offered.split(',').map(str::trim).filter(|name| !name.is_empty());
        match &self.subprotocol {
            Some(wanted) => names.find(|name| name == wanted),
            None => names.next(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_what_a_connection_does() {
        let script = Script::parse("hello&close=4001&after=20&tenant=gold&sequence=x");
        assert!(script.hello);
        assert_eq!((script.close, script.after), (Some(4001), Duration::from_millis(20)));
        assert_eq!(script.sequence, 0);
        assert_eq!(Script::parse(""), Script { every: Duration::from_millis(10), ..Script::default() });
    }

    #[test]
    fn the_wanted_subprotocol_is_chosen_only_where_it_is_offered() {
        assert_eq!(Script::parse("subprotocol=b").choose("a, b"), Some("b"));
        assert_eq!(Script::parse("subprotocol=c").choose("a, b"), None);
        assert_eq!(Script::parse("").choose("a, b"), Some("a"));
        assert_eq!(Script::parse("").choose(""), None);
    }
}
