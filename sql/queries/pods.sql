-- name: pods.register
INSERT INTO session.pods (pod_id, pod_name, address, version) VALUES ($1, $2, $3, $4)
ON CONFLICT (pod_id) DO NOTHING;

-- name: pods.beat
-- False where the row has gone or was declared dead: the pod takes a new incarnation.
UPDATE session.pods SET beat = beat + 1 WHERE pod_id = $1 AND NOT dead RETURNING beat;

-- name: pods.bury_predecessors
-- A pod of this name that was here before cannot be running any more: the name is its platform's to give.
SELECT coalesce(sum(session.bury_pod(pod_id)), 0)::int FROM session.pods WHERE pod_name = $1 AND pod_id <> $2;

-- name: pods.start_draining
-- One lock for all pods: of several that drain at once, exactly one finds that no other is left.
SELECT pg_advisory_xact_lock(hashtextextended('session.drain', 0));

-- name: pods.mark_draining
UPDATE session.pods SET draining = TRUE WHERE pod_id = $1;

-- name: pods.others_live
SELECT count(*) FROM session.pods WHERE pod_id <> $1 AND NOT draining AND NOT dead;

-- name: pods.leave
SELECT session.bury_pod($1);
