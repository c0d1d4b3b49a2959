//! The verbs that look into the log, and their arguments.

use clap::{Args, Subcommand};
use events::StreamId;

use crate::operate::select::{Filters, Select};

/// Looks into streams.
#[derive(Debug, Subcommand)]
pub enum StreamsVerb {
    /// Lists streams by name, each with its last event.
    #[command(
        after_help = "Examples:\n  showcaller streams list --category account\n  showcaller streams list --limit 10 --after account-5f0e4b4e-8f0c-8d5e-9b1f-0a4e3c1d2b3a"
    )]
    List {
        /// Only streams of this category.
        #[arg(long)]
        category: Option<String>,
        /// Begins after this stream: the page after the one that ended with it.
        #[arg(long, value_name = "STREAM", value_parser = StreamId::parse)]
        after: Option<StreamId>,
        /// How many at most.
        #[arg(long, default_value_t = 50, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=10_000))]
        limit: usize,
    },
    /// Lists the categories that streams begin with, and whether this program has an aggregate for each.
    #[command(after_help = "Example:\n  showcaller streams categories")]
    Categories,
    /// Shows a stream's events, oldest first.
    #[command(
        after_help = "Examples:\n  showcaller streams show account-5f0e4b4e-8f0c-8d5e-9b1f-0a4e3c1d2b3a\n  showcaller streams show account-5f0e4b4e-8f0c-8d5e-9b1f-0a4e3c1d2b3a --from 3 --to 7\n  showcaller streams show account-5f0e4b4e-8f0c-8d5e-9b1f-0a4e3c1d2b3a --type SettingsChanged --since 2h --output json"
    )]
    Show(StreamArgs),
    /// Shows a stream's last event, then each new one as it is appended.
    #[command(
        after_help = "Example:\n  showcaller streams tail account-5f0e4b4e-8f0c-8d5e-9b1f-0a4e3c1d2b3a"
    )]
    Tail {
        /// The stream's name, {category}-{id}.
        #[arg(value_parser = StreamId::parse)]
        stream: StreamId,
        #[command(flatten)]
        filters: Filters,
        /// Opens personal fields, with the keys file and the vault; goes on record
        #[arg(long)]
        reveal_personal: bool,
    },
    /// Shows the state after a version: the aggregate's, and each read model's rows of this stream.
    #[command(
        after_help = "Examples:\n  showcaller streams state account-5f0e4b4e-8f0c-8d5e-9b1f-0a4e3c1d2b3a\n  showcaller streams state account-5f0e4b4e-8f0c-8d5e-9b1f-0a4e3c1d2b3a --at 3"
    )]
    State {
        /// The stream's name, {category}-{id}.
        #[arg(value_parser = StreamId::parse)]
        stream: StreamId,
        /// After this version [default: the last]
        #[arg(long, value_name = "VERSION", value_parser = clap::value_parser!(u64).range(1..))]
        at: Option<u64>,
        /// Opens personal fields, with the keys file and the vault; goes on record
        #[arg(long)]
        reveal_personal: bool,
    },
    /// Shows what changed in the state between two versions; 0 is before the first.
    #[command(
        after_help = "Example:\n  showcaller streams diff account-5f0e4b4e-8f0c-8d5e-9b1f-0a4e3c1d2b3a 3 4"
    )]
    Diff {
        /// The stream's name, {category}-{id}.
        #[arg(value_parser = StreamId::parse)]
        stream: StreamId,
        /// The version before.
        from: u64,
        /// The version after.
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        to: u64,
    },
}

/// What `streams show` is given.
#[derive(Debug, Args)]
pub struct StreamArgs {
    /// The stream's name, {category}-{id}.
    #[arg(value_parser = StreamId::parse)]
    pub stream: StreamId,
    /// Begins at this version
    #[arg(long, value_name = "VERSION")]
    pub from: Option<u64>,
    /// Ends with this version
    #[arg(long, value_name = "VERSION")]
    pub to: Option<u64>,
    #[command(flatten)]
    pub filters: Filters,
    /// Opens personal fields, with the keys file and the vault; goes on record
    #[arg(long)]
    pub reveal_personal: bool,
}

/// Looks into the log.
#[derive(Debug, Subcommand)]
pub enum EventsVerb {
    /// Lists events in the order of the log.
    #[command(
        after_help = "Examples:\n  showcaller events list --since 2h --limit 20\n  showcaller events list --category account --type AccountErased --output json\n  showcaller events list --correlation-id 0d8f4e62-51b3-8c7a-9e14-2f6a7b3c8d90"
    )]
    List {
        #[command(flatten)]
        select: Select,
        /// How many at most.
        #[arg(long, default_value_t = 100)]
        limit: usize,
        /// Opens personal fields, with the keys file and the vault; goes on record
        #[arg(long)]
        reveal_personal: bool,
    },
    /// Shows events as they are appended, from now or from a position on.
    #[command(
        after_help = "Examples:\n  showcaller events tail\n  showcaller events tail --from-position 1042 --category account"
    )]
    Tail {
        #[command(flatten)]
        select: Select,
        /// Opens personal fields, with the keys file and the vault; goes on record
        #[arg(long)]
        reveal_personal: bool,
    },
    /// Shows an event with what caused it and what it caused: all that followed from the same request.
    #[command(
        after_help = "Examples:\n  showcaller events show 60dc1019-ad8c-8d95-94fb-1a7c2b1303b2\n  showcaller events show 1042"
    )]
    Show {
        /// The event's id, or its position (quicker: the log has no index of ids).
        event: String,
        /// Opens personal fields, with the keys file and the vault; goes on record
        #[arg(long)]
        reveal_personal: bool,
    },
}
