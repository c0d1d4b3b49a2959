//! The command path without HTTP: from the bytes of a body to the acknowledged event, as the command routes go it.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use command_api::accounts::Account;
use command_api::{
    Aggregate, Clock, Decider, Executor, Form, InFlight, Order, Origin, Stores, SystemClock,
    content,
};
use event_store::EventStore;
use events::{Actor, StreamId};
use uuid::Uuid;
use vault::{Keys, Vault, VaultOptions};

use crate::account::{self, Person, TRACEPARENT};
use crate::load::{NO_LIMIT, closed_loop, scatter};
use crate::table::{Key, Table, Value};
use crate::world::{ACCOUNTS, World};

/// Which lines of the table a store fills: accounts not cached, then 1, 64 and 256 tasks.
struct Lines {
    first: Key,
    tasks: [(usize, Key); 3],
}

const POSTGRES: Lines = Lines {
    first: Key::PostgresFirst,
    tasks: [
        (1, Key::Postgres1),
        (64, Key::Postgres64),
        (256, Key::Postgres256),
    ],
};
const SQLITE: Lines = Lines {
    first: Key::SqliteFirst,
    tasks: [
        (1, Key::Sqlite1),
        (64, Key::Sqlite64),
        (256, Key::Sqlite256),
    ],
};

const ESDB: Lines = Lines {
    first: Key::EsdbFirst,
    tasks: [(1, Key::Esdb1), (64, Key::Esdb64), (256, Key::Esdb256)],
};

/// One round: a new log on each database, log and vault of the same kind.
pub async fn measure(world: &World, table: &mut Table) -> Result<()> {
    on_postgres(world, table).await?;

    let folder = test_support::temp_dir();
    let url = |file: &str| format!("sqlite:{}", folder.path().join(file).display());
    let vault = Vault::open(
        &url("vault.db"),
        Arc::clone(&world.keys),
        VaultOptions::default(),
    )
    .await?;
    let people = account::people(&vault, ACCOUNTS).await?;
    on(world, table, &SQLITE, &url("events.db"), &vault, &people).await
}

/// One round on PostgreSQL alone.
pub async fn on_postgres(world: &World, table: &mut Table) -> Result<()> {
    let events = world.postgres.fresh_database().await;
    on_log(world, table, &POSTGRES, &events).await
}

/// One round on a log behind EventStoreDB's protocol, with the vault in PostgreSQL.
pub async fn on_eventstore(world: &World, table: &mut Table, events: &str) -> Result<()> {
    on_log(world, table, &ESDB, events).await
}

async fn on_log(world: &World, table: &mut Table, lines: &Lines, events: &str) -> Result<()> {
    on(world, table, lines, events, &world.vault, &world.people).await
}

async fn on(
    world: &World,
    table: &mut Table,
    lines: &Lines,
    events: &str,
    vault: &Vault,
    people: &[Person],
) -> Result<()> {
    let log = event_store::open(events, event_store::Options::default()).await?;
    account::register(&log, people).await?;
    let commands = Commands::new(&log, vault, &world.keys, people);
    world.settle().await;
    let each_once = 0..ACCOUNTS as u64;
    let rate = commands
        .give(64, each_once, NO_LIMIT, |number| number as usize)
        .await?;
    table.note(lines.first, rate);
    for ((tasks, key), run) in lines.tasks.into_iter().zip(1..) {
        world.settle().await;
        // Numbers of one run never meet those of another.
        let numbers = run << 32..(run + 1) << 32;
        let all_over = |number| scatter(number, ACCOUNTS);
        let rate = commands
            .give(tasks, numbers, world.scale.rate, all_over)
            .await?;
        table.note(key, rate);
    }
    log.close().await;
    Ok(())
}

/// Gives `change-settings` to accounts, as the route of commands does.
#[derive(Clone)]
struct Commands(Arc<Inner>);

struct Inner {
    executor: Executor<Account>,
    keys: Arc<Keys>,
    accounts: Vec<Uuid>,
}

impl Commands {
    fn new(log: &Arc<dyn EventStore>, vault: &Vault, keys: &Arc<Keys>, people: &[Person]) -> Self {
        let stores = Stores {
            log: Arc::clone(log),
            vault: vault.clone(),
            keys: Arc::clone(keys),
        };
        Self(Arc::new(Inner {
            executor: Executor::new(stores, Arc::new(InFlight::default())),
            keys: Arc::clone(keys),
            accounts: people.iter().map(|person| person.id).collect(),
        }))
    }

    /// Gives commands of these numbers, each number to an account.
    async fn give(
        &self,
        tasks: usize,
        numbers: Range<u64>,
        time: Duration,
        account: impl Fn(u64) -> usize + Copy + Send + 'static,
    ) -> Result<Value> {
        let this = self.clone();
        closed_loop(tasks, numbers, time, move |number| {
            let this = this.clone();
            async move { this.change_settings(account(number), number).await }
        })
        .await
    }

    /// What `POST /v1/accounts/{id}/change-settings` does, between the request's bytes and the answer.
    async fn change_settings(&self, account: usize, number: u64) -> Result<()> {
        const NAME: &str = "change-settings";
        let inner = &*self.0;
        let account = inner.accounts[account];
        let body = account::change_settings(number);

        let id = account.to_string();
        let origin = Origin {
            actor: Actor::Account(account),
            session: Some(account),
            address: Some("127.0.0.1".to_owned()),
            now: SystemClock.now(),
            correlation_id: vault::random_uuid(),
            traceparent: Some(TRACEPARENT.to_owned()),
        };
        let body = web::parse_object(body.as_bytes()).map_err(|problem| anyhow!("{problem:?}"))?;
        let target = format!("{}-{id}", Account::CATEGORY);
        let command_id = inner
            .keys
            .command_id(&id, &target, &format!("key-{number}"));
        let stream = StreamId::parse(&target)?;
        let content = content(NAME, &body);
        let mut form = Form::new(body, origin.now, Some(account));
        let command = Account::parse(NAME, &mut form).context("accounts know the command")?;
        let command = form.whole(Some(command))?;
        let outcome = inner
            .executor
            .execute(Order {
                stream: &stream,
                person: Account::person(&id),
                command: &command,
                command_id,
                retryable: true,
                content: &content,
                if_match: None,
                origin: &origin,
            })
            .await?;
        outcome
            .appended
            .filter(|appended| !appended.repeated)
            .context("the command wrote nothing")
            .map(drop)
    }
}
