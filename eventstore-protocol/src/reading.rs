//! Read: what is asked for, and the reads that end. Those that go on are subscriptions. It reads page by page, and the
//! next page only when the client has taken the last.

use std::collections::VecDeque;
use std::sync::Arc;

use events::{Position, RecordedEvent, StreamId, Version};
use futures::stream::{BoxStream, unfold};
use futures::{FutureExt, StreamExt};
use tonic::{Request, Response, Status};

use crate::access::{authorization, may_read};
use crate::filter::Filter;
use crate::form;
use crate::messages::StreamName;
use crate::messages::read::{
    Content, Direction, Extent, FilterChoice, FromPosition, FromRevision, NotFound, ReadAnswer,
    ReadRequest, Source, StreamSource, WantedIdForm,
};
use crate::node::{Node, fault, version};
use crate::subscribing::{self, Subscription};

/// How many events are read from the store at once.
pub(crate) const PAGE: usize = 256;

/// The answers of one read.
pub(crate) type Answers = BoxStream<'static, Result<ReadAnswer, Status>>;

/// Answers one Read.
pub(crate) async fn read(
    node: Arc<Node>,
    request: Request<ReadRequest>,
) -> Result<Response<Answers>, Status> {
    may_read(&node.admit(request.metadata()).await?)?;
    let authorization = authorization(request.metadata());
    let missing = |what: &str| Status::invalid_argument(format!("the read says not {what}"));
    let options = request.into_inner().options;
    let options = options.ok_or_else(|| missing("what to read"))?;
    let backwards = options.direction == Direction::Backwards as i32;
    let id_as_text = options
        .id_form
        .is_some_and(|choice| matches!(choice.form, Some(WantedIdForm::Text(()))));
    let filter = match options.filter {
        Some(FilterChoice::Filter(filter)) => Some(Filter::new(filter)?),
        Some(FilterChoice::None(())) | None => None,
    };
    let source = options.source.ok_or_else(|| missing("what to read"))?;
    let count = match options.extent.ok_or_else(|| missing("how much to read"))? {
        Extent::Subscription(()) => {
            let from = subscribing::from(&node, source).await?;
            let subscription = Subscription::new(node, authorization, from, filter, id_as_text);
            return Ok(Response::new(subscription.answers()));
        }
        Extent::Count(0) => return Err(Status::invalid_argument("the count must be at least 1")),
        Extent::Count(count) => count,
    };
    let cursor = match source {
        Source::Stream(source) => match stream_cursor(&node, &source, backwards).await? {
            Some(cursor) => cursor,
            None => return Ok(Response::new(not_found(source))),
        },
        Source::All(source) => {
            let from = source.from.ok_or_else(|| missing("where to begin"))?;
            let head = node.store.head().await.map_err(|error| fault(&error))?;
            all_cursor(&node, from, head, backwards)
        }
    };
    let reader = Reader {
        node,
        cursor,
        filter,
        id_as_text,
        left: count,
        ready: VecDeque::new(),
    };
    Ok(Response::new(reader.answers()))
}

/// The stream of this name, if the log can hold one.
pub(crate) fn stream_named(name: Option<&StreamName>) -> Option<StreamId> {
    let name = std::str::from_utf8(&name?.name).ok()?;
    StreamId::parse(name).ok()
}

fn not_found(source: StreamSource) -> Answers {
    let not_found = NotFound {
        stream: source.stream,
    };
    async { Ok(Content::StreamNotFound(not_found).into()) }
        .into_stream()
        .boxed()
}

/// Where a read goes on.
enum Cursor {
    Forwards(StreamId, Version),
    Backwards(StreamId, Version),
    /// From after the first position to the second.
    AllForwards(Position, Position),
    AllBackwards(Position),
    Done,
}

/// `None`: there is no such stream.
async fn stream_cursor(
    node: &Node,
    source: &StreamSource,
    backwards: bool,
) -> Result<Option<Cursor>, Status> {
    let Some(stream) = stream_named(source.stream.as_ref()) else {
        return Ok(None);
    };
    let last = node.store.stream_version(&stream).await;
    let last = last.map_err(|error| fault(&error))?;
    if last == Version::ZERO {
        return Ok(None);
    }
    let from = source
        .from
        .ok_or_else(|| Status::invalid_argument("the read says not where to begin"))?;
    Ok(Some(match (from, backwards) {
        (FromRevision::Start(()), false) => Cursor::Forwards(stream, Version::ZERO),
        (FromRevision::Revision(r), false) => Cursor::Forwards(stream, Version::new(r)),
        (FromRevision::End(()), false) => Cursor::Done,
        (FromRevision::Start(()), true) => Cursor::Backwards(stream, version(0)),
        (FromRevision::Revision(r), true) => Cursor::Backwards(stream, version(r).min(last)),
        (FromRevision::End(()), true) => Cursor::Backwards(stream, last),
    }))
}

fn all_cursor(node: &Node, from: FromPosition, head: Position, backwards: bool) -> Cursor {
    match (from, backwards) {
        (FromPosition::Start(()), false) => Cursor::AllForwards(Position::ZERO, head),
        (FromPosition::Position(p), false) => Cursor::AllForwards(node.before(p.commit), head),
        (FromPosition::End(()), false) | (FromPosition::Start(()), true) => Cursor::Done,
        // Backwards, the event at the position is left out.
        (FromPosition::Position(p), true) => Cursor::AllBackwards(node.before(p.commit).min(head)),
        (FromPosition::End(()), true) => Cursor::AllBackwards(head),
    }
}

/// A read that ends.
struct Reader {
    node: Arc<Node>,
    cursor: Cursor,
    filter: Option<Filter>,
    id_as_text: bool,
    left: u64,
    ready: VecDeque<RecordedEvent>,
}

impl Reader {
    fn answers(self) -> Answers {
        unfold(Some(self), |reader| async move {
            let mut reader = reader?;
            match reader.next().await {
                Ok(Some(event)) => {
                    let answer = form::answer(&reader.node, event, reader.id_as_text);
                    Some((Ok(answer), Some(reader)))
                }
                Ok(None) => None,
                Err(status) => Some((Err(status), None)),
            }
        })
        .boxed()
    }

    async fn next(&mut self) -> Result<Option<RecordedEvent>, Status> {
        while self.left > 0 {
            if let Some(event) = self.ready.pop_front() {
                if let Some(filter) = &self.filter
                    && !filter.passes(&event)?
                {
                    continue;
                }
                self.left -= 1;
                return Ok(Some(event));
            }
            if matches!(self.cursor, Cursor::Done) {
                break;
            }
            let page = self.page().await.map_err(|error| fault(&error))?;
            self.ready.extend(page);
        }
        Ok(None)
    }

    /// The next events, in the order of the read.
    async fn page(&mut self) -> Result<Vec<RecordedEvent>, event_store::Error> {
        let store = &self.node.store;
        let everything = event_store::Filter::default();
        let wanted = PAGE.min(usize::try_from(self.left).unwrap_or(PAGE));
        // A filter lets few pass: small pages would only be more of them.
        let wanted = if self.filter.is_some() { PAGE } else { wanted };
        let (page, next) = match std::mem::replace(&mut self.cursor, Cursor::Done) {
            Cursor::Forwards(stream, after) => {
                let page = store.read_stream(&stream, after, wanted).await?;
                let next = page.last().map(|last| last.version);
                (page, next.map(|at| Cursor::Forwards(stream, at)))
            }
            Cursor::Backwards(stream, last) => {
                // Versions have no gaps.
                let after = Version::new(last.get().saturating_sub(wanted as u64));
                let count = (last.get() - after.get()) as usize;
                let mut page = store.read_stream(&stream, after, count).await?;
                page.reverse();
                let next = (after > Version::ZERO).then_some(Cursor::Backwards(stream, after));
                (page, next)
            }
            Cursor::AllForwards(after, end) => {
                let mut page = store.read_all(after, &everything, wanted).await?;
                page.events.retain(|event| event.position <= end);
                let more = page.through > after && page.through < end;
                (
                    page.events,
                    more.then_some(Cursor::AllForwards(page.through, end)),
                )
            }
            Cursor::AllBackwards(last) => {
                // Neither have positions, in the stores that are served.
                let after = Position::new(last.get().saturating_sub(wanted as u64));
                let count = (last.get() - after.get()) as usize;
                let mut page = store.read_all(after, &everything, count).await?.events;
                page.reverse();
                let next = (after > Position::ZERO).then_some(Cursor::AllBackwards(after));
                (page, next)
            }
            Cursor::Done => (Vec::new(), None),
        };
        self.cursor = next.unwrap_or(Cursor::Done);
        Ok(page)
    }
}
