//! What operators asked for: folds the short streams `projection-{read model}`, and follows them.
//!
//! Refuses: to do any of it. The keeper of each read model does.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use event_store::Filter;
use events::projection::{CATEGORY, Event};
use events::{DomainEvent, Position, RecordedEvent, StreamId, Version};
use read_models::Wish;
use tokio::sync::watch;

use crate::context::Context;
use crate::options::{Pauses, WISHES_GAP, WISHES_PATIENCE};

/// Events read at once.
const PAGE: usize = 500;

/// What was asked for of one read model.
#[derive(Debug, Clone, Default)]
pub(crate) struct Book {
    /// How far its stream was read.
    pub(crate) version: Version,
    wishes: Vec<(Version, Wish)>,
    /// Events that may be left out, where they cannot be projected.
    discarded: HashSet<Position>,
}

impl Book {
    /// What was asked for after a version.
    pub(crate) fn after(&self, version: Version) -> Vec<(Version, Wish)> {
        let wishes = self.wishes.iter();
        wishes.filter(|(at, _)| *at > version).cloned().collect()
    }

    pub(crate) fn may_leave_out(&self, position: Position) -> bool {
        self.discarded.contains(&position)
    }

    /// Takes in an event, once. What a later version writes is passed over.
    fn take(&mut self, event: &RecordedEvent) {
        if event.version <= self.version {
            return;
        }
        self.version = event.version;
        let actor = event
            .parse_metadata()
            .map_or_else(|_| "somebody".to_owned(), |m| m.actor.to_string());
        let retry = |stream, cause| Wish::Retry {
            stream,
            cause,
            by: actor,
        };
        let wish = match Event::decode(event) {
            Ok(Event::RebuildRequested { compare }) => Wish::Build { compare },
            Ok(Event::RebuildCancelled {}) => Wish::Cancel,
            Ok(Event::RollbackRequested {}) => Wish::RollBack,
            Ok(Event::KeptBuildsDropped {}) => Wish::DropKept,
            Ok(Event::ParkedRetried { stream, cause }) => retry(stream, cause),
            Ok(Event::ParkedDiscarded {
                stream, position, ..
            }) => {
                self.discarded.insert(position);
                retry(Some(stream), None)
            }
            Err(error) => {
                tracing::warn!(%error, "what was asked for is not known to this version");
                return;
            }
        };
        self.wishes.push((event.version, wish));
    }
}

/// Which events of a read model may be left out; clones see what is added later.
#[derive(Debug, Clone, Default)]
pub(crate) struct Discards(pub(crate) Option<watch::Receiver<Book>>);

impl Discards {
    pub(crate) fn hold(&self, position: Position) -> bool {
        self.0
            .as_ref()
            .is_some_and(|book| book.borrow().may_leave_out(position))
    }
}

/// Follows what operators ask for of some read models.
pub(crate) struct Follower {
    context: Arc<Context>,
    books: HashMap<String, watch::Sender<Book>>,
}

impl Follower {
    pub(crate) fn new<'m>(context: Arc<Context>, models: impl Iterator<Item = &'m str>) -> Self {
        let book = |model: &str| (model.to_owned(), watch::Sender::default());
        Self {
            context,
            books: models.map(book).collect(),
        }
    }

    /// What is asked for of a read model.
    pub(crate) fn book(&self, model: &str) -> watch::Receiver<Book> {
        self.books.get(model).map_or_else(
            || watch::Sender::default().subscribe(),
            watch::Sender::subscribe,
        )
    }

    /// Reads everything that was asked for so far, and gives the place to go on from. `None` at shutdown.
    pub(crate) async fn begin(&self) -> Option<Position> {
        let mut pauses = Pauses::new();
        loop {
            match self.read_streams().await {
                Ok(head) => return Some(head),
                Err(error) => {
                    tracing::warn!(%error, "what operators asked for cannot be read; trying again");
                }
            }
            if !self.context.pause(pauses.next()).await {
                return None;
            }
        }
    }

    async fn read_streams(&self) -> Result<Position, event_store::Error> {
        let log = &self.context.log;
        // Before the streams, so that nothing falls between the two.
        let head = log.head().await?;
        for (model, book) in &self.books {
            let Ok(stream) = StreamId::new(CATEGORY, model) else {
                continue;
            };
            loop {
                let after = book.borrow().version;
                let events = log.read_stream(&stream, after, PAGE).await?;
                book.send_modify(|book| events.iter().for_each(|event| book.take(event)));
                if events.len() < PAGE {
                    break;
                }
            }
        }
        Ok(head)
    }

    /// Until shutdown.
    pub(crate) async fn run(self, from: Position) {
        let filter = Filter {
            partition: None,
            categories: vec![CATEGORY.to_owned()],
        };
        let (log, mut after, mut pauses) = (&self.context.log, from, Pauses::new());
        loop {
            tokio::select! {
                () = self.context.shutdown.cancelled() => return,
                () = log.wait_beyond(after, WISHES_PATIENCE) => {}
            }
            let pause = match log.read_all(after, &filter, PAGE).await {
                Ok(page) => {
                    for event in &page.events {
                        if let Some(book) = self.books.get(event.stream.id()) {
                            book.send_modify(|book| book.take(event));
                        }
                    }
                    // A log that was set back is another one; whoever reads rows notices that.
                    after = after.max(page.through);
                    pauses = Pauses::new();
                    WISHES_GAP
                }
                Err(error) => {
                    tracing::warn!(%error, "what operators ask for cannot be read; trying again");
                    pauses.next()
                }
            };
            if !self.context.pause(pause).await {
                return;
            }
        }
    }
}
