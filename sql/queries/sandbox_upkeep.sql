-- name: sandbox_upkeep.guard
SELECT ended, put_back FROM sandbox.guard(make_interval(secs => $1));

-- name: sandbox_upkeep.delete_completed
-- A batch, small enough for a statement's time also where each row has its 1 MiB.
SELECT sandbox.delete_completed(make_interval(days => $1), $2);

-- name: sandbox_upkeep.count
-- How many there are of each status, $1 at most. Not sandbox.status_counts, which reads a whole index; and a range in the
-- index's order, since for = and LIMIT the table itself may be read, to its end where the last rows are the ones.
SELECT t.status::text AS status, (
    SELECT count(*) FROM (
        SELECT FROM public.session s WHERE s.inbox_status BETWEEN t.status AND t.status
        ORDER BY s.inbox_status LIMIT $1
    ) counted
) AS sessions
FROM unnest(enum_range(NULL::public.inbox_status)) t (status);

-- name: sandbox_upkeep.sample
-- The same in $1 percent of the table's pages, of sessions that are no work too.
SELECT coalesce(s.inbox_status::text, 'none') AS status, count(*) AS sessions
FROM public.session s TABLESAMPLE SYSTEM ($1) GROUP BY 1;

-- name: sandbox_upkeep.measure
SELECT d.bytes AS database_bytes, t.bytes AS table_bytes,
       pg_relation_size('public.session') / current_setting('block_size')::bigint AS pages, (SELECT count(*) FROM sandbox.slow_queries) AS slow_queries,
       coalesce(extract(epoch FROM p.age), 0)::float8 AS oldest_pending_s
FROM sandbox.database_size d, sandbox.table_size t, sandbox.oldest_pending p;

-- name: sandbox_upkeep.connections
-- By kind of role, since names are given by whoever makes roles: the service, the shared role, those of one sandbox each
-- (session_service/database/sandbox_roles.py), and all others.
SELECT CASE WHEN c.role_name = CURRENT_USER THEN 'service' WHEN c.role_name = 'sessionuser' THEN 'sessionuser'
            WHEN starts_with(c.role_name, 'sandbox_') THEN 'sandbox' ELSE 'other' END AS role,
       sum(c.connections)::bigint AS connections
FROM sandbox.connections c GROUP BY 1;
