//! The pool of connections and their settings: every wait on the server has an end.

use std::str::FromStr;
use std::time::Duration;

use sqlx::Connection as _;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};

use crate::{Error, patience, sql};

/// Connections of one store, beside the one that listens.
const CONNECTIONS: u32 = 16;
/// How long a caller waits for a connection.
const ACQUIRE: Duration = Duration::from_secs(5);
/// A connection that was idle for longer is asked whether it still lives before it is used.
const IDLE_UNCHECKED: Duration = Duration::from_secs(1);
/// Statements kept prepared on each connection: a dozen for each read model.
const STATEMENTS: usize = 256;
/// A worker that is paused within a transaction frees its successor after this.
const IDLE_IN_TRANSACTION: &str = "5s";
/// The longest wait for a lock, and for a statement.
const LOCK: &str = "5s";
const STATEMENT: Duration = Duration::from_mins(1);

/// How statements of the store's own are planned: once for each connection, and so that rows are found by index. Planned
/// anew each time, a small commit would cost half as much again; and a plan that was made while a table was small must do
/// when it is large.
const OWN_PLANS: [(&str, &str); 5] = [
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("jit", "off"),
];

/// The connections that the store's own work goes through, made when they are used.
pub(super) fn own(url: &str, read_only: bool) -> Result<PgPool, Error> {
    lazy(url, read_only, STATEMENT, &OWN_PLANS)
}

/// Those for what readers ask, whatever that is: each may take so long.
pub(super) fn queries(url: &str, timeout: Duration) -> Result<PgPool, Error> {
    lazy(url, true, timeout, &[])
}

fn lazy(
    url: &str,
    read_only: bool,
    statement: Duration,
    plans: &[(&str, &str)],
) -> Result<PgPool, Error> {
    let wrong = |_| {
        // The parser's message may quote the URL, which may hold a password.
        Error::Invalid(
            "the read model database's URL is wrong; write postgres://USER@HOST/DATABASE".into(),
        )
    };
    let connect = PgConnectOptions::from_str(url)
        .map_err(wrong)?
        .application_name("showcaller read models")
        .statement_cache_capacity(STATEMENTS)
        .options([
            ("search_path", sql::SCHEMA),
            ("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION),
            ("lock_timeout", LOCK),
            (
                "statement_timeout",
                format!("{}ms", statement.as_millis()).as_str(),
            ),
            (
                "default_transaction_read_only",
                if read_only { "on" } else { "off" },
            ),
            // A crash of the server may undo the last commits, and that is enough here: rows and checkpoint go back
            // together, and the log holds what followed. Waiting for the disk would protect what can be rebuilt.
            ("synchronous_commit", "off"),
        ])
        .options(plans.iter().copied());
    Ok(PgPoolOptions::new()
        .max_connections(CONNECTIONS)
        .acquire_timeout(ACQUIRE)
        .test_before_acquire(false)
        .before_acquire(|connection, meta| {
            Box::pin(async move {
                if meta.idle_for > IDLE_UNCHECKED {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .connect_lazy_with(connect))
}

/// Ends the wait for a server that does not answer any more.
pub(super) async fn within<T, E: From<Error>>(
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    patience::within("PostgreSQL", work).await
}
