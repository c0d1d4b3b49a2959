//! What people have beside the API: the mail that a server writes into its folder, and an authenticator application. It
//! refuses to judge: tests do.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;
use test_support::{eventually, totp, totp_step};

use crate::client::{Client, Person};

/// How long a mail may take, also one that a process which died left to another.
const MAIL_WITHIN: Duration = Duration::from_mins(1);
/// How long the next code of an authenticator application may take.
const CODE_WITHIN: Duration = Duration::from_mins(1);

/// The subjects of mails, as far as they tell them apart.
pub const CONFIRM: &str = "Confirm your address";
pub const ALREADY: &str = "You already have an account";
pub const ABOUT_TO_CHANGE: &str = "is about to change";
pub const HAS_CHANGED: &str = "Your address at Showcaller has changed";
pub const NEW_PASSWORD: &str = "Choose a new password";
pub const PASSWORD_CHANGED: &str = "Your password at Showcaller has changed";
pub const ERASED: &str = "is erased";

/// A folder of mails.
#[derive(Clone, Debug)]
pub struct Mailbox(PathBuf);

/// A mail.
#[derive(Clone, Debug)]
pub struct Letter(String);

impl Mailbox {
    /// Of a server that works in this folder.
    pub fn of(folder: &Path) -> Self {
        Self(folder.join("data/mail"))
    }

    /// All mails to somebody about something, oldest first.
    pub fn all(&self, to: &str, about: &str) -> Vec<Letter> {
        let mut files: Vec<PathBuf> = fs::read_dir(&self.0)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "eml"))
            .collect();
        files.sort_unstable();
        let is_it = |text: &String| {
            let head = text.split("\r\n\r\n").next().unwrap_or_default();
            let says = |name: &str, value: &str| {
                head.lines()
                    .any(|line| line.starts_with(name) && line.contains(value))
            };
            says("To: ", to) && says("Subject: ", about)
        };
        let texts = files
            .iter()
            .map(|file| fs::read_to_string(file).expect("mails are text"));
        texts.filter(is_it).map(Letter).collect()
    }

    /// Throws away what is there.
    pub fn empty(&self) {
        for entry in fs::read_dir(&self.0).into_iter().flatten().flatten() {
            fs::remove_file(entry.path()).expect("the folder is ours");
        }
    }

    /// The newest mail to somebody about something; the first is waited for.
    pub async fn newest(&self, to: &str, about: &str) -> Letter {
        self.after(to, about, 0).await
    }

    /// The newest, once there are more than so many.
    pub async fn after(&self, to: &str, about: &str, count: usize) -> Letter {
        eventually(MAIL_WITHIN, || async {
            let mut found = self.all(to, about);
            if found.len() > count {
                found.pop().ok_or("none")
            } else {
                Err("no such mail")
            }
        })
        .await
    }
}

impl Letter {
    /// The code of eight digits.
    pub fn code(&self) -> String {
        let is_code = |line: &&str| line.len() == 8 && line.bytes().all(|b| b.is_ascii_digit());
        let found = self.0.lines().map(str::trim).find(is_code);
        found
            .unwrap_or_else(|| panic!("no code in {}", self.0))
            .to_owned()
    }

    /// The token in the link.
    pub fn link_token(&self) -> String {
        let (_, rest) = self
            .0
            .split_once("?token=")
            .unwrap_or_else(|| panic!("no link in {}", self.0));
        rest.split_whitespace().next().expect("a token").to_owned()
    }

    pub fn says(&self, text: &str) -> bool {
        self.0.contains(text)
    }
}

/// Registers, proves the address with the code of the mail, and logs in.
pub async fn verified(client: &Client, mailbox: &Mailbox, email: &str) -> Person {
    let person = client.person(email).await;
    let code = mailbox.newest(email, CONFIRM).await.code();
    let proven = client
        .command(&person, "verify-email", &json!({ "code": code }))
        .after(&person.token)
        .expect(200)
        .await;
    let token = proven.token().to_owned();
    Person { token, ..person }
}

/// An authenticator application with one secret. It shows each code once: the server takes none twice.
#[derive(Debug)]
pub struct Device {
    secret: String,
    last: u64,
}

impl Device {
    pub fn new(secret: &str) -> Self {
        // Three codes count at a time; begin with the oldest, unless it is about to count no more.
        let now = unix_s();
        let first = totp_step(now) - u64::from(now % 30 < 15);
        Self {
            secret: secret.to_owned(),
            last: first - 1,
        }
    }

    /// From the URI that an application reads.
    pub fn of_uri(uri: &str) -> Self {
        let (_, rest) = uri.split_once("secret=").expect("a secret");
        Self::new(rest.split('&').next().expect("a secret"))
    }

    /// The next code that counts.
    pub async fn code(&mut self) -> String {
        let step = eventually(CODE_WITHIN, || async {
            let now = totp_step(unix_s());
            let step = (self.last + 1).max(now - 1);
            (step <= now + 1).then_some(step)
        })
        .await;
        self.last = step;
        totp(&self.secret, step)
    }
}

fn unix_s() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("it is after 1970").as_secs()
}
