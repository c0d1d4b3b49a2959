//! Consent to what cannot be taken back: what will happen is said first, then the name of what it happens to is typed, or
//! `--yes` was written. It refuses to take silence for consent.

use std::io::{BufRead, IsTerminal, Read};

use anyhow::{Context, Result};
use clap::Args;

use super::exit::refused;

/// The longest line read as an answer, in bytes.
const LINE: u64 = 1_024;

/// The flags of every verb that destroys or overwrites something.
#[derive(Debug, Clone, Copy, Args)]
pub struct Consent {
    /// Says what it would do, and does nothing
    #[arg(long, conflicts_with = "yes")]
    pub dry_run: bool,
    /// Does it without asking; needed where nobody can type the name
    #[arg(long)]
    pub yes: bool,
}

impl Consent {
    /// Says what will be done (`plan`, one line or several) and asks for `name` to be typed. `false`: this is a dry run. Not
    /// agreed to is a refusal.
    pub fn to(self, plan: &str, name: &str) -> Result<bool> {
        eprintln!("{plan}");
        if self.dry_run {
            eprintln!("nothing was done: this is a dry run");
            return Ok(false);
        }
        if self.yes {
            return Ok(true);
        }
        if !std::io::stdin().is_terminal() {
            return Err(refused(
                "nothing was done: this needs consent, and nobody can type here; add --yes",
            ));
        }
        eprint!("Type {name} to go on: ");
        let mut line = String::new();
        std::io::stdin()
            .lock()
            .take(LINE)
            .read_line(&mut line)
            .context("the answer cannot be read")?;
        if line.trim() == name {
            return Ok(true);
        }
        Err(refused("nothing was done: that is another name"))
    }
}
