//! `showcaller verify [--rows]`: proves that no event was skipped, and on request that rows are what the log says.

use std::process::ExitCode;

use anyhow::Result;
use read_models::ReadModel;

use crate::config::Settings;
use crate::open;

/// Verifies the log and every read model, in the mirrors too; works while the system serves.
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
    let mut clean = report.is_clean();
    for mirror in &settings.mirrors {
        println!("mirror {}", mirror.name);
        // One that is away is no proof, and keeps nobody from looking at the others.
        let verified = match mirror.open(true).await {
            Ok(store) => projector::verify(&*log, &*store, models, rows, &mut |_| {}).await,
            Err(error) => Err(error.into()),
        };
        clean &= verified.as_ref().is_ok_and(projector::Report::is_clean);
        match verified {
            Ok(report) => print!("{report}"),
            Err(error) => println!("  cannot be verified: {error}"),
        }
    }
    log.close().await;
    Ok(if clean {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
