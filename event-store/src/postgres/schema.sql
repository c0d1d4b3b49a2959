CREATE SCHEMA IF NOT EXISTS showcaller_events;

-- One row: which log this is, and where it ends. Whoever appends locks it first, so commits happen one after another,
-- in the order of positions.
CREATE TABLE showcaller_events.head (
    id int PRIMARY KEY CHECK (id = 1),
    format int NOT NULL,
    needs text NOT NULL,
    log uuid NOT NULL,
    epoch uuid NOT NULL,
    partitions int NOT NULL CHECK (partitions > 0),
    position bigint NOT NULL CHECK (position >= 0)
) WITH (fillfactor = 10);

-- data and metadata are text, not jsonb: the hash is over these very bytes.
CREATE TABLE showcaller_events.events (
    position bigint PRIMARY KEY,
    stream text COLLATE "C" NOT NULL,
    version bigint NOT NULL CHECK (version > 0),
    id uuid NOT NULL,
    type text COLLATE "C" NOT NULL,
    schema_version int NOT NULL,
    data text COLLATE "C" NOT NULL,
    metadata text COLLATE "C" NOT NULL,
    hash bytea NOT NULL CHECK (length(hash) = 32),
    partition int NOT NULL,
    -- Only on an append's first event: its command, and how many events it has.
    command_id uuid UNIQUE,
    append_size int,
    UNIQUE (stream, version)
);

CREATE TABLE showcaller_events.leases (
    name text COLLATE "C" PRIMARY KEY,
    holder uuid,
    fence bigint NOT NULL,
    expires_at timestamptz NOT NULL
);

CREATE TABLE showcaller_events.relay_checkpoint (
    id int PRIMARY KEY CHECK (id = 1),
    fence bigint NOT NULL,
    checkpoint text NOT NULL
);

-- Commits a batch in one round trip. Streams and rows are numbered from 1 by their place in the arrays; a tail_version
-- of -1 only asks for the stream's tail. Every statement below has a snapshot of its own (READ COMMITTED, VOLATILE), so
-- what is read after the lock includes everything that was committed under it.
--
-- An optimistic caller has seen every tail on this very connection. Such a tail is in the stream for ever, so it is the
-- stream's end exactly if nothing has the version after it; and a command is new exactly if no event has its id. The
-- unique indexes decide both while the rows go in. Only if they object is everything looked up.
CREATE FUNCTION showcaller_events.append_v1(
    p_epoch uuid, p_optimistic boolean,
    p_commands uuid[], p_command_streams int[],
    p_streams text[], p_tail_versions bigint[], p_tail_hashes bytea[],
    r_streams int[], r_names text[], r_versions bigint[], r_ids uuid[], r_types text[], r_schema_versions int[],
    r_data text[], r_metadata text[], r_hashes bytea[], r_partitions int[], r_commands uuid[], r_sizes int[],
    OUT base bigint,
    OUT known_items int[], OUT known_streams text[], OUT known_firsts bigint[], OUT known_sizes int[],
    OUT known_positions bigint[], OUT known_hashes bytea[],
    OUT moved_streams int[], OUT moved_versions bigint[], OUT moved_hashes bytea[]
) LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    inserted bigint;
BEGIN
    SELECT h.position INTO base FROM showcaller_events.head h WHERE h.id = 1 AND h.epoch = p_epoch FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the log is not the one that was opened' USING ERRCODE = 'SC001';
    END IF;

    IF p_optimistic THEN
        BEGIN
            INSERT INTO showcaller_events.events
                   (position, stream, version, id, type, schema_version, data, metadata, hash, partition, command_id,
                    append_size)
            SELECT base + r.n, r.name, r.version, r.id, r.type, r.schema_version, r.data, r.metadata, r.hash,
                   r.partition, r.command, r.size
              FROM unnest(r_names, r_versions, r_ids, r_types, r_schema_versions, r_data, r_metadata, r_hashes,
                          r_partitions, r_commands, r_sizes)
                   WITH ORDINALITY AS r(name, version, id, type, schema_version, data, metadata, hash, partition,
                                        command, size, n);
            GET DIAGNOSTICS inserted = ROW_COUNT;
            UPDATE showcaller_events.head h SET position = base + inserted WHERE h.id = 1;
            PERFORM pg_notify('showcaller_events', (base + inserted)::text);
            RETURN;
        EXCEPTION WHEN unique_violation THEN
            NULL;
        END;
    END IF;

    SELECT coalesce(array_agg(c.item::int), '{}'), coalesce(array_agg(f.stream::text), '{}'),
           coalesce(array_agg(f.version), '{}'), coalesce(array_agg(f.append_size), '{}'),
           coalesce(array_agg(l.position), '{}'), coalesce(array_agg(l.hash), '{}')
      INTO known_items, known_streams, known_firsts, known_sizes, known_positions, known_hashes
      FROM unnest(p_commands) WITH ORDINALITY AS c(id, item)
      JOIN showcaller_events.events f ON f.command_id = c.id
      JOIN showcaller_events.events l ON l.position = f.position + f.append_size - 1;

    SELECT coalesce(array_agg(s.item::int), '{}'), coalesce(array_agg(coalesce(t.version, 0)), '{}'),
           coalesce(array_agg(coalesce(t.hash, decode(repeat('00', 32), 'hex'))), '{}')
      INTO moved_streams, moved_versions, moved_hashes
      FROM unnest(p_streams, p_tail_versions, p_tail_hashes) WITH ORDINALITY AS s(stream, version, hash, item)
      LEFT JOIN LATERAL (
          SELECT e.version, e.hash FROM showcaller_events.events e
           WHERE e.stream = s.stream ORDER BY e.version DESC LIMIT 1
      ) t ON true
     WHERE coalesce(t.version, 0) <> s.version
        OR t.hash <> s.hash
        OR s.item = ANY (SELECT p_command_streams[k] FROM unnest(known_items) AS k);

    INSERT INTO showcaller_events.events
           (position, stream, version, id, type, schema_version, data, metadata, hash, partition, command_id, append_size)
    SELECT base + row_number() OVER (ORDER BY r.n), r.name, r.version, r.id, r.type, r.schema_version,
           r.data, r.metadata, r.hash, r.partition, r.command, r.size
      FROM unnest(r_streams, r_names, r_versions, r_ids, r_types, r_schema_versions, r_data, r_metadata, r_hashes,
                  r_partitions, r_commands, r_sizes)
           WITH ORDINALITY AS r(stream, name, version, id, type, schema_version, data, metadata, hash,
                                partition, command, size, n)
     WHERE r.stream <> ALL (moved_streams);
    GET DIAGNOSTICS inserted = ROW_COUNT;

    IF inserted > 0 THEN
        UPDATE showcaller_events.head h SET position = base + inserted WHERE h.id = 1;
        PERFORM pg_notify('showcaller_events', (base + inserted)::text);
    END IF;
END
$$;

INSERT INTO showcaller_events.head (id, format, needs, log, epoch, partitions, position)
VALUES (1, 0, '', gen_random_uuid(), gen_random_uuid(), 1, 0);
