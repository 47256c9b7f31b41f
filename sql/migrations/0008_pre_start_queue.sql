-- The start queue (ADR 0025): over all pods at most so many simulators are being created at once, and users take turns.
-- p_limit: how many. p_slot: for how long a start may keep its slot.

-- When it was ready to be created and asked for a slot, the last time; null before.
ALTER TABLE simulator.instances ADD COLUMN queued_at TIMESTAMP WITH TIME ZONE;
-- When it got its slot; null before, and again where it has to ask anew. It holds the slot while it is on its way to
-- RUNNING, but no longer than p_slot: one that its platform keeps waiting does not keep the others.
ALTER TABLE simulator.instances ADD COLUMN admitted_at TIMESTAMP WITH TIME ZONE;

-- Who waits, and who may hold a slot: few rows, whatever the table has. Looked at every second by every pod.
CREATE INDEX idx_simulator_waiting ON simulator.instances (user_id, created_at, simulator_id)
    WHERE status = 'CREATING' AND queued_at IS NOT NULL AND admitted_at IS NULL;
CREATE INDEX idx_simulator_admitted_at ON simulator.instances (admitted_at)
    WHERE status IN ('CREATING', 'STARTING') AND admitted_at IS NOT NULL;
-- When a user got a slot last.
CREATE INDEX idx_simulator_served ON simulator.instances (user_id, admitted_at) WHERE admitted_at IS NOT NULL;

-- Slots are given by one transaction at a time. Whoever waits for this lock may hold its own simulator's row; whoever
-- has it waits for no row.
CREATE FUNCTION simulator.lock_starts() RETURNS VOID AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('simulator.starts', 0));
END;
$$ LANGUAGE plpgsql;

-- How many slots are held.
CREATE FUNCTION simulator.held_starts(p_slot INTERVAL) RETURNS INTEGER AS $$
    SELECT count(*)::integer FROM simulator.instances i
    WHERE i.status IN ('CREATING', 'STARTING') AND i.admitted_at > clock_timestamp() - p_slot;
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
