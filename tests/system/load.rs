//! Many clients that send commands through every fault, and the book of what was acknowledged to them. The log is held
//! against the book: every acknowledged command stands there once, and nothing else does.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::{Answer, Client, Person};
use crate::world::read_log;

/// How long a client goes on trying one command.
const INSIST: Duration = Duration::from_mins(1);
/// What it waits before it tries again.
const BETWEEN_TRIES: Duration = Duration::from_millis(50);
/// How marks begin: they are well-formed language tags, since locales are not personal, so that the log shows them.
const MARK: &str = "en-c";

/// People who are logged in, and what was acknowledged to them.
#[derive(Debug)]
pub struct Crowd {
    people: Vec<Person>,
    numbers: AtomicU32,
    book: Mutex<Vec<Acknowledged>>,
}

#[derive(Debug, Clone)]
struct Acknowledged {
    mark: String,
    stream: String,
    version: u64,
    token: String,
}

/// A command that stands out from all others by its mark.
#[derive(Debug, Clone)]
pub struct Marked {
    person: usize,
    mark: String,
}

impl Crowd {
    /// Registers and logs in so many.
    pub async fn gather(client: &Client, people: usize, name: &str) -> Arc<Self> {
        let mut joining = JoinSet::new();
        for number in 0..people {
            let (client, email) = (client.clone(), format!("{name}-{number}@example.org"));
            joining.spawn(async move { client.person(&email).await });
        }
        let people = joining.join_all().await;
        Arc::new(Self {
            people,
            numbers: AtomicU32::new(0),
            book: Mutex::default(),
        })
    }

    pub fn people(&self) -> &[Person] {
        &self.people
    }

    /// How many commands were acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        self.book.lock().expect("no test panicked").len()
    }

    /// The newest position token of each person.
    pub fn tokens(&self) -> HashMap<String, String> {
        let book = self.book.lock().expect("no test panicked");
        let mut newest: HashMap<String, &Acknowledged> = HashMap::new();
        for entry in book.iter() {
            let known = newest
                .entry(entry.stream.replacen("account-", "", 1))
                .or_insert(entry);
            if entry.version > known.version {
                *known = entry;
            }
        }
        newest
            .into_iter()
            .map(|(account, entry)| (account, entry.token.clone()))
            .collect()
    }

    /// A new command of this person.
    pub fn next(&self, person: usize) -> Marked {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        Marked {
            person,
            mark: format!("{MARK}{number:07}"),
        }
    }

    /// Sends it once.
    pub async fn attempt(&self, client: &Client, command: &Marked) -> reqwest::Result<Answer> {
        let person = &self.people[command.person];
        let body = json!({ "locale": command.mark });
        let answer = client
            .command(person, "change-settings", &body)
            .key(&command.mark)
            .attempt()
            .await?;
        if answer.status == 200 {
            self.book
                .lock()
                .expect("no test panicked")
                .push(Acknowledged {
                    mark: command.mark.clone(),
                    stream: answer.body["stream"].as_str().expect("a stream").to_owned(),
                    version: answer.version(),
                    token: answer.token().to_owned(),
                });
        }
        Ok(answer)
    }

    /// Sends it with the same key until it is acknowledged, as conventions tell clients to. Panics on an answer that
    /// trying again cannot help.
    pub async fn insist(&self, client: &Client, command: &Marked) {
        let deadline = Instant::now() + INSIST;
        loop {
            let seen = match self.attempt(client, command).await {
                Ok(answer) if answer.status == 200 => return,
                Ok(answer) => {
                    let passing =
                        answer.status == 503 || matches!(answer.code(), "in_flight" | "conflict");
                    assert!(passing, "{command:?}: {} {}", answer.status, answer.text);
                    answer.text
                }
                Err(error) => format!("{error:?}"),
            };
            assert!(
                Instant::now() < deadline,
                "{command:?} was not acknowledged within {INSIST:?}; last: {seen}"
            );
            tokio::time::sleep(BETWEEN_TRIES).await;
        }
    }

    /// Each person sends commands, one for each permit, until the permits are closed.
    pub fn start(self: &Arc<Self>, client: &Client, permits: &Arc<Semaphore>) -> JoinSet<()> {
        let mut clients = JoinSet::new();
        for person in 0..self.people.len() {
            let (crowd, client, permits) = (Arc::clone(self), client.clone(), Arc::clone(permits));
            clients.spawn(async move {
                while let Ok(permit) = permits.acquire().await {
                    permit.forget();
                    crowd.insist(&client, &crowd.next(person)).await;
                }
            });
        }
        clients
    }

    /// Every acknowledged command stands in the log exactly once, where its answer said; nothing else of its kind does;
    /// and positions have no gaps, where they are promised to have none.
    pub async fn assert_in_log_once(&self, events_url: &str) {
        let log = read_log(events_url).await;
        let mut found: HashMap<String, (String, u64)> = HashMap::new();
        for (event, position) in log.iter().zip(1..) {
            let gapless = !events_url.starts_with("esdb:");
            assert!(
                !gapless || event.position.get() == position,
                "positions have no gaps"
            );
            if event.type_name != "SettingsChanged" {
                continue;
            }
            let data: Value = serde_json::from_str(&event.data).expect("JSON");
            let Some(mark) = data["change"]["locale"]
                .as_str()
                .filter(|locale| locale.starts_with(MARK))
            else {
                continue;
            };
            let mark = mark.to_owned();
            let place = (event.stream.to_string(), event.version.get());
            let before = found.insert(mark.clone(), place);
            assert_eq!(before, None, "{mark} was appended twice");
        }
        let book = self.book.lock().expect("no test panicked").clone();
        let mut acknowledged = HashMap::new();
        for entry in book {
            let place = (entry.stream, entry.version);
            assert_eq!(
                found.get(&entry.mark),
                Some(&place),
                "{} was acknowledged there",
                entry.mark
            );
            acknowledged.insert(entry.mark, place);
        }
        assert_eq!(
            acknowledged.len(),
            found.len(),
            "commands that nobody was told of"
        );
    }
}
