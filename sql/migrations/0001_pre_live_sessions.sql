-- Live sessions and their simulators: the documented tables, functions and indexes, and what they need beside.
-- Added columns are nullable or have defaults, so that documented statements keep working as written.

CREATE SCHEMA session;
CREATE SCHEMA simulator;

-- ---------------------------------------------------------------------------------------------------------
-- This database's own identity: workloads are labelled with it, and simulator tokens are derived from its key,
-- so that every pod can make a simulator's token and none is stored.
CREATE TABLE session.installation (
    singleton BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (singleton),
    database_id UUID NOT NULL DEFAULT gen_random_uuid(),
    -- Two random UUIDs hold 244 random bits; pgcrypto is not everywhere.
    simulator_key TEXT NOT NULL DEFAULT (gen_random_uuid()::text || gen_random_uuid()::text)
);
INSERT INTO session.installation DEFAULT VALUES;

-- ---------------------------------------------------------------------------------------------------------
CREATE TABLE session.active_sessions (
    session_id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL,
    status TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT CURRENT_TIMESTAMP,
    last_active TIMESTAMP WITH TIME ZONE DEFAULT CURRENT_TIMESTAMP,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    token TEXT,
    -- beside the documented columns
    device_id TEXT,
    disconnected_at TIMESTAMP WITH TIME ZONE, -- when the last socket was lost; decides RECONNECTING → INACTIVE
    CONSTRAINT active_sessions_status CHECK (status IN ('ACTIVE', 'RECONNECTING', 'INACTIVE', 'EXPIRED')),
    -- Null, or a SHA-256: a raw token must never be stored.
    CONSTRAINT active_sessions_token CHECK (token ~ '^[0-9a-f]{64}$')
);

CREATE INDEX idx_sessions_user_id ON session.active_sessions (user_id);
CREATE INDEX idx_sessions_expires_at ON session.active_sessions (expires_at);
-- One session of a (user, device), whatever runs at once: only an EXPIRED one makes room.
CREATE UNIQUE INDEX ux_sessions_user_device ON session.active_sessions (user_id, device_id)
    WHERE status <> 'EXPIRED';
-- The sweep finds what has just run out without reading what ran out before.
CREATE INDEX idx_sessions_unexpired ON session.active_sessions (expires_at) WHERE status <> 'EXPIRED';
CREATE INDEX idx_sessions_reconnecting ON session.active_sessions (disconnected_at)
    WHERE status = 'RECONNECTING';

CREATE TABLE session.session_metadata (
    session_id TEXT PRIMARY KEY REFERENCES session.active_sessions (session_id) ON DELETE CASCADE,
    metadata JSONB NOT NULL DEFAULT '{}'::jsonb
);

-- ---------------------------------------------------------------------------------------------------------
-- One row per pod incarnation (pod_id = name + boot nonce). Times are for people; decisions use beat.
CREATE TABLE session.pods (
    pod_id TEXT PRIMARY KEY,
    pod_name TEXT NOT NULL,
    address TEXT,
    version TEXT NOT NULL,
    started_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP,
    beat BIGINT NOT NULL DEFAULT 0,
    draining BOOLEAN NOT NULL DEFAULT FALSE,
    dead BOOLEAN NOT NULL DEFAULT FALSE
);

-- Who is connected where. Unlogged: each pod asserts its own rows again every round.
CREATE UNLOGGED TABLE session.sockets (
    session_id TEXT NOT NULL REFERENCES session.active_sessions (session_id) ON DELETE CASCADE,
    client_id TEXT NOT NULL,
    pod_id TEXT NOT NULL REFERENCES session.pods (pod_id) ON DELETE CASCADE,
    attempt BIGINT NOT NULL DEFAULT 0,
    kind TEXT NOT NULL DEFAULT 'websocket' CHECK (kind IN ('websocket', 'sse')),
    connected_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (session_id, client_id)
);
CREATE INDEX idx_sockets_pod_id ON session.sockets (pod_id);

-- ---------------------------------------------------------------------------------------------------------
CREATE TABLE simulator.instances (
    simulator_id TEXT PRIMARY KEY,
    session_id TEXT NOT NULL REFERENCES session.active_sessions (session_id) ON DELETE CASCADE,
    user_id TEXT NOT NULL,
    status TEXT NOT NULL,
    endpoint TEXT,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT CURRENT_TIMESTAMP,
    last_active TIMESTAMP WITH TIME ZONE DEFAULT CURRENT_TIMESTAMP,
    initial_symbols JSONB,
    initial_cash FLOAT NOT NULL DEFAULT 100000.0,
    -- beside the documented columns
    target TEXT NOT NULL DEFAULT 'RUNNING',
    reason TEXT,
    workload_uid TEXT, -- null until the workload is known to exist
    CONSTRAINT instances_status
        CHECK (status IN ('CREATING', 'STARTING', 'RUNNING', 'STOPPING', 'STOPPED', 'ERROR')),
    CONSTRAINT instances_target CHECK (target IN ('RUNNING', 'STOPPED'))
);

CREATE INDEX idx_simulator_session_id ON simulator.instances (session_id);
CREATE INDEX idx_simulator_user_id ON simulator.instances (user_id);
CREATE INDEX idx_simulator_status ON simulator.instances (status);
-- At most one live simulator of a session.
CREATE UNIQUE INDEX ux_simulator_live ON simulator.instances (session_id)
    WHERE status IN ('CREATING', 'STARTING', 'RUNNING');

-- Workloads to remove whose row is gone or at its end. A row stays until the workload is known to be gone.
CREATE TABLE simulator.teardowns (
    simulator_id TEXT PRIMARY KEY,
    session_id TEXT NOT NULL,
    endpoint TEXT,
    workload_uid TEXT,
    requested_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP,
    leased_until TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT '-infinity',
    attempts INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX idx_teardowns_session_id ON simulator.teardowns (session_id);
CREATE INDEX idx_teardowns_leased_until ON simulator.teardowns (leased_until);

-- Every delete of a simulator, by cascade and by hand too, leaves word of its workload. SECURITY DEFINER, so that
-- a role which may delete sessions cannot lose workloads for want of a right on this table.
CREATE FUNCTION simulator.record_teardown() RETURNS TRIGGER AS $$
BEGIN
    IF OLD.status <> 'STOPPED' THEN
        INSERT INTO simulator.teardowns (simulator_id, session_id, endpoint, workload_uid)
        VALUES (OLD.simulator_id, OLD.session_id, OLD.endpoint, OLD.workload_uid)
        ON CONFLICT (simulator_id) DO NOTHING;
    END IF;
    RETURN NULL;
END;
$$ LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog;

CREATE TRIGGER record_teardown AFTER DELETE ON simulator.instances
    FOR EACH ROW EXECUTE FUNCTION simulator.record_teardown();

-- TRUNCATE fires no row trigger: it would leave workloads that nobody knows of.
CREATE FUNCTION simulator.refuse_truncate() RETURNS TRIGGER AS $$
BEGIN
    RAISE EXCEPTION 'simulator.instances cannot be truncated: delete its rows, so that workloads are removed';
END;
$$ LANGUAGE plpgsql;

CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON simulator.instances
    FOR EACH STATEMENT EXECUTE FUNCTION simulator.refuse_truncate();

-- ---------------------------------------------------------------------------------------------------------
CREATE FUNCTION session.cleanup_expired_sessions()
RETURNS INTEGER AS $$
DECLARE
    deleted_count INTEGER;
BEGIN
    DELETE FROM session.active_sessions
    WHERE expires_at < NOW();

    GET DIAGNOSTICS deleted_count = ROW_COUNT;
    RETURN deleted_count;
END;
$$ LANGUAGE plpgsql;

-- The cleanup round: one pod at a time, by a lock that is the transaction's, so that it cannot be lost with a pooled
-- connection. Everything is locked in the order in which all other writers lock it: the cascade has its own.
CREATE FUNCTION session.cleanup_round() RETURNS INTEGER AS $$
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended('session.cleanup', 0)) THEN
        RETURN 0;
    END IF;
    PERFORM 1 FROM session.active_sessions a WHERE a.expires_at < NOW() ORDER BY a.session_id FOR UPDATE;
    PERFORM 1 FROM simulator.instances i JOIN session.active_sessions a USING (session_id)
    WHERE a.expires_at < NOW() ORDER BY i.simulator_id FOR UPDATE OF i;
    PERFORM 1 FROM session.session_metadata m JOIN session.active_sessions a USING (session_id)
    WHERE a.expires_at < NOW() ORDER BY m.session_id FOR UPDATE OF m;
    RETURN session.cleanup_expired_sessions();
END;
$$ LANGUAGE plpgsql;

-- What a user may have is decided one call at a time. Held to the end of the transaction.
CREATE FUNCTION session.lock_user(p_user_id TEXT) RETURNS VOID AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('session.user:' || p_user_id, 0));
END;
$$ LANGUAGE plpgsql;

-- Ends one session: its row goes, and with it its metadata, its sockets and, through the trigger, its simulator.
-- Returns whether a live simulator went with it; null when there was no such session of this user.
CREATE FUNCTION session.end_session(p_session_id TEXT, p_user_id TEXT) RETURNS BOOLEAN AS $$
DECLARE
    had_simulator BOOLEAN;
BEGIN
    -- The session first: simulator starts lock it before they insert.
    PERFORM 1 FROM session.active_sessions
    WHERE session_id = p_session_id AND user_id = p_user_id FOR UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    -- Simulators before metadata, the order in which every other writer takes them: the cascade has its own.
    SELECT coalesce(bool_or(i.status IN ('CREATING', 'STARTING', 'RUNNING')), FALSE) INTO had_simulator
    FROM (SELECT status FROM simulator.instances WHERE session_id = p_session_id FOR UPDATE) i;
    DELETE FROM session.active_sessions WHERE session_id = p_session_id;
    RETURN had_simulator;
END;
$$ LANGUAGE plpgsql;

-- Marks what has run out: final, and its simulators are to stop. Returns the sessions that it marked.
CREATE FUNCTION session.expire_sessions(p_user_id TEXT DEFAULT NULL, p_limit INTEGER DEFAULT 1000)
RETURNS TABLE (expired_session_id TEXT, expired_user_id TEXT) AS $$
BEGIN
    RETURN QUERY
    WITH due AS (
        SELECT a.session_id FROM session.active_sessions a
        WHERE a.status <> 'EXPIRED' AND a.expires_at <= clock_timestamp()
          AND (p_user_id IS NULL OR a.user_id = p_user_id)
        ORDER BY a.session_id
        LIMIT p_limit
        FOR UPDATE SKIP LOCKED
    ), marked AS (
        UPDATE session.active_sessions a SET status = 'EXPIRED'
        FROM due WHERE a.session_id = due.session_id
        RETURNING a.session_id, a.user_id
    ), stopped AS (
        UPDATE simulator.instances i SET status = 'STOPPING', target = 'STOPPED', reason = 'session_expired'
        FROM marked WHERE i.session_id = marked.session_id AND i.status IN ('CREATING', 'STARTING', 'RUNNING')
    )
    SELECT marked.session_id, marked.user_id FROM marked;
END;
$$ LANGUAGE plpgsql;

-- The session of a (user, device): the one that stands, or a new one. One call of a user at a time.
-- outcome: 'existing', 'created' or 'limit'. ended_session_id: the session that made room, if one did. The row comes
-- from inside: the statement that calls this has a snapshot from before it.
CREATE FUNCTION session.open_session(
    p_session_id TEXT, p_user_id TEXT, p_device_id TEXT, p_timeout INTERVAL, p_limit INTEGER, p_metadata JSONB
) RETURNS TABLE (
    outcome TEXT, ended_session_id TEXT, ended_simulator BOOLEAN, opened session.active_sessions, metadata JSONB
) AS $$
DECLARE
    oldest TEXT;
BEGIN
    outcome := 'existing';
    PERFORM session.lock_user(p_user_id);
    -- Nothing revives an expired session: it is marked, so that the unique index lets a new one in. What another call
    -- holds is waited for, since expire_sessions passes over it, and it may be marking it at this moment.
    PERFORM 1 FROM session.active_sessions a
    WHERE a.user_id = p_user_id AND a.status <> 'EXPIRED' AND a.expires_at <= clock_timestamp()
    ORDER BY a.session_id FOR UPDATE;
    PERFORM session.expire_sessions(p_user_id);

    SELECT a.* INTO opened FROM session.active_sessions a
    WHERE a.user_id = p_user_id AND a.device_id = p_device_id AND a.status <> 'EXPIRED';
    IF FOUND THEN
        SELECT m.metadata INTO metadata FROM session.session_metadata m WHERE m.session_id = opened.session_id;
        RETURN NEXT;
        RETURN;
    END IF;

    WHILE ended_session_id IS NULL AND (
        SELECT count(*) FROM session.active_sessions a
        WHERE a.user_id = p_user_id AND a.status <> 'EXPIRED') >= p_limit
    LOOP
        SELECT a.session_id INTO oldest FROM session.active_sessions a
        WHERE a.user_id = p_user_id AND a.status <> 'EXPIRED'
          AND NOT EXISTS (SELECT 1 FROM session.sockets k WHERE k.session_id = a.session_id)
        ORDER BY a.created_at, a.session_id
        LIMIT 1;
        IF NOT FOUND THEN
            outcome := 'limit';
            RETURN NEXT;
            RETURN;
        END IF;
        -- A socket may be opening on it, or its end be under way: with its row in hand, look again.
        PERFORM 1 FROM session.active_sessions a WHERE a.session_id = oldest FOR UPDATE;
        IF NOT EXISTS (SELECT 1 FROM session.sockets k WHERE k.session_id = oldest) THEN
            ended_simulator := session.end_session(oldest, p_user_id);
            IF ended_simulator IS NOT NULL THEN
                ended_session_id := oldest;
            END IF;
        END IF;
    END LOOP;

    INSERT INTO session.active_sessions (session_id, user_id, status, expires_at, device_id)
    VALUES (p_session_id, p_user_id, 'ACTIVE', clock_timestamp() + p_timeout, p_device_id)
    RETURNING * INTO opened;
    INSERT INTO session.session_metadata (session_id, metadata) VALUES (p_session_id, p_metadata);
    outcome := 'created';
    metadata := p_metadata;
    RETURN NEXT;
END;
$$ LANGUAGE plpgsql;

-- Merges fields into a session's metadata, and derives the counts from session.sockets.
CREATE FUNCTION session.put_presence(p_session_id TEXT, p_fields JSONB) RETURNS VOID AS $$
    UPDATE session.session_metadata m
    SET metadata = m.metadata || p_fields || (
        SELECT jsonb_build_object(
            'frontend_connections', count(*) FILTER (WHERE k.kind = 'websocket'),
            'sse_connections', count(*) FILTER (WHERE k.kind = 'sse'))
        FROM session.sockets k WHERE k.session_id = p_session_id)
    WHERE m.session_id = p_session_id;
$$ LANGUAGE sql;

-- A socket is there. outcome: 'opened', 'not_found', 'expired', or 'replaced' where a later attempt of the same
-- client is already connected. The session's row is locked first, so that counts are exact.
CREATE FUNCTION session.open_socket(
    p_session_id TEXT, p_client_id TEXT, p_pod_id TEXT, p_attempt BIGINT, p_kind TEXT,
    p_timeout INTERVAL, p_fields JSONB
) RETURNS TEXT AS $$
DECLARE
    session_row session.active_sessions;
BEGIN
    SELECT * INTO session_row FROM session.active_sessions WHERE session_id = p_session_id FOR UPDATE;
    IF NOT FOUND THEN
        RETURN 'not_found';
    END IF;
    IF session_row.status = 'EXPIRED' OR session_row.expires_at <= clock_timestamp() THEN
        RETURN 'expired';
    END IF;
    INSERT INTO session.sockets AS k (session_id, client_id, pod_id, attempt, kind)
    VALUES (p_session_id, p_client_id, p_pod_id, p_attempt, p_kind)
    ON CONFLICT (session_id, client_id) DO UPDATE
        SET pod_id = EXCLUDED.pod_id, attempt = EXCLUDED.attempt, kind = EXCLUDED.kind,
            connected_at = EXCLUDED.connected_at
        WHERE k.attempt <= EXCLUDED.attempt;
    IF NOT FOUND THEN
        RETURN 'replaced';
    END IF;
    UPDATE session.active_sessions
    SET status = 'ACTIVE', disconnected_at = NULL, last_active = clock_timestamp(),
        expires_at = greatest(expires_at, clock_timestamp() + p_timeout)
    WHERE session_id = p_session_id;
    UPDATE simulator.instances SET last_active = clock_timestamp()
    WHERE session_id = p_session_id AND status IN ('CREATING', 'STARTING', 'RUNNING');
    PERFORM session.put_presence(p_session_id, p_fields);
    RETURN 'opened';
END;
$$ LANGUAGE plpgsql;

-- A socket has gone. After the last one the session is RECONNECTING, or INACTIVE when the client closed it.
-- Only the row of this very attempt on this pod goes: a newer socket of the client stays counted.
CREATE FUNCTION session.close_socket(
    p_session_id TEXT, p_client_id TEXT, p_pod_id TEXT, p_attempt BIGINT, p_by_client BOOLEAN, p_fields JSONB
) RETURNS VOID AS $$
BEGIN
    PERFORM 1 FROM session.active_sessions WHERE session_id = p_session_id FOR UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    DELETE FROM session.sockets
    WHERE session_id = p_session_id AND client_id = p_client_id AND pod_id = p_pod_id AND attempt = p_attempt;
    UPDATE session.active_sessions a
    SET status = CASE WHEN p_by_client THEN 'INACTIVE' ELSE 'RECONNECTING' END,
        disconnected_at = clock_timestamp()
    WHERE a.session_id = p_session_id AND a.status = 'ACTIVE'
      AND NOT EXISTS (SELECT 1 FROM session.sockets k WHERE k.session_id = p_session_id);
    PERFORM session.put_presence(p_session_id, p_fields);
END;
$$ LANGUAGE plpgsql;

-- The sockets that a pod knows to be open, written again where they are missing: the table is unlogged, so it is empty
-- after a crash of PostgreSQL, and a pod that was taken for dead may be alive. Sessions first, as everywhere.
CREATE FUNCTION session.assert_sockets(
    p_pod_id TEXT, p_session_ids TEXT[], p_client_ids TEXT[], p_attempts BIGINT[], p_kinds TEXT[]
) RETURNS INTEGER AS $$
DECLARE
    missing TEXT[];
    written TEXT[];
BEGIN
    SELECT array_agg(DISTINCT t.session_id) INTO missing
    FROM unnest(p_session_ids, p_client_ids) AS t (session_id, client_id)
    WHERE NOT EXISTS (SELECT 1 FROM session.sockets k
                      WHERE k.session_id = t.session_id AND k.client_id = t.client_id);
    IF missing IS NULL THEN
        RETURN 0;
    END IF;
    PERFORM 1 FROM session.active_sessions a
    WHERE a.session_id = ANY (missing) ORDER BY a.session_id FOR UPDATE;
    WITH put AS (
        INSERT INTO session.sockets (session_id, client_id, pod_id, attempt, kind)
        SELECT t.session_id, t.client_id, p_pod_id, t.attempt, t.kind
        FROM unnest(p_session_ids, p_client_ids, p_attempts, p_kinds) AS t (session_id, client_id, attempt, kind)
        JOIN session.active_sessions a USING (session_id)
        WHERE a.status <> 'EXPIRED' AND a.session_id = ANY (missing)
        ON CONFLICT (session_id, client_id) DO NOTHING
        RETURNING session_id
    )
    SELECT array_agg(DISTINCT session_id) INTO written FROM put;
    UPDATE session.active_sessions SET status = 'ACTIVE', disconnected_at = NULL
    WHERE session_id = ANY (written) AND status IN ('RECONNECTING', 'INACTIVE');
    PERFORM session.put_presence(again, '{}'::jsonb) FROM unnest(written) AS again;
    RETURN coalesce(cardinality(written), 0);
END;
$$ LANGUAGE plpgsql;

-- A pod incarnation is no more: its sockets are gone, their sessions wait for their clients.
CREATE FUNCTION session.bury_pod(p_pod_id TEXT) RETURNS INTEGER AS $$
DECLARE
    orphaned TEXT[];
BEGIN
    UPDATE session.pods SET dead = TRUE WHERE pod_id = p_pod_id;
    -- Sessions before sockets, in order: the same lock order as open_socket and close_socket.
    PERFORM 1 FROM session.active_sessions a
    WHERE a.session_id IN (SELECT k.session_id FROM session.sockets k WHERE k.pod_id = p_pod_id)
    ORDER BY a.session_id FOR UPDATE;
    WITH gone AS (
        DELETE FROM session.sockets WHERE pod_id = p_pod_id RETURNING session_id
    )
    SELECT array_agg(DISTINCT session_id) INTO orphaned FROM gone;
    UPDATE session.active_sessions a
    SET status = 'RECONNECTING', disconnected_at = clock_timestamp()
    WHERE a.session_id = ANY (orphaned) AND a.status = 'ACTIVE'
      AND NOT EXISTS (SELECT 1 FROM session.sockets k WHERE k.session_id = a.session_id);
    PERFORM session.put_presence(lost, '{}'::jsonb) FROM unnest(orphaned) AS lost;
    DELETE FROM session.pods WHERE pod_id = p_pod_id;
    RETURN coalesce(cardinality(orphaned), 0);
END;
$$ LANGUAGE plpgsql;

-- ---------------------------------------------------------------------------------------------------------
-- A simulator for a session: the live one, or a new row for the reconciler.
-- outcome: 'created', 'existing', 'session_not_found', 'session_expired' or 'limit'.
CREATE FUNCTION simulator.request_start(
    p_simulator_id TEXT, p_session_id TEXT, p_user_id TEXT, p_symbols JSONB, p_cash DOUBLE PRECISION,
    p_limit INTEGER
) RETURNS TABLE (outcome TEXT, simulator simulator.instances) AS $$
DECLARE
    session_row session.active_sessions;
BEGIN
    PERFORM session.lock_user(p_user_id);
    SELECT * INTO session_row FROM session.active_sessions
    WHERE session_id = p_session_id AND user_id = p_user_id FOR UPDATE;
    IF NOT FOUND THEN
        outcome := 'session_not_found';
        RETURN NEXT;
        RETURN;
    END IF;
    IF session_row.status = 'EXPIRED' OR session_row.expires_at <= clock_timestamp() THEN
        outcome := 'session_expired';
        RETURN NEXT;
        RETURN;
    END IF;
    SELECT i.* INTO simulator FROM simulator.instances i
    WHERE i.session_id = p_session_id AND i.status IN ('CREATING', 'STARTING', 'RUNNING');
    IF FOUND THEN
        outcome := 'existing';
        RETURN NEXT;
        RETURN;
    END IF;
    IF (SELECT count(*) FROM simulator.instances i JOIN session.active_sessions a USING (session_id)
        WHERE i.user_id = p_user_id AND i.target = 'RUNNING'
          AND a.status <> 'EXPIRED' AND a.expires_at > clock_timestamp()) >= p_limit THEN
        outcome := 'limit';
        RETURN NEXT;
        RETURN;
    END IF;
    INSERT INTO simulator.instances (simulator_id, session_id, user_id, status, initial_symbols, initial_cash)
    VALUES (p_simulator_id, p_session_id, p_user_id, 'CREATING', p_symbols, p_cash)
    RETURNING * INTO simulator;
    UPDATE session.session_metadata m
    SET metadata = (m.metadata - 'simulator_endpoint')
        || jsonb_build_object('simulator_id', p_simulator_id, 'simulator_status', 'CREATING')
    WHERE session_id = p_session_id;
    outcome := 'created';
    RETURN NEXT;
END;
$$ LANGUAGE plpgsql;

-- The session's metadata follow its newest simulator, whoever writes the row.
CREATE FUNCTION simulator.mirror_status() RETURNS TRIGGER AS $$
BEGIN
    UPDATE session.session_metadata
    SET metadata = jsonb_strip_nulls(metadata
        || jsonb_build_object('simulator_status', NEW.status, 'simulator_endpoint', NEW.endpoint))
    WHERE session_id = NEW.session_id AND metadata ->> 'simulator_id' = NEW.simulator_id;
    RETURN NULL;
END;
$$ LANGUAGE plpgsql;

CREATE TRIGGER mirror_status AFTER UPDATE OF status, endpoint ON simulator.instances
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status OR OLD.endpoint IS DISTINCT FROM NEW.endpoint)
    EXECUTE FUNCTION simulator.mirror_status();

-- A simulator that failed is at its end: the row says why, its workload is handed to the teardowns.
-- Returns whether this call was the one that ended it.
CREATE FUNCTION simulator.fail(p_simulator_id TEXT, p_reason TEXT) RETURNS BOOLEAN AS $$
DECLARE
    failed simulator.instances;
BEGIN
    UPDATE simulator.instances SET status = 'ERROR', target = 'STOPPED', reason = p_reason
    WHERE simulator_id = p_simulator_id AND status IN ('CREATING', 'STARTING', 'RUNNING')
    RETURNING * INTO failed;
    IF NOT FOUND THEN
        RETURN FALSE;
    END IF;
    INSERT INTO simulator.teardowns (simulator_id, session_id, endpoint, workload_uid)
    VALUES (failed.simulator_id, failed.session_id, failed.endpoint, failed.workload_uid)
    ON CONFLICT (simulator_id) DO NOTHING;
    RETURN TRUE;
END;
$$ LANGUAGE plpgsql;
