CREATE TABLE format (
    one        INTEGER PRIMARY KEY CHECK (one = 1),
    version    INTEGER NOT NULL,
    keys_check TEXT   NOT NULL
) STRICT;

-- An erased person's row stays without its key: so no later insert brings a key back, and erased differs from missing.
CREATE TABLE data_keys (
    person       BLOB NOT NULL PRIMARY KEY,
    master_key   TEXT,
    wrapped      BLOB,
    erased_at_ms INTEGER,
    CHECK ((wrapped IS NULL) = (erased_at_ms IS NOT NULL) AND (wrapped IS NULL) = (master_key IS NULL))
) STRICT;

CREATE TABLE credentials (
    id      BLOB NOT NULL PRIMARY KEY,
    account BLOB NOT NULL,
    phc     TEXT NOT NULL
) STRICT;
CREATE INDEX credentials_account ON credentials (account);

CREATE TABLE claims (
    hash          BLOB  NOT NULL,
    account       BLOB   NOT NULL,
    status        TEXT   NOT NULL CHECK (status IN ('pending', 'verified')),
    created_at_ms INTEGER NOT NULL,
    PRIMARY KEY (hash, account)
) STRICT;
CREATE UNIQUE INDEX claims_one_verified ON claims (hash) WHERE status = 'verified';
CREATE INDEX claims_newest_pending ON claims (hash, created_at_ms, account) WHERE status = 'pending';
CREATE INDEX claims_account ON claims (account);

CREATE TABLE sessions (
    id            BLOB NOT NULL PRIMARY KEY,
    account       BLOB   NOT NULL,
    generation    INTEGER NOT NULL,
    rotated_at_ms INTEGER NOT NULL,
    expires_at_ms INTEGER NOT NULL,
    ended_seq     INTEGER,
    ended_at_ms   INTEGER
) STRICT;
CREATE INDEX sessions_account ON sessions (account) WHERE ended_seq IS NULL;
CREATE INDEX sessions_expiry ON sessions (expires_at_ms);
CREATE UNIQUE INDEX sessions_ended ON sessions (ended_seq) WHERE ended_seq IS NOT NULL;
CREATE INDEX sessions_ended_at ON sessions (ended_at_ms) WHERE ended_seq IS NOT NULL;

-- Whoever ends sessions locks this row first: so numbers are given in the order of commits, and no poller misses one.
CREATE TABLE session_feed (
    one  INTEGER PRIMARY KEY CHECK (one = 1),
    head INTEGER NOT NULL
) STRICT;
INSERT INTO session_feed (one, head) VALUES (1, 0);
