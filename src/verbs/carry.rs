//! The verbs that carry the log, or copies of everything, from one place to another, and their arguments.

use std::path::PathBuf;

use clap::Args;

use crate::operate::replay::{Rate, Target};
use crate::operate::select::Select;

/// What `backup` is given.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// A folder that is new or empty
    #[arg(long, value_name = "FOLDER")]
    pub to: PathBuf,
    /// Copies the keys file too, to a place of its own
    #[arg(long, value_name = "FILE")]
    pub keys_to: Option<PathBuf>,
}

/// What `restore` is given.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// The backup's folder
    #[arg(long, value_name = "FOLDER")]
    pub from: PathBuf,
    /// Only checks that the backup is whole, and says what it would do
    #[arg(long)]
    pub dry_run: bool,
}

/// What `export` is given.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// A new file; - for standard output
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,
    #[command(flatten)]
    pub select: Select,
}

/// What `import` is given.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The file; - for standard input
    #[arg(long, value_name = "FILE")]
    pub from: PathBuf,
    /// How many partitions the log gets if it is made now [default: 8]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1_024))]
    pub partitions: Option<u16>,
}

/// What `replay` is given.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// Where to: exchange:NAME or queue:NAME (which must exist), file:FILE, or - for standard output
    #[arg(long, value_name = "TARGET", value_parser = Target::parse)]
    pub to: Target,
    #[command(flatten)]
    pub select: Select,
    /// At most so many events a second, like 200/s
    #[arg(long, value_name = "N/s", value_parser = Rate::parse)]
    pub rate: Option<Rate>,
    /// Only counts what would be sent
    #[arg(long)]
    pub dry_run: bool,
    /// Keeps in this file how far it has come, and goes on from there if the file exists
    #[arg(long, value_name = "FILE")]
    pub resume_from: Option<PathBuf>,
}
