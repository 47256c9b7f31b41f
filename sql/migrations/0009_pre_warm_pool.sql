-- The warm pool (ADR 0026): simulators that are ready before anybody asks for one, called spares. A start that finds one
-- takes it, id and workload, and creates nothing. What was taken is its session's, and never comes back.

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

-- Its workload was a spare's, and no other was made for it.
ALTER TABLE simulator.instances ADD COLUMN was_spare BOOLEAN NOT NULL DEFAULT FALSE;
-- The id that the request proposed, where a spare's was taken instead: so that the request made again knows its own.
ALTER TABLE simulator.instances ADD COLUMN requested_as TEXT;

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
CREATE OR REPLACE FUNCTION simulator.refuse_truncate() RETURNS TRIGGER AS $$
BEGIN
    RAISE EXCEPTION 'simulator.% cannot be truncated: delete its rows, so that workloads are removed', TG_TABLE_NAME;
END;
$$ LANGUAGE plpgsql;

CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON simulator.warm_pool
    FOR EACH STATEMENT EXECUTE FUNCTION simulator.refuse_truncate();

-- How many slots are held: by starts of users, and by spares that are being created.
CREATE OR REPLACE FUNCTION simulator.held_starts(p_slot INTERVAL) RETURNS INTEGER AS $$
    SELECT (SELECT count(*) FROM simulator.instances i
            WHERE i.status IN ('CREATING', 'STARTING') AND i.admitted_at > clock_timestamp() - p_slot)::integer
         + (SELECT count(*) FROM simulator.warm_pool w
            WHERE w.status = 'CREATING' AND w.created_at > clock_timestamp() - p_slot)::integer;
$$ LANGUAGE sql;

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

-- The last pod of all gives up the spares, stops every simulator and takes it, to see to its end, and whatever else is on
-- its way there; changed: by this call. Not from a pod that goes as well and is at it, which would be kept from recording
-- the end: when that pod has left, the next call takes it. Nothing, where a live pod is there.
CREATE OR REPLACE FUNCTION session.stop_as_last(p_pod_id TEXT, p_reason TEXT)
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

-- Calls with seven arguments, of the release before, mean this one too.
DROP FUNCTION simulator.request_start(TEXT, TEXT, TEXT, JSONB, DOUBLE PRECISION, INTEGER, TEXT);

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
