//! Sets up `tracing`: where log lines go and what they look like.
//!
//! Lines go to standard error; standard output belongs to the commands that print something. Decides nothing about
//! what is logged: a filter does, and the places that log.

use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// What a library says of its own failures is said again, with what to do, where they are met; a filter that names it
/// goes before this.
const QUIET: &str = "kube_client=off";

/// Starts logging for the process. A second call in one process changes nothing.
///
/// # Errors
/// If `filter` is malformed; settings have checked it before.
pub fn start(filter: &str, json: bool) -> Result<(), ParseError> {
    let filter = EnvFilter::try_new(format!("{QUIET},{filter}"))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let _already = if json {
        lines.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
    } else {
        lines.with_ansi(std::io::stderr().is_terminal()).try_init()
    };
    Ok(())
}
