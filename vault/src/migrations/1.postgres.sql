CREATE SCHEMA IF NOT EXISTS showcaller_vault;

CREATE TABLE format (
    one        BIGINT PRIMARY KEY CHECK (one = 1),
    version    BIGINT NOT NULL,
    keys_check TEXT   NOT NULL
);

-- An erased person's row stays without its key: so no later insert brings a key back, and erased differs from missing.
CREATE TABLE data_keys (
    person       UUID PRIMARY KEY,
    master_key   TEXT,
    wrapped      BYTEA,
    erased_at_ms BIGINT,
    CHECK ((wrapped IS NULL) = (erased_at_ms IS NOT NULL) AND (wrapped IS NULL) = (master_key IS NULL))
);

CREATE TABLE credentials (
    id      UUID PRIMARY KEY,
    account UUID NOT NULL,
    phc     TEXT NOT NULL
);
CREATE INDEX credentials_account ON credentials (account);

CREATE TABLE claims (
    hash          BYTEA  NOT NULL,
    account       UUID   NOT NULL,
    status        TEXT   NOT NULL CHECK (status IN ('pending', 'verified')),
    created_at_ms BIGINT NOT NULL,
    PRIMARY KEY (hash, account)
);
CREATE UNIQUE INDEX claims_one_verified ON claims (hash) WHERE status = 'verified';
CREATE INDEX claims_newest_pending ON claims (hash, created_at_ms, account) WHERE status = 'pending';
CREATE INDEX claims_account ON claims (account);

CREATE TABLE sessions (
    id            UUID PRIMARY KEY,
    account       UUID   NOT NULL,
    generation    BIGINT NOT NULL,
    rotated_at_ms BIGINT NOT NULL,
    expires_at_ms BIGINT NOT NULL,
    ended_seq     BIGINT,
    ended_at_ms   BIGINT
);
CREATE INDEX sessions_account ON sessions (account) WHERE ended_seq IS NULL;
CREATE INDEX sessions_expiry ON sessions (expires_at_ms);
CREATE UNIQUE INDEX sessions_ended ON sessions (ended_seq) WHERE ended_seq IS NOT NULL;
CREATE INDEX sessions_ended_at ON sessions (ended_at_ms) WHERE ended_seq IS NOT NULL;

-- Whoever ends sessions locks this row first: so numbers are given in the order of commits, and no poller misses one.
CREATE TABLE session_feed (
    one  BIGINT PRIMARY KEY CHECK (one = 1),
    head BIGINT NOT NULL
);
INSERT INTO session_feed (one, head) VALUES (1, 0);
