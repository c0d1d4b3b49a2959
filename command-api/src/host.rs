//! Hosts aggregates behind one object-safe shape, keyed by collection: the general route of every command. A domain that
//! is declared in files would be one more implementation of [`Host`].

use std::sync::Arc;

use async_trait::async_trait;
use events::StreamId;
use serde_json::{Map, Value};
use uuid::Uuid;
use web::Caller;

use crate::executor::Executor;
use crate::order::{Order, Outcome};
use crate::request::{CommandRequest, content};
use crate::{Aggregate, CommandError, Form, policy};

/// An outcome, and what its answer shows besides, once.
pub(crate) struct Answered {
    pub outcome: Outcome,
    pub shown: Map<String, Value>,
}

impl Answered {
    /// An answer that shows the fields of this object besides.
    pub fn showing(outcome: Outcome, shown: Value) -> Self {
        let shown = match shown {
            Value::Object(fields) => fields,
            _ => Map::new(),
        };
        Self { outcome, shown }
    }
}

impl From<Outcome> for Answered {
    fn from(outcome: Outcome) -> Self {
        Self {
            outcome,
            shown: Map::new(),
        }
    }
}

/// What the description of the API says of a team's own aggregate. Commands come with the schemas of their bodies.
pub(crate) struct Hosted {
    pub collection: &'static str,
    pub begins: Option<(&'static str, Value)>,
    pub commands: Vec<(&'static str, Value)>,
    /// The codes of its refusals; empty where they are not listed.
    pub codes: &'static [&'static str],
    /// Its streams can be forgotten.
    pub personal: bool,
}

/// A kind of aggregate that takes commands over HTTP.
#[async_trait]
pub(crate) trait Host: Send + Sync {
    /// The plural noun in the URL.
    fn collection(&self) -> &'static str;

    /// Whether `POST /v1/{collection}` with a token begins one.
    fn begins(&self) -> bool {
        false
    }

    /// The commands on its streams.
    fn commands(&self) -> &'static [&'static str];

    /// The category of streams that are a person's, one each, under the person's id.
    fn personal(&self) -> Option<&'static str> {
        None
    }

    /// What the description says of it; `None` where that is said elsewhere.
    fn describe(&self) -> Option<Hosted> {
        None
    }

    /// Refuses a command that there is none of.
    fn known(&self, command: &str) -> Result<(), CommandError> {
        if self.commands().contains(&command) {
            return Ok(());
        }
        Err(CommandError::NotFound(format!(
            "{command:?} is no command of {}; there are: {}",
            self.collection(),
            self.commands().join(", ")
        )))
    }

    /// Carries out the command that begins a stream.
    async fn begin(
        &self,
        _request: &CommandRequest,
        _caller: &Caller,
        _body: Map<String, Value>,
    ) -> Result<Answered, CommandError> {
        Err(no_beginning(self.collection()))
    }

    /// Carries out a command on a stream.
    async fn act(
        &self,
        request: &CommandRequest,
        caller: &Caller,
        id: &str,
        command: &str,
        body: Map<String, Value>,
    ) -> Result<Answered, CommandError>;
}

fn no_beginning(collection: &str) -> CommandError {
    CommandError::NotFound(format!("POST /v1/{collection} is no command"))
}

pub(crate) fn no_id(id: &str, collection: &str) -> CommandError {
    CommandError::NotFound(format!("{id:?} cannot be an id in {collection}"))
}

/// The host of a typed decider.
pub(crate) struct TypedHost<A: Aggregate>(pub Arc<Executor<A>>);

#[async_trait]
impl<A: Aggregate> Host for TypedHost<A> {
    fn collection(&self) -> &'static str {
        A::COLLECTION
    }

    fn begins(&self) -> bool {
        A::BEGINS.is_some()
    }

    fn commands(&self) -> &'static [&'static str] {
        A::COMMANDS
    }

    fn personal(&self) -> Option<&'static str> {
        let anybody = Uuid::nil();
        (A::person(&anybody.to_string()) == Some(anybody)).then_some(A::CATEGORY)
    }

    fn describe(&self) -> Option<Hosted> {
        let body = |name| (name, Form::describe(|form| _ = A::parse(name, form)));
        Some(Hosted {
            collection: A::COLLECTION,
            begins: A::BEGINS.map(body),
            commands: A::COMMANDS.iter().copied().map(body).collect(),
            codes: A::CODES,
            personal: A::person(&Uuid::nil().to_string()).is_some(),
        })
    }

    async fn begin(
        &self,
        request: &CommandRequest,
        caller: &Caller,
        body: Map<String, Value>,
    ) -> Result<Answered, CommandError> {
        let Some(name) = A::BEGINS else {
            return Err(no_beginning(A::COLLECTION));
        };
        let command_id = request.command_id(
            &self.0.stores().keys,
            &caller.account.to_string(),
            A::CATEGORY,
        );
        let id = command_id.derive("stream").to_string();
        self.carry_out(request, caller, &id, name, command_id, body)
            .await
            .map(Answered::from)
    }

    async fn act(
        &self,
        request: &CommandRequest,
        caller: &Caller,
        id: &str,
        command: &str,
        body: Map<String, Value>,
    ) -> Result<Answered, CommandError> {
        self.known(command)?;
        let target = format!("{}-{id}", A::CATEGORY);
        let command_id =
            request.command_id(&self.0.stores().keys, &caller.account.to_string(), &target);
        self.carry_out(request, caller, id, command, command_id, body)
            .await
            .map(Answered::from)
    }
}

impl<A: Aggregate> TypedHost<A> {
    async fn carry_out(
        &self,
        request: &CommandRequest,
        caller: &Caller,
        id: &str,
        name: &str,
        command_id: events::CommandId,
        body: Map<String, Value>,
    ) -> Result<Outcome, CommandError> {
        let stream = StreamId::new(A::CATEGORY, id).map_err(|_| no_id(id, A::COLLECTION))?;
        let content = content(name, &body);
        let mut form = Form::new(body, request.origin.now, Some(caller.account));
        let command = A::parse(name, &mut form).ok_or_else(|| {
            CommandError::fault(format!(
                "{} declares {name:?} but does not parse it",
                A::COLLECTION
            ))
        })?;
        // Who may not do it learns nothing of what would be valid. A program acts for its owner only where its key says so.
        let may_act =
            policy::acts_as_owner(caller) || caller.has_scope(&format!("{}:write", A::COLLECTION));
        if !may_act || !A::allows(caller, id, &command) {
            return Err(CommandError::Forbidden);
        }
        let command = form.whole(Some(command))?;
        self.0
            .execute(Order {
                stream: &stream,
                person: A::person(id),
                command: &command,
                command_id,
                retryable: request.idempotency_key.is_some(),
                content: &content,
                if_match: request.if_match,
                origin: &request.origin,
            })
            .await
    }
}
