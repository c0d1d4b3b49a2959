//! Live answers (server-sent events, WHATWG HTML, section 9.2): the rows as they are, then what becomes of them, for as long
//! as the caller may see them. It refuses to tell of rows outside the caller's reach, to hold more for a slow client than one
//! batch, and to outlive the credential that it was begun with.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use futures::stream;
use read_models::{Place, Query, Value};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use web::Problem;

use crate::changes::{self, Batch, Rows};
use crate::event::{self, Events};
use crate::hub::{News, Subscription};
use crate::listeners::Listening;
use crate::rows;
use crate::state::QueryState;
use crate::subject::Subject;

/// How long a stream waits for the read model to be there.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often a stream looks whether its credential still holds.
const CHECK: Duration = Duration::from_millis(500);
/// After how many of these looks a silent stream says that it is there: 15 s.
const HEARTBEAT: u32 = 30;
/// Rows read at a time for the list that a stream begins with.
const PAGE: u32 = 500;
/// The id of the last event that the client has taken in.
const LAST_EVENT_ID: &str = "last-event-id";

/// Begins a stream; 503 if the read model cannot be followed.
pub(crate) async fn answer(
    state: &QueryState,
    subject: Subject,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let listening = state.listeners().admit(subject.caller.account)?;
    let deadline = Instant::now() + PATIENCE;
    let hub = &subject.hosted.hub;
    let subscription = hub.subscribe(deadline).await.ok_or_else(|| {
        Problem::unavailable("The read model cannot be followed right now: try again.")
    })?;
    let last = headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok());
    let resumed = last.and_then(|id| event::place(id, &subscription.place));
    let mut ticks = tokio::time::interval(CHECK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.reset();
    let live = Live {
        state: state.clone(),
        subject,
        credential: headers.get(AUTHORIZATION).cloned(),
        subscription,
        phase: resumed.map_or(Phase::Reset, Phase::CatchUp),
        sent: None,
        ticks,
        silent: 0,
        _listening: listening,
    };
    let events = stream::unfold(live, async |mut live| {
        let events = live.next().await?;
        Some((Ok::<_, std::convert::Infallible>(events), live))
    });
    let mut response = Response::new(Body::from_stream(events));
    let said = [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "private, no-cache"),
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    for (name, value) in said {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    Ok(response)
}

/// One client's stream.
struct Live {
    state: QueryState,
    subject: Subject,
    /// As it was sent, to be judged again and again.
    credential: Option<HeaderValue>,
    /// The place up to which the client knows everything, and what follows it.
    subscription: Subscription,
    phase: Phase,
    /// The latest snapshot that rows were sent from: nothing older is sent any more.
    sent: Option<Place>,
    ticks: Interval,
    silent: u32,
    _listening: Listening,
}

enum Phase {
    /// The client is to forget what it has.
    Reset,
    /// The rows as they are, from a key on, in pages; the place is that of the first page.
    Listing {
        after: Option<Vec<Value>>,
        first: Option<Place>,
    },
    /// What changed since a place, from the journal.
    CatchUp(Place),
    /// What the hub tells.
    Following,
    Over,
}

/// Why a stream ends; a client that was told begins another one where that may help.
enum End {
    /// The credential has expired, was taken back, or allows something else now.
    Credential,
    /// This process ends, or cannot read: another one may.
    Unavailable,
}

impl Live {
    /// The next bytes; nothing at the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let step = match &mut self.phase {
                Phase::Reset => {
                    self.phase = Phase::Listing {
                        after: None,
                        first: None,
                    };
                    Ok(event::reset())
                }
                Phase::Listing { .. } => self.list().await,
                Phase::CatchUp(place) => {
                    let place = place.clone();
                    self.catch_up(place).await
                }
                Phase::Following => self.follow().await,
                Phase::Over => return None,
            };
            match step {
                Ok(events) if events.is_empty() => {}
                Ok(events) => {
                    self.silent = 0;
                    return Some(events.into_bytes());
                }
                Err(end) => {
                    self.phase = Phase::Over;
                    return Some(event::end(end.reason()).into_bytes());
                }
            }
        }
    }

    /// One page of the rows as they are; behind the last one, where they lead.
    async fn list(&mut self) -> Result<Events, End> {
        self.permitted().await?;
        let Phase::Listing { after, first } = &mut self.phase else {
            return Ok(Events::default());
        };
        let subject = &self.subject;
        let mut query = Query::new(subject.model(), subject.filter.clone(), PAGE);
        query.select = subject.outputs.iter().map(|o| o.field.clone()).collect();
        query.after = after.take();
        let page = self.state.store().list(subject.model(), &query).await;
        let page = page.map_err(|error| unreadable(&error))?;
        let place = page.place;
        let first = first.take().unwrap_or_else(|| place.clone());
        if !place.covers(&first) || !place.is_of(&self.subscription.place) {
            // Another table took its place meanwhile, and the hub will say so, or has.
            return self.anew();
        }
        let shown: Vec<Vec<&Value>> = page.rows.iter().map(|row| row.iter().collect()).collect();
        let rows = rows::open(&subject.outputs, shown, &subject.caller, self.state.vault()).await;
        let mut events = Events::default();
        for row in rows.map_err(|_| End::Unavailable)? {
            events.row(&row);
        }
        self.sent = Some(place);
        if let Some(next) = page.next {
            self.phase = Phase::Listing {
                after: Some(next),
                first: Some(first),
            };
        } else {
            events.ready(&first);
            // What the hub told since then is the rest.
            self.subscription.place = first;
            self.phase = Phase::Following;
        }
        Ok(events)
    }

    /// Begins with the list again, from whatever the hub knows now.
    fn anew(&mut self) -> Result<Events, End> {
        let hub = &self.subject.hosted.hub;
        let place = hub.told().ok_or(End::Unavailable)?;
        self.subscription.place = place;
        self.sent = None;
        self.phase = Phase::Reset;
        Ok(Events::default())
    }

    /// What changed since a place, all at once; the list anew if the journal does not tell.
    async fn catch_up(&mut self, since: Place) -> Result<Events, End> {
        self.permitted().await?;
        let store = self.state.store();
        let model = self.subject.model();
        let changed = store.changes_since(model, &since).await;
        let Some(changed) = changed.map_err(|error| unreadable(&error))? else {
            return self.anew();
        };
        self.phase = Phase::Following;
        self.subscription.place.clone_from(&changed.place);
        let batch = Batch {
            since,
            place: changed.place,
            changed: changed.rows.into_iter().collect(),
            read: None,
        };
        let mut events = self.batch(&batch).await?;
        events.ready(&batch.place);
        Ok(events)
    }

    /// Waits for the next news, or a sign that it is time to look after the stream itself.
    async fn follow(&mut self) -> Result<Events, End> {
        let shutdown = self.state.shutdown();
        tokio::select! {
            () = shutdown.cancelled() => Err(End::Unavailable),
            news = self.subscription.news.recv() => match news {
                Ok(News::Batch(batch)) => self.take(&batch).await,
                Ok(News::Anew) => self.anew(),
                Err(RecvError::Lagged(_)) => {
                    // Too slow for the hub: the journal has it all.
                    self.phase = Phase::CatchUp(self.subscription.place.clone());
                    Ok(Events::default())
                }
                Err(RecvError::Closed) => Err(End::Unavailable),
            },
            _ = self.ticks.tick() => {
                self.permitted().await?;
                self.silent += 1;
                if self.silent < HEARTBEAT {
                    return Ok(Events::default());
                }
                Ok(event::heartbeat(&self.subscription.place))
            }
        }
    }

    async fn take(&mut self, batch: &Batch) -> Result<Events, End> {
        let known = &self.subscription.place;
        if known.covers(&batch.place) {
            return Ok(Events::default());
        }
        if !known.covers(&batch.since) {
            self.phase = Phase::CatchUp(known.clone());
            return Ok(Events::default());
        }
        let events = self.batch(batch).await?;
        self.subscription.place.clone_from(&batch.place);
        Ok(events)
    }

    /// What a batch says to this client.
    async fn batch(&mut self, batch: &Batch) -> Result<Events, End> {
        if batch.changed.is_empty() {
            return Ok(Events::default());
        }
        let own;
        let rows = match &batch.read {
            Some(rows) if newer(rows, self.sent.as_ref()) => rows,
            _ => {
                let (store, model) = (self.state.store(), self.subject.model());
                let keys = batch.changed.iter().map(|(key, _)| key);
                own = changes::read(store, model, keys).await;
                own.as_ref().map_err(unreadable)?
            }
        };
        if rows
            .place
            .as_ref()
            .is_some_and(|place| !place.is_of(&batch.place))
        {
            return self.anew();
        }
        let subject = &self.subject;
        let (mut shown, mut gone) = (Vec::new(), Vec::new());
        for (key, former_owners) in &batch.changed {
            let row = rows.found.get(key);
            match row.filter(|row| subject.filter.matches(row)) {
                Some(row) => {
                    let outputs = subject.outputs.iter();
                    shown.push(outputs.map(|output| &row[output.field.index()]).collect());
                }
                None if subject.may_tell(key, row, former_owners) => gone.push(key),
                None => {}
            }
        }
        let opened = rows::open(&subject.outputs, shown, &subject.caller, self.state.vault()).await;
        let mut events = Events::default();
        for row in opened.map_err(|_| End::Unavailable)? {
            events.row(&row);
        }
        for key in gone {
            events.gone(subject.model(), key);
        }
        events.end_with(&batch.place);
        self.sent.clone_from(&rows.place);
        Ok(events)
    }

    /// Whether the caller is still who it was, and may do what it might.
    async fn permitted(&self) -> Result<(), End> {
        let bearer = self
            .credential
            .as_ref()
            .and_then(|value| value.to_str().ok());
        let bearer = bearer.and_then(|text| text.split_once(' '));
        let Some((_, bearer)) = bearer else {
            return Err(End::Credential);
        };
        match self.state.tokens().authenticate(bearer.trim()).await {
            Ok(caller) if caller == self.subject.caller => Ok(()),
            Err(problem) if problem.status().is_server_error() => Err(End::Unavailable),
            _ => Err(End::Credential),
        }
    }
}

impl End {
    fn reason(&self) -> &'static str {
        match self {
            Self::Credential => "credential",
            Self::Unavailable => "unavailable",
        }
    }
}

/// Whether rows were read at or past what was sent.
fn newer(rows: &Rows, sent: Option<&Place>) -> bool {
    match (&rows.place, sent) {
        (Some(read), Some(sent)) => read.covers(sent),
        (_, None) => true,
        (None, Some(_)) => false,
    }
}

fn unreadable(error: &read_models::Error) -> End {
    tracing::warn!(%error, "a live answer ends, since it cannot read");
    End::Unavailable
}
