//! How long an event takes at a steady 2,000 a second: from the acknowledged append until all read models have it, and
//! the same number of messages through RabbitMQ alone, by the same client, quorum queues and confirms.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use broker::{Envelope, Group};
use events::{NewEvent, Partition, Position};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::load::micros;
use crate::projection::{Feed, Models};
use crate::table;

/// Events a tick, and ticks a second: 2,000 events.
const EVENTS_A_TICK: usize = 10;
const TICK: Duration = Duration::from_millis(5);
/// How long the last ones may take.
const PATIENCE: Duration = Duration::from_secs(10);
const PARTITIONS: u16 = 8;
/// Messages taken at a time.
const BATCH: usize = 500;

/// The 99th percentile in milliseconds.
pub async fn of_read_models(time: Duration, feed: &mut Feed, models: &Models) -> Result<f64> {
    let (acknowledged, mut arrivals) = tokio::sync::mpsc::unbounded_channel();
    let appending = async {
        let (mut ticks, began) = (interval(TICK), Instant::now());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        while began.elapsed() < time {
            ticks.tick().await;
            let places = feed.append_single(EVENTS_A_TICK).await?;
            let now = Instant::now();
            for (partition, position) in places {
                acknowledged
                    .send((partition, position, now))
                    .context("nobody watches")?;
            }
        }
        drop(acknowledged);
        anyhow::Ok(())
    };
    let watching = async {
        let mut changes = models.store.changes();
        let mut waiting: Vec<VecDeque<(Position, Instant)>> =
            vec![VecDeque::new(); usize::from(PARTITIONS)];
        let (mut took, mut open, mut quiet_since) = (Vec::new(), true, Instant::now());
        while open || waiting.iter().any(|queue| !queue.is_empty()) {
            let reached = models.reached().await?;
            loop {
                match arrivals.try_recv() {
                    Ok((Partition(partition), position, at)) => {
                        waiting[usize::from(partition)].push_back((position, at));
                    }
                    Err(tokio::sync::mpsc::error::TryRecvError::Empty) => break,
                    Err(tokio::sync::mpsc::error::TryRecvError::Disconnected) => {
                        open = false;
                        break;
                    }
                }
            }
            let before = took.len();
            for (queue, reached) in waiting.iter_mut().zip(reached) {
                while let Some((_, at)) = queue.pop_front_if(|(position, _)| *position <= reached) {
                    took.push(micros(at));
                }
            }
            if took.len() > before {
                quiet_since = Instant::now();
            }
            ensure!(
                quiet_since.elapsed() < PATIENCE,
                "the read models stand still"
            );
            changes.changed(Duration::from_millis(1)).await;
        }
        anyhow::Ok(took)
    };
    let (appended, took) = tokio::join!(appending, watching);
    appended?;
    table::p99_ms(took?).context("no event was measured")
}

/// The 99th percentile in milliseconds, from handing a message over until it is delivered.
pub async fn of_rabbitmq(time: Duration, url: &str, contents: &[NewEvent]) -> Result<f64> {
    let broker = broker::open(url).await?;
    let group = Group::new("bench")?;
    let began = Instant::now();
    let expected = (time.as_millis() / TICK.as_millis()) as usize * EVENTS_A_TICK;
    let mut consumers = JoinSet::new();
    for partition in 0..PARTITIONS {
        let mut subscription = broker.subscribe(&group, Partition(partition)).await?;
        consumers.spawn(async move {
            let (mut took, mut open) = (Vec::new(), true);
            while open {
                let deliveries = subscription.next_batch(BATCH, PATIENCE).await?;
                let last = deliveries.last().context("no message came")?.tag;
                for delivery in deliveries {
                    // Its first bytes say when it was handed over; nothing says that it was the last.
                    let text = std::str::from_utf8(&delivery.body)?;
                    let sent = text.split(' ').next().unwrap_or_default();
                    match sent.parse::<u64>() {
                        Ok(sent) => took
                            .push((began.elapsed().as_micros() as u64).saturating_sub(sent) as u32),
                        Err(_) => open = false,
                    }
                }
                subscription.acknowledge(last).await?;
            }
            anyhow::Ok(took)
        });
    }
    let mut publisher = broker.publisher().await?;
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for number in (0..expected).step_by(EVENTS_A_TICK) {
        ticks.tick().await;
        let sent = began.elapsed().as_micros();
        let batch = (number..number + EVENTS_A_TICK).map(|number| {
            let content = &contents[number % contents.len()];
            message(
                number,
                format!("{sent} {}{}", content.data, content.metadata),
            )
        });
        publisher.publish(batch.collect()).await?;
    }
    publisher
        .publish(
            (0..usize::from(PARTITIONS))
                .map(|number| message(number, "end".to_owned()))
                .collect(),
        )
        .await?;
    let mut all = Vec::new();
    while let Some(took) = consumers.join_next().await {
        all.append(&mut took??);
    }
    broker.close().await;
    ensure!(
        all.len() == expected,
        "{} of {expected} messages came",
        all.len()
    );
    table::p99_ms(all).context("no message was measured")
}

fn message(number: usize, body: String) -> Envelope {
    Envelope {
        routing_key: format!(
            "{}.account.SettingsChanged",
            number % usize::from(PARTITIONS)
        ),
        message_id: number.to_string(),
        traceparent: None,
        body: body.into_bytes(),
    }
}
