//! Log lines go to stderr, so that a verb's data on stdout can be piped.

use anyhow::{Context, Result};
use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, Settings};

/// What to log; refused with what to write instead.
pub fn filter(text: &str) -> Result<EnvFilter> {
    EnvFilter::try_new(text).with_context(|| {
        format!("--log {text:?} is no filter; write for example --log info,projector=debug")
    })
}

/// Starts logging; once a process.
pub fn start(settings: &Settings) -> Result<()> {
    let filter = filter(&settings.log)?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match settings.log_format {
        LogFormat::Human => lines.with_target(false).with_ansi(false).init(),
        LogFormat::Json => lines.json().init(),
    }
    Ok(())
}
