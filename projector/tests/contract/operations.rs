//! What operators ask for: read models built anew while they are read, compared, swapped, taken back; parked streams mended
//! and tried again; events left out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use broker::MemoryBroker;
use events::projection::Event;
use events::{DecodeError, DomainEvent, Partition, Position, RecordedEvent, StreamId};
use projector::{Options, Rows};
use read_models::{
    Build, Changes, ColumnType, Phase, ReadModel, Rebuild, Row, RowKey, Value, Waiting,
};
use serde_json::json;
use test_support::eventually;

use crate::samples::{account, key, settings};
use crate::verifying::execute;
use crate::world::{SOON, World};

impl World {
    /// Appends what an operator asks for of `accounts`.
    pub async fn ask(&self, event: Event) {
        let (type_name, data) = event.encode().expect("an event");
        self.append("projection-accounts", &type_name, data).await;
    }

    async fn builds(&self) -> Vec<Build> {
        let builds = self.store.builds("accounts", self.log.identity()).await;
        builds.expect("the builds can be read")
    }

    async fn live(&self) -> u32 {
        let builds = self.builds().await;
        let live = builds.iter().find(|build| build.live);
        live.expect("one is live").generation.number
    }

    /// Waits until the build of this number is over.
    pub async fn over(&self, number: u32) -> Rebuild {
        let over = || async {
            let rebuilds = self.store.rebuilds().await.expect("they can be read");
            let found = rebuilds.into_iter().find(|one| one.generation == number);
            found.filter(|one| one.progress.phase.is_over()).ok_or(())
        };
        eventually(SOON, over).await
    }

    async fn waiting(&self) -> Vec<Waiting> {
        self.store.waiting(100).await.expect("they can be read")
    }

    /// Waits until a generation stands where the log does, and gives its rows.
    async fn rows_of(&self, build: &Build) -> BTreeMap<RowKey, Row> {
        let marks = self.marks().await;
        let positions: Vec<Position> = marks.iter().map(|mark| mark.position).collect();
        eventually(SOON, || async {
            let (_, now) = self.store.checkpoints(&build.generation).await.unwrap();
            now.iter().map(|mark| mark.position).collect::<Vec<_>>() == positions
        })
        .await;
        let mut rows = BTreeMap::new();
        for partition in (0..self.log.identity().partitions).map(Partition) {
            let scan = self.store.scan(
                &self.models[0],
                &build.generation,
                partition,
                None,
                u32::MAX,
            );
            rows.extend(scan.await.unwrap().1);
        }
        rows
    }

    /// Waits until everything is taken in, however often rows were amended.
    pub async fn settled(&self) {
        for model in &self.models {
            let live = self.store.live(&model.name).await.unwrap().unwrap();
            let marks = self.marks().await;
            eventually(SOON, || async {
                let (_, now) = self.store.checkpoints(&live).await.unwrap();
                let pairs = now.iter().zip(&marks);
                pairs.clone().count() == marks.len()
                    && pairs
                        .into_iter()
                        .all(|(now, mark)| now.digest == mark.digest)
            })
            .await;
        }
    }
}

/// `accounts` and `events-per-type`, whose projections break on some events.
fn breaking(world: &World, breaks: fn(&RecordedEvent) -> bool) -> Vec<ReadModel> {
    let of = |name: &str| {
        let mut model = world.model(name).clone();
        let project = Arc::clone(&model.project);
        model.project = Arc::new(move |event: &RecordedEvent, changes: &mut Changes<'_>| {
            if breaks(event) {
                return Err(DecodeError::new(event, "as it should"));
            }
            project(event, changes)
        });
        model
    };
    vec![of("accounts"), of("events-per-type")]
}

fn parked_stream() -> StreamId {
    StreamId::parse(&account(3)).expect("a stream")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_is_compared_swapped_in_fed_and_taken_back_while_events_come() {
    let world = World::embedded().await;
    let (relay, projector) = (world.relay(), world.projector());
    world.history(1, 20).await;
    world.caught_up().await;
    let compare = true;
    let come = world.history(21, 30);
    tokio::join!(come, world.ask(Event::RebuildRequested { compare }));
    let rebuilt = world.over(2).await;
    assert_eq!(
        (rebuilt.progress.phase, rebuilt.compare),
        (Phase::Live, true),
        "{rebuilt:?}"
    );
    assert_eq!(world.live().await, 2);
    // Both go on being fed, so that either can be gone back to.
    world.history(51, 10).await;
    let builds = world.builds().await;
    let [old, new] = builds.as_slice() else {
        panic!("{builds:?}");
    };
    assert!(old.kept && new.live, "{builds:?}");
    let rows = world.rows_of(new).await;
    assert_eq!(rows.len(), 60);
    assert_eq!(world.rows_of(old).await, rows);
    world.ask(Event::RollbackRequested {}).await;
    eventually(SOON, || async { world.live().await == 1 }).await;
    assert!(world.row("accounts", key(55)).await.is_some());
    // Another build takes the place of what was kept; what is kept then can be dropped; a cancelled one leaves nothing.
    world.ask(Event::RebuildRequested { compare: false }).await;
    assert_eq!(world.over(3).await.progress.phase, Phase::Live);
    let numbers = |builds: Vec<Build>| -> Vec<u32> {
        builds.iter().map(|build| build.generation.number).collect()
    };
    assert_eq!(numbers(world.builds().await), [1, 3]);
    world.ask(Event::KeptBuildsDropped {}).await;
    eventually(SOON, || async { numbers(world.builds().await) == [3] }).await;
    world.history(61, 1).await;
    world.caught_up().await;
    projector.stop().await;
    relay.stop().await;
    // Nothing of it is done again by a projector that starts later.
    let projector = world.projector();
    world.caught_up().await;
    assert_eq!(numbers(world.builds().await), [3]);
    projector.stop().await;
    let report = world.verify(Rows::Yes).await;
    assert!(report.is_clean(), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_is_different_is_named_by_row_and_column_and_not_made_live() {
    let world = World::embedded().await;
    let (relay, projector) = (world.relay(), world.projector());
    world.history(1, 12).await;
    world.caught_up().await;
    let table = world.table_name("accounts").await;
    let id = uuid::Uuid::from_u128(7);
    let change = format!("UPDATE \"{table}\" SET locale = 'changed' WHERE account_id = '{id}'");
    execute(&world.database_url, &change).await;
    world.ask(Event::RebuildRequested { compare: true }).await;
    let refused = world.over(2).await.progress;
    assert_eq!(refused.phase, Phase::Different, "{refused:?}");
    let detail = refused.detail.expect("it is said");
    assert!(
        detail.contains(&id.to_string()) && detail.contains("locale"),
        "{detail}"
    );
    assert!(!detail.contains("changed"), "a value is told: {detail}");
    assert_eq!(world.live().await, 1);
    world.ask(Event::RebuildRequested { compare: false }).await;
    assert_eq!(world.over(3).await.progress.phase, Phase::Live);
    projector.stop().await;
    relay.stop().await;
    let report = world.verify(Rows::Yes).await;
    assert!(report.is_clean(), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_that_is_killed_goes_on_where_it_was_and_one_can_be_cancelled() {
    let mut world = World::embedded().await;
    let (relay, projector) = (world.relay(), world.projector());
    world.history(1, 60).await;
    world.caught_up().await;
    projector.stop().await;
    let quick = world.models.clone();
    let project = Arc::clone(&world.models[0].project);
    world.models[0] = world.models[0].clone().project(move |event, changes| {
        std::thread::sleep(Duration::from_millis(10));
        project(event, changes)
    });
    let options = Options {
        rebuilding_page: 20,
        ..Options::default()
    };
    let slow = || {
        let (store, models) = (Arc::clone(&world.store), world.models.clone());
        world.operated_with(store, models, options.clone())
    };
    let begun = async || eventually(SOON, || async { world.builds().await.len() == 2 }).await;
    let projector = slow();
    world.ask(Event::RebuildRequested { compare: false }).await;
    begun().await;
    projector.kill().await;
    assert_eq!(world.live().await, 1);
    let projector = slow();
    world.ask(Event::RebuildCancelled {}).await;
    eventually(SOON, || async { world.builds().await.len() == 1 }).await;
    let cancelled = world.over(2).await;
    assert_eq!(cancelled.progress.phase, Phase::Cancelled);
    world.ask(Event::RebuildRequested { compare: false }).await;
    begun().await;
    projector.kill().await;
    assert_eq!(world.live().await, 1);
    // The same build goes on, and is not begun anew.
    let projector = world.operated_with(Arc::clone(&world.store), quick, Options::default());
    assert_eq!(world.over(3).await.progress.phase, Phase::Live);
    assert_eq!(world.live().await, 3);
    projector.stop().await;
    relay.stop().await;
    let report = world.verify(Rows::Yes).await;
    assert!(report.is_clean(), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_stream_is_mended_and_tried_again_while_its_new_events_come() {
    mended(World::embedded().await).await;
    mended(World::on_postgres(Arc::new(MemoryBroker::new())).await).await;
}

async fn mended(mut world: World) {
    let whole = world.models.clone();
    world.models = breaking(&world, |event| event.data.contains("poison"));
    let (relay, projector) = (world.relay(), world.projector());
    world.turns(1, 10, 0..3).await;
    world
        .append(&account(3), "SettingsChanged", settings("poison"))
        .await;
    world.turns(1, 10, 3..5).await;
    world.caught_up().await;
    let parked = world.waiting().await;
    assert_eq!(parked.len(), 2, "{parked:?}");
    let accounts = &parked[0];
    assert_eq!(
        (
            accounts.parked.stream.clone(),
            accounts.events,
            accounts.retries
        ),
        (parked_stream(), 3, 0)
    );
    // Not mended yet: it is parked again, and the history says so.
    let retry = || Event::ParkedRetried {
        stream: None,
        cause: Some("as it should".into()),
    };
    world.ask(retry()).await;
    let again = || async {
        let waiting = world.waiting().await;
        let of_accounts = waiting.into_iter().find(|one| one.model == "accounts");
        of_accounts.filter(|one| one.retries == 1 && !one.retrying)
    };
    let again = eventually(SOON, again).await;
    assert_eq!(
        (again.events, again.parked.position),
        (3, accounts.parked.position)
    );
    assert_eq!(again.retried_by.as_deref(), Some("anonymous"));
    projector.stop().await;
    // Mended: two projectors try it at once, and new events of the stream come all the while.
    world.models = vec![whole[0].clone(), world.model("events-per-type").clone()];
    world.models[1].project = Arc::clone(
        &whole
            .iter()
            .find(|model| model.name == "events-per-type")
            .expect("it is built in")
            .project,
    );
    let (one, two) = (world.projector(), world.projector());
    let (data, type_name) = (json!({}), "ParkedRetried");
    tokio::join!(
        world.turns(1, 10, 5..8),
        world.append("projection-accounts", type_name, data.clone()),
        world.append("projection-events-per-type", type_name, data),
    );
    eventually(SOON, || async { world.waiting().await.is_empty() }).await;
    world.turns(1, 10, 8..10).await;
    world.settled().await;
    one.stop().await;
    two.stop().await;
    relay.stop().await;
    let row = world.row("accounts", key(3)).await.expect("a row");
    assert_eq!(
        (&row["version"], &row["locale"]),
        (&Value::Integer(10), &Value::from("l8"))
    );
    let (live, fresh) = (world.tables().await, world.rebuilt().await);
    for (live, fresh) in live.iter().zip(&fresh) {
        assert_eq!(live.rows, fresh.rows, "{}", live.model);
    }
    let report = world.verify(Rows::Yes).await;
    assert!(report.is_clean(), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_discarded_event_is_left_out_of_every_build_and_those_behind_it_go_in() {
    let mut world = World::embedded().await;
    world.models = breaking(&world, |event| event.data.contains("poison"));
    world.models.truncate(1);
    let (relay, projector) = (world.relay(), world.projector());
    world.turns(1, 10, 0..2).await;
    for _ in 0..2 {
        world
            .append(&account(3), "SettingsChanged", settings("poison"))
            .await;
        world.turns(1, 10, 2..3).await;
    }
    world.caught_up().await;
    for left in [1, 0] {
        let first = world.waiting().await[0].parked.position;
        world
            .ask(Event::ParkedDiscarded {
                stream: parked_stream(),
                position: first,
                reason: "no use".into(),
            })
            .await;
        eventually(SOON, || async {
            let waiting = world.waiting().await;
            waiting.len() == left && waiting.iter().all(|one| one.parked.position > first)
        })
        .await;
    }
    world.turns(1, 10, 3..9).await;
    world.settled().await;
    let row = world.row("accounts", key(3)).await.expect("a row");
    assert_eq!(row["locale"], Value::from("l8"));
    let report = world.verify(Rows::Yes).await;
    assert!(report.is_clean(), "{report}");
    assert!(
        report
            .to_string()
            .contains("0 skipped, 0 parked in 0 streams, 2 discarded"),
        "{report}"
    );
    world.ask(Event::RebuildRequested { compare: true }).await;
    assert_eq!(world.over(2).await.progress.phase, Phase::Live);
    projector.stop().await;
    relay.stop().await;
    assert_eq!(world.tables().await[0].rows, world.rebuilt().await[0].rows);
    let report = world.verify(Rows::Yes).await;
    assert!(
        report.is_clean() && report.read_models[0].discarded == 2,
        "{report}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_and_a_newer_definition_are_read_and_fed_side_by_side() {
    let world = World::embedded().await;
    let (relay, old) = (world.relay(), world.projector());
    world.history(1, 10).await;
    world.caught_up().await;
    let model = &world.models[0];
    let changed = model
        .clone()
        .column("nickname", ColumnType::Text)
        .revision(2);
    let reader = read_models::open(&world.database_url, read_models::Options::read_only())
        .await
        .unwrap();
    eventually(SOON, || reader.is_built(model)).await;
    assert!(
        reader.is_built(&changed).await.is_err(),
        "nobody has built it"
    );
    // Both are of one group: one of them alone is brought messages.
    let models = vec![changed.clone()];
    let new = world.operated_with(Arc::clone(&world.store), models, Options::default());
    eventually(SOON, || reader.is_built(&changed)).await;
    let both = async |id: u128| {
        for model in [model, &changed] {
            let asked = std::time::Instant::now();
            eventually(SOON, || async {
                reader.get(model, &key(id)).await.unwrap().is_some()
            })
            .await;
            let took = asked.elapsed();
            println!("revision {}: read after {took:?}", model.revision);
        }
    };
    world.history(11, 1).await;
    both(11).await;
    let seen = async |model: &ReadModel| reader.status(model).await.unwrap().unwrap().generation;
    assert_ne!(seen(model).await.table, seen(&changed).await.table);
    // The older projector starts once more: it makes nothing live that is older.
    old.stop().await;
    let old = world.projector();
    world.history(12, 1).await;
    both(12).await;
    assert_eq!(world.live().await, 2);
    // When nobody feeds the older table any more, its readers are not left with what it has.
    old.stop().await;
    world.history(13, 8).await;
    eventually(SOON, || async {
        reader.is_built(model).await.is_err()
            && reader.get(model, &key(20)).await.unwrap().is_some()
    })
    .await;
    new.stop().await;
    relay.stop().await;
}
