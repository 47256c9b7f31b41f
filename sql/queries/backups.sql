-- name: backups.tables
-- Tables whose rows pg_dump writes: not unlogged ones, nor those of extensions. rows_may_be_hidden: row-level security
-- holds for whoever asks, and no policy says that it sees all. pg_dump would refuse, or leave out what it does not see.
SELECT format('%I.%I', n.nspname, c.relname) AS name,
       row_security_active(c.oid) AND (
           NOT EXISTS (SELECT FROM pg_policy p
                       WHERE p.polrelid = c.oid AND p.polpermissive AND p.polcmd IN ('*', 'r')
                         AND pg_get_expr(p.polqual, c.oid) = 'true'
                         AND EXISTS (SELECT FROM unnest(p.polroles) AS named (role)
                                     WHERE named.role = 0 OR pg_has_role(named.role, 'USAGE')))
           OR EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND NOT p.polpermissive)
       ) AS rows_may_be_hidden
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence = 'p'
  AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
  AND NOT EXISTS (SELECT FROM pg_depend d
                  WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY 1;

-- name: backups.roles
-- Who is named in an archive of this database: in rights, policies, and as an owner. PostgreSQL keeps no list of what
-- names the server's first superuser.
SELECT r.rolname::text AS role FROM pg_roles r
WHERE r.rolname !~ '^pg_' AND (
    r.oid = 10
    OR r.oid IN (SELECT unnest(p.polroles) FROM pg_policy p)
    OR r.oid IN (SELECT d.refobjid FROM pg_shdepend d
                 WHERE d.refclassid = 'pg_authid'::regclass
                   AND d.dbid = (SELECT b.oid FROM pg_database b WHERE b.datname = current_database())))
ORDER BY 1;

-- name: backups.identity
SELECT i.database_id::text AS database_id, now()::text AS now,
       (SELECT max(m.version) FROM public.session_service_migrations m) AS schema_version
FROM session.installation i;

-- name: backups.first_object
-- Something that is not there in a database that was just created; null: it is empty. What belongs to an extension came
-- with its template.
SELECT min(o.name) FROM (
    SELECT 'schema ' || n.nspname AS name, 'pg_namespace'::regclass AS class, n.oid AS object FROM pg_namespace n
    WHERE n.nspname NOT IN ('public', 'information_schema') AND n.nspname !~ '^pg_'
    UNION ALL
    SELECT 'relation public.' || c.relname, 'pg_class'::regclass, c.oid FROM pg_class c
    WHERE c.relnamespace = 'public'::regnamespace
    UNION ALL
    SELECT 'type public.' || t.typname, 'pg_type'::regclass, t.oid FROM pg_type t
    WHERE t.typnamespace = 'public'::regnamespace
    UNION ALL
    SELECT 'function public.' || p.proname, 'pg_proc'::regclass, p.oid FROM pg_proc p
    WHERE p.pronamespace = 'public'::regnamespace
    UNION ALL
    SELECT 'large object ' || l.oid, 'pg_largeobject'::regclass, l.oid FROM pg_largeobject_metadata l
) o
WHERE NOT EXISTS (SELECT FROM pg_depend d
                  WHERE d.classid = o.class AND d.objid = o.object AND d.deptype = 'e');

-- name: backups.others_connected
SELECT count(*) FROM pg_stat_activity a
WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.backend_type = 'client backend';

-- name: backups.end_what_was_running
-- No pod of the backup lives, and none owns anything. Epochs stay: whoever finds a simulator that still runs and has seen
-- a higher one, claimed after the backup, goes above it (ownership.outrank).
WITH pods AS (
    DELETE FROM session.pods
), sweeper AS (
    UPDATE session.sweeper SET pod_id = NULL, held_until = '-infinity'
)
UPDATE session.ownership SET pod_id = NULL;

-- name: backups.end_connections
-- Sockets are not in a backup: sessions that had some have lost them now.
WITH connected AS (
    SELECT m.session_id FROM session.session_metadata m
    WHERE (m.metadata ->> 'frontend_connections')::integer > 0 OR (m.metadata ->> 'sse_connections')::integer > 0
), lost AS (
    UPDATE session.active_sessions a SET status = 'RECONNECTING', disconnected_at = clock_timestamp()
    FROM connected c WHERE a.session_id = c.session_id AND a.status = 'ACTIVE'
)
SELECT count(session.put_presence(c.session_id, '{}'::jsonb)) FROM connected c;

-- name: backups.doubt_cache
-- Redis may have what was written after the backup: nobody believes it before it was compared from the beginning.
UPDATE session.named_session_cache SET doubted = greatest(doubted, cleared) + 1, settled = '3:3:';

-- name: backups.renumber_users
-- Transactions are counted by the server. Of another server's, whose count was further, nothing would look settled here;
-- so those in the future are of this one. The same holds for the next three.
UPDATE session.named_session_users SET changed_in = pg_current_xact_id() WHERE changed_in > pg_current_xact_id();

-- name: backups.renumber_simulators
UPDATE simulator.instances SET changed_in = pg_current_xact_id()::text::bigint
WHERE changed_in > pg_current_xact_id()::text::bigint;

-- name: backups.renumber_removals
UPDATE sandbox.removals SET changed_in = pg_current_xact_id()::text::bigint
WHERE changed_in > pg_current_xact_id()::text::bigint;

-- name: backups.renumber_sandbox_sessions
-- With the table's triggers off, one of which would set updated_at.
UPDATE public.session SET changed_in = pg_current_xact_id()::text::bigint
WHERE changed_in > pg_current_xact_id()::text::bigint;

-- name: backups.new_identity
-- Of a copy: its own id and key, so that it neither sees nor can speak to what belongs to the original.
UPDATE session.installation
SET database_id = gen_random_uuid(), simulator_key = gen_random_uuid()::text || gen_random_uuid()::text;

-- name: backups.end_simulators
-- The workloads are the original's.
UPDATE simulator.instances
SET status = 'STOPPED', target = 'STOPPED', reason = 'restored as a copy', endpoint = NULL, workload_uid = NULL,
    create_until = '-infinity'
WHERE status <> 'STOPPED';

-- name: backups.forget_spares
DELETE FROM simulator.warm_pool;

-- name: backups.forget_workloads
-- After the spares, whose end leaves word here.
WITH orphans AS (DELETE FROM simulator.held_orphans) DELETE FROM simulator.teardowns;
