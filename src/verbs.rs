//! What can be done from the command line: the verbs and their arguments. What they do stands in `operate/`.

pub mod carry;
pub mod look;

use std::path::PathBuf;

use chrono::TimeDelta;
use clap::{Subcommand, ValueEnum};

use crate::operate::confirm::Consent;
use crate::operate::parked::ParkedVerb;
use crate::operate::rebuild::RebuildArgs;

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Serves every role in one process, or one with --role (the default).
    #[command(
        after_help = "Examples:\n  showcaller serve\n  showcaller serve --role projector --broker amqp://USER:PASSWORD@HOST:5672/%2f"
    )]
    Serve,
    /// Looks into the log's streams.
    #[command(subcommand)]
    Streams(look::StreamsVerb),
    /// Looks into the log as a whole.
    #[command(subcommand)]
    Events(look::EventsVerb),
    /// Proves that each read model took in every event exactly once and in order.
    #[command(
        after_help = "Examples:\n  showcaller verify\n  showcaller verify --rows\n  showcaller verify --backup /backups/2026-11-23\n\nExits with 0 when everything is as it must be, with 1 when something is not."
    )]
    Verify {
        /// Also that the log still begins with the events of this backup (its folder, or its manifest alone); may be given several times
        #[arg(long = "backup", value_name = "MANIFEST")]
        backups: Vec<PathBuf>,
        /// Compares the rows with a fold of the log as well.
        #[arg(long)]
        rows: bool,
    },
    /// Builds read models anew beside what is read, and swaps them in.
    #[command(
        after_help = "Examples:\n  showcaller rebuild accounts\n  showcaller rebuild --all --compare\n  showcaller rebuild accounts --cancel\n  showcaller rebuild accounts --drop-old --yes\n\nExits with 1 when a build was cancelled, or is different from the live one."
    )]
    Rebuild(RebuildArgs),
    /// Shows the builds there were, and how far those are that are on their way.
    #[command(after_help = "Example:\n  showcaller rebuilds --output json")]
    Rebuilds,
    /// Makes the build of a read model live again that was live before.
    #[command(after_help = "Example:\n  showcaller rollback accounts")]
    Rollback {
        /// The read model.
        name: String,
    },
    /// Looks after streams whose events wait behind one that could not be projected.
    #[command(subcommand)]
    Parked(ParkedVerb),
    /// Shows how everything stands: dependencies, roles, how far each read model is, queues.
    #[command(
        after_help = "Examples:\n  showcaller status\n  showcaller status --output json\n\nExits with 3 when something cannot be reached, with 1 when something is not as it should be."
    )]
    Status,
    /// Copies log, vault and erasure ledger into a folder, while everything serves.
    #[command(
        after_help = "Examples:\n  showcaller backup --to /backups/2026-11-23\n  showcaller backup --to /backups/2026-11-23 --keys-to /safe/keys-2026-11-23.json"
    )]
    Backup(carry::BackupArgs),
    /// Brings a backup into empty stores, of whichever kind, and erases again whom the ledger names.
    #[command(
        after_help = "Examples:\n  showcaller restore --from /backups/2026-11-23 --dry-run\n  showcaller restore --from /backups/2026-11-23 --events postgres://USER@HOST/DATABASE"
    )]
    Restore(carry::RestoreArgs),
    /// Writes events as CloudEvents, one a line.
    #[command(
        after_help = "Examples:\n  showcaller export --to events.ndjson\n  showcaller export --to - --category account --since 2026-11-01 | wc -l"
    )]
    Export(carry::ExportArgs),
    /// Brings exported events into an empty event store, of whichever kind.
    #[command(
        after_help = "Examples:\n  showcaller import --from events.ndjson --events postgres://USER@HOST/DATABASE\n  showcaller import --from - --partitions 16 <events.ndjson"
    )]
    Import(carry::ImportArgs),
    /// Sends a selection of the log again, marked as a replay.
    #[command(
        after_help = "Examples:\n  showcaller replay --to queue:search-index --category account --dry-run\n  showcaller replay --to queue:search-index --category account --rate 200/s --resume-from replay.json\n  showcaller replay --to file:out.ndjson --since 2h"
    )]
    Replay(carry::ReplayArgs),
    /// Shows what is dropped by itself, and when.
    #[command(after_help = "Example:\n  showcaller retention")]
    Retention,
    /// Makes the keys file, and rotates what is in it.
    #[command(subcommand)]
    Keys(KeysVerb),
    /// Makes people operators, where the system runs.
    #[command(subcommand)]
    Operator(OperatorVerb),
    /// Prints what goes over the broker as an AsyncAPI 3.0 document, as `GET /asyncapi.json` answers it; opens nothing.
    #[command(after_help = "Example:\n  showcaller asyncapi >asyncapi.json")]
    Asyncapi,
    /// Asks the server at --listen whether it is ready: exits with 0 if so, else with 1.
    #[command(after_help = "Example:\n  showcaller health --listen 127.0.0.1:8080")]
    Health,
    /// Prints a script that completes this program's verbs and flags in a shell.
    #[command(
        after_help = "Examples:\n  showcaller completions bash >/etc/bash_completion.d/showcaller\n  showcaller completions fish >~/.config/fish/completions/showcaller.fish"
    )]
    Completions {
        /// Which shell.
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
}

/// Works on the keys file.
#[derive(Debug, Subcommand)]
pub enum KeysVerb {
    /// Makes a new keys file; never overwrites one.
    #[command(after_help = "Example:\n  showcaller keys create data/keys.json")]
    Create {
        /// Where to write it; it will be readable by its owner only.
        file: PathBuf,
    },
    /// Adds a key to the file named by --keys; it becomes current after a while. Nothing has to be restarted.
    #[command(
        after_help = "Examples:\n  showcaller keys rotate signing\n  showcaller keys rotate master --in 1h"
    )]
    Rotate {
        /// Which keys.
        #[arg(value_enum)]
        ring: Ring,
        /// When the new key becomes current, like 10s, 5m, 2h or 1d [default: 5m for signing, 10s for master]
        #[arg(long = "in", value_name = "DURATION", value_parser = duration)]
        delay: Option<TimeDelta>,
    },
    /// Lists master and signing keys of the file named by --keys, and how many data keys each master key wraps.
    #[command(
        after_help = "Examples:\n  showcaller keys list\n  showcaller keys list --output json"
    )]
    List,
    /// Takes an old key out of the file named by --keys; refused while it is needed.
    #[command(
        after_help = "Examples:\n  showcaller keys remove master 3f0c94be1a77\n  showcaller keys remove signing 3f0c94be1a77 --yes"
    )]
    Remove {
        /// Which keys.
        #[arg(value_enum)]
        ring: Ring,
        /// The key's id, as `showcaller keys list` shows it.
        id: String,
        #[command(flatten)]
        consent: Consent,
    },
}

/// Keys that can be rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Ring {
    /// Sign access tokens.
    Signing,
    /// Wrap people's data keys.
    Master,
}

/// The longest duration that can be written.
const LONGEST: TimeDelta = TimeDelta::days(365);

/// Reads 10s, 5m, 2h or 1d.
pub fn duration(text: &str) -> Result<TimeDelta, String> {
    let advice = || format!("{text:?} is no duration: write for example 10s, 5m, 2h or 1d");
    let unit = text.chars().last().ok_or_else(advice)?;
    let number: u32 = text[..text.len() - unit.len_utf8()]
        .parse()
        .map_err(|_| advice())?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(advice()),
    };
    let duration = TimeDelta::seconds(i64::from(number) * seconds);
    if duration > LONGEST {
        return Err(format!("{text:?} is longer than a year"));
    }
    Ok(duration)
}

/// Makes operators.
#[derive(Debug, Subcommand)]
pub enum OperatorVerb {
    /// Makes an account that may do everything, with a second factor; prints what its authenticator application reads.
    #[command(
        after_help = "Example:\n  showcaller operator create --email ada@example.org --password-stdin <password.txt\n\nThen add the printed URI to an authenticator application, log in, send a code to\nPOST /v1/accounts/me/confirm-totp, and log in again with a code."
    )]
    Create {
        /// The address to log in with.
        #[arg(long)]
        email: String,
        /// Reads the password from the first line of standard input: a flag would show it to everybody on this machine.
        #[arg(long, required = true)]
        password_stdin: bool,
        /// How others see the operator.
        #[arg(long, default_value = "Operator")]
        display_name: String,
    },
}

#[cfg(test)]
mod tests {
    use clap::{Command, CommandFactory};

    use super::*;
    use crate::config::CommandLine;

    fn leaves<'c>(command: &'c Command, path: &str, found: &mut Vec<(String, &'c Command)>) {
        let path = format!("{path} {}", command.get_name());
        if !command.has_subcommands() {
            found.push((path, command));
            return;
        }
        for child in command.get_subcommands() {
            leaves(child, &path, found);
        }
    }

    /// The words of a line, as a shell has them: what stands in double quotes is one.
    fn words(line: &str) -> Vec<&str> {
        let parts = line.split('"').enumerate();
        parts
            .flat_map(|(number, part)| match number % 2 {
                0 => part.split_whitespace().collect(),
                _ => vec![part],
            })
            .collect()
    }

    #[test]
    fn every_verb_explains_itself_by_an_example_that_is_a_line_it_accepts() {
        let all = CommandLine::command();
        let mut found = vec![];
        leaves(&all, "", &mut found);
        assert!(found.len() > 5);
        for (path, verb) in found {
            assert!(verb.get_about().is_some(), "{path} says what it does");
            let help = verb.get_after_help().map(ToString::to_string);
            let help = help.unwrap_or_default();
            let examples: Vec<&str> = help
                .lines()
                .filter_map(|line| line.strip_prefix("  "))
                .filter(|line| line.starts_with("showcaller "))
                .collect();
            assert!(!examples.is_empty(), "{path} has an example");
            for example in examples {
                let words = words(example).into_iter().take_while(|word| {
                    !word.starts_with('<') && !word.starts_with('>') && *word != "|"
                });
                let line = CommandLine::command().try_get_matches_from(words);
                assert!(line.is_ok(), "{example}: {}", line.unwrap_err());
                let verb_words = path.trim().trim_start_matches("showcaller").trim();
                assert!(example.contains(verb_words), "{example} shows {verb_words}");
            }
        }
    }

    /// So that nobody pastes a line at three in the morning that does not work.
    #[test]
    fn every_line_of_the_operators_page_is_accepted() {
        let page = include_str!("../docs/operators.md");
        let blocks = page.split("```sh\n").skip(1);
        let lines: Vec<&str> = blocks
            .filter_map(|block| block.split("```").next())
            .flat_map(str::lines)
            .collect();
        assert!(lines.len() > 25);
        for line in lines {
            let words = line.split_whitespace();
            let parsed = CommandLine::command().try_get_matches_from(words);
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        }
    }

    #[test]
    fn a_duration_is_a_number_and_a_unit() {
        assert_eq!(duration("90s"), Ok(TimeDelta::seconds(90)));
        assert_eq!(duration("5m"), Ok(TimeDelta::minutes(5)));
        assert_eq!(duration("2h"), Ok(TimeDelta::hours(2)));
        assert_eq!(duration("1d"), Ok(TimeDelta::days(1)));
        for wrong in [
            "",
            "5",
            "m",
            "-5m",
            "5 m",
            "5µ",
            "1.5h",
            "366d",
            "4294967295d",
        ] {
            assert!(duration(wrong).is_err(), "{wrong:?}");
        }
    }
}
