//! `verify` names what was changed by hand, and raises no false alarm.

use event_store::Filter;
use events::{Partition, Position};
use projector::{Report, Rows};
use sqlx::Connection;
use test_support::eventually;
use uuid::Uuid;

use crate::samples::{account, settings};
use crate::world::{SOON, World};

pub async fn execute(url: &str, sql: &str) {
    let sql = sqlx::AssertSqlSafe(sql.to_owned());
    let mut connection = sqlx::SqliteConnection::connect(url).await.unwrap();
    assert!(
        sqlx::raw_sql(sql)
            .execute(&mut connection)
            .await
            .unwrap()
            .rows_affected()
            > 0
    );
    connection.close().await.unwrap();
}

/// Says of every partition of a read model that it stands at `position`.
pub async fn move_checkpoint(world: &World, model: &str, position: u64) {
    let table = world.table_name(model).await;
    let sql = format!("UPDATE checkpoints SET position = {position} WHERE generation = '{table}'");
    execute(&world.database_url, &sql).await;
}

async fn settled() -> World {
    let world = World::embedded().await;
    let (relay, projector) = (world.relay(), world.projector());
    world.history(1, 20).await;
    world.caught_up().await;
    projector.stop().await;
    relay.stop().await;
    let report = world.verify(Rows::Yes).await;
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.log.events, 200);
    assert_eq!(report.read_models[1].rows, Some(200));
    assert_eq!(report.read_models[0].events, 200, "{report}");
    world
}

fn names(report: &Report, problem: &str) {
    assert!(!report.is_clean());
    assert!(
        report.to_string().contains(problem),
        "{problem} is not in:\n{report}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_moved_by_hand_is_named() {
    let world = settled().await;
    let table = world.table_name("accounts").await;
    // To the partition's last event, as if all were taken in; the digest tells.
    let marks = world.marks().await;
    let partition = marks
        .iter()
        .position(|mark| mark.position.get() > 100)
        .unwrap();
    let set = |what: &str| {
        format!(
            "UPDATE checkpoints SET {what} WHERE generation = '{table}' AND partition = {partition}"
        )
    };
    let position = marks[partition].position;
    execute(&world.database_url, &set("digest = zeroblob(32)")).await;
    names(
        &world.verify(Rows::No).await,
        &format!("partition {partition}: its digest at position {position} is not that"),
    );
    execute(
        &world.database_url,
        &set(&format!("position = {position} - 1")),
    )
    .await;
    let report = world.verify(Rows::No).await;
    assert!(!report.is_clean(), "{report}");
    execute(&world.database_url, &set("position = 999")).await;
    names(
        &world.verify(Rows::No).await,
        &format!("partition {partition}: its checkpoint 999 is beyond the log's head 200"),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_a_moved_checkpoint_skips_or_doubles_are_named() {
    let world = settled().await;
    let before = world.marks().await;
    world.turns(1, 20, 1..3).await;
    let after = world.marks().await;
    let moved = |n: &usize| after[*n].position > before[*n].position;
    let partition = (0..before.len()).find(moved).expect("events came");
    let filter = Filter {
        partition: Some(Partition(partition as u16)),
        categories: Vec::new(),
    };
    let page = world
        .log
        .read_all(before[partition].position, &filter, 99)
        .await
        .expect("the log can be read");
    let skipped = match page.events.as_slice() {
        [only] => format!("1 event, at position {}", only.position),
        [first, ..] => format!(
            "{} events, the first at position {}",
            page.events.len(),
            first.position
        ),
        [] => panic!("events came"),
    };
    let table = world.table_name("accounts").await;
    let stand = async |position: u64| {
        let sql = format!(
            "UPDATE checkpoints SET position = {position} WHERE generation = '{table}' AND partition = {partition}"
        );
        execute(&world.database_url, &sql).await;
    };
    // Past events that were not taken in, while nobody runs.
    stand(after[partition].position.get()).await;
    let report = world.verify(Rows::Yes).await;
    names(&report, &format!("moved ahead. Skipped: {skipped}"));
    let first = &page.events[0];
    names(
        &report,
        &format!(
            "the first event that it lacks is SettingsChanged at position {}",
            first.position
        ),
    );
    // And after the projector has gone on from there.
    let (relay, projector) = (world.relay(), world.projector());
    world.turns(1, 20, 3..4).await;
    let live = world.store.live("accounts").await.unwrap().unwrap();
    let now = world.marks().await;
    eventually(SOON, || async {
        let (_, checkpoints) = world.store.checkpoints(&live).await.unwrap();
        let positions = checkpoints.iter().map(|c| c.position);
        positions.eq(now.iter().map(|mark| mark.position))
    })
    .await;
    projector.stop().await;
    relay.stop().await;
    names(
        &world.verify(Rows::No).await,
        &format!("Skipped: {skipped}"),
    );
    // Back to where it stood before: what follows would be taken in twice.
    let world = settled().await;
    let marks = world.marks().await;
    let page = world.log.read_all(Position::ZERO, &filter, 2).await;
    let page = page.expect("the log can be read");
    let table = world.table_name("accounts").await;
    let sql = format!(
        "UPDATE checkpoints SET position = {} WHERE generation = '{table}' AND partition = {partition}",
        page.events[0].position
    );
    execute(&world.database_url, &sql).await;
    let report = world.verify(Rows::No).await;
    names(
        &report,
        &format!(
            "it is that of position {}, so the checkpoint was moved back. Taken twice: ",
            marks[partition].position
        ),
    );
    names(
        &report,
        &format!("the first at position {}", page.events[1].position),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_changed_removed_or_added_by_hand_is_named_with_its_columns() {
    let world = settled().await;
    let table = world.table_name("accounts").await;
    let changed = format!(
        "UPDATE {table} SET status = 'verified', version = 77 WHERE version = 9 AND _partition = 1"
    );
    execute(&world.database_url, &changed).await;
    let report = world.verify(Rows::Yes).await;
    names(&report, "status, version not as the log says");
    assert!(
        world.verify(Rows::No).await.is_clean(),
        "digests say nothing of rows"
    );

    let world = settled().await;
    let table = world.table_name("account-history").await;
    execute(
        &world.database_url,
        &format!("DELETE FROM {table} WHERE _position = 17"),
    )
    .await;
    names(&world.verify(Rows::Yes).await, ": missing");

    let world = settled().await;
    let table = world.table_name("sign-ups-per-day").await;
    execute(
        &world.database_url,
        &format!("UPDATE {table} SET sign_ups = sign_ups + 1 WHERE _partition = 0"),
    )
    .await;
    names(
        &world.verify(Rows::Yes).await,
        "[\"2026-11-22\"]: sign_ups not as the log says",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_row_changed_by_hand_is_named() {
    let world = settled().await;
    let changed = "UPDATE events SET data = replace(data, 'l4', 'l5') WHERE position = 85";
    execute(&world.events_url, changed).await;
    let report = world.verify(Rows::Yes).await;
    names(&report, "position 85: the hash of account-");
    assert_eq!(report.log.problems.count, 1, "{report}");

    let world = settled().await;
    let stream = account(5);
    execute(
        &world.events_url,
        &format!("DELETE FROM events WHERE stream = '{stream}' AND version = 3"),
    )
    .await;
    let report = world.verify(Rows::No).await;
    names(&report, &format!("version 4 of {stream} follows version 2"));
    names(&report, "its digest at position");
}

#[tokio::test(flavor = "multi_thread")]
async fn verifying_under_load_raises_no_false_alarm() {
    let world = World::embedded().await;
    under_load(&world).await;
}

pub async fn under_load(world: &World) {
    let (relay, projector) = (world.relay(), world.projector());
    let ids: Vec<u128> = (0..200).map(|_| Uuid::new_v4().as_u128()).collect();
    let writing = async {
        for turn in 0..15 {
            let write = |id: &u128| {
                let stream = account(*id);
                async move {
                    let registered = crate::samples::registered();
                    if turn == 0 {
                        world.append(&stream, "AccountRegistered", registered).await;
                    } else {
                        world
                            .append(&stream, "SettingsChanged", settings(&format!("t{turn}")))
                            .await;
                    }
                }
            };
            futures::future::join_all(ids.iter().map(write)).await;
        }
    };
    let verifying = async {
        let mut rounds = 0;
        eventually(SOON, || {
            rounds += 1;
            async move {
                let report = world.verify(Rows::Yes).await;
                assert!(report.is_clean(), "{report}");
                rounds >= 5
            }
        })
        .await;
    };
    tokio::join!(writing, verifying);
    world.caught_up().await;
    let report = world.verify(Rows::Yes).await;
    assert!(report.is_clean(), "{report}");
    projector.stop().await;
    relay.stop().await;
}
