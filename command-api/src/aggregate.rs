//! What a decider needs besides its rules to be reached over HTTP: names, parsing, and who may do what.

use events::{DecodeError, DomainEvent, RecordedEvent};
use serde_json::Value;
use uuid::Uuid;
use web::Caller;

use crate::{Decider, Form};

/// A decider with its commands' names. Denied to everyone until [`allows`](Self::allows) says otherwise.
pub trait Aggregate:
    Decider<Event: DomainEvent, Command: Send + Sync> + Clone + Send + Sync + 'static
{
    /// The plural noun in the URL: `/v1/{COLLECTION}`.
    const COLLECTION: &'static str;
    /// The command that `POST /v1/{COLLECTION}` gives, when it may begin a stream in the general way.
    const BEGINS: Option<&'static str> = None;
    /// The commands that `POST /v1/{COLLECTION}/{id}/{command}` gives, in kebab case.
    const COMMANDS: &'static [&'static str];

    /// Every code that [`code`](Self::code) gives, for the description of the API; empty: it leaves them open.
    const CODES: &'static [&'static str] = &[];

    /// Takes a command's fields from its body; `None` for a name that is not known. Problems go to the form. The
    /// description of the API is made by running this over an empty body: which fields it takes must not depend on what
    /// stands in them.
    fn parse(name: &str, form: &mut Form) -> Option<Self::Command>;

    /// Whether the holder of this token may give this command to the stream with this id.
    fn allows(_caller: &Caller, _id: &str, _command: &Self::Command) -> bool {
        false
    }

    /// The person whose data key encrypts this stream's personal fields; `None` where a domain has none.
    fn person(_id: &str) -> Option<Uuid> {
        None
    }

    /// The state for operators' eyes (`showcaller streams state`); personal values as the log holds them. Null: it is
    /// not shown.
    fn shown(&self) -> Value {
        Value::Null
    }

    /// A stable code for a refusal, in snake case: clients rely on it.
    fn code(refusal: &Self::Refusal) -> &'static str;
}

/// A state that takes in one event after another, whichever aggregate's it is: for operators, who only look.
pub trait Folding: Send {
    /// Takes in the stream's next event.
    fn take(&mut self, event: &RecordedEvent) -> Result<(), DecodeError>;

    /// The state now; see [`Aggregate::shown`].
    fn shown(&self) -> Value;
}

struct Folded<A>(A);

impl<A: Aggregate> Folding for Folded<A> {
    fn take(&mut self, event: &RecordedEvent) -> Result<(), DecodeError> {
        let event = A::Event::decode(event)?;
        self.0 = std::mem::take(&mut self.0).evolve(&event);
        Ok(())
    }

    fn shown(&self) -> Value {
        self.0.shown()
    }
}

/// The state of an aggregate before its first event.
pub fn folding<A: Aggregate>() -> Box<dyn Folding> {
    Box::new(Folded(A::default()))
}
