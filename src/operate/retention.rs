//! `showcaller retention`: what is dropped by itself, how much of it is due, and when. It refuses to drop anything: the
//! roles do that as they run.

use anyhow::Result;
use chrono::{DateTime, TimeDelta, Utc};
use command_api::accounts::UNVERIFIED;
use command_api::{Clock, SystemClock};
use read_models::{
    Comparison, Error, Filter, Order, Query, ReadModel, ReadStore, Retention, SLACK,
};
use serde_json::{Value, json};

use super::exit::{Exit, refused};
use super::out::Out;
use crate::config::Settings;
use crate::open;

/// Shows every rule.
pub async fn show(settings: &Settings, models: &[ReadModel]) -> Result<Exit> {
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
    let models: Vec<&ReadModel> = models.iter().filter(|m| m.retention.is_some()).collect();
    if !models.is_empty() {
        let store = open::read_models(settings, true).await?;
        store.check().await?;
        for model in models {
            rules.extend(rule(&*store, model, now).await?);
        }
    }
    // These have no rule of their own to be asked for: they hold, whatever stands there.
    for (what, store, stays) in [
        ("the journal of changed rows", "read models", "1 day"),
        ("events", "event store", "for ever"),
        ("rows of other read models", "read models", "for ever"),
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

/// A read model's rule: how many rows readers see, how many of them are due, and when the oldest goes. Nothing of the last where
/// there is none, where the read model is not built yet, or where counting takes too long.
async fn rule(
    store: &dyn ReadStore,
    model: &ReadModel,
    now: DateTime<Utc>,
) -> Result<Option<Value>> {
    let Some(Retention { column, keep }) = &model.retention else {
        return Ok(None);
    };
    let mut rule = json!({
        "what": format!("rows of {} by {column}", model.name), "store": "read models", "stays": days(*keep),
    });
    let Some(field) = model.field(column) else {
        return Ok(Some(rule));
    };
    let all = Filter::All(Vec::new());
    let due = model
        .due_at(now - SLACK)
        .map(|due| Filter::Compare(field.clone(), Comparison::Lt, due.before));
    let oldest = Order::ascending(field.clone());
    let ask = async |filter: Filter| {
        let mut query = Query::new(model, filter, 1).in_order(model, vec![oldest.clone()]);
        query.count = true;
        store.list(model, &query).await
    };
    let held = match ask(all).await {
        Ok(page) => page,
        Err(Error::TooSlow(_) | Error::Unavailable(_)) => return Ok(Some(rule)),
        Err(error) => return Err(error.into()),
    };
    rule["held"] = held.total.into();
    if let Some(due) = due {
        rule["due"] = ask(due).await?.total.into();
    }
    let first = held.rows.first().and_then(|row| row.get(field.index()));
    let goes_at = first.and_then(|value| model.goes_at(value));
    rule["next"] = goes_at.map(|at| to_seconds(at + SLACK)).into();
    Ok(Some(rule))
}

fn days(stays: TimeDelta) -> String {
    match stays.num_days() {
        0 if stays > TimeDelta::zero() => format!("{} h", stays.num_hours().max(1)),
        0 => "not at all".into(),
        1 => "1 day".into(),
        days => format!("{days} days"),
    }
}

fn to_seconds(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}
