//! Sending mail: one port, [`Mailer`], with two adapters (a folder of files, and SMTP), and the texts that are sent.
//!
//! Refuses: to queue, to try again, and to say anything of a mail (its address, its content) in an error, a log line or
//! `Debug`. Whoever stores a mail until it is sent stores [`Content`] and calls [`Mailer::send`] again.

mod folder;
mod letter;
pub mod letters;
mod smtp;
#[cfg(test)]
mod smtp_server;
#[cfg(test)]
mod smtp_tests;

use async_recursion::async_recursion as boxed;
use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use folder::Folder;
use letter::Sender;
pub use letter::{Letter, ascii_domain};
pub use letters::Content;
use smtp::{Limits, Smtp};

/// A wrong setting. Its text says what to write, and repeats neither a password nor an address.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The URL or the sender's address is wrong, or the folder can't be used.
    #[error("{0}")]
    Invalid(String),
}

/// Why a mail was not sent. The texts hold no address and nothing of the mail's content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// For good: the address is none, or the server refused it (5xx). Sending again will not help.
    #[error("the mail was refused: {0}")]
    Refused(String),
    /// For now: the server can't be reached, is busy (4xx), or does not accept our settings. Try again later.
    #[error("the mail can't be sent now: {0}")]
    Unavailable(String),
}

/// Sends mail. Clones are cheap and share one pool of connections.
#[derive(Clone)]
pub struct Mailer {
    inner: Arc<Inner>,
}

struct Inner {
    sender: Sender,
    adapter: Adapter,
}

#[expect(
    clippy::large_enum_variant,
    reason = "a process has one, behind an Arc"
)]
enum Adapter {
    Folder(Folder),
    Smtp(Smtp),
}

/// The mailer that a URL names: `folder:PATH`, `smtp://USER:PASSWORD@HOST:587` (STARTTLS, required) or
/// `smtps://USER:PASSWORD@HOST:465`. `from` is the sender, `no-reply@example.org` or `Name <no-reply@example.org>`.
///
/// Makes the folder if there is none. Connects to a server only when a mail is sent, so it fails on a wrong setting
/// alone, never because the server is down.
pub fn open(url: &str, from: &str) -> Result<Mailer, Error> {
    let sender = Sender::parse(from)?;
    // Only the scheme is ever repeated: the rest may hold a password.
    let adapter = match url.split_once(':') {
        Some(("folder", path)) => Adapter::Folder(Folder::open(path)?),
        Some(("smtp" | "smtps", _)) => {
            Adapter::Smtp(Smtp::new(url, sender.domain(), Limits::default(), None)?)
        }
        other => {
            return Err(Error::Invalid(format!(
                "the mailer {:?} is not known: write folder:PATH, smtp://USER:PASSWORD@HOST:587 or smtps://USER:PASSWORD@HOST:465",
                other.map_or("", |(scheme, _)| scheme),
            )));
        }
    };
    Ok(Mailer::new(sender, adapter))
}

impl Mailer {
    fn new(sender: Sender, adapter: Adapter) -> Self {
        Self {
            inner: Arc::new(Inner { sender, adapter }),
        }
    }

    /// Sends one mail. `id` makes its Message-ID: whoever sends the same mail again passes the same id, so that the two
    /// can be recognised as one. `now` is its Date.
    ///
    /// After [`SendError::Unavailable`] the mail may have been sent all the same: its answer can be lost.
    #[boxed]
    pub async fn send(
        &self,
        letter: &Letter,
        id: Uuid,
        now: DateTime<Utc>,
    ) -> Result<(), SendError> {
        let mail = letter.compose(&self.inner.sender, id, now)?;
        match &self.inner.adapter {
            Adapter::Folder(folder) => folder.send(mail, id, now).await,
            Adapter::Smtp(smtp) => smtp.send(&mail).await,
        }
    }
}

impl fmt::Debug for Mailer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.inner.adapter {
            Adapter::Folder(folder) => f.debug_tuple("Mailer").field(folder).finish(),
            Adapter::Smtp(smtp) => f.debug_tuple("Mailer").field(smtp).finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM: &str = "Showcaller <no-reply@example.org>";

    #[test]
    fn a_wrong_setting_is_refused_with_what_to_write_and_without_the_password() {
        for url in [
            "",
            "localhost",
            "folder:",
            "http://u:secret@h",
            "smtp://",
            "smtp://u:secret@host:99999",
            "smtp://u:secret@host/path",
            "smtp://u:secret@host#part",
            "smtp://u:secret@host?tls=maybe",
            "smtp://u:secret@host?tls=off",
            "smtp://u:secret@10.0.0.1?tls=off",
            "smtps://u:secret@localhost?tls=off",
            "smtp://u:secret@host?tls=required&x=secret",
            "smtp://secret@host",
        ] {
            let Error::Invalid(message) = open(url, FROM).expect_err(url);
            assert!(message.contains("write"), "{url}: {message}");
            assert!(!message.contains("secret"), "{url}: {message}");
        }
    }

    #[test]
    fn opening_does_not_need_the_server_to_be_up_and_debug_shows_no_password() {
        for url in [
            "smtp://ada:s%3Acret@mail.example.org",
            "smtps://ada:s%3Acret@mail.example.org:465",
            "smtp://ada:s%3Acret@mail.example.org?tls=required",
            "smtp://ada:s%3Acret@localhost:25?tls=off",
            "smtp://ada:s%3Acret@127.0.0.1:25?tls=off",
            "smtp://ada:s%3Acret@[::1]:25?tls=off",
        ] {
            let mailer = open(url, FROM).expect(url);
            let shown = format!("{mailer:?}");
            assert!(!shown.contains("cret") && !shown.contains("ada"), "{shown}");
        }
    }

    #[test]
    fn a_sender_that_is_no_address_is_refused() {
        for from in [
            "",
            "Showcaller",
            "a@",
            "a@b\r\nBcc: c@d",
            "A\nB <a@b.example>",
            "jörg@example.org",
        ] {
            assert!(open("smtp://mail.example.org", from).is_err(), "{from:?}");
        }
        for from in ["a@example.org", FROM, "\"Ada, Inc.\" <a@bücher.example>"] {
            assert!(open("smtp://mail.example.org", from).is_ok(), "{from:?}");
        }
    }
}
