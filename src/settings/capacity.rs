//! What a process may carry: the flags, and what their values mean.

use super::Reader;
use clap::Args;

#[derive(Args)]
#[allow(clippy::doc_markdown)] // these are help texts, printed as they stand
pub(super) struct CapacityWords {
    /// Live connections at most; further ones get 503 [default: 0, as many as the limit of open files allows]
    #[arg(long, env = "SHEAVE_MAX_CONNECTIONS", default_value = "0", value_name = "N", hide_default_value = true)]
    max_connections: String,
    /// New handshakes get 503 while more than this share of the container's memory is in use; 0 for no bound
    #[arg(long, env = "SHEAVE_MAX_MEMORY_PERCENT", default_value = "90", value_name = "PERCENT")]
    max_memory_percent: String,
    /// Handshakes that go on in a second, the rest waits in line [default: 0, no pace]
    #[arg(
        long,
        env = "SHEAVE_HANDSHAKES_PER_SECOND",
        default_value = "0",
        value_name = "N",
        hide_default_value = true
    )]
    handshakes_per_second: String,
    /// Handshakes that may wait in line; further ones get 503
    #[arg(long, env = "SHEAVE_HANDSHAKE_QUEUE", default_value = "4096", value_name = "N")]
    handshake_queue: String,
}

/// What a process may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Live connections. Default `None`: as many as the limit of open files allows.
    pub max_connections: Option<usize>,
    /// Of the memory that the container may have, 1 to 100; 0 for no bound. Default 90.
    pub max_memory_percent: u8,
    /// Handshakes that go on in a second. Default `None`: no pace.
    pub handshakes_per_second: Option<u32>,
    /// Handshakes that may wait for their turn. Default 4096.
    pub handshake_queue: usize,
}

impl Reader {
    pub(super) fn capacity(&mut self, words: &CapacityWords) -> Capacity {
        let mut number = |flag: &str, words: &str, most: u32| {
            let advice = format!("give a number from 0 to {most}");
            self.read(flag, words, words.parse().ok().filter(|number| *number <= most).ok_or(advice), 0)
        };
        let connections = number("--max-connections", &words.max_connections, 10_000_000);
        let percent = number("--max-memory-percent", &words.max_memory_percent, 100);
        let pace = number("--handshakes-per-second", &words.handshakes_per_second, 1_000_000);
        let queue = number("--handshake-queue", &words.handshake_queue, 10_000_000);
        Capacity {
            max_connections: Some(connections as usize).filter(|number| *number > 0),
            max_memory_percent: u8::try_from(percent).unwrap_or(100),
            handshakes_per_second: Some(pace).filter(|number| *number > 0),
            handshake_queue: queue as usize,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Settings, SettingsError};

    fn parse(words: &str) -> Result<Capacity, SettingsError> {
        let words = format!("sheave proxy --to ws://h:1 {words}");
        match Settings::parse(words.split_whitespace())? {
            Settings::Proxy { run, .. } => Ok(run.capacity),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn nothing_is_bounded_but_memory_and_what_the_system_bounds() {
        let capacity = Capacity {
            max_connections: None,
            max_memory_percent: 90,
            handshakes_per_second: None,
            handshake_queue: 4096,
        };
        assert_eq!(parse("").expect("defaults are valid"), capacity);
    }

    #[test]
    fn takes_each_number_and_tells_each_that_is_none() {
        let words = "--max-connections 50000 --max-memory-percent 0 --handshakes-per-second 2000 --handshake-queue 0";
        let capacity = parse(words).expect("these are numbers");
        assert_eq!((capacity.max_connections, capacity.max_memory_percent), (Some(50_000), 0));
        assert_eq!((capacity.handshakes_per_second, capacity.handshake_queue), (Some(2000), 0));
        let words = "--max-connections many --max-memory-percent 101 --handshakes-per-second 1.5 --handshake-queue all";
        let error = parse(words).expect_err("none of them is a number").to_string();
        assert!(error.starts_with("4 mistakes"), "{error}");
        assert!(error.contains("--max-memory-percent \"101\": give a number from 0 to 100"), "{error}");
    }
}
