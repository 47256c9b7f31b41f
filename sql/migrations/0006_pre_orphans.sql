-- Workloads that nobody knows of: none comes to be after its simulator's end, and what stands all the same is found.

-- Until when a create that was sent may still take effect; '-infinity' where none is under way. A workload that is not
-- there before then is not known to be gone.
ALTER TABLE simulator.instances ADD COLUMN create_until TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT '-infinity';
ALTER TABLE simulator.teardowns ADD COLUMN create_until TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT '-infinity';

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

-- Every delete of a simulator, by cascade and by hand too, leaves word of its workload. SECURITY DEFINER, so that
-- a role which may delete sessions cannot lose workloads for want of a right on this table.
CREATE OR REPLACE FUNCTION simulator.record_teardown() RETURNS TRIGGER AS $$
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

-- A simulator that failed is at its end, says its session's owner: the row says why, its workload is handed to the
-- teardowns. Returns whether this call was the one that ended it; false as well where the caller owns it no more.
CREATE OR REPLACE FUNCTION simulator.fail(
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
