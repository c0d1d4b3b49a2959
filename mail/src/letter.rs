//! A mail, and how it becomes bytes: plain text in UTF-8, one recipient.
//!
//! Refuses: a control character in an address or a subject, so that no text can become a header.

use std::fmt;
use std::time::SystemTime;

use chrono::{DateTime, Utc};
use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use lettre::Address;
use lettre::message::header::{ContentTransferEncoding, ContentType, HeaderName, HeaderValue};
use lettre::message::{Body, Mailbox, Message, SinglePart};
use uuid::Uuid;

use crate::{Error, SendError};

/// The most bytes of an address (RFC 5321, 4.5.3.1.3, without the angle brackets).
const ADDRESS_BYTES: usize = 254;
/// The longest line of a mail, in bytes (RFC 5322, 2.1.1).
const LINE_BYTES: usize = 998;
/// The most bytes of a subject.
const SUBJECT_BYTES: usize = 500;
/// The most bytes of a text.
const TEXT_BYTES: usize = 64 * 1024;

/// A mail to one person. `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Letter {
    /// The recipient's address.
    pub to: String,
    /// The subject: one line.
    pub subject: String,
    /// The plain text.
    pub text: String,
}

impl fmt::Debug for Letter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Letter").finish_non_exhaustive()
    }
}

/// A mail as it is sent.
pub(crate) struct Mail {
    pub(crate) from: Address,
    pub(crate) to: Address,
    pub(crate) bytes: Vec<u8>,
}

/// Who sends the mails.
pub(crate) struct Sender(Mailbox);

impl Sender {
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let invalid = || {
            Error::Invalid(
                "the sender of mails is no address: write no-reply@example.org or Name <no-reply@example.org>".into(),
            )
        };
        if text.chars().any(char::is_control) {
            return Err(invalid());
        }
        // The domain is taken to its ASCII form before lettre judges the whole.
        let (before, domain) = text.rsplit_once('@').ok_or_else(invalid)?;
        let (domain, after) = domain
            .strip_suffix('>')
            .map_or((domain, ""), |domain| (domain, ">"));
        let domain = ascii_domain(domain).ok_or_else(invalid)?;
        let mailbox: Mailbox = format!("{before}@{domain}{after}")
            .parse()
            .map_err(|_| invalid())?;
        // Every server takes an ASCII sender; few take others.
        if !mailbox.email.user().is_ascii() {
            return Err(invalid());
        }
        Ok(Self(mailbox))
    }

    /// The domain in its ASCII form.
    pub(crate) fn domain(&self) -> &str {
        self.0.email.domain()
    }
}

impl Letter {
    /// Makes the bytes of the mail.
    pub(crate) fn compose(
        &self,
        sender: &Sender,
        id: Uuid,
        now: DateTime<Utc>,
    ) -> Result<Mail, SendError> {
        let to = address(&self.to)?;
        if self.subject.chars().any(char::is_control) {
            return Err(refused("the subject holds a control character"));
        }
        if self.subject.len() > SUBJECT_BYTES || self.text.len() > TEXT_BYTES {
            return Err(refused("the mail is too long"));
        }
        let message = Message::builder()
            .from(sender.0.clone())
            .to(to.clone().into())
            .subject(self.subject.as_str())
            .date(SystemTime::from(now))
            .message_id(Some(format!("<{id}@{}>", sender.domain())))
            // RFC 3834, 5: so that no vacation notice answers.
            .raw_header(HeaderValue::new(
                HeaderName::new_from_ascii_str("Auto-Submitted"),
                "auto-generated".into(),
            ))
            .singlepart(self.plain_text())
            .map_err(|_| refused("the mail can't be put together"))?;
        Ok(Mail {
            from: sender.0.email.clone(),
            to,
            bytes: message.formatted(),
        })
    }
}

impl Letter {
    /// As it is, where mail may hold it so: a link that is broken into lines is one that nobody can copy from a file.
    fn plain_text(&self) -> SinglePart {
        let text = &self.text;
        if !text.is_ascii()
            || text.contains(['\r', '\0'])
            || text.lines().any(|line| line.len() > LINE_BYTES)
        {
            return SinglePart::plain(text.clone());
        }
        let bytes = text.replace('\n', "\r\n").into_bytes();
        SinglePart::builder()
            .header(ContentType::TEXT_PLAIN)
            .body(Body::dangerous_pre_encoded(
                bytes,
                ContentTransferEncoding::SevenBit,
            ))
    }
}

fn refused(reason: &str) -> SendError {
    SendError::Refused(reason.into())
}

/// The recipient, its domain in ASCII form; the part before the `@` may be any UTF-8 text that RFC 6531 allows.
fn address(text: &str) -> Result<Address, SendError> {
    let invalid = || refused("this is no mail address");
    if text.len() > ADDRESS_BYTES || text.chars().any(char::is_control) {
        return Err(invalid());
    }
    let (local, domain) = text.rsplit_once('@').ok_or_else(invalid)?;
    let domain = ascii_domain(domain).ok_or_else(invalid)?;
    Address::new(local, domain).map_err(|_| invalid())
}

/// A domain's ASCII form (IDNA, UTS 46), with the lengths that DNS allows.
pub fn ascii_domain(domain: &str) -> Option<String> {
    Uts46::new()
        .to_ascii(
            domain.as_bytes(),
            AsciiDenyList::STD3,
            Hyphens::CheckFirstLast,
            DnsLength::Verify,
        )
        .ok()
        .map(std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compose(to: &str, subject: &str, text: &str) -> Result<String, SendError> {
        let letter = Letter {
            to: to.into(),
            subject: subject.into(),
            text: text.into(),
        };
        let sender = Sender::parse("Show <no-reply@example.org>").unwrap();
        let mail = letter.compose(&sender, Uuid::from_u128(7), DateTime::UNIX_EPOCH)?;
        Ok(String::from_utf8(mail.bytes).unwrap())
    }

    #[test]
    fn a_mail_has_the_headers_it_was_given_and_is_plain_text() {
        let mail = compose("ada@example.org", "Hello", "One\nTwo").unwrap();
        let (headers, body) = mail.split_once("\r\n\r\n").unwrap();
        let mut headers: Vec<&str> = headers.split("\r\n").collect();
        headers.sort_unstable();
        assert_eq!(
            headers,
            [
                "Auto-Submitted: auto-generated",
                "Content-Transfer-Encoding: 7bit",
                "Content-Type: text/plain; charset=utf-8",
                "Date: Thu, 01 Jan 1970 00:00:00 +0000",
                "From: Show <no-reply@example.org>",
                "MIME-Version: 1.0",
                "Message-ID: <00000000-0000-0000-0000-000000000007@example.org>",
                "Subject: Hello",
                "To: ada@example.org",
            ]
        );
        assert_eq!(body.trim_end(), "One\r\nTwo");
    }

    #[test]
    fn a_link_stays_in_one_line_as_far_as_lines_may_go() {
        let link = format!("https://app.example/verify-email?token={}", "x".repeat(200));
        let mail = compose("ada@example.org", "Hello", &format!("Open\n\n{link}\n")).unwrap();
        assert!(mail.contains(&format!("\r\n{link}\r\n")), "{mail}");
        assert!(mail.contains("Content-Transfer-Encoding: 7bit\r\n"));
        let mail = compose("ada@example.org", "Hello", &"x".repeat(999)).unwrap();
        assert!(mail.contains("Content-Transfer-Encoding: quoted-printable\r\n"));
    }

    #[test]
    fn text_beyond_ascii_is_encoded() {
        let mail = compose("ada@example.org", "Grüße", "Zoë").unwrap();
        assert!(mail.is_ascii(), "{mail}");
        assert!(mail.contains("Subject: =?utf-8?"), "{mail}");
        assert!(mail.contains("\r\n\r\nWm/Dqw==\r\n"), "{mail}");
    }

    #[test]
    fn an_international_domain_is_sent_in_ascii_and_a_local_part_as_it_is() {
        let mail = compose("jörg@bücher.example", "Hello", "One").unwrap();
        assert!(
            mail.contains("To: jörg@xn--bcher-kva.example\r\n"),
            "{mail}"
        );
    }

    #[test]
    fn no_address_or_subject_can_add_a_header() {
        for end in ["\r\n", "\n", "\r", "\0", "\u{85}"] {
            for to in [
                format!("ada@example.org{end}Bcc: eve@example.org"),
                format!("ada{end}Bcc: eve@example.org"),
                format!("\"a{end} b\"@example.org"),
                format!("{end}ada@example.org"),
            ] {
                let refusal = compose(&to, "Hello", "One").expect_err(&to);
                assert_eq!(refusal, refused("this is no mail address"));
            }
            let subject = format!("Hello{end}Bcc: eve@example.org");
            let refusal = compose("ada@example.org", &subject, "One").expect_err(&subject);
            assert_eq!(refusal, refused("the subject holds a control character"));
        }
    }

    #[test]
    fn what_is_no_address_is_refused_without_repeating_it() {
        let long = format!("{}@example.org", "x".repeat(65));
        let label = format!("ada@{}.org", "x".repeat(64));
        for bad in [
            "",
            "secret",
            "secret@",
            "@example.org",
            "secret@x..org",
            "secret @x.org",
            "a@secret@x.org",
            "secret@[127.0.0.1]",
            "<secret@x.org>",
            "secret@x.org>",
            &long,
            &label,
        ] {
            match compose(bad, "Hello", "One") {
                Err(SendError::Refused(reason)) => assert!(!reason.contains("secret"), "{reason}"),
                other => panic!("{bad:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn debug_shows_nothing_of_a_letter() {
        let letter = Letter {
            to: "ada@example.org".into(),
            subject: "Hello".into(),
            text: "One".into(),
        };
        assert_eq!(format!("{letter:?}"), "Letter { .. }");
    }
}
