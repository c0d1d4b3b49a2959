//! The core once more, on PostgreSQL and RabbitMQ.

use test_support::RabbitMq;

use crate::delivery::{rows_come_out_right, two_projectors_double_nothing};
use crate::samples::{account, settings};
use crate::verifying::under_load;
use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn events_become_rows_through_rabbitmq_and_postgresql() {
    rows_come_out_right(&World::on_servers().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_live_projectors_double_nothing_on_servers() {
    two_projectors_double_nothing(&World::on_servers().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn verifying_under_load_raises_no_false_alarm_on_servers() {
    under_load(&World::on_servers().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_restarts_and_queues_that_are_purged_lose_nothing() {
    let server = RabbitMq::start().await;
    let broker = broker::open(&server.url())
        .await
        .expect("a URL of RabbitMQ");
    let world = World::on_postgres(broker).await;
    let (relay, projector) = (world.relay(), world.projector());
    world.turns(1, 40, 0..3).await;
    server.purge_all_queues(&server.url()).await;
    world.turns(1, 40, 3..5).await;
    server.stop_app().await;
    world.turns(1, 40, 5..7).await;
    world.caught_up().await;
    server.start_app().await;
    world.turns(1, 40, 7..10).await;
    world.caught_up().await;
    world
        .append(&account(1), "SettingsChanged", settings("last"))
        .await;
    world.caught_up().await;
    projector.stop().await;
    relay.stop().await;
    assert_eq!(world.tables().await, world.rebuilt().await);
}
