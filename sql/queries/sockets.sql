-- name: sockets.open
SELECT session.open_socket($1, $2, $3, $4, $5, make_interval(secs => $6), $7);

-- name: sockets.close
SELECT session.close_socket($1, $2, $3, $4, $5, $6);

-- name: sockets.tally
-- How many rows this pod has, and which of their sessions were marked EXPIRED. A session that is gone took its rows
-- with it, so the count tells of that too: most rounds need no list of ids in either direction. idx_sockets_pod_id.
-- A session whose time has run out is not over before it is marked: activity may be waiting to be written.
SELECT count(*) AS sockets,
       array_agg(DISTINCT k.session_id) FILTER (WHERE a.status = 'EXPIRED') AS ended
FROM session.sockets k JOIN session.active_sessions a USING (session_id)
WHERE k.pod_id = $1;

-- name: sockets.assert_own
SELECT session.assert_sockets($1, $2, $3, $4, $5);

-- name: sockets.strays
-- Rows of this pod beside those that it knows to be open. idx_sockets_pod_id.
SELECT k.session_id, k.client_id, k.attempt, k.kind FROM session.sockets k
WHERE k.pod_id = $1 AND NOT EXISTS (
    SELECT 1 FROM unnest($2::text[], $3::text[]) AS t (session_id, client_id)
    WHERE t.session_id = k.session_id AND t.client_id = k.client_id);
