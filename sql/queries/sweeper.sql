-- name: sweeper.hold
-- $1 pod, $2 the lease in seconds. Renews this pod's lease, or takes one that has run out or whose pod is dead, gone, or
-- about to go. A pod that drains holds it only where no other is left.
WITH able AS (
    SELECT p.pod_id FROM session.pods p
    WHERE NOT p.dead AND (NOT p.draining
        OR NOT EXISTS (SELECT 1 FROM session.pods other WHERE NOT other.dead AND NOT other.draining))
)
UPDATE session.sweeper s SET pod_id = $1, held_until = now() + make_interval(secs => $2)
WHERE $1 IN (SELECT able.pod_id FROM able)
  AND (s.pod_id = $1 OR s.held_until < now() OR s.pod_id IS NULL OR s.pod_id NOT IN (SELECT able.pod_id FROM able))
RETURNING TRUE;
