"""What the consumer keeps: its results and how far it is, in one SQLite file.

A result and the position that it belongs to move in one transaction, so being killed between them is not possible, and a
message that comes twice finds that it was taken.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum

import effects

SCHEMA = """
CREATE TABLE IF NOT EXISTS logs (
    epoch TEXT PRIMARY KEY,
    log TEXT NOT NULL,
    partitions INTEGER NOT NULL,
    is_current INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS positions (
    partition INTEGER PRIMARY KEY,
    position INTEGER NOT NULL
);
"""
BUSY_TIMEOUT_S = 10


@dataclass(frozen=True)
class Event:
    """An event, whichever way it came."""

    position: int
    partition: int
    stream: str
    id: str
    type: str
    data: dict
    recorded_at: str


@dataclass(frozen=True)
class Log:
    """Which log the positions belong to. Restoring a backup draws a new epoch."""

    log: str
    epoch: str
    partitions: int


class Outcome(Enum):
    """What became of a message."""

    TAKEN = "taken"
    KNOWN = "known"
    MISSING = "something before it is missing"


class Books:
    """The file. One process at a time writes to it; a second one waits, and finds what the first has done."""

    def __init__(self, path: str):
        self.db = sqlite3.connect(path, isolation_level=None, timeout=BUSY_TIMEOUT_S)
        # What a power cut takes from the end of the file it takes whole, and it comes again from the log.
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("PRAGMA synchronous = NORMAL")
        self.db.executescript(SCHEMA + effects.SCHEMA)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.db.execute("ROLLBACK")
            raise
        self.db.execute("COMMIT")

    def current(self) -> Log | None:
        """The log that is followed; none until the first heartbeat."""
        row = self.db.execute("SELECT log, epoch, partitions FROM logs WHERE is_current").fetchone()
        return Log(*row) if row else None

    def is_known(self, epoch: str) -> bool:
        return self.db.execute("SELECT 1 FROM logs WHERE epoch = ?", (epoch,)).fetchone() is not None

    def begin(self, log: Log) -> None:
        """Follows this log from its beginning: what was made of another is worth nothing."""
        with self.transaction():
            self.db.execute("UPDATE logs SET is_current = 0")
            self.db.execute("INSERT INTO logs VALUES (?, ?, ?, 1)", (log.epoch, log.log, log.partitions))
            self.db.execute("DELETE FROM positions")
            effects.forget(self.db)

    def position(self, partition: int) -> int:
        """The last event of the partition that was taken; 0 before the first."""
        row = self.db.execute("SELECT position FROM positions WHERE partition = ?", (partition,))
        return (row.fetchone() or (0,))[0]

    def take_message(self, event: Event, previous: int) -> Outcome:
        """Takes an event that follows on what was taken before."""
        with self.transaction():
            known = self.position(event.partition)
            if event.position <= known:
                return Outcome.KNOWN
            if previous != known:
                return Outcome.MISSING
            self._take(event)
        return Outcome.TAKEN

    def take_read(self, events: list[Event]) -> None:
        """Takes what was read from the log without a gap; what is known already is left out."""
        with self.transaction():
            for event in events:
                if event.position > self.position(event.partition):
                    self._take(event)

    def _take(self, event: Event) -> None:
        effects.apply(self.db, event)
        self.db.execute(
            "INSERT INTO positions VALUES (?, ?) ON CONFLICT DO UPDATE SET position = excluded.position",
            (event.partition, event.position),
        )
