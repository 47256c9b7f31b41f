-- name: simulators.request_start
SELECT r.outcome, (r.simulator).*, r.owner_pod_id FROM simulator.request_start($1, $2, $3, $4, $5, $6, $7, $8) r;

-- name: simulators.get
SELECT * FROM simulator.instances WHERE simulator_id = $1 AND ($2::text IS NULL OR user_id = $2);

-- name: simulators.of_session
-- The live one, else the newest.
SELECT i.* FROM simulator.instances i
WHERE i.session_id = $1 AND ($2::text IS NULL OR i.user_id = $2)
ORDER BY (i.status IN ('CREATING', 'STARTING', 'RUNNING')) DESC, i.created_at DESC
LIMIT 1;

-- name: simulators.request_stop
-- Idempotent: a row at its end, or on its way there, answers as it is. What waits for its start slot, or has not come so
-- far, has no workload: nothing was created, and nothing will be.
WITH stopped AS (
    UPDATE simulator.instances
    SET status = CASE WHEN status = 'CREATING' AND admitted_at IS NULL AND create_until = '-infinity'
                      THEN 'STOPPED' ELSE 'STOPPING' END,
        target = 'STOPPED', reason = $2
    WHERE simulator_id = $1 AND status IN ('CREATING', 'STARTING', 'RUNNING')
    RETURNING *
), answer AS (
    SELECT *, TRUE AS changed FROM stopped
    UNION ALL
    SELECT *, FALSE AS changed FROM simulator.instances
    WHERE simulator_id = $1 AND NOT EXISTS (SELECT 1 FROM stopped)
)
SELECT answer.*, o.pod_id AS owner_pod_id FROM answer LEFT JOIN session.ownership o USING (session_id);

-- name: simulators.predecessor_remains
-- A new simulator of a session waits until the workload before it is known to be gone.
SELECT EXISTS (
    SELECT 1 FROM simulator.instances p
    WHERE p.session_id = $1 AND p.simulator_id <> $2 AND p.status = 'STOPPING'
) OR EXISTS (
    SELECT 1 FROM simulator.teardowns t WHERE t.session_id = $1 AND t.simulator_id <> $2
);

-- name: simulators.owned
-- The row, and who looks after its session: read together before each step. create_open_s: for how long yet a create of
-- it may take effect. waits_for_slot: it is in the start queue.
SELECT i.*, i.status = 'CREATING' AND i.queued_at IS NOT NULL AND i.admitted_at IS NULL AS waits_for_slot,
       o.pod_id AS owner_pod_id, o.epoch AS owner_epoch,
       CASE WHEN i.create_until > clock_timestamp()
            THEN extract(epoch FROM i.create_until - clock_timestamp())::float8 ELSE 0 END AS create_open_s
FROM simulator.instances i JOIN session.ownership o USING (session_id)
WHERE i.simulator_id = $1;

-- name: simulators.create_answered
SELECT simulator.create_answered($1, $2);

-- name: simulators.workload_created
-- An owner's write, as all that name an owner: its ownership is locked first, so that it waits for a claim under way,
-- and is nothing after it. $1 simulator, $2 session, $3 pod, $4 epoch.
-- $7: the create_until of the create that was answered by this workload, where no other one is under way.
WITH owner AS (
    SELECT session_id FROM session.ownership WHERE session_id = $2 AND pod_id = $3 AND epoch = $4 FOR SHARE
)
UPDATE simulator.instances i
SET status = 'STARTING', workload_uid = $5, endpoint = coalesce($6, i.endpoint),
    create_until = CASE WHEN i.create_until = $7 THEN '-infinity' ELSE i.create_until END
FROM owner
WHERE i.simulator_id = $1 AND i.session_id = owner.session_id
  AND i.status IN ('CREATING', 'STARTING') AND i.target = 'RUNNING'
RETURNING i.*;

-- name: simulators.waiting
-- $5: what keeps it from starting, in the platform's words.
WITH owner AS (
    SELECT session_id FROM session.ownership WHERE session_id = $2 AND pod_id = $3 AND epoch = $4 FOR SHARE
)
UPDATE simulator.instances i SET reason = $5
FROM owner
WHERE i.simulator_id = $1 AND i.session_id = owner.session_id AND i.status = 'STARTING' AND i.target = 'RUNNING'
RETURNING i.*;

-- name: simulators.spare_is_lost
-- The workload that it took is known to be gone before it ran: it gets one of its own, as if there had been no spare.
WITH owner AS (
    SELECT session_id FROM session.ownership WHERE session_id = $2 AND pod_id = $3 AND epoch = $4 FOR SHARE
)
UPDATE simulator.instances i
SET status = 'CREATING', reason = NULL, endpoint = NULL, workload_uid = NULL, was_spare = FALSE
FROM owner
WHERE i.simulator_id = $1 AND i.session_id = owner.session_id
  AND i.status = 'STARTING' AND i.target = 'RUNNING' AND i.was_spare
RETURNING i.*;

-- name: simulators.running
WITH owner AS (
    SELECT session_id FROM session.ownership WHERE session_id = $2 AND pod_id = $3 AND epoch = $4 FOR SHARE
)
UPDATE simulator.instances i SET status = 'RUNNING', reason = NULL, endpoint = $5, last_active = now()
FROM owner
WHERE i.simulator_id = $1 AND i.session_id = owner.session_id AND i.status = 'STARTING' AND i.target = 'RUNNING'
RETURNING i.*;

-- name: simulators.stopped
WITH owner AS (
    SELECT session_id FROM session.ownership WHERE session_id = $2 AND pod_id = $3 AND epoch = $4 FOR SHARE
)
UPDATE simulator.instances i SET status = 'STOPPED', endpoint = NULL
FROM owner
WHERE i.simulator_id = $1 AND i.session_id = owner.session_id AND i.status = 'STOPPING'
RETURNING i.*;

-- name: simulators.fail
-- $1 simulator, $2 reason, $3 session, $4 pod, $5 epoch.
SELECT simulator.fail($1, $2, $3, $4, $5);

-- name: simulators.unsettled_of_pod
-- What this pod's reconciler has to look at: all it owns but rows at their end, those that run, and those in the start
-- queue, which are woken when they get their slot. idx_simulator_status.
SELECT i.simulator_id FROM simulator.instances i JOIN session.ownership o USING (session_id)
WHERE i.status IN ('CREATING', 'STARTING', 'STOPPING') AND o.pod_id = $1
  AND NOT (i.status = 'CREATING' AND i.queued_at IS NOT NULL AND i.admitted_at IS NULL);

-- name: simulators.live_of_sessions
-- What has to be looked at when sessions change hands.
SELECT simulator_id FROM simulator.instances
WHERE session_id = ANY ($1::text[]) AND status IN ('CREATING', 'STARTING', 'RUNNING', 'STOPPING');

-- name: simulators.running_of_pod
-- Running simulators of the sessions that this pod owns or has sockets of. idx_ownership_pod_id, idx_sockets_pod_id.
SELECT i.*, o.pod_id AS owner_pod_id, o.epoch AS owner_epoch
FROM (SELECT session_id FROM session.ownership WHERE pod_id = $1
      UNION SELECT session_id FROM session.sockets WHERE pod_id = $1) mine
JOIN simulator.instances i USING (session_id) JOIN session.ownership o USING (session_id)
WHERE i.status = 'RUNNING';

-- name: simulators.stop_inactive
-- No call of a user and no socket for the timeout, as far as the pods have written it. Their workloads follow through the
-- reconciler.
UPDATE simulator.instances SET status = 'STOPPING', target = 'STOPPED', reason = 'inactive'
WHERE simulator_id IN (
    SELECT i.simulator_id FROM simulator.instances i
    WHERE i.status IN ('CREATING', 'STARTING', 'RUNNING')
      AND i.last_active < (SELECT session.activity_written_until()) - make_interval(secs => $1)
      AND NOT EXISTS (SELECT 1 FROM session.sockets k WHERE k.session_id = i.session_id)
      AND NOT session.has_unwritten_activity(i.session_id)
    ORDER BY i.simulator_id LIMIT 100 FOR UPDATE SKIP LOCKED)
RETURNING *;

-- name: simulators.stop_of_pod
-- A pod goes, and by policy the simulators of what it owns go with it.
UPDATE simulator.instances SET status = 'STOPPING', target = 'STOPPED', reason = $2
WHERE simulator_id IN (
    SELECT i.simulator_id FROM simulator.instances i JOIN session.ownership o USING (session_id)
    WHERE o.pod_id = $1 AND i.status IN ('CREATING', 'STARTING', 'RUNNING')
    ORDER BY i.simulator_id FOR UPDATE OF i)
RETURNING *;

-- name: simulators.stop_as_last
SELECT (s.stopping).*, s.changed FROM session.stop_as_last($1, $2) s;

-- name: simulators.prune
-- Rows at their end are kept for a while, for whoever asks what became of theirs; an ERROR row stays as long as
-- its workload is in the teardowns.
DELETE FROM simulator.instances WHERE simulator_id IN (
    SELECT i.simulator_id FROM simulator.instances i
    WHERE i.status IN ('STOPPED', 'ERROR') AND i.last_active < now() - make_interval(secs => $1)
      AND EXISTS (SELECT 1 FROM simulator.instances n
                  WHERE n.session_id = i.session_id AND n.created_at > i.created_at)
      AND NOT EXISTS (SELECT 1 FROM simulator.teardowns t WHERE t.simulator_id = i.simulator_id)
    ORDER BY i.simulator_id LIMIT 1000 FOR UPDATE SKIP LOCKED);

-- name: simulators.count_running_of_pod
-- Of the sessions that this pod owns: the sum over all pods is the number of running simulators. idx_ownership_pod_id.
SELECT count(*) FROM session.ownership o JOIN simulator.instances i USING (session_id)
WHERE o.pod_id = $1 AND i.status = 'RUNNING';

-- name: teardowns.lease
-- Leased, not locked, during the call: a pod that dies in the middle holds nothing for longer than the lease.
UPDATE simulator.teardowns SET leased_until = now() + make_interval(secs => $2), attempts = attempts + 1
WHERE simulator_id IN (
    SELECT simulator_id FROM simulator.teardowns WHERE leased_until < now()
    ORDER BY requested_at LIMIT $1 FOR UPDATE SKIP LOCKED)
RETURNING *, create_until > clock_timestamp() AS create_is_open;

-- name: teardowns.await_create
-- Nothing is there, but a create that was sent may still take effect: it is looked for again when none can any more.
UPDATE simulator.teardowns SET leased_until = create_until WHERE simulator_id = $1 AND attempts = $2;

-- name: teardowns.done
-- True: the simulator's row is gone as well, so nobody else will tell of its end. Nothing happens where it was leased or
-- asked for again meanwhile: then there may be more to remove than this lease found.
DELETE FROM simulator.teardowns t WHERE t.simulator_id = $1 AND t.attempts = $2
RETURNING NOT EXISTS (SELECT 1 FROM simulator.instances i WHERE i.simulator_id = t.simulator_id);

-- name: teardowns.request
-- A workload came to be although nobody wants it any more: its row went, reached its end, or is on its way there with
-- another pod, which may have found nothing yet to remove.
INSERT INTO simulator.teardowns AS t (simulator_id, session_id, endpoint, workload_uid)
SELECT $1, $2, $3, $4
WHERE NOT EXISTS (SELECT 1 FROM simulator.instances i WHERE i.simulator_id = $1 AND i.target = 'RUNNING')
  AND NOT EXISTS (SELECT 1 FROM simulator.warm_pool w WHERE w.simulator_id = $1)
ON CONFLICT (simulator_id) DO UPDATE
SET endpoint = EXCLUDED.endpoint, workload_uid = EXCLUDED.workload_uid, leased_until = '-infinity',
    attempts = t.attempts + 1
RETURNING TRUE;

-- name: teardowns.count
SELECT count(*) FROM simulator.teardowns;

-- name: installation.get
SELECT database_id::text, simulator_key FROM session.installation;
