//! What every command request carries besides its body, parsed: who, when, If-Match, Idempotency-Key, the position token.

use axum::extract::{FromRef, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use events::{Actor, CommandId, Version};
use web::{AFTER_HEADER, Caller, ClientAddress, PositionToken, Problem, TraceContext};

use crate::Origin;
use crate::routes::CommandState;

const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Most characters of an Idempotency-Key.
pub(crate) const IDEMPOTENCY_KEY_CHARS: usize = 255;
/// How much of a client's name is kept.
const DEVICE_CHARS: usize = 200;

/// The parts of a request that every command shares.
pub(crate) struct CommandRequest {
    pub origin: Origin,
    pub if_match: Option<Version>,
    pub idempotency_key: Option<String>,
    pub after: Option<PositionToken>,
    /// What the client calls itself.
    pub device: Option<String>,
}

impl<S> FromRequestParts<S> for CommandRequest
where
    S: Send + Sync,
    CommandState: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let state = CommandState::from_ref(state);
        let address = ClientAddress::from_request_parts(parts, &())
            .await
            .ok()
            .map(|address| address.0.to_string());
        let trace = parts.extensions.get::<TraceContext>();
        let after = match single(&parts.headers, AFTER_HEADER)? {
            Some(text) => Some(PositionToken::open(text, state.keys())?),
            None => None,
        };
        Ok(Self {
            origin: Origin {
                actor: Actor::Anonymous,
                session: None,
                address,
                now: state.now(),
                correlation_id: trace.map_or_else(vault::random_uuid, |trace| trace.correlation_id),
                traceparent: trace.map(|trace| trace.traceparent.clone()),
            },
            if_match: if_match(&parts.headers)?,
            idempotency_key: idempotency_key(&parts.headers)?,
            after,
            device: device(&parts.headers),
        })
    }
}

impl CommandRequest {
    /// Notes who acts.
    pub fn by(mut self, caller: &Caller) -> Self {
        self.origin.actor = Actor::Account(caller.account);
        self.origin.session = caller.session();
        self
    }

    /// The command's id: derived from who gives it to what under which key; random without a key.
    pub fn command_id(&self, keys: &vault::Keys, principal: &str, target: &str) -> CommandId {
        match &self.idempotency_key {
            Some(key) => keys.command_id(principal, target, key),
            None => CommandId(vault::random_uuid()),
        }
    }
}

fn single<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, Problem> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(|text| Some(text.trim())).map_err(|_| {
            Problem::malformed(format!("the header {name} holds characters outside ASCII"))
        }),
        (Some(_), Some(_)) => Err(Problem::malformed(format!("send the header {name} once"))),
    }
}

/// `User-Agent`, as far as it is text, and no longer than is of use.
fn device(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(header::USER_AGENT)?.to_str().ok()?;
    let text: String = text
        .chars()
        .filter(|c| !c.is_control())
        .take(DEVICE_CHARS)
        .collect();
    (!text.is_empty()).then_some(text)
}

fn if_match(headers: &HeaderMap) -> Result<Option<Version>, Problem> {
    let Some(text) = single(headers, header::IF_MATCH.as_str())? else {
        return Ok(None);
    };
    // A row's ETag is its version and a representation; only the version counts here.
    let version = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
        .and_then(|text| text.split('.').next())
        .and_then(|text| text.parse().ok());
    match version {
        Some(version) => Ok(Some(Version::new(version))),
        None => Err(Problem::malformed(
            "write If-Match as the ETag of an earlier answer, like \"3\"",
        )),
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(text) = single(headers, IDEMPOTENCY_KEY)? else {
        return Ok(None);
    };
    if text.is_empty() || text.len() > IDEMPOTENCY_KEY_CHARS {
        return Err(Problem::malformed(format!(
            "an Idempotency-Key has 1 to {IDEMPOTENCY_KEY_CHARS} characters; a new UUID serves well"
        )));
    }
    Ok(Some(text.to_owned()))
}

/// Fields of bodies that leave no trace, not even a keyed hash.
const SECRETS: [&str; 4] = ["password", "new_password", "code", "token"];

/// The body without what must not be in a fingerprint, after the command's name: what tells one command from another.
pub fn content(name: &str, fields: &serde_json::Map<String, serde_json::Value>) -> Vec<u8> {
    let mut fields = fields.clone();
    for secret in SECRETS {
        fields.remove(secret);
    }
    let mut content = [name.as_bytes(), b"\n"].concat();
    serde_json::to_writer(&mut content, &fields).expect("a JSON object is JSON");
    content
}
