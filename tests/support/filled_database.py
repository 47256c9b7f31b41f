"""Rows in every table of a test's own database, and names in them that only quoting saves."""

from __future__ import annotations

from session_service.database import sandbox_roles
from tests.support.servers import Database
from tests.support.sql import Sql

VM = "vm_of_the_backup"  # whose role a test removes by `sandbox_roles.remove_role`

# A RUNNING simulator, one session with sockets and one without; a claim under way.
ROWS = """
    INSERT INTO session.pods (pod_id, pod_name, version) VALUES ('pod-1#1', 'pod-1', '1');
    UPDATE session.sweeper SET pod_id = 'pod-1#1', held_until = now() + interval '1 hour';
    INSERT INTO session.active_sessions (session_id, user_id, device_id, status, expires_at)
    VALUES ('s1', 'user-1', 'laptop', 'ACTIVE', now() + interval '1 hour'),
           ('s2', 'user-1', 'phone', 'ACTIVE', now() + interval '1 hour');
    INSERT INTO session.session_metadata (session_id, metadata)
    VALUES ('s1', '{"device_id": "laptop", "frontend_connections": 2, "sse_connections": 0}'),
           ('s2', '{"device_id": "phone", "frontend_connections": 0, "sse_connections": 0}');
    UPDATE session.ownership SET pod_id = 'pod-1#1', epoch = 7;
    INSERT INTO session.sockets (session_id, client_id, pod_id) VALUES ('s1', 'tab', 'pod-1#1');
    INSERT INTO session.superseded (session_id, client_id, attempt, arrival) VALUES ('s1', 'tab', 1, 1);
    INSERT INTO simulator.instances (simulator_id, session_id, user_id, status, endpoint, workload_uid)
    VALUES ('i1', 's1', 'user-1', 'RUNNING', 'host:1', 'uid');
    INSERT INTO simulator.teardowns (simulator_id, session_id) VALUES ('i0', 's0');
    INSERT INTO simulator.warm_pool (simulator_id, status, recipe, workload_uid, endpoint, create_until)
    VALUES ('spare', 'READY', 'recipe', 'uid', 'host:2', '-infinity');
    INSERT INTO simulator.held_orphans (simulator_id, workload_uid, session_id) VALUES ('o1', 'uid', 's9');
    INSERT INTO public.sessions (user_id, title, active)
    SELECT n, 'Grüße ' || n || E' \\u2603 "\\\\', TRUE FROM generate_series(1, 50) n;
    INSERT INTO sandbox.removals (id) SELECT gen_random_uuid() FROM generate_series(1, 10);
    INSERT INTO public.session (messages, inbox_status, sbx_config)
    SELECT jsonb_build_array(n, 'Ω', NULL), 'pending', '{"b": 1, "a": [1.50, 1e2]}' FROM generate_series(1, 200) n;
    SELECT public.session_claim('worker');
"""


async def fill(database: Database, owner: Sql) -> str:
    """Put rows in every table, some by the role of a sandbox; returns that role's DSN, as its user has it."""
    await owner.execute(ROWS)
    role, password = await sandbox_roles.make_role(database.owner_dsn, VM)
    await owner.execute(f"SET ROLE {role}")
    await owner.execute("INSERT INTO public.session (messages) SELECT '{\"vm\": 1}' FROM generate_series(1, 5)")
    await owner.execute("RESET ROLE")
    return f"postgresql://{role}:{password}@127.0.0.1:{database.port}/{database.name}"
