"""What must hold after any test, asked of PostgreSQL itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

import asyncpg

from tests.support.pod_cluster import PodCluster
from tests.support.sql import Sql

Broken: TypeAlias = dict[str, list[tuple[Any, ...]]]

_VIOLATIONS = {
    "two unexpired sessions of one (user, device)": """
        SELECT user_id, device_id, count(*) FROM session.active_sessions
        WHERE status <> 'EXPIRED' AND expires_at > now() GROUP BY 1, 2 HAVING count(*) > 1""",
    "two live simulators of one session": """
        SELECT session_id, count(*) FROM simulator.instances
        WHERE status IN ('CREATING', 'STARTING', 'RUNNING') GROUP BY 1 HAVING count(*) > 1""",
    "a live simulator whose target is not RUNNING, or the other way round": """
        SELECT simulator_id FROM simulator.instances
        WHERE (status IN ('CREATING', 'STARTING', 'RUNNING')) <> (target = 'RUNNING')""",
    "a session without metadata": """
        SELECT session_id FROM session.active_sessions a
        WHERE NOT EXISTS (SELECT 1 FROM session.session_metadata m WHERE m.session_id = a.session_id)""",
    "metadata that count other sockets than there are": """
        SELECT m.session_id, m.metadata ->> 'frontend_connections', m.metadata ->> 'sse_connections'
        FROM session.session_metadata m
        LEFT JOIN LATERAL (
            SELECT count(*) FILTER (WHERE kind = 'websocket') AS ws, count(*) FILTER (WHERE kind = 'sse') AS sse
            FROM session.sockets k WHERE k.session_id = m.session_id) k ON TRUE
        WHERE (m.metadata ->> 'frontend_connections')::int <> k.ws
           OR (m.metadata ->> 'sse_connections')::int <> k.sse""",
    "metadata that name another simulator than the newest": """
        SELECT i.session_id, i.simulator_id, m.metadata ->> 'simulator_id', i.status,
               m.metadata ->> 'simulator_status'
        FROM (SELECT DISTINCT ON (session_id) * FROM simulator.instances ORDER BY session_id, created_at DESC) i
        JOIN session.session_metadata m USING (session_id)
        WHERE m.metadata ->> 'simulator_id' IS DISTINCT FROM i.simulator_id
           OR m.metadata ->> 'simulator_status' IS DISTINCT FROM i.status""",
}


_VIOLATIONS_OF_CLUSTERS = {
    "an ownership of a pod that is dead or gone": """
        SELECT o.session_id, o.pod_id, o.epoch FROM session.ownership o LEFT JOIN session.pods p USING (pod_id)
        WHERE o.pod_id IS NOT NULL AND (p.pod_id IS NULL OR p.dead)
          AND EXISTS (SELECT 1 FROM session.pods l WHERE NOT l.dead AND NOT l.draining)""",
    "a simulator that is not at its end and that no pod looks after": """
        SELECT i.session_id, i.simulator_id, i.status, o.epoch
        FROM simulator.instances i JOIN session.ownership o USING (session_id)
        WHERE i.status NOT IN ('STOPPED', 'ERROR') AND o.pod_id IS NULL
          AND EXISTS (SELECT 1 FROM session.pods l WHERE NOT l.dead AND NOT l.draining)""",
    "a session without its ownership row": """
        SELECT session_id FROM session.active_sessions a
        WHERE NOT EXISTS (SELECT 1 FROM session.ownership o WHERE o.session_id = a.session_id)""",
    "a socket of a pod that is dead or gone": """
        SELECT k.session_id, k.client_id, k.pod_id FROM session.sockets k LEFT JOIN session.pods p USING (pod_id)
        WHERE (p.pod_id IS NULL OR p.dead)
          AND EXISTS (SELECT 1 FROM session.pods l WHERE NOT l.dead AND NOT l.draining)""",
    "a workload to remove that nobody has removed": """
        SELECT simulator_id, session_id, attempts FROM simulator.teardowns
        WHERE EXISTS (SELECT 1 FROM session.pods l WHERE NOT l.dead AND NOT l.draining)""",
}


async def check_invariants(owner_dsn: str, *, within_s: float = 15.0) -> None:
    """Fails with every row that breaks one and still does after ``within_s``: a round of the pod may set it right."""
    connection = await asyncpg.connect(owner_dsn)
    try:
        await _none_is_left(lambda: _broken(connection, _VIOLATIONS), within_s)
    finally:
        await connection.close()


async def check_cluster_invariants(cluster: PodCluster, *, within_s: float) -> None:
    """The same for several pods, and what docs/sharding.md#checked lists beside: within a lease and one round."""
    connection = await asyncpg.connect(cluster.database.owner_dsn)

    async def broken() -> Broken:
        found = await _broken(connection, _VIOLATIONS | _VIOLATIONS_OF_CLUSTERS)
        running = {pod.name for pod in cluster.running}
        live = {row["pod_name"] for row in await connection.fetch("SELECT pod_name FROM session.pods WHERE NOT dead")}
        if running and live != running:
            found["pods that are believed to live, and pods that run"] = [tuple(sorted(live)), tuple(sorted(running))]
        wanted = await connection.fetch("SELECT simulator_id FROM simulator.instances WHERE target = 'RUNNING'")
        rows = {row["simulator_id"] for row in wanted}
        there = await cluster.workloads.simulator_ids()
        if rows != there:
            found["rows without a workload, and workloads without a row"] = [
                tuple(sorted(rows - there)),
                tuple(sorted(there - rows)),
            ]
        return found

    try:
        await _none_is_left(broken, within_s)
    finally:
        await connection.close()


async def violations(connection: Sql) -> Broken:
    """Every row that breaks an invariant at this moment, of one pod or of several, by what it breaks."""
    return await _broken(connection, _VIOLATIONS | _VIOLATIONS_OF_CLUSTERS)


async def _broken(connection: Sql, violations: Mapping[str, str]) -> Broken:
    return {
        name: [tuple(row) for row in rows]
        for name, query in violations.items()
        if (rows := await connection.fetch(query))
    }


async def _none_is_left(broken: Callable[[], Awaitable[Broken]], within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while left := await broken():
        assert time.monotonic() < deadline, left
        await asyncio.sleep(0.1)
