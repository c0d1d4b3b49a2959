//! From what a client proposes to an append of the log, and from its outcome to the protocol's. Append and BatchAppend
//! share it. It refuses what the log cannot hold, and envelopes from those who may not write them.

use event_store::envelope::{CAUSATION, CORRELATION, Envelope, KEY};
use event_store::{Append, AppendError, Appended, Expected};
use events::{CommandId, EventId, Hash, Metadata, NewEvent, StreamId, Version};
use futures::StreamExt;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

use crate::access::{Access, denied};
use crate::messages::append::{
    AppendAnswer, AppendPart, AppendRequest, AppendResult, ExpectedState, Success, Where,
    WrongVersion,
};
use crate::messages::{CONTENT_TYPE, JSON, ProposedEvent, StreamName, TYPE};
use crate::node::{Node, fault, revision, version};

/// What a client wants appended, as it arrives.
#[derive(Default)]
pub(crate) struct Proposal {
    pub stream: Vec<u8>,
    pub expected: Option<ExpectedState>,
    pub events: Vec<ProposedEvent>,
    bytes: usize,
}

/// What became of it.
pub(crate) enum Outcome {
    /// It is in the log.
    Success(Success),
    /// The stream is not what was expected; its last revision, if it has one.
    WrongVersion(Option<u64>, ExpectedState),
}

/// Why there is no outcome.
pub(crate) enum Refusal {
    /// The log cannot hold this; says why.
    Invalid(String),
    /// More than goes in together.
    TooLarge,
    /// The caller may not.
    Denied(&'static str),
    /// Something broke.
    Fault(Status),
}

impl Proposal {
    pub fn new(stream: Option<StreamName>, expected: Option<ExpectedState>) -> Self {
        Self {
            stream: stream.unwrap_or_default().name,
            expected,
            ..Self::default()
        }
    }

    /// How many bytes it has, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes one more event, within the bounds of an append.
    pub fn push(&mut self, event: ProposedEvent) -> Result<(), Refusal> {
        self.bytes += event.data.len() + event.metadata.len();
        self.events.push(event);
        // Envelopes add to the metadata of each event: this only keeps memory bounded, the store judges exactly.
        if self.bytes > 2 * event_store::MAX_BYTES || self.events.len() > event_store::MAX_EVENTS {
            return Err(Refusal::TooLarge);
        }
        Ok(())
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Invalid(why) => Self::invalid_argument(why),
            Refusal::Denied(why) => denied(why),
            Refusal::Fault(status) => status,
            Refusal::TooLarge => {
                let mut status = Self::invalid_argument(format!(
                    "at most {} events and {} bytes go in together",
                    event_store::MAX_EVENTS,
                    event_store::MAX_BYTES
                ));
                let exception =
                    tonic::metadata::MetadataValue::from_static("maximum-append-size-exceeded");
                status.metadata_mut().insert("exception", exception);
                status
                    .metadata_mut()
                    .insert("maximum-append-size", event_store::MAX_BYTES.into());
                status
            }
        }
    }
}

/// Answers one Append.
pub(crate) async fn append(
    node: &Node,
    request: Request<Streaming<AppendRequest>>,
) -> Result<Response<AppendAnswer>, Status> {
    let access = node.admit(request.metadata()).await?;
    let mut parts = request.into_inner();
    let mut proposal: Option<Proposal> = None;
    while let Some(part) = parts.next().await {
        match (part?.part, &mut proposal) {
            (Some(AppendPart::Where(Where { stream, expected })), None) => {
                proposal = Some(Proposal::new(stream, expected));
            }
            (Some(AppendPart::Event(event)), Some(proposal)) => proposal.push(event)?,
            _ => {
                return Err(Status::invalid_argument(
                    "an append is its stream first, then its events",
                ));
            }
        }
    }
    let proposal =
        proposal.ok_or_else(|| Status::invalid_argument("the append names no stream"))?;
    let result = match carry_out(node, &access, proposal).await? {
        Outcome::Success(success) => AppendResult::Success(success),
        Outcome::WrongVersion(current, expected) => {
            AppendResult::WrongVersion(WrongVersion::new(current, expected))
        }
    };
    Ok(Response::new(AppendAnswer {
        result: Some(result),
    }))
}

/// Appends what was proposed, or finds it in the log.
pub(crate) async fn carry_out(
    node: &Node,
    access: &Access,
    proposal: Proposal,
) -> Result<Outcome, Refusal> {
    let state = proposal
        .expected
        .ok_or_else(|| Refusal::Invalid("the append says not what it expects".into()))?;
    let (append, hash) = parse(node, access, proposal)?;
    let (stream, ids): (_, Vec<EventId>) = (
        append.stream.clone(),
        append.events.iter().map(|event| event.id).collect(),
    );
    match node.store.append(append).await {
        Ok(appended)
            if appended.repeated
                && (hash.is_some_and(|hash| hash != appended.hash)
                    || !is_same(node, &stream, &ids, &appended).await?) =>
        {
            let current = node.store.stream_version(&stream).await;
            let current = current.map_err(|error| Refusal::Fault(fault(&error)))?;
            Ok(Outcome::WrongVersion(Some(revision(current)), state))
        }
        Ok(appended) => Ok(Outcome::Success(Success::new(
            revision(appended.last),
            node.on_wire(appended.position),
        ))),
        Err(AppendError::WrongVersion { actual }) => Ok(Outcome::WrongVersion(
            (actual > Version::ZERO).then(|| revision(actual)),
            state,
        )),
        Err(AppendError::OtherStream) => Err(Refusal::Invalid(
            "this command was carried out on another stream".into(),
        )),
        // What clients can do wrong was found before: this is the append's size, or a fault.
        Err(AppendError::Fault(event_store::Error::Invalid(why))) => Err(Refusal::Invalid(why)),
        Err(AppendError::Fault(error)) => Err(Refusal::Fault(fault(&error))),
    }
}

/// Whether the events that stand there are the proposed ones. If not, the first of them was appended before with others.
async fn is_same(
    node: &Node,
    stream: &StreamId,
    ids: &[EventId],
    appended: &Appended,
) -> Result<bool, Refusal> {
    let before = version_before(appended.first);
    if appended.last.get() - before.get() != ids.len() as u64 {
        return Ok(false);
    }
    let stored = node.store.read_stream(stream, before, ids.len()).await;
    let stored = stored.map_err(|error| Refusal::Fault(fault(&error)))?;
    Ok(stored.iter().map(|event| event.id).eq(ids.iter().copied()))
}

fn version_before(first: Version) -> Version {
    Version::new(first.get().saturating_sub(1))
}

/// The append, and the hash that its last event is said to have: with another, what stands there is not this.
fn parse(
    node: &Node,
    access: &Access,
    proposal: Proposal,
) -> Result<(Append, Option<Hash>), Refusal> {
    let stream = stream(&proposal.stream)?;
    let decided = node.deciders.contains(stream.category());
    if decided && !access.append {
        return Err(Refusal::Denied(
            "this category has a decider: appending to it needs the scope log:append",
        ));
    }
    if !access.append && !access.write {
        return Err(Refusal::Denied("appending needs the scope log:write"));
    }
    let mut drafts = Vec::with_capacity(proposal.events.len());
    for event in proposal.events {
        drafts.push(Draft::parse(event)?);
    }
    let Some(first) = drafts.first() else {
        return Err(Refusal::Invalid("the append has no events".into()));
    };
    let command_id = match &first.envelope {
        None => CommandId(CommandId(first.id).derive(&format!("eventstore/{stream}"))),
        Some(_) if !access.append => {
            return Err(Refusal::Denied(
                "writing envelopes needs the scope log:append",
            ));
        }
        Some(envelope) => envelope.command_id.ok_or_else(|| {
            Refusal::Invalid("the first event's envelope has no command_id".into())
        })?,
    };
    let enveloped = first.envelope.is_some();
    let last = drafts.last().and_then(|last| last.envelope.as_ref());
    let hash = last.map(|envelope| envelope.hash);
    let mut events = Vec::with_capacity(drafts.len());
    for draft in drafts {
        if draft.envelope.is_some() != enveloped {
            return Err(Refusal::Invalid(
                "either every event of an append has an envelope, or none".into(),
            ));
        }
        events.push(draft.finish(node, access, command_id)?);
    }
    let append = Append {
        stream,
        expected: expected(proposal.expected),
        command_id,
        events,
    };
    Ok((append, hash))
}

fn expected(state: Option<ExpectedState>) -> Expected {
    match state {
        Some(ExpectedState::Revision(r)) => Expected::Exact(version(r)),
        Some(ExpectedState::NoStream(())) => Expected::Exact(Version::ZERO),
        Some(ExpectedState::StreamExists(())) => Expected::Exists,
        Some(ExpectedState::Any(())) | None => Expected::Any,
    }
}

/// The stream of this name, if the log can hold it.
fn stream(name: &[u8]) -> Result<StreamId, Refusal> {
    let invalid = |why: String| Refusal::Invalid(why);
    let name =
        std::str::from_utf8(name).map_err(|_| invalid("the stream's name is not UTF-8".into()))?;
    if name.starts_with('$') {
        return Err(invalid(format!(
            "{name} is a system stream; those are not served"
        )));
    }
    StreamId::parse(name).map_err(|error| invalid(error.to_string()))
}

/// An event that a client proposes, looked through.
struct Draft {
    id: Uuid,
    type_name: String,
    data: String,
    envelope: Option<Envelope>,
    /// The client's own metadata, where there is no envelope.
    client: Option<String>,
}

/// The envelope's metadata for an event of a client that has none.
#[derive(Serialize)]
struct Foreign<'a> {
    #[serde(flatten)]
    metadata: &'a Metadata,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<&'a RawValue>,
}

impl Draft {
    fn parse(event: ProposedEvent) -> Result<Self, Refusal> {
        let id = event.id.as_ref().and_then(crate::messages::Id::uuid);
        let id = id.ok_or_else(|| Refusal::Invalid("an event has no valid id".into()))?;
        let invalid = |what: String| Refusal::Invalid(format!("event {id}: {what}"));
        let mut properties = event.properties;
        let type_name = properties.remove(TYPE).unwrap_or_default();
        if type_name.starts_with('$') {
            return Err(invalid(format!(
                "{type_name} is a system event; those are not served"
            )));
        }
        let form = properties.get(CONTENT_TYPE).map_or(JSON, String::as_str);
        if form != JSON {
            return Err(invalid(format!(
                "its data is {form}; the log holds {JSON} only: write binary data as base64 in JSON"
            )));
        }
        let data =
            String::from_utf8(event.data).map_err(|_| invalid("its data is not UTF-8".into()))?;
        if event.metadata.is_empty() {
            return Ok(Self {
                id,
                type_name,
                data,
                envelope: None,
                client: None,
            });
        }
        let envelope = Envelope::from_user_metadata(&event.metadata, KEY);
        let client = match envelope {
            Some(_) => None,
            None => Some(client_metadata(event.metadata).map_err(invalid)?),
        };
        Ok(Self {
            id,
            type_name,
            data,
            envelope,
            client,
        })
    }

    fn finish(
        self,
        node: &Node,
        access: &Access,
        command_id: CommandId,
    ) -> Result<NewEvent, Refusal> {
        let (id, schema_version, metadata) = match self.envelope {
            // The hash it comes with is not stored: the store chains it anew, to the same value.
            Some(envelope) => (envelope.id, envelope.schema_version, envelope.metadata),
            None => (
                EventId(self.id),
                1,
                foreign_metadata(node, access, command_id, self.client.as_deref()).map_err(
                    |error| Refusal::Invalid(format!("event {}: its metadata: {error}", self.id)),
                )?,
            ),
        };
        Ok(NewEvent {
            id,
            type_name: self.type_name,
            schema_version,
            data: self.data,
            metadata,
        })
    }
}

/// A client's own metadata: a JSON object that leaves the envelope's key alone.
fn client_metadata(bytes: Vec<u8>) -> Result<String, String> {
    let text = String::from_utf8(bytes).map_err(|_| "its metadata is not UTF-8".to_owned())?;
    let object: Map<String, Value> =
        serde_json::from_str(&text).map_err(|_| "its metadata is not a JSON object".to_owned())?;
    if object.contains_key(KEY) {
        return Err(format!(
            "its metadata has the key {KEY:?} without a whole envelope under it"
        ));
    }
    Ok(text.trim().to_owned())
}

fn foreign_metadata(
    node: &Node,
    access: &Access,
    command_id: CommandId,
    client: Option<&str>,
) -> Result<String, serde_json::Error> {
    let client: Option<&RawValue> = client.map(serde_json::from_str).transpose()?;
    let keys: Map<String, Value> = match client {
        Some(client) => serde_json::from_str(client.get())?,
        None => Map::new(),
    };
    let named = |key: &str| keys.get(key)?.as_str()?.parse::<Uuid>().ok();
    let now = (node.clock)();
    let metadata = Metadata {
        command_id,
        correlation_id: named(CORRELATION).unwrap_or(command_id.0),
        causation_id: named(CAUSATION).unwrap_or(command_id.0),
        actor: access.actor.clone(),
        session: None,
        address: None,
        recorded_at: now,
        fingerprint: None,
        traceparent: None,
    };
    serde_json::to_string(&Foreign {
        metadata: &metadata,
        client,
    })
}
