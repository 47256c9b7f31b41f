-- name: start_queue.begin_create
-- $1 simulator, $2 session, $3 pod, $4 epoch, $5: within how many seconds, $6: slots, $7: seconds that one lasts.
SELECT b.until, b.queue_position, extract(epoch FROM b.queued_for)::float8 AS queued_for_s,
       n.database_id::text AS database_id
FROM simulator.begin_create($1, $2, $3, $4, make_interval(secs => $5), $6, make_interval(secs => $7)) b,
     session.installation n;

-- name: start_queue.admit
-- Those that this call gave a slot, and whose reconciler acts on it.
SELECT a.*, extract(epoch FROM a.admitted_at - a.queued_at)::float8 AS queued_for_s, o.pod_id AS owner_pod_id
FROM simulator.admit_starts($1, make_interval(secs => $2)) a LEFT JOIN session.ownership o USING (session_id);

-- name: start_queue.count
-- How many wait, and how many of them are of sessions that this pod owns. idx_simulator_waiting: nothing is read where
-- nobody waits.
SELECT count(*) AS waiting, count(*) FILTER (WHERE o.pod_id = $1) AS own
FROM simulator.instances i LEFT JOIN session.ownership o USING (session_id)
WHERE i.status = 'CREATING' AND i.queued_at IS NOT NULL AND i.admitted_at IS NULL;

-- name: start_queue.of_pod
-- Who waits of the sessions that this pod owns or has sockets of, and where.
SELECT i.*, q.place, o.pod_id AS owner_pod_id
FROM simulator.start_queue(make_interval(secs => $2)) q
JOIN simulator.instances i ON i.simulator_id = q.waiting_id
LEFT JOIN session.ownership o ON o.session_id = q.waiting_session_id
WHERE o.pod_id = $1
   OR EXISTS (SELECT 1 FROM session.sockets k WHERE k.session_id = q.waiting_session_id AND k.pod_id = $1);

-- name: start_queue.place
SELECT q.place FROM simulator.start_queue(make_interval(secs => $2)) q WHERE q.waiting_id = $1;
