-- One row: which log this is, and where it ends.
CREATE TABLE events_head (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    format INTEGER NOT NULL,
    needs TEXT NOT NULL,
    log BLOB NOT NULL,
    epoch BLOB NOT NULL,
    partitions INTEGER NOT NULL CHECK (partitions > 0),
    position INTEGER NOT NULL CHECK (position >= 0)
) STRICT;

CREATE TABLE events (
    position INTEGER PRIMARY KEY,
    stream TEXT NOT NULL,
    version INTEGER NOT NULL CHECK (version > 0),
    id BLOB NOT NULL,
    type TEXT NOT NULL,
    schema_version INTEGER NOT NULL,
    data TEXT NOT NULL,
    metadata TEXT NOT NULL,
    hash BLOB NOT NULL CHECK (length(hash) = 32),
    partition INTEGER NOT NULL,
    -- Only on an append's first event: its command, and how many events it has.
    command_id BLOB,
    append_size INTEGER
) STRICT;

CREATE UNIQUE INDEX events_by_stream ON events (stream, version);
CREATE UNIQUE INDEX events_by_command ON events (command_id) WHERE command_id IS NOT NULL;

CREATE TABLE events_leases (
    name TEXT PRIMARY KEY,
    holder BLOB,
    fence INTEGER NOT NULL,
    -- Milliseconds since 1970, by SQLite's clock.
    expires_at INTEGER NOT NULL
) STRICT;

CREATE TABLE events_relay_checkpoint (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    fence INTEGER NOT NULL,
    checkpoint TEXT NOT NULL
) STRICT;

-- Ids of version 4 (RFC 9562), drawn here so that the adapter draws none.
INSERT INTO events_head (id, format, needs, log, epoch, partitions, position)
WITH ids (log, epoch) AS MATERIALIZED (SELECT hex(randomblob(16)), hex(randomblob(16)))
SELECT 1, 0, '', unhex(substr(log, 1, 12) || '4' || substr(log, 14, 3) || 'A' || substr(log, 18)),
       unhex(substr(epoch, 1, 12) || '4' || substr(epoch, 14, 3) || 'A' || substr(epoch, 18)), 1, 0 FROM ids;
