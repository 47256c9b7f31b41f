-- A start that waits for its slot no longer meets the activity of its session in a deadlock.

-- Before each create of an owner: whoever finds no workload knows from create_until when one may still come to be.
-- A start without a slot, or whose slot has lapsed, asks for one; it gets it if one is free for it, and else waits:
-- queue_position says where, and nothing may be created. queued_for: how long the slot was waited for that this call
-- gave. No row: it must not be created (any more), or not by this pod.
CREATE OR REPLACE FUNCTION simulator.begin_create(
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
