-- name: orphans.known
-- Which of these simulators somebody will see to: by their rows, as spares, or by a teardown. A null uid: whatever stands
-- there.
SELECT simulator_id, CASE WHEN target = 'STOPPED' THEN workload_uid END AS workload_uid FROM simulator.instances
WHERE simulator_id = ANY ($1::text[]) AND status NOT IN ('STOPPED', 'ERROR')
UNION ALL
SELECT simulator_id, NULL FROM simulator.warm_pool WHERE simulator_id = ANY ($1::text[])
UNION ALL
SELECT simulator_id, workload_uid FROM simulator.teardowns WHERE simulator_id = ANY ($1::text[]);

-- name: orphans.hold
SELECT * FROM simulator.hold_orphans($1, $2, $3, $4);

-- name: orphans.count_held
SELECT count(*) FROM simulator.held_orphans WHERE confirmed_at IS NULL;
