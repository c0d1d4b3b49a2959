//! `showcaller asyncapi`: what goes over the broker, described; for those who generate code from it.

use std::io::Write;

use anyhow::Result;

use super::exit::Exit;
use crate::app::App;
use crate::config::Settings;

/// Prints the document.
pub fn print(app: &App, settings: &Settings) -> Result<Exit> {
    let document = app.messages(settings);
    writeln!(std::io::stdout().lock(), "{document:#}")?;
    Ok(Exit::Done)
}
