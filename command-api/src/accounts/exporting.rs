//! Everything known of a person, as one JSON document: events with what is personal in them opened, sessions, keys, and
//! what the vault holds besides. Secrets (hashes, seeds) are not in it: they say nothing of the person.

use event_store::Filter;
use events::{Ciphertext, Position, RecordedEvent, StreamId, Version};
use serde_json::{Value, json};
use uuid::Uuid;
use vault::Opened;

use super::people::{Given, People};
use super::stream_of;
use super::{Account, Command};
use crate::CommandError;
use crate::host::Answered;
use crate::order::Outcome;

/// How many events are read at a time.
const PAGE: usize = 1_000;
/// The most events in one document: it is made in memory.
const EVENTS: usize = 100_000;

impl People {
    /// `…/export`.
    pub async fn export(&self, given: &Given<'_>) -> Result<Answered, CommandError> {
        let outcome: Outcome = self.give(given, &Command::Export).await?;
        let account = given.account;
        let mut events = Vec::new();
        let mut streams = vec![stream_of::<Account>(account)?];
        for category in &self.categories {
            streams
                .push(StreamId::new(category, &account.to_string()).map_err(CommandError::fault)?);
        }
        for stream in &streams {
            self.read_whole(stream, &mut events).await?;
        }
        self.read_owned(account, &mut events).await?;
        let events = self.opened(events).await?;
        let vault = self.vault();
        let sessions: Vec<Value> = vault
            .open_sessions(account, given.origin.now)
            .await?
            .into_iter()
            .map(|session| {
                json!({
                    "id": session.id, "started_at": session.started_at, "last_seen_at": session.last_seen_at,
                    "expires_at": session.expires_at, "second_factor": session.second_factor,
                    "device": session.device, "address": session.address,
                })
            })
            .collect();
        let keys: Vec<Value> = vault
            .api_keys(account)
            .await?
            .into_iter()
            .map(|key| json!({ "id": key.id, "scopes": key.scopes, "expires_at": key.expires_at }))
            .collect();
        let export = json!({
            "account_id": account,
            "exported_at": given.origin.now,
            "events": events,
            "open_sessions": sessions,
            "api_keys": keys,
            "second_factor": vault.has_second_factor(account).await?,
        });
        Ok(Answered::showing(outcome, json!({ "export": export })))
    }

    async fn read_whole(
        &self,
        stream: &StreamId,
        events: &mut Vec<RecordedEvent>,
    ) -> Result<(), CommandError> {
        let mut after = Version::ZERO;
        loop {
            let page = self.stores.log.read_stream(stream, after, PAGE).await?;
            let full = page.len() == PAGE;
            after = page.last().map_or(after, |event| event.version);
            events.extend(page);
            bounded(events)?;
            if !full {
                return Ok(());
            }
        }
    }

    /// The events of sessions and keys, which name their account.
    async fn read_owned(
        &self,
        account: Uuid,
        events: &mut Vec<RecordedEvent>,
    ) -> Result<(), CommandError> {
        let filter = Filter {
            categories: vec![
                events::session::CATEGORY.into(),
                events::api_key::CATEGORY.into(),
            ],
            ..Filter::default()
        };
        let named = format!("\"account_id\":\"{account}\"");
        let (mut after, head) = (Position::ZERO, self.stores.log.head().await?);
        while after < head {
            let page = self.stores.log.read_all(after, &filter, PAGE).await?;
            after = page.through;
            events.extend(
                page.events
                    .into_iter()
                    .filter(|event| event.data.contains(&named)),
            );
            bounded(events)?;
        }
        Ok(())
    }

    /// As they may be shown to their person; opened all together.
    async fn opened(&self, events: Vec<RecordedEvent>) -> Result<Vec<Value>, CommandError> {
        let (mut shown, mut sealed) = (Vec::with_capacity(events.len()), Vec::new());
        for event in events {
            let read =
                |text: &str| serde_json::from_str::<Value>(text).map_err(CommandError::fault);
            let event = json!({
                "stream": event.stream, "version": event.version, "position": event.position,
                "type": event.type_name, "data": read(&event.data)?, "metadata": read(&event.metadata)?,
            });
            collect(&event, &mut sealed);
            shown.push(event);
        }
        let mut opened = self.vault().open_many(&sealed).await?.into_iter();
        for event in &mut shown {
            replace(event, &mut opened);
        }
        Ok(shown)
    }
}

fn bounded(events: &[RecordedEvent]) -> Result<(), CommandError> {
    if events.len() <= EVENTS {
        return Ok(());
    }
    Err(CommandError::fault(format!(
        "an export holds at most {EVENTS} events: export this person with the operator's tools"
    )))
}

/// Every ciphertext in a value, in its order.
fn collect(value: &Value, found: &mut Vec<Ciphertext>) {
    match value {
        Value::String(text) => found.extend(Ciphertext::parse(text)),
        Value::Array(list) => list.iter().for_each(|value| collect(value, found)),
        Value::Object(map) => map.values().for_each(|value| collect(value, found)),
        _ => {}
    }
}

/// Puts opened values where the ciphertexts were, in the same order.
fn replace(value: &mut Value, opened: &mut impl Iterator<Item = Opened>) {
    match value {
        Value::String(text) if Ciphertext::parse(text).is_ok() => {
            *value = match opened.next() {
                Some(Opened::Plain(plain)) => plain,
                Some(Opened::Erased) | None => Value::Null,
            };
        }
        Value::Array(list) => list.iter_mut().for_each(|value| replace(value, opened)),
        Value::Object(map) => map.values_mut().for_each(|value| replace(value, opened)),
        _ => {}
    }
}
