//! `showcaller verify [--rows] [--backup MANIFEST]`: proves that no event was skipped, and on request that rows are what
//! the log says, and that the log still begins with what a backup holds.

use std::path::{Path, PathBuf};

use anyhow::Result;
use event_store::EventStore;
use projector::{Problems, Report};
use read_models::ReadModel;
use serde_json::{Value, json};
use vault::Keys;

use super::exit::Exit;
use super::manifest::Manifest;
use super::out::Out;
use crate::config::Settings;
use crate::open;

/// Verifies the log and every read model, in the mirrors too; works while the system serves.
pub async fn verify(
    models: &[ReadModel],
    settings: &Settings,
    rows: bool,
    backups: &[PathBuf],
) -> Result<Exit> {
    let log = open::events_to_read(settings).await?;
    let mut out = Out::new(settings.output);
    let mut clean = true;
    for backup in backups {
        clean &= compare(settings, &*log, backup, &mut out).await?;
    }
    let store = open::read_models(settings, true).await?;
    let rows = if rows {
        projector::Rows::Yes
    } else {
        projector::Rows::No
    };
    let report = projector::verify(&*log, &*store, models, rows, &mut |_| {}).await?;
    out.record(&object(&report), || report.to_string())?;
    clean &= report.is_clean();
    for mirror in &settings.mirrors {
        // One that is away is no proof, and keeps nobody from looking at the others.
        let verified = match mirror.open(true).await {
            Ok(store) => projector::verify(&*log, &*store, models, rows, &mut |_| {}).await,
            Err(error) => Err(error.into()),
        };
        clean &= verified.as_ref().is_ok_and(Report::is_clean);
        let (mut found, text) = match &verified {
            Ok(report) => (object(report), report.to_string()),
            Err(error) => (
                json!({"clean": false, "error": error.to_string()}),
                format!("  cannot be verified: {error}"),
            ),
        };
        found["mirror"] = mirror.name.as_str().into();
        out.record(&found, || format!("mirror {}\n{text}", mirror.name))?;
    }
    log.close().await;
    out.finish()?;
    Ok(if clean { Exit::Done } else { Exit::Wrong })
}

/// The events of an earlier backup are still the first of the log.
async fn compare(
    settings: &Settings,
    log: &dyn EventStore,
    backup: &Path,
    out: &mut Out,
) -> Result<bool> {
    let keys = if settings.keys.exists() {
        Some(Keys::load(&settings.keys)?)
    } else {
        eprintln!(
            "there is no keys file {}: who signed {} is not known",
            settings.keys.display(),
            backup.display()
        );
        None
    };
    let (manifest, _) = Manifest::read(backup, keys.as_ref())?;
    let wrong = manifest.compare(log).await?;
    let object = json!({
        "backup": backup, "made_at": manifest.made_at, "events": manifest.events, "digest": manifest.digest,
        "problem": wrong,
    });
    out.record(&object, || {
        let verdict = wrong.as_ref().map_or_else(
            || "they are still the first of the log".to_owned(),
            |wrong| format!("WRONG: {wrong}"),
        );
        format!(
            "backup {}: {} events: {verdict}",
            backup.display(),
            manifest.events
        )
    })?;
    Ok(wrong.is_none())
}

fn object(report: &Report) -> Value {
    let problems = |problems: &Problems| json!({"count": problems.count, "first": problems.first});
    let read_models: Vec<Value> = report
        .read_models
        .iter()
        .map(|model| {
            json!({
                "name": model.name,
                "generation": model.generation,
                "events": model.events,
                "proven_partitions": model.proven,
                "parked_streams": model.parked_streams,
                "parked_events": model.parked_events,
                "discarded": model.discarded,
                "rows": model.rows,
                "notes": model.notes,
                "problems": problems(&model.problems),
            })
        })
        .collect();
    json!({
        "clean": report.is_clean(),
        "head": report.head,
        "log": {
            "events": report.log.events,
            "streams": report.log.streams,
            "problems": problems(&report.log.problems),
        },
        "read_models": read_models,
    })
}
