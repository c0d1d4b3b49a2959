//! `showcaller replay`: sends a selection of the log again, to a queue or an exchange of others, or as lines. Every message
//! says which replay it belongs to, so that nobody takes it for news. It refuses to send faster than told, and to go on
//! from the state of another replay.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use broker::{Broker, Envelope, Publisher, Target as Place};
use command_api::{Clock, SystemClock};
use event_store::EventStore;
use events::{LogIdentity, Message, Position};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use super::exit::{Exit, refused};
use super::ndjson::{Messages, Writer};
use super::out::Out;
use super::progress::Progress;
use super::select::Selection;
use crate::config::Settings;
use crate::open;
use crate::verbs::carry::ReplayArgs;

/// The most messages that are confirmed, and written down as sent, at once.
const BATCH: usize = 500;
/// A rate is kept in steps of this: so many messages go at once, then comes a pause.
const STEPS_A_SECOND: u32 = 10;

/// Where events are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// RabbitMQ.
    Broker(Place),
    /// Lines at the end of a file.
    File(PathBuf),
    /// Lines on standard output.
    Stdout,
}

impl Target {
    /// Reads `exchange:NAME`, `queue:NAME`, `file:FILE` or `-`.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            _ if text == "-" => Ok(Self::Stdout),
            Some(("exchange", name)) if !name.is_empty() => {
                Ok(Self::Broker(Place::Exchange(name.into())))
            }
            Some(("queue", name)) if !name.is_empty() => {
                Ok(Self::Broker(Place::Queue(name.into())))
            }
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.into())),
            _ => Err(format!(
                "{text:?} is no target: write exchange:NAME, queue:NAME, file:FILE or -"
            )),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Broker(Place::Exchange(name)) => format!("exchange:{name}"),
            Self::Broker(Place::Queue(name)) => format!("queue:{name}"),
            Self::File(path) => format!("file:{}", path.display()),
            Self::Stdout => "-".into(),
        }
    }
}

/// Messages a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate(u32);

impl Rate {
    /// Reads `200/s`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let number = text.strip_suffix("/s").unwrap_or(text);
        match number.parse() {
            Ok(rate) if rate > 0 => Ok(Self(rate)),
            _ => Err(format!("{text:?} is no rate: write for example 200/s")),
        }
    }
}

/// A bucket that fills with the rate and holds a step's worth: whoever takes from it never sends faster for long, nor all
/// at once after a pause.
struct Bucket {
    rate: f64,
    capacity: f64,
    level: f64,
    filled: Instant,
}

impl Bucket {
    fn new(Rate(rate): Rate) -> Self {
        let capacity = f64::from(rate.div_ceil(STEPS_A_SECOND));
        Self {
            rate: rate.into(),
            capacity,
            level: capacity,
            filled: Instant::now(),
        }
    }

    /// How many may go at once at most.
    fn step(&self) -> usize {
        self.capacity as usize
    }

    /// How long to wait from `now` until `count` may go; they are taken out.
    fn take(&mut self, count: usize, now: Instant) -> Duration {
        let filled = now.duration_since(self.filled).as_secs_f64() * self.rate;
        self.level = (self.level + filled).min(self.capacity) - count as f64;
        self.filled = now;
        Duration::from_secs_f64((-self.level).max(0.0) / self.rate)
    }
}

/// How far a replay has come; what is written to the file of `--resume-from`.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct State {
    replay: Uuid,
    log: LogIdentity,
    to: String,
    select: Value,
    /// Everything selected up to here was sent.
    through: Position,
    sent: u64,
}

impl State {
    /// What the file says, or a replay that begins.
    fn load(args: &ReplayArgs, log: LogIdentity) -> Result<Self> {
        let begun = Self {
            replay: vault::random_uuid(),
            log,
            to: args.to.name(),
            select: serde_json::to_value(&args.select)?,
            through: Position::ZERO,
            sent: 0,
        };
        let Some(file) = args.resume_from.as_ref().filter(|file| file.exists()) else {
            return Ok(begun);
        };
        let text =
            std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?;
        let found: Self = serde_json::from_slice(&text)
            .with_context(|| format!("{} is no replay's state", file.display()))?;
        if (found.log, &found.to, &found.select) != (log, &begun.to, &begun.select) {
            return Err(refused(format!(
                "{} is of another replay: give the same target and selection on the same log, or name another file",
                file.display()
            )));
        }
        eprintln!(
            "going on after position {}; {} events were sent",
            found.through, found.sent
        );
        Ok(found)
    }

    fn save(&self, file: Option<&Path>) -> Result<()> {
        let Some(file) = file else { return Ok(()) };
        let draft = file.with_extension("new");
        let mut out = std::fs::File::create(&draft)
            .with_context(|| format!("{} cannot be written", draft.display()))?;
        out.write_all(&serde_json::to_vec(self)?)?;
        out.sync_all()?;
        Ok(std::fs::rename(&draft, file)?)
    }
}

/// Sends, or counts in a dry run.
pub async fn replay(settings: &Settings, args: &ReplayArgs) -> Result<Exit> {
    let store = open::events_to_read(settings).await?;
    let state = State::load(args, store.identity())?;
    let selection = args.select.clone().at(SystemClock.now());
    let done = if args.dry_run {
        count(settings, &*store, selection, &state).await
    } else {
        send(settings, &*store, selection, args, state).await
    };
    store.close().await;
    done
}

async fn count(
    settings: &Settings,
    store: &dyn EventStore,
    selection: Selection,
    state: &State,
) -> Result<Exit> {
    let mut reader = selection.read(store, state.through).await?;
    let mut events = 0;
    while let Some(page) = reader.next().await? {
        events += page.len();
    }
    let mut out = Out::new(settings.output);
    let object = json!({"to": state.to, "events": events, "through": reader.end()});
    out.record(&object, || {
        format!("{events} events would be sent to {}", state.to)
    })?;
    out.finish()?;
    Ok(Exit::Done)
}

async fn send(
    settings: &Settings,
    store: &dyn EventStore,
    selection: Selection,
    args: &ReplayArgs,
    mut state: State,
) -> Result<Exit> {
    let broker = broker::open(settings.broker.as_str()).await?;
    let mut sink = Sink::open(&*broker, &args.to).await?;
    let mut bucket = args.rate.map(Bucket::new);
    let step = bucket
        .as_ref()
        .map_or(BATCH, |bucket| bucket.step().min(BATCH));
    let mut messages = Messages::new(store, Some(state.replay));
    let mut reader = selection.read(store, state.through).await?;
    let (mut progress, before) = (Progress::new("events sent", None), state.sent);
    state.save(args.resume_from.as_deref())?;
    while let Some(events) = reader.next().await? {
        let mut events = events.into_iter().peekable();
        while events.peek().is_some() {
            let batch: Vec<Message> = events
                .by_ref()
                .take(step)
                .map(|event| messages.next(event))
                .collect();
            if let Some(bucket) = &mut bucket {
                tokio::time::sleep(bucket.take(batch.len(), Instant::now())).await;
            }
            let last = batch.last().map(|message| message.event.position);
            state.sent += batch.len() as u64;
            sink.send(batch).await?;
            state.through = last.unwrap_or(state.through);
            state.save(args.resume_from.as_deref())?;
            progress.at(state.sent - before);
        }
        state.through = state.through.max(reader.at());
    }
    state.save(args.resume_from.as_deref())?;
    drop(sink);
    broker.close().await;
    progress.finish();
    let object = json!({
        "replay": state.replay, "to": state.to, "sent": state.sent - before, "through": state.through,
    });
    if args.to != Target::Stdout {
        let mut out = Out::new(settings.output);
        out.record(&object, || {
            format!(
                "{} events sent to {} up to position {}, marked as replay {}",
                state.sent - before,
                state.to,
                state.through,
                state.replay
            )
        })?;
        out.finish()?;
    }
    Ok(Exit::Done)
}

enum Sink {
    Broker(Box<dyn Publisher>),
    Lines(Writer<Box<dyn Write>>),
}

impl Sink {
    async fn open(broker: &dyn Broker, target: &Target) -> Result<Self> {
        Ok(match target {
            Target::Broker(place) => match broker.publisher_to(place).await {
                Err(broker::Error::Invalid(why)) => return Err(refused(why)),
                opened => Self::Broker(opened?),
            },
            Target::File(path) => {
                let file = OpenOptions::new().create(true).append(true).open(path);
                let file = file.with_context(|| format!("{} cannot be written", path.display()))?;
                Self::Lines(Writer::new(Box::new(file)))
            }
            Target::Stdout => Self::Lines(Writer::new(Box::new(std::io::stdout()))),
        })
    }

    /// Returns when the broker has confirmed all, or the lines are written.
    async fn send(&mut self, batch: Vec<Message>) -> Result<()> {
        match self {
            Self::Broker(publisher) => {
                let envelopes = batch
                    .iter()
                    .map(|message| {
                        let metadata = message.event.parse_metadata().ok();
                        Envelope::event(message, metadata.and_then(|metadata| metadata.traceparent))
                    })
                    .collect::<Result<Vec<_>, _>>()?;
                Ok(publisher.publish(envelopes).await?)
            }
            Self::Lines(lines) => {
                for message in batch {
                    lines.line(&message.to_json()?)?;
                }
                lines.flush()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_named_by_its_kind() {
        for name in ["exchange:x", "queue:a:b", "file:/tmp/x.ndjson", "-"] {
            assert_eq!(Target::parse(name).unwrap().name(), name);
        }
        for wrong in ["", "x", "queue:", "topic:x", "file"] {
            assert!(
                Target::parse(wrong)
                    .unwrap_err()
                    .contains("write exchange:NAME"),
                "{wrong}"
            );
        }
        assert_eq!(Rate::parse("200/s"), Ok(Rate(200)));
        assert!(Rate::parse("0/s").is_err());
    }

    #[test]
    fn a_rate_is_kept_over_any_time_and_not_made_up_for_after_a_pause() {
        let mut bucket = Bucket::new(Rate(200));
        assert_eq!(bucket.step(), 20);
        let began = bucket.filled;
        let mut now = began;
        for _ in 0..50 {
            now += bucket.take(20, now);
        }
        // 1,000 messages, of which the first 20 went at once.
        let took = now.duration_since(began).as_millis();
        assert!((4_890..=4_910).contains(&took), "{took} ms");
        now += Duration::from_mins(1);
        assert_eq!(bucket.take(20, now), Duration::ZERO);
        assert!(bucket.take(20, now) >= Duration::from_millis(99));
    }
}
