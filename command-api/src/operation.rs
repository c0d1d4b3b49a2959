//! What operators ask of a read model: another build, back to the one before, parked streams once more. The wish is an
//! event, so that it is in order, survives, and tells who wished; the projectors follow these streams and do it.
//!
//! Refuses: to know whether it can be done. That stands in a database that this side does not open.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use event_store::{Append, AppendError, EventStore, Expected};
use events::projection::{CATEGORY, Event};
use events::{Actor, CommandId, Position, StreamId, Version, without_request};
use serde_json::{Map, Value, json};
use web::Caller;

use crate::executor::{Executor, Loaded};
use crate::host::{Answered, Host, Hosted, TypedHost};
use crate::request::CommandRequest;
use crate::routes::{HostBox, Registration};
use crate::{Aggregate, CommandError, Decider, Form, Rule, rules};

/// The scope of everything that operators do.
const OPERATOR: &str = "operator";
/// How often an append starts over when others write the same stream.
const MAX_ATTEMPTS: usize = 20;
/// A stream's name.
const STREAM: Rule = Rule::new(stream)
    .of_length(3, 250)
    .example("account-01890a5d-ac96-774b-bcce-b302099a8057");
/// A part of the error of parked streams.
const CAUSE: Rule = rules::ANY.of_length(1, 500);
/// Why an event is left out.
const REASON: Rule = rules::ANY
    .of_length(1, 500)
    .example("made by a defect of version 3, and harmless");

fn stream(text: &str) -> Result<String, (&'static str, String)> {
    match StreamId::parse(text) {
        Ok(stream) => Ok(stream.to_string()),
        Err(error) => Err(("invalid_stream", error.to_string())),
    }
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Another build beside the live one, to take its place.
    Rebuild {
        /// Only if their rows are the same.
        compare: bool,
    },
    /// The build that was asked for is not wanted any more.
    CancelRebuild,
    /// The build that was live before is to be live again.
    RollBack,
    /// Builds that are kept for going back are not wanted any more.
    DropKept,
    /// Parked streams are to be tried again: one, those whose error holds a text, or all.
    RetryParked {
        /// This one alone.
        stream: Option<StreamId>,
        /// Those whose error holds this text.
        cause: Option<String>,
    },
    /// An event that cannot be projected is left out from now on.
    DiscardParked {
        /// Its stream.
        stream: StreamId,
        /// Where it stands in the log.
        position: Position,
        /// Why.
        reason: String,
    },
}

/// What was asked for so far.
#[derive(Debug, Clone, Default)]
pub struct Operation {
    discarded: BTreeSet<Position>,
}

impl Decider for Operation {
    const CATEGORY: &'static str = CATEGORY;
    type Command = Command;
    type Event = Event;
    type Refusal = Infallible;

    fn decide(&self, command: &Command) -> Result<Vec<Event>, Infallible> {
        let event = match command.clone() {
            Command::Rebuild { compare } => Event::RebuildRequested { compare },
            Command::CancelRebuild => Event::RebuildCancelled {},
            Command::RollBack => Event::RollbackRequested {},
            Command::DropKept => Event::KeptBuildsDropped {},
            Command::RetryParked { stream, cause } => Event::ParkedRetried { stream, cause },
            Command::DiscardParked { position, .. } if self.discarded.contains(&position) => {
                return Ok(Vec::new());
            }
            Command::DiscardParked {
                stream,
                position,
                reason,
            } => Event::ParkedDiscarded {
                stream,
                position,
                reason,
            },
        };
        Ok(vec![event])
    }

    fn evolve(mut self, event: &Event) -> Self {
        if let Event::ParkedDiscarded { position, .. } = event {
            self.discarded.insert(*position);
        }
        self
    }
}

impl Aggregate for Operation {
    const COLLECTION: &'static str = "operator";
    const COMMANDS: &'static [&'static str] = &[
        "rebuild",
        "cancel-rebuild",
        "roll-back",
        "drop-kept",
        "retry-parked",
        "discard-parked",
    ];

    fn parse(name: &str, form: &mut Form) -> Option<Command> {
        match name {
            "rebuild" => Some(Command::Rebuild {
                compare: form.optional_flag("compare"),
            }),
            "cancel-rebuild" => Some(Command::CancelRebuild),
            "roll-back" => Some(Command::RollBack),
            "drop-kept" => Some(Command::DropKept),
            "retry-parked" => {
                let stream = form.optional_text("stream", STREAM);
                Some(Command::RetryParked {
                    stream: stream.and_then(|name| StreamId::parse(&name).ok()),
                    cause: form.optional_text("cause", CAUSE),
                })
            }
            "discard-parked" => {
                let stream = form.text("stream", STREAM);
                let position = form.integer("position", 1..=i64::MAX);
                let reason = form.text("reason", REASON);
                Some(Command::DiscardParked {
                    // What cannot be read has been refused by its rule.
                    stream: StreamId::parse(&stream).ok()?,
                    position: Position::from_i64(position),
                    reason,
                })
            }
            _ => None,
        }
    }

    fn allows(caller: &Caller, _id: &str, _command: &Command) -> bool {
        caller.has_scope(OPERATOR)
    }

    /// What holds for every later build; what became of the other wishes stands beside the tables.
    fn shown(&self) -> Value {
        json!({ "discarded": self.discarded })
    }

    fn code(refusal: &Infallible) -> &'static str {
        match *refusal {}
    }
}

/// Commands on these read models, under `/v1/operator`, for holders of the scope `operator`.
pub fn operations(read_models: BTreeSet<String>) -> Registration {
    Box::new(move |stores, in_flight| {
        let executor = Executor::<Operation>::new(stores.clone(), Arc::clone(in_flight));
        HostBox::new(Arc::new(OperationHost {
            typed: TypedHost(Arc::new(executor)),
            read_models,
        }))
    })
}

/// The host of what operators ask for: of read models that there are.
struct OperationHost {
    typed: TypedHost<Operation>,
    read_models: BTreeSet<String>,
}

#[async_trait]
impl Host for OperationHost {
    fn collection(&self) -> &'static str {
        self.typed.collection()
    }

    fn commands(&self) -> &'static [&'static str] {
        self.typed.commands()
    }

    fn describe(&self) -> Option<Hosted> {
        self.typed.describe()
    }

    async fn act(
        &self,
        request: &CommandRequest,
        caller: &Caller,
        id: &str,
        command: &str,
        body: Map<String, Value>,
    ) -> Result<Answered, CommandError> {
        if !caller.has_scope(OPERATOR) {
            return Err(CommandError::Forbidden);
        }
        if !self.read_models.contains(id) {
            let names: Vec<&str> = self.read_models.iter().map(String::as_str).collect();
            return Err(CommandError::NotFound(format!(
                "there is no read model {id:?}; there are: {}",
                names.join(", ")
            )));
        }
        self.typed.act(request, caller, id, command, body).await
    }
}

/// Asks from where the system runs, without any API: appends to the log. Gives the version of the read model's stream
/// whose event asks for it, or for the same before.
pub async fn ask(
    log: &dyn EventStore,
    read_model: &str,
    command: &Command,
    actor: Actor,
    now: DateTime<Utc>,
) -> Result<Version, CommandError> {
    let stream = StreamId::new(CATEGORY, read_model).map_err(CommandError::fault)?;
    let command_id = CommandId(vault::random_uuid());
    for _ in 0..MAX_ATTEMPTS {
        let unread = Loaded::<Operation>::default();
        let Loaded { state, version } = unread.with_tail(log, &stream).await?;
        let Ok(events) = state.decide(command);
        if events.is_empty() {
            return Ok(version);
        }
        let append = Append {
            stream: stream.clone(),
            expected: Expected::Exact(version),
            command_id,
            events: without_request(&events, command_id, actor.clone(), now)
                .map_err(CommandError::fault)?,
        };
        match log.append(append).await {
            Ok(appended) => return Ok(appended.last),
            Err(AppendError::WrongVersion { .. }) => {}
            Err(AppendError::OtherStream) => return Err(CommandError::KeyReused),
            Err(AppendError::Fault(fault)) => return Err(fault.into()),
        }
    }
    Err(CommandError::Conflict)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::given;

    #[test]
    fn an_event_is_discarded_once_and_everything_else_as_often_as_it_is_asked_for() {
        let stream = || StreamId::parse("account-1").expect("a stream name");
        let discard = || Command::DiscardParked {
            stream: stream(),
            position: Position::new(7),
            reason: "no use".into(),
        };
        let discarded = || Event::ParkedDiscarded {
            stream: stream(),
            position: Position::new(7),
            reason: "no use".into(),
        };
        given::<Operation>([]).when(discard()).then([discarded()]);
        given::<Operation>([discarded()]).when(discard()).then([]);
        let requested = || Event::RebuildRequested { compare: true };
        given::<Operation>([requested()])
            .when(Command::Rebuild { compare: true })
            .then([requested()]);
    }
}
