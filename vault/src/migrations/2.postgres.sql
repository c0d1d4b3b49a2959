-- One-time codes and links. One of a purpose at a time; keyed hashes alone.
CREATE TABLE challenges (
    id            UUID   PRIMARY KEY,
    account       UUID   NOT NULL,
    purpose       TEXT   NOT NULL,
    subject       BYTEA,
    code_hash     BYTEA  NOT NULL,
    link_hash     BYTEA  NOT NULL,
    tries_left    BIGINT NOT NULL,
    expires_at_ms BIGINT NOT NULL
);
CREATE UNIQUE INDEX challenges_one ON challenges (account, purpose);
CREATE UNIQUE INDEX challenges_link ON challenges (link_hash);
CREATE INDEX challenges_expiry ON challenges (expires_at_ms);

-- What must be finished though a process died.
CREATE TABLE intents (
    id             UUID   PRIMARY KEY,
    kind           TEXT   NOT NULL,
    account        UUID   NOT NULL,
    detail         TEXT   NOT NULL,
    created_at_ms  BIGINT NOT NULL,
    next_try_at_ms BIGINT NOT NULL,
    pause_ms       BIGINT NOT NULL
);
CREATE INDEX intents_due ON intents (next_try_at_ms);

-- Failed log-ins, by the keyed hash of an address.
CREATE TABLE throttles (
    address           BYTEA  PRIMARY KEY,
    failures          BIGINT NOT NULL,
    last_failed_at_ms BIGINT NOT NULL
);
CREATE INDEX throttles_age ON throttles (last_failed_at_ms);

-- Fixed windows in which something is counted.
CREATE TABLE rates (
    key        BYTEA  PRIMARY KEY,
    count      BIGINT NOT NULL,
    ends_at_ms BIGINT NOT NULL
);
CREATE INDEX rates_end ON rates (ends_at_ms);

-- Mail on its way, sealed under the account's data key.
CREATE TABLE outbox (
    id             UUID   PRIMARY KEY,
    account        UUID   NOT NULL,
    sealed         BYTEA  NOT NULL,
    tries          BIGINT NOT NULL,
    created_at_ms  BIGINT NOT NULL,
    next_try_at_ms BIGINT NOT NULL,
    pause_ms       BIGINT NOT NULL
);
CREATE INDEX outbox_account ON outbox (account);
CREATE INDEX outbox_due ON outbox (next_try_at_ms);
CREATE INDEX outbox_age ON outbox (created_at_ms);

-- TOTP seeds, sealed under the account's data key; a step of time counts once.
CREATE TABLE second_factors (
    account         UUID   PRIMARY KEY,
    sealed          BYTEA  NOT NULL,
    confirmed_at_ms BIGINT,
    last_step       BIGINT NOT NULL
);
CREATE TABLE recovery_codes (
    account UUID  NOT NULL,
    hash    BYTEA NOT NULL,
    PRIMARY KEY (account, hash)
);

CREATE TABLE api_keys (
    id            UUID   PRIMARY KEY,
    account       UUID   NOT NULL,
    hash          BYTEA  NOT NULL,
    scopes        TEXT   NOT NULL,
    expires_at_ms BIGINT NOT NULL,
    revoked_at_ms BIGINT
);
CREATE INDEX api_keys_account ON api_keys (account);
CREATE INDEX api_keys_expiry ON api_keys (expires_at_ms);

-- `seen` is device and address, sealed under the account's data key. Sessions begun before this step have no such data.
ALTER TABLE sessions ADD COLUMN started_at_ms BIGINT NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN second_factor BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE sessions ADD COLUMN last_seen_at_ms BIGINT;
ALTER TABLE sessions ADD COLUMN seen BYTEA;

-- How far the erasure ledger has been applied to this vault.
CREATE TABLE ledger_marker (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    seq BIGINT NOT NULL
);
INSERT INTO ledger_marker (one, seq) VALUES (1, 0);

-- Who has not proven their address in time.
CREATE INDEX claims_pending_age ON claims (created_at_ms) WHERE status = 'pending';
-- Which sessions of an account ended lately.
CREATE INDEX sessions_ended_account ON sessions (account, ended_at_ms) WHERE ended_seq IS NOT NULL;
