//! Logs on standard error.

use crate::args::LogFormat;
use std::io::{IsTerminal, stderr};
use tracing_subscriber::EnvFilter;

/// Targets that speak to trials, not to operators. A filter that names them brings them back.
const SILENT: &str = "mark=off,lead=off,effect=off,container=off";

/// Begins logging in `format` what `filter` lets through.
///
/// # Errors
/// What is wrong with the filter.
pub fn start(format: LogFormat, filter: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(format!("{SILENT},{filter}"))
        .map_err(|error| format!("--log {filter} is no filter of logs: {error}"))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
    match format {
        LogFormat::Human => builder.with_ansi(stderr().is_terminal()).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}
