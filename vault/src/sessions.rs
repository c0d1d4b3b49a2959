//! Sessions: families of refresh tokens, each rotated at every use, and the feed of those that ended.
//!
//! Refuses: a token used again later than the grace allows, which ends its family.

use async_recursion::async_recursion as boxed;
use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};
use secrecy::SecretString;
use uuid::Uuid;

use crate::error::{Error, KeyError};
use crate::refresh_token::{parse, token};
use crate::seen::Seen;
use crate::store::{Store, from_ms, on, to_ms, within};
use crate::vault::Vault;

/// How long the token before the current one still gets the same successor: a client that lost the answer retries.
const GRACE: TimeDelta = TimeDelta::seconds(10);
/// The first generation of a session's token.
const FIRST: u32 = 1;
/// How often a refresh looks again because another one rotated in between.
const REFRESH_ATTEMPTS: usize = 4;
/// How many ended sessions one page of the feed holds at most.
const FEED_PAGE: i64 = 1_000;

/// A session to begin.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// Its id.
    pub id: Uuid,
    /// Whose it is.
    pub account: Uuid,
    /// When it begins.
    pub started_at: DateTime<Utc>,
    /// When it ends in any case.
    pub expires_at: DateTime<Utc>,
    /// Whether a second factor was shown.
    pub second_factor: bool,
    /// From where it begins.
    pub seen: Seen,
}

/// A refresh that went through.
#[derive(Debug, Clone)]
pub struct Refreshed {
    /// The session.
    pub session_id: Uuid,
    /// Whose it is.
    pub account: Uuid,
    /// The token for the next refresh.
    pub successor_token: SecretString,
    /// When the session began; 1970 for one of a vault of format 1.
    pub started_at: DateTime<Utc>,
    /// When the session ends in any case.
    pub expires_at: DateTime<Utc>,
    /// Whether a second factor was shown when it began.
    pub second_factor: bool,
}

/// Why a refresh token is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefreshRefusal {
    /// It is no token of this vault, or its session is forgotten.
    #[error("the refresh token is unknown")]
    Unknown,
    /// Its session has reached its absolute end.
    #[error("the session has expired")]
    Expired,
    /// Its session was ended.
    #[error("the session has ended")]
    Ended,
    /// It had been used before; its session is ended now, since somebody may have stolen the token.
    #[error("the refresh token was used before; its session is ended")]
    Reused {
        /// The session.
        session_id: Uuid,
        /// Whose it is.
        account: Uuid,
    },
}

/// Why a refresh did not go through.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RefreshError {
    /// A rule refuses it.
    #[error(transparent)]
    Refused(#[from] RefreshRefusal),
    /// The vault broke.
    #[error(transparent)]
    Fault(#[from] Error),
}

/// How far a process has read the feed of ended sessions. Positions are gapless and in the order of commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FeedPosition(pub u64);

/// A session that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndedSession {
    /// The session.
    pub session_id: Uuid,
    /// Whose it was.
    pub account: Uuid,
}

/// A part of the feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedPage {
    /// In the order they ended; at most 1,000, and fewer only at the feed's end.
    pub sessions: Vec<EndedSession>,
    /// Where the next page begins.
    pub through: FeedPosition,
}

struct Family {
    account: Uuid,
    generation: u32,
    rotated_at: DateTime<Utc>,
    started_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
    second_factor: bool,
    ended: bool,
}

type FamilyRow = (Uuid, i64, i64, i64, Option<i64>, i64, bool);

impl Vault {
    /// Begins a session and gives its first refresh token; again with the same id, the same token.
    #[boxed]
    pub async fn begin_session(&self, new: NewSession) -> Result<SecretString, KeyError> {
        let seen = self.seal_seen(new.account, new.id, &new.seen).await?;
        let inserted = on!(&*self.0.store, pools => within(
            sqlx::query("INSERT INTO sessions (id, account, generation, rotated_at_ms, expires_at_ms, started_at_ms, \
                                               second_factor, last_seen_at_ms, seen) \
                         VALUES ($1, $2, $3, 0, $4, $5, $6, $5, $7) ON CONFLICT (id) DO NOTHING")
                .bind(new.id)
                .bind(new.account)
                .bind(i64::from(FIRST))
                .bind(to_ms(new.expires_at))
                .bind(to_ms(new.started_at))
                .bind(new.second_factor)
                .bind(seen)
                .execute(&pools.write)
        )
        .await?
        .rows_affected());
        if inserted == 0 {
            let owner = self.family(new.id).await?.map(|family| family.account);
            if owner != Some(new.account) {
                return Err(Error::Invalid(format!(
                    "the session {} belongs to another account",
                    new.id
                ))
                .into());
            }
        }
        Ok(token(&self.0.keys, new.id, FIRST))
    }

    /// Takes a refresh token and gives its successor. Of any number at once, all get the same one. `seen` is noted as
    /// where the session was seen last.
    #[boxed]
    pub async fn refresh(
        &self,
        refresh_token: &str,
        seen: &Seen,
        now: DateTime<Utc>,
    ) -> Result<Refreshed, RefreshError> {
        let (session_id, generation) =
            parse(&self.0.keys, refresh_token).ok_or(RefreshRefusal::Unknown)?;
        for _ in 0..REFRESH_ATTEMPTS {
            let family = self
                .family(session_id)
                .await?
                .ok_or(RefreshRefusal::Unknown)?;
            if family.ended {
                return Err(RefreshRefusal::Ended.into());
            }
            if now >= family.expires_at {
                return Err(RefreshRefusal::Expired.into());
            }
            let refreshed = |generation| Refreshed {
                session_id,
                account: family.account,
                successor_token: token(&self.0.keys, session_id, generation),
                started_at: family.started_at,
                expires_at: family.expires_at,
                second_factor: family.second_factor,
            };
            if generation == family.generation {
                let seen = match self.seal_seen(family.account, session_id, seen).await {
                    Err(KeyError::Erased) => return Err(RefreshRefusal::Ended.into()),
                    Err(error) => return Err(error.into_fault(family.account).into()),
                    Ok(seen) => seen,
                };
                if self.rotate(session_id, generation, seen, now).await? {
                    return Ok(refreshed(generation + 1));
                }
                // Another refresh came first, or the session ended: look again.
            } else if generation.checked_add(1) == Some(family.generation)
                && now - family.rotated_at <= GRACE
            {
                return Ok(refreshed(family.generation));
            } else {
                self.end_session(session_id, now).await?;
                return Err(RefreshRefusal::Reused {
                    session_id,
                    account: family.account,
                }
                .into());
            }
        }
        Err(Error::Unavailable("the session is being refreshed by many others".into()).into())
    }

    /// Ends a session. Tells whether it had not ended before.
    #[boxed]
    pub async fn end_session(&self, session_id: Uuid, now: DateTime<Utc>) -> Result<bool, Error> {
        let ended = on!(&*self.0.store, pools => within(async {
            let mut tx = pools.write.begin().await?;
            let head: i64 = sqlx::query_scalar(LOCK_FEED).fetch_one(&mut *tx).await?;
            let ended = sqlx::query(END).bind(session_id).bind(head + 1).bind(to_ms(now)).execute(&mut *tx).await?;
            if ended.rows_affected() == 1 {
                sqlx::query(SET_FEED).bind(head + 1).execute(&mut *tx).await?;
                tx.commit().await?;
            }
            Ok(ended.rows_affected())
        })
        .await)?;
        Ok(ended == 1)
    }

    /// Ends all sessions of an account, `except` one if so asked, and gives those that had not ended before.
    #[boxed]
    pub async fn end_sessions(
        &self,
        account: Uuid,
        except: Option<Uuid>,
        now: DateTime<Utc>,
    ) -> Result<Vec<Uuid>, Error> {
        on!(&*self.0.store, pools => within(async {
            let mut tx = pools.write.begin().await?;
            let mut head: i64 = sqlx::query_scalar(LOCK_FEED).fetch_one(&mut *tx).await?;
            let mut open: Vec<Uuid> =
                sqlx::query_scalar("SELECT id FROM sessions WHERE account = $1 AND ended_seq IS NULL ORDER BY id")
                    .bind(account)
                    .fetch_all(&mut *tx)
                    .await?;
            open.retain(|session| Some(*session) != except);
            for session in &open {
                head += 1;
                sqlx::query(END).bind(session).bind(head).bind(to_ms(now)).execute(&mut *tx).await?;
            }
            sqlx::query(SET_FEED).bind(head).execute(&mut *tx).await?;
            tx.commit().await?;
            Ok(open)
        })
        .await)
    }

    /// The sessions of an account that ended at a time or later; at most 1,000.
    #[boxed]
    pub async fn sessions_ended(
        &self,
        account: Uuid,
        since: DateTime<Utc>,
    ) -> Result<Vec<Uuid>, Error> {
        on!(&*self.0.store, pools => within(
            sqlx::query_scalar(
                "SELECT id FROM sessions WHERE account = $1 AND ended_at_ms >= $2 ORDER BY ended_seq LIMIT $3",
            )
            .bind(account)
            .bind(to_ms(since))
            .bind(FEED_PAGE)
            .fetch_all(&pools.read)
        )
        .await)
    }

    /// Which of these sessions have ended, or are not known (any more).
    #[boxed]
    pub async fn session_ended(&self, sessions: &[Uuid]) -> Result<HashSet<Uuid>, Error> {
        let open: Vec<Uuid> = match &*self.0.store {
            Store::Sqlite(pools) => {
                let ids: Vec<_> = sessions.iter().map(|id| id.simple().to_string()).collect();
                let open = sqlx::query_scalar(
                    "SELECT id FROM sessions \
                     WHERE ended_seq IS NULL AND id IN (SELECT unhex(value) FROM json_each($1))",
                )
                .bind(serde_json::to_string(&ids).expect("ids are JSON"));
                within(open.fetch_all(&pools.read)).await?
            }
            Store::Postgres(pools) => {
                let open = sqlx::query_scalar(
                    "SELECT id FROM sessions WHERE ended_seq IS NULL AND id = ANY($1)",
                )
                .bind(sessions);
                within(open.fetch_all(&pools.read)).await?
            }
        };
        let open: HashSet<_> = open.into_iter().collect();
        Ok(sessions
            .iter()
            .copied()
            .filter(|id| !open.contains(id))
            .collect())
    }

    /// The sessions that ended after a position of the feed. Poll it; a page of 1,000 says that there may be more.
    #[boxed]
    pub async fn ended_since(&self, position: FeedPosition) -> Result<EndedPage, Error> {
        let rows: Vec<(i64, Uuid, Uuid)> = on!(&*self.0.store, pools => within(
            sqlx::query_as("SELECT ended_seq, id, account FROM sessions WHERE ended_seq > $1 ORDER BY ended_seq LIMIT $2")
                .bind(i64::try_from(position.0).unwrap_or(i64::MAX))
                .bind(FEED_PAGE)
                .fetch_all(&pools.read)
        )
        .await)?;
        let through = rows
            .last()
            .map_or(position, |(seq, ..)| FeedPosition(seq.cast_unsigned()));
        let sessions = rows
            .into_iter()
            .map(|(_, session_id, account)| EndedSession {
                session_id,
                account,
            })
            .collect();
        Ok(EndedPage { sessions, through })
    }

    /// Where a process that starts begins to read the feed: before every session that ended at or after `time`.
    /// Access tokens issued before then must have expired.
    #[boxed]
    pub async fn feed_position_at(&self, time: DateTime<Utc>) -> Result<FeedPosition, Error> {
        let position: i64 = on!(&*self.0.store, pools => within(
            sqlx::query_scalar(
                "SELECT coalesce((SELECT min(ended_seq) - 1 FROM sessions \
                                  WHERE ended_seq IS NOT NULL AND ended_at_ms >= $1), \
                                 (SELECT head FROM session_feed))",
            )
            .bind(to_ms(time))
            .fetch_one(&pools.read)
        )
        .await)?;
        Ok(FeedPosition(position.cast_unsigned()))
    }

    async fn rotate(
        &self,
        session_id: Uuid,
        generation: u32,
        seen: Option<Vec<u8>>,
        now: DateTime<Utc>,
    ) -> Result<bool, Error> {
        let rotated = on!(&*self.0.store, pools => within(
            sqlx::query("UPDATE sessions SET generation = generation + 1, rotated_at_ms = $3, last_seen_at_ms = $3, \
                                seen = $4 \
                         WHERE id = $1 AND generation = $2 AND ended_seq IS NULL")
                .bind(session_id)
                .bind(i64::from(generation))
                .bind(to_ms(now))
                .bind(seen)
                .execute(&pools.write)
        )
        .await?
        .rows_affected());
        Ok(rotated == 1)
    }

    async fn family(&self, session_id: Uuid) -> Result<Option<Family>, Error> {
        let row: Option<FamilyRow> = on!(&*self.0.store, pools => within(
            sqlx::query_as(
                "SELECT account, generation, rotated_at_ms, expires_at_ms, ended_seq, started_at_ms, second_factor \
                 FROM sessions WHERE id = $1",
            )
            .bind(session_id)
            .fetch_optional(&pools.read)
        )
        .await)?;
        Ok(row.map(
            |(account, generation, rotated_at, expires_at, ended, started_at, second_factor)| {
                Family {
                    account,
                    generation: generation as u32,
                    rotated_at: from_ms(rotated_at),
                    started_at: from_ms(started_at),
                    expires_at: from_ms(expires_at),
                    second_factor,
                    ended: ended.is_some(),
                }
            },
        ))
    }
}

/// Locks the feed and gives its head. An update, so that SQLite takes its write lock before it reads anything.
pub(crate) const LOCK_FEED: &str =
    "UPDATE session_feed SET head = head WHERE one = 1 RETURNING head";
const SET_FEED: &str = "UPDATE session_feed SET head = $1 WHERE one = 1";
const END: &str =
    "UPDATE sessions SET ended_seq = $2, ended_at_ms = $3 WHERE id = $1 AND ended_seq IS NULL";
