CREATE SCHEMA IF NOT EXISTS showcaller_erasures;

CREATE TABLE IF NOT EXISTS format (
    one     BIGINT PRIMARY KEY CHECK (one = 1),
    version BIGINT NOT NULL
);
INSERT INTO format (one, version) VALUES (1, 1) ON CONFLICT (one) DO NOTHING;

-- Whoever records an erasure locks this row first: so numbers are gapless and in the order of commits.
CREATE TABLE IF NOT EXISTS ledger (
    one  BIGINT PRIMARY KEY CHECK (one = 1),
    head BIGINT NOT NULL
);
INSERT INTO ledger (one, head) VALUES (1, 0) ON CONFLICT (one) DO NOTHING;

CREATE TABLE IF NOT EXISTS erasures (
    seq            BIGINT PRIMARY KEY,
    account        UUID   NOT NULL UNIQUE,
    recorded_at_ms BIGINT NOT NULL
);
