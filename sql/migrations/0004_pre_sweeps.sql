-- Rounds that one pod makes for all, and how they know of activity that other pods have not written yet.

-- ---------------------------------------------------------------------------------------------------------
-- All activity of this pod up to here is written. A new row begins with its own instant: nothing was used here before.
ALTER TABLE session.pods
    ADD COLUMN flushed_until TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT clock_timestamp(),
    -- But of these sessions, whose rows somebody held: they do not expire before it is written, and hold up no other.
    ADD COLUMN unwritten TEXT[] NOT NULL DEFAULT '{}';

-- Which pod makes the rounds that are made once for all pods. A short lease: who holds it renews it every second.
CREATE TABLE session.sweeper (
    singleton BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (singleton),
    pod_id TEXT,
    held_until TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT '-infinity'
);
INSERT INTO session.sweeper DEFAULT VALUES;

-- ---------------------------------------------------------------------------------------------------------
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

-- ---------------------------------------------------------------------------------------------------------
DROP FUNCTION session.expire_sessions(TEXT, INTEGER);

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

DROP FUNCTION session.cleanup_round();

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
