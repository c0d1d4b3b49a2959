//! Connecting to PostgreSQL: session settings, the checks that refuse an unsafe server, and migrations under a lock.

use std::str::FromStr;
use std::time::Duration;

use events::{LogIdentity, Position};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, PgConnection, Row};

use crate::{Error, FORMAT, Options};

/// Serialises migrations among all processes: the bytes of `sc-event`.
const MIGRATION_LOCK: i64 = 0x7363_2d65_7665_6e74;
/// How long a migration waits for another process's.
const MIGRATION_LOCK_TIMEOUT: &str = "25s";
/// How long connecting may take.
pub(super) const CONNECT_WAIT: Duration = Duration::from_secs(5);
/// The oldest server that has everything used here (`gen_random_uuid` in the core).
const OLDEST_SERVER: i32 = 130_000;

/// What is known after opening.
pub(super) struct Opened {
    pub identity: LogIdentity,
    pub head: Position,
    /// How the writer and all others connect.
    pub connect: PgConnectOptions,
    pub pool: PgPool,
}

/// Settings of every session. Plans must not depend on statistics that a fresh or fast-growing table does not have yet:
/// everything here is one walk along an index.
fn session(url: &str, read_only: bool) -> Result<PgConnectOptions, Error> {
    let options = PgConnectOptions::from_str(url).map_err(|error| {
        Error::Invalid(format!(
            "the event store's URL is not of the form postgres://USER@HOST/DATABASE: {error}"
        ))
    })?;
    let mut settings = vec![
        ("lock_timeout", "5s"),
        ("idle_in_transaction_session_timeout", "5s"),
        ("statement_timeout", "30s"),
        ("default_transaction_isolation", "read committed"),
        ("enable_seqscan", "off"),
        ("enable_bitmapscan", "off"),
        ("enable_hashjoin", "off"),
        ("enable_mergejoin", "off"),
        ("jit", "off"),
        // Planning the statements of an append anew would cost more than carrying them out.
        ("plan_cache_mode", "force_generic_plan"),
    ];
    if read_only {
        settings.push(("default_transaction_read_only", "on"));
    }
    Ok(options
        .application_name("showcaller-events")
        .options(settings)
        .disable_statement_logging())
}

/// Opens the log, making or migrating it first unless `read_only`.
pub(super) async fn open(url: &str, options: &Options) -> Result<Opened, Error> {
    let connect = session(url, options.read_only)?;
    let mut connection = connection(&connect).await?;
    let level = check_server(&mut connection).await?;
    let (identity, head) = prepare(&mut connection, options).await?;
    // Whatever is set for the database or the role later, appends stay durable. `remote_apply` is stricter than `on`.
    let level = if level == "remote_apply" {
        "remote_apply"
    } else {
        "on"
    };
    let connect = connect.options([("synchronous_commit", level)]);
    let _ = connection.close().await;
    let pool = PgPoolOptions::new()
        .min_connections(0)
        .max_connections(options.connections.max(1))
        .acquire_timeout(CONNECT_WAIT)
        .test_before_acquire(false)
        .connect_lazy_with(connect.clone());
    Ok(Opened {
        identity,
        head,
        connect,
        pool,
    })
}

/// A connection of one's own.
pub(super) async fn connection(options: &PgConnectOptions) -> Result<PgConnection, Error> {
    match tokio::time::timeout(CONNECT_WAIT, PgConnection::connect_with(options)).await {
        Ok(connected) => connected.map_err(|error| fault(&error)),
        Err(_) => Err(Error::Unavailable(format!(
            "PostgreSQL did not answer within {CONNECT_WAIT:?}"
        ))),
    }
}

/// Refuses a server whose commits do not last or that cannot hold every text; gives its level of durability.
async fn check_server(connection: &mut PgConnection) -> Result<String, Error> {
    let row = sqlx::query(
        "SELECT current_setting('synchronous_commit'), current_setting('server_version_num')::int, \
         current_setting('server_encoding')",
    )
    .fetch_one(connection)
    .await
    .map_err(|error| fault(&error))?;
    let (level, version, encoding): (String, i32, String) = (row.get(0), row.get(1), row.get(2));
    if level == "off" {
        return Err(Error::Invalid(
            "PostgreSQL has synchronous_commit=off for this database or role, so that events could be lost after they \
             were acknowledged: set it to on (ALTER DATABASE … RESET synchronous_commit, ALTER ROLE … RESET \
             synchronous_commit, or postgresql.conf)"
                .into(),
        ));
    }
    if version < OLDEST_SERVER {
        return Err(Error::Invalid(format!(
            "the event store needs PostgreSQL 13 or newer; this is {version}"
        )));
    }
    if encoding != "UTF8" {
        return Err(Error::Invalid(format!(
            "the database's encoding is {encoding}; the event store needs one made with ENCODING 'UTF8'"
        )));
    }
    Ok(level)
}

/// Makes or migrates the log under a lock, and reads which one it is.
async fn prepare(
    connection: &mut PgConnection,
    options: &Options,
) -> Result<(LogIdentity, Position), Error> {
    let fault = |error: sqlx::Error| fault(&error);
    let mut transaction = connection.begin().await.map_err(fault)?;
    if !options.read_only {
        sqlx::query("SELECT set_config('lock_timeout', $1, true)")
            .bind(MIGRATION_LOCK_TIMEOUT)
            .execute(&mut *transaction)
            .await
            .map_err(fault)?;
        sqlx::query("SELECT pg_advisory_xact_lock($1)")
            .bind(MIGRATION_LOCK)
            .execute(&mut *transaction)
            .await
            .map_err(fault)?;
    }
    let exists: bool =
        sqlx::query_scalar("SELECT to_regclass('showcaller_events.head') IS NOT NULL")
            .fetch_one(&mut *transaction)
            .await
            .map_err(fault)?;
    if !exists {
        if options.read_only {
            return Err(crate::no_log());
        }
        sqlx::raw_sql(include_str!("schema.sql"))
            .execute(&mut *transaction)
            .await
            .map_err(fault)?;
        sqlx::query("UPDATE showcaller_events.head SET format = $1, needs = $2, partitions = $3, log = coalesce($4, log) WHERE id = 1")
            .bind(FORMAT)
            .bind(env!("CARGO_PKG_VERSION"))
            .bind(i32::from(options.partitions.max(1)))
            .bind(options.log)
            .execute(&mut *transaction)
            .await
            .map_err(fault)?;
    }
    // Only the columns that every format has, so that a newer one can still be told apart.
    let row = sqlx::query("SELECT format, needs FROM showcaller_events.head WHERE id = 1")
        .fetch_one(&mut *transaction)
        .await
        .map_err(fault)?;
    if row.get::<i32, _>(0) > FORMAT {
        return Err(crate::too_new(row.get(0), row.get(1)));
    }
    let row = sqlx::query(
        "SELECT log, epoch, partitions, position FROM showcaller_events.head WHERE id = 1",
    )
    .fetch_one(&mut *transaction)
    .await
    .map_err(fault)?;
    let identity = LogIdentity {
        log: row.get(0),
        epoch: row.get(1),
        partitions: row.get::<i32, _>(2) as u16,
    };
    let head = Position::from_i64(row.get(3));
    transaction.commit().await.map_err(fault)?;
    Ok((identity, head))
}

/// How many broken connections of the pool are tried before a caller is told: after a restart of the server all are.
const BROKEN: usize = 10;

/// Runs something that may be run twice, again if the pool's connection turns out to be broken. Testing each connection
/// before it is used would cost every read a round trip.
pub(super) async fn again<T, F>(run: impl Fn() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, sqlx::Error>>,
{
    let mut tries = 0;
    loop {
        tries += 1;
        match run().await {
            Err(error) if tries < BROKEN && is_broken(&error) => {}
            done => return done.map_err(|error| fault(&error)),
        }
    }
}

fn is_broken(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) => true,
        // Ended by the administrator or by a crash, or a connection exception.
        sqlx::Error::Database(database) => database
            .code()
            .is_some_and(|code| code.starts_with("08") || code == "57P01" || code == "57P02"),
        _ => false,
    }
}

/// The fault behind a database error: what trying again may help against, and what it will not.
pub(super) fn fault(error: &sqlx::Error) -> Error {
    let text = format!("PostgreSQL: {error}");
    match error {
        sqlx::Error::Database(database) => match database
            .code()
            .as_deref()
            .map(|code| &code[..2.min(code.len())])
        {
            // Wrong password, unknown database, missing tables and privileges, read-only sessions.
            Some("28" | "3D" | "42" | "25") => Error::Invalid(text),
            _ => Error::Unavailable(text),
        },
        sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::Decode(_)
        | sqlx::Error::Configuration(_) => Error::Invalid(text),
        _ => Error::Unavailable(text),
    }
}
