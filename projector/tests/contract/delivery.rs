//! Whatever the queue does to messages, the rows come out the same.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use broker::{Envelope, MemoryBroker};
use chrono::NaiveDate;
use event_store::Filter;
use events::{Message, Position, partition_of};
use projector::Options;
use read_models::Value;
use uuid::Uuid;

use crate::samples::{account, api_key_created, key, settings};
use crate::unreliable::{Faults, Unreliable};
use crate::world::{SOON, World};

#[tokio::test(flavor = "multi_thread")]
async fn events_become_rows_of_every_read_model() {
    let world = World::embedded().await;
    rows_come_out_right(&world).await;
}

pub async fn rows_come_out_right(world: &World) {
    let (relay, projector) = (world.relay(), world.projector());
    world.history(1, 20).await;
    let api_key = format!("apikey-{}", Uuid::from_u128(99));
    let created = api_key_created(7);
    world.append(&api_key, "ApiKeyCreated", created).await;
    world
        .append(&account(8), "AccountErased", serde_json::json!({}))
        .await;
    world.caught_up().await;
    let row = world
        .row("accounts", key(7))
        .await
        .expect("the account has a row");
    assert_eq!(row["status"], Value::from("pending"));
    assert_eq!(row["locale"], Value::from("l8"));
    assert_eq!(row["version"], Value::Integer(9));
    let erased = world.row("accounts", key(8)).await.expect("it is counted");
    assert_eq!(erased["status"], Value::from("erased"));
    assert_eq!(
        (&erased["email"], &erased["locale"]),
        (&Value::Null, &Value::Null)
    );
    let row = world
        .row("api-keys", key(99))
        .await
        .expect("the API key has a row");
    assert_eq!(row["account_id"], Value::from(Uuid::from_u128(7)));
    let day = NaiveDate::from_ymd_opt(2026, 11, 22).unwrap();
    let row = world
        .row("sign-ups-per-day", [day.into()])
        .await
        .expect("the day has a row");
    assert_eq!(row["sign_ups"], Value::Integer(20));
    let tables = world.tables().await;
    assert_eq!(
        tables[1].rows.len(),
        202,
        "account-history has a row an event"
    );
    assert_eq!(tables, world.rebuilt().await);
    let mut status = projector.status.clone();
    tokio::time::timeout(
        SOON,
        status.wait_for(|status| status.is_following() && status.subscribed.iter().all(|s| *s)),
    )
    .await
    .expect("everything follows")
    .expect("it still runs");
    projector.stop().await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_repeated_late_reordered_and_broken_messages_change_nothing() {
    for seed in 1..=3 {
        let faults = Faults {
            lost: 5,
            repeated: 10,
            late: 10,
            shuffled: 30,
            broken: 2,
            unacknowledged: 10,
        };
        let mut world = World::embedded().await;
        world.broker = Arc::new(Unreliable::new(Arc::new(MemoryBroker::new()), faults, seed));
        let (relay, projector) = (world.relay(), world.projector());
        world.history(1, 60).await;
        world.caught_up().await;
        projector.stop().await;
        relay.stop().await;
        assert_eq!(world.tables().await, world.rebuilt().await, "seed {seed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_last_messages_are_noticed_by_the_heartbeat() {
    let mut world = World::embedded().await;
    let no_events = Faults {
        lost: 100,
        ..Faults::default()
    };
    world.broker = Arc::new(Unreliable::new(Arc::new(MemoryBroker::new()), no_events, 1));
    let (relay, projector) = (world.relay(), world.projector());
    let mut status = projector.status.clone();
    status
        .wait_for(projector::Status::is_following)
        .await
        .unwrap();
    for turn in 0..10 {
        world.turns(1, 5, turn..turn + 1).await;
        world.caught_up().await;
    }
    projector.stop().await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_is_down_delays_projection_and_no_more() {
    let world = World::embedded().await;
    let projector = world.projector();
    let mut status = projector.status.clone();
    let ready =
        |status: &projector::Status| status.is_following() && status.subscribed.iter().all(|s| *s);
    status.wait_for(ready).await.unwrap();
    world.history(1, 5).await;
    world.caught_up().await;
    projector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_is_far_behind_holds_up_nobody() {
    let world = World::embedded().await;
    world.history(1, 10).await;
    let projector = world.projector();
    world.caught_up().await;
    // What everybody has comes and comes, so it is never silent.
    let old = first_of_each_partition(&world).await;
    let mut publisher = world.broker.publisher().await.unwrap();
    let publishing = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        loop {
            ticks.tick().await;
            publisher.publish(old.clone()).await.unwrap();
        }
    });
    let mut status = projector.status.clone();
    let consuming =
        |status: &projector::Status| status.is_following() && status.consuming.iter().all(|is| *is);
    status.wait_for(consuming).await.unwrap();
    for turn in 1..5 {
        world.turns(1, 10, turn..turn + 1).await;
        world.caught_up().await;
    }
    publishing.abort();
    projector.stop().await;
}

/// The first message of each partition, as the relay sends it.
async fn first_of_each_partition(world: &World) -> Vec<Envelope> {
    let log = world.log.identity();
    let everything = Filter::default();
    let page = world.log.read_all(Position::ZERO, &everything, 1_000);
    let mut first = BTreeMap::new();
    for event in page.await.unwrap().events {
        let partition = partition_of(&event.stream, log.partitions);
        first.entry(partition).or_insert(event);
    }
    let messages = first.into_iter().map(|(partition, event)| Message {
        log: log.log,
        epoch: log.epoch,
        partition,
        previous: Position::ZERO,
        event,
        replay: None,
    });
    messages
        .map(|message| Envelope::event(&message, None).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_down_delays_projection_and_no_more() {
    let mut world = World::embedded().await;
    let broker = Arc::new(Unreliable::new(
        Arc::new(MemoryBroker::new()),
        Faults::default(),
        1,
    ));
    broker.down.store(true, Ordering::SeqCst);
    world.broker = Arc::clone(&broker) as _;
    let projector = world.projector();
    let mut status = projector.status.clone();
    status
        .wait_for(projector::Status::is_following)
        .await
        .unwrap();
    world.history(1, 5).await;
    world.caught_up().await;
    broker.down.store(false, Ordering::SeqCst);
    let relay = world.relay();
    status
        .wait_for(|status| status.subscribed.iter().all(|subscribed| *subscribed))
        .await
        .unwrap();
    world
        .append(&account(1), "SettingsChanged", settings("last"))
        .await;
    world.caught_up().await;
    broker.down.store(true, Ordering::SeqCst);
    world
        .append(&account(1), "SettingsChanged", settings("very-last"))
        .await;
    world.caught_up().await;
    projector.stop().await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_live_projectors_double_nothing() {
    let world = World::embedded().await;
    two_projectors_double_nothing(&world).await;
}

pub async fn two_projectors_double_nothing(world: &World) {
    // Two groups have two queues a partition, so both projectors get every message and race for every commit.
    let relay = world.relay();
    let projectors = ["one", "two"].map(|group| {
        let options = Options {
            group: group.into(),
            batch: 7,
            ..Options::default()
        };
        world.projector_with(world.store.clone(), world.models.clone(), options)
    });
    world.history(1, 60).await;
    world.caught_up().await;
    for projector in projectors {
        projector.stop().await;
    }
    relay.stop().await;
    let day = NaiveDate::from_ymd_opt(2026, 11, 22).unwrap();
    let row = world
        .row("sign-ups-per-day", [day.into()])
        .await
        .expect("the day has a row");
    assert_eq!(row["sign_ups"], Value::Integer(60));
    assert_eq!(world.tables().await, world.rebuilt().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_projector_that_dies_between_commit_and_acknowledgement_repeats_nothing() {
    let world = World::embedded().await;
    let relay = world.relay();
    for round in 0..5 {
        let projector = world.projector();
        let writing = world.history(1 + round * 20, 20);
        let killing = async {
            let mut status = projector.status.clone();
            let moved = |status: &projector::Status| {
                status
                    .read_models
                    .iter()
                    .flat_map(|model| &model.partitions)
                    .any(|p| p.position.get() > 200 * round as u64)
            };
            status.wait_for(moved).await.unwrap();
            projector.kill().await;
        };
        tokio::join!(writing, killing);
    }
    let projector = world.projector();
    world.caught_up().await;
    projector.stop().await;
    relay.stop().await;
    assert_eq!(world.tables().await, world.rebuilt().await);
}
