//! A changed definition is built beside the live one, and swapped in.

use std::sync::Arc;
use std::time::Duration;

use projector::{Options, Rows};
use read_models::{ColumnType, Value};
use test_support::eventually;

use crate::samples::key;
use crate::world::{SOON, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_definition_is_built_beside_the_live_one_and_swapped_in() {
    let mut world = World::embedded().await;
    let (relay, projector) = (world.relay(), world.projector());
    world.history(1, 50).await;
    world.caught_up().await;
    projector.stop().await;
    let first = world.store.live("accounts").await.unwrap().unwrap();

    let old = world.models.clone();
    world.models[0] = world.models[0]
        .clone()
        .column("nickname", ColumnType::Text)
        .revision(2);
    let options = Options {
        rebuilding_page: 20,
        ..Options::default()
    };
    let projector = world.projector_with(world.store.clone(), world.models.clone(), options);
    let building = async {
        let mut status = projector.status.clone();
        let swapped = status.wait_for(projector::Status::is_following);
        tokio::time::timeout(SOON, swapped)
            .await
            .unwrap()
            .unwrap()
            .clone()
    };
    // Until the swap, readers see the old one; none sees nothing.
    let reading = async {
        loop {
            let live = world.store.live("accounts").await.unwrap().unwrap();
            if live != first {
                return live;
            }
            let row = world.store.get(&old[0], &key(7)).await;
            // Between the look and the read the swap may have come.
            assert!(
                matches!(row, Ok(Some(_)))
                    || world.store.live("accounts").await.unwrap().unwrap() != first
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let (status, live) = tokio::join!(building, reading);
    assert!(
        status.read_models[0].generation > first.number
            && live.number == status.read_models[0].generation
    );
    world.history(51, 10).await;
    world.caught_up().await;
    let row = world
        .row("accounts", key(55))
        .await
        .expect("events go into the new one");
    assert_eq!(
        (&row["nickname"], &row["version"]),
        (&Value::Null, &Value::Integer(9))
    );
    projector.stop().await;
    relay.stop().await;
    let report = world.verify(Rows::Yes).await;
    assert!(report.is_clean(), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_read_models_go_on_while_one_is_built() {
    let mut world = World::embedded().await;
    let (relay, projector) = (world.relay(), world.projector());
    world.history(1, 100).await;
    world.caught_up().await;
    projector.stop().await;
    // Slow enough to be overtaken.
    let project = Arc::clone(&world.models[0].project);
    world.models[0] = world.models[0]
        .clone()
        .revision(2)
        .project(move |event, changes| {
            std::thread::sleep(Duration::from_millis(3));
            project(event, changes)
        });
    let options = Options {
        rebuilding_page: 10,
        ..Options::default()
    };
    let projector = world.projector_with(world.store.clone(), world.models.clone(), options);
    world.history(101, 1).await;
    world.caught_up_in(&*world.store, &world.models[1..]).await;
    assert!(
        !projector.status.borrow().read_models[0].live,
        "the others did not wait for the build"
    );
    eventually(SOON, || async { projector.status.borrow().is_following() }).await;
    world.caught_up().await;
    projector.stop().await;
    relay.stop().await;
}
