CREATE TABLE IF NOT EXISTS format (
    one     INTEGER PRIMARY KEY CHECK (one = 1),
    version INTEGER NOT NULL
) STRICT;
INSERT INTO format (one, version) VALUES (1, 1) ON CONFLICT (one) DO NOTHING;

-- Whoever records an erasure locks this row first: so numbers are gapless and in the order of commits.
CREATE TABLE IF NOT EXISTS ledger (
    one  INTEGER PRIMARY KEY CHECK (one = 1),
    head INTEGER NOT NULL
) STRICT;
INSERT INTO ledger (one, head) VALUES (1, 0) ON CONFLICT (one) DO NOTHING;

CREATE TABLE IF NOT EXISTS erasures (
    seq            INTEGER PRIMARY KEY,
    account        BLOB    NOT NULL UNIQUE,
    recorded_at_ms INTEGER NOT NULL
) STRICT;
