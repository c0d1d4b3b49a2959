//! The SMTP adapter: STARTTLS or TLS from the first byte, a small pool, and a bound on every wait.
//!
//! Refuses: to send over an open line to any host but this one, and to repeat what a server says beyond its codes, since
//! servers like to repeat addresses.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{
    AsyncSmtpConnection, Certificate, TlsParameters, TlsParametersBuilder,
};
use lettre::transport::smtp::commands::{Data, Mail as MailFrom, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailBodyParameter, MailParameter};
use lettre::transport::smtp::{Error as Failure, response::Response};
use percent_encoding::percent_decode_str;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};
use url::{Host, Url};

use crate::letter::Mail;
use crate::{Error, SendError};

/// The most connections at once; the other mails wait for one.
const CONNECTIONS: usize = 4;
/// An idle connection older than this is not used again: servers close them after some minutes.
const IDLE: Duration = Duration::from_mins(1);
/// How long a connection may take until mails can be sent on it: name, TCP, TLS, log-in.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long sending one mail may take in all, waiting for a connection included.
const SEND_TIMEOUT: Duration = Duration::from_mins(1);
/// How long the server may take to see us off.
const QUIT_TIMEOUT: Duration = Duration::from_secs(1);
/// Submission with STARTTLS (RFC 6409, 3.1).
const SUBMISSION_PORT: u16 = 587;
/// Submission over TLS (RFC 8314, 7.3).
const SUBMISSIONS_PORT: u16 = 465;
/// 5xx codes that speak of our log-in, not of the mail (RFC 4954, 6): somebody will mend the settings.
const LOG_IN_CODES: [u16; 4] = [530, 534, 535, 538];

/// The bounds of the waits; tests shorten them.
pub(crate) struct Limits {
    pub(crate) connect: Duration,
    pub(crate) send: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: CONNECT_TIMEOUT,
            send: SEND_TIMEOUT,
        }
    }
}

enum Tls {
    Off,
    Required(TlsParameters),
    FromTheStart(TlsParameters),
}

pub(crate) struct Smtp {
    host: String,
    port: u16,
    tls: Tls,
    credentials: Option<Credentials>,
    hello: ClientId,
    limits: Limits,
    turns: Semaphore,
    idle: Mutex<Vec<(AsyncSmtpConnection, Instant)>>,
}

impl Smtp {
    /// `hello` is the name we greet with; `root` is trusted beside the certificates of the machine.
    pub(crate) fn new(
        text: &str,
        hello: &str,
        limits: Limits,
        root: Option<Certificate>,
    ) -> Result<Self, Error> {
        let url = Url::parse(text).map_err(|_| invalid("is no URL"))?;
        let host = url.host_str().unwrap_or("");
        // The URL's own parser knows names and numbers only for the web's schemes.
        let host = Host::parse(host).map_err(|_| invalid("names no host"))?;
        if !matches!(url.path(), "" | "/") || url.fragment().is_some() {
            return Err(invalid("has a path"));
        }
        let implicit = url.scheme() == "smtps";
        let mut off = false;
        for (key, value) in url.query_pairs() {
            match (&*key, &*value) {
                ("tls", "required") => {}
                ("tls", "off") if !implicit && is_loopback(&host) => off = true,
                ("tls", "off") => {
                    return Err(invalid(
                        "turns TLS off, which only smtp:// to this machine may",
                    ));
                }
                _ => return Err(invalid("has an unknown parameter")),
            }
        }
        let credentials = credentials(&url)?;
        let host = match host {
            Host::Domain(name) => name,
            Host::Ipv4(ip) => ip.to_string(),
            Host::Ipv6(ip) => ip.to_string(),
        };
        let tls = match (off, implicit) {
            (true, _) => Tls::Off,
            (false, false) => Tls::Required(tls_to(&host, root)?),
            (false, true) => Tls::FromTheStart(tls_to(&host, root)?),
        };
        Ok(Self {
            host,
            port: url.port().unwrap_or(if implicit {
                SUBMISSIONS_PORT
            } else {
                SUBMISSION_PORT
            }),
            tls,
            credentials,
            hello: ClientId::Domain(hello.to_owned()),
            limits,
            turns: Semaphore::new(CONNECTIONS),
            idle: Mutex::new(Vec::new()),
        })
    }

    pub(crate) async fn send(&self, mail: &Mail) -> Result<(), SendError> {
        let deadline = Instant::now() + self.limits.send;
        let too_slow = |_| unavailable("the server takes too long");
        let _turn = timeout_at(deadline, self.turns.acquire())
            .await
            .map_err(too_slow)?;
        let mut connection = timeout_at(deadline, self.connection())
            .await
            .map_err(too_slow)??;
        // A connection that is dropped here, since its server is slow or out of step, is closed and not used again.
        let sent = timeout_at(deadline, transfer(&mut connection, mail))
            .await
            .map_err(too_slow)?;
        match &sent {
            Ok(()) => self.idle().push((connection, Instant::now())),
            Err(SendError::Refused(_)) => {
                timeout(QUIT_TIMEOUT, connection.quit()).await.ok();
            }
            Err(SendError::Unavailable(_)) => {}
        }
        sent
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<(AsyncSmtpConnection, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that answers: one that was kept, or a new one.
    async fn connection(&self) -> Result<AsyncSmtpConnection, SendError> {
        timeout(self.limits.connect, async {
            loop {
                let kept = self.idle().pop();
                match kept {
                    Some((mut connection, since)) => {
                        if since.elapsed() < IDLE && connection.test_connected().await {
                            return Ok(connection);
                        }
                    }
                    // A log-in or a greeting that is refused says nothing against the mail.
                    None => {
                        return self
                            .connect()
                            .await
                            .map_err(|error| unavailable(&told(&error)));
                    }
                }
            }
        })
        .await
        .unwrap_or_else(|_| Err(unavailable("the server takes too long to connect")))
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, Failure> {
        let from_the_start = match &self.tls {
            Tls::FromTheStart(tls) => Some(tls.clone()),
            Tls::Off | Tls::Required(_) => None,
        };
        let mut connection = AsyncSmtpConnection::connect_tokio1(
            (self.host.as_str(), self.port),
            Some(self.limits.connect),
            &self.hello,
            from_the_start,
            None,
        )
        .await?;
        if let Tls::Required(tls) = &self.tls {
            connection.starttls(tls.clone(), &self.hello).await?;
        }
        if let Some(credentials) = &self.credentials {
            connection.auth(DEFAULT_MECHANISMS, credentials).await?;
        }
        Ok(connection)
    }
}

impl fmt::Debug for Smtp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "smtp to {} port {}", self.host, self.port)
    }
}

/// Hands one mail over. Each answer must be the one that belongs to its command: a server, or somebody in between, whose
/// answers are out of step is not believed.
async fn transfer(connection: &mut AsyncSmtpConnection, mail: &Mail) -> Result<(), SendError> {
    let mut parameters = Vec::new();
    if !mail.bytes.is_ascii() {
        let server = connection.server_info();
        if !server.supports_feature(Extension::SmtpUtfEight)
            || !server.supports_feature(Extension::EightBitMime)
        {
            return Err(SendError::Refused(
                "the server takes no address beyond ASCII (SMTPUTF8)".into(),
            ));
        }
        parameters.push(MailParameter::SmtpUtfEight);
        parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
    }
    let from = MailFrom::new(Some(mail.from.clone()), parameters);
    expect(&[250], connection.command(from).await)?;
    let to = Rcpt::new(mail.to.clone(), Vec::new());
    expect(&[250, 251], connection.command(to).await)?;
    expect(&[354], connection.command(Data).await)?;
    expect(&[250], connection.message(&mail.bytes).await)
}

fn expect(codes: &[u16], answer: Result<Response, Failure>) -> Result<(), SendError> {
    match answer {
        Ok(response) if codes.iter().any(|code| response.has_code(*code)) => Ok(()),
        Ok(_) => Err(unavailable("the server's answers are out of step")),
        Err(error) => {
            let for_good = error.is_permanent()
                && error
                    .status()
                    .is_some_and(|code| !LOG_IN_CODES.contains(&code.into()));
            Err(if for_good {
                SendError::Refused(told(&error))
            } else {
                unavailable(&told(&error))
            })
        }
    }
}

/// What may be told of a failure: codes, and what our own side says. Never the server's words.
fn told(error: &Failure) -> String {
    if let Some(code) = error.status() {
        let said = std::error::Error::source(error).map(ToString::to_string);
        let enhanced = said.as_deref().and_then(enhanced_code).unwrap_or_default();
        return format!("the server answered {code} {enhanced}")
            .trim_end()
            .to_owned();
    }
    if error.is_response() {
        return "the server's answer can't be understood".into();
    }
    error.to_string()
}

/// The enhanced status code (RFC 3463) that the text of an answer begins with.
fn enhanced_code(said: &str) -> Option<&str> {
    let code = said.split_whitespace().next()?;
    let mut parts = code.split('.');
    let fits =
        |part: &str| (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    (parts.clone().count() == 3 && parts.all(fits)).then_some(code)
}

fn unavailable(reason: &str) -> SendError {
    SendError::Unavailable(reason.into())
}

fn invalid(what: &str) -> Error {
    Error::Invalid(format!(
        "the mailer's URL {what}: write smtp://USER:PASSWORD@HOST:587 or smtps://USER:PASSWORD@HOST:465"
    ))
}

fn is_loopback(host: &Host<String>) -> bool {
    match host {
        Host::Domain(name) => name == "localhost",
        Host::Ipv4(ip) => ip.is_loopback(),
        Host::Ipv6(ip) => ip.is_loopback(),
    }
}

fn credentials(url: &Url) -> Result<Option<Credentials>, Error> {
    let decoded = |text: &str| {
        percent_decode_str(text)
            .decode_utf8()
            .map(std::borrow::Cow::into_owned)
            .map_err(|_| invalid("has a name or a password that is no UTF-8"))
    };
    match (url.username(), url.password()) {
        ("", None) => Ok(None),
        ("", Some(_)) | (_, None) => Err(invalid("has a name without a password, or the reverse")),
        (user, Some(password)) => Ok(Some(Credentials::new(decoded(user)?, decoded(password)?))),
    }
}

fn tls_to(host: &str, root: Option<Certificate>) -> Result<TlsParameters, Error> {
    let mut tls = TlsParametersBuilder::new(host.to_owned());
    if let Some(root) = root {
        tls = tls.add_root_certificate(root);
    }
    tls.build()
        .map_err(|error| Error::Invalid(format!("TLS can't be set up: {error}")))
}
