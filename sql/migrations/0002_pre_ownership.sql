-- Which pod looks after a session: ownership with fencing epochs, and pods whose death is observed, not computed.

-- ---------------------------------------------------------------------------------------------------------
ALTER TABLE session.pods ADD COLUMN died_at TIMESTAMP WITH TIME ZONE;

-- Who looks after a session's simulators. The row is made with the session and goes with it. Its epoch rises with each
-- claim and never falls: simulators refuse the calls of an earlier one, and every write of an owner locks this row
-- first, in the same statement, so that none gets through behind a claim.
CREATE TABLE session.ownership (
    session_id TEXT PRIMARY KEY REFERENCES session.active_sessions (session_id) ON DELETE CASCADE,
    pod_id TEXT REFERENCES session.pods (pod_id) ON DELETE SET NULL,
    epoch BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX idx_ownership_pod_id ON session.ownership (pod_id);

INSERT INTO session.ownership (session_id) SELECT session_id FROM session.active_sessions;

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
            WHEN owner.dead THEN 'dead'
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

-- Takes up to so many sessions that nobody looks after: released, or of a pod that is dead; those with sockets elsewhere
-- are left to the pods that have them. What another pod is taking at this moment is passed over.
CREATE FUNCTION session.adopt(p_pod_id TEXT, p_limit INTEGER)
RETURNS TABLE (claimed_session_id TEXT, claimed_epoch BIGINT, cause TEXT, previous_pod_id TEXT) AS $$
DECLARE
    dead_pods TEXT[] := ARRAY(SELECT p.pod_id FROM session.pods p WHERE p.dead);
BEGIN
    RETURN QUERY
    WITH free AS (
        SELECT o.session_id, o.pod_id, CASE
            WHEN o.pod_id IS NOT NULL THEN 'dead' WHEN o.epoch = 0 THEN 'new' ELSE 'released' END AS why
        FROM session.ownership o
        WHERE (o.pod_id IS NULL OR o.pod_id = ANY (dead_pods))
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

-- The last pod of all stops every simulator and takes it, to see to its end, and whatever else is on its way there; changed:
-- by this call. Not from a pod that goes as well and is at it, which would be kept from recording the end: when that pod has
-- left, the next call takes it. Nothing, where a live pod is there.
CREATE FUNCTION session.stop_as_last(p_pod_id TEXT, p_reason TEXT)
RETURNS TABLE (stopping simulator.instances, changed BOOLEAN) AS $$
BEGIN
    PERFORM session.lock_pods();
    IF EXISTS (SELECT 1 FROM session.pods p WHERE p.pod_id <> p_pod_id AND NOT p.draining AND NOT p.dead) THEN
        RETURN;
    END IF;
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
-- The cleanup round: one pod at a time, by a lock that is the transaction's, so that it cannot be lost with a pooled
-- connection. Everything is locked in the order in which all other writers lock it: the cascade has its own.
CREATE OR REPLACE FUNCTION session.cleanup_round() RETURNS INTEGER AS $$
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended('session.cleanup', 0)) THEN
        RETURN 0;
    END IF;
    PERFORM 1 FROM session.active_sessions a WHERE a.expires_at < NOW() ORDER BY a.session_id FOR UPDATE;
    PERFORM 1 FROM session.ownership o JOIN session.active_sessions a USING (session_id)
    WHERE a.expires_at < NOW() ORDER BY o.session_id FOR UPDATE OF o;
    PERFORM 1 FROM simulator.instances i JOIN session.active_sessions a USING (session_id)
    WHERE a.expires_at < NOW() ORDER BY i.simulator_id FOR UPDATE OF i;
    PERFORM 1 FROM session.session_metadata m JOIN session.active_sessions a USING (session_id)
    WHERE a.expires_at < NOW() ORDER BY m.session_id FOR UPDATE OF m;
    RETURN session.cleanup_expired_sessions();
END;
$$ LANGUAGE plpgsql;

-- Ends one session: its row goes, and with it its metadata, its sockets, its ownership and, through the trigger, its
-- simulator. Returns whether a live simulator went with it; null when there was no such session of this user.
CREATE OR REPLACE FUNCTION session.end_session(p_session_id TEXT, p_user_id TEXT) RETURNS BOOLEAN AS $$
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

DROP FUNCTION session.open_session(TEXT, TEXT, TEXT, INTERVAL, INTEGER, JSONB);

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

-- A pod leaves: its row goes, its sockets with it, and what it owned is released by the foreign key.
CREATE OR REPLACE FUNCTION session.bury_pod(p_pod_id TEXT) RETURNS INTEGER AS $$
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
    DELETE FROM session.pods WHERE pod_id = p_pod_id;
    RETURN coalesce(cardinality(orphaned), 0);
END;
$$ LANGUAGE plpgsql;

-- ---------------------------------------------------------------------------------------------------------
DROP FUNCTION simulator.request_start(TEXT, TEXT, TEXT, JSONB, DOUBLE PRECISION, INTEGER);

-- A simulator for a session: the live one, or a new row for its owner's reconciler; where nobody looks after the session,
-- the calling pod takes it. outcome: 'created', 'existing', 'session_not_found', 'session_expired' or 'limit'.
CREATE FUNCTION simulator.request_start(
    p_simulator_id TEXT, p_session_id TEXT, p_user_id TEXT, p_symbols JSONB, p_cash DOUBLE PRECISION,
    p_limit INTEGER, p_pod_id TEXT
) RETURNS TABLE (outcome TEXT, simulator simulator.instances, owner_pod_id TEXT) AS $$
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
    PERFORM session.claim(p_pod_id, ARRAY[p_session_id]);
    SELECT o.pod_id INTO owner_pod_id FROM session.ownership o WHERE o.session_id = p_session_id;
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

DROP FUNCTION simulator.fail(TEXT, TEXT);

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
    INSERT INTO simulator.teardowns (simulator_id, session_id, endpoint, workload_uid)
    VALUES (failed.simulator_id, failed.session_id, failed.endpoint, failed.workload_uid)
    ON CONFLICT (simulator_id) DO NOTHING;
    RETURN TRUE;
END;
$$ LANGUAGE plpgsql;
