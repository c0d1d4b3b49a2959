-- Counts what happened to data keys beside being made: erasures, new wrappings. Whoever remembers rows of data_keys
-- compares it, so whatever changes them must raise it: hence the triggers.
CREATE TABLE data_key_changes (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    seq INTEGER NOT NULL
) STRICT;
INSERT INTO data_key_changes (one, seq) VALUES (1, 0);

CREATE TRIGGER data_keys_updated AFTER UPDATE ON data_keys BEGIN
    UPDATE data_key_changes SET seq = seq + 1;
END;
CREATE TRIGGER data_keys_deleted AFTER DELETE ON data_keys BEGIN
    UPDATE data_key_changes SET seq = seq + 1;
END;
