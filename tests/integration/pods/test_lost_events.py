"""What one pod does to a session is known to the sockets on another, without Redis too (docs/operations.md#redis)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from exchange_simulator.server import serving
from exchange_simulator.settings import Settings as ExchangeSettings
from session_service.database.sql_files import load_queries
from tests.integration.pods.conftest import ROUNDS, MakePods, Way
from tests.support.api_client import ApiClient
from tests.support.servers import Database
from tests.support.sql import Sql
from tests.support.websocket_client import connect


@pytest.fixture
async def exchange_port() -> AsyncIterator[int]:
    async with serving(ExchangeSettings(host="127.0.0.1", port=0, seed=7, update_interval_ms=50)) as (port, _ticking):
        yield port


async def test_the_end_of_a_session_says_why(make_pods: MakePods, sql: Sql, way: Way) -> None:
    one, two = await make_pods(2, way)
    async with connect(one, clientId="tab") as client:
        status, _body = await ApiClient(two.http).call("DELETE", f"/api/sessions/{client.frames[0]['sessionId']}")
        assert status == 200
        assert await client.close_code() == 4503
        assert client.frames[-1]["reason"] == "ended"


async def test_a_session_that_another_pod_expired_says_so(make_pods: MakePods, sql: Sql) -> None:
    (one,) = await make_pods(1, ROUNDS)
    async with connect(one, clientId="tab") as client:
        await sql.execute("UPDATE session.active_sessions SET status = 'EXPIRED'")
        assert await client.close_code() == 4503
        assert client.frames[-1]["reason"] == "expired"


async def test_a_simulator_that_another_pod_starts_and_stops_is_seen(
    make_pods: MakePods, exchange_port: int, way: Way
) -> None:
    one, two = await make_pods(2, way, EXCHANGE_MANAGER_SERVICE=f"127.0.0.1:{exchange_port}")
    async with connect(one, clientId="tab") as client:
        there = ApiClient(two.http)
        session_id = client.frames[0]["sessionId"]
        simulator_id = await there.start_simulator(session_id)
        statuses = []
        while "RUNNING" not in statuses:
            frame = await client.receive_type("simulator_status")
            assert frame["simulatorId"] == simulator_id
            statuses.append(frame["status"])
        assert (await client.receive_type("exchange_data"))["snapshot"] is True
        await there.call("DELETE", f"/api/simulators/{simulator_id}")
        while "STOPPED" not in statuses:
            statuses.append((await client.receive_type("simulator_status"))["status"])
        assert len(statuses) == len(set(statuses)), "each state is told once"


async def test_a_look_reads_what_changed_and_nothing_else(database: Database, sql: Sql) -> None:
    """However late a transaction commits: its number is from before the look that did not see it."""
    query = load_queries()["sockets.simulators_changed"]
    await sql.execute("""
        INSERT INTO session.pods (pod_id, pod_name, version) VALUES ('pod#1', 'pod', '1');
        INSERT INTO session.active_sessions (session_id, user_id, device_id, status, expires_at)
        SELECT 's' || n, 'u', 'd' || n, 'ACTIVE', now() + interval '1 h' FROM generate_series(1, 4) n;
        INSERT INTO session.sockets (session_id, client_id, pod_id)
        SELECT 's' || n, 'tab', 'pod#1' FROM generate_series(1, 3) n;
        INSERT INTO simulator.instances (simulator_id, session_id, user_id, status)
        SELECT 'i' || n, 's' || n, 'u', 'STARTING' FROM generate_series(1, 4) n;
    """)
    late = await asyncpg.connect(database.owner_dsn)
    try:

        async def look(since: int) -> tuple[int, set[str]]:
            found = await sql.fetch(query, "pod#1", since)
            return found[0]["next"], {row["simulator_id"] for row in found if row["simulator_id"] is not None}

        since, seen = await look(0)
        assert seen == {"i1", "i2", "i3"}  # i4 has no socket here
        since, seen = await look(since)
        assert seen == set()
        transaction = late.transaction()
        await transaction.start()
        await late.execute("UPDATE simulator.instances SET status = 'RUNNING' WHERE simulator_id = 'i1'")
        await sql.execute("UPDATE simulator.instances SET status = 'RUNNING' WHERE simulator_id = 'i2'")
        since, seen = await look(since)
        assert seen == {"i2"}
        await transaction.commit()
        since, seen = await look(since)
        assert "i1" in seen
        await sql.execute("UPDATE simulator.instances SET last_active = now()")  # nothing that clients see
        since, seen = await look(since)
        assert seen == set()
        await sql.execute("UPDATE simulator.instances SET status = 'STOPPED' WHERE simulator_id = 'i3'")
        await sql.execute(
            "INSERT INTO simulator.instances (simulator_id, session_id, user_id, status, created_at)"
            " VALUES ('i5', 's3', 'u', 'CREATING', now() + interval '1 s')"
        )
        since, seen = await look(since)
        assert seen == {"i5"}  # of a session the newest one only
    finally:
        await late.close()


async def test_the_number_of_a_simulators_state_rises_with_each_change(database: Database, sql: Sql) -> None:
    """Also where the later change is made by the transaction that began first."""
    await sql.execute("""
        INSERT INTO session.active_sessions (session_id, user_id, device_id, status, expires_at)
        VALUES ('s', 'u', 'd', 'ACTIVE', now() + interval '1 h');
        INSERT INTO simulator.instances (simulator_id, session_id, user_id, status)
        VALUES ('i', 's', 'u', 'CREATING');
    """)
    change = "UPDATE simulator.instances SET status = $1 RETURNING changed_in"
    first = await asyncpg.connect(database.owner_dsn)
    try:
        async with first.transaction():
            await first.execute("SELECT 1 FROM session.active_sessions FOR UPDATE")  # it has a number from here on
            numbers = [await sql.fetchval(change, status) for status in ("STARTING", "RUNNING")]
            numbers += [await first.fetchval(change, status) for status in ("STOPPING", "STOPPED")]
    finally:
        await first.close()
    assert numbers == sorted(set(numbers))
