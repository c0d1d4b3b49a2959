//! `showcaller status`: how everything stands, as far as it can be seen from here, for people and scripts. It refuses to look
//! for itself: [`super::seen`] does, for the query API as well.

use anyhow::Result;
use read_models::ReadModel;
use serde_json::Value;

use super::exit::Exit;
use super::out::Out;
use super::seen::{Seen, look};
use crate::config::Settings;

/// By column: which key of an object it shows, and its head.
type Columns = &'static [(&'static str, &'static str)];

/// Looks and prints.
pub async fn show(settings: &Settings, models: &[ReadModel]) -> Result<Exit> {
    print(Box::pin(look(settings, models)).await, settings)
}

fn print(seen: Seen, settings: &Settings) -> Result<Exit> {
    let mut out = Out::new(settings.output);
    let tables: [(Columns, Vec<Value>); 4] = [
        (
            &[
                ("name", "dependency"),
                ("up", "up"),
                ("latency_ms", "ms"),
                ("url", "where"),
                ("problem", "problem"),
            ],
            seen.dependencies,
        ),
        (
            &[
                ("name", "role"),
                ("state", "state"),
                ("where", "where"),
                ("published", "published"),
                ("head", "log head"),
            ],
            seen.roles,
        ),
        (
            &[
                ("name", "read model"),
                ("generation", "generation"),
                ("state", "state"),
                ("behind", "behind"),
                ("events_per_second", "events/s"),
                ("seconds_left", "s left"),
                ("parked", "parked"),
            ],
            seen.read_models,
        ),
        (
            &[
                ("partition", "queue"),
                ("messages", "messages"),
                ("projectors", "projectors"),
            ],
            seen.queues,
        ),
    ];
    let mut first = true;
    for (columns, objects) in tables.iter().filter(|(_, objects)| !objects.is_empty()) {
        if !first {
            out.gap()?;
        }
        first = false;
        out.table(columns, objects)?;
    }
    out.finish()?;
    Ok(match (seen.down, seen.wrong) {
        (true, _) => Exit::Unavailable,
        (false, true) => Exit::Wrong,
        (false, false) => Exit::Done,
    })
}
