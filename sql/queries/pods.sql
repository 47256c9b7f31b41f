-- name: pods.register
SELECT session.register_pod($1, $2, $3, $4);

-- name: pods.beat
-- No row where it has gone or was declared dead: the pod takes a new incarnation.
UPDATE session.pods SET beat = beat + 1 WHERE pod_id = $1 AND NOT dead RETURNING beat;

-- name: pods.all
-- One row per incarnation: few.
SELECT pod_id, pod_name, beat, draining, dead FROM session.pods;

-- name: pods.declare_dead
-- Only while its beat is still the one that was seen to stand still. Final: a renewal needs NOT dead.
UPDATE session.pods SET dead = TRUE, died_at = now() WHERE pod_id = $1 AND beat = $2 AND NOT dead RETURNING pod_id;

-- name: pods.declare_predecessors_dead
-- Whoever listens on this address under this name now, the incarnations before it listen no more.
UPDATE session.pods SET dead = TRUE, died_at = now()
WHERE pod_name = $1 AND address = $2 AND pod_id <> $3 AND NOT dead RETURNING pod_id;

-- name: pods.bury_sockets
SELECT session.bury_sockets($1);

-- name: pods.purge
-- The dead are kept for an hour, for people to look at, and for as long as anything names them.
DELETE FROM session.pods p
WHERE p.dead AND p.died_at < now() - interval '1 hour'
  AND NOT EXISTS (SELECT 1 FROM session.ownership o WHERE o.pod_id = p.pod_id)
  AND NOT EXISTS (SELECT 1 FROM session.sockets k WHERE k.pod_id = p.pod_id);

-- name: pods.start_draining
SELECT live_pod_id, live_beat FROM session.start_draining($1);

-- name: pods.leave
SELECT session.bury_pod($1);

-- name: pods.loads
-- For people: what the pods of each name have, of incarnations that are not known to be dead.
SELECT p.pod_name,
       sum((SELECT count(*) FROM session.ownership o WHERE o.pod_id = p.pod_id))::int AS sessions,
       sum((SELECT count(*) FROM session.sockets k WHERE k.pod_id = p.pod_id AND NOT k.evicted))::int AS sockets,
       sum((SELECT count(*) FROM session.ownership o JOIN simulator.instances i USING (session_id)
            WHERE o.pod_id = p.pod_id AND i.status IN ('CREATING', 'STARTING', 'RUNNING')))::int AS simulators
FROM session.pods p WHERE NOT p.dead GROUP BY p.pod_name;
