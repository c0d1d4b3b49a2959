//! Trying a parked stream again: its waiting events go in, in order, behind the partition's checkpoint, which stays where it
//! is, so the partition's other streams and the stream's new events go on.
//!
//! Refuses: to let another worker believe in what it loaded before. Each such commit raises how often the partition was
//! amended, and everybody else's next commit is fenced.

use events::{Position, RecordedEvent, StreamId, Version};
use read_models::CommitError;

use super::{Lane, Taken, Trouble, Work};
use crate::ahead::Ahead;

/// Events read at once.
const PAGE: usize = 1_000;

impl Lane {
    /// Tries a parked stream again. One that fails once more is parked where it failed, with the new reason.
    pub(crate) async fn retry(&self, stream: &StreamId) -> Taken {
        let retried = self.work(Work::Retry(stream)).await;
        retried.err().unwrap_or(Taken::Done)
    }

    /// Where everything that was taken in is committed.
    pub(super) async fn try_again(
        &self,
        ahead: &mut Ahead,
        stream: &StreamId,
    ) -> Result<(), Trouble> {
        let Some(first) = ahead.parked_from(stream) else {
            return Ok(());
        };
        let waiting = self.waiting(stream, first, ahead.stored.position).await?;
        let table = self.table();
        // What comes first lies on top. All at once, unless the database refuses the rows: then halves, until it is known
        // of which event.
        let mut slices = vec![waiting.as_slice()];
        while let Some(slice) = slices.pop() {
            let after: &[RecordedEvent] = match slices.last() {
                Some(_) => {
                    &waiting[waiting.len() - slices.iter().map(|s| s.len()).sum::<usize>()..]
                }
                None => &[],
            };
            ahead.retry(&table, stream, slice, after).await?;
            let goes_on = ahead.parked_from(stream) == after.first().map(|event| event.position);
            match ahead.flush(&table).await {
                Ok(()) if goes_on => {}
                Ok(()) => break,
                Err(CommitError::Refused(reason)) => {
                    *ahead = self.load().await?;
                    match slice {
                        [] => return Err(Trouble::Fault(reason)),
                        [event] if ahead.leave_out(event) => slices.push(slice),
                        [event] => {
                            ahead.park_again(
                                self.partition,
                                event,
                                &reason,
                                1 + after.len() as u64,
                            );
                            ahead.flush(&table).await?;
                            break;
                        }
                        _ => {
                            let (one, two) = slice.split_at(slice.len() / 2);
                            slices.extend([two, one]);
                        }
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        let (model, partition) = (&self.model.name, self.partition);
        match ahead.parked_from(stream) {
            None => tracing::info!(model, %partition, %stream, "a parked stream goes on"),
            Some(position) => {
                tracing::warn!(model, %partition, %stream, %position, "tried again, and parked again");
            }
        }
        Ok(())
    }

    /// The events of a stream from a position on, as far as the partition was taken in.
    async fn waiting(
        &self,
        stream: &StreamId,
        first: Position,
        last: Position,
    ) -> Result<Vec<RecordedEvent>, Trouble> {
        let (mut waiting, mut after) = (Vec::new(), Version::ZERO);
        loop {
            let page = self.context.log.read_stream(stream, after, PAGE).await;
            let page = page.map_err(|error| Trouble::Fault(error.to_string()))?;
            let (full, end) = (page.len() >= PAGE, page.last().map(|event| event.position));
            after = page.last().map_or(after, |event| event.version);
            let between = |event: &RecordedEvent| (first..=last).contains(&event.position);
            waiting.extend(page.into_iter().filter(between));
            if !full || end.is_some_and(|end| end >= last) {
                return Ok(waiting);
            }
        }
    }
}
