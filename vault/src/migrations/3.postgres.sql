-- Counts what happened to data keys beside being made: erasures, new wrappings. Whoever remembers rows of data_keys
-- compares it, so whatever changes them must raise it: hence the trigger. Changes wait for each other at this row, so a
-- number that was read is never raised by a change that committed before.
CREATE TABLE data_key_changes (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    seq BIGINT NOT NULL
);
INSERT INTO data_key_changes (one, seq) VALUES (1, 0);

CREATE FUNCTION data_keys_changed() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE data_key_changes SET seq = seq + 1;
    RETURN NULL;
END
$$;
CREATE TRIGGER data_keys_changed AFTER UPDATE OR DELETE ON data_keys
    FOR EACH STATEMENT EXECUTE FUNCTION data_keys_changed();
