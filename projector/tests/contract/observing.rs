//! `projection-status`: what the projector writes about itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use broker::MemoryBroker;
use events::DecodeError;
use projector::{Options, Rows, built_in};
use read_models::{Filter, Query, ReadModel, Value};
use test_support::{eventually, psql};

use crate::samples::{account, registered, settings};
use crate::world::{SOON, World};

type Shown = BTreeMap<String, Value>;

fn projection_status() -> ReadModel {
    let mut models = built_in().into_iter();
    models.find(|model| model.observed).expect("it ships")
}

/// The rows of one read model, as readers see them, once they are what is waited for.
async fn shown(world: &World, of: &str, wanted: impl Fn(&[Shown]) -> bool) -> Vec<Shown> {
    let model = projection_status();
    let names: Vec<String> = model
        .fields()
        .map(|field| field.name().to_owned())
        .collect();
    let query = &Query::new(&model, Filter::ALL, 1_000);
    eventually(SOON, || async {
        let page = world.store.list(&model, query);
        let rows = page.await.map_err(|error| error.to_string())?.rows;
        let rows = rows.into_iter().map(|row| names.iter().cloned().zip(row));
        let rows: Vec<Shown> = rows.map(Iterator::collect).collect();
        let ours: Vec<Shown> = rows
            .into_iter()
            .filter(|row| row["read_model"] == of.into())
            .collect();
        if !ours.is_empty() && wanted(&ours) {
            Ok(ours)
        } else {
            Err(format!("{ours:?}"))
        }
    })
    .await
}

fn all(rows: &[Shown], column: &str, value: impl Into<Value>) -> bool {
    let value = value.into();
    rows.iter().all(|row| row[column] == value)
}

fn sum(rows: &[Shown], column: &str) -> i64 {
    let number = |row: &Shown| match row[column] {
        Value::Integer(number) => number,
        ref other => panic!("{column} is {other:?}"),
    };
    rows.iter().map(number).sum()
}

fn is_caught_up(rows: &[Shown]) -> bool {
    all(rows, "lag", 0) && all(rows, "behind_since", Value::Null) && all(rows, "state", "following")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_tells_who_is_stuck_and_since_when_and_how_many_streams_are_parked() {
    let mut world = World::on_postgres(Arc::new(MemoryBroker::new())).await;
    let project = Arc::clone(&world.models[0].project);
    world.models[0] = world.models[0].clone().project(move |event, changes| {
        if event.data.contains("fail") {
            return Err(DecodeError::new(event, "as it should"));
        }
        project(event, changes)
    });
    let with_status = |revision| {
        let mut models = world.models.clone();
        models.push(projection_status().revision(revision));
        models
    };
    let (store, options) = (world.store.clone(), Options::default());
    let relay = world.relay();
    let first = world.projector_with(store.clone(), with_status(1), options.clone());
    world
        .append(&account(1), "AccountRegistered", registered())
        .await;
    shown(&world, "accounts", |rows| {
        is_caught_up(rows) && sum(rows, "position") > 0
    })
    .await;
    let second = world.projector_with(store.clone(), with_status(1), options.clone());
    first.kill().await;

    // One table is broken: its read model falls behind, and the others do not.
    let table = world.table_name("accounts").await;
    let rename = async |from: &str, to: &str| {
        let sql = format!("ALTER TABLE showcaller_read_models.{from} RENAME TO {to}");
        psql(&world.database_url, &sql).await;
    };
    rename(&table, "hidden").await;
    let place = world
        .store
        .status(&projection_status())
        .await
        .unwrap()
        .unwrap()
        .place();
    world.history(2, 20).await;
    let stuck = shown(&world, "accounts", |rows| sum(rows, "behind_seconds") > 0).await;
    assert!(
        sum(&stuck, "lag") > 0 && !all(&stuck, "state", "following"),
        "{stuck:?}"
    );
    assert!(
        !format!("{stuck:?}").contains("hidden"),
        "what a database says is not shown"
    );
    shown(&world, "account-history", is_caught_up).await;
    // Who listens hears of it like of any other row.
    let changed = world
        .store
        .changes_since(&projection_status(), &place)
        .await
        .unwrap();
    assert!(changed.expect("the journal leads on").rows.len() > 1);
    rename("hidden", &table).await;
    shown(&world, "accounts", is_caught_up).await;

    world
        .append(&account(3), "SettingsChanged", settings("fail"))
        .await;
    shown(&world, "accounts", |rows| sum(rows, "parked") == 1).await;
    world.caught_up().await;
    second.stop().await;

    // A changed definition of the status itself takes the old one's place.
    let third = world.projector_with(store.clone(), with_status(2), options);
    let swapped = eventually(SOON, || async {
        let live = store.live("projection-status").await.ok().flatten();
        live.filter(|live| live.number == 2)
    });
    assert_eq!(swapped.await.number, 2);
    third.stop().await;
    relay.stop().await;

    world.models = with_status(2);
    let report = world.verify(Rows::Yes).await;
    assert!(report.is_clean(), "{report}");
    assert!(
        report.to_string().contains("not made of events"),
        "{report}"
    );
}
