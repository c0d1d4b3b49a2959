-- One-time codes and links. One of a purpose at a time; keyed hashes alone.
CREATE TABLE challenges (
    id            BLOB    NOT NULL PRIMARY KEY,
    account       BLOB    NOT NULL,
    purpose       TEXT    NOT NULL,
    subject       BLOB,
    code_hash     BLOB    NOT NULL,
    link_hash     BLOB    NOT NULL,
    tries_left    INTEGER NOT NULL,
    expires_at_ms INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX challenges_one ON challenges (account, purpose);
CREATE UNIQUE INDEX challenges_link ON challenges (link_hash);
CREATE INDEX challenges_expiry ON challenges (expires_at_ms);

-- What must be finished though a process died.
CREATE TABLE intents (
    id             BLOB    NOT NULL PRIMARY KEY,
    kind           TEXT    NOT NULL,
    account        BLOB    NOT NULL,
    detail         TEXT    NOT NULL,
    created_at_ms  INTEGER NOT NULL,
    next_try_at_ms INTEGER NOT NULL,
    pause_ms       INTEGER NOT NULL
) STRICT;
CREATE INDEX intents_due ON intents (next_try_at_ms);

-- Failed log-ins, by the keyed hash of an address.
CREATE TABLE throttles (
    address           BLOB    NOT NULL PRIMARY KEY,
    failures          INTEGER NOT NULL,
    last_failed_at_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX throttles_age ON throttles (last_failed_at_ms);

-- Fixed windows in which something is counted.
CREATE TABLE rates (
    key        BLOB    NOT NULL PRIMARY KEY,
    count      INTEGER NOT NULL,
    ends_at_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX rates_end ON rates (ends_at_ms);

-- Mail on its way, sealed under the account's data key.
CREATE TABLE outbox (
    id             BLOB    NOT NULL PRIMARY KEY,
    account        BLOB    NOT NULL,
    sealed         BLOB    NOT NULL,
    tries          INTEGER NOT NULL,
    created_at_ms  INTEGER NOT NULL,
    next_try_at_ms INTEGER NOT NULL,
    pause_ms       INTEGER NOT NULL
) STRICT;
CREATE INDEX outbox_account ON outbox (account);
CREATE INDEX outbox_due ON outbox (next_try_at_ms);
CREATE INDEX outbox_age ON outbox (created_at_ms);

-- TOTP seeds, sealed under the account's data key; a step of time counts once.
CREATE TABLE second_factors (
    account         BLOB    NOT NULL PRIMARY KEY,
    sealed          BLOB    NOT NULL,
    confirmed_at_ms INTEGER,
    last_step       INTEGER NOT NULL
) STRICT;
CREATE TABLE recovery_codes (
    account BLOB NOT NULL,
    hash    BLOB NOT NULL,
    PRIMARY KEY (account, hash)
) STRICT;

CREATE TABLE api_keys (
    id            BLOB    NOT NULL PRIMARY KEY,
    account       BLOB    NOT NULL,
    hash          BLOB    NOT NULL,
    scopes        TEXT    NOT NULL,
    expires_at_ms INTEGER NOT NULL,
    revoked_at_ms INTEGER
) STRICT;
CREATE INDEX api_keys_account ON api_keys (account);
CREATE INDEX api_keys_expiry ON api_keys (expires_at_ms);

-- `seen` is device and address, sealed under the account's data key. Sessions begun before this step have no such data.
ALTER TABLE sessions ADD COLUMN started_at_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN second_factor INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN last_seen_at_ms INTEGER;
ALTER TABLE sessions ADD COLUMN seen BLOB;

-- How far the erasure ledger has been applied to this vault.
CREATE TABLE ledger_marker (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    seq INTEGER NOT NULL
) STRICT;
INSERT INTO ledger_marker (one, seq) VALUES (1, 0);

-- Who has not proven their address in time.
CREATE INDEX claims_pending_age ON claims (created_at_ms) WHERE status = 'pending';
-- Which sessions of an account ended lately.
CREATE INDEX sessions_ended_account ON sessions (account, ended_at_ms) WHERE ended_seq IS NOT NULL;
