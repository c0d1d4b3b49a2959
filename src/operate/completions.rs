//! `showcaller completions SHELL`: what a shell needs to complete verbs and flags.

use clap::CommandFactory;
use clap_complete::{Shell, generate};

use super::exit::Exit;
use crate::config::CommandLine;

/// Prints the script.
pub fn print(shell: Shell) -> anyhow::Result<Exit> {
    let mut command = CommandLine::command();
    let name = command.get_name().to_owned();
    // Into memory first: the generator takes a closed pipe for a fault of its own.
    let mut script = Vec::new();
    generate(shell, &mut command, name, &mut script);
    std::io::Write::write_all(&mut std::io::stdout(), &script)?;
    Ok(Exit::Done)
}
