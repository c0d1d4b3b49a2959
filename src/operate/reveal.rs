//! Opening personal data at a terminal. It goes on the record first: `PersonalDataRevealed`, in the stream
//! `operator-{user}`. Not in the account's own stream: one look may concern many people, and only that stream's decider
//! appends to it. It refuses to open anything that it could not write down.

use std::sync::Arc;

use anyhow::{Context, Result};
use command_api::{Clock, SystemClock};
use event_store::{Append, Expected};
use events::operator::{CATEGORY, Event};
use events::{Actor, CommandId, StreamId, without_request};
use vault::{Keys, Vault, VaultOptions};

use super::exit::refused;
use super::shown::Eyes;
use super::user::User;
use crate::config::Settings;
use crate::open;

/// Personal data stays masked, or is opened on the record.
pub async fn eyes(settings: &Settings, reveal: bool, verb: &str, subject: &str) -> Result<Eyes> {
    if !reveal {
        return Ok(Eyes::Masked);
    }
    if !settings.keys.exists() {
        return Err(refused(format!(
            "there is no keys file {}: name it with --keys, on a machine that may open personal data",
            settings.keys.display()
        )));
    }
    if let Some(path) = settings.vault.sqlite_path().filter(|path| !path.exists()) {
        return Err(refused(format!("there is no vault {}", path.display())));
    }
    let keys = Arc::new(Keys::load(&settings.keys)?);
    let vault = Vault::open(settings.vault.as_str(), keys, VaultOptions::default()).await?;
    record(settings, verb, subject)
        .await
        .context("nothing was opened, since it could not be written down")?;
    Ok(Eyes::Open(Box::new(vault)))
}

async fn record(settings: &Settings, verb: &str, subject: &str) -> Result<()> {
    let user = User::current()?;
    let event = Event::PersonalDataRevealed {
        os_user: user.name.clone(),
        uid: user.uid,
        login_uid: user.login_uid,
        verb: verb.to_owned(),
        subject: subject.to_owned(),
    };
    let command_id = CommandId(vault::random_uuid());
    let actor = Actor::System(format!("operator {}", user.name));
    let events = without_request(&[event], command_id, actor, SystemClock.now())?;
    let log = open::events(settings).await?;
    let appended = log
        .append(Append {
            stream: StreamId::new(CATEGORY, &user.name)?,
            expected: Expected::Any,
            command_id,
            events,
        })
        .await;
    log.close().await;
    let position = appended?.position;
    eprintln!(
        "personal data is opened for {}; this is on record at position {position}",
        user.name
    );
    Ok(())
}
