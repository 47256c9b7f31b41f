-- name: spares.trim
-- What is of another recipe than $1, or more than $2 of it; those that are ready stay longest. Their workloads go to the
-- teardowns. One that is being taken at this moment is left out.
DELETE FROM simulator.warm_pool WHERE simulator_id IN (
    SELECT w.simulator_id FROM simulator.warm_pool w
    WHERE w.simulator_id NOT IN (
        SELECT k.simulator_id FROM simulator.warm_pool k WHERE k.recipe = $1
        ORDER BY (k.status = 'READY') DESC, k.created_at, k.simulator_id LIMIT $2)
    FOR UPDATE SKIP LOCKED)
RETURNING simulator_id;

-- name: spares.all
SELECT simulator_id, status, workload_uid, create_until > clock_timestamp() AS create_is_open,
       extract(epoch FROM clock_timestamp() - created_at)::float8 AS age_s
FROM simulator.warm_pool ORDER BY created_at, simulator_id;

-- name: spares.reserve
SELECT r.simulator_id, r.create_until, n.database_id::text AS database_id
FROM simulator.reserve_spares($1, $2, $3, $4, $5, $6, $7) r, session.installation n;

-- name: spares.recorded
-- The workload is there; with an endpoint ($3) it can be taken. Without one it may have been seen to be ready since. $4: the
-- create_until of the create that was answered by this workload, where no other one is under way.
UPDATE simulator.warm_pool
SET workload_uid = $2, endpoint = coalesce($3, endpoint),
    status = CASE WHEN $3::text IS NULL THEN status ELSE 'READY' END,
    create_until = CASE WHEN create_until = $4 THEN '-infinity' ELSE create_until END
WHERE simulator_id = $1 AND (status = 'CREATING' OR workload_uid = $2)
RETURNING TRUE;

-- name: spares.remove
-- As it was seen: one that is taken, or has become ready meanwhile, is left alone.
DELETE FROM simulator.warm_pool WHERE simulator_id = $1 AND status = $2 RETURNING TRUE;

-- name: spares.count
SELECT status, count(*) FROM simulator.warm_pool GROUP BY status;
