//! The official client, and its supervisor: whatever fails on it in passing, it is thrown away and made anew, since a
//! client that once found its node gone may never look for another. Nothing is awaited without a bound. It refuses to
//! show the URL, which may hold a password.

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ::eventstore::{
    AppendToStreamOptions, BatchAppendOptions, Client, ClientSettings, Credentials,
    Error as ClientError, ReadAllOptions, ReadStreamOptions, SubscribeToAllOptions,
};
use percent_encoding::percent_decode_str;
use tokio::time::Instant;
use url::Url;
use url::form_urlencoded::{self, Serializer};

use super::names::Names;
use crate::Error;

/// How long one answer may take; a stream of answers, from one to the next. Short enough that an append which a silent node
/// keeps waiting can still go to another one within the writer's time.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// How long the first event of the log may take, where the server looks through others for it.
pub(super) const SEARCH: Duration = Duration::from_secs(30);
/// For how long a call is tried anew, each time with a client made anew, and the pause between: a cluster needs a few
/// seconds to find another leader.
const INSIST: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(200);
/// What the client is told where the URL says nothing: only the leader knows everything that was acknowledged; it waits so
/// many milliseconds before each look for a node, the first included; and a node that does not say who it is within this
/// time is passed over.
const DEFAULTS: [(&str, &str); 3] = [
    ("nodePreference", "leader"),
    ("discoveryInterval", "50"),
    ("gossipTimeout", "1000"),
];
/// The parameter that names one of several logs on one server. The client must not see it.
const LOG: &str = "log";

/// Why a call has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The server is away, or has another leader: trying again may help.
    Passing(String),
    /// There is no such stream.
    Missing,
    /// The stream is not at the expected revision.
    Conflict,
    /// Trying again will not help.
    Lasting(String),
}

impl From<ClientError> for Trouble {
    fn from(error: ClientError) -> Self {
        // gRPC's codes, by number.
        const INVALID_ARGUMENT: i32 = 3;
        const ALREADY_EXISTS: i32 = 6;
        const PERMISSION_DENIED: i32 = 7;
        const OUT_OF_RANGE: i32 = 11;
        const UNIMPLEMENTED: i32 = 12;
        const UNAUTHENTICATED: i32 = 16;
        let denied = || {
            Self::Lasting(
                "EventStoreDB refuses these credentials, or what they may do: put others into the URL of --events"
                    .into(),
            )
        };
        match error {
            ClientError::ResourceNotFound => Self::Missing,
            ClientError::WrongExpectedVersion { .. } => Self::Conflict,
            ClientError::AccessDenied => denied(),
            ClientError::ResourceDeleted => Self::Lasting(
                "the stream was deleted in EventStoreDB: a log keeps everything, so restore it from a backup".into(),
            ),
            ClientError::UnsupportedFeature => Self::Lasting(
                "this server cannot append in batches: EventStoreDB 21.10 or newer is needed".into(),
            ),
            ClientError::Grpc { code, message } => match i32::from(code) {
                ALREADY_EXISTS => Self::Conflict,
                PERMISSION_DENIED | UNAUTHENTICATED => denied(),
                INVALID_ARGUMENT | OUT_OF_RANGE | UNIMPLEMENTED => {
                    Self::Lasting(format!("EventStoreDB refuses this: {message}"))
                }
                _ => Self::Passing(message),
            },
            other => Self::Passing(other.to_string()),
        }
    }
}

impl From<Trouble> for Error {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Passing(why) => Self::Unavailable(why),
            Trouble::Lasting(why) => Self::Invalid(why),
            Trouble::Missing => Self::Invalid("a stream of the log has disappeared".into()),
            Trouble::Conflict => Self::Unavailable("another process was quicker".into()),
        }
    }
}

/// A future's result, if it comes in time.
pub(super) fn in_time<T>(
    act: impl Future<Output = Result<T, ClientError>>,
) -> impl Future<Output = Result<T, ClientError>> {
    within(PATIENCE, act)
}

/// The same, within another time.
pub(super) async fn within<T>(
    patience: Duration,
    act: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    tokio::time::timeout(patience, act)
        .await
        .unwrap_or(Err(ClientError::DeadlineExceeded))
}

/// The log that a URL names, and the parameters for the client: those of the URL, and [`DEFAULTS`] for what it leaves out.
fn parameters(query: &str) -> (Option<String>, String) {
    let mut log = None;
    let mut others = Serializer::new(String::new());
    let mut given = Vec::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        if name == LOG {
            log = Some(value.into_owned());
            continue;
        }
        others.append_pair(&name, &value);
        given.push(name.to_ascii_lowercase());
    }
    for (name, value) in DEFAULTS {
        if !given.contains(&name.to_ascii_lowercase()) {
            others.append_pair(name, value);
        }
    }
    (log, others.finish())
}

struct Current {
    /// Rises with each client.
    number: u64,
    client: Option<Client>,
}

/// The way to the server.
pub(super) struct Connection {
    settings: ClientSettings,
    names: Names,
    credentials: Option<Credentials>,
    current: Mutex<Current>,
}

impl Connection {
    /// Checks the URL; connects with the first call.
    pub(super) fn new(url: &str) -> Result<Self, Error> {
        let invalid = || {
            Error::Invalid(
                "the event store's URL cannot be read: write for example esdb://USER:PASSWORD@HOST:2113, or \
                 esdb://HOST:2113?tls=false on a machine of your own"
                    .into(),
            )
        };
        // The client reads several hosts separated by commas, which a URL knows nothing of.
        let (place, query) = url.split_once('?').unwrap_or((url, ""));
        let parsed = Url::parse(&place.replace(',', "/")).map_err(|_| invalid())?;
        let (log, others) = parameters(query);
        let names = Names::new(log.as_deref())?;
        let settings: ClientSettings =
            format!("{place}?{others}").parse().map_err(|_| invalid())?;
        // The client takes user and password as the URL writes them, percent signs and all.
        let plain = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let credentials = (!parsed.username().is_empty()).then(|| {
            Credentials::new(
                plain(parsed.username()),
                plain(parsed.password().unwrap_or_default()),
            )
        });
        Ok(Self {
            settings,
            names,
            credentials,
            current: Mutex::new(Current {
                number: 0,
                client: None,
            }),
        })
    }

    /// The client and its number.
    pub(super) fn client(&self) -> Result<(u64, Client), Trouble> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = &current.client {
            return Ok((current.number, client.clone()));
        }
        let client = Client::new(self.settings.clone()).map_err(|error| {
            Trouble::Lasting(format!(
                "a client for EventStoreDB cannot be made (its certificates?): {error:#}"
            ))
        })?;
        current.number += 1;
        current.client = Some(client.clone());
        Ok((current.number, client))
    }

    /// What streams are called on the server.
    pub(super) fn names(&self) -> &Names {
        &self.names
    }

    /// Whether a client has not been thrown away since.
    pub(super) fn is_current(&self, number: u64) -> bool {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.number == number && current.client.is_some()
    }

    /// Throws a client away, if it is still the current one.
    pub(super) fn broken(&self, number: u64) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.number == number {
            current.client = None;
        }
    }

    /// Throws the client away.
    pub(super) fn close(&self) {
        self.current
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .client = None;
    }

    /// The client does not say why it cannot connect, so whoever named the wrong certificates is told what it may be.
    fn trouble(&self, error: ClientError) -> Trouble {
        let connecting = matches!(error, ClientError::GrpcConnectionError(_));
        match Trouble::from(error) {
            Trouble::Passing(why) if connecting && self.settings.is_secure_mode_enabled() => {
                Trouble::Passing(format!(
                    "{why} Either it is down, or its certificate is none that this machine, or the URL's tlsCaFile, trusts."
                ))
            }
            trouble => trouble,
        }
    }

    /// Makes a call that may be repeated, over what passes.
    pub(super) async fn call<T, F>(&self, act: impl Fn(Client) -> F) -> Result<T, Trouble>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let deadline = Instant::now() + INSIST;
        loop {
            let (number, client) = self.client()?;
            match act(client).await.map_err(|error| self.trouble(error)) {
                Err(Trouble::Passing(why)) => {
                    self.broken(number);
                    if Instant::now() >= deadline {
                        return Err(Trouble::Passing(why));
                    }
                    tracing::debug!(why, "EventStoreDB did not answer; trying again");
                    tokio::time::sleep(PAUSE).await;
                }
                result => return result,
            }
        }
    }
}

/// What all operations share: they go to the leader, as whom the URL says.
macro_rules! options {
    ($($name:ident -> $options:ty;)+) => {
        impl Connection {
            $(
                pub(super) fn $name(&self) -> $options {
                    let options = <$options>::default().requires_leader(true);
                    match &self.credentials {
                        Some(credentials) => options.authenticated(credentials.clone()),
                        None => options,
                    }
                }
            )+
        }
    };
}

options! {
    append_options -> AppendToStreamOptions;
    batch_options -> BatchAppendOptions;
    read_all_options -> ReadAllOptions;
    read_stream_options -> ReadStreamOptions;
    subscription_options -> SubscribeToAllOptions;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_url_leaves_out_is_filled_in_and_the_logs_name_stays_here() {
        let (log, others) = parameters("tls=false&log=blue&GOSSIPTIMEOUT=5&tlsCaFile=/a,b%20c");
        assert_eq!(log.as_deref(), Some("blue"));
        assert_eq!(
            others,
            "tls=false&GOSSIPTIMEOUT=5&tlsCaFile=%2Fa%2Cb+c&nodePreference=leader&discoveryInterval=50"
        );
        for url in [
            "esdb://a",
            "esdb://u:p%40w@a,b:2114,c?tls=false",
            "esdb+discover://a?log=blue",
        ] {
            assert!(Connection::new(url).is_ok(), "{url}");
        }
        assert!(Connection::new("esdb://a?log=Blue").is_err());
    }
}
