"""The way to PostgreSQL cut, reset and slow, through a proxy: what happens meanwhile, and what is true afterwards."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from pathlib import Path

import asyncpg

from tests.support.api_client import ApiClient
from tests.support.invariants import check_invariants
from tests.support.load import RestLoad
from tests.support.measured import Measured
from tests.support.pod_process import pod_process
from tests.support.servers import Database, TestServers
from tests.support.tcp_proxy import TcpProxy

LONGEST_REQUEST_S = 3.0 + 0.5  # and what a busy machine adds


async def test_an_outage_longer_than_a_simulators_patience_kills_none(
    servers: TestServers, database: Database, tmp_path: Path
) -> None:
    """Without a socket only heartbeats keep a simulator's state: they go on while PostgreSQL is away."""
    patience_s = 3
    async with TcpProxy(database.port) as proxy:
        environ = {
            **database.environ(),
            **servers.redis_environ(),
            "DB_PORT": str(proxy.port),
            "SIMULATOR_HEARTBEAT_INTERVAL": "0.5",
            "HEARTBEAT_TTL_S": str(patience_s),
        }
        async with pod_process(tmp_path, environ) as pod:
            await pod.is_ready()
            api = ApiClient(pod.http)
            simulator_id = await api.start_simulator(await api.open_session())
            order = await api.order(simulator_id, "before")
            await asyncio.sleep(1)  # a round of heartbeats has come
            proxy.refuse()
            proxy.reset()
            await asyncio.sleep(2 * patience_s)
            assert await pod.status("/readiness") == 503
            await proxy.accept()
            await pod.is_ready(within_s=20)
            assert (await api.order(simulator_id, "before"))["orderId"] == order["orderId"]
            await asyncio.sleep(2)
            simulator = await api.simulator(simulator_id)
            assert (simulator["status"], simulator["reason"]) == ("RUNNING", None)


async def test_connections_that_break_at_any_moment_lose_and_double_nothing(
    servers: TestServers, database: Database, tmp_path: Path, measured: Measured
) -> None:
    random_ = random.Random(7)
    async with TcpProxy(database.port) as proxy:
        environ = {**database.environ(), **servers.redis_environ(), "DB_PORT": str(proxy.port)}
        async with pod_process(tmp_path, environ) as pod:
            await pod.is_ready()
            async with RestLoad(pod.http, workers=8) as load:
                began = time.monotonic()
                for _ in range(40):
                    await asyncio.sleep(random_.uniform(0.01, 0.1))
                    proxy.reset()
                last_reset = time.monotonic()
                await load.recovered(within_s=30)
            statuses = Counter(call.status for call in load.calls)
            longest_s = max(call.duration_s for call in load.since(began))
    measured.row(
        "40 times all PostgreSQL connections reset",
        calls=len(load.calls),
        unavailable=statuses[503],
        longest_request_s=round(longest_s, 2),
    )
    assert set(statuses) <= {200, 201, 503}
    assert longest_s <= LONGEST_REQUEST_S
    assert statuses[201] > 10
    assert last_reset > began
    connection = await asyncpg.connect(database.owner_dsn)
    try:
        rows = await connection.fetch("SELECT session_id, user_id FROM session.active_sessions")
    finally:
        await connection.close()
    assert set(load.acknowledged) <= {(row["session_id"], row["user_id"]) for row in rows}
    await check_invariants(database.owner_dsn)


async def test_a_slow_way_is_slow_and_nothing_else(servers: TestServers, database: Database, tmp_path: Path) -> None:
    async with TcpProxy(database.port) as proxy:
        environ = {**database.environ(), **servers.redis_environ(), "DB_PORT": str(proxy.port)}
        async with pod_process(tmp_path, environ) as pod:
            await pod.is_ready()
            proxy.latency_s = 0.1
            async with RestLoad(pod.http, workers=4) as load:
                await load.recovered(within_s=60)
            assert {call.status for call in load.calls} <= {200, 201}
            assert max(call.duration_s for call in load.calls) <= LONGEST_REQUEST_S
