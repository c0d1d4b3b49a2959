//! Spans of W3C traces: what took how long, on whose behalf. A request that is sampled says so in its `traceparent`; that
//! goes with its events into the log and through the queue, so whoever works on them adds to the same trace.
//!
//! Refuses: to cost anything where a trace is not sampled or nobody collects, and to hold more than a bounded number of
//! spans.

use std::borrow::Cow;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::clock::unix_nanos;
use crate::metrics::{Counter, Metrics};

/// The most spans that wait to be taken; more are dropped and counted.
const MOST: usize = 8_192;
/// The most links of one span.
const MOST_LINKS: usize = 128;
/// `00-{32}-{16}-{2}`.
const TRACEPARENT_CHARS: usize = 55;
/// The bits of a trace's id that are random in whatever way it was made (W3C Trace Context, level 2).
const RANDOM_BITS: u32 = 56;

static DROPPED: Counter = Counter::new(
    "showcaller_spans_dropped_total",
    "Spans that were lost, since they came quicker than they could be sent.",
);
static RECORDED: Counter = Counter::new("showcaller_spans_total", "Spans of sampled traces.");

/// The metrics of tracing.
pub static METRICS: Metrics = &[&RECORDED, &DROPPED];

static COLLECTING: AtomicBool = AtomicBool::new(false);
/// Of 2^56.
static SAMPLED: AtomicU64 = AtomicU64::new(0);
static WAITING: Mutex<Vec<Record>> = Mutex::new(Vec::new());
static NUMBERS: AtomicU64 = AtomicU64::new(0);

/// A place in a trace: what `traceparent` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// The trace.
    pub trace: u128,
    /// The span that whatever follows belongs under.
    pub span: u64,
    /// Somebody collects the spans of this trace.
    pub sampled: bool,
}

impl Context {
    /// Reads a `traceparent` (W3C Trace Context, section 3.2.2).
    pub fn parse(text: &str) -> Option<Self> {
        let hex = |part: &str, chars: usize| {
            part.len() == chars
                && part
                    .bytes()
                    .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        };
        let mut parts = text.split('-');
        let (version, trace, span, flags) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let whole =
            hex(version, 2) && hex(trace, 32) && hex(span, 16) && hex(flags, 2) && version != "ff";
        // A later version may append fields; version 00 may not.
        if !whole || (version == "00" && text.len() != TRACEPARENT_CHARS) {
            return None;
        }
        Some(Self {
            trace: u128::from_str_radix(trace, 16).ok().filter(|id| *id != 0)?,
            span: u64::from_str_radix(span, 16).ok().filter(|id| *id != 0)?,
            sampled: u8::from_str_radix(flags, 16).ok()? & 1 == 1,
        })
    }

    /// The same, if its spans are collected here. Cheap where they are not.
    pub fn collected(text: Option<&str>) -> Option<Self> {
        let text = text.filter(|text| COLLECTING.load(Ordering::Relaxed) && text.ends_with('1'))?;
        Self::parse(text).filter(|context| context.sampled)
    }

    /// A new span under this one. Its id is made from all that tells it from others: this is no place for secrets.
    fn child(&self, name: &str, began: u64) -> Self {
        let mut hasher = DefaultHasher::new();
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        (self.trace, self.span, name, began, number).hash(&mut hasher);
        Self {
            span: hasher.finish().max(1),
            ..*self
        }
    }
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            trace,
            span,
            sampled,
        } = self;
        write!(f, "00-{trace:032x}-{span:016x}-{:02x}", u8::from(*sampled))
    }
}

/// Begins to collect; of traces that begin here, this share (0 to 1) is sampled.
pub fn collect(share: f64) {
    let all = (1_u64 << RANDOM_BITS) as f64;
    SAMPLED.store((share.clamp(0.0, 1.0) * all) as u64, Ordering::Relaxed);
    COLLECTING.store(true, Ordering::Relaxed);
}

/// Whether a trace that begins here is sampled.
pub fn is_chosen(trace: u128) -> bool {
    let random = trace as u64 & ((1 << RANDOM_BITS) - 1);
    COLLECTING.load(Ordering::Relaxed) && random < SAMPLED.load(Ordering::Relaxed)
}

/// What has ended since the last call.
pub fn take() -> Vec<Record> {
    std::mem::take(&mut *WAITING.lock().unwrap_or_else(PoisonError::into_inner))
}

/// What part a span plays between processes, by OpenTelemetry's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Work inside a process.
    Internal = 1,
    /// A request that is answered.
    Server = 2,
    /// A message that is sent.
    Producer = 4,
    /// A message that is worked on.
    Consumer = 5,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Text.
    Text(String),
    /// A number.
    Number(i64),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(number as i64)
    }
}

/// A span that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its own place.
    pub context: Context,
    /// The span above it, in the same trace.
    pub parent: Option<u64>,
    /// What is done.
    pub name: Cow<'static, str>,
    /// Its part between processes.
    pub kind: Kind,
    /// When it began, in nanoseconds since 1970.
    pub began: u64,
    /// When it ended, likewise.
    pub ended: u64,
    /// What is known of it.
    pub attributes: Vec<(&'static str, Value)>,
    /// Spans of other traces that it has to do with.
    pub links: Vec<Context>,
    /// It did not do what it should.
    pub failed: bool,
}

/// A span that has begun; it ends when it is dropped.
#[derive(Debug)]
pub struct Span(Option<Record>);

impl Span {
    /// Under another span.
    pub fn under(parent: &Context, name: impl Into<Cow<'static, str>>, kind: Kind) -> Self {
        let (name, began) = (name.into(), unix_nanos());
        Self(Some(Record {
            context: parent.child(&name, began),
            parent: Some(parent.span),
            name,
            kind,
            began,
            ended: began,
            attributes: Vec::new(),
            links: Vec::new(),
            failed: false,
        }))
    }

    /// At a place that was made already, under a parent or first in its trace.
    pub fn at(
        context: Context,
        parent: Option<u64>,
        name: impl Into<Cow<'static, str>>,
        kind: Kind,
    ) -> Self {
        let mut span = Self::under(&context, name, kind);
        if let Some(record) = &mut span.0 {
            (record.context, record.parent) = (context, parent);
        }
        span
    }

    /// First in a trace of its own, for work on behalf of several others.
    pub fn of_many(name: &'static str, kind: Kind, links: impl Iterator<Item = Context>) -> Self {
        let links: Vec<_> = links.take(MOST_LINKS).collect();
        let mut hasher = DefaultHasher::new();
        for link in &links {
            (link.trace, link.span).hash(&mut hasher);
        }
        let (half, began) = (hasher.finish(), unix_nanos());
        (name, began).hash(&mut hasher);
        let seed = Context {
            trace: (u128::from(half) << 64) | u128::from(hasher.finish().max(1)),
            span: 0,
            sampled: true,
        };
        let mut span = Self::under(&seed, name, kind);
        if let Some(record) = &mut span.0 {
            (record.parent, record.links) = (None, links);
        }
        span
    }

    /// Where it stands, for what follows from it.
    pub fn context(&self) -> Option<Context> {
        self.0.as_ref().map(|record| record.context)
    }

    /// Says something of it.
    #[must_use]
    pub fn with(mut self, attribute: &'static str, value: impl Into<Value>) -> Self {
        self.say(attribute, value);
        self
    }

    /// Says something of it.
    pub fn say(&mut self, attribute: &'static str, value: impl Into<Value>) {
        if let Some(record) = &mut self.0 {
            record.attributes.push((attribute, value.into()));
        }
    }

    /// It did not do what it should.
    pub fn fail(&mut self) {
        if let Some(record) = &mut self.0 {
            record.failed = true;
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        let Some(mut record) = self.0.take() else {
            return;
        };
        // A clock that was set back makes no span that ends before it began.
        record.ended = unix_nanos().max(record.began);
        let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < MOST {
            RECORDED.add(1);
            waiting.push(record);
        } else {
            DROPPED.add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_traceparent_is_read_and_written_as_the_standard_says() {
        let context = Context::parse(TEXT).unwrap();
        assert!(context.sampled);
        assert_eq!(context.to_string(), TEXT);
        for bad in [
            "",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        ] {
            assert_eq!(Context::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn spans_of_sampled_traces_are_collected_and_keep_their_family() {
        assert_eq!(Context::collected(Some(TEXT)), None, "nobody collects yet");
        assert!(!is_chosen(1));
        collect(0.5);
        assert!(is_chosen(1) && !is_chosen(1 << (RANDOM_BITS - 1)));
        assert_eq!(Context::collected(Some(&TEXT.replace("-01", "-00"))), None);
        let parent = Context::collected(Some(TEXT)).unwrap();
        let first = Span::under(&parent, "first", Kind::Producer).with("number", 7_u64);
        let place = first.context().unwrap();
        let second = Span::under(&place, "second", Kind::Consumer);
        let links = [place, second.context().unwrap()];
        drop(Span::of_many("batch", Kind::Consumer, links.into_iter()));
        drop(second);
        drop(first);
        let ended = take();
        let named = |name: &str| ended.iter().find(|span| span.name == name).unwrap();
        let (batch, second, first) = (named("batch"), named("second"), named("first"));
        assert_eq!(first.context.trace, parent.trace);
        assert_eq!(first.parent, Some(parent.span));
        assert_eq!(second.parent, Some(first.context.span));
        assert_eq!(first.attributes, [("number", Value::Number(7))]);
        assert_eq!((batch.parent, &batch.links[..]), (None, &links[..]));
        assert_ne!(batch.context.trace, parent.trace);
        assert!(first.ended >= second.ended && second.began >= first.began);
    }
}
