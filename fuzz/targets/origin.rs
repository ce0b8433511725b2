//! `Origin` of a handshake: no text but the listed origins, in their few spellings, is ever let in.
//!
//! Input: the `Origin` line, then `Host` on a line of its own; everything behind is patterns, one a line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sheave::routing::access::{OriginVerdict, Origins};
use std::sync::LazyLock;

static EXACT: LazyLock<Origins> = LazyLock::new(|| list(&["https://chat.example.com"]));
static WILDCARD: LazyLock<Origins> = LazyLock::new(|| list(&["https://*.example.com"]));
static PORT: LazyLock<Origins> = LazyLock::new(|| list(&["http://localhost:3000", "null"]));

fn list(patterns: &[&str]) -> Origins {
    Origins::new(patterns.iter().copied(), false).expect("good patterns")
}

fuzz_target!(|text: &str| {
    let mut lines = text.split('\n');
    let (origin, host) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let allows = |list: &Origins| list.judge(Some(origin), host, true) == OriginVerdict::Allowed;
    let folded = origin.to_ascii_lowercase();
    let https = folded.strip_suffix(":443").unwrap_or(&folded).strip_prefix("https://");
    assert_eq!(allows(&EXACT), https == Some("chat.example.com"), "{origin:?}");
    if allows(&WILDCARD) {
        let fits = |host: &str| host.ends_with(".example.com") && !host.contains(['/', '@', ':', '*']);
        assert!(https.is_some_and(fits), "{origin:?}");
    }
    assert_eq!(allows(&PORT), folded == "http://localhost:3000" || origin == "null", "{origin:?}");
    assert_eq!(EXACT.judge(None, host, true), OriginVerdict::Missing);
    // The same origin is the one that the handshake's own Host names, over the scheme it came by.
    if Origins::same().judge(Some(origin), host, true) == OriginVerdict::Allowed {
        let own = host.to_ascii_lowercase();
        assert_eq!(https, Some(own.strip_suffix(":443").unwrap_or(&own)), "{origin:?} at {host:?}");
    }
    let patterns: Vec<&str> = lines.collect();
    if let Ok(origins) = Origins::new(patterns.iter().copied(), true) {
        let allowed = allows(&origins);
        if patterns.contains(&"*") {
            assert!(allowed, "{origin:?}");
        } else if allowed {
            let alone = |pattern: &&str| allows(&list(&[pattern]));
            assert!(patterns.iter().any(alone), "{origin:?} by none of {patterns:?}");
        }
    }
});
