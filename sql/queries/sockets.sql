-- name: sockets.open
-- With it the session's simulator, the live one, else the newest: all that a socket needs comes with one statement.
SELECT o.outcome, o.opened_arrival, o.connections, i.*
FROM session.open_socket($1, $2, $3, $4, $5, make_interval(secs => $6), $7, $8, $9) o
LEFT JOIN LATERAL simulator.newest(CASE o.outcome WHEN 'opened' THEN $1 END) i ON TRUE;

-- name: sockets.open_many
-- As sockets.open, a row per socket, by its place among those asked for.
SELECT o.place, o.outcome, o.opened_arrival, o.connections, i.*
FROM session.open_sockets($1, $2, $3, $4, $5, make_interval(secs => $6), $7, $8, $9) o
LEFT JOIN LATERAL simulator.newest(CASE o.outcome WHEN 'opened' THEN o.opened_session_id END) i ON TRUE;

-- name: sockets.close
SELECT session.close_socket($1, $2, $3, $4, $5);

-- name: sockets.close_many
SELECT place, was_there FROM session.close_sockets($1, $2, $3, $4, $5);

-- name: sockets.reinstate
-- A newer socket ended before its first frame: the one that it came to replace is its client's again.
DELETE FROM session.superseded WHERE session_id = $1 AND client_id = $2;

-- name: sockets.tally
-- How many rows this pod has and the sum of their numbers, which of their sessions were marked EXPIRED, and which have
-- nearly as many connections as they may. A session that is gone took its rows with it, and a socket that is replaced
-- elsewhere or evicted is missing here, so count and sum tell of them too: most rounds need no list of ids in either
-- direction. idx_sockets_pod_id.
-- A session whose time has run out is not over before it is marked: activity may be waiting to be written.
SELECT count(*) FILTER (WHERE NOT k.evicted) AS sockets,
       coalesce(sum(k.arrival) FILTER (WHERE NOT k.evicted), 0)::bigint AS arrivals,
       array_agg(DISTINCT k.session_id) FILTER (WHERE a.status = 'EXPIRED') AS expired,
       array_agg(DISTINCT k.session_id) FILTER (WHERE k.heard_at IS NOT NULL) AS crowded
FROM session.sockets k JOIN session.active_sessions a USING (session_id)
WHERE k.pod_id = $1;

-- name: sockets.assert_own
SELECT lost_session_id, lost_arrival, verdict, extract(epoch FROM due_in)::float8 AS due_in_s
FROM session.assert_sockets($1, $2, $3, $4, $5, $6, make_interval(secs => $7));

-- name: sockets.strays
-- Rows of this pod beside those that it knows to be open ($2 their numbers). idx_sockets_pod_id.
SELECT k.session_id, k.client_id, k.attempt, k.kind, k.arrival FROM session.sockets k
WHERE k.pod_id = $1 AND NOT EXISTS (SELECT 1 FROM unnest($2::bigint[]) AS t (arrival) WHERE t.arrival = k.arrival);

-- name: sockets.evict
SELECT evicted_client_id AS client_id, evicted_arrival AS arrival FROM session.evict_sockets($1, $2, $3, $4, $5);

-- name: sockets.hear
SELECT heard_session_id AS session_id, connections FROM session.hear_sockets($1, $2, $3, $4);

-- name: sockets.simulators_changed
-- The newest simulators of this pod's sockets that changed in or after transaction $2, and the number to ask from next
-- time: one row at least. idx_simulator_changed_in: what changed is read, not what there is.
SELECT look.next, i.* FROM (SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS next) look
LEFT JOIN simulator.instances i
    ON i.changed_in >= $2
   AND EXISTS (SELECT 1 FROM session.sockets k WHERE k.session_id = i.session_id AND k.pod_id = $1)
   AND NOT EXISTS (SELECT 1 FROM simulator.instances n
                   WHERE n.session_id = i.session_id AND n.created_at > i.created_at);
