-- name: ownership.claim
-- See session.claim: what sockets and starts of simulators ask for, a batch per call.
SELECT claimed_session_id, claimed_epoch, cause, previous_pod_id FROM session.claim($1, $2);

-- name: ownership.adopt
SELECT claimed_session_id, claimed_epoch, cause, previous_pod_id FROM session.adopt($1, $2);

-- name: ownership.get
SELECT session_id, pod_id, epoch FROM session.ownership WHERE session_id = $1;

-- name: ownership.outrank
-- A simulator has seen a higher epoch than the row has: PostgreSQL has forgotten a claim. Only the owner by the row may
-- go above it; one that has done so already is answered by what it has.
UPDATE session.ownership SET epoch = CASE WHEN epoch <= $3 THEN $3 + 1 ELSE epoch END
WHERE session_id = $1 AND pod_id = $2
RETURNING epoch;

-- name: ownership.release
-- While a pod drains: what has no socket here any more is free for the others. In order, as claims lock.
WITH idle AS (
    SELECT o.session_id FROM session.ownership o
    WHERE o.pod_id = $1
      AND NOT EXISTS (SELECT 1 FROM session.sockets k WHERE k.session_id = o.session_id AND k.pod_id = $1)
    ORDER BY o.session_id
    LIMIT $2
    FOR UPDATE OF o
)
UPDATE session.ownership o SET pod_id = NULL FROM idle WHERE o.session_id = idle.session_id
RETURNING o.session_id;

-- name: ownership.heartbeats_sent
-- An owner's write: the rows are locked before anything is written, so that a claim in between is seen. Returns the
-- sessions that are still this pod's. $2 sessions, $3 their epochs, $4 Unix seconds.
WITH owned AS (
    SELECT o.session_id, t.at
    FROM unnest($2::text[], $3::bigint[], $4::bigint[]) AS t (session_id, epoch, at)
    JOIN session.ownership o ON o.session_id = t.session_id AND o.pod_id = $1 AND o.epoch = t.epoch
    ORDER BY o.session_id
    FOR SHARE OF o
), locked AS (
    SELECT m.session_id, owned.at FROM session.session_metadata m JOIN owned USING (session_id)
    ORDER BY m.session_id
    FOR UPDATE OF m
)
UPDATE session.session_metadata m
SET metadata = m.metadata || jsonb_build_object('last_simulator_heartbeat_sent', locked.at)
FROM locked WHERE m.session_id = locked.session_id
RETURNING m.session_id;

-- name: ownership.pod_terminating
-- What this pod owns or has sockets of, marked for whoever reads the metadata. $2: after this session; $4: at most.
WITH mine AS (
    SELECT m.session_id FROM session.session_metadata m
    WHERE m.session_id > $2 AND m.session_id IN (
        SELECT session_id FROM session.ownership WHERE pod_id = $1
        UNION SELECT session_id FROM session.sockets WHERE pod_id = $1)
    ORDER BY m.session_id
    LIMIT $4
    FOR UPDATE OF m
)
UPDATE session.session_metadata m SET metadata = m.metadata || $3
FROM mine WHERE m.session_id = mine.session_id
RETURNING m.session_id;
