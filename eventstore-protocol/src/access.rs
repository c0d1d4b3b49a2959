//! Who may do what with the served log. It refuses to know how credentials are kept: a [`Gate`] does.

use async_trait::async_trait;
use events::Actor;
use tonic::Status;
use tonic::metadata::MetadataMap;

/// What a caller may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// Who the events say it was.
    pub actor: Actor,
    /// Read and subscribe.
    pub read: bool,
    /// Append to categories that have no decider.
    pub write: bool,
    /// Append to every category, with an envelope of its own making.
    pub append: bool,
}

/// Why a caller is not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// There is no valid credential; says what to send.
    Unauthenticated(String),
    /// Whether it is valid cannot be found out now.
    Unavailable,
}

/// Lets callers in.
#[async_trait]
pub trait Gate: Send + Sync + 'static {
    /// What the sender of this `authorization` value may do. Asked for every request, and every second for as long as a
    /// subscription lasts.
    async fn admit(&self, authorization: Option<&str>) -> Result<Access, Denied>;
}

/// Lets everybody do everything: for tests and for machines of one's own.
#[derive(Debug, Clone, Copy, Default)]
pub struct OpenGate;

#[async_trait]
impl Gate for OpenGate {
    async fn admit(&self, _authorization: Option<&str>) -> Result<Access, Denied> {
        Ok(Access {
            actor: Actor::System("eventstore-protocol".into()),
            read: true,
            write: true,
            append: true,
        })
    }
}

/// The `authorization` value of a request; one that is no text is no credential.
pub(crate) fn authorization(metadata: &MetadataMap) -> Option<String> {
    let value = metadata.get("authorization")?;
    Some(value.to_str().unwrap_or("?").to_owned())
}

impl From<Denied> for Status {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Unauthenticated(advice) => Self::unauthenticated(advice),
            Denied::Unavailable => {
                Self::unavailable("credentials cannot be checked right now: try again")
            }
        }
    }
}

/// Refuses a caller who may not read.
pub(crate) fn may_read(access: &Access) -> Result<(), Status> {
    if access.read {
        return Ok(());
    }
    Err(denied("reading the log needs the scope log:read"))
}

/// A refusal in the protocol's form.
pub(crate) fn denied(why: &str) -> Status {
    let mut status = Status::permission_denied(why);
    status.metadata_mut().insert(
        "exception",
        tonic::metadata::MetadataValue::from_static("access-denied"),
    );
    status
}
