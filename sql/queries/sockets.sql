-- name: sockets.open
SELECT session.open_socket($1, $2, $3, $4, $5, make_interval(secs => $6), $7);

-- name: sockets.close
SELECT session.close_socket($1, $2, $3, $4, $5, $6);

-- name: sockets.assert_own
-- The table is unlogged: after a crash of PostgreSQL it is empty, and every pod writes its own rows again.
INSERT INTO session.sockets (session_id, client_id, pod_id, attempt, kind)
SELECT t.session_id, t.client_id, $1, t.attempt, t.kind
FROM unnest($2::text[], $3::text[], $4::bigint[], $5::text[]) AS t (session_id, client_id, attempt, kind)
WHERE EXISTS (SELECT 1 FROM session.active_sessions a WHERE a.session_id = t.session_id)
ORDER BY t.session_id
ON CONFLICT (session_id, client_id) DO NOTHING;
