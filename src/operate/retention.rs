//! `showcaller retention`: what is dropped by itself, how much of it is due, and when. It refuses to drop anything: the
//! roles do that as they run.

use anyhow::Result;
use chrono::{DateTime, TimeDelta, Utc};
use command_api::accounts::UNVERIFIED;
use command_api::{Clock, SystemClock};
use serde_json::{Value, json};

use super::exit::{Exit, refused};
use super::out::Out;
use crate::config::Settings;
use crate::open;

/// Shows every rule.
pub async fn show(settings: &Settings) -> Result<Exit> {
    if !settings.keys.exists() {
        return Err(refused(format!(
            "there is no keys file {}: name it with --keys, since the vault opens only with it",
            settings.keys.display()
        )));
    }
    if let Some(path) = settings.vault.sqlite_path().filter(|path| !path.exists()) {
        return Err(refused(format!("there is no vault {}", path.display())));
    }
    let now = SystemClock.now();
    let vault = open::vault(settings, &open::keys(settings)?).await?;
    let mut rules: Vec<Value> = vault
        .retention(UNVERIFIED, now)
        .await?
        .into_iter()
        .map(|rule| {
            json!({
                "what": rule.what, "store": "vault", "stays": days(rule.stays),
                "held": rule.held, "due": rule.due, "next": rule.next.map(to_seconds),
            })
        })
        .collect();
    // These have no rule of their own to be asked for: they hold, whatever stands there.
    for (what, store, stays) in [
        ("the journal of changed rows", "read models", "1 day"),
        ("events", "event store", "for ever"),
        ("rows of read models", "read models", "for ever"),
    ] {
        rules.push(json!({"what": what, "store": store, "stays": stays}));
    }
    let mut out = Out::new(settings.output);
    let columns = [
        ("what", "what"),
        ("store", "store"),
        ("stays", "stays"),
        ("held", "held"),
        ("due", "due now"),
        ("next", "oldest goes at"),
    ];
    out.table(&columns, &rules)?;
    out.finish()?;
    Ok(Exit::Done)
}

fn days(stays: TimeDelta) -> String {
    match stays.num_days() {
        0 => "not at all".into(),
        1 => "1 day".into(),
        days => format!("{days} days"),
    }
}

fn to_seconds(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}
