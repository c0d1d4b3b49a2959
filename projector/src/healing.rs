//! Healing: reading from the log what the queue did not bring, one partition for all its lanes at once.
//!
//! Refuses: to read a long stretch. Whoever is far behind is handed to its read model's own task.

use std::sync::Arc;

use event_store::{Filter, Page};
use events::{Partition, Position};
use futures::future::join_all;

use crate::context::Context;
use crate::lane::{Lane, Pace, Taken, flush_together};
use crate::options::{HEALING_PAGES, Pauses};

/// Takes the log into those lanes of a partition that follow it, at least up to `target` and in any case to the log's
/// head. False when the projector is to stop.
pub(crate) async fn heal(context: &Context, lanes: &[Arc<Lane>], target: Position) -> bool {
    let goes_on = read_on(context, lanes, target).await;
    flush(context, lanes).await;
    goes_on
}

/// Commits what waits in lanes that follow. What could not be committed is read again, as soon as it is missed.
pub(crate) async fn flush(context: &Context, lanes: &[Arc<Lane>]) {
    let mut waiting = following(lanes);
    waiting.retain(|lane| lane.waits());
    let outcomes = flush_together(&*context.store, &waiting).await;
    sort_out(&waiting, &outcomes);
}

async fn read_on(context: &Context, lanes: &[Arc<Lane>], target: Position) -> bool {
    let mut target = target;
    for attempt in 0..HEALING_PAGES {
        let following = following(lanes);
        let Some(partition) = following.first().map(|lane| lane.partition) else {
            return true;
        };
        if attempt == 0 {
            let Some(head) = head(context).await else {
                return false;
            };
            target = target.max(head);
        }
        let found = join_all(following.iter().map(|lane| lane.locate())).await;
        let Some(after) = sort_out(&following, &found.iter().map(outcome).collect::<Vec<_>>())
            .then(|| {
                found
                    .iter()
                    .filter_map(|found| found.as_ref().ok())
                    .min()
                    .copied()
            })
        else {
            return false;
        };
        let Some(after) = after else { continue };
        let Some(page) = read(context, after, partition, context.options.healing_page).await else {
            return false;
        };
        let taking = following
            .iter()
            .map(|lane| lane.take(after, page.through, &page.events, Pace::Now));
        if !sort_out(&following, &join_all(taking).await) {
            return false;
        }
        let full = page.events.len() >= context.options.healing_page;
        if page.through <= after || (!full && page.through >= target) {
            return true;
        }
    }
    for lane in following(lanes) {
        lane.fall_behind();
    }
    true
}

/// The lanes that the partition's consumer feeds.
pub(crate) fn following(lanes: &[Arc<Lane>]) -> Vec<Arc<Lane>> {
    lanes
        .iter()
        .filter(|lane| lane.is_following())
        .cloned()
        .collect()
}

/// Hands failing lanes over. False when the projector is to stop.
pub(crate) fn sort_out(lanes: &[Arc<Lane>], outcomes: &[Taken]) -> bool {
    for (lane, outcome) in lanes.iter().zip(outcomes) {
        if *outcome == Taken::Failing {
            lane.fall_behind();
        }
    }
    !outcomes.contains(&Taken::Shutdown)
}

fn outcome(found: &Result<Position, Taken>) -> Taken {
    found.as_ref().err().cloned().unwrap_or(Taken::Done)
}

/// The log's head, trying again until it is known or the projector is to stop.
async fn head(context: &Context) -> Option<Position> {
    let mut pauses = Pauses::new();
    loop {
        match context.log.head().await {
            Ok(head) => return Some(head),
            Err(error) => tracing::warn!(%error, "the log's head cannot be read; trying again"),
        }
        if !context.pause(pauses.next()).await {
            return None;
        }
    }
}

/// Reads a page, trying again until it comes or the projector is to stop.
async fn read(
    context: &Context,
    after: Position,
    partition: Partition,
    limit: usize,
) -> Option<Page> {
    let filter = Filter {
        partition: Some(partition),
        categories: Vec::new(),
    };
    let mut pauses = Pauses::new();
    loop {
        match context.log.read_all(after, &filter, limit).await {
            Ok(page) => return Some(page),
            Err(error) => {
                tracing::warn!(%partition, %error, "the log cannot be read; trying again");
            }
        }
        if !context.pause(pauses.next()).await {
            return None;
        }
    }
}
