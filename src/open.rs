//! Opens what a role or verb needs, and no more. A store that is not there yet is waited for, within bounds.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use event_store::EventStore;
use read_models::OperatedStore;
use vault::{ErasureLedger, Keys, Vault, VaultOptions};

use crate::config::Settings;
use crate::operate::exit::refused;

/// How often it is tried.
const PAUSE: Duration = Duration::from_millis(500);

/// The event store. A log that is not there yet is made.
pub async fn events(settings: &Settings) -> Result<Arc<dyn EventStore>> {
    whole(open_events(settings, event_store::Options::default()).await?).await
}

/// The event store for a verb that only looks: a log that is not there is a mistake in the settings, not one to be made.
pub async fn events_to_read(settings: &Settings) -> Result<Arc<dyn EventStore>> {
    whole(open_events(settings, event_store::Options::read_only()).await?).await
}

/// Refuses a log that was filled in part: it would be taken for all that happened.
async fn whole(log: Arc<dyn EventStore>) -> Result<Arc<dyn EventStore>> {
    if event_store::is_half_filled(&*log).await? {
        log.close().await;
        return Err(refused(
            "an import or a restore into this event store is under way or was cut off, so it holds a part: if none is running, \
             remove it, with the vault that was restored beside it, and begin again with empty stores",
        ));
    }
    Ok(log)
}

/// The event store, made with these options if it is not there yet; also one that is being filled.
pub async fn events_with(
    settings: &Settings,
    options: event_store::Options,
) -> Result<Arc<dyn EventStore>> {
    open_events(settings, options).await
}

async fn open_events(
    settings: &Settings,
    options: event_store::Options,
) -> Result<Arc<dyn EventStore>> {
    patiently(settings, "the event store", || async {
        event_store::open(settings.events.as_str(), options.clone())
            .await
            .map_err(|error| match error {
                event_store::Error::Unavailable(_) => Trouble::Passing(error.into()),
                event_store::Error::Invalid(_) => Trouble::Lasting(error.into()),
            })
    })
    .await
}

/// The read models' database.
pub async fn read_models(settings: &Settings, read_only: bool) -> Result<Arc<dyn OperatedStore>> {
    patiently(settings, "the read models' database", || async {
        read_models::open(
            settings.database.as_str(),
            read_models::Options {
                read_only,
                ..read_models::Options::default()
            },
        )
        .await
        .map_err(|error| match error {
            read_models::Error::Unavailable(_) => Trouble::Passing(error.into()),
            read_models::Error::Invalid(_) | read_models::Error::TooSlow(_) => {
                Trouble::Lasting(error.into())
            }
        })
    })
    .await
}

/// The vault.
pub async fn vault(settings: &Settings, keys: &Arc<Keys>) -> Result<Vault> {
    patiently(settings, "the vault", || async {
        Vault::open(
            settings.vault.as_str(),
            Arc::clone(keys),
            VaultOptions::default(),
        )
        .await
        .map_err(|error| match error {
            vault::Error::Unavailable(_) | vault::Error::Busy => Trouble::Passing(error.into()),
            vault::Error::Invalid(_) => Trouble::Lasting(error.into()),
        })
    })
    .await
}

/// The erasure ledger.
pub async fn ledger(settings: &Settings) -> Result<ErasureLedger> {
    patiently(settings, "the erasure ledger", || async {
        ErasureLedger::open(settings.erasure_ledger.as_str())
            .await
            .map_err(|error| match error {
                vault::Error::Unavailable(_) | vault::Error::Busy => Trouble::Passing(error.into()),
                vault::Error::Invalid(_) => Trouble::Lasting(error.into()),
            })
    })
    .await
}

/// The keys file. It is made by itself only in the embedded form, and only where no vault exists that other keys closed.
pub fn keys(settings: &Settings) -> Result<Arc<Keys>> {
    let file = &settings.keys;
    if file.exists() {
        return Ok(Arc::new(Keys::load(file)?));
    }
    let Some(vault) = settings.vault.sqlite_path() else {
        bail!(
            "there is no keys file {0}; make one with `showcaller keys create {0}`, give every process the same, and keep a copy",
            file.display()
        );
    };
    if vault.exists() {
        bail!(
            "there is no keys file {}, but the vault {} exists and was closed with its keys: put the file back where it was, or name it with --keys",
            file.display(),
            vault.display()
        );
    }
    if let Some(folder) = file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        make_folder(folder)?;
    }
    match Keys::create(file) {
        Ok(keys) => {
            tracing::info!(file = %file.display(), "made a keys file; keep a copy in another place than the data");
            Ok(Arc::new(keys))
        }
        // Another process was quicker.
        Err(_) if file.exists() => Ok(Arc::new(Keys::load(file)?)),
        Err(error) => Err(error.into()),
    }
}

fn make_folder(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("the folder {} cannot be made", folder.display()))
}

/// Whether trying again may help.
enum Trouble {
    Passing(anyhow::Error),
    Lasting(anyhow::Error),
}

async fn patiently<T, F: Future<Output = Result<T, Trouble>>>(
    settings: &Settings,
    what: &str,
    open: impl Fn() -> F,
) -> Result<T> {
    let deadline = tokio::time::Instant::now() + settings.patience;
    let mut told = false;
    loop {
        match open().await {
            Ok(opened) => return Ok(opened),
            Err(Trouble::Lasting(error)) => return Err(error),
            Err(Trouble::Passing(error)) if tokio::time::Instant::now() >= deadline => {
                return Err(error.context(format!(
                    "{what} did not come up within {} s",
                    settings.patience.as_secs()
                )));
            }
            Err(Trouble::Passing(error)) => {
                if !told {
                    tracing::warn!(%error, "waiting for {what}");
                    told = true;
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
