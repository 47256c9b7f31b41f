-- name: named_sessions.create
SELECT new_id, new_epoch FROM session.create_named_session($1, $2);

-- name: named_sessions.activate
SELECT active_id, active_epoch FROM session.activate_named_session($1, $2);

-- name: named_sessions.delete
SELECT session.delete_named_session($1, $2);

-- name: named_sessions.list
SELECT id, user_id, title, active FROM public.sessions WHERE user_id = $1 ORDER BY created_at, id;

-- name: named_sessions.active
-- The active sessions of users with their epochs, of one snapshot; who has no row never had a session.
SELECT u.user_id, s.id, u.epoch FROM session.named_session_users u
LEFT JOIN public.sessions s ON s.user_id = u.user_id AND s.active
WHERE u.user_id = ANY($1::bigint[]);

-- name: named_sessions.look
-- What pods have to know of the cache. origin names the history that epochs and transactions belong to: this cluster, its
-- timeline (a promoted standby may lack the last commits), this database; null on a standby, which has none of its own
-- and may be behind.
SELECT c.doubted, c.cleared, c.settled::text AS settled, c.in_order, pg_current_snapshot()::text AS snapshot,
       CASE WHEN NOT pg_is_in_recovery() THEN
           concat_ws('-', s.system_identifier, left(pg_walfile_name(pg_current_wal_lsn()), 8), i.database_id)
       END AS origin
FROM session.named_session_cache c, session.installation i, pg_control_system() s;

-- name: named_sessions.doubt
-- Returns which doubt it is part of: since the last one was cleared, the cache has been in doubt without a break.
UPDATE session.named_session_cache SET doubted = doubted + 1 RETURNING cleared;

-- name: named_sessions.changed
-- Users whose active session changed after that of user $2 in transaction $1, as far as snapshot $3 (null: the
-- present one) sees it, with what is active now; at most $4. Who changes again meanwhile comes again, later.
SELECT u.changed_in::text::bigint AS changed_in, u.user_id, u.epoch, s.id FROM session.named_session_users u
LEFT JOIN public.sessions s ON s.user_id = u.user_id AND s.active
WHERE (u.changed_in, u.user_id) > ($1::bigint::text::xid8, $2)
  AND ($3::text::pg_snapshot IS NULL OR pg_visible_in_snapshot(u.changed_in, $3::text::pg_snapshot))
ORDER BY u.changed_in, u.user_id LIMIT $4;

-- name: named_sessions.changed_in
-- As named_sessions.changed, of the transactions $5 alone.
SELECT u.changed_in::text::bigint AS changed_in, u.user_id, u.epoch, s.id FROM session.named_session_users u
LEFT JOIN public.sessions s ON s.user_id = u.user_id AND s.active
WHERE u.changed_in = ANY($5::text[]::xid8[]) AND (u.changed_in, u.user_id) > ($1::bigint::text::xid8, $2)
  AND ($3::text::pg_snapshot IS NULL OR pg_visible_in_snapshot(u.changed_in, $3::text::pg_snapshot))
ORDER BY u.changed_in, u.user_id LIMIT $4;

-- name: named_sessions.settle
-- Every change that snapshot $1 sees is in the cache; doubts up to $2 have come to nothing. Of two repairs at a time the
-- one that knows more counts; but not what a history that was lost had settled.
UPDATE session.named_session_cache SET cleared = greatest(cleared, $2), settled = CASE
    WHEN pg_snapshot_xmax(settled) > pg_snapshot_xmax(pg_current_snapshot())
        OR pg_snapshot_xmax(settled) < pg_snapshot_xmax($1::text::pg_snapshot)
        OR pg_snapshot_xmax(settled) = pg_snapshot_xmax($1::text::pg_snapshot)
            AND (SELECT count(*) FROM pg_snapshot_xip(settled))
                > (SELECT count(*) FROM pg_snapshot_xip($1::text::pg_snapshot))
    THEN $1::text::pg_snapshot ELSE settled END;
