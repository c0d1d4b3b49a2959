"""What this consumer makes of events: the part to replace by one's own.

Two kinds of result, and the difference matters. `activity` is derived: it may be forgotten and made again from the log.
`letters` leave the house (another program sends them): one for each event, by its id, for ever, whatever is made again.
"""

import sqlite3
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from books import Event

SCHEMA = """
CREATE TABLE IF NOT EXISTS activity (
    account TEXT PRIMARY KEY,
    registered_at TEXT,
    log_ins INTEGER NOT NULL DEFAULT 0,
    changes INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS letters (
    event_id TEXT PRIMARY KEY,
    account TEXT NOT NULL,
    text TEXT NOT NULL
);
"""


def forget(db: sqlite3.Connection) -> None:
    """Before everything is made again."""
    db.execute("DELETE FROM activity")


def apply(db: sqlite3.Connection, event: "Event") -> None:
    """Runs in the transaction that moves the position: once for each event, in order within a partition."""
    account = event.stream.removeprefix("account-")
    match event.type:
        case "AccountRegistered":
            # A person's own words are ciphertext here; ask the query API for what you may see of them.
            _count(db, account, registered_at=event.recorded_at)
            db.execute(
                "INSERT OR IGNORE INTO letters VALUES (?, ?, 'Welcome')", (event.id, account)
            )
        case "ProfileUpdated" | "SettingsChanged":
            _count(db, account, changes=1)
        case "SessionStarted":
            # Another stream, so maybe another partition: it may come before the account's own events.
            _count(db, event.data["account_id"], log_ins=1)


def _count(
    db: sqlite3.Connection,
    account: str,
    registered_at: str | None = None,
    log_ins: int = 0,
    changes: int = 0,
) -> None:
    db.execute(
        "INSERT INTO activity VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
        " registered_at = coalesce(excluded.registered_at, registered_at),"
        " log_ins = log_ins + excluded.log_ins, changes = changes + excluded.changes",
        (account, registered_at, log_ins, changes),
    )
