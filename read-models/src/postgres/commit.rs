//! Commits: checkpoints and rows, both or neither, of one read model or of several in one statement. It refuses to write
//! anything beside a checkpoint that is not what was loaded.

use sqlx::Row as _;
use sqlx::error::DatabaseError;
use sqlx::postgres::{PgConnection, PgPool};

use super::{CHANNEL, books, codec, within};
use crate::sql::{self, built};
use crate::{Commit, CommitError, checks, journal};

/// How a commit says that a row belongs to another partition; see [`sql::commit`].
const DIVISION_BY_ZERO: &str = "22012";

/// One read model's commit, with the streams it parks.
pub(super) async fn one(pool: &PgPool, commit: Commit<'_>) -> Result<(), CommitError> {
    checks::writes(commit.model, commit.writes)?;
    if commit.writes.is_rows_alone() {
        return advance(&mut *pool.acquire().await?, &[commit])
            .await
            .and_then(only);
    }
    let mut transaction = pool.begin().await?;
    advance(&mut transaction, &[commit]).await.and_then(only)?;
    books::note_parking(&mut transaction, &commit.generation.table, commit.writes).await?;
    transaction.commit().await?;
    Ok(())
}

/// Several read models' commits in one statement. When the database refuses that, each is tried by itself, so that one
/// alone is refused.
pub(super) async fn together(
    pool: &PgPool,
    commits: &[Commit<'_>],
) -> Vec<Result<(), CommitError>> {
    let whole = |commit: &Commit<'_>| {
        commit.writes.is_rows_alone() && checks::writes(commit.model, commit.writes).is_ok()
    };
    if commits.len() > 1 && commits.iter().all(whole) {
        let answer = within(async { advance(&mut *pool.acquire().await?, commits).await }).await;
        match answer {
            Ok(moved) => return moved.into_iter().map(fenced_unless).collect(),
            Err(CommitError::Refused(_)) => {}
            Err(error) => {
                let reason = error.to_string();
                let fault = || CommitError::Fault(crate::Error::Unavailable(reason.clone()));
                return commits.iter().map(|_| Err(fault())).collect();
            }
        }
    }
    let mut answers = Vec::with_capacity(commits.len());
    for commit in commits {
        answers.push(within(one(pool, *commit)).await);
    }
    answers
}

/// Moves checkpoints and writes rows; says which checkpoints were what had been loaded. The notification goes out with
/// this commit alone.
async fn advance(
    connection: &mut PgConnection,
    commits: &[Commit<'_>],
) -> Result<Vec<bool>, CommitError> {
    let entries: Vec<_> = commits
        .iter()
        .map(|commit| journal::entry(commit))
        .collect();
    let parts: Vec<sql::Part<'_>> = commits
        .iter()
        .zip(&entries)
        .map(|(commit, entry)| sql::Part {
            shape: commit.model.into(),
            table: &commit.generation.table,
            upserts: !commit.writes.upserts.is_empty(),
            deletes: !commit.writes.deletes.is_empty(),
            journal: entry.is_some(),
            owner: journal::owner_beside_key(commit.model),
        })
        .collect();
    let mut query = sqlx::query(built(sql::commit(&parts))).bind(CHANNEL);
    for (commit, entry) in commits.iter().zip(entries) {
        let Commit {
            model,
            from,
            to,
            writes,
            ..
        } = *commit;
        query = query
            .bind(to.position.as_i64())
            .bind(to.digest.as_bytes())
            .bind(&commit.generation.table)
            .bind(codec::small(commit.partition)?)
            .bind(from.position.as_i64())
            .bind(from.digest.as_bytes())
            .bind(writes.upserts.len() as i64)
            .bind(to.amended.cast_signed())
            .bind(from.amended.cast_signed());
        if let Some(entry) = entry {
            query = query.bind(entry);
        }
        if !writes.upserts.is_empty() {
            query = codec::bind_rows(query, model, &writes.upserts);
        }
        if !writes.deletes.is_empty() {
            query = codec::bind_keys(query, model, &writes.deletes);
        }
    }
    let answer = query.fetch_one(connection).await.map_err(|error| {
        let code = error.as_database_error().and_then(DatabaseError::code);
        match code.as_deref() {
            Some(DIVISION_BY_ZERO) => checks::foreign_rows(),
            _ => error.into(),
        }
    })?;
    Ok(answer.try_get(0)?)
}

fn only(moved: Vec<bool>) -> Result<(), CommitError> {
    fenced_unless(moved.into_iter().all(|moved| moved))
}

fn fenced_unless(moved: bool) -> Result<(), CommitError> {
    if moved {
        Ok(())
    } else {
        Err(CommitError::Fenced)
    }
}
