"""Every hot query finds its rows by an index, on tables that are large enough for it to matter."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from session_service.database.sql_files import load_queries
from tests.support.servers import Database
from tests.support.sql import Sql

# 20,000 sessions of 5,000 users; each of 100 pods owns 200 of them. One pod has all the sockets.
FILL = """
    INSERT INTO session.pods (pod_id, pod_name, version, dead)
    SELECT 'pod#' || n, 'pod', '1', n = 100 FROM generate_series(1, 100) n;
    INSERT INTO session.active_sessions (session_id, user_id, device_id, status, expires_at, disconnected_at)
    SELECT 's' || n, 'u' || n / 4, 'd' || n % 4,
           CASE n % 100 WHEN 0 THEN 'RECONNECTING' WHEN 1 THEN 'EXPIRED' WHEN 2 THEN 'INACTIVE' ELSE 'ACTIVE' END,
           now() + make_interval(secs => CASE n % 100 WHEN 1 THEN -10 ELSE n END),
           CASE WHEN n % 100 = 0 THEN now() - make_interval(secs => n % 240) END
    FROM generate_series(1, 20000) n;
    INSERT INTO session.session_metadata (session_id, metadata)
    SELECT session_id, jsonb_build_object('pod_name', 'pod', 'user_agent', repeat('a', 300))
    FROM session.active_sessions;
    INSERT INTO session.sockets (session_id, client_id, pod_id, attempt, kind)
    SELECT 's' || n, 'c' || n, 'pod#1', 1, 'websocket' FROM generate_series(1, 20000) n WHERE n % 2 = 0;
    INSERT INTO session.superseded (session_id, client_id, attempt, arrival)
    SELECT session_id, client_id, 0, 0 FROM session.sockets;
    UPDATE session.ownership SET pod_id = 'pod#' || 1 + substr(session_id, 2)::int % 100, epoch = 1;
    INSERT INTO simulator.instances (simulator_id, session_id, user_id, status, target, last_active)
    SELECT 'i' || n, 's' || n, 'u' || n / 4, CASE WHEN n % 1000 = 0 THEN 'STOPPING' ELSE 'STOPPED' END, 'STOPPED',
           now() - make_interval(secs => n)
    FROM generate_series(1, 20000) n;
    UPDATE simulator.instances SET status = 'RUNNING', target = 'RUNNING' WHERE simulator_id LIKE 'i%7';
    INSERT INTO simulator.teardowns (simulator_id, session_id, leased_until)
    SELECT 't' || n, 's' || n, now() + make_interval(secs => n - 10) FROM generate_series(1, 20000) n;
    INSERT INTO simulator.warm_pool (simulator_id, status, recipe, workload_uid, endpoint, create_until)
    SELECT 'spare' || n, CASE WHEN n % 10 = 0 THEN 'CREATING' ELSE 'READY' END, 'recipe', 'uid', 'host:1', '-infinity'
    FROM generate_series(1, 1000) n;
    INSERT INTO public.sessions (user_id, title, active)
    SELECT n / 4, 'title ' || n, n % 4 = 0 FROM generate_series(4, 20003) n;
    INSERT INTO public.session (inbox_status, messages)
    SELECT (ARRAY['pending', 'processing', 'completed', 'failed'])[1 + n % 4]::inbox_status, '[]'
    FROM generate_series(1, 20000) n;
    INSERT INTO sandbox.removals (id) SELECT gen_random_uuid() FROM generate_series(1, 20000) n;
    ANALYZE;
"""
MANY = [f"s{number}" for number in range(1, 21)]  # for a thousand of 20,000 a whole read would be right
UUID_77 = "00000000-0000-4000-8000-000000000077"
# Queries that a request or a frequent round makes, with parameters.
HOT: dict[str, tuple[Any, ...]] = {
    "sessions.find_by_device": ("u7", "d1"),
    "sessions.get": ("s77", "u19"),
    "sessions.get_many": (MANY, [None for _ in MANY]),
    "sessions.find_many_by_device": (["u7" for _ in MANY], ["d1" for _ in MANY]),
    "sessions.list": ("u7",),
    "sessions.keepalive": ("s77", "u19", 60.0),
    "sessions.ids_of_user": ("u7", None),
    "sessions.settle": (120.0,),
    "sessions.merge_metadata": (MANY, ['{"a": 1}'] * len(MANY)),
    "ownership.get": ("s77",),
    "ownership.outrank": ("s77", "pod#78", 1),
    "ownership.heartbeats_sent": ("pod#7", MANY, [1] * len(MANY), [1] * len(MANY)),
    "ownership.pod_terminating": ("pod#7", "", '{"a": 1}', 1000),
    "simulators.get": ("i77", "u19"),
    "simulators.of_session": ("s77", "u19"),
    "simulators.request_stop": ("i77", "why"),
    "simulators.predecessor_remains": ("s77", "i78"),
    "simulators.owned": ("i77",),
    "simulators.workload_created": ("i77", "s77", "pod#78", 1, "uid", "host:1", None),
    "simulators.waiting": ("i77", "s77", "pod#78", 1, "why"),
    "simulators.spare_is_lost": ("i77", "s77", "pod#78", 1),
    "simulators.running": ("i77", "s77", "pod#78", 1, "host:1"),
    "simulators.stopped": ("i77", "s77", "pod#78", 1),
    "simulators.unsettled_of_pod": ("pod#7",),
    "simulators.live_of_sessions": (MANY,),
    "simulators.running_of_pod": ("pod#7",),
    "simulators.count_running_of_pod": ("pod#7",),
    "simulators.stop_of_pod": ("pod#7", "why"),
    "sockets.reinstate": ("s77", "tab"),
    "sockets.simulators_changed": ("pod#1", 2**62),  # a round in which nothing changed
    "teardowns.lease": (32, 30.0),
    "teardowns.done": ("t77", 1),
    "teardowns.await_create": ("t77", 1),
    "orphans.known": ([f"i{number}" for number in range(1, 21)],),
    "teardowns.request": ("i77", "s77", "host:1", "uid"),
    "start_queue.count": ("pod#1",),
    "pods.beat": ("pod#1",),
    "named_sessions.list": (7,),
    "named_sessions.active": (list(range(1, 129)),),
    "named_sessions.changed": (2**62, 0, f"3:{2**62 + 3}:", 2000),  # a round in which nothing changed
    "named_sessions.changed_in": (0, 0, f"3:{2**62 + 3}:", 2000, [str(2**62)]),
    "sandbox_changes.between": (2**62, [2**62 - 1], 2**62 + 3, f"3:{2**62 + 3}:", 10_001),  # nothing changed
    "sandbox_sessions.get": (UUID_77,),
    "sandbox_sessions.change": (UUID_77, True, "[]", False, None, False, None, False, None),
    "sandbox_sessions.release": (UUID_77, UUID_77),
    "spares.recorded": ("spare7", "uid", "host:1", None),
    "spares.remove": ("spare7", "READY"),
}
# Those that call a function: their statements are inside it, where a plan is not shown; see INSIDE.
FUNCTIONS = {
    "sandbox_sessions.create",
    "sandbox_sessions.page",
    "sandbox_sessions.children",
    "sandbox_sessions.delete",
    "sandbox_sessions.append",
    "sandbox_sessions.claim",
    "sandbox_sessions.extend",
    "sandbox_sessions.complete",
    "sandbox_sessions.fail",
    "named_sessions.create",
    "named_sessions.activate",
    "named_sessions.delete",
    "sandbox_upkeep.guard",
    "sandbox_upkeep.delete_completed",
    "sessions.open",
    "sessions.end",
    "sessions.expire",
    "sessions.cleanup",
    "sessions.reconnected",
    "simulators.request_start",
    "simulators.fail",
    "simulators.create_answered",
    "start_queue.begin_create",
    "start_queue.admit",
    "start_queue.of_pod",
    "start_queue.place",
    "orphans.hold",
    "spares.reserve",
    "sockets.open",
    "sockets.open_many",
    "sockets.close",
    "sockets.close_many",
    "sockets.assert_own",
    "sockets.evict",
    "sockets.hear",
    "sessions.flush_activity",
    "ownership.claim",
    "ownership.adopt",
    "simulators.stop_as_last",
    "pods.bury_sockets",
    "pods.register",
    "pods.start_draining",
    "pods.leave",
}
# Read or written whole by their nature, or once in a pod's life.
WHOLE = {
    "named_sessions.look",  # one row each
    "sandbox_changes.look",
    "sandbox_upkeep.count",  # up to 10,000 index entries of each status, by one pod
    "sandbox_upkeep.sample",  # up to 1,000 pages
    "sandbox_upkeep.measure",  # sizes, connections
    "sandbox_upkeep.connections",
    "named_sessions.doubt",
    "named_sessions.settle",
    "named_session_order.is_in_order",  # once in a table's life, over all of it
    "named_session_order.longest_title",
    "named_session_order.lock",
    "named_session_order.find_surplus",
    "named_session_order.list_titles",
    "named_session_order.make_room_for_titles",
    "named_session_order.find_changes",
    "named_session_order.keep_updated_at",
    "named_session_order.apply",
    "named_session_order.touch_again",
    "named_session_order.count_others",
    "named_session_order.constrain",
    "named_session_order.report",
    "named_session_order.count",
    "sockets.strays",  # a pod's own rows, all of them
    "sockets.tally",  # the same
    "simulators.stop_inactive",
    "simulators.prune",
    "teardowns.count",
    "orphans.count_held",  # none, but after an accident
    "installation.get",
    "sessions.count_of_pod",  # a gauge over all that a pod owns
    "ownership.release",  # up to a thousand at a time, while a pod drains
    "pods.all",  # few rows each
    "pods.loads",  # for people: counts over all pods of a local run
    "backups.tables",  # once a backup, or a restore
    "backups.roles",
    "backups.identity",
    "backups.first_object",
    "backups.others_connected",
    "backups.end_what_was_running",
    "backups.end_connections",
    "backups.doubt_cache",
    "backups.renumber_users",
    "backups.renumber_simulators",
    "backups.renumber_removals",
    "backups.renumber_sandbox_sessions",
    "backups.new_identity",
    "backups.end_simulators",
    "backups.forget_spares",
    "backups.forget_workloads",
    "pods.declare_dead",
    "pods.declare_predecessors_dead",
    "pods.purge",
    "sweeper.hold",
    "spares.trim",  # as many rows as there are spares
    "spares.all",
    "spares.count",
}
# What the functions do, as they do it.
INSIDE = {
    "expire": (
        "SELECT session_id FROM session.active_sessions WHERE status <> 'EXPIRED' AND expires_at <= now()"
        " ORDER BY session_id LIMIT 1000 FOR UPDATE SKIP LOCKED"
    ),
    "flush": (
        "SELECT s.session_id FROM session.active_sessions s"
        " JOIN unnest(ARRAY['s77', 's78'], ARRAY[1.0, 1.0]) t (session_id, since_s) USING (session_id)"
        " WHERE s.status <> 'EXPIRED' AND s.expires_at > now() - make_interval(secs => t.since_s)"
        " ORDER BY s.session_id FOR UPDATE OF s"
    ),
    "cleanup, marked": (
        "SELECT session_id FROM session.active_sessions WHERE expires_at < now() AND status = 'EXPIRED'"
        " ORDER BY session_id LIMIT 1000 FOR UPDATE"
    ),
    "cleanup": "DELETE FROM session.active_sessions WHERE expires_at < now()",
    "end": "DELETE FROM session.active_sessions WHERE session_id = 's77'",
    "end, simulators": "SELECT status FROM simulator.instances WHERE session_id = 's77' FOR UPDATE",
    "open, count": "SELECT count(*) FROM session.active_sessions WHERE user_id = 'u7' AND status <> 'EXPIRED'",
    "hear": (
        "UPDATE session.sockets k SET heard_at = clock_timestamp() - make_interval(secs => t.silent_s)"
        " FROM unnest('{s77}'::text[], '{1}'::bigint[], '{1}'::float8[]) AS t (session_id, arrival, silent_s)"
        " WHERE k.session_id = t.session_id AND k.arrival = t.arrival"
    ),
    "connections": (
        "SELECT count(*) FROM session.sockets k JOIN session.pods p USING (pod_id)"
        " WHERE k.session_id = 's77' AND NOT k.evicted AND NOT p.draining AND NOT p.dead"
    ),
    "assert, amiss": (
        "SELECT 1 FROM unnest('{s77}'::text[], '{c77}'::text[], '{1}'::bigint[]) t (session_id, client_id, arrival)"
        " LEFT JOIN session.sockets k USING (session_id, client_id) WHERE k.arrival IS NULL AND NOT EXISTS ("
        " SELECT 1 FROM session.superseded s WHERE s.session_id = t.session_id AND s.client_id = t.client_id"
        " AND (s.attempt, s.arrival) >= (0, t.arrival))"
    ),
    "claim, lock": "SELECT 1 FROM session.ownership WHERE session_id = ANY (ARRAY['s77', 's78']) FOR UPDATE",
    "adopt, none dead": "SELECT 1 FROM session.ownership WHERE pod_id IS NULL OR pod_id = ANY (ARRAY[]::text[])",
    "leave": "SELECT 1 FROM session.ownership WHERE pod_id = 'pod#7' ORDER BY session_id FOR UPDATE",
    "create answered, teardown": (
        "UPDATE simulator.teardowns SET create_until = '-infinity'"
        " WHERE simulator_id = 't77' AND create_until = now()"
    ),
    "title": (
        "SELECT id, active FROM public.sessions"
        " WHERE user_id = 7 AND session.title_digest(title) = session.title_digest('title 28')"
    ),
    "deactivate": "UPDATE public.sessions SET active = FALSE WHERE user_id = 7 AND active",
    "start queue, who waits": (
        "SELECT row_number() OVER (PARTITION BY i.user_id ORDER BY i.created_at, i.simulator_id)"
        " FROM simulator.instances i"
        " WHERE i.status = 'CREATING' AND i.queued_at IS NOT NULL AND i.admitted_at IS NULL"
    ),
    "start queue, served": "SELECT max(i.admitted_at) FROM simulator.instances i WHERE i.user_id = 'u7'",
    "start queue, held": (
        "SELECT i.user_id, count(*) FROM simulator.instances i"
        " WHERE i.status IN ('CREATING', 'STARTING') AND i.admitted_at > clock_timestamp() - interval '30 s'"
        " GROUP BY i.user_id"
    ),
    "sandbox page": "SELECT s.* FROM public.session s WHERE TRUE ORDER BY s.created_at, s.id LIMIT 51",
    "sandbox page, after": (
        "SELECT s.* FROM public.session s WHERE TRUE"
        " AND (s.created_at, s.id) > ('2026-01-01', '00000000-0000-4000-8000-000000000077')"
        " ORDER BY s.created_at, s.id LIMIT 51"
    ),
    "sandbox page, status": (
        "SELECT s.* FROM public.session s WHERE TRUE AND s.inbox_status = 'failed'"
        " AND (s.created_at, s.id) > ('2026-01-01', '00000000-0000-4000-8000-000000000077')"
        " ORDER BY s.created_at, s.id LIMIT 51"
    ),
    "sandbox page, parent": (
        "SELECT s.* FROM public.session s WHERE TRUE AND s.parent = '00000000-0000-4000-8000-000000000077'"
        " AND (s.created_at, s.id) > ('2026-01-01', '00000000-0000-4000-8000-000000000077')"
        " ORDER BY s.created_at, s.id LIMIT 51"
    ),
    "sandbox page, both": (
        "SELECT s.* FROM public.session s WHERE TRUE AND s.inbox_status = 'failed'"
        " AND s.parent = '00000000-0000-4000-8000-000000000077' ORDER BY s.created_at, s.id LIMIT 51"
    ),
    "presence": "SELECT count(*) FROM session.sockets k WHERE k.session_id = 's77'",
    "start, spare": (
        "SELECT w.* FROM simulator.warm_pool w WHERE w.status = 'READY' AND w.recipe = 'recipe'"
        " AND NOT EXISTS (SELECT 1 FROM simulator.instances p WHERE p.session_id = 's77' AND p.status = 'STOPPING')"
        " AND NOT EXISTS (SELECT 1 FROM simulator.teardowns t WHERE t.session_id = 's77')"
        " ORDER BY w.created_at LIMIT 1 FOR UPDATE SKIP LOCKED"
    ),
    "start, limit": (
        "SELECT count(*) FROM simulator.instances i JOIN session.active_sessions a USING (session_id)"
        " WHERE i.user_id = 'u7' AND i.target = 'RUNNING' AND a.status <> 'EXPIRED' AND a.expires_at > now()"
    ),
}


@pytest.fixture
async def large(database: Database) -> AsyncIterator[Sql]:
    connection = await asyncpg.connect(database.owner_dsn)
    await connection.execute(FILL)
    yield connection
    await connection.close()


def scans(plan: dict[str, Any]) -> list[str]:
    """Tables that the plan reads whole."""
    found = [f"{plan['Relation Name']}"] if plan["Node Type"] == "Seq Scan" else []
    return found + [name for child in plan.get("Plans", ()) for name in scans(child)]


async def whole_reads(connection: Sql, statement: str, parameters: tuple[Any, ...]) -> list[str]:
    explained = await connection.fetchval(f"EXPLAIN (FORMAT JSON) {statement}", *parameters)
    return scans(json.loads(explained)[0]["Plan"])


async def test_no_hot_query_reads_a_table_whole(large: Sql) -> None:
    queries = load_queries()
    assert set(queries) == set(HOT) | FUNCTIONS | WHOLE, "a query is missing above (is it hot?), or is no more"
    found = {name: await whole_reads(large, queries[name], parameters) for name, parameters in HOT.items()}
    found |= {name: await whole_reads(large, statement, ()) for name, statement in INSIDE.items()}
    # Each of these is one page: PostgreSQL reads it whole, and is right.
    small = {"pods", "installation"}
    found = {name: [table for table in tables if table not in small] for name, tables in found.items()}
    assert {name: tables for name, tables in found.items() if tables} == {}


async def test_the_test_can_fail(large: Sql) -> None:
    assert await whole_reads(large, "SELECT * FROM session.active_sessions WHERE device_id = 'd1'", ()) == [
        "active_sessions"
    ]
