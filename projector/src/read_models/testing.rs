//! Given events, then rows, for the read models that ship: as a pure fold, and through every database that projections
//! can write to, whatever the batches are.

use std::collections::BTreeMap;
use std::sync::Arc;

use events::{LogIdentity, Partition, Position, RecordedEvent, StreamId};
use read_models::testing::{GivenEvents, recorded_json};
use read_models::{Checkpoint, Options, Parked, ProjectionStore, ReadModel, Row, RowKey, Value};
use test_support::{Postgres, temp_dir};
use uuid::Uuid;

use crate::ahead::{Ahead, Table};
use crate::options::REASON_CHARS;
use crate::wishes::Discards;

pub(crate) use read_models::testing::{recorded_at, sealed};

/// Events of one commit: each by itself, a few, and all.
const BATCHES: [usize; 3] = [1, 3, 1_000];
/// So few rows are cached that many are loaded again.
const CACHED_ROWS: usize = 4;

pub(crate) struct Given<'m>(GivenEvents<'m>);

/// Projects the events in order, at positions (and seconds) from 1, and versions counted by stream.
pub(crate) fn given(
    model: &ReadModel,
    events: impl IntoIterator<Item = RecordedEvent>,
) -> Given<'_> {
    Given(model.given(events))
}

impl Given<'_> {
    /// These rows and no others, wherever they are projected to; a column that is left out is null.
    pub(crate) fn then(self, expected: &[&[(&str, Value)]]) {
        self.0.then_rows(expected);
        on_every_database(&self.0);
    }

    /// An event cannot be projected, for a reason that says this, wherever it is projected to.
    pub(crate) fn then_error(self, part: &str) {
        self.0.then_parked(part);
        on_every_database(&self.0);
    }
}

/// What the fold makes of the events is what every database holds in the end.
pub(crate) fn on_every_database(given: &GivenEvents<'_>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let folder = temp_dir();
        let sqlite = format!("sqlite:{}", folder.path().join("read-models.db").display());
        let postgres = Postgres::shared().await.fresh_database().await;
        // A mirror adds its own line.
        for url in [sqlite, postgres] {
            let store = read_models::open(&url, Options::default()).await;
            let store: Arc<dyn ProjectionStore> = store.expect("the database opens");
            for batch in BATCHES {
                let (rows, mut parked) =
                    through(&*store, given.model(), given.events(), batch).await;
                assert_eq!(rows, given.stored(), "batches of {batch}");
                parked.sort_by_key(|parked| parked.position);
                let parked: Vec<_> = parked
                    .into_iter()
                    .map(|parked| (parked.stream, parked.position, parked.error))
                    .collect();
                assert_eq!(parked, expected_to_wait(given), "batches of {batch}");
            }
        }
    });
}

/// The streams that wait, with the reasons as long as they are kept.
fn expected_to_wait(given: &GivenEvents<'_>) -> Vec<(StreamId, Position, String)> {
    let parked = given.parked().iter().cloned();
    parked
        .map(|(stream, position, reason)| {
            let kept = reason.chars().take(REASON_CHARS).collect();
            (stream, position, kept)
        })
        .collect()
}

/// Stored rows by partition and key, and parked streams.
pub(crate) type Stored = (BTreeMap<(Partition, RowKey), Row>, Vec<Parked>);

/// What a database holds after a projector took in these events, `batch` of a partition at a time.
pub(crate) async fn through(
    store: &dyn ProjectionStore,
    model: &ReadModel,
    events: &[(Partition, RecordedEvent)],
    batch: usize,
) -> Stored {
    let partitions = events.iter().map(|(partition, _)| partition.0 + 1);
    let log = LogIdentity {
        log: Uuid::from_u128(batch as u128),
        epoch: Uuid::nil(),
        partitions: partitions.max().unwrap_or(1),
    };
    let generation = &store.prepare(model, log).await.expect("a definition");
    let mut stored = BTreeMap::new();
    for partition in (0..log.partitions).map(Partition) {
        let table = Table {
            store,
            model,
            generation,
            partition,
        };
        let ours = events.iter().filter(|(of, _)| *of == partition);
        let ours: Vec<RecordedEvent> = ours.map(|(_, event)| event.clone()).collect();
        let mut ahead = Ahead::new(
            Checkpoint::default(),
            Vec::new(),
            CACHED_ROWS,
            Discards::default(),
        );
        for events in ours.chunks(batch) {
            ahead.absorb(&table, events).await.expect("it is loaded");
            ahead.flush(&table).await.expect("it is written");
        }
        let scanned = store
            .scan(model, generation, partition, None, u32::MAX)
            .await;
        let (_, rows) = scanned.expect("rows");
        stored.extend(rows.into_iter().map(|(key, row)| ((partition, key), row)));
    }
    let parked = store.parked(generation).await.expect("parked streams");
    (stored, parked)
}

/// An event of the account with this id.
pub(crate) fn account(id: u128, type_name: &str, data: serde_json::Value) -> RecordedEvent {
    event("account", id, type_name, data)
}

/// An event of the session with this id.
pub(crate) fn session(id: u128, type_name: &str, data: serde_json::Value) -> RecordedEvent {
    event("session", id, type_name, data)
}

/// An event of the API key with this id.
pub(crate) fn api_key(id: u128, type_name: &str, data: serde_json::Value) -> RecordedEvent {
    event("apikey", id, type_name, data)
}

/// The same event, caused with a token of this session.
pub(crate) fn in_session(mut event: RecordedEvent, session: u128) -> RecordedEvent {
    event.metadata = serde_json::json!({ "session": Uuid::from_u128(session) }).to_string();
    event
}

fn event(category: &str, id: u128, type_name: &str, data: serde_json::Value) -> RecordedEvent {
    recorded_json(
        &format!("{category}-{}", Uuid::from_u128(id)),
        type_name,
        data,
    )
}

/// What a session starts with: whose it is, and whether it took a second factor.
pub(crate) fn started(account: u128, second_factor: bool) -> serde_json::Value {
    serde_json::json!({
        "account_id": Uuid::from_u128(account), "expires_at": recorded_at(1_000),
        "second_factor": second_factor, "device": sealed("device"),
    })
}

/// What a session ends with.
pub(crate) fn session_ended(account: u128) -> serde_json::Value {
    serde_json::json!({ "account_id": Uuid::from_u128(account), "reason": "ended" })
}
