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
    metadata JSONB NOT NULL DEFAULT '{}'::jsonb,
    -- The last reconnects that were counted, newest first, as [client id, attempt]: a call that is made again is known by it.
    reconnects JSONB NOT NULL DEFAULT '[]'::jsonb
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
    dead BOOLEAN NOT NULL DEFAULT FALSE,
    died_at TIMESTAMP WITH TIME ZONE, -- when it was seen to be dead
    -- All activity of this pod up to here is written. A new row begins with its own instant: nothing was used here before.
    flushed_until TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT clock_timestamp(),
    -- But of these sessions, whose rows somebody held: they do not expire before it is written, and hold up no other.
    unwritten TEXT[] NOT NULL DEFAULT '{}'
);

-- Which pod makes the rounds that are made once for all pods. A short lease: who holds it renews it every second.
CREATE TABLE session.sweeper (
    singleton BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (singleton),
    pod_id TEXT,
    held_until TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT '-infinity'
);
INSERT INTO session.sweeper DEFAULT VALUES;

-- Who looks after a session's simulators. The row is made with the session and goes with it. Its epoch rises with each
-- claim and never falls: simulators refuse the calls of an earlier one, and every write of an owner locks this row
-- first, in the same statement, so that none gets through behind a claim. The pod is named without a foreign key, which would
-- lock its row for each session that is made; one without a row counts as dead.
CREATE TABLE session.ownership (
    session_id TEXT PRIMARY KEY REFERENCES session.active_sessions (session_id) ON DELETE CASCADE,
    pod_id TEXT,
    epoch BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX idx_ownership_pod_id ON session.ownership (pod_id);

-- Every socket that is counted gets a number. Of two sockets of one client id the one with the higher (attempt, arrival)
-- stays, whoever compares them and when: an order that does not change is what keeps two pods from taking a row from each
-- other in turn. A sequence of its own, since that of an unlogged table's column would begin anew after a crash.
CREATE SEQUENCE session.socket_arrivals;

-- Who is connected where. Unlogged: each pod asserts its own rows again every round.
CREATE UNLOGGED TABLE session.sockets (
    session_id TEXT NOT NULL REFERENCES session.active_sessions (session_id) ON DELETE CASCADE,
    client_id TEXT NOT NULL,
    pod_id TEXT NOT NULL REFERENCES session.pods (pod_id) ON DELETE CASCADE,
    attempt BIGINT NOT NULL DEFAULT 0,
    kind TEXT NOT NULL DEFAULT 'websocket' CHECK (kind IN ('websocket', 'sse')),
    connected_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP,
    arrival BIGINT NOT NULL DEFAULT nextval('session.socket_arrivals'),
    heard_at TIMESTAMP WITH TIME ZONE, -- null unless its session has nearly as many as it may
    evicted BOOLEAN NOT NULL DEFAULT FALSE, -- it made room and is about to be closed: it does not count
    PRIMARY KEY (session_id, client_id)
);
CREATE INDEX idx_sockets_pod_id ON session.sockets (pod_id);

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
    -- The transaction that last changed what clients see of it. Compared with pg_snapshot_xmin of an earlier look it leaves
    -- out nothing, however late that transaction commits. It rises with each change, so that of two states of one simulator
    -- the later is known, in whatever order they are heard of. After a restore into another server rows may look newer than
    -- they are: they are then read more often than needed.
    changed_in BIGINT NOT NULL DEFAULT pg_current_xact_id()::text::bigint,
    -- Until when a create that was sent may still take effect; '-infinity' where none is under way. A workload that is not
    -- there before then is not known to be gone.
    create_until TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT '-infinity',
    -- When it was ready to be created and asked for a slot, the last time; null before.
    queued_at TIMESTAMP WITH TIME ZONE,
    -- When it got its slot; null before, and again where it has to ask anew. It holds the slot while it is on its way to
    -- RUNNING, but for a time only: one that its platform keeps waiting does not keep the others.
    admitted_at TIMESTAMP WITH TIME ZONE,
    -- Its workload was a spare's, and no other was made for it.
    was_spare BOOLEAN NOT NULL DEFAULT FALSE,
    -- The id that the request proposed, where a spare's was taken instead: so that the request made again knows its own.
    requested_as TEXT,
    CONSTRAINT instances_status
        CHECK (status IN ('CREATING', 'STARTING', 'RUNNING', 'STOPPING', 'STOPPED', 'ERROR')),
    CONSTRAINT instances_target CHECK (target IN ('RUNNING', 'STOPPED'))
);

CREATE INDEX idx_simulator_session_id ON simulator.instances (session_id);
CREATE INDEX idx_simulator_user_id ON simulator.instances (user_id);
CREATE INDEX idx_simulator_status ON simulator.instances (status);
CREATE INDEX idx_simulator_changed_in ON simulator.instances (changed_in);
-- Who waits, and who may hold a slot: few rows, whatever the table has. Looked at every second by every pod.
CREATE INDEX idx_simulator_waiting ON simulator.instances (user_id, created_at, simulator_id)
    WHERE status = 'CREATING' AND queued_at IS NOT NULL AND admitted_at IS NULL;
CREATE INDEX idx_simulator_admitted_at ON simulator.instances (admitted_at)
    WHERE status IN ('CREATING', 'STARTING') AND admitted_at IS NOT NULL;
-- When a user got a slot last.
CREATE INDEX idx_simulator_served ON simulator.instances (user_id, admitted_at) WHERE admitted_at IS NOT NULL;
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
    attempts INTEGER NOT NULL DEFAULT 0,
    create_until TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT '-infinity' -- its row's
);
CREATE INDEX idx_teardowns_session_id ON simulator.teardowns (session_id);
CREATE INDEX idx_teardowns_leased_until ON simulator.teardowns (leased_until);

-- Spares: simulators that are ready before anybody asks for one. A start takes one by simulator.request_start.
CREATE TABLE simulator.warm_pool (
    simulator_id TEXT PRIMARY KEY, -- to become that of the simulator which takes it
    status TEXT NOT NULL DEFAULT 'CREATING',
    recipe TEXT NOT NULL, -- what its workload is made of: only those of the present recipe are taken
    workload_uid TEXT, -- null until the workload is known to exist
    endpoint TEXT,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP,
    create_until TIMESTAMP WITH TIME ZONE NOT NULL, -- as of simulator.instances
    CONSTRAINT warm_pool_status CHECK (status IN ('CREATING', 'READY')),
    CONSTRAINT warm_pool_ready CHECK (status = 'CREATING' OR (workload_uid IS NOT NULL AND endpoint IS NOT NULL))
);
-- Which is taken next.
CREATE INDEX idx_warm_pool_ready ON simulator.warm_pool (recipe, created_at) WHERE status = 'READY';

-- Workloads without row and teardown that were too many to be removed unasked. Those that somebody has confirmed are
-- removed; one that is known again, or gone, is no longer here after the next round.
CREATE TABLE simulator.held_orphans (
    simulator_id TEXT NOT NULL,
    workload_uid TEXT NOT NULL,
    session_id TEXT NOT NULL,
    endpoint TEXT,
    found_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP,
    confirmed_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (simulator_id, workload_uid)
);

-- Every delete of a simulator, by cascade and by hand too, leaves word of its workload. SECURITY DEFINER, so that
-- a role which may delete sessions cannot lose workloads for want of a right on this table.
CREATE FUNCTION simulator.record_teardown() RETURNS TRIGGER AS $$
BEGIN
    IF OLD.status <> 'STOPPED' THEN
        INSERT INTO simulator.teardowns AS t (simulator_id, session_id, endpoint, workload_uid, create_until)
        VALUES (OLD.simulator_id, OLD.session_id, OLD.endpoint, OLD.workload_uid, OLD.create_until)
        ON CONFLICT (simulator_id) DO UPDATE
        SET create_until = EXCLUDED.create_until, attempts = t.attempts + 1
        WHERE EXCLUDED.create_until > t.create_until;
    END IF;
    RETURN NULL;
END;
$$ LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog;

CREATE TRIGGER record_teardown AFTER DELETE ON simulator.instances
    FOR EACH ROW EXECUTE FUNCTION simulator.record_teardown();

-- Every delete of a spare leaves word of its workload, but the one by which a simulator takes it: then that one's row
-- stands there already. SECURITY DEFINER as simulator.record_teardown.
CREATE FUNCTION simulator.record_spare_teardown() RETURNS TRIGGER AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM simulator.instances i WHERE i.simulator_id = OLD.simulator_id) THEN
        -- No session and no endpoint: nobody is told of its end, and there is no state to stop.
        INSERT INTO simulator.teardowns (simulator_id, session_id, workload_uid, create_until)
        VALUES (OLD.simulator_id, '', OLD.workload_uid, OLD.create_until)
        ON CONFLICT (simulator_id) DO NOTHING;
    END IF;
    RETURN NULL;
END;
$$ LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog;

CREATE TRIGGER record_spare_teardown AFTER DELETE ON simulator.warm_pool
    FOR EACH ROW EXECUTE FUNCTION simulator.record_spare_teardown();

-- TRUNCATE fires no row trigger: it would leave workloads that nobody knows of.
CREATE FUNCTION simulator.refuse_truncate() RETURNS TRIGGER AS $$
BEGIN
    RAISE EXCEPTION 'simulator.% cannot be truncated: delete its rows, so that workloads are removed', TG_TABLE_NAME;
END;
$$ LANGUAGE plpgsql;

CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON simulator.instances
    FOR EACH STATEMENT EXECUTE FUNCTION simulator.refuse_truncate();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON simulator.warm_pool
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

-- The cleanup round: deletes what is marked EXPIRED, up to p_limit sessions; how many it deleted. What has run out but is
-- not marked is left: a pod may know of a use, and nobody has told of the end.
-- One pod at a time, by a lock that is the transaction's, so that it cannot be lost with a pooled connection. Everything
-- is locked in the order in which all other writers lock it: the cascade has its own.
CREATE FUNCTION session.cleanup_round(p_limit INTEGER) RETURNS INTEGER AS $$
DECLARE
    over TEXT[];
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended('session.cleanup', 0)) THEN
        RETURN 0;
    END IF;
    SELECT array_agg(held.session_id) INTO over FROM (
        SELECT a.session_id FROM session.active_sessions a
        WHERE a.expires_at < NOW() AND a.status = 'EXPIRED'
        ORDER BY a.session_id LIMIT p_limit FOR UPDATE) held;
    IF over IS NULL THEN
        RETURN 0;
    END IF;
    PERFORM 1 FROM session.ownership o WHERE o.session_id = ANY (over) ORDER BY o.session_id FOR UPDATE;
    PERFORM 1 FROM simulator.instances i WHERE i.session_id = ANY (over) ORDER BY i.simulator_id FOR UPDATE;
    PERFORM 1 FROM session.session_metadata m WHERE m.session_id = ANY (over) ORDER BY m.session_id FOR UPDATE;
    -- The documented function deletes whatever has run out: it is the one to call where that is what is held here.
    IF cardinality(over) = (
        SELECT count(*) FROM (
            SELECT 1 FROM session.active_sessions a WHERE a.expires_at < NOW() LIMIT p_limit + 1) run_out) THEN
        RETURN session.cleanup_expired_sessions();
    END IF;
    DELETE FROM session.active_sessions a WHERE a.session_id = ANY (over);
    RETURN cardinality(over);
END;
$$ LANGUAGE plpgsql;

-- What a user may have is decided one call at a time. Held to the end of the transaction.
CREATE FUNCTION session.lock_user(p_user_id TEXT) RETURNS VOID AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('session.user:' || p_user_id, 0));
END;
$$ LANGUAGE plpgsql;

-- Ends one session: its row goes, and with it its metadata, its sockets, its ownership and, through the trigger, its
-- simulator. Returns whether a live simulator went with it; null when there was no such session of this user.
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
    -- Ownership before simulators before metadata, the order in which every other writer takes them: the cascade has
    -- its own.
    PERFORM 1 FROM session.ownership WHERE session_id = p_session_id FOR UPDATE;
    SELECT coalesce(bool_or(i.status IN ('CREATING', 'STARTING', 'RUNNING')), FALSE) INTO had_simulator
    FROM (SELECT status FROM simulator.instances WHERE session_id = p_session_id FOR UPDATE) i;
    DELETE FROM session.active_sessions WHERE session_id = p_session_id;
    RETURN had_simulator;
END;
$$ LANGUAGE plpgsql;

-- Up to when the activity of every live pod is written: what had run out by then has run out for good, and of what runs
-- out later a pod may still know a use. Stands still while a pod cannot write, until it can or is seen to be dead.
CREATE FUNCTION session.activity_written_until() RETURNS TIMESTAMP WITH TIME ZONE AS $$
    SELECT least(clock_timestamp(), min(flushed_until)) FROM session.pods WHERE NOT dead;
$$ LANGUAGE sql STABLE;

-- Writes uses of sessions, and how far this pod has written them; returns the instant for the pod's next call, and the
-- sessions that somebody held at this moment: their uses are to come again. Per session p_since_s and p_until_s: how long
-- ago the first and the last of its uses were. What was used before it ran out is extended, however late that is written;
-- what is marked EXPIRED stays so.
-- p_answered_at is what the pod's last call returned, p_elapsed_s how long ago the pod got it; null: there was none.
-- * With p_is_all, nothing else is known to the pod but p_held, what calls just before this one passed over: what was used
--   before p_answered_at was in its memory when that answer came, and so it is in this call or in one before. This compares
--   instants of PostgreSQL only.
-- * Ages are as of p_answered_at + p_elapsed_s: the call may have waited since for a connection, or for a server that
--   stood still, and a use in time must not look late for it.
CREATE FUNCTION session.flush_activity(
    p_pod_id TEXT, p_answered_at TIMESTAMP WITH TIME ZONE, p_elapsed_s DOUBLE PRECISION, p_is_all BOOLEAN,
    p_held TEXT[], p_session_ids TEXT[], p_since_s DOUBLE PRECISION[], p_until_s DOUBLE PRECISION[], p_timeout INTERVAL
) RETURNS TABLE (answered_at TIMESTAMP WITH TIME ZONE, passed_over TEXT[]) AS $$
DECLARE
    sent_at TIMESTAMP WITH TIME ZONE := least(now(), p_answered_at + make_interval(secs => p_elapsed_s));
    everything_held TEXT[];
BEGIN
    passed_over := '{}';
    IF cardinality(p_session_ids) > 0 THEN
        -- Nobody is waited for: one session that an operator's transaction holds would keep all from expiring. And in the
        -- order of their ids, as everywhere.
        WITH due AS (
            SELECT s.session_id, now() - make_interval(secs => t.until_s) AS at
            FROM unnest(p_session_ids, p_since_s, p_until_s) AS t (session_id, since_s, until_s)
            JOIN session.active_sessions s USING (session_id)
            WHERE s.status <> 'EXPIRED' AND s.expires_at > sent_at - make_interval(secs => t.since_s)
        ), locked AS (
            SELECT s.session_id, due.at FROM session.active_sessions s JOIN due USING (session_id)
            WHERE s.status <> 'EXPIRED'
            ORDER BY s.session_id
            FOR UPDATE OF s SKIP LOCKED
        ), touched AS (
            UPDATE session.active_sessions s
            SET last_active = greatest(s.last_active, locked.at),
                expires_at = greatest(s.expires_at, locked.at + p_timeout)
            FROM locked WHERE s.session_id = locked.session_id
            RETURNING s.session_id, locked.at
        ), used AS (
            UPDATE simulator.instances i
            SET last_active = greatest(i.last_active, touched.at)
            FROM touched
            WHERE i.session_id = touched.session_id AND i.status IN ('CREATING', 'STARTING', 'RUNNING')
        )
        SELECT coalesce(array_agg(due.session_id), '{}') INTO passed_over
        FROM due WHERE NOT EXISTS (SELECT 1 FROM locked WHERE locked.session_id = due.session_id);
    ELSE
        -- Nothing to lose: after a crash of PostgreSQL the pod says it again. Uses do wait for the disk, since the pod
        -- forgets them.
        PERFORM set_config('synchronous_commit', 'off', TRUE);
    END IF;
    everything_held := p_held || passed_over;
    UPDATE session.pods SET flushed_until = p_answered_at, unwritten = everything_held
    WHERE pod_id = p_pod_id AND p_is_all AND p_answered_at IS NOT NULL;
    answered_at := clock_timestamp();
    RETURN NEXT;
END;
$$ LANGUAGE plpgsql;

-- Of which a live pod has uses to write that it could not write yet.
CREATE FUNCTION session.has_unwritten_activity(p_session_id TEXT) RETURNS BOOLEAN AS $$
    SELECT EXISTS (SELECT 1 FROM session.pods p WHERE NOT p.dead AND p_session_id = ANY (p.unwritten));
$$ LANGUAGE sql STABLE;

-- Marks what had run out at p_until: final, and its simulators are to stop. Returns the sessions that it marked. For one
-- user it is by the instant of the call: he waits for the answer.
CREATE FUNCTION session.expire_sessions(
    p_user_id TEXT DEFAULT NULL, p_limit INTEGER DEFAULT 1000,
    p_until TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp()
) RETURNS TABLE (expired_session_id TEXT, expired_user_id TEXT) AS $$
BEGIN
    RETURN QUERY
    WITH due AS (
        SELECT a.session_id FROM session.active_sessions a
        WHERE a.status <> 'EXPIRED' AND a.expires_at <= p_until
          AND CASE WHEN p_user_id IS NULL THEN NOT session.has_unwritten_activity(a.session_id)
                   ELSE a.user_id = p_user_id END
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

-- The session of a (user, device): the one that stands, or a new one, which the calling pod owns. One call of a user at a
-- time. outcome: 'existing', 'created' or 'limit'. ended_session_id: the session that made room, if one did. The row
-- comes from inside: the statement that calls this has a snapshot from before it.
CREATE FUNCTION session.open_session(
    p_session_id TEXT, p_user_id TEXT, p_device_id TEXT, p_timeout INTERVAL, p_limit INTEGER, p_metadata JSONB,
    p_pod_id TEXT
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
    -- A pod without a row, or that goes, leaves it to the next adoption.
    UPDATE session.ownership o SET pod_id = p_pod_id, epoch = 1
    FROM session.pods p
    WHERE o.session_id = p_session_id AND p.pod_id = p_pod_id AND NOT p.dead AND NOT p.draining;
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

-- A pod leaves: its row goes, its sockets with it, and what it owned is released.
CREATE FUNCTION session.bury_pod(p_pod_id TEXT) RETURNS INTEGER AS $$
DECLARE
    orphaned TEXT[];
BEGIN
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
    PERFORM 1 FROM session.ownership o WHERE o.pod_id = p_pod_id ORDER BY o.session_id FOR UPDATE;
    UPDATE session.ownership SET pod_id = NULL WHERE pod_id = p_pod_id;
    DELETE FROM session.pods WHERE pod_id = p_pod_id;
    RETURN coalesce(cardinality(orphaned), 0);
END;
$$ LANGUAGE plpgsql;

-- ---------------------------------------------------------------------------------------------------------
-- Sessions that are inserted by hand have an owner soon as well. SECURITY DEFINER: whoever may insert a session needs no
-- right on this table.
CREATE FUNCTION session.make_ownership() RETURNS TRIGGER AS $$
BEGIN
    INSERT INTO session.ownership (session_id) VALUES (NEW.session_id);
    RETURN NULL;
END;
$$ LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog;

CREATE TRIGGER make_ownership AFTER INSERT ON session.active_sessions
    FOR EACH ROW EXECUTE FUNCTION session.make_ownership();

-- Takes these sessions for a pod, as far as domain/placement.py lets it: from nobody, from a pod that is dead or draining,
-- or from one that has no socket of the session while the claimer has. What it took, from whom, and why.
-- The rows are locked before the rule is looked at, so that it sees what is true now, and in order, so that two claims
-- cannot wait for each other.
CREATE FUNCTION session.claim(p_pod_id TEXT, p_session_ids TEXT[])
RETURNS TABLE (claimed_session_id TEXT, claimed_epoch BIGINT, cause TEXT, previous_pod_id TEXT) AS $$
BEGIN
    PERFORM 1 FROM session.ownership o WHERE o.session_id = ANY (p_session_ids) ORDER BY o.session_id FOR UPDATE;
    RETURN QUERY
    WITH free AS (
        SELECT o.session_id, o.pod_id, CASE
            WHEN o.pod_id IS NULL AND o.epoch = 0 THEN 'new'
            WHEN o.pod_id IS NULL THEN 'released'
            WHEN coalesce(owner.dead, TRUE) THEN 'dead'
            WHEN owner.draining THEN 'draining'
            WHEN EXISTS (SELECT 1 FROM session.sockets k
                         WHERE k.session_id = o.session_id AND k.pod_id = p_pod_id)
                AND NOT EXISTS (SELECT 1 FROM session.sockets k
                                WHERE k.session_id = o.session_id AND k.pod_id = o.pod_id) THEN 'moved'
        END AS why
        FROM session.ownership o LEFT JOIN session.pods owner USING (pod_id)
        WHERE o.session_id = ANY (p_session_ids) AND o.pod_id IS DISTINCT FROM p_pod_id
          AND EXISTS (SELECT 1 FROM session.pods me WHERE me.pod_id = p_pod_id AND NOT me.dead AND NOT me.draining)
    )
    UPDATE session.ownership o SET pod_id = p_pod_id, epoch = o.epoch + 1
    FROM free WHERE o.session_id = free.session_id AND free.why IS NOT NULL
    RETURNING o.session_id, o.epoch, free.why, free.pod_id;
END;
$$ LANGUAGE plpgsql;

-- Owners that live no more: declared dead, or without a row. One index probe for each pod that owns anything.
CREATE FUNCTION session.lost_owners() RETURNS TEXT[] AS $$
    WITH RECURSIVE owner (pod_id) AS (
        SELECT min(o.pod_id) FROM session.ownership o
        UNION ALL
        SELECT (SELECT min(o.pod_id) FROM session.ownership o WHERE o.pod_id > owner.pod_id)
        FROM owner WHERE owner.pod_id IS NOT NULL
    )
    SELECT coalesce(array_agg(owner.pod_id), '{}') FROM owner
    WHERE owner.pod_id IS NOT NULL
      AND NOT EXISTS (SELECT 1 FROM session.pods p WHERE p.pod_id = owner.pod_id AND NOT p.dead);
$$ LANGUAGE sql STABLE;

-- Takes up to so many sessions that nobody looks after: released, or of a pod that is dead; those with sockets elsewhere
-- are left to the pods that have them. What another pod is taking at this moment is passed over.
CREATE FUNCTION session.adopt(p_pod_id TEXT, p_limit INTEGER)
RETURNS TABLE (claimed_session_id TEXT, claimed_epoch BIGINT, cause TEXT, previous_pod_id TEXT) AS $$
DECLARE
    lost TEXT[] := session.lost_owners();
BEGIN
    RETURN QUERY
    WITH free AS (
        SELECT o.session_id, o.pod_id, CASE
            WHEN o.pod_id IS NOT NULL THEN 'dead' WHEN o.epoch = 0 THEN 'new' ELSE 'released' END AS why
        FROM session.ownership o
        WHERE (o.pod_id IS NULL OR o.pod_id = ANY (lost))
          AND (NOT EXISTS (SELECT 1 FROM session.sockets k WHERE k.session_id = o.session_id)
               OR EXISTS (SELECT 1 FROM session.sockets k
                          WHERE k.session_id = o.session_id AND k.pod_id = p_pod_id))
          AND EXISTS (SELECT 1 FROM session.pods me WHERE me.pod_id = p_pod_id AND NOT me.dead AND NOT me.draining)
        LIMIT p_limit
        FOR UPDATE OF o SKIP LOCKED
    )
    UPDATE session.ownership o SET pod_id = p_pod_id, epoch = o.epoch + 1
    FROM free WHERE o.session_id = free.session_id
    RETURNING o.session_id, o.epoch, free.why, free.pod_id;
END;
$$ LANGUAGE plpgsql;

-- ---------------------------------------------------------------------------------------------------------
-- Registration and the decision who is last are made under one lock: of pods that come and go at once, each is counted.
CREATE FUNCTION session.lock_pods() RETURNS VOID AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('session.drain', 0));
END;
$$ LANGUAGE plpgsql;

CREATE FUNCTION session.register_pod(p_pod_id TEXT, p_pod_name TEXT, p_address TEXT, p_version TEXT)
RETURNS VOID AS $$
BEGIN
    PERFORM session.lock_pods();
    INSERT INTO session.pods (pod_id, pod_name, address, version) VALUES (p_pod_id, p_pod_name, p_address, p_version)
    ON CONFLICT (pod_id) DO NOTHING;
END;
$$ LANGUAGE plpgsql;

-- Marks a pod as draining; the pods that are live beside it, with their beats. None: it is the last.
CREATE FUNCTION session.start_draining(p_pod_id TEXT) RETURNS TABLE (live_pod_id TEXT, live_beat BIGINT) AS $$
BEGIN
    PERFORM session.lock_pods();
    UPDATE session.pods SET draining = TRUE WHERE pod_id = p_pod_id AND NOT draining;
    RETURN QUERY
    SELECT p.pod_id, p.beat FROM session.pods p WHERE p.pod_id <> p_pod_id AND NOT p.draining AND NOT p.dead;
END;
$$ LANGUAGE plpgsql;

-- The last pod of all gives up the spares, stops every simulator and takes it, to see to its end, and whatever else is on
-- its way there; changed: by this call. Not from a pod that goes as well and is at it, which would be kept from recording
-- the end: when that pod has left, the next call takes it. Nothing, where a live pod is there.
CREATE FUNCTION session.stop_as_last(p_pod_id TEXT, p_reason TEXT)
RETURNS TABLE (stopping simulator.instances, changed BOOLEAN) AS $$
BEGIN
    PERFORM session.lock_pods();
    IF EXISTS (SELECT 1 FROM session.pods p WHERE p.pod_id <> p_pod_id AND NOT p.draining AND NOT p.dead) THEN
        RETURN;
    END IF;
    DELETE FROM simulator.warm_pool;
    PERFORM 1 FROM session.ownership o
    WHERE o.session_id IN (
        SELECT i.session_id FROM simulator.instances i WHERE i.status IN ('CREATING', 'STARTING', 'RUNNING', 'STOPPING'))
    ORDER BY o.session_id FOR UPDATE;
    UPDATE session.ownership o SET pod_id = p_pod_id, epoch = o.epoch + 1
    WHERE o.pod_id IS DISTINCT FROM p_pod_id
      AND EXISTS (SELECT 1 FROM session.pods me WHERE me.pod_id = p_pod_id AND NOT me.dead)
      AND (o.session_id IN (
               SELECT i.session_id FROM simulator.instances i WHERE i.status IN ('CREATING', 'STARTING', 'RUNNING'))
           OR (o.session_id IN (SELECT i.session_id FROM simulator.instances i WHERE i.status = 'STOPPING')
               AND NOT EXISTS (SELECT 1 FROM session.pods p WHERE p.pod_id = o.pod_id AND NOT p.dead)));
    RETURN QUERY
    WITH asked AS (
        UPDATE simulator.instances i SET status = 'STOPPING', target = 'STOPPED', reason = p_reason
        WHERE i.status IN ('CREATING', 'STARTING', 'RUNNING')
        RETURNING i AS one
    )
    SELECT asked.one, TRUE FROM asked
    UNION ALL SELECT i, FALSE FROM simulator.instances i WHERE i.status = 'STOPPING';
END;
$$ LANGUAGE plpgsql;

-- The sockets of pods that are dead, some sessions at a time: their sessions wait for their clients. How many sessions;
-- 0: nothing is left, or another pod is at it.
CREATE FUNCTION session.bury_sockets(p_limit INTEGER) RETURNS INTEGER AS $$
DECLARE
    orphaned TEXT[];
BEGIN
    -- Sessions before sockets, in order: the same lock order as open_socket and close_socket.
    SELECT array_agg(held.session_id) INTO orphaned FROM (
        SELECT a.session_id FROM session.active_sessions a
        WHERE a.session_id IN (
            SELECT k.session_id FROM session.sockets k JOIN session.pods p USING (pod_id) WHERE p.dead)
        ORDER BY a.session_id
        LIMIT p_limit
        FOR UPDATE SKIP LOCKED) held;
    IF orphaned IS NULL THEN
        RETURN 0;
    END IF;
    DELETE FROM session.sockets k USING session.pods p
    WHERE k.session_id = ANY (orphaned) AND p.pod_id = k.pod_id AND p.dead;
    UPDATE session.active_sessions a
    SET status = 'RECONNECTING', disconnected_at = clock_timestamp()
    WHERE a.session_id = ANY (orphaned) AND a.status = 'ACTIVE'
      AND NOT EXISTS (SELECT 1 FROM session.sockets k WHERE k.session_id = a.session_id);
    PERFORM session.put_presence(lost, '{}'::jsonb) FROM unnest(orphaned) AS lost;
    RETURN cardinality(orphaned);
END;
$$ LANGUAGE plpgsql;

-- ---------------------------------------------------------------------------------------------------------
-- Locks these sessions, in order, but waits for none: those that another transaction holds at this moment.
CREATE FUNCTION session.lock_free(p_session_ids TEXT[]) RETURNS TEXT[] AS $$
DECLARE
    locked TEXT[];
BEGIN
    SELECT coalesce(array_agg(l.session_id), '{}') INTO locked FROM (
        SELECT a.session_id FROM session.active_sessions a
        WHERE a.session_id = ANY (p_session_ids) ORDER BY a.session_id FOR UPDATE SKIP LOCKED) l;
    RETURN ARRAY(SELECT a.session_id FROM session.active_sessions a
                 WHERE a.session_id = ANY (p_session_ids) AND a.session_id <> ALL (locked));
END;
$$ LANGUAGE plpgsql;

-- As session.open_socket, for several; place counts from 1. Sessions that somebody else holds at this moment are left
-- out, so that nobody waits for what is not his: their sockets are opened one by one.
CREATE FUNCTION session.open_sockets(
    p_session_ids TEXT[], p_client_ids TEXT[], p_pod_ids TEXT[], p_attempts BIGINT[], p_kinds TEXT[],
    p_timeout INTERVAL, p_fields JSONB[], p_reconnect_as TEXT[], p_crowded INTEGER
) RETURNS TABLE (place BIGINT, opened_session_id TEXT, outcome TEXT, opened_arrival BIGINT, connections INTEGER) AS $$
DECLARE
    held TEXT[] := session.lock_free(p_session_ids);
BEGIN
    RETURN QUERY
    SELECT t.place, t.session_id, o.outcome, o.opened_arrival, o.connections
    FROM (SELECT * FROM unnest(p_session_ids, p_client_ids, p_pod_ids, p_attempts, p_kinds, p_fields, p_reconnect_as)
              WITH ORDINALITY AS u (session_id, client_id, pod_id, attempt, kind, fields, reconnect_as, place)
          WHERE u.session_id <> ALL (held) ORDER BY u.session_id, u.place) t
    CROSS JOIN LATERAL session.open_socket(
        t.session_id, t.client_id, t.pod_id, t.attempt, t.kind, p_timeout, t.fields, t.reconnect_as, p_crowded) o;
END;
$$ LANGUAGE plpgsql;

-- As session.close_socket, for several; sessions that somebody else holds are left out likewise.
CREATE FUNCTION session.close_sockets(
    p_session_ids TEXT[], p_client_ids TEXT[], p_arrivals BIGINT[], p_by_client BOOLEAN[], p_fields JSONB[]
) RETURNS TABLE (place BIGINT, was_there BOOLEAN) AS $$
DECLARE
    held TEXT[] := session.lock_free(p_session_ids);
BEGIN
    RETURN QUERY
    SELECT t.place, session.close_socket(t.session_id, t.client_id, t.arrival, t.by_client, t.fields)
    FROM (SELECT * FROM unnest(p_session_ids, p_client_ids, p_arrivals, p_by_client, p_fields)
              WITH ORDINALITY AS u (session_id, client_id, arrival, by_client, fields, place)
          WHERE u.session_id <> ALL (held) ORDER BY u.session_id, u.place) t;
END;
$$ LANGUAGE plpgsql;

-- A session's simulator: the live one, else the newest. Volatile, so that it reads what is committed when it is called: the
-- statement around it has a snapshot from before it waited for the session, and what came meanwhile nobody tells again.
CREATE FUNCTION simulator.newest(p_session_id TEXT) RETURNS SETOF simulator.instances AS $$
    SELECT * FROM simulator.instances WHERE session_id = p_session_id
    ORDER BY (status IN ('CREATING', 'STARTING', 'RUNNING')) DESC, created_at DESC LIMIT 1;
$$ LANGUAGE sql VOLATILE;

-- ---------------------------------------------------------------------------------------------------------
-- A simulator for a session: the live one, or a new row for its owner's reconciler; where nobody looks after the session,
-- the calling pod takes it. outcome: 'created', 'existing', 'session_not_found', 'session_expired' or 'limit'.
-- A new one is a spare of p_recipe where one is ready (null: none is looked for), and then it has that one's id, not the
-- proposed. Unless the session's last workload may still stand: then it waits for that one's end, as any other.
CREATE FUNCTION simulator.request_start(
    p_simulator_id TEXT, p_session_id TEXT, p_user_id TEXT, p_symbols JSONB, p_cash DOUBLE PRECISION,
    p_limit INTEGER, p_pod_id TEXT, p_recipe TEXT DEFAULT NULL
) RETURNS TABLE (outcome TEXT, simulator simulator.instances, owner_pod_id TEXT) AS $$
DECLARE
    session_row session.active_sessions;
    spare simulator.warm_pool;
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
    PERFORM session.claim(p_pod_id, ARRAY[p_session_id]);
    SELECT o.pod_id INTO owner_pod_id FROM session.ownership o WHERE o.session_id = p_session_id;
    SELECT w.* INTO spare FROM simulator.warm_pool w
    WHERE w.status = 'READY' AND w.recipe = p_recipe
      AND NOT EXISTS (SELECT 1 FROM simulator.instances p WHERE p.session_id = p_session_id AND p.status = 'STOPPING')
      AND NOT EXISTS (SELECT 1 FROM simulator.teardowns t WHERE t.session_id = p_session_id)
    ORDER BY w.created_at LIMIT 1 FOR UPDATE SKIP LOCKED;
    IF FOUND THEN
        INSERT INTO simulator.instances (
            simulator_id, session_id, user_id, status, initial_symbols, initial_cash, endpoint, workload_uid,
            create_until, was_spare, requested_as)
        VALUES (
            spare.simulator_id, p_session_id, p_user_id, 'STARTING', p_symbols, p_cash, spare.endpoint,
            spare.workload_uid, spare.create_until, TRUE, p_simulator_id)
        RETURNING * INTO simulator;
        -- After the simulator's row, by which the trigger knows that the workload is wanted.
        DELETE FROM simulator.warm_pool w WHERE w.simulator_id = spare.simulator_id;
    ELSE
        INSERT INTO simulator.instances (simulator_id, session_id, user_id, status, initial_symbols, initial_cash)
        VALUES (p_simulator_id, p_session_id, p_user_id, 'CREATING', p_symbols, p_cash)
        RETURNING * INTO simulator;
    END IF;
    UPDATE session.session_metadata m
    SET metadata = jsonb_strip_nulls(m.metadata || jsonb_build_object(
        'simulator_id', simulator.simulator_id, 'simulator_status', simulator.status,
        'simulator_endpoint', simulator.endpoint))
    WHERE session_id = p_session_id;
    outcome := 'created';
    RETURN NEXT;
END;
$$ LANGUAGE plpgsql;

-- The start queue (ADR 0025): over all pods at most so many simulators are being created at once, and users take turns.
-- p_limit: how many. p_slot: for how long a start may keep its slot.

-- Slots are given by one transaction at a time. Whoever waits for this lock may hold its own simulator's row; whoever
-- has it waits for no row.
CREATE FUNCTION simulator.lock_starts() RETURNS VOID AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('simulator.starts', 0));
END;
$$ LANGUAGE plpgsql;

-- How many slots are held: by starts of users, and by spares that are being created.
CREATE FUNCTION simulator.held_starts(p_slot INTERVAL) RETURNS INTEGER AS $$
    SELECT (SELECT count(*) FROM simulator.instances i
            WHERE i.status IN ('CREATING', 'STARTING') AND i.admitted_at > clock_timestamp() - p_slot)::integer
         + (SELECT count(*) FROM simulator.warm_pool w
            WHERE w.status = 'CREATING' AND w.created_at > clock_timestamp() - p_slot)::integer;
$$ LANGUAGE sql;

-- Who waits, in the order in which they get slots; place 1 is next. The rule is domain/start_queue.py: a start's turn is
-- how many starts of its user come before it, those that hold slots included; of one turn the user is first who has waited
-- longest, since it got a slot last or since its oldest waiting start was asked for.
CREATE FUNCTION simulator.start_queue(p_slot INTERVAL)
RETURNS TABLE (waiting_id TEXT, waiting_session_id TEXT, place BIGINT) AS $$
    WITH waiting AS (
        SELECT i.simulator_id, i.session_id, i.user_id, row_number() OVER line AS before,
               first_value(i.created_at) OVER line AS since, first_value(i.simulator_id) OVER line AS first_id
        FROM simulator.instances i
        WHERE i.status = 'CREATING' AND i.queued_at IS NOT NULL AND i.admitted_at IS NULL
        WINDOW line AS (PARTITION BY i.user_id ORDER BY i.created_at, i.simulator_id)
    ), served AS (
        SELECT f.user_id, (SELECT max(i.admitted_at) FROM simulator.instances i WHERE i.user_id = f.user_id) AS last
        FROM waiting f WHERE f.before = 1
    ), holding AS (
        SELECT i.user_id, count(*) AS held FROM simulator.instances i
        WHERE i.status IN ('CREATING', 'STARTING') AND i.admitted_at > clock_timestamp() - p_slot
        GROUP BY i.user_id
    )
    SELECT w.simulator_id, w.session_id, row_number() OVER (
               ORDER BY w.before + coalesce(h.held, 0), w.before, greatest(w.since, s.last), w.first_id)
    FROM waiting w JOIN served s USING (user_id) LEFT JOIN holding h USING (user_id);
$$ LANGUAGE sql;

-- Gives the free slots to those who are next; returns their rows. A row that somebody has locked is passed over, as it
-- is about to change. Where nobody waits that is one look at an index that is empty then.
CREATE FUNCTION simulator.admit_starts(p_limit INTEGER, p_slot INTERVAL) RETURNS SETOF simulator.instances AS $$
DECLARE
    free INTEGER;
BEGIN
    IF NOT EXISTS (SELECT 1 FROM simulator.instances i
                   WHERE i.status = 'CREATING' AND i.queued_at IS NOT NULL AND i.admitted_at IS NULL) THEN
        RETURN;
    END IF;
    PERFORM simulator.lock_starts();
    free := p_limit - simulator.held_starts(p_slot);
    IF free <= 0 THEN
        RETURN;
    END IF;
    RETURN QUERY
    WITH next AS MATERIALIZED (
        SELECT w.simulator_id FROM simulator.start_queue(p_slot) q
        JOIN simulator.instances w ON w.simulator_id = q.waiting_id
        WHERE w.status = 'CREATING' AND w.queued_at IS NOT NULL AND w.admitted_at IS NULL
        ORDER BY q.place LIMIT free FOR UPDATE OF w SKIP LOCKED
    )
    UPDATE simulator.instances i SET admitted_at = clock_timestamp()
    FROM next WHERE i.simulator_id = next.simulator_id
    RETURNING i.*;
END;
$$ LANGUAGE plpgsql;

-- How many slots are left for what no user waits for: 0 while somebody does. Whoever asks makes his starts count (see
-- held_starts) in the same transaction, to whose end nobody else gets a slot.
CREATE FUNCTION simulator.free_starts(p_limit INTEGER, p_slot INTERVAL) RETURNS INTEGER AS $$
BEGIN
    PERFORM simulator.lock_starts();
    IF EXISTS (SELECT 1 FROM simulator.instances i
               WHERE i.status = 'CREATING' AND i.queued_at IS NOT NULL AND i.admitted_at IS NULL) THEN
        RETURN 0;
    END IF;
    RETURN greatest(0, p_limit - simulator.held_starts(p_slot));
END;
$$ LANGUAGE plpgsql;

-- Rows for spares that are missing, each before its workload is created: of the proposed ids as many as p_size has room
-- for and no user's start needs the slot of. Called again, it answers for the same ids the same. Nothing from a pod that
-- drains or is dead: what the last pod removes stays removed.
CREATE FUNCTION simulator.reserve_spares(
    p_pod_id TEXT, p_simulator_ids TEXT[], p_recipe TEXT, p_size INTEGER, p_within INTERVAL, p_limit INTEGER,
    p_slot INTERVAL
) RETURNS SETOF simulator.warm_pool AS $$
DECLARE
    room INTEGER;
BEGIN
    PERFORM session.lock_pods();
    IF NOT EXISTS (SELECT 1 FROM session.pods p WHERE p.pod_id = p_pod_id AND NOT p.draining AND NOT p.dead) THEN
        RETURN;
    END IF;
    room := least(p_size - (SELECT count(*) FROM simulator.warm_pool), simulator.free_starts(p_limit, p_slot));
    INSERT INTO simulator.warm_pool (simulator_id, recipe, created_at, create_until)
    SELECT u.simulator_id, p_recipe, clock_timestamp(), clock_timestamp() + p_within
    FROM unnest(p_simulator_ids) WITH ORDINALITY AS u (simulator_id, place)
    WHERE u.place <= room
    ON CONFLICT (simulator_id) DO NOTHING;
    RETURN QUERY SELECT * FROM simulator.warm_pool w WHERE w.simulator_id = ANY (p_simulator_ids);
END;
$$ LANGUAGE plpgsql;

-- Before each create of an owner: whoever finds no workload knows from create_until when one may still come to be.
-- A start without a slot, or whose slot has lapsed, asks for one; it gets it if one is free for it, and else waits:
-- queue_position says where, and nothing may be created. queued_for: how long the slot was waited for that this call
-- gave. No row: it must not be created (any more), or not by this pod.
CREATE FUNCTION simulator.begin_create(
    p_simulator_id TEXT, p_session_id TEXT, p_pod_id TEXT, p_epoch BIGINT, p_within INTERVAL, p_limit INTEGER,
    p_slot INTERVAL
) RETURNS TABLE (until TIMESTAMP WITH TIME ZONE, queue_position BIGINT, queued_for INTERVAL) AS $$
DECLARE
    start simulator.instances;
BEGIN
    -- The session first, as everywhere. The second change of the simulator's row asks for it: PostgreSQL looks whether
    -- the session is there when a row changes that its own transaction wrote. Who holds the session (an activity, its
    -- end) and waits for the simulator would wait for ever.
    PERFORM 1 FROM session.active_sessions s WHERE s.session_id = p_session_id FOR KEY SHARE;
    -- An owner's write, as all that name an owner: its ownership is locked first, so that it waits for a claim under way,
    -- and is nothing after it.
    PERFORM 1 FROM session.ownership
    WHERE session_id = p_session_id AND pod_id = p_pod_id AND epoch = p_epoch FOR SHARE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT * INTO start FROM simulator.instances i
    WHERE i.simulator_id = p_simulator_id AND i.session_id = p_session_id
      AND i.status = 'CREATING' AND i.target = 'RUNNING' FOR UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF start.admitted_at IS NULL OR start.admitted_at <= clock_timestamp() - p_slot THEN
        IF start.queued_at IS NULL OR start.admitted_at IS NOT NULL THEN
            UPDATE simulator.instances i SET queued_at = clock_timestamp(), admitted_at = NULL
            WHERE i.simulator_id = p_simulator_id RETURNING * INTO start;
        END IF;
        PERFORM simulator.lock_starts();
        SELECT q.place INTO queue_position FROM simulator.start_queue(p_slot) q WHERE q.waiting_id = p_simulator_id;
        IF queue_position > p_limit - simulator.held_starts(p_slot) THEN
            RETURN NEXT;
            RETURN;
        END IF;
        queue_position := NULL;
        queued_for := clock_timestamp() - start.queued_at;
        start.admitted_at := clock_timestamp();
    END IF;
    UPDATE simulator.instances i
    SET admitted_at = start.admitted_at, create_until = greatest(i.create_until, clock_timestamp() + p_within)
    WHERE i.simulator_id = p_simulator_id RETURNING i.create_until INTO until;
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

-- A simulator that failed is at its end, says its session's owner: the row says why, its workload is handed to the
-- teardowns. Returns whether this call was the one that ended it; false as well where the caller owns it no more.
CREATE FUNCTION simulator.fail(
    p_simulator_id TEXT, p_reason TEXT, p_session_id TEXT, p_pod_id TEXT, p_epoch BIGINT
) RETURNS BOOLEAN AS $$
DECLARE
    failed simulator.instances;
BEGIN
    PERFORM 1 FROM session.ownership
    WHERE session_id = p_session_id AND pod_id = p_pod_id AND epoch = p_epoch FOR SHARE;
    IF NOT FOUND THEN
        RETURN FALSE;
    END IF;
    UPDATE simulator.instances SET status = 'ERROR', target = 'STOPPED', reason = p_reason
    WHERE simulator_id = p_simulator_id AND session_id = p_session_id
      AND status IN ('CREATING', 'STARTING', 'RUNNING')
    RETURNING * INTO failed;
    IF NOT FOUND THEN
        RETURN FALSE;
    END IF;
    INSERT INTO simulator.teardowns AS t (simulator_id, session_id, endpoint, workload_uid, create_until)
    VALUES (failed.simulator_id, failed.session_id, failed.endpoint, failed.workload_uid, failed.create_until)
    ON CONFLICT (simulator_id) DO UPDATE
    SET create_until = EXCLUDED.create_until, attempts = t.attempts + 1
    WHERE EXCLUDED.create_until > t.create_until;
    RETURN TRUE;
END;
$$ LANGUAGE plpgsql;

-- For the operator who has looked at them: how many will be removed that would not have been.
CREATE FUNCTION simulator.confirm_orphans() RETURNS INTEGER AS $$
DECLARE
    confirmed INTEGER;
BEGIN
    UPDATE simulator.held_orphans SET confirmed_at = now() WHERE confirmed_at IS NULL;
    GET DIAGNOSTICS confirmed = ROW_COUNT;
    RETURN confirmed;
END;
$$ LANGUAGE plpgsql;

-- The round's finding, in place of the last one's; returns what has been confirmed of it.
CREATE FUNCTION simulator.hold_orphans(
    p_simulator_ids TEXT[], p_workload_uids TEXT[], p_session_ids TEXT[], p_endpoints TEXT[]
) RETURNS TABLE (confirmed_simulator_id TEXT, confirmed_workload_uid TEXT) AS $$
BEGIN
    DELETE FROM simulator.held_orphans h
    WHERE NOT EXISTS (SELECT 1 FROM unnest(p_simulator_ids, p_workload_uids) AS f (simulator_id, workload_uid)
                      WHERE f.simulator_id = h.simulator_id AND f.workload_uid = h.workload_uid);
    INSERT INTO simulator.held_orphans (simulator_id, workload_uid, session_id, endpoint)
    SELECT * FROM unnest(p_simulator_ids, p_workload_uids, p_session_ids, p_endpoints)
    ORDER BY 1, 2
    ON CONFLICT DO NOTHING;
    RETURN QUERY SELECT h.simulator_id, h.workload_uid FROM simulator.held_orphans h WHERE h.confirmed_at IS NOT NULL;
END;
$$ LANGUAGE plpgsql;

-- The create that was to take effect by p_until has been answered, and no other was under way. Its simulator may have
-- come to its end meanwhile, and its row may have gone.
CREATE FUNCTION simulator.create_answered(p_simulator_id TEXT, p_until TIMESTAMP WITH TIME ZONE) RETURNS VOID AS $$
BEGIN
    UPDATE simulator.instances SET create_until = '-infinity'
    WHERE simulator_id = p_simulator_id AND create_until = p_until;
    UPDATE simulator.teardowns SET create_until = '-infinity', leased_until = least(leased_until, now())
    WHERE simulator_id = p_simulator_id AND create_until = p_until;
END;
$$ LANGUAGE plpgsql;

-- ---------------------------------------------------------------------------------------------------------
-- Named sessions (document 004): its table, what makes its rules true, and what keeps the cache of active sessions right.

-- As the document writes it, with what makes its rules true.
CREATE TABLE public.sessions (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id INTEGER NOT NULL,
    title VARCHAR NOT NULL,
    active BOOLEAN NOT NULL DEFAULT FALSE,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP,
    CONSTRAINT sessions_title_length CHECK (char_length(title) BETWEEN 1 AND 1000)
);
CREATE INDEX idx_sessions_user_id ON public.sessions(user_id);
CREATE INDEX idx_sessions_active ON public.sessions(user_id, active) WHERE active = TRUE;

-- One row per user: the lock under which everything of the user's is decided, and the epoch of the active session.
-- The epoch grows with every change of it; changed_in is the transaction of the last one (see pg_snapshot_xmin).
CREATE TABLE session.named_session_users (
    user_id BIGINT PRIMARY KEY,
    epoch BIGINT NOT NULL DEFAULT 1,
    changed_in XID8 NOT NULL DEFAULT pg_current_xact_id()
);
CREATE INDEX idx_named_session_users_changed_in ON session.named_session_users(changed_in, user_id);

-- What all pods have to know of the cache (docs/named-sessions.md, "The cache"). It is in doubt while doubted > cleared;
-- every change that the snapshot settled sees is known to be in it. in_order: the constraints below are there.
CREATE TABLE session.named_session_cache (
    singleton BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (singleton),
    doubted BIGINT NOT NULL DEFAULT 1,
    cleared BIGINT NOT NULL DEFAULT 0,
    settled PG_SNAPSHOT NOT NULL DEFAULT '3:3:',  -- before every transaction
    in_order BOOLEAN NOT NULL DEFAULT FALSE
);
INSERT INTO session.named_session_cache (in_order) VALUES (TRUE);

-- What a unique index can hold of a title: 1,000 characters may have 4,000 bytes, a row of a B-tree at most 2,704.
-- convert_to is only STABLE because conversions can be redefined; to UTF-8 they are not.
CREATE FUNCTION session.title_digest(p_title TEXT) RETURNS BYTEA AS $$
    SELECT sha256(convert_to(p_title, 'UTF8'));
$$ LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog;
CREATE UNIQUE INDEX sessions_user_id_title_key ON public.sessions (user_id, session.title_digest(title));
CREATE UNIQUE INDEX sessions_one_active_key ON public.sessions (user_id) WHERE active;

-- Every write to the table, by another program and by hand too, raises its users' epochs, once a transaction: so that
-- the cache hears of it. SECURITY DEFINER, for roles that have no right on session.
CREATE FUNCTION session.note_named_session_change() RETURNS TRIGGER AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        INSERT INTO session.named_session_users AS u (user_id) VALUES (OLD.user_id)
        ON CONFLICT (user_id) DO UPDATE SET epoch = u.epoch + 1, changed_in = pg_current_xact_id()
        WHERE u.changed_in <> pg_current_xact_id();
    END IF;
    IF TG_OP = 'INSERT' OR TG_OP = 'UPDATE' AND NEW.user_id <> OLD.user_id THEN
        INSERT INTO session.named_session_users AS u (user_id) VALUES (NEW.user_id)
        ON CONFLICT (user_id) DO UPDATE SET epoch = u.epoch + 1, changed_in = pg_current_xact_id()
        WHERE u.changed_in <> pg_current_xact_id();
    END IF;
    RETURN NULL;
END;
$$ LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog;

CREATE TRIGGER sessions_inserted AFTER INSERT ON public.sessions
    FOR EACH ROW EXECUTE FUNCTION session.note_named_session_change();
CREATE TRIGGER sessions_updated AFTER UPDATE ON public.sessions
    FOR EACH ROW WHEN ((OLD.id, OLD.user_id, OLD.active) IS DISTINCT FROM (NEW.id, NEW.user_id, NEW.active))
    EXECUTE FUNCTION session.note_named_session_change();
CREATE TRIGGER sessions_deleted AFTER DELETE ON public.sessions
    FOR EACH ROW WHEN (OLD.active) EXECUTE FUNCTION session.note_named_session_change();

CREATE FUNCTION session.note_named_sessions_truncated() RETURNS TRIGGER AS $$
BEGIN
    UPDATE session.named_session_users SET epoch = epoch + 1, changed_in = pg_current_xact_id();
    RETURN NULL;
END;
$$ LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog;

CREATE TRIGGER sessions_truncated AFTER TRUNCATE ON public.sessions
    FOR EACH STATEMENT EXECUTE FUNCTION session.note_named_sessions_truncated();

CREATE FUNCTION session.touch_named_session() RETURNS TRIGGER AS $$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END;
$$ LANGUAGE plpgsql SET search_path = pg_catalog;

CREATE TRIGGER sessions_touched BEFORE UPDATE ON public.sessions
    FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION session.touch_named_session();

-- Add the constraints that make the document's rules true, if all rows satisfy them. Returns whether they are there
-- now: if not, no row was touched, and /api/v1/sessions is not served until the rows are brought in order and this is
-- called again. For the owner of the table.
CREATE FUNCTION session.order_named_sessions() RETURNS BOOLEAN AS $$
BEGIN
    LOCK TABLE public.sessions IN SHARE ROW EXCLUSIVE MODE;
    IF EXISTS (SELECT 1 FROM public.sessions
               WHERE active IS NULL OR created_at IS NULL OR updated_at IS NULL
                  OR char_length(title) NOT BETWEEN 1 AND 1000)
        OR EXISTS (SELECT 1 FROM public.sessions GROUP BY user_id, title HAVING count(*) > 1)
        OR EXISTS (SELECT 1 FROM public.sessions WHERE active GROUP BY user_id HAVING count(*) > 1)
    THEN
        RETURN FALSE;
    END IF;
    CREATE UNIQUE INDEX IF NOT EXISTS sessions_user_id_title_key
        ON public.sessions (user_id, session.title_digest(title));
    CREATE UNIQUE INDEX IF NOT EXISTS sessions_one_active_key ON public.sessions (user_id) WHERE active;
    ALTER TABLE public.sessions
        DROP CONSTRAINT IF EXISTS sessions_title_length,
        ADD CONSTRAINT sessions_title_length CHECK (char_length(title) BETWEEN 1 AND 1000),
        ALTER COLUMN active SET NOT NULL,
        ALTER COLUMN created_at SET NOT NULL,
        ALTER COLUMN updated_at SET NOT NULL;
    UPDATE session.named_session_cache SET in_order = TRUE;
    RETURN TRUE;
END;
$$ LANGUAGE plpgsql;

-- ---------------------------------------------------------------------------------------------------------
-- A new session, active, in the place of the one that was. No row: the title is taken.
CREATE FUNCTION session.create_named_session(p_user_id INTEGER, p_title TEXT)
RETURNS TABLE (new_id UUID, new_epoch BIGINT) AS $$
BEGIN
    -- The user's lock comes first; each statement after it sees what the one who had it before has done.
    INSERT INTO session.named_session_users AS u (user_id) VALUES (p_user_id)
    ON CONFLICT (user_id) DO UPDATE SET epoch = u.epoch + 1, changed_in = pg_current_xact_id()
    RETURNING u.epoch INTO new_epoch;
    -- Looked at first: a violated index is an error in the server's log for each ordinary answer of 409.
    IF EXISTS (SELECT 1 FROM public.sessions s
               WHERE s.user_id = p_user_id AND session.title_digest(s.title) = session.title_digest(p_title)) THEN
        RETURN;
    END IF;
    UPDATE public.sessions SET active = FALSE WHERE user_id = p_user_id AND active;
    INSERT INTO public.sessions (user_id, title, active) VALUES (p_user_id, p_title, TRUE)
    RETURNING id INTO new_id;
    RETURN NEXT;
END;
$$ LANGUAGE plpgsql;

-- The session of that title is the active one from now on. No row: there is none of that title.
CREATE FUNCTION session.activate_named_session(p_user_id INTEGER, p_title TEXT)
RETURNS TABLE (active_id UUID, active_epoch BIGINT) AS $$
DECLARE
    was_active BOOLEAN;
BEGIN
    SELECT u.epoch INTO active_epoch FROM session.named_session_users u WHERE u.user_id = p_user_id FOR UPDATE;
    SELECT s.id, s.active INTO active_id, was_active FROM public.sessions s
    WHERE s.user_id = p_user_id AND session.title_digest(s.title) = session.title_digest(p_title);
    IF active_id IS NULL THEN
        RETURN;
    END IF;
    IF NOT was_active THEN
        UPDATE session.named_session_users u SET epoch = u.epoch + 1, changed_in = pg_current_xact_id()
        WHERE u.user_id = p_user_id
        RETURNING u.epoch INTO active_epoch;
        UPDATE public.sessions SET active = FALSE WHERE user_id = p_user_id AND active;
        UPDATE public.sessions SET active = TRUE WHERE id = active_id;
    END IF;
    RETURN NEXT;
END;
$$ LANGUAGE plpgsql;

-- 'deleted', 'active' (then it stays) or 'not_found'.
CREATE FUNCTION session.delete_named_session(p_user_id INTEGER, p_title TEXT) RETURNS TEXT AS $$
DECLARE
    found_id UUID;
    is_active BOOLEAN;
BEGIN
    PERFORM 1 FROM session.named_session_users u WHERE u.user_id = p_user_id FOR UPDATE;
    SELECT s.id, s.active INTO found_id, is_active FROM public.sessions s
    WHERE s.user_id = p_user_id AND session.title_digest(s.title) = session.title_digest(p_title);
    IF found_id IS NULL THEN
        RETURN 'not_found';
    END IF;
    IF is_active THEN
        RETURN 'active';
    END IF;
    DELETE FROM public.sessions WHERE id = found_id;
    RETURN 'deleted';
END;
$$ LANGUAGE plpgsql;

-- ---------------------------------------------------------------------------------------------------------
-- Sandbox sessions: what sandboxes have no business with: they reach public.session and the functions public.session_*, nothing here.
CREATE SCHEMA sandbox;

-- ---------------------------------------------------------------------------------------------------------
CREATE TYPE public.inbox_status AS ENUM ('pending', 'processing', 'completed', 'failed');

CREATE TABLE public.session (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    messages JSONB,
    inbox_status public.inbox_status,
    sbx_config JSONB,
    parent UUID,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP,
    -- beside the documented columns
    owner NAME NOT NULL DEFAULT CURRENT_USER, -- whose row it is; a child's owner is its parent's
    claim UUID, -- who holds this token may complete the work; null where nobody has claimed it
    claimed_by TEXT, -- the worker that claimed it last
    claimed_until TIMESTAMP WITH TIME ZONE, -- from then on it may be claimed again
    not_before TIMESTAMP WITH TIME ZONE, -- a retry waits until then
    attempts INTEGER NOT NULL DEFAULT 0, -- claims so far
    max_attempts INTEGER NOT NULL DEFAULT 5, -- one that was claimed so often and not completed is failed
    last_error TEXT,
    changed_in BIGINT NOT NULL DEFAULT pg_current_xact_id()::text::bigint, -- the transaction of the last change
    CONSTRAINT session_parent_fkey FOREIGN KEY (parent) REFERENCES public.session (id) ON DELETE SET NULL,
    -- As PostgreSQL holds it before compression. Not its text: each update of a row evaluates each of its checks.
    CONSTRAINT session_messages_size CHECK (pg_column_size(messages) <= 1048576),
    CONSTRAINT session_sbx_config_size CHECK (pg_column_size(sbx_config) <= 1048576),
    CONSTRAINT session_max_attempts CHECK (max_attempts BETWEEN 1 AND 100),
    CONSTRAINT session_claim CHECK (
        (claim IS NULL) = (claimed_until IS NULL) AND (claim IS NULL OR inbox_status = 'processing'))
);

CREATE INDEX idx_session_parent ON public.session (parent);
CREATE INDEX idx_session_inbox_status ON public.session (inbox_status);
-- What may be claimed, and from when on: at once ('-infinity', the oldest first), after a back-off, when a claim runs
-- out. The one index of the inbox, of unfinished work only, so that a claim costs the same however many rows there are.
CREATE INDEX idx_session_claimable
    ON public.session ((coalesce(claimed_until, not_before, '-infinity'::timestamptz)), created_at, id)
    WHERE inbox_status = 'pending' OR claim IS NOT NULL;
-- The same for those who may claim their own only. Rows of the shared role, which are most, are not in it.
CREATE INDEX idx_session_claimable_by_owner
    ON public.session (owner, (coalesce(claimed_until, not_before, '-infinity'::timestamptz)), created_at, id)
    WHERE (inbox_status = 'pending' OR claim IS NOT NULL) AND owner <> 'sessionuser';
-- Retention finds the oldest without reading the others.
CREATE INDEX idx_session_completed ON public.session (created_at) WHERE inbox_status = 'completed';
CREATE INDEX idx_session_changed_in ON public.session (changed_in);
-- Each list has its order from one of these: however many rows there are, a page costs the same.
CREATE INDEX idx_session_created_at ON public.session (created_at, id);
CREATE INDEX idx_session_inbox_status_created_at ON public.session (inbox_status, created_at, id);
CREATE INDEX idx_session_parent_created_at ON public.session (parent, created_at, id);

-- Removed rows, for those who follow changes; kept for an hour.
CREATE TABLE sandbox.removals (
    id UUID NOT NULL,
    changed_in BIGINT NOT NULL DEFAULT pg_current_xact_id()::text::bigint,
    removed_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX idx_removals_changed_in ON sandbox.removals (changed_in);
CREATE INDEX idx_removals_removed_at ON sandbox.removals (removed_at);

-- The roles that were handed out, and what they are to be: a role may change its own password and settings, and
-- PostgreSQL knows no way to forbid it, so sandbox.guard puts them back.
CREATE TABLE sandbox.roles (
    role_name NAME PRIMARY KEY,
    own_rows_only BOOLEAN NOT NULL,
    connection_limit INTEGER NOT NULL,
    settings TEXT[] NOT NULL, -- name=value
    verifier TEXT, -- of the password (SCRAM-SHA-256); null where the role cannot log in
    made_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP
);

-- ---------------------------------------------------------------------------------------------------------
-- Who may see what. Row-level security decides for plain statements: one's own rows, whatever grants there are. The
-- roles that see every row have a policy of their own, every_row, which `migrate` makes; here it has the owner only.
ALTER TABLE public.session ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.session FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON public.session USING (owner = CURRENT_USER) WITH CHECK (owner = CURRENT_USER);
CREATE POLICY every_row ON public.session TO CURRENT_ROLE USING (TRUE) WITH CHECK (TRUE);

-- A mark, not a call: who has EXECUTE on it sees every row also through the functions below.
CREATE FUNCTION sandbox.sees_every_row() RETURNS BOOLEAN AS 'SELECT TRUE' LANGUAGE sql IMMUTABLE;
REVOKE EXECUTE ON FUNCTION sandbox.sees_every_row() FROM PUBLIC;

-- Whose rows the caller is restricted to; null: to nobody's. Within a SECURITY DEFINER function CURRENT_USER is the
-- function's owner; who called is the role that was set, else the one that logged in.
CREATE FUNCTION sandbox.only_owner() RETURNS NAME AS $$
    SELECT CASE WHEN NOT has_function_privilege(caller, 'sandbox.sees_every_row()', 'EXECUTE') THEN caller END
    FROM (SELECT coalesce(nullif(current_setting('role'), 'none')::name, SESSION_USER) AS caller) c
$$ LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp;

-- ---------------------------------------------------------------------------------------------------------
-- The documented trigger. And: whoever sets a status by plain SQL takes the row out of its claim, and what becomes
-- pending so begins anew. A row that is set to 'processing' has no claim, and is left alone by those who claim.
CREATE FUNCTION public.update_session_updated_at() RETURNS TRIGGER AS $$
BEGIN
    NEW.updated_at := clock_timestamp(); -- not now(): it rises within a transaction too
    NEW.changed_in := pg_current_xact_id()::text::bigint;
    IF NEW.inbox_status IS DISTINCT FROM OLD.inbox_status AND NEW.claim IS NOT DISTINCT FROM OLD.claim THEN
        NEW.claim := NULL;
        NEW.claimed_until := NULL;
        NEW.not_before := NULL;
        IF NEW.inbox_status = 'pending' THEN
            NEW.attempts := 0;
        END IF;
    END IF;
    RETURN NEW;
END;
$$ LANGUAGE plpgsql;

CREATE TRIGGER update_session_updated_at BEFORE UPDATE ON public.session
    FOR EACH ROW EXECUTE FUNCTION public.update_session_updated_at();

-- A parent must be there and be visible to who names it: for one that is not, the answer is that of the foreign key,
-- which looks past row-level security, for one that is missing. The row then belongs to its parent's owner. No row
-- stands above itself: each ancestor is locked, so that of two moves that would make a ring together one waits for the
-- other, and both for each other is a deadlock, which PostgreSQL ends.
CREATE FUNCTION public.session_check_parent() RETURNS TRIGGER AS $$
DECLARE
    above UUID := NEW.parent;
    next_above UUID;
    above_owner NAME;
    levels INTEGER := 0;
BEGIN
    LOOP
        IF above = NEW.id THEN
            RAISE EXCEPTION 'parent: a session cannot stand above itself'
                USING ERRCODE = 'check_violation', CONSTRAINT = 'session_parent_cycle', SCHEMA = 'public',
                      TABLE = 'session', COLUMN = 'parent';
        END IF;
        IF TG_OP = 'INSERT' THEN
            SELECT s.parent, s.owner INTO next_above, above_owner FROM public.session s WHERE s.id = above;
        ELSE
            SELECT s.parent, s.owner INTO next_above, above_owner FROM public.session s WHERE s.id = above FOR SHARE;
        END IF;
        IF NOT FOUND THEN
            EXIT WHEN levels > 0; -- it was deleted a moment ago, and its child has no parent any more
            RAISE EXCEPTION 'insert or update on table "session" violates foreign key constraint "session_parent_fkey"'
                USING ERRCODE = 'foreign_key_violation', CONSTRAINT = 'session_parent_fkey', SCHEMA = 'public',
                      TABLE = 'session', DETAIL = format('Key (parent)=(%s) is not present in table "session".', above);
        END IF;
        IF levels = 0 THEN
            NEW.owner := above_owner;
        END IF;
        -- Nothing stands below a row that is being made.
        EXIT WHEN TG_OP = 'INSERT' OR next_above IS NULL;
        levels := levels + 1;
        IF levels > 1000 THEN
            RAISE EXCEPTION 'parent: it stands more than 1000 levels deep'
                USING ERRCODE = 'check_violation', CONSTRAINT = 'session_parent_depth', SCHEMA = 'public',
                      TABLE = 'session', COLUMN = 'parent';
        END IF;
        above := next_above;
    END LOOP;
    RETURN NEW;
END;
$$ LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp;

CREATE TRIGGER session_parent_of_new BEFORE INSERT ON public.session
    FOR EACH ROW WHEN (NEW.parent IS NOT NULL) EXECUTE FUNCTION public.session_check_parent();
CREATE TRIGGER session_parent_of_moved BEFORE UPDATE OF parent ON public.session
    FOR EACH ROW WHEN (NEW.parent IS NOT NULL AND NEW.parent IS DISTINCT FROM OLD.parent)
    EXECUTE FUNCTION public.session_check_parent();

-- Who moves a row below another owner's moves what stands below it too. Only those who see every row can.
CREATE FUNCTION sandbox.hand_over_children() RETURNS TRIGGER AS $$
BEGIN
    UPDATE public.session s SET owner = NEW.owner WHERE s.parent = NEW.id AND s.owner <> NEW.owner;
    RETURN NULL;
END;
$$ LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp;

CREATE TRIGGER session_owner_changed AFTER UPDATE OF owner, parent ON public.session
    FOR EACH ROW WHEN (OLD.owner <> NEW.owner) EXECUTE FUNCTION sandbox.hand_over_children();

-- JSONB holds 1e131071 in a few bytes, and its text has 131,072 digits: a row within the limit of 1 MiB could be shown
-- to nobody who does not have gigabytes. What is shorter than 512 bytes cannot come near.
CREATE FUNCTION sandbox.check_text() RETURNS TRIGGER AS $$
BEGIN
    IF pg_column_size(NEW.messages) > 512 AND octet_length(NEW.messages::text) > 8388608 THEN
        RAISE EXCEPTION 'messages: has more than 8 MiB as text'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'session_messages_size', SCHEMA = 'public',
                  TABLE = 'session', COLUMN = 'messages';
    END IF;
    IF pg_column_size(NEW.sbx_config) > 512 AND octet_length(NEW.sbx_config::text) > 8388608 THEN
        RAISE EXCEPTION 'sbx_config: has more than 8 MiB as text'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'session_sbx_config_size', SCHEMA = 'public',
                  TABLE = 'session', COLUMN = 'sbx_config';
    END IF;
    RETURN NEW;
END;
$$ LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp;

CREATE TRIGGER session_check_text BEFORE INSERT OR UPDATE OF messages, sbx_config ON public.session
    FOR EACH ROW WHEN (pg_column_size(NEW.messages) > 512 OR pg_column_size(NEW.sbx_config) > 512)
    EXECUTE FUNCTION sandbox.check_text();

-- One notification a statement, and only of what became pending: ids, separated by commas. A payload is below 8,000
-- bytes: of more than 200 the first 200 are named, and a last element +N counts the others. They are collected row by
-- row in a setting of the transaction, 'count,id,id,…': a statement that makes nothing pending, as each claim is one, has
-- next to nothing to do, where transition tables would cost it a third of its time. Who writes nonsense into the
-- setting notifies nonsense, which NOTIFY is there for anyway.
CREATE FUNCTION sandbox.collect_pending() RETURNS TRIGGER AS $$
DECLARE
    collected TEXT := coalesce(nullif(current_setting('sandbox.pending', TRUE), ''), '0');
    number INTEGER := split_part(collected, ',', 1)::integer + 1;
BEGIN
    PERFORM set_config('sandbox.pending', number || substr(collected, strpos(collected || ',', ','))
        || CASE WHEN number <= 200 THEN ',' || NEW.id ELSE '' END, TRUE);
    RETURN NULL;
END;
$$ LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp;

CREATE FUNCTION sandbox.notify_inbox() RETURNS TRIGGER AS $$
DECLARE
    collected TEXT := current_setting('sandbox.pending', TRUE);
    number INTEGER;
BEGIN
    IF collected <> '' THEN
        number := split_part(collected, ',', 1)::integer;
        PERFORM pg_notify('sandbox_inbox', substr(collected, strpos(collected, ',') + 1)
            || CASE WHEN number > 200 THEN ',+' || number - 200 ELSE '' END);
        PERFORM set_config('sandbox.pending', '', TRUE);
    END IF;
    RETURN NULL;
END;
$$ LANGUAGE plpgsql;

CREATE TRIGGER session_collect_new AFTER INSERT ON public.session
    FOR EACH ROW WHEN (NEW.inbox_status = 'pending') EXECUTE FUNCTION sandbox.collect_pending();
CREATE TRIGGER session_collect_changed AFTER UPDATE ON public.session
    FOR EACH ROW WHEN (NEW.inbox_status = 'pending' AND OLD.inbox_status IS DISTINCT FROM 'pending')
    EXECUTE FUNCTION sandbox.collect_pending();
CREATE TRIGGER session_notify AFTER INSERT OR UPDATE ON public.session
    FOR EACH STATEMENT EXECUTE FUNCTION sandbox.notify_inbox();

CREATE FUNCTION sandbox.note_removals() RETURNS TRIGGER AS $$
BEGIN
    INSERT INTO sandbox.removals (id) SELECT o.id FROM old_rows o;
    RETURN NULL;
END;
$$ LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp;

CREATE TRIGGER session_note_removals AFTER DELETE ON public.session
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION sandbox.note_removals();

-- ---------------------------------------------------------------------------------------------------------
-- The inbox. Its rules stand in session_service/domain/inbox.py too, and a test compares the two. Functions that write
-- claims are SECURITY DEFINER: nobody who works with the table may write those columns by plain SQL.

CREATE FUNCTION sandbox.retry_delay(p_attempts INTEGER) RETURNS INTERVAL AS $$
    SELECT make_interval(secs => least(300, 2 ^ least(greatest(p_attempts, 1) - 1, 30)))
$$ LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp;

-- Raises what is wrong with a visibility timeout, under the name of the argument.
CREATE FUNCTION sandbox.visibility(p_visibility_s DOUBLE PRECISION) RETURNS INTERVAL AS $$
BEGIN
    IF p_visibility_s IS NULL OR NOT p_visibility_s BETWEEN 0.1 AND 43200 THEN
        RAISE EXCEPTION 'visibility: must be 0.1 to 43200 seconds' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN make_interval(secs => p_visibility_s);
END;
$$ LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp;

-- Said of an id that is unknown, or somebody else's, as well.
CREATE FUNCTION sandbox.claim_lost(p_id UUID) RETURNS VOID AS $$
BEGIN
    RAISE EXCEPTION 'CLAIM_LOST: session % is not, or no longer, claimed by this claim', p_id USING ERRCODE = 'SB001';
END;
$$ LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp;

-- One row to work on, or none. First what was claimed before: claims that have run out, retries whose back-off is over
-- (they are older than what waits, since the oldest is claimed first); then the oldest that waits. What others are
-- claiming at the moment is passed over. A claim that ran out for the last time makes its row 'failed', and the next is
-- looked for. The two statements differ in whose rows they look at: each has an index of its own.
-- enable_sort: an index has the order; with statistics from before the table grew, the planner may not believe it.
CREATE FUNCTION public.session_claim(p_worker TEXT, p_visibility_s DOUBLE PRECISION DEFAULT 30)
RETURNS SETOF public.session AS $$
DECLARE
    restricted_to NAME := sandbox.only_owner();
    visible INTERVAL := sandbox.visibility(p_visibility_s);
    moment TIMESTAMP WITH TIME ZONE := clock_timestamp();
    claimed public.session;
BEGIN
    IF p_worker IS NULL OR length(p_worker) NOT BETWEEN 1 AND 200 THEN
        RAISE EXCEPTION 'worker: must have 1 to 200 characters' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    FOR _ IN 1..100 LOOP -- of rows that have failed, a hundred a call
        IF restricted_to IS NULL THEN
            UPDATE public.session s
            SET inbox_status = CASE WHEN s.claim IS NOT NULL AND s.attempts >= s.max_attempts
                                    THEN 'failed' ELSE 'processing' END::public.inbox_status,
                claim = CASE WHEN s.claim IS NULL OR s.attempts < s.max_attempts THEN gen_random_uuid() END,
                claimed_until = CASE WHEN s.claim IS NULL OR s.attempts < s.max_attempts THEN moment + visible END,
                claimed_by = CASE WHEN s.claim IS NULL OR s.attempts < s.max_attempts THEN p_worker
                                  ELSE s.claimed_by END,
                last_error = CASE WHEN s.claim IS NULL OR s.attempts < s.max_attempts THEN s.last_error
                                  ELSE format('claimed %s times, and never completed in time', s.attempts) END,
                attempts = s.attempts + CASE WHEN s.claim IS NULL OR s.attempts < s.max_attempts THEN 1 ELSE 0 END,
                not_before = NULL
            WHERE s.id =
                coalesce(
                    (SELECT c.id FROM public.session c
                     WHERE (c.inbox_status = 'pending' OR c.claim IS NOT NULL)
                       AND coalesce(c.claimed_until, c.not_before, '-infinity'::timestamptz) > '-infinity'
                       AND coalesce(c.claimed_until, c.not_before, '-infinity'::timestamptz) <= moment
                     ORDER BY coalesce(c.claimed_until, c.not_before, '-infinity'::timestamptz), c.created_at, c.id
                     LIMIT 1 FOR UPDATE SKIP LOCKED),
                    (SELECT c.id FROM public.session c
                     WHERE (c.inbox_status = 'pending' OR c.claim IS NOT NULL)
                       AND coalesce(c.claimed_until, c.not_before, '-infinity'::timestamptz) = '-infinity'
                     ORDER BY c.created_at, c.id
                     LIMIT 1 FOR UPDATE SKIP LOCKED))
            RETURNING s.* INTO claimed;
        ELSE
            UPDATE public.session s
            SET inbox_status = CASE WHEN s.claim IS NOT NULL AND s.attempts >= s.max_attempts
                                    THEN 'failed' ELSE 'processing' END::public.inbox_status,
                claim = CASE WHEN s.claim IS NULL OR s.attempts < s.max_attempts THEN gen_random_uuid() END,
                claimed_until = CASE WHEN s.claim IS NULL OR s.attempts < s.max_attempts THEN moment + visible END,
                claimed_by = CASE WHEN s.claim IS NULL OR s.attempts < s.max_attempts THEN p_worker
                                  ELSE s.claimed_by END,
                last_error = CASE WHEN s.claim IS NULL OR s.attempts < s.max_attempts THEN s.last_error
                                  ELSE format('claimed %s times, and never completed in time', s.attempts) END,
                attempts = s.attempts + CASE WHEN s.claim IS NULL OR s.attempts < s.max_attempts THEN 1 ELSE 0 END,
                not_before = NULL
            WHERE s.id =
                coalesce(
                    (SELECT c.id FROM public.session c
                     WHERE (c.inbox_status = 'pending' OR c.claim IS NOT NULL)
                       AND c.owner = restricted_to AND c.owner <> 'sessionuser'
                       AND coalesce(c.claimed_until, c.not_before, '-infinity'::timestamptz) > '-infinity'
                       AND coalesce(c.claimed_until, c.not_before, '-infinity'::timestamptz) <= moment
                     ORDER BY coalesce(c.claimed_until, c.not_before, '-infinity'::timestamptz), c.created_at, c.id
                     LIMIT 1 FOR UPDATE SKIP LOCKED),
                    (SELECT c.id FROM public.session c
                     WHERE (c.inbox_status = 'pending' OR c.claim IS NOT NULL)
                       AND c.owner = restricted_to AND c.owner <> 'sessionuser'
                       AND coalesce(c.claimed_until, c.not_before, '-infinity'::timestamptz) = '-infinity'
                     ORDER BY c.created_at, c.id
                     LIMIT 1 FOR UPDATE SKIP LOCKED))
            RETURNING s.* INTO claimed;
        END IF;
        EXIT WHEN NOT FOUND;
        IF claimed.inbox_status = 'processing' THEN
            RETURN NEXT claimed;
            EXIT;
        END IF;
    END LOOP;
END;
$$ LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_sort = off;

-- The claim lasts for p_visibility_s from now on. One that has run out is taken up again where nobody else has it.
CREATE FUNCTION public.session_extend(p_id UUID, p_claim UUID, p_visibility_s DOUBLE PRECISION DEFAULT 30)
RETURNS SETOF public.session AS $$
DECLARE
    restricted_to NAME := sandbox.only_owner();
    visible INTERVAL := sandbox.visibility(p_visibility_s);
BEGIN
    RETURN QUERY
    UPDATE public.session s SET claimed_until = clock_timestamp() + visible
    WHERE s.id = p_id AND s.claim = p_claim AND (restricted_to IS NULL OR s.owner = restricted_to)
    RETURNING s.*;
    IF NOT FOUND THEN
        PERFORM sandbox.claim_lost(p_id);
    END IF;
END;
$$ LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp;

-- The work is done. p_messages replaces the row's messages; null leaves them.
CREATE FUNCTION public.session_complete(p_id UUID, p_claim UUID, p_messages JSONB DEFAULT NULL)
RETURNS SETOF public.session AS $$
DECLARE
    restricted_to NAME := sandbox.only_owner();
BEGIN
    RETURN QUERY
    UPDATE public.session s
    SET inbox_status = 'completed', messages = coalesce(p_messages, s.messages), claim = NULL, claimed_until = NULL
    WHERE s.id = p_id AND s.claim = p_claim AND (restricted_to IS NULL OR s.owner = restricted_to)
    RETURNING s.*;
    IF NOT FOUND THEN
        PERFORM sandbox.claim_lost(p_id);
    END IF;
END;
$$ LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp;

-- The work was not done. With p_retry it is pending again after a back-off, or after p_retry_after_s, while it has
-- attempts left; else it is failed.
CREATE FUNCTION public.session_fail(
    p_id UUID, p_claim UUID, p_error TEXT DEFAULT NULL, p_retry BOOLEAN DEFAULT TRUE,
    p_retry_after_s DOUBLE PRECISION DEFAULT NULL
) RETURNS SETOF public.session AS $$
DECLARE
    restricted_to NAME := sandbox.only_owner();
BEGIN
    IF NOT p_retry_after_s BETWEEN 0 AND 43200 THEN
        RAISE EXCEPTION 'retry_after: must be 0 to 43200 seconds' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN QUERY
    UPDATE public.session s
    SET inbox_status = CASE WHEN coalesce(p_retry, TRUE) AND s.attempts < s.max_attempts
                            THEN 'pending' ELSE 'failed' END::public.inbox_status,
        not_before = CASE WHEN coalesce(p_retry, TRUE) AND s.attempts < s.max_attempts
                          THEN clock_timestamp()
                               + coalesce(make_interval(secs => p_retry_after_s), sandbox.retry_delay(s.attempts)) END,
        last_error = left(p_error, 2000), claim = NULL, claimed_until = NULL
    WHERE s.id = p_id AND s.claim = p_claim AND (restricted_to IS NULL OR s.owner = restricted_to)
    RETURNING s.*;
    IF NOT FOUND THEN
        PERFORM sandbox.claim_lost(p_id);
    END IF;
END;
$$ LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp;

-- ---------------------------------------------------------------------------------------------------------
-- Messages and the tree. These run with the caller's rights: row-level security decides.

-- One message more, in one statement: of two at once both stay. What is no array becomes the first element.
CREATE FUNCTION public.session_append_message(p_id UUID, p_message JSONB) RETURNS SETOF public.session AS $$
BEGIN
    IF p_message IS NULL THEN
        RAISE EXCEPTION 'message: is required' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    RETURN QUERY
    UPDATE public.session s
    SET messages = CASE coalesce(jsonb_typeof(s.messages), 'null')
                       WHEN 'array' THEN s.messages || jsonb_build_array(p_message)
                       WHEN 'null' THEN jsonb_build_array(p_message)
                       ELSE jsonb_build_array(s.messages, p_message) END
    WHERE s.id = p_id
    RETURNING s.*;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'SESSION_NOT_FOUND: there is no session %', p_id USING ERRCODE = 'no_data_found';
    END IF;
END;
$$ LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp;

-- What stands below a row, down to p_depth levels: level by level, in each the oldest first, p_limit rows at most.
CREATE FUNCTION public.session_children(p_id UUID, p_depth INTEGER DEFAULT 1, p_limit INTEGER DEFAULT 1000)
RETURNS SETOF public.session AS $$
BEGIN
    IF p_depth IS NULL OR p_depth NOT BETWEEN 1 AND 100 THEN
        RAISE EXCEPTION 'depth: must be 1 to 100' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF p_limit IS NULL OR p_limit NOT BETWEEN 1 AND 10000 THEN
        RAISE EXCEPTION 'limit: must be 1 to 10000' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN QUERY
    WITH RECURSIVE below (id, depth) AS (
        SELECT s.id, 1 FROM public.session s WHERE s.parent = p_id
        UNION ALL
        SELECT s.id, b.depth + 1 FROM below b JOIN public.session s ON s.parent = b.id WHERE b.depth < p_depth
    )
    SELECT s.* FROM below b JOIN public.session s USING (id) ORDER BY b.depth, s.created_at, s.id LIMIT p_limit;
END;
$$ LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp;

-- Deletes a row; says whether there was one. For roles that see their own rows only: they have no DELETE, since who
-- has it may lock the whole table. Children lose their parent, and stay.
CREATE FUNCTION public.session_delete(p_id UUID) RETURNS BOOLEAN AS $$
DECLARE
    restricted_to NAME := sandbox.only_owner();
BEGIN
    DELETE FROM public.session s WHERE s.id = p_id AND (restricted_to IS NULL OR s.owner = restricted_to);
    RETURN FOUND;
END;
$$ LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp;

REVOKE EXECUTE ON FUNCTION public.session_claim(TEXT, DOUBLE PRECISION) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION public.session_extend(UUID, UUID, DOUBLE PRECISION) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION public.session_complete(UUID, UUID, JSONB) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION public.session_fail(UUID, UUID, TEXT, BOOLEAN, DOUBLE PRECISION) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION public.session_append_message(UUID, JSONB) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION public.session_children(UUID, INTEGER, INTEGER) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION public.session_delete(UUID) FROM PUBLIC;

-- ---------------------------------------------------------------------------------------------------------
-- For the service. Changes: rows that were written in transactions from p_from on, removed ones included. A follower
-- begins at change_cursor() and goes on from there; the same change may come again, so it remembers what it has told
-- since its cursor, by (id, changed_in). What is not committed yet is later than any cursor: nothing is passed over.
CREATE FUNCTION sandbox.change_cursor() RETURNS BIGINT AS $$
    SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint
$$ LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp;

CREATE FUNCTION sandbox.changes_since(p_from BIGINT, p_limit INTEGER DEFAULT 1000)
RETURNS TABLE (id UUID, inbox_status public.inbox_status, removed BOOLEAN, changed_in BIGINT) AS $$
    SELECT c.* FROM (
        (SELECT s.id, s.inbox_status, FALSE, s.changed_in FROM public.session s
         WHERE s.changed_in >= p_from ORDER BY s.changed_in LIMIT p_limit)
        UNION ALL
        (SELECT r.id, NULL, TRUE, r.changed_in FROM sandbox.removals r
         WHERE r.changed_in >= p_from ORDER BY r.changed_in LIMIT p_limit)
    ) c (id, inbox_status, removed, changed_in)
    ORDER BY c.changed_in, c.id LIMIT p_limit
$$ LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp;

-- The document's delete, a batch of it; returns how many it deleted. What somebody is working on at the moment is left
-- to the next batch.
CREATE FUNCTION sandbox.delete_completed(
    p_older_than INTERVAL DEFAULT INTERVAL '30 days', p_limit INTEGER DEFAULT 1000
) RETURNS INTEGER AS $$
DECLARE
    deleted INTEGER;
BEGIN
    DELETE FROM public.session d WHERE d.id IN (
        SELECT s.id FROM public.session s
        WHERE s.inbox_status = 'completed' AND s.created_at < now() - p_older_than
        ORDER BY s.created_at LIMIT p_limit FOR UPDATE SKIP LOCKED);
    GET DIAGNOSTICS deleted = ROW_COUNT;
    RETURN deleted;
END;
$$ LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp;

-- ---------------------------------------------------------------------------------------------------------
-- Over HTTP.

-- The JSON of a field of a request. What JSON may say and JSONB cannot hold is told by the field's name.
CREATE FUNCTION sandbox.json_of(p_field TEXT, p_text TEXT) RETURNS JSONB AS $$
BEGIN
    RETURN p_text::jsonb;
EXCEPTION
    WHEN untranslatable_character THEN
        RAISE EXCEPTION '%: must not hold the character U+0000', p_field USING ERRCODE = 'invalid_parameter_value';
    WHEN invalid_text_representation THEN
        RAISE EXCEPTION '%: is not valid JSON', p_field USING ERRCODE = 'invalid_parameter_value';
    WHEN numeric_value_out_of_range THEN
        RAISE EXCEPTION '%: holds a number that is too large', p_field USING ERRCODE = 'invalid_parameter_value';
    WHEN statement_too_complex OR program_limit_exceeded THEN
        RAISE EXCEPTION '%: is nested too deeply', p_field USING ERRCODE = 'invalid_parameter_value';
END;
$$ LANGUAGE plpgsql IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp;

-- What HTTP shows of a row. Instants are kept within what RFC 3339 can say: sandboxes may set any, infinity too.
CREATE FUNCTION sandbox.shown(p_row public.session)
RETURNS TABLE (id UUID, messages TEXT, inbox_status TEXT, sbx_config TEXT, parent UUID,
               created_at TIMESTAMP WITH TIME ZONE, updated_at TIMESTAMP WITH TIME ZONE, claim UUID) AS $$
    SELECT p_row.id, p_row.messages::text, p_row.inbox_status::text, p_row.sbx_config::text, p_row.parent,
           greatest(least(p_row.created_at, '9999-12-31 23:59:59.999999Z'), '0001-01-01 00:00:00Z'),
           greatest(least(p_row.updated_at, '9999-12-31 23:59:59.999999Z'), '0001-01-01 00:00:00Z'),
           p_row.claim
$$ LANGUAGE sql STABLE;

-- As many of the cursor's rows as fit: p_limit rows, and none after p_bytes of content. One more row says that there
-- are more: it is beyond, and shows nothing. position: created_at as it is, to begin after.
CREATE FUNCTION sandbox.take(p_rows REFCURSOR, p_limit INTEGER, p_bytes BIGINT)
RETURNS TABLE (id UUID, messages TEXT, inbox_status TEXT, sbx_config TEXT, parent UUID,
               created_at TIMESTAMP WITH TIME ZONE, updated_at TIMESTAMP WITH TIME ZONE, claim UUID,
               "position" TEXT, beyond BOOLEAN) AS $$
DECLARE
    one public.session;
    taken INTEGER := 0;
    bytes BIGINT := 0;
BEGIN
    beyond := FALSE;
    LOOP
        FETCH p_rows INTO one;
        EXIT WHEN NOT FOUND;
        IF taken >= p_limit OR bytes >= p_bytes THEN
            messages := NULL;
            sbx_config := NULL;
            beyond := TRUE;
            RETURN NEXT;
            EXIT;
        END IF;
        SELECT s.* INTO id, messages, inbox_status, sbx_config, parent, created_at, updated_at, claim
        FROM sandbox.shown(one) s;
        "position" := one.created_at::text;
        RETURN NEXT;
        taken := taken + 1;
        bytes := bytes + coalesce(octet_length(messages), 0) + coalesce(octet_length(sbx_config), 0);
    END LOOP;
    CLOSE p_rows;
END;
$$ LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp;

-- A page of sessions, the oldest first, after the one that (p_after, p_after_id) names; null: from the start. Each
-- combination of filters is a statement of its own, so that each has its plan.
CREATE FUNCTION sandbox.page(
    p_status public.inbox_status, p_parent UUID, p_after TEXT, p_after_id UUID, p_limit INTEGER, p_bytes BIGINT
) RETURNS TABLE (id UUID, messages TEXT, inbox_status TEXT, sbx_config TEXT, parent UUID,
                 created_at TIMESTAMP WITH TIME ZONE, updated_at TIMESTAMP WITH TIME ZONE, claim UUID,
                 "position" TEXT, beyond BOOLEAN) AS $$
DECLARE
    found_rows REFCURSOR;
    after TIMESTAMP WITH TIME ZONE;
BEGIN
    BEGIN
        after := p_after;
    EXCEPTION WHEN invalid_datetime_format OR datetime_field_overflow THEN
        RAISE EXCEPTION 'cursor: is none of this list' USING ERRCODE = 'invalid_parameter_value';
    END;
    OPEN found_rows FOR EXECUTE 'SELECT s.* FROM public.session s WHERE TRUE'
        || CASE WHEN p_status IS NOT NULL THEN ' AND s.inbox_status = $1' ELSE '' END
        || CASE WHEN p_parent IS NOT NULL THEN ' AND s.parent = $2' ELSE '' END
        || CASE WHEN after IS NOT NULL THEN ' AND (s.created_at, s.id) > ($3, $4)' ELSE '' END
        || ' ORDER BY s.created_at, s.id LIMIT $5'
        USING p_status, p_parent, after, p_after_id, p_limit + 1;
    RETURN QUERY SELECT t.* FROM sandbox.take(found_rows, p_limit, p_bytes) t;
END;
$$ LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp;

-- What stands below a session, as public.session_children has it.
CREATE FUNCTION sandbox.children(p_id UUID, p_depth INTEGER, p_limit INTEGER, p_bytes BIGINT)
RETURNS TABLE (id UUID, messages TEXT, inbox_status TEXT, sbx_config TEXT, parent UUID,
               created_at TIMESTAMP WITH TIME ZONE, updated_at TIMESTAMP WITH TIME ZONE, claim UUID,
               "position" TEXT, beyond BOOLEAN) AS $$
DECLARE
    found_rows REFCURSOR;
BEGIN
    IF NOT EXISTS (SELECT FROM public.session s WHERE s.id = p_id) THEN
        RAISE EXCEPTION 'SESSION_NOT_FOUND: there is no session %', p_id USING ERRCODE = 'no_data_found';
    END IF;
    OPEN found_rows FOR SELECT s.* FROM public.session_children(p_id, p_depth, p_limit + 1) s;
    RETURN QUERY SELECT t.* FROM sandbox.take(found_rows, p_limit, p_bytes) t;
END;
$$ LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp;

-- ---------------------------------------------------------------------------------------------------------
-- Sessions of this database with their statements, of other roles too: SECURITY DEFINER, since PostgreSQL shows those
-- to superusers and members of pg_read_all_stats only. For the service, by the views below.
CREATE FUNCTION sandbox.activity() RETURNS SETOF pg_stat_activity AS $$
    SELECT a.* FROM pg_stat_activity a WHERE a.datname = current_database()
$$ LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;

-- The document's monitoring queries.
CREATE VIEW sandbox.database_size AS
    SELECT pg_database_size(current_database()) AS bytes, pg_size_pretty(pg_database_size(current_database())) AS pretty;
CREATE VIEW sandbox.table_size AS
    SELECT pg_total_relation_size('public.session'::regclass) AS bytes,
           pg_size_pretty(pg_total_relation_size('public.session'::regclass)) AS pretty;
CREATE VIEW sandbox.connections AS
    SELECT a.usename AS role_name, count(*) AS connections,
           count(*) FILTER (WHERE a.state = 'active') AS active,
           max(now() - a.xact_start) AS oldest_transaction
    FROM sandbox.activity() a WHERE a.backend_type = 'client backend' GROUP BY a.usename;
CREATE VIEW sandbox.slow_queries AS
    SELECT a.pid, a.usename AS role_name, now() - a.query_start AS duration, a.query
    FROM sandbox.activity() a WHERE a.state = 'active' AND now() - a.query_start > INTERVAL '5 seconds';
CREATE VIEW sandbox.status_counts AS
    SELECT s.inbox_status, count(*) AS sessions FROM public.session s GROUP BY s.inbox_status;
-- One row; null where nothing is pending.
CREATE VIEW sandbox.oldest_pending AS
    SELECT now() - (SELECT s.created_at FROM public.session s
                    WHERE (s.inbox_status = 'pending' OR s.claim IS NOT NULL)
                      AND coalesce(s.claimed_until, s.not_before, '-infinity'::timestamptz) = '-infinity'
                    ORDER BY s.created_at, s.id LIMIT 1) AS age;

-- ---------------------------------------------------------------------------------------------------------
-- The roles. A role may reset its own timeouts, change its own settings for its next connections, and change its own
-- password. These put an end to it.

-- Makes a role what its row says. Settings that only a superuser may give are struck out where there is none.
CREATE FUNCTION sandbox.assert_role(p_role_name NAME) RETURNS VOID AS $$
DECLARE
    wanted sandbox.roles;
    setting TEXT;
BEGIN
    SELECT * INTO STRICT wanted FROM sandbox.roles r WHERE r.role_name = p_role_name;
    EXECUTE format('ALTER ROLE %I RESET ALL', p_role_name);
    EXECUTE format('ALTER ROLE %I IN DATABASE %I RESET ALL', p_role_name, current_database());
    FOREACH setting IN ARRAY wanted.settings LOOP
        BEGIN
            EXECUTE format('ALTER ROLE %I SET %I = %L', p_role_name, split_part(setting, '=', 1),
                           substr(setting, strpos(setting, '=') + 1));
        EXCEPTION WHEN insufficient_privilege THEN
            UPDATE sandbox.roles r SET settings = array_remove(r.settings, setting) WHERE r.role_name = p_role_name;
        END;
    END LOOP;
    EXECUTE format('ALTER ROLE %I CONNECTION LIMIT %s', p_role_name, wanted.connection_limit);
    IF wanted.verifier IS NULL THEN
        EXECUTE format('ALTER ROLE %I NOLOGIN PASSWORD NULL', p_role_name);
    ELSE
        EXECUTE format('ALTER ROLE %I LOGIN PASSWORD %L', p_role_name, wanted.verifier);
    END IF;
END;
$$ LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp;
REVOKE EXECUTE ON FUNCTION sandbox.assert_role(NAME) FROM PUBLIC;

-- Ends what handed-out roles do for longer than p_limit in one transaction, and puts back what they changed of
-- themselves. Returns how many it ended and put back. For the service, every few seconds, and one pod at a time: two that
-- put the same role back at once meet in an error. Removals older than an hour go too.
CREATE FUNCTION sandbox.guard(p_limit INTERVAL DEFAULT INTERVAL '2 minutes')
RETURNS TABLE (ended INTEGER, put_back INTEGER) AS $$
DECLARE
    handed_out sandbox.roles;
    changed BOOLEAN;
BEGIN
    BEGIN
        SELECT count(*) INTO ended FROM (
            SELECT pg_terminate_backend(a.pid) AS done
            FROM pg_stat_activity a JOIN sandbox.roles r ON r.role_name = a.usename
            WHERE a.datname = current_database() AND a.xact_start < clock_timestamp() - p_limit
        ) t WHERE t.done;
    EXCEPTION WHEN insufficient_privilege THEN
        ended := 0; -- its owner is no superuser, and was not granted pg_signal_backend
    END;
    put_back := 0;
    FOR handed_out IN SELECT * FROM sandbox.roles r ORDER BY r.role_name LOOP
        SELECT (SELECT coalesce(array_agg(s ORDER BY s), '{}') FROM pg_db_role_setting d, unnest(d.setconfig) s
                WHERE d.setrole = r.oid
                  AND d.setdatabase IN (0, (SELECT b.oid FROM pg_database b WHERE b.datname = current_database())))
               IS DISTINCT FROM (SELECT coalesce(array_agg(s ORDER BY s), '{}') FROM unnest(handed_out.settings) s)
        INTO changed FROM pg_roles r WHERE r.rolname = handed_out.role_name;
        IF NOT changed AND (SELECT r.rolsuper FROM pg_roles r WHERE r.rolname = CURRENT_USER) THEN
            SELECT p.rolpassword IS DISTINCT FROM handed_out.verifier INTO changed
            FROM pg_authid p WHERE p.rolname = handed_out.role_name;
        END IF;
        IF changed THEN
            PERFORM sandbox.assert_role(handed_out.role_name);
            put_back := put_back + 1;
        END IF;
    END LOOP;
    DELETE FROM sandbox.removals r WHERE r.removed_at < now() - INTERVAL '1 hour';
    RETURN NEXT;
END;
$$ LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
REVOKE EXECUTE ON FUNCTION sandbox.guard(INTERVAL) FROM PUBLIC;
