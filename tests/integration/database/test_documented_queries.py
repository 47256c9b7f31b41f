"""The database document: its tables, function and example queries, as written."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.support.servers import Database

CHECK_ACTIVE_SESSIONS = """
SELECT s.session_id, s.created_at, s.last_active, s.expires_at,
       m.metadata->>'simulator_id' as simulator_id
FROM session.active_sessions s
JOIN session.session_metadata m ON s.session_id = m.session_id
WHERE s.user_id = '<user_id>' AND s.expires_at > NOW();
"""

FIND_INACTIVE_SIMULATORS = """
SELECT simulator_id, session_id, user_id, status,
       EXTRACT(EPOCH FROM (NOW() - last_active)) as seconds_inactive
FROM simulator.instances
WHERE status != 'STOPPED'
AND last_active < NOW() - INTERVAL '1 hour';
"""

CONNECTION_STATISTICS = """
SELECT s.session_id,
       (m.metadata->>'frontend_connections')::int as ws_connections,
       (m.metadata->>'sse_connections')::int as sse_connections,
       m.metadata->>'connection_quality' as quality,
       m.metadata->>'last_ws_connection' as last_connection
FROM session.active_sessions s
JOIN session.session_metadata m ON s.session_id = m.session_id
WHERE s.expires_at > NOW();
"""


@pytest.fixture
async def connection(database: Database) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """As the service's own role: what it may do is what the document needs."""
    made = await asyncpg.connect(database.service_dsn)
    yield made
    await made.close()


async def insert_session(
    connection: asyncpg.Connection[asyncpg.Record],
    session_id: str,
    *,
    user_id: str = "<user_id>",
    expires: str = "1 hour",
    metadata: str = "{}",
) -> None:
    """Only documented columns: statements written for the document alone keep working."""
    await connection.execute(
        "INSERT INTO session.active_sessions (session_id, user_id, status, expires_at)"
        " VALUES ($1, $2, 'ACTIVE', NOW() + $3::text::interval)",
        session_id,
        user_id,
        expires,
    )
    await connection.execute("INSERT INTO session.session_metadata VALUES ($1, $2)", session_id, metadata)


async def insert_simulator(
    connection: asyncpg.Connection[asyncpg.Record], simulator_id: str, session_id: str, status: str = "RUNNING"
) -> None:
    await connection.execute(
        "INSERT INTO simulator.instances (simulator_id, session_id, user_id, status, endpoint, initial_symbols,"
        " last_active) VALUES ($1, $2, 'u', $3, 'host:50055', '[\"AAPL\"]', NOW() - INTERVAL '2 hours')",
        simulator_id,
        session_id,
        status,
    )


async def test_active_sessions_of_a_user(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    await insert_session(connection, "live", metadata='{"simulator_id": "sim-1"}')
    await insert_session(connection, "expired", expires="-1 second")
    await insert_session(connection, "other", user_id="somebody")
    rows = await connection.fetch(CHECK_ACTIVE_SESSIONS)
    assert [(row["session_id"], row["simulator_id"]) for row in rows] == [("live", "sim-1")]


async def test_inactive_simulators(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    for number, status in enumerate(("RUNNING", "ERROR", "STOPPED")):
        await insert_session(connection, f"s{number}")
        await insert_simulator(connection, f"sim-{status}", f"s{number}", status)
    rows = await connection.fetch(FIND_INACTIVE_SIMULATORS)
    assert {row["simulator_id"] for row in rows} == {"sim-RUNNING", "sim-ERROR"}
    assert all(7195 < row["seconds_inactive"] < 7300 for row in rows)


async def test_connection_statistics(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    fields = (
        '{"frontend_connections": 2, "sse_connections": 1, "connection_quality": "POOR", "last_ws_connection": 5}'
    )
    await insert_session(connection, "s", metadata=fields)
    rows = await connection.fetch(CONNECTION_STATISTICS)
    assert [tuple(row) for row in rows] == [("s", 2, 1, "POOR", "5")]


async def test_cleanup_counts_deletes_and_cascades(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    await insert_session(connection, "live")
    for number in range(3):
        await insert_session(connection, f"old{number}", expires="-1 minute")
        await insert_simulator(connection, f"sim{number}", f"old{number}")
    assert await connection.fetchval("SELECT session.cleanup_expired_sessions()") == 3
    assert await connection.fetchval("SELECT count(*) FROM session.session_metadata") == 1
    assert await connection.fetchval("SELECT count(*) FROM simulator.instances") == 0
    assert await connection.fetchval("SELECT session.cleanup_expired_sessions()") == 0


async def test_a_simulator_that_a_delete_removes_is_recorded(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    for status in ("CREATING", "RUNNING", "STOPPING", "STOPPED"):
        await insert_session(connection, status)
        await insert_simulator(connection, f"sim-{status}", status, status)
    await connection.execute("DELETE FROM session.active_sessions")
    rows = await connection.fetch("SELECT simulator_id, session_id, endpoint FROM simulator.teardowns ORDER BY 1")
    assert [tuple(row) for row in rows] == [
        (f"sim-{status}", status, "host:50055") for status in ("CREATING", "RUNNING", "STOPPING")
    ]


async def test_truncate_is_refused_even_to_the_owner(database: Database) -> None:
    owner = await asyncpg.connect(database.owner_dsn)
    try:
        with pytest.raises(asyncpg.RaiseError, match="cannot be truncated"):
            await owner.execute("TRUNCATE session.active_sessions CASCADE")
    finally:
        await owner.close()


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        ("UPDATE session.active_sessions SET token = 'eyJhbGciOi'", "active_sessions_token"),
        ("UPDATE session.active_sessions SET status = 'active'", "active_sessions_status"),
        ("UPDATE simulator.instances SET status = 'BROKEN'", "instances_status"),
    ],
)
async def test_rules_of_the_document_hold(
    connection: asyncpg.Connection[asyncpg.Record], statement: str, constraint: str
) -> None:
    await insert_session(connection, "s")
    await insert_simulator(connection, "sim", "s")
    with pytest.raises(asyncpg.CheckViolationError) as raised:
        await connection.execute(statement)
    assert raised.value.constraint_name == constraint


async def test_one_live_simulator_of_a_session(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    await insert_session(connection, "s")
    await insert_simulator(connection, "old", "s", "ERROR")
    await insert_simulator(connection, "first", "s", "STARTING")
    with pytest.raises(asyncpg.UniqueViolationError):
        await insert_simulator(connection, "second", "s", "CREATING")


DOCUMENTED_INDEXES = {
    "idx_sessions_user_id",
    "idx_sessions_expires_at",
    "idx_simulator_session_id",
    "idx_simulator_user_id",
    "idx_simulator_status",
}


async def test_documented_indexes_are_there(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    rows = await connection.fetch("SELECT indexname FROM pg_indexes WHERE schemaname IN ('session', 'simulator')")
    assert {row["indexname"] for row in rows} >= DOCUMENTED_INDEXES
