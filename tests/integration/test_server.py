"""Whose simulators a pod stops at its end: only when no live pod is left, and only a pod that served decides that."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator

import asyncpg
import pytest

from session_service.database.pods import PodRepository
from tests.support.servers import Database, TestServers
from tests.support.service import Service
from tests.support.sql import Sql
from tests.support.stalls import Stalls
from tests.support.waiting import eventually

DRAIN_DELAY_S = 2.0
STATUS = "SELECT status FROM simulator.instances"
FILL = """
    INSERT INTO session.active_sessions (session_id, user_id, status, expires_at, device_id)
    VALUES ('session-1', 'user-1', 'ACTIVE', now() + interval '1 hour', 'device-1');
    INSERT INTO session.session_metadata (session_id) VALUES ('session-1');
    INSERT INTO simulator.instances (simulator_id, session_id, user_id, status, endpoint, initial_symbols)
    VALUES ('simulator-1', 'session-1', 'user-1', 'RUNNING', '127.0.0.1:1', '["AAPL"]');
"""


class CannotDrain(PodRepository):
    """Fails as no code foresaw."""

    def __init__(self, real: PodRepository) -> None:
        self.__dict__ = real.__dict__

    async def start_draining(self, pod_id: str) -> dict[str, int]:
        raise RuntimeError(pod_id)


@pytest.fixture
async def sql(database: Database) -> AsyncIterator[Sql]:
    connection = await asyncpg.connect(database.owner_dsn)
    await connection.execute(FILL)
    yield connection
    await connection.close()


@pytest.fixture
def pod(servers: TestServers, database: Database) -> Service:
    """Not started yet. Its exchange is not there: nothing is heard of the simulator."""
    backend = {"SIMULATOR_BACKEND": "service", "EXCHANGE_MANAGER_SERVICE": "127.0.0.1:1"}
    return Service(
        {**database.environ(), **servers.redis_environ(), **backend, "DRAIN_DELAY_SECONDS": f"{DRAIN_DELAY_S:g}"}
    )


async def test_a_pod_that_found_its_port_taken_stops_no_simulator(pod: Service, sql: Sql, stalls: Stalls) -> None:
    with socket.create_server(("127.0.0.1", pod.port)):
        await pod.server.initialize()
        with pytest.raises(OSError, match="address already in use"):
            await pod.server.start()
        # As main does; the one that has the port may be draining, and so be no live pod any more.
        began_s = time.monotonic()
        await pod.server.shutdown("start failed")
        assert stalls.took_s(began_s) < DRAIN_DELAY_S * 0.75
    assert await sql.fetchval(STATUS) == "RUNNING"


async def test_the_last_pod_stops_every_simulator(pod: Service, sql: Sql) -> None:
    async with pod:
        pass
    assert await sql.fetchval(STATUS) == "STOPPED"


async def test_a_pod_that_comes_while_the_last_one_drains_takes_the_simulators_over(pod: Service, sql: Sql) -> None:
    async def is_draining() -> bool:
        return bool(await sql.fetchval("SELECT bool_or(draining) FROM session.pods"))

    await pod.__aenter__()
    leaving = asyncio.ensure_future(pod.__aexit__())
    await eventually(is_draining, within_s=20, what="draining")
    await sql.execute("INSERT INTO session.pods (pod_id, pod_name, version) VALUES ('next#1', 'next', '1')")
    await leaving
    assert await sql.fetchval(STATUS) == "RUNNING"


async def test_a_drain_that_fails_does_not_keep_the_pod_from_ending(pod: Service, sql: Sql) -> None:
    await pod.__aenter__()
    membership = pod.server._membership
    membership._repository = CannotDrain(membership._repository)
    await asyncio.wait_for(pod.__aexit__(), 30)
    assert pod.server.shutdown_event.is_set()
    assert await sql.fetchval(STATUS) == "RUNNING"
