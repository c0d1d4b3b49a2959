//! Rows that go when their time is over: live, built anew, verified and mirrored.

use std::sync::Arc;
use std::time::Duration;

use broker::MemoryBroker;
use chrono::{DateTime, TimeDelta, Utc};
use events::projection::Event;
use events::{DecodeError, Partition, RecordedEvent, StreamId, partition_of};
use projector::{Options, Rows, Status, verify};
use read_models::{ColumnType, Op, Phase, ProjectionStore, ReadModel, RowKey, Value, open_mirror};
use serde_json::json;
use test_support::{MariaDb, MongoDb, eventually};

use crate::samples::{account, append_at, key};
use crate::world::{Running, SOON, World};

/// When an account was seen last, and how often since it was not for 30 days.
fn visits() -> ReadModel {
    let project = |event: &RecordedEvent, rows: &mut read_models::Changes<'_>| {
        if event.data.contains("fail") {
            return Err(DecodeError::new(event, "as it should"));
        }
        let id: uuid::Uuid = event.stream.id().parse().expect("an account's id");
        let at = event.parse_metadata().expect("metadata").recorded_at;
        let ops = [("seen_at", Op::Set(at.into())), ("visits", Op::Add(1))];
        rows.upsert([id.into()], ops);
        Ok(())
    };
    // Called so that operators can ask for it.
    ReadModel::new("accounts")
        .key("account_id", ColumnType::Uuid)
        .column("seen_at", ColumnType::Timestamp)
        .column("visits", ColumnType::Integer)
        .category("account")
        .retention("seen_at", TimeDelta::days(30))
        .project(project)
}

fn ago(days: i64) -> DateTime<Utc> {
    Utc::now() - TimeDelta::days(days)
}

impl World {
    /// The account is seen, so many days ago.
    async fn visit(&self, id: u128, days: i64) {
        let at = ago(days).to_rfc3339();
        append_at(&*self.log, &account(id), "Seen", json!({}), &at).await;
    }

    /// Waits until the read model is there and everything is taken in.
    async fn built(&self) {
        eventually(SOON, || async {
            let live = self.store.live("accounts").await;
            live.expect("the database answers").is_some()
        })
        .await;
        self.settled().await;
    }

    fn partition(&self, id: u128) -> Partition {
        let stream = StreamId::parse(&account(id)).expect("a stream");
        partition_of(&stream, self.log.identity().partitions)
    }

    fn letting_go(&self, expiry: Duration) -> Running<Status> {
        let options = Options {
            expiry,
            ..Options::default()
        };
        self.operated_with(self.store.clone(), self.models.clone(), options)
    }
}

/// Which accounts are there, and how often they were seen.
async fn seen(world: &World, store: &dyn ProjectionStore) -> Vec<(RowKey, Value)> {
    let tables = world.tables_in(store).await;
    let rows = tables.into_iter().flat_map(|table| table.rows);
    let mut seen: Vec<_> = rows
        .map(|((_, key), row)| (key, row.values[1].clone()))
        .collect();
    seen.sort();
    seen
}

async fn becomes(world: &World, store: &dyn ProjectionStore, expected: &[(u128, i64)]) {
    let expected = expected.iter().map(|(id, n)| (key(*id), Value::from(*n)));
    let expected: Vec<_> = expected.collect();
    eventually(SOON, || async {
        let seen = seen(world, store).await;
        if seen == expected { Ok(()) } else { Err(seen) }
    })
    .await;
}

async fn history(world: &mut World) {
    world.models = vec![visits()];
    for (id, days) in [
        (1, 100),
        (2, 100),
        (1, 90),
        (3, 35),
        (2, 5),
        (3, 10),
        (4, 29),
        (5, 31),
    ] {
        world.visit(id, days).await;
    }
}

/// 1 and 5 are due; 2 was when it was seen again, and 3 was not.
const LEFT: [(u128, i64); 3] = [(2, 1), (3, 2), (4, 1)];

async fn assert_clean(world: &World, store: &dyn ProjectionStore) {
    let report = verify(&*world.log, store, &world.models, Rows::Yes, &mut |_| {})
        .await
        .expect("a verdict");
    assert!(report.is_clean(), "{report}");
}

async fn go_when_due(mut world: World) {
    history(&mut world).await;
    let relay = world.relay();
    let projector = world.letting_go(Duration::from_hours(1));
    world.built().await;
    assert_clean(&world, &*world.store).await;
    projector.stop().await;
    // Two at once let each row go once.
    let soon = Duration::from_millis(50);
    let (projector, beside) = (world.letting_go(soon), world.letting_go(soon));
    becomes(&world, &*world.store, &LEFT).await;
    assert_clean(&world, &*world.store).await;
    // Another build begins with what the other has let go of, and the rows are the same.
    world.ask(Event::RebuildRequested { compare: true }).await;
    let rebuilt = world.over(2).await;
    assert_eq!(rebuilt.progress.phase, Phase::Live, "{rebuilt:?}");
    becomes(&world, &*world.store, &LEFT).await;
    world.visit(1, 0).await;
    world.visit(4, 0).await;
    becomes(&world, &*world.store, &[(1, 1), (2, 1), (3, 2), (4, 2)]).await;
    assert_clean(&world, &*world.store).await;
    projector.stop().await;
    beside.stop().await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_go_when_they_are_due_and_live_rebuilt_and_verified_ones_agree() {
    go_when_due(World::embedded().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_go_when_they_are_due_on_postgresql() {
    go_when_due(World::on_postgres(Arc::new(MemoryBroker::new())).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_due_go_with_the_next_events_and_readers_hear_of_it() {
    let mut world = World::embedded().await;
    history(&mut world).await;
    let model = visits();
    let relay = world.relay();
    let projector = world.letting_go(Duration::from_hours(1));
    world.built().await;
    let status = world.store.status(&model).await.unwrap().unwrap();
    let place = status.place();
    // The first look is soon after the start; whatever comes then takes the row along.
    let neighbour = (6..1_000)
        .find(|id| world.partition(*id) == world.partition(1))
        .expect("one of the same partition");
    eventually(SOON, || async {
        world.visit(neighbour, 0).await;
        world.settled().await;
        let row = world.store.get(&model, &key(1)).await.unwrap();
        row.is_none()
    })
    .await;
    let changed = world.store.changes_since(&model, &place).await.unwrap();
    let changed = changed.expect("the journal leads on");
    assert!(changed.rows.contains_key(&key(1)), "{changed:?}");
    projector.stop().await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_stream_holds_back_the_rows_of_its_partition() {
    let mut world = World::embedded().await;
    history(&mut world).await;
    let (failing, partition) = (account(7), world.partition(7));
    let beside = (8..1_000)
        .find(|id| world.partition(*id) == partition)
        .expect("one of the same partition");
    world.visit(beside, 50).await;
    let at = ago(40).to_rfc3339();
    append_at(&*world.log, &failing, "Seen", json!({"fail": true}), &at).await;
    let relay = world.relay();
    let projector = world.letting_go(Duration::from_millis(20));
    world.built().await;
    let mut held = LEFT.to_vec();
    let due = [(1, 2), (5, 1), (beside, 1)].into_iter();
    held.extend(due.filter(|(id, _)| world.partition(*id) == partition));
    held.sort_unstable();
    becomes(&world, &*world.store, &held).await;
    assert_clean(&world, &*world.store).await;
    let waiting = world.store.waiting(10).await.unwrap();
    let stream = StreamId::parse(&failing).expect("a stream");
    assert_eq!(waiting.len(), 1, "{waiting:?}");
    let discarded = Event::ParkedDiscarded {
        stream,
        position: waiting[0].parked.position,
        reason: "of no use".into(),
    };
    world.ask(discarded).await;
    becomes(&world, &*world.store, &LEFT).await;
    assert_clean(&world, &*world.store).await;
    projector.stop().await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_due_go_from_mirrors_too() {
    let (mariadb, mongodb) = tokio::join!(MariaDb::shared(), MongoDb::shared());
    for url in [mariadb.fresh_database().await, mongodb.fresh_database()] {
        let mut world = World::embedded().await;
        history(&mut world).await;
        let mirror = open_mirror(&url, read_models::Options::default()).await;
        let mirror: Arc<dyn ProjectionStore> = mirror.expect("the mirror opens");
        let relay = world.relay();
        let options = Options {
            group: "mirror".into(),
            expiry: Duration::from_millis(50),
            ..Options::default()
        };
        let projector = world.projector_with(mirror.clone(), world.models.clone(), options);
        eventually(SOON, || async {
            mirror.live("accounts").await.unwrap().is_some()
        })
        .await;
        becomes(&world, &*mirror, &LEFT).await;
        world.visit(1, 0).await;
        becomes(&world, &*mirror, &[(1, 1), (2, 1), (3, 2), (4, 1)]).await;
        assert_clean(&world, &*mirror).await;
        projector.stop().await;
        relay.stop().await;
    }
}
