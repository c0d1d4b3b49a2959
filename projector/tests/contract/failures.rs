//! Events that cannot be projected, and databases that fail.

use std::sync::Arc;

use broker::MemoryBroker;
use events::{DecodeError, RecordedEvent};
use projector::{Options, Rows, State};
use read_models::{Changes, ColumnType, Op, Parked, ReadModel, Value};
use test_support::{Postgres, eventually, psql, temp_dir};
use uuid::Uuid;

use crate::samples::{account, key, registered, settings};
use crate::world::{SOON, World};

/// `accounts`, but its projection breaks on some events.
fn breaking(
    world: &World,
    breaks: fn(&RecordedEvent) -> Result<(), DecodeError>,
) -> Vec<ReadModel> {
    let mut models = world.models.clone();
    let project = Arc::clone(&models[0].project);
    models[0].project = Arc::new(move |event: &RecordedEvent, changes: &mut Changes<'_>| {
        breaks(event)?;
        project(event, changes)
    });
    models
}

async fn parked(world: &World) -> Vec<Parked> {
    let generation = world.store.live("accounts").await.unwrap().unwrap();
    let mut parked = world.store.parked(&generation).await.unwrap();
    parked.sort_by_key(|parked| parked.position);
    parked
}

#[tokio::test(flavor = "multi_thread")]
async fn a_projection_that_fails_or_panics_on_an_event_parks_its_stream_alone() {
    let mut world = World::embedded().await;
    world.models = breaking(&world, |event| {
        assert!(!event.data.contains("panic"), "as it must");
        if event.data.contains("fail") {
            Err(DecodeError::new(event, "as it should"))
        } else {
            Ok(())
        }
    });
    let (relay, projector) = (world.relay(), world.projector());
    world.turns(1, 30, 0..3).await;
    world
        .append(&account(3), "SettingsChanged", settings("fail"))
        .await;
    world
        .append(&account(4), "SettingsChanged", settings("panic"))
        .await;
    world.turns(1, 30, 3..10).await;
    world.caught_up().await;
    for (id, version, locale) in [(2, 9, "l8"), (3, 3, "l2"), (4, 3, "l2"), (5, 9, "l8")] {
        let row = world.row("accounts", key(id)).await.unwrap();
        assert_eq!(
            (&row["version"], &row["locale"]),
            (&Value::Integer(version), &Value::from(locale)),
            "account {id}"
        );
    }
    let found = parked(&world).await;
    assert_eq!(
        found
            .iter()
            .map(|p| p.stream.to_string())
            .collect::<Vec<_>>(),
        [account(3), account(4)]
    );
    assert!(
        found[0].error.contains("as it should"),
        "{}",
        found[0].error
    );
    // Other read models know nothing of it, a restart changes nothing, and verify counts it apart.
    projector.stop().await;
    let projector = world.projector();
    world
        .append(&account(3), "AccountClosed", serde_json::json!({}))
        .await;
    world.caught_up().await;
    assert_eq!(
        world.row("accounts", key(3)).await.unwrap()["status"],
        Value::from("pending")
    );
    projector.stop().await;
    relay.stop().await;
    assert_eq!(world.tables().await, world.rebuilt().await);
    let report = world.verify(Rows::Yes).await;
    assert!(report.is_clean(), "{report}");
    let accounts = &report.read_models[0];
    assert_eq!(
        (accounts.parked_streams, accounts.parked_events),
        (2, 15),
        "{report}"
    );
    assert!(
        report
            .to_string()
            .contains("0 skipped, 15 parked in 2 streams, 0 discarded"),
        "{report}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_whose_rows_the_database_refuses_is_found_and_parked() {
    // Once by way of the queue, and once when the read model is built.
    for live in [true, false] {
        let world = World::on_postgres(Arc::new(MemoryBroker::new())).await;
        let projector = world.projector();
        let mut status = projector.status.clone();
        status
            .wait_for(projector::Status::is_following)
            .await
            .unwrap();
        let table = world.table_name("accounts").await;
        let schema = "SELECT schemaname FROM pg_tables WHERE tablename";
        let schema = psql(&world.database_url, &format!("{schema} = '{table}'")).await;
        let check = format!(
            "ALTER TABLE {}.{table} ADD CHECK (locale <> 'refused')",
            schema.trim()
        );
        psql(&world.database_url, &check).await;
        let running = if live {
            (projector, world.relay())
        } else {
            projector.stop().await;
            write_refused(&world).await;
            (world.projector(), world.relay())
        };
        if live {
            write_refused(&world).await;
        }
        world.caught_up().await;
        let found = parked(&world).await;
        assert_eq!(
            found
                .iter()
                .map(|p| p.stream.to_string())
                .collect::<Vec<_>>(),
            [account(7)],
            "live: {live}"
        );
        assert_eq!(
            world.row("accounts", key(7)).await.unwrap()["version"],
            Value::Integer(3)
        );
        assert_eq!(
            world.row("accounts", key(8)).await.unwrap()["version"],
            Value::Integer(9)
        );
        running.0.stop().await;
        running.1.stop().await;
        let report = world.verify(Rows::Yes).await;
        assert!(report.is_clean(), "{report}");
    }
}

async fn write_refused(world: &World) {
    world.turns(1, 30, 0..3).await;
    world
        .append(&account(7), "SettingsChanged", settings("refused"))
        .await;
    // A row that no commit boundary can hide: nothing overwrites it.
    world.turns(8, 23, 3..10).await;
    world
        .append(
            &account(7),
            "ProfileUpdated",
            serde_json::json!({"change": {}}),
        )
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_a_failing_event_would_have_replaced_stays() {
    let mut world = World::embedded().await;
    let model = ReadModel::new("last-locales")
        .key("account_id", ColumnType::Uuid)
        .column("locale", ColumnType::Text)
        .category("account")
        .project(|event, changes| {
            let id: Uuid = event.stream.id().parse().expect("a UUID");
            let wrong = event.data.contains("wrong");
            // A number is no text, so the fold refuses it.
            let value = if wrong { 7.into() } else { "right".into() };
            changes.upsert([id.into()], [("locale", Op::Set(value))]);
            Ok(())
        });
    world.models = vec![model];
    let (relay, projector) = (world.relay(), world.projector());
    world
        .append(&account(1), "SettingsChanged", settings("a"))
        .await;
    world.caught_up().await;
    projector.stop().await;
    // Nothing is remembered after a restart.
    let projector = world.projector();
    world
        .append(&account(1), "SettingsChanged", settings("wrong"))
        .await;
    world
        .append(&account(2), "SettingsChanged", settings("b"))
        .await;
    world.caught_up().await;
    projector.stop().await;
    relay.stop().await;
    for id in [1, 2] {
        let row = world
            .row("last-locales", key(id))
            .await
            .expect("the row is there");
        assert_eq!(row["locale"], Value::from("right"));
    }
    let report = world.verify(Rows::Yes).await;
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.read_models[0].parked_events, 1, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_goes_away_is_waited_for() {
    let postgres = Postgres::start().await;
    let folder = temp_dir();
    let events = format!("sqlite:{}", folder.path().join("events.db").display());
    let database = postgres.fresh_database().await;
    let world = World::open(events, database, Arc::new(MemoryBroker::new()), folder).await;
    let (relay, projector) = (world.relay(), world.projector());
    world.turns(1, 20, 0..5).await;
    world.caught_up().await;
    postgres.kill().await;
    world.turns(1, 20, 5..8).await;
    let mut status = projector.status.clone();
    let failing = |status: &projector::Status| {
        let mut partitions = status
            .read_models
            .iter()
            .flat_map(|model| &model.partitions);
        partitions.any(|partition| matches!(partition.state, State::Retrying(_)))
    };
    tokio::time::timeout(SOON, status.wait_for(failing))
        .await
        .unwrap()
        .unwrap();
    postgres.restart().await;
    world.turns(1, 20, 8..10).await;
    world.caught_up().await;
    projector.stop().await;
    relay.stop().await;
    assert_eq!(world.tables().await[1].rows.len(), 200);
    let report = world.verify(Rows::Yes).await;
    assert!(report.is_clean(), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_broken_table_does_not_hold_up_the_other_read_models() {
    let world = World::on_postgres(Arc::new(MemoryBroker::new())).await;
    let (relay, projector) = (world.relay(), world.projector());
    world
        .append(&account(1), "AccountRegistered", registered())
        .await;
    world.caught_up().await;
    let table = world.table_name("accounts").await;
    let schema = psql(
        &world.database_url,
        &format!("SELECT schemaname FROM pg_tables WHERE tablename = '{table}'"),
    )
    .await;
    let schema = schema.trim();
    psql(
        &world.database_url,
        &format!("ALTER TABLE {schema}.{table} RENAME TO hidden"),
    )
    .await;
    world.history(2, 20).await;
    world.caught_up_in(&*world.store, &world.models[1..]).await;
    psql(
        &world.database_url,
        &format!("ALTER TABLE {schema}.hidden RENAME TO {table}"),
    )
    .await;
    world.caught_up().await;
    projector.stop().await;
    relay.stop().await;
    assert_eq!(world.tables().await[0].rows.len(), 21);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_beyond_the_log_stops_the_read_model_and_asks_for_a_rebuild() {
    let world = World::embedded().await;
    let (relay, projector) = (world.relay(), world.projector());
    world.history(1, 5).await;
    world.caught_up().await;
    projector.stop().await;
    crate::verifying::move_checkpoint(&world, "accounts", 1_000_000).await;
    let projector = world.projector_with(
        world.store.clone(),
        world.models.clone(),
        Options::default(),
    );
    let mut status = projector.status.clone();
    let stopped = |status: &projector::Status| status.stopped().next().is_some();
    let status = tokio::time::timeout(SOON, status.wait_for(stopped))
        .await
        .unwrap()
        .unwrap()
        .clone();
    let (model, _, reason) = status.stopped().next().unwrap();
    assert_eq!(model, "accounts");
    assert!(
        reason.contains("beyond the log's head") && reason.contains("rebuild"),
        "{reason}"
    );
    // The others go on.
    world
        .append(&account(1), "SettingsChanged", settings("on"))
        .await;
    world.caught_up_in(&*world.store, &world.models[1..]).await;
    projector.stop().await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_that_differs_from_the_relays_stops_the_partition() {
    let world = World::embedded().await;
    let projector = world.projector();
    world.history(1, 5).await;
    world.caught_up().await;
    projector.stop().await;
    crate::verifying::execute(
        &world.database_url,
        "UPDATE checkpoints SET digest = zeroblob(32)",
    )
    .await;
    let relay = world.relay();
    let projector = world.projector();
    eventually(SOON, || async {
        let status = projector.status.borrow();
        status
            .stopped()
            .any(|(_, _, reason)| reason.contains("corrupted") && reason.contains("verify"))
    })
    .await;
    projector.stop().await;
    relay.stop().await;
}
