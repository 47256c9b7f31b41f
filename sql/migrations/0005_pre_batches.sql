-- Sockets that come or go together, in one statement.

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
