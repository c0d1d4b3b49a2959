//! Subscriptions: everything after a place, then whatever is appended, until the client leaves, loses its right to read
//! or the server shuts down. Pages are read as the client takes them, so a slow one holds up nobody and fills nothing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use events::{Position, StreamId, Version};
use futures::StreamExt;
use futures::stream::unfold;
use tonic::Status;

use crate::access::may_read;
use crate::filter::Filter;
use crate::form::{self, timestamp};
use crate::messages::LogPosition;
use crate::messages::read::{
    CaughtUp, Checkpoint, Confirmation, Content, FromPosition, FromRevision, ReadAnswer, Source,
};
use crate::node::{Node, fault, revision, version};
use crate::reading::{Answers, PAGE, stream_named};

/// How long to wait for an append before looking whether the caller may still read.
const RECHECK: Duration = Duration::from_secs(1);

/// Where a subscription has got to.
pub(crate) enum From {
    Stream(StreamId, Version),
    All(Position),
}

/// Where a subscription begins. The place that the client names is not sent again.
pub(crate) async fn from(node: &Node, source: Source) -> Result<From, Status> {
    let missing = || Status::invalid_argument("the subscription says not where to begin");
    match source {
        Source::Stream(source) => {
            let stream = stream_named(source.stream.as_ref()).ok_or_else(|| {
                Status::invalid_argument(
                    "the log cannot hold a stream of this name: write {category}-{id}",
                )
            })?;
            let after = match source.from.ok_or_else(missing)? {
                FromRevision::Start(()) => Version::ZERO,
                FromRevision::Revision(r) => version(r),
                FromRevision::End(()) => node
                    .store
                    .stream_version(&stream)
                    .await
                    .map_err(|error| fault(&error))?,
            };
            Ok(From::Stream(stream, after))
        }
        Source::All(source) => Ok(From::All(match source.from.ok_or_else(missing)? {
            FromPosition::Start(()) => Position::ZERO,
            FromPosition::Position(p) => node.at(p.commit),
            FromPosition::End(()) => node.store.head().await.map_err(|error| fault(&error))?,
        })),
    }
}

/// One subscription.
pub(crate) struct Subscription {
    node: Arc<Node>,
    authorization: Option<String>,
    from: From,
    filter: Option<Filter>,
    id_as_text: bool,
    ready: VecDeque<ReadAnswer>,
    caught_up: bool,
    /// Events looked at since the client heard of a position.
    unheard: u64,
}

impl Subscription {
    pub fn new(
        node: Arc<Node>,
        authorization: Option<String>,
        from: From,
        filter: Option<Filter>,
        id_as_text: bool,
    ) -> Self {
        let confirmation = Confirmation {
            subscription: node.subscription_id().to_string(),
        };
        Self {
            node,
            authorization,
            from,
            filter,
            id_as_text,
            ready: VecDeque::from([Content::Confirmation(confirmation).into()]),
            caught_up: false,
            unheard: 0,
        }
    }

    pub fn answers(self) -> Answers {
        unfold(Some(self), |subscription| async move {
            let mut subscription = subscription?;
            match subscription.next().await {
                Ok(answer) => Some((Ok(answer), Some(subscription))),
                Err(status) => Some((Err(status), None)),
            }
        })
        .boxed()
    }

    async fn next(&mut self) -> Result<ReadAnswer, Status> {
        loop {
            if let Some(answer) = self.ready.pop_front() {
                return Ok(answer);
            }
            if self.node.shutdown.is_cancelled() {
                return Err(Status::unavailable("the server is shutting down"));
            }
            let access = self.node.gate.admit(self.authorization.as_deref()).await?;
            may_read(&access)?;
            let head = self.node.store.head().await;
            let head = head.map_err(|error| fault(&error))?;
            let at_end = match &self.from {
                From::Stream(..) => self.stream_page().await?,
                From::All(_) => self.all_page().await?,
            };
            if at_end && !self.caught_up {
                self.caught_up = true;
                self.ready.push_back(self.caught_up_now());
            } else if at_end {
                let wait = self.node.store.wait_beyond(head, RECHECK);
                tokio::select! {
                    () = wait => {}
                    () = self.node.shutdown.cancelled() => {}
                }
            }
        }
    }

    /// Takes in the next events of the stream; `true` if there were none.
    async fn stream_page(&mut self) -> Result<bool, Status> {
        let From::Stream(stream, after) = &mut self.from else {
            return Ok(true);
        };
        let page = self.node.store.read_stream(stream, *after, PAGE).await;
        let page = page.map_err(|error| fault(&error))?;
        let Some(last) = page.last() else {
            return Ok(true);
        };
        *after = last.version;
        let answers = page
            .into_iter()
            .map(|event| form::answer(&self.node, event, self.id_as_text));
        self.ready.extend(answers);
        Ok(false)
    }

    /// The same for the log, through the filter.
    async fn all_page(&mut self) -> Result<bool, Status> {
        let From::All(after) = &mut self.from else {
            return Ok(true);
        };
        let everything = event_store::Filter::default();
        let page = self.node.store.read_all(*after, &everything, PAGE).await;
        let page = page.map_err(|error| fault(&error))?;
        if page.through < *after {
            return Err(Status::out_of_range(
                "the log ends before this position: it is another log, or it was restored",
            ));
        }
        let at_end = page.through == *after;
        *after = page.through;
        for event in page.events {
            self.unheard += 1;
            if let Some(filter) = &self.filter
                && !filter.passes(&event)?
            {
                continue;
            }
            self.unheard = 0;
            let answer = form::answer(&self.node, event, self.id_as_text);
            self.ready.push_back(answer);
        }
        let due = self
            .filter
            .as_ref()
            .map(|filter| filter.checkpoint_interval);
        let catching_up = at_end && !self.caught_up;
        if due.is_some_and(|due| self.unheard >= due || (catching_up && self.unheard > 0)) {
            self.unheard = 0;
            let position = self.node.on_wire(page.through);
            self.ready.push_back(
                Content::Checkpoint(Checkpoint {
                    commit: position,
                    prepare: position,
                    at: Some(timestamp((self.node.clock)())),
                })
                .into(),
            );
        }
        Ok(at_end)
    }

    fn caught_up_now(&self) -> ReadAnswer {
        let (at_revision, position) = match &self.from {
            From::Stream(_, Version::ZERO) | From::All(Position::ZERO) => (None, None),
            From::Stream(_, at) => (Some(revision(*at) as i64), None),
            From::All(at) => (None, Some(LogPosition::at(self.node.on_wire(*at)))),
        };
        Content::CaughtUp(CaughtUp {
            at: Some(timestamp((self.node.clock)())),
            revision: at_revision,
            position,
        })
        .into()
    }
}
