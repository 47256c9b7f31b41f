-- name: simulators.request_start
SELECT r.outcome, (r.simulator).* FROM simulator.request_start($1, $2, $3, $4, $5, $6) r;

-- name: simulators.get
SELECT * FROM simulator.instances WHERE simulator_id = $1 AND ($2::text IS NULL OR user_id = $2);

-- name: simulators.of_session
-- The live one, else the newest.
SELECT i.* FROM simulator.instances i
WHERE i.session_id = $1 AND ($2::text IS NULL OR i.user_id = $2)
ORDER BY (i.status IN ('CREATING', 'STARTING', 'RUNNING')) DESC, i.created_at DESC
LIMIT 1;

-- name: simulators.request_stop
-- Idempotent: a row at its end, or on its way there, answers as it is.
WITH stopped AS (
    UPDATE simulator.instances SET status = 'STOPPING', target = 'STOPPED', reason = $2
    WHERE simulator_id = $1 AND status IN ('CREATING', 'STARTING', 'RUNNING')
    RETURNING *
)
SELECT *, TRUE AS changed FROM stopped
UNION ALL
SELECT *, FALSE AS changed FROM simulator.instances
WHERE simulator_id = $1 AND NOT EXISTS (SELECT 1 FROM stopped);

-- name: simulators.predecessor_remains
-- A new simulator of a session waits until the workload before it is known to be gone.
SELECT EXISTS (
    SELECT 1 FROM simulator.instances p
    WHERE p.session_id = $1 AND p.simulator_id <> $2 AND p.status = 'STOPPING'
) OR EXISTS (
    SELECT 1 FROM simulator.teardowns t WHERE t.session_id = $1 AND t.simulator_id <> $2
);

-- name: simulators.workload_created
UPDATE simulator.instances
SET status = 'STARTING', workload_uid = $2, endpoint = coalesce($3, endpoint)
WHERE simulator_id = $1 AND status IN ('CREATING', 'STARTING') AND target = 'RUNNING'
RETURNING *;

-- name: simulators.running
UPDATE simulator.instances SET status = 'RUNNING', reason = NULL, endpoint = $2, last_active = now()
WHERE simulator_id = $1 AND status = 'STARTING' AND target = 'RUNNING'
RETURNING *;

-- name: simulators.stopped
UPDATE simulator.instances SET status = 'STOPPED', endpoint = NULL
WHERE simulator_id = $1 AND status = 'STOPPING'
RETURNING *;

-- name: simulators.fail
SELECT simulator.fail($1, $2);

-- name: simulators.unsettled
-- What the reconciler has to look at: everything but rows at their end. idx_simulator_status.
SELECT simulator_id, status, EXTRACT(EPOCH FROM now() - created_at)::float8 AS age_s
FROM simulator.instances WHERE status IN ('CREATING', 'STARTING', 'STOPPING');

-- name: simulators.running_all
SELECT * FROM simulator.instances WHERE status = 'RUNNING';

-- name: simulators.stop_inactive
-- No call of a user and no socket for the timeout. Their workloads follow through the reconciler.
UPDATE simulator.instances SET status = 'STOPPING', target = 'STOPPED', reason = 'inactive'
WHERE simulator_id IN (
    SELECT i.simulator_id FROM simulator.instances i
    WHERE i.status IN ('CREATING', 'STARTING', 'RUNNING')
      AND i.last_active < now() - make_interval(secs => $1)
      AND NOT EXISTS (SELECT 1 FROM session.sockets k WHERE k.session_id = i.session_id)
    ORDER BY i.simulator_id LIMIT 100 FOR UPDATE SKIP LOCKED)
RETURNING *;

-- name: simulators.stop_all
-- A pod goes, and these go with it: those of some sessions, or all ($2 null) where no pod is left to look after them.
UPDATE simulator.instances SET status = 'STOPPING', target = 'STOPPED', reason = $1
WHERE status IN ('CREATING', 'STARTING', 'RUNNING') AND ($2::text[] IS NULL OR session_id = ANY ($2))
RETURNING *;

-- name: simulators.prune
-- Rows at their end are kept for a while, for whoever asks what became of theirs; an ERROR row stays as long as
-- its workload is in the teardowns.
DELETE FROM simulator.instances WHERE simulator_id IN (
    SELECT i.simulator_id FROM simulator.instances i
    WHERE i.status IN ('STOPPED', 'ERROR') AND i.last_active < now() - make_interval(secs => $1)
      AND EXISTS (SELECT 1 FROM simulator.instances n
                  WHERE n.session_id = i.session_id AND n.created_at > i.created_at)
      AND NOT EXISTS (SELECT 1 FROM simulator.teardowns t WHERE t.simulator_id = i.simulator_id)
    LIMIT 1000);

-- name: simulators.counts
SELECT status, count(*) FROM simulator.instances GROUP BY status;

-- name: teardowns.lease
-- Leased, not locked, during the call: a pod that dies in the middle holds nothing for longer than the lease.
UPDATE simulator.teardowns SET leased_until = now() + make_interval(secs => $2), attempts = attempts + 1
WHERE simulator_id IN (
    SELECT simulator_id FROM simulator.teardowns WHERE leased_until < now()
    ORDER BY requested_at LIMIT $1 FOR UPDATE SKIP LOCKED)
RETURNING *;

-- name: teardowns.done
-- True: the simulator's row is gone as well, so nobody else will tell of its end. Nothing happens where it was leased or
-- asked for again meanwhile: then there may be more to remove than this lease found.
DELETE FROM simulator.teardowns t WHERE t.simulator_id = $1 AND t.attempts = $2
RETURNING NOT EXISTS (SELECT 1 FROM simulator.instances i WHERE i.simulator_id = t.simulator_id);

-- name: teardowns.request
-- A workload came to be although nobody wants it any more: its row went, or reached its end, while it was created.
INSERT INTO simulator.teardowns AS t (simulator_id, session_id, endpoint, workload_uid)
SELECT $1, $2, $3, $4
WHERE NOT EXISTS (SELECT 1 FROM simulator.instances i WHERE i.simulator_id = $1 AND i.status NOT IN ('STOPPED', 'ERROR'))
ON CONFLICT (simulator_id) DO UPDATE
SET endpoint = EXCLUDED.endpoint, workload_uid = EXCLUDED.workload_uid, leased_until = '-infinity',
    attempts = t.attempts + 1
RETURNING TRUE;

-- name: teardowns.count
SELECT count(*) FROM simulator.teardowns;

-- name: installation.get
SELECT database_id::text, simulator_key FROM session.installation;
