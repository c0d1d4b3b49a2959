//! Which events of the log a verb is about, and reading them page by page. It refuses to hold more than a page.

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use clap::Args;
use event_store::{EventStore, Filter};
use events::{Position, RecordedEvent, StreamId, Version};
use serde::Serialize;
use uuid::Uuid;

use crate::verbs::duration;

/// Events read at once.
pub const PAGE: usize = 1_000;

/// A moment as it is written on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Moment {
    /// A time, or the beginning of a day (UTC).
    At(DateTime<Utc>),
    /// So many seconds ago.
    Ago(i64),
}

impl Moment {
    /// Reads `2026-11-23T03:00:00Z`, `2026-11-23` or `90m`.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Ok(ago) = duration(text) {
            return Ok(Self::Ago(ago.num_seconds()));
        }
        if let Ok(day) = text.parse::<NaiveDate>() {
            return Ok(Self::At(day.and_time(NaiveTime::MIN).and_utc()));
        }
        DateTime::parse_from_rfc3339(text)
            .map(|at| Self::At(at.to_utc()))
            .map_err(|_| {
                format!("{text:?} is no moment: write 2026-11-23T03:00:00Z, 2026-11-23, or 2h for two hours ago")
            })
    }

    fn resolve(self, now: DateTime<Utc>) -> DateTime<Utc> {
        match self {
            Self::At(at) => at,
            Self::Ago(seconds) => now - TimeDelta::seconds(seconds),
        }
    }
}

/// What an event must be, wherever it stands. All conditions must hold; of one that is given several times, one.
#[derive(Debug, Clone, Default, Args, Serialize)]
pub struct Filters {
    /// Only events of this type; may be given several times
    #[arg(long = "type", value_name = "TYPE")]
    pub types: Vec<String>,
    /// Only what this actor did: account:ID, anonymous or system:TASK
    #[arg(long, value_name = "ACTOR")]
    pub actor: Option<String>,
    /// Only what followed from this request
    #[arg(long, value_name = "UUID")]
    pub correlation_id: Option<Uuid>,
    /// Only what was recorded then or later: 2026-11-23T03:00:00Z, 2026-11-23, or 2h for two hours ago
    #[arg(long, value_name = "MOMENT", value_parser = Moment::parse)]
    pub since: Option<Moment>,
    /// Only what was recorded before then
    #[arg(long, value_name = "MOMENT", value_parser = Moment::parse)]
    pub until: Option<Moment>,
}

/// Which events of the whole log.
#[derive(Debug, Clone, Default, Args, Serialize)]
pub struct Select {
    /// Only events of this stream; may be given several times
    #[arg(long = "stream", value_name = "STREAM", value_parser = StreamId::parse)]
    pub streams: Vec<StreamId>,
    /// Only streams of this category; may be given several times
    #[arg(long = "category", value_name = "CATEGORY")]
    pub categories: Vec<String>,
    /// Begins at this position of the log
    #[arg(long, value_name = "POSITION")]
    pub from_position: Option<u64>,
    /// Ends with this position of the log
    #[arg(long, value_name = "POSITION")]
    pub to_position: Option<u64>,
    #[command(flatten)]
    #[serde(flatten)]
    pub filters: Filters,
}

/// A selection, ready to judge events.
#[derive(Debug, Clone)]
pub struct Selection {
    select: Select,
    since: Option<DateTime<Utc>>,
    until: Option<DateTime<Utc>>,
}

impl Select {
    /// Everything there is of one stream, but for the filters.
    pub fn stream(stream: StreamId, filters: Filters) -> Self {
        Self {
            streams: vec![stream],
            filters,
            ..Self::default()
        }
    }

    /// Ready to judge events, with `ago` counted from `now`.
    pub fn at(self, now: DateTime<Utc>) -> Selection {
        let of = |moment: Option<Moment>| moment.map(|moment| moment.resolve(now));
        Selection {
            since: of(self.filters.since),
            until: of(self.filters.until),
            select: self,
        }
    }
}

impl Selection {
    /// The store's part of it.
    pub fn filter(&self) -> Filter {
        let mut categories = self.select.categories.clone();
        if categories.is_empty() {
            let streams = self.select.streams.iter();
            categories = streams.map(|stream| stream.category().to_owned()).collect();
            categories.sort();
            categories.dedup();
        }
        Filter {
            partition: None,
            categories,
        }
    }

    /// Whether it is selected. Metadata that cannot be read fits no condition on it.
    pub fn takes(&self, event: &RecordedEvent) -> bool {
        let Select {
            streams,
            categories,
            from_position,
            to_position,
            filters,
        } = &self.select;
        let position = event.position.get();
        let fits = (streams.is_empty() || streams.contains(&event.stream))
            && (categories.is_empty() || categories.iter().any(|c| c == event.stream.category()))
            && from_position.is_none_or(|from| position >= from)
            && to_position.is_none_or(|to| position <= to)
            && (filters.types.is_empty() || filters.types.contains(&event.type_name));
        let needs_metadata = filters.actor.is_some()
            || filters.correlation_id.is_some()
            || self.since.is_some()
            || self.until.is_some();
        if !fits || !needs_metadata {
            return fits;
        }
        event.parse_metadata().is_ok_and(|metadata| {
            filters
                .actor
                .as_ref()
                .is_none_or(|actor| metadata.actor.to_string() == *actor)
                && filters
                    .correlation_id
                    .is_none_or(|id| metadata.correlation_id == id)
                && self.since.is_none_or(|since| metadata.recorded_at >= since)
                && self.until.is_none_or(|until| metadata.recorded_at < until)
        })
    }

    /// Reads what is selected after `after`, up to the head that the log has now.
    pub async fn read(
        self,
        store: &dyn EventStore,
        after: Position,
    ) -> Result<Reader<'_>, event_store::Error> {
        let head = store.head().await?;
        let end = self
            .select
            .to_position
            .map_or(head, |to| head.min(Position::new(to)));
        // Nobody adds or subtracts 1 but where the store promises that there are no gaps.
        let begin = match self.select.from_position {
            Some(from) if store.gapless() => Position::new(from.saturating_sub(1)),
            _ => Position::ZERO,
        };
        Ok(Reader {
            store,
            filter: self.filter(),
            begin: after.max(begin),
            at: after.max(begin),
            version: Version::ZERO,
            end,
            selection: self,
        })
    }
}

/// Reads a selection, page by page.
pub struct Reader<'s> {
    store: &'s dyn EventStore,
    selection: Selection,
    filter: Filter,
    /// Nothing up to here.
    begin: Position,
    at: Position,
    version: Version,
    end: Position,
}

impl Reader<'_> {
    /// Where the reading ends.
    pub fn end(&self) -> Position {
        self.end
    }

    /// How far it has looked.
    pub fn at(&self) -> Position {
        self.at
    }

    /// The next events, maybe none; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Vec<RecordedEvent>>, event_store::Error> {
        if self.at >= self.end {
            return Ok(None);
        }
        let mut events = if let [stream] = self.selection.select.streams.as_slice() {
            let events = self.store.read_stream(stream, self.version, PAGE).await?;
            match events.last() {
                Some(last) if events.len() >= PAGE => self.version = last.version,
                _ => self.at = self.end,
            }
            events
        } else {
            let page = self.store.read_all(self.at, &self.filter, PAGE).await?;
            let moved = page.through > self.at;
            self.at = if moved { page.through } else { self.end };
            page.events
        };
        let (begin, end) = (self.begin, self.end);
        events.retain(|event| event.position > begin && event.position <= end);
        events.retain(|event| self.selection.takes(event));
        Ok(Some(events))
    }
}
