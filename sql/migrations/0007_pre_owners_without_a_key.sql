-- An ownership names its pod without a foreign key: the lock that the key took on the pod's row, one row for all sessions of
-- a pod, cost a third of the sessions that a server makes in a second. An owner that has no row is as dead as one that
-- was declared so.
ALTER TABLE session.ownership DROP CONSTRAINT ownership_pod_id_fkey;

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

-- Takes these sessions for a pod, as far as domain/placement.py lets it: from nobody, from a pod that is dead or draining,
-- or from one that has no socket of the session while the claimer has. What it took, from whom, and why.
-- The rows are locked before the rule is looked at, so that it sees what is true now, and in order, so that two claims
-- cannot wait for each other.
CREATE OR REPLACE FUNCTION session.claim(p_pod_id TEXT, p_session_ids TEXT[])
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

-- Takes up to so many sessions that nobody looks after: released, or of a pod that is dead; those with sockets elsewhere
-- are left to the pods that have them. What another pod is taking at this moment is passed over.
CREATE OR REPLACE FUNCTION session.adopt(p_pod_id TEXT, p_limit INTEGER)
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

-- A pod leaves: its row goes, its sockets with it, and what it owned is released.
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
    UPDATE session.ownership SET pod_id = NULL WHERE pod_id = p_pod_id;
    DELETE FROM session.pods WHERE pod_id = p_pod_id;
    RETURN coalesce(cardinality(orphaned), 0);
END;
$$ LANGUAGE plpgsql;
