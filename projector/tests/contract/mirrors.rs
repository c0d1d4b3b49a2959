//! Mirrors: the same events make the same rows in a database that only copies, beside the one that queries are served from.

use std::sync::Arc;

use events::DecodeError;
use projector::{Options, Rows, verify};
use read_models::{ColumnType, ProjectionStore, open_mirror};
use test_support::{MariaDb, MongoDb};

use crate::samples::{account, settings};
use crate::world::World;

async fn mariadb() -> String {
    MariaDb::shared().await.fresh_database().await
}

async fn mongodb() -> String {
    MongoDb::shared().await.fresh_database()
}

async fn open(url: &str) -> Arc<dyn ProjectionStore> {
    open_mirror(url, read_models::Options::default())
        .await
        .expect("the mirror opens")
}

fn group(name: &str) -> Options {
    Options {
        group: name.to_owned(),
        rebuilding_page: 50,
        ..Options::default()
    }
}

async fn assert_clean(world: &World, mirror: &dyn ProjectionStore) {
    let report = verify(&*world.log, mirror, &world.models, Rows::Yes, &mut |_| {})
        .await
        .expect("a verdict");
    assert!(report.is_clean(), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_projectors_of_a_mariadb_mirror_double_nothing() {
    two_projectors_double_nothing(&mariadb().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_projectors_of_a_mongodb_mirror_double_nothing() {
    two_projectors_double_nothing(&mongodb().await).await;
}

/// Beside the database that queries are served from; one of the two dies without a word; rows live are rows rebuilt.
async fn two_projectors_double_nothing(url: &str) {
    let world = World::embedded().await;
    let (relay, served) = (world.relay(), world.projector());
    let (one, other) = (open(url).await, open(url).await);
    let first = world.projector_with(one, world.models.clone(), group("mirror"));
    let second = world.projector_with(other.clone(), world.models.clone(), group("mirror"));
    world.history(1, 20).await;
    world.caught_up_in(&*other, &world.models).await;
    first.kill().await;
    world.history(21, 20).await;
    world.caught_up_in(&*other, &world.models).await;
    world.caught_up().await;
    second.stop().await;
    served.stop().await;
    relay.stop().await;
    let live = world.tables_in(&*other).await;
    assert_eq!(live, world.tables().await);
    assert_eq!(live, world.rebuilt().await);
    assert_clean(&world, &*other).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mariadb_mirror_parks_streams_and_builds_a_changed_definition_beside_the_live_one() {
    parks_and_rebuilds(&mariadb().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mongodb_mirror_parks_streams_and_builds_a_changed_definition_beside_the_live_one() {
    parks_and_rebuilds(&mongodb().await).await;
}

async fn parks_and_rebuilds(url: &str) {
    let mut world = World::embedded().await;
    let project = Arc::clone(&world.models[0].project);
    world.models[0] = world.models[0].clone().project(move |event, changes| {
        if event.data.contains("fail") {
            return Err(DecodeError::new(event, "as it should"));
        }
        project(event, changes)
    });
    let mirror = open(url).await;
    let relay = world.relay();
    let projector = world.projector_with(mirror.clone(), world.models.clone(), group("mirror"));
    world.turns(1, 10, 0..3).await;
    let failing = settings("fail");
    world.append(&account(3), "SettingsChanged", failing).await;
    world.turns(1, 10, 3..10).await;
    world.caught_up_in(&*mirror, &world.models).await;
    projector.stop().await;
    let live = mirror.live("accounts").await.unwrap().unwrap();
    let parked = mirror.parked(&live).await.unwrap();
    let streams: Vec<_> = parked.iter().map(|p| p.stream.to_string()).collect();
    assert_eq!(streams, [account(3)]);
    assert_clean(&world, &*mirror).await;

    world.models[0] = world.models[0]
        .clone()
        .column("nickname", ColumnType::Text)
        .revision(2);
    let projector = world.projector_with(mirror.clone(), world.models.clone(), group("mirror"));
    let mut status = projector.status.clone();
    let swapped = status.wait_for(projector::Status::is_following);
    tokio::time::timeout(crate::world::SOON, swapped)
        .await
        .expect("it is swapped in")
        .expect("the projector runs");
    world.caught_up_in(&*mirror, &world.models).await;
    projector.stop().await;
    relay.stop().await;
    assert_ne!(mirror.live("accounts").await.unwrap().unwrap(), live);
    assert_clean(&world, &*mirror).await;
    assert_eq!(world.tables_in(&*mirror).await, world.rebuilt().await);
}
