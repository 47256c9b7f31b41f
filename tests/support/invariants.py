"""What must hold after any test, asked of PostgreSQL itself."""

from __future__ import annotations

import asyncio
import time

import asyncpg

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


async def check_invariants(owner_dsn: str, *, within_s: float = 5.0) -> None:
    """Fails with every row that breaks one and still does after ``within_s``: a round of the pod may set it right."""
    connection = await asyncpg.connect(owner_dsn)
    deadline = time.monotonic() + within_s
    try:
        while broken := {
            name: [tuple(row) for row in rows]
            for name, query in _VIOLATIONS.items()
            if (rows := await connection.fetch(query))
        }:
            assert time.monotonic() < deadline, broken
            await asyncio.sleep(0.1)
    finally:
        await connection.close()
