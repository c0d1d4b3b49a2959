//! Log lines go to stderr, so that a verb's data on stdout can be piped.

use anyhow::{Context, Result};
use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, Settings};

/// Starts logging; once a process.
pub fn start(settings: &Settings) -> Result<()> {
    let filter = EnvFilter::try_new(&settings.log).with_context(|| {
        format!(
            "--log {:?} is no filter; write for example --log info,projector=debug",
            settings.log
        )
    })?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match settings.log_format {
        LogFormat::Human => lines.with_target(false).with_ansi(false).init(),
        LogFormat::Json => lines.json().init(),
    }
    Ok(())
}
