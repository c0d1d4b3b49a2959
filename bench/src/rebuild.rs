//! Building `accounts` anew from a long log, and beside it what can be had at best: the same rows folded by hand, all in
//! memory, and then copied in.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use broker::MemoryBroker;
use chrono::{DateTime, Utc};
use event_store::{EventStore, Filter};
use events::account::{Event, ProfileChange};
use events::{Ciphertext, DomainEvent, Personal, Position, RecordedEvent};
use projector::Projector;
use read_models::{ReadModel, Value};
use sqlx::{Connection, PgConnection};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::account;
use crate::copy::Rows;
use crate::meter::Meter;
use crate::table::{Key, Table, Value as Rate};
use crate::world::World;

const PAGE: usize = 5_000;
/// Pages that are read ahead of the fold.
const PAGES_AHEAD: usize = 2;

/// The log, filled once.
pub struct Rebuild {
    log: Arc<dyn EventStore>,
    events: u64,
}

impl Rebuild {
    /// Fills a log.
    pub async fn prepare(world: &World) -> Result<Self> {
        let url = world.postgres.fresh_database().await;
        let log = event_store::open(&url, event_store::Options::default()).await?;
        let (began, each) = (Instant::now(), world.scale.events_an_account);
        account::fill(&log, &world.people, each).await?;
        let events = log.head().await?.get();
        eprintln!(
            "filled a log with {events} events in {:.1} s",
            began.elapsed().as_secs_f64()
        );
        Ok(Self { log, events })
    }

    /// One round, each on a new database.
    pub async fn measure(&self, world: &World, table: &mut Table) -> Result<()> {
        world.settle().await;
        table.note(Key::Rebuild, self.project(world).await?);
        world.settle().await;
        table.note(Key::FoldAndCopy, self.fold_and_copy(world).await?);
        Ok(())
    }

    async fn project(&self, world: &World) -> Result<Rate> {
        let url = world.postgres.fresh_database().await;
        let store = read_models::open(&url, read_models::Options::default()).await?;
        let model = accounts()?;
        let projector = Projector::operated(
            Arc::clone(&self.log),
            Arc::new(MemoryBroker::new()),
            Arc::clone(&store),
            vec![model.clone()],
            projector::Options::default(),
        );
        let (mut status, shutdown) = (projector.status(), CancellationToken::new());
        let meter = Meter::start();
        let running = tokio::spawn(projector.run(shutdown.clone()));
        status.wait_for(projector::Status::is_following).await?;
        let rate = meter.rate(self.events as usize);
        shutdown.cancel();
        running.await??;

        let person = &world.people[world.people.len() / 2];
        let row = store
            .get(&model, &vec![person.id.into()])
            .await?
            .context("an account has no row")?;
        let version = Value::Integer(world.scale.events_an_account as i64);
        ensure!(
            row.contains(&version),
            "a row is not at the last event: {row:?}"
        );
        Ok(rate)
    }

    async fn fold_and_copy(&self, world: &World) -> Result<Rate> {
        let url = world.postgres.fresh_database().await;
        let mut connection = PgConnection::connect(&url).await?;
        sqlx::query(TABLE).execute(&mut connection).await?;
        let meter = Meter::start();
        let (sender, mut pages) = mpsc::channel(PAGES_AHEAD);
        let reader = tokio::spawn(read(Arc::clone(&self.log), sender));
        let mut accounts: HashMap<Uuid, Account> = HashMap::new();
        while let Some(page) = pages.recv().await {
            for event in &page {
                take_in(&mut accounts, event)?;
            }
        }
        reader.await??;
        let count = accounts.len();
        let mut rows = Rows::new();
        for (id, account) in accounts {
            account.write(id, &mut rows)?;
        }
        rows.send(
            &mut connection,
            "COPY bench_accounts FROM STDIN (FORMAT binary)",
        )
        .await?;
        let rate = meter.rate(self.events as usize);
        connection.close().await?;
        ensure!(count == world.people.len(), "{count} accounts were folded");
        Ok(rate)
    }
}

fn accounts() -> Result<ReadModel> {
    projector::built_in()
        .into_iter()
        .find(|model| model.name == "accounts")
        .context("accounts is built in")
}

async fn read(log: Arc<dyn EventStore>, pages: mpsc::Sender<Vec<RecordedEvent>>) -> Result<()> {
    let (everything, mut after) = (Filter::default(), Position::ZERO);
    loop {
        let page = log.read_all(after, &everything, PAGE).await?;
        if page.through <= after {
            return Ok(());
        }
        after = page.through;
        pages.send(page.events).await.context("nobody folds")?;
    }
}

const TABLE: &str = "CREATE TABLE bench_accounts (account_id uuid PRIMARY KEY, email text, display_name text, \
    given_name text, phone text, locale text, time_zone text, custom text, registered_at timestamptz, version bigint)";

/// A row of `accounts`, as one would write it by hand for these events.
#[derive(Default)]
struct Account {
    email: Option<Ciphertext>,
    display_name: Option<Ciphertext>,
    given_name: Option<Ciphertext>,
    phone: Option<Ciphertext>,
    locale: Option<String>,
    time_zone: Option<String>,
    custom: Option<Ciphertext>,
    registered_at: Option<DateTime<Utc>>,
    version: i64,
}

fn take_in(accounts: &mut HashMap<Uuid, Account>, event: &RecordedEvent) -> Result<()> {
    let account = accounts.entry(event.stream.id().parse()?).or_default();
    account.version = event.version.as_i64();
    match Event::decode(event)? {
        Event::AccountRegistered { email, profile, .. } => {
            account.email = sealed(Some(email));
            account.display_name = sealed(profile.display_name);
            account.given_name = sealed(profile.given_name);
            account.registered_at = Some(event.parse_metadata()?.recorded_at);
        }
        Event::ProfileUpdated {
            change: ProfileChange {
                phone: Some(phone), ..
            },
        } => account.phone = sealed(phone),
        Event::SettingsChanged { change } => {
            account.locale = change.locale.or(account.locale.take());
            account.time_zone = change.time_zone.or(account.time_zone.take());
            account.custom = sealed(change.custom).or(account.custom.take());
        }
        _ => {}
    }
    Ok(())
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the events' fields are handed over"
)]
fn sealed<T>(value: Option<Personal<T>>) -> Option<Ciphertext> {
    value.as_ref().and_then(Personal::sealed).cloned()
}

impl Account {
    fn write(&self, id: Uuid, rows: &mut Rows) -> Result<()> {
        let text =
            |value: &'_ Option<Ciphertext>| value.as_ref().map(|value| value.as_str().to_owned());
        rows.row(10)
            .uuid(id)
            .text(text(&self.email).as_deref())
            .text(text(&self.display_name).as_deref())
            .text(text(&self.given_name).as_deref())
            .text(text(&self.phone).as_deref())
            .text(self.locale.as_deref())
            .text(self.time_zone.as_deref())
            .text(text(&self.custom).as_deref())
            .timestamp(
                self.registered_at
                    .context("an account was not registered")?,
            )
            .bigint(self.version);
        Ok(())
    }
}
