-- name: sessions.open
-- One call of a user at a time; see session.open_session.
SELECT o.outcome, o.ended_session_id, o.ended_simulator, (o.opened).*, o.metadata
FROM session.open_session($1, $2, $3, make_interval(secs => $4), $5, $6, $7) o;

-- name: sessions.find_by_device
-- The fast way of an idempotent POST: most calls find the session and need no lock. ux_sessions_user_device.
SELECT s.*, m.metadata
FROM session.active_sessions s JOIN session.session_metadata m USING (session_id)
WHERE s.user_id = $1 AND s.device_id = $2 AND s.status <> 'EXPIRED' AND s.expires_at > now();

-- name: sessions.get
-- Expired rows too, with what the caller needs to say so. Any user's where $2 is null (scope `simulators`).
SELECT s.*, m.metadata, (s.status = 'EXPIRED' OR s.expires_at <= now()) AS is_expired
FROM session.active_sessions s JOIN session.session_metadata m USING (session_id)
WHERE s.session_id = $1 AND ($2::text IS NULL OR s.user_id = $2);

-- name: sessions.get_many
-- As sessions.get, for calls that come together; place counts from 1.
SELECT t.place, s.*, m.metadata, (s.status = 'EXPIRED' OR s.expires_at <= now()) AS is_expired
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS t (session_id, user_id, place)
JOIN session.active_sessions s ON s.session_id = t.session_id
JOIN session.session_metadata m ON m.session_id = s.session_id
WHERE t.user_id IS NULL OR s.user_id = t.user_id;

-- name: sessions.find_many_by_device
-- As sessions.find_by_device, for calls that come together. ux_sessions_user_device.
SELECT t.place, s.*, m.metadata
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS t (user_id, device_id, place)
JOIN session.active_sessions s ON s.user_id = t.user_id AND s.device_id = t.device_id
JOIN session.session_metadata m ON m.session_id = s.session_id
WHERE s.status <> 'EXPIRED' AND s.expires_at > now();

-- name: sessions.list
SELECT s.*, m.metadata
FROM session.active_sessions s JOIN session.session_metadata m USING (session_id)
WHERE s.user_id = $1 AND s.status <> 'EXPIRED' AND s.expires_at > now()
ORDER BY s.created_at, s.session_id;

-- name: sessions.keepalive
-- Never revives: an expired row does not match.
UPDATE session.active_sessions s
SET last_active = now(), expires_at = greatest(s.expires_at, now() + make_interval(secs => $3))
FROM session.session_metadata m
WHERE s.session_id = $1 AND s.user_id = $2 AND s.status <> 'EXPIRED' AND s.expires_at > now()
  AND m.session_id = s.session_id
RETURNING s.*, m.metadata;

-- name: sessions.flush_activity
-- $1 pod, $2 what its last call returned, $3 how long ago (seconds), $4 whether these are all its uses but those of $5,
-- $6 sessions, $7 and $8 how long ago each was used first and last, $9 the timeout. See session.flush_activity.
SELECT answered_at, passed_over FROM session.flush_activity($1, $2, $3, $4, $5, $6, $7, $8, make_interval(secs => $9));

-- name: sessions.end
SELECT session.end_session($1, $2);

-- name: sessions.ids_of_user
-- What DELETE /api/sessions ends: the session of one device, or all. Expired rows go too.
SELECT session_id FROM session.active_sessions
WHERE user_id = $1 AND ($2::text IS NULL OR device_id = $2)
ORDER BY session_id;

-- name: sessions.expire
-- Only what had run out when every live pod last wrote its activity.
SELECT expired_session_id AS session_id, expired_user_id AS user_id
FROM session.expire_sessions(NULL, $1, session.activity_written_until());

-- name: sessions.cleanup
SELECT session.cleanup_round($1);

-- name: sessions.settle
-- RECONNECTING for too long is INACTIVE. idx_sessions_reconnecting.
UPDATE session.active_sessions SET status = 'INACTIVE'
WHERE session_id IN (
    SELECT session_id FROM session.active_sessions
    WHERE status = 'RECONNECTING' AND disconnected_at < now() - make_interval(secs => $1)
    ORDER BY session_id LIMIT 1000 FOR UPDATE SKIP LOCKED)
RETURNING session_id;

-- name: sessions.merge_metadata
-- Sessions in order, one statement for a round's worth of informative fields.
WITH locked AS (
    SELECT m.session_id, t.fields
    FROM unnest($1::text[], $2::jsonb[]) AS t (session_id, fields)
    JOIN session.session_metadata m USING (session_id)
    ORDER BY m.session_id
    FOR UPDATE OF m
)
UPDATE session.session_metadata m SET metadata = m.metadata || locked.fields
FROM locked WHERE m.session_id = locked.session_id;

-- name: sessions.reconnected
-- The counter is raised by PostgreSQL, never read and written back, and once for each attempt of a client.
SELECT (r.reconnected).*, r.metadata FROM session.reconnect($1, $2, $3, $4, $5) r;

-- name: sessions.count_of_pod
-- What one pod looks after: the sum over all pods is the number of sessions, and each is counted once. idx_ownership_pod_id.
SELECT count(*) FROM session.ownership o JOIN session.active_sessions a USING (session_id)
WHERE o.pod_id = $1 AND a.status <> 'EXPIRED' AND a.expires_at > now();
