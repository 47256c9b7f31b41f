-- Sockets of one client on several pods, the connection limit over all of them, reconnects that count once, and a cursor
-- for simulators that changed.

-- ---------------------------------------------------------------------------------------------------------
-- Every socket that is counted gets a number. Of two sockets of one client id the one with the higher (attempt, arrival)
-- stays, whoever compares them and when: an order that does not change is what keeps two pods from taking a row from each
-- other in turn. A sequence of its own, since that of an unlogged table's column would begin anew after a crash.
CREATE SEQUENCE session.socket_arrivals;

ALTER TABLE session.sockets
    ADD COLUMN arrival BIGINT NOT NULL DEFAULT nextval('session.socket_arrivals'),
    ADD COLUMN heard_at TIMESTAMP WITH TIME ZONE, -- null unless its session has nearly as many as it may
    ADD COLUMN evicted BOOLEAN NOT NULL DEFAULT FALSE; -- it made room and is about to be closed: it does not count

-- Of a client whose row has moved to another pod: the highest (attempt, arrival) that it moved away from. What is not above
-- it is never written again, also after the newer socket's end: its own pod closes it. Unlogged as the sockets are.
CREATE UNLOGGED TABLE session.superseded (
    session_id TEXT NOT NULL REFERENCES session.active_sessions (session_id) ON DELETE CASCADE,
    client_id TEXT NOT NULL,
    attempt BIGINT NOT NULL,
    arrival BIGINT NOT NULL,
    superseded_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (session_id, client_id)
);

CREATE FUNCTION session.note_superseded() RETURNS TRIGGER AS $$
BEGIN
    INSERT INTO session.superseded AS s (session_id, client_id, attempt, arrival)
    VALUES (OLD.session_id, OLD.client_id, OLD.attempt, OLD.arrival)
    ON CONFLICT (session_id, client_id) DO UPDATE
        SET attempt = EXCLUDED.attempt, arrival = EXCLUDED.arrival, superseded_at = EXCLUDED.superseded_at
        WHERE (s.attempt, s.arrival) < (EXCLUDED.attempt, EXCLUDED.arrival);
    RETURN NULL;
END;
$$ LANGUAGE plpgsql;

-- On one pod the older socket is closed by whoever sends the newer one's first frame.
CREATE TRIGGER note_superseded AFTER UPDATE OF arrival ON session.sockets
    FOR EACH ROW WHEN (OLD.arrival <> NEW.arrival AND OLD.pod_id <> NEW.pod_id)
    EXECUTE FUNCTION session.note_superseded();

-- The last reconnects that were counted, newest first, as [client id, attempt]: a call that is made again is known by it.
ALTER TABLE session.session_metadata ADD COLUMN reconnects JSONB NOT NULL DEFAULT '[]'::jsonb;

-- The transaction that last changed what clients see of a simulator. Compared with pg_snapshot_xmin of an earlier look it
-- leaves out nothing, however late that transaction commits. After a restore into another server rows may look newer than
-- they are: they are then read more often than needed.
ALTER TABLE simulator.instances ADD COLUMN changed_in BIGINT NOT NULL DEFAULT pg_current_xact_id()::text::bigint;
CREATE INDEX idx_simulator_changed_in ON simulator.instances (changed_in);

CREATE FUNCTION simulator.note_change() RETURNS TRIGGER AS $$
BEGIN
    NEW.changed_in := greatest(pg_current_xact_id()::text::bigint, OLD.changed_in + 1);
    RETURN NEW;
END;
$$ LANGUAGE plpgsql;

CREATE TRIGGER note_change BEFORE UPDATE ON simulator.instances
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status OR OLD.reason IS DISTINCT FROM NEW.reason
                       OR OLD.endpoint IS DISTINCT FROM NEW.endpoint)
    EXECUTE FUNCTION simulator.note_change();

-- ---------------------------------------------------------------------------------------------------------
-- Merges fields into a session's metadata, and derives the counts from session.sockets.
CREATE OR REPLACE FUNCTION session.put_presence(p_session_id TEXT, p_fields JSONB) RETURNS VOID AS $$
    UPDATE session.session_metadata m
    SET metadata = m.metadata || p_fields || (
        SELECT jsonb_build_object(
            'frontend_connections', count(*) FILTER (WHERE k.kind = 'websocket'),
            'sse_connections', count(*) FILTER (WHERE k.kind = 'sse'))
        FROM session.sockets k WHERE k.session_id = p_session_id AND NOT k.evicted)
    WHERE m.session_id = p_session_id;
$$ LANGUAGE sql;

-- Merges fields into the metadata of a session whose client came back, and counts that, unless it was counted before: by
-- this client with this attempt or a later one; or, where one of the two gave no client id (''), by the last reconnect of
-- the session with this attempt.
CREATE FUNCTION session.count_reconnect(p_session_id TEXT, p_client_id TEXT, p_attempt BIGINT, p_fields JSONB)
RETURNS VOID AS $$
DECLARE
    counted JSONB;
BEGIN
    SELECT m.reconnects INTO counted FROM session.session_metadata m WHERE m.session_id = p_session_id FOR UPDATE;
    IF EXISTS (
        SELECT 1 FROM jsonb_array_elements(counted) WITH ORDINALITY AS c (one, place)
        WHERE (p_client_id <> '' AND c.one ->> 0 = p_client_id AND (c.one ->> 1)::bigint >= p_attempt)
           OR (c.place = 1 AND '' IN (p_client_id, c.one ->> 0) AND (c.one ->> 1)::bigint = p_attempt))
    THEN
        UPDATE session.session_metadata m SET metadata = m.metadata || p_fields WHERE m.session_id = p_session_id;
        RETURN;
    END IF;
    UPDATE session.session_metadata m
    SET metadata = m.metadata || p_fields || jsonb_build_object(
            'reconnect_count', coalesce((m.metadata ->> 'reconnect_count')::int, 0) + 1,
            'last_reconnect', floor(extract(epoch FROM clock_timestamp()))::bigint),
        reconnects = (
            SELECT jsonb_agg(kept.one ORDER BY kept.place) FROM (
                SELECT jsonb_build_array(p_client_id, p_attempt) AS one, 0 AS place
                UNION ALL
                SELECT c.one, c.place FROM jsonb_array_elements(counted) WITH ORDINALITY AS c (one, place)
                WHERE c.one ->> 0 <> p_client_id AND c.place < 16) kept)
    WHERE m.session_id = p_session_id;
END;
$$ LANGUAGE plpgsql;

-- A client says that it is back, without a socket or on the one that it has. Nothing where there is no such session of
-- this user.
CREATE FUNCTION session.reconnect(
    p_session_id TEXT, p_user_id TEXT, p_client_id TEXT, p_attempt BIGINT, p_fields JSONB
) RETURNS TABLE (reconnected session.active_sessions, metadata JSONB) AS $$
BEGIN
    SELECT a.* INTO reconnected FROM session.active_sessions a
    WHERE a.session_id = p_session_id AND a.user_id = p_user_id;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    PERFORM session.count_reconnect(p_session_id, p_client_id, p_attempt, p_fields);
    SELECT m.metadata INTO metadata FROM session.session_metadata m WHERE m.session_id = p_session_id;
    IF NOT FOUND THEN
        RETURN; -- it ended meanwhile
    END IF;
    RETURN NEXT;
END;
$$ LANGUAGE plpgsql;

-- How many connections count against a session's limit: those of pods that go have to move anyway.
CREATE FUNCTION session.count_connections(p_session_id TEXT) RETURNS INTEGER AS $$
    SELECT count(*)::integer FROM session.sockets k JOIN session.pods p USING (pod_id)
    WHERE k.session_id = p_session_id AND NOT k.evicted AND NOT p.draining AND NOT p.dead;
$$ LANGUAGE sql;

DROP FUNCTION session.open_socket(TEXT, TEXT, TEXT, BIGINT, TEXT, INTERVAL, JSONB);

-- A socket is there. outcome: 'opened', 'not_found', 'expired', or 'replaced' where a later attempt of the same client is
-- connected already. opened_arrival: the socket's number; connections: how many the session has now; from p_crowded on its
-- pods are to say when they heard of them. p_reconnect_as: null, or as whom a client comes back ('' without a client id).
-- The session's row is locked first, so that counts are exact and the numbers of a session's sockets grow in the order of
-- their rows.
CREATE FUNCTION session.open_socket(
    p_session_id TEXT, p_client_id TEXT, p_pod_id TEXT, p_attempt BIGINT, p_kind TEXT,
    p_timeout INTERVAL, p_fields JSONB, p_reconnect_as TEXT, p_crowded INTEGER
) RETURNS TABLE (outcome TEXT, opened_arrival BIGINT, connections INTEGER) AS $$
DECLARE
    session_row session.active_sessions;
BEGIN
    SELECT * INTO session_row FROM session.active_sessions WHERE session_id = p_session_id FOR UPDATE;
    IF NOT FOUND THEN
        outcome := 'not_found';
        RETURN NEXT;
        RETURN;
    END IF;
    IF session_row.status = 'EXPIRED' OR session_row.expires_at <= clock_timestamp() THEN
        outcome := 'expired';
        RETURN NEXT;
        RETURN;
    END IF;
    -- The row of a pod that is dead keeps nobody out: its socket is gone.
    INSERT INTO session.sockets AS k (session_id, client_id, pod_id, attempt, kind, connected_at)
    VALUES (p_session_id, p_client_id, p_pod_id, p_attempt, p_kind, clock_timestamp())
    ON CONFLICT (session_id, client_id) DO UPDATE
        SET pod_id = EXCLUDED.pod_id, attempt = EXCLUDED.attempt, kind = EXCLUDED.kind,
            connected_at = EXCLUDED.connected_at, arrival = EXCLUDED.arrival, heard_at = NULL, evicted = FALSE
        WHERE k.attempt <= EXCLUDED.attempt
           OR EXISTS (SELECT 1 FROM session.pods p WHERE p.pod_id = k.pod_id AND p.dead)
    RETURNING k.arrival INTO opened_arrival;
    IF NOT FOUND THEN
        outcome := 'replaced';
        RETURN NEXT;
        RETURN;
    END IF;
    UPDATE session.active_sessions
    SET status = 'ACTIVE', disconnected_at = NULL, last_active = clock_timestamp(),
        expires_at = greatest(expires_at, clock_timestamp() + p_timeout)
    WHERE session_id = p_session_id;
    UPDATE simulator.instances SET last_active = clock_timestamp()
    WHERE session_id = p_session_id AND status IN ('CREATING', 'STARTING', 'RUNNING');
    PERFORM session.put_presence(p_session_id, p_fields);
    IF p_reconnect_as IS NOT NULL THEN
        PERFORM session.count_reconnect(p_session_id, p_reconnect_as, p_attempt, '{}'::jsonb);
    END IF;
    connections := session.count_connections(p_session_id);
    IF connections >= p_crowded THEN
        UPDATE session.sockets SET heard_at = connected_at WHERE session_id = p_session_id AND heard_at IS NULL;
    END IF;
    outcome := 'opened';
    RETURN NEXT;
END;
$$ LANGUAGE plpgsql;

DROP FUNCTION session.close_socket(TEXT, TEXT, TEXT, BIGINT, BOOLEAN, JSONB);

-- A socket has gone. After the last one the session is RECONNECTING, or INACTIVE when the client closed it. Only the row
-- of this very socket goes: a newer one of the client stays counted, wherever it is. Whether the row was there.
CREATE FUNCTION session.close_socket(
    p_session_id TEXT, p_client_id TEXT, p_arrival BIGINT, p_by_client BOOLEAN, p_fields JSONB
) RETURNS BOOLEAN AS $$
DECLARE
    was_there BOOLEAN;
BEGIN
    PERFORM 1 FROM session.active_sessions WHERE session_id = p_session_id FOR UPDATE;
    IF NOT FOUND THEN
        RETURN FALSE;
    END IF;
    DELETE FROM session.sockets
    WHERE session_id = p_session_id AND client_id = p_client_id AND arrival = p_arrival;
    was_there := FOUND;
    UPDATE session.active_sessions a
    SET status = CASE WHEN p_by_client THEN 'INACTIVE' ELSE 'RECONNECTING' END,
        disconnected_at = clock_timestamp()
    WHERE a.session_id = p_session_id AND a.status = 'ACTIVE'
      AND NOT EXISTS (SELECT 1 FROM session.sockets k WHERE k.session_id = p_session_id);
    PERFORM session.put_presence(p_session_id, p_fields);
    RETURN was_there;
END;
$$ LANGUAGE plpgsql;

DROP FUNCTION session.assert_sockets(TEXT, TEXT[], TEXT[], BIGINT[], TEXT[]);

-- The sockets that a pod knows to be open, written again where they are missing or name an older one: the table is
-- unlogged, so it is empty after a crash of PostgreSQL, and a pod that was taken for dead goes on under another pod_id.
-- Sessions first, as everywhere. Which of the sockets have to be closed, and why: 'ended' (the session is gone),
-- 'expired', 'evicted', or 'replaced'; due_in: not before, so that a newer one has had its first frame.
CREATE FUNCTION session.assert_sockets(
    p_pod_id TEXT, p_session_ids TEXT[], p_client_ids TEXT[], p_arrivals BIGINT[], p_attempts BIGINT[],
    p_kinds TEXT[], p_grace INTERVAL
) RETURNS TABLE (lost_session_id TEXT, lost_arrival BIGINT, verdict TEXT, due_in INTERVAL) AS $$
DECLARE
    amiss TEXT[];
    written TEXT[];
BEGIN
    SELECT array_agg(DISTINCT t.session_id) INTO amiss
    FROM unnest(p_session_ids, p_client_ids, p_arrivals, p_attempts) AS t (session_id, client_id, arrival, attempt)
    LEFT JOIN session.sockets k USING (session_id, client_id)
    WHERE (k.arrival = t.arrival AND k.pod_id <> p_pod_id AND NOT k.evicted)
       OR ((k.arrival IS NULL OR (k.attempt, k.arrival) < (t.attempt, t.arrival))
           AND NOT EXISTS (SELECT 1 FROM session.superseded s
                           WHERE s.session_id = t.session_id AND s.client_id = t.client_id
                             AND (s.attempt, s.arrival) >= (t.attempt, t.arrival)));
    IF amiss IS NOT NULL THEN
        PERFORM 1 FROM session.active_sessions a
        WHERE a.session_id = ANY (amiss) ORDER BY a.session_id FOR UPDATE;
        WITH put AS (
            INSERT INTO session.sockets AS k (session_id, client_id, pod_id, attempt, kind, arrival)
            SELECT DISTINCT ON (t.session_id, t.client_id)
                   t.session_id, t.client_id, p_pod_id, t.attempt, t.kind, t.arrival
            FROM unnest(p_session_ids, p_client_ids, p_arrivals, p_attempts, p_kinds)
                AS t (session_id, client_id, arrival, attempt, kind)
            JOIN session.active_sessions a USING (session_id)
            WHERE a.status <> 'EXPIRED' AND a.session_id = ANY (amiss)
              AND NOT EXISTS (SELECT 1 FROM session.superseded s
                              WHERE s.session_id = t.session_id AND s.client_id = t.client_id
                                AND (s.attempt, s.arrival) >= (t.attempt, t.arrival))
            ORDER BY t.session_id, t.client_id, t.attempt DESC, t.arrival DESC
            ON CONFLICT (session_id, client_id) DO UPDATE
                SET pod_id = EXCLUDED.pod_id, attempt = EXCLUDED.attempt, kind = EXCLUDED.kind,
                    connected_at = EXCLUDED.connected_at, arrival = EXCLUDED.arrival, heard_at = NULL,
                    evicted = FALSE
                WHERE (k.attempt, k.arrival) < (EXCLUDED.attempt, EXCLUDED.arrival)
                   OR (k.arrival = EXCLUDED.arrival AND k.pod_id <> EXCLUDED.pod_id AND NOT k.evicted)
            RETURNING k.session_id
        )
        SELECT array_agg(DISTINCT put.session_id) INTO written FROM put;
        UPDATE session.active_sessions SET status = 'ACTIVE', disconnected_at = NULL
        WHERE session_id = ANY (written) AND status IN ('RECONNECTING', 'INACTIVE');
        PERFORM session.put_presence(again, '{}'::jsonb) FROM unnest(written) AS again;
    END IF;
    RETURN QUERY
    SELECT t.session_id, t.arrival, CASE
        WHEN a.session_id IS NULL THEN 'ended'
        WHEN a.status = 'EXPIRED' THEN 'expired'
        WHEN k.arrival = t.arrival THEN 'evicted'
        ELSE 'replaced' END,
        greatest(interval '0', p_grace + CASE
            WHEN a.session_id IS NULL OR a.status = 'EXPIRED' OR k.arrival = t.arrival THEN NULL
            WHEN (k.attempt, k.arrival) > (t.attempt, t.arrival) THEN k.connected_at
            ELSE s.superseded_at END - clock_timestamp())
    FROM unnest(p_session_ids, p_client_ids, p_arrivals, p_attempts) AS t (session_id, client_id, arrival, attempt)
    LEFT JOIN session.active_sessions a USING (session_id)
    LEFT JOIN session.sockets k USING (session_id, client_id)
    LEFT JOIN session.pods p USING (pod_id)
    LEFT JOIN session.superseded s ON s.session_id = t.session_id AND s.client_id = t.client_id
    WHERE a.session_id IS NULL OR a.status = 'EXPIRED' OR (k.arrival = t.arrival AND k.evicted)
       OR ((k.attempt, k.arrival) > (t.attempt, t.arrival) AND NOT p.dead)
       OR (k.arrival IS DISTINCT FROM t.arrival AND (s.attempt, s.arrival) >= (t.attempt, t.arrival));
END;
$$ LANGUAGE plpgsql;

-- Makes room in a session that has more than p_limit connections: the most silent ones go, never the arrival itself.
-- What the calling pod knows of its own sockets is later than what the others wrote.
CREATE FUNCTION session.evict_sockets(
    p_session_id TEXT, p_arrival BIGINT, p_limit INTEGER, p_arrivals BIGINT[], p_silent_s DOUBLE PRECISION[]
) RETURNS TABLE (evicted_client_id TEXT, evicted_arrival BIGINT) AS $$
DECLARE
    excess INTEGER;
BEGIN
    PERFORM 1 FROM session.active_sessions WHERE session_id = p_session_id FOR UPDATE;
    excess := session.count_connections(p_session_id) - p_limit;
    IF excess <= 0 THEN
        RETURN;
    END IF;
    RETURN QUERY
    UPDATE session.sockets v SET evicted = TRUE
    WHERE v.session_id = p_session_id AND v.arrival IN (
        SELECT k.arrival FROM session.sockets k JOIN session.pods p USING (pod_id)
        LEFT JOIN unnest(p_arrivals, p_silent_s) AS known (arrival, silent_s) ON known.arrival = k.arrival
        WHERE k.session_id = p_session_id AND k.arrival <> p_arrival
          AND NOT k.evicted AND NOT p.draining AND NOT p.dead
        ORDER BY coalesce(clock_timestamp() - make_interval(secs => known.silent_s), k.heard_at, k.connected_at),
                 k.arrival
        LIMIT excess)
    RETURNING v.client_id, v.arrival;
    PERFORM session.put_presence(p_session_id, '{}'::jsonb);
END;
$$ LANGUAGE plpgsql;

-- When a pod's sockets of crowded sessions were last heard, for whoever has to choose the most silent. How many
-- connections these sessions have now: below p_crowded it matters no more.
CREATE FUNCTION session.hear_sockets(
    p_session_ids TEXT[], p_arrivals BIGINT[], p_silent_s DOUBLE PRECISION[], p_crowded INTEGER
) RETURNS TABLE (heard_session_id TEXT, connections INTEGER) AS $$
BEGIN
    PERFORM 1 FROM session.active_sessions a
    WHERE a.session_id = ANY (p_session_ids) ORDER BY a.session_id FOR UPDATE;
    UPDATE session.sockets k SET heard_at = clock_timestamp() - make_interval(secs => t.silent_s)
    FROM unnest(p_session_ids, p_arrivals, p_silent_s) AS t (session_id, arrival, silent_s)
    WHERE k.session_id = t.session_id AND k.arrival = t.arrival;
    UPDATE session.sockets k SET heard_at = NULL
    WHERE k.session_id = ANY (p_session_ids) AND session.count_connections(k.session_id) < p_crowded;
    RETURN QUERY
    SELECT t.session_id, session.count_connections(t.session_id)
    FROM unnest(p_session_ids) AS t (session_id) GROUP BY t.session_id;
END;
$$ LANGUAGE plpgsql;
