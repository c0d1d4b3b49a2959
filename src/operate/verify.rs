//! `showcaller verify [--rows]`: proves that no event was skipped, and on request that rows are what the log says.

use std::process::ExitCode;

use anyhow::Result;
use read_models::ReadModel;

use crate::config::Settings;
use crate::open;

/// Verifies the log and every read model; works while the system serves.
pub async fn verify(models: &[ReadModel], settings: &Settings, rows: bool) -> Result<ExitCode> {
    let log = open::events_to_read(settings).await?;
    let store = open::read_models(settings, true).await?;
    let rows = if rows {
        projector::Rows::Yes
    } else {
        projector::Rows::No
    };
    let report = projector::verify(&*log, &*store, models, rows, &mut |_| {}).await?;
    print!("{report}");
    log.close().await;
    Ok(if report.is_clean() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
