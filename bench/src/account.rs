//! People with data keys, and the real events of their accounts, sealed as command-api seals them.

use std::sync::Arc;

use anyhow::Result;
use chrono::{DateTime, Utc};
use command_api::{Clock, SystemClock};
use event_store::{Append, EventStore, Expected};
use events::account::{CATEGORY, Event, Profile, ProfileChange, Settings};
use events::{Actor, CommandId, DomainEvent, Metadata, NewEvent, Personal, StreamId, Version};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::json;
use uuid::Uuid;
use vault::{DataKey, Vault};

/// How many data keys are made at once.
const KEYS_AT_ONCE: usize = 64;
/// How many appends wait at once when a log is filled: enough for full batches.
pub const APPENDS_AT_ONCE: usize = 2_048;

/// Somebody with an account to be.
#[derive(Debug, Clone)]
pub struct Person {
    pub id: Uuid,
    pub stream: StreamId,
    /// Held for longer than a vault's user may, for the bench fills logs for minutes.
    pub key: Arc<DataKey>,
}

/// Makes people and their data keys.
pub async fn people(vault: &Vault, count: usize) -> Result<Vec<Person>> {
    let made = stream::iter(0..count).map(|_| async {
        let id = vault::random_uuid();
        let key = vault.create_data_key(id).await?;
        Ok(Person {
            id,
            stream: stream_of(id),
            key,
        })
    });
    made.buffer_unordered(KEYS_AT_ONCE).try_collect().await
}

/// An account's stream.
pub fn stream_of(id: Uuid) -> StreamId {
    StreamId::new(CATEGORY, &id.to_string()).expect("a UUID is an id")
}

/// Registers everybody in a log.
pub async fn register(log: &Arc<dyn EventStore>, people: &[Person]) -> Result<()> {
    fill(log, people, 1).await
}

/// Appends so many events for everybody, one a command and one account after the other, as real ones come: each
/// account's first registers it, the others change settings and profile.
pub async fn fill(log: &Arc<dyn EventStore>, people: &[Person], events: u64) -> Result<()> {
    let now = SystemClock.now();
    let all = (0..events).flat_map(|version| people.iter().map(move |person| (version, person)));
    stream::iter(all)
        .map(|(version, person)| async move {
            let command_id = CommandId(vault::random_uuid());
            let event = event(version);
            let append = Append {
                stream: person.stream.clone(),
                expected: Expected::Exact(Version::new(version)),
                command_id,
                events: vec![seal(person, &person.stream, command_id, 0, &event, now)?],
            };
            log.append(append).await?;
            anyhow::Ok(())
        })
        .buffered(APPENDS_AT_ONCE)
        .try_for_each(|()| async { Ok(()) })
        .await
}

/// What happens to an account after so many events.
pub fn event(version: u64) -> Event {
    let plain = |text: &str| Personal::Plain(text.to_owned());
    match version {
        0 => Event::AccountRegistered {
            email: plain("somebody@example.org"),
            credential_id: Uuid::from_u128(1),
            profile: Profile {
                display_name: Some(plain("Somebody of Example")),
                given_name: Some(plain("Somebody")),
                ..Profile::default()
            },
        },
        _ if version.is_multiple_of(4) => Event::ProfileUpdated {
            change: ProfileChange {
                phone: Some(Some(plain("+43123456789"))),
                ..ProfileChange::default()
            },
        },
        _ => Event::SettingsChanged {
            change: Settings {
                locale: Some(["de-AT", "en-GB", "fr-FR"][version as usize % 3].to_owned()),
                custom: Some(Personal::Plain(
                    [
                        ("counter".to_owned(), json!(version)),
                        ("note".to_owned(), json!(NOTE)),
                    ]
                    .into(),
                )),
                ..Settings::default()
            },
        },
    }
}

const NOTE: &str = "sidebar=left;density=compact;start=inbox;shortcuts=on;sounds=off;digest=weekly";

/// The JSON body of a `change-settings`, about 200 bytes; another number makes another event.
pub fn change_settings(number: u64) -> String {
    let locale = ["de-AT", "en-GB", "fr-FR"][number as usize % 3];
    format!(
        r#"{{"locale":"{locale}","time_zone":"Europe/Vienna","theme":"dark","custom":{{"counter":{number},"note":"{NOTE}"}}}}"#
    )
}

/// An event as command-api stores it: personal fields and the client's address under the person's key.
pub fn seal(
    person: &Person,
    stream: &StreamId,
    command_id: CommandId,
    index: usize,
    event: &Event,
    recorded_at: DateTime<Utc>,
) -> Result<NewEvent> {
    let id = command_id.event_id(index);
    let (type_name, mut data) = event.encode()?;
    person.key.seal_event(stream, id, &mut data)?;
    let address = person
        .key
        .seal_value(stream, id, "metadata/address", &json!("127.0.0.1"));
    let metadata = Metadata {
        command_id,
        correlation_id: command_id.0,
        causation_id: command_id.0,
        actor: Actor::Account(person.id),
        session: Some(person.id),
        address: Some(Personal::Sealed(address)),
        recorded_at,
        fingerprint: Some(person.key.fingerprint(&[command_id.0.as_bytes()])),
        traceparent: Some(TRACEPARENT.to_owned()),
    };
    Ok(NewEvent {
        id,
        schema_version: Event::schema_version(&type_name),
        type_name,
        data: data.to_string(),
        metadata: serde_json::to_string(&metadata)?,
    })
}

/// A trace context, as a client or web would give it.
pub const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
