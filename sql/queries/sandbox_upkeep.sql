-- name: sandbox_upkeep.guard
SELECT ended, put_back FROM sandbox.guard(make_interval(secs => $1));

-- name: sandbox_upkeep.delete_completed
-- A batch, small enough for a statement's time also where each row has its 1 MiB.
SELECT sandbox.delete_completed(make_interval(days => $1), $2);

-- name: sandbox_upkeep.count
-- How many there are of each status, at most $1 of each: not sandbox.status_counts, which reads the whole index. Where
-- inbox_status is null it is no work, and 'none' here.
SELECT t.status::text AS status, (
    SELECT count(*) FROM (SELECT FROM public.session s WHERE s.inbox_status = t.status LIMIT $1) counted
) AS sessions
FROM unnest(enum_range(NULL::public.inbox_status)) t (status)
UNION ALL
SELECT 'none', count(*) FROM (SELECT FROM public.session s WHERE s.inbox_status IS NULL LIMIT $1) counted;

-- name: sandbox_upkeep.measure
SELECT d.bytes AS database_bytes, t.bytes AS table_bytes, (SELECT count(*) FROM sandbox.slow_queries) AS slow_queries,
       coalesce(extract(epoch FROM p.age), 0)::float8 AS oldest_pending_s
FROM sandbox.database_size d, sandbox.table_size t, sandbox.oldest_pending p;

-- name: sandbox_upkeep.connections
-- By kind of role, since names are given by whoever makes roles: the service, the shared role, those of one sandbox each
-- (session_service/database/sandbox_roles.py), and all others.
SELECT CASE WHEN c.role_name = CURRENT_USER THEN 'service' WHEN c.role_name = 'sessionuser' THEN 'sessionuser'
            WHEN starts_with(c.role_name, 'sandbox_') THEN 'sandbox' ELSE 'other' END AS role,
       sum(c.connections)::bigint AS connections
FROM sandbox.connections c GROUP BY 1;
