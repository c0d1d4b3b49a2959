//! The vault's tables, and the version of their form.
//!
//! Refuses: a database that a newer program has migrated, and one that was made with other keys.

use sqlx::{Executor, Postgres, Sqlite, Transaction};

use crate::error::Error;
use crate::keys::Keys;
use crate::store::{Store, VAULT, within};

/// What turns a database of format `n` into one of format `n + 1`, one entry a step; never edited once released.
const SQLITE_STEPS: [&str; 3] = [
    include_str!("migrations/1.sqlite.sql"),
    include_str!("migrations/2.sqlite.sql"),
    include_str!("migrations/3.sqlite.sql"),
];
const POSTGRES_STEPS: [&str; 3] = [
    include_str!("migrations/1.postgres.sql"),
    include_str!("migrations/2.postgres.sql"),
    include_str!("migrations/3.postgres.sql"),
];
/// Which PostgreSQL advisory lock migrations hold.
const MIGRATION_LOCK: i64 = i64::from_be_bytes(*b"\0\0\0vault");

/// Brings the database to this program's format, alone, and checks that the keys are the ones it was made with.
pub(crate) async fn migrate(store: &Store, keys: &Keys) -> Result<(), Error> {
    match store {
        Store::Sqlite(pools) => {
            // IMMEDIATE takes the write lock before anything is read.
            let mut tx = within(pools.write.begin_with("BEGIN IMMEDIATE")).await?;
            sqlite(&mut tx, keys).await?;
            within(tx.commit()).await
        }
        Store::Postgres(pools) => {
            let mut tx = within(pools.write.begin()).await?;
            postgres(&mut tx, keys).await?;
            within(tx.commit()).await
        }
    }
}

/// The steps from what is there to what this program needs, or why it must not touch it.
fn steps_from(
    found: i64,
    steps: &'static [&'static str],
) -> Result<&'static [&'static str], Error> {
    let known = steps.len();
    usize::try_from(found)
        .ok()
        .and_then(|found| steps.get(found..))
        .ok_or_else(|| {
            Error::Invalid(format!(
                "the vault has format {found}, this program knows formats up to {known}: \
             use a showcaller that knows vault format {found}"
            ))
        })
}

fn same_keys(found: &str, keys: &Keys) -> Result<(), Error> {
    if found == keys.check_value() {
        return Ok(());
    }
    Err(Error::Invalid(
        "the vault was made with other keys: name the keys file it was made with (--keys), or another vault".into(),
    ))
}

// The two differ only in how the format is found and locked; sqlx's executors make sharing longer than repeating.
async fn sqlite(tx: &mut Transaction<'_, Sqlite>, keys: &Keys) -> Result<(), Error> {
    let exists: bool = within(
        sqlx::query_scalar("SELECT count(*) > 0 FROM sqlite_schema WHERE name = 'format'")
            .fetch_one(&mut **tx),
    )
    .await?;
    let found: Option<(i64, String)> = if exists {
        within(sqlx::query_as("SELECT version, keys_check FROM format").fetch_optional(&mut **tx))
            .await?
    } else {
        None
    };
    let version = found.as_ref().map_or(0, |(version, _)| *version);
    let steps = steps_from(version, &SQLITE_STEPS)?;
    for step in steps {
        within(tx.execute(*step)).await?;
    }
    if let Some((_, check)) = &found {
        same_keys(check, keys)?;
    }
    if !steps.is_empty() {
        within(
            sqlx::query(UPSERT_FORMAT)
                .bind(SQLITE_STEPS.len() as i64)
                .bind(keys.check_value())
                .execute(&mut **tx),
        )
        .await?;
    }
    Ok(())
}

async fn postgres(tx: &mut Transaction<'_, Postgres>, keys: &Keys) -> Result<(), Error> {
    within(
        sqlx::query("SELECT pg_advisory_xact_lock($1)")
            .bind(MIGRATION_LOCK)
            .execute(&mut **tx),
    )
    .await?;
    let exists: bool = within(
        sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
            .bind(format!("{}.format", VAULT.schema))
            .fetch_one(&mut **tx),
    )
    .await?;
    let found: Option<(i64, String)> = if exists {
        within(sqlx::query_as("SELECT version, keys_check FROM format").fetch_optional(&mut **tx))
            .await?
    } else {
        None
    };
    let version = found.as_ref().map_or(0, |(version, _)| *version);
    let steps = steps_from(version, &POSTGRES_STEPS)?;
    for step in steps {
        within(tx.execute(*step)).await?;
    }
    if let Some((_, check)) = &found {
        same_keys(check, keys)?;
    }
    if !steps.is_empty() {
        within(
            sqlx::query(UPSERT_FORMAT)
                .bind(POSTGRES_STEPS.len() as i64)
                .bind(keys.check_value())
                .execute(&mut **tx),
        )
        .await?;
    }
    Ok(())
}

const UPSERT_FORMAT: &str = "INSERT INTO format (one, version, keys_check) VALUES (1, $1, $2) \
                             ON CONFLICT (one) DO UPDATE SET version = excluded.version";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_format_is_refused_naming_the_version_needed() {
        assert_eq!(
            steps_from(0, &SQLITE_STEPS).unwrap().len(),
            SQLITE_STEPS.len()
        );
        assert_eq!(steps_from(1, &SQLITE_STEPS).unwrap(), &SQLITE_STEPS[1..]);
        let newest = SQLITE_STEPS.len() as i64;
        assert!(steps_from(newest, &SQLITE_STEPS).unwrap().is_empty());
        let error = steps_from(7, &SQLITE_STEPS).unwrap_err().to_string();
        assert!(error.contains("knows vault format 7"), "{error}");
    }
}
