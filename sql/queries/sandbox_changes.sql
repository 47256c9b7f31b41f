-- name: sandbox_changes.look
-- Where changes have come to. origin as in named_sessions.look, and with the database's own number: one that was restored
-- beside the original has its id, and other changes. Null on a standby, which may be behind.
SELECT pg_current_snapshot()::text AS snapshot, extract(epoch FROM clock_timestamp())::bigint AS at_s,
       CASE WHEN NOT pg_is_in_recovery() THEN
           concat_ws('-', s.system_identifier, left(pg_walfile_name(pg_current_wal_lsn()), 8), d.oid, i.database_id)
       END AS origin
FROM session.installation i, pg_control_system() s, pg_database d WHERE d.datname = current_database();

-- name: sandbox_changes.between
-- Changes that snapshot $4 sees and an earlier one does not: of transactions from $1, its xmax, to below $3, the xmax of
-- $4, and of those that were in progress then, $2. Of a row that has changed since $4 again that change is told later. Not
-- sandbox.changes_since, which reads again with each look what was changed since the oldest open transaction began. At
-- most $5 rows of each kind are read; who gets $5 or more does not know all.
SELECT c.id::text AS id, c.inbox_status, c.removed, c.changed_in FROM (
    (SELECT s.id, s.inbox_status::text AS inbox_status, FALSE AS removed, s.changed_in FROM public.session s
     WHERE s.changed_in >= $1 AND s.changed_in < $3
       AND pg_visible_in_snapshot(s.changed_in::text::xid8, $4::text::pg_snapshot)
     ORDER BY s.changed_in LIMIT $5)
    UNION ALL
    (SELECT s.id, s.inbox_status::text, FALSE, s.changed_in FROM public.session s
     WHERE s.changed_in = ANY ($2::bigint[])
       AND pg_visible_in_snapshot(s.changed_in::text::xid8, $4::text::pg_snapshot)
     LIMIT $5)
    UNION ALL
    (SELECT r.id, NULL, TRUE, r.changed_in FROM sandbox.removals r
     WHERE r.changed_in >= $1 AND r.changed_in < $3
       AND pg_visible_in_snapshot(r.changed_in::text::xid8, $4::text::pg_snapshot)
     ORDER BY r.changed_in LIMIT $5)
    UNION ALL
    (SELECT r.id, NULL, TRUE, r.changed_in FROM sandbox.removals r
     WHERE r.changed_in = ANY ($2::bigint[])
       AND pg_visible_in_snapshot(r.changed_in::text::xid8, $4::text::pg_snapshot)
     LIMIT $5)
) c ORDER BY c.changed_in, c.id LIMIT $5;
