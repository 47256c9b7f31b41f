"""PostgreSQL restarted under load, then gone: three pods lose nothing, and none of them is believed to be dead."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg
import pytest

from tests.support.fault_times import FaultTimes
from tests.support.invariants import check_cluster_invariants
from tests.support.load import RestLoad
from tests.support.measured import Measured
from tests.support.pod_cluster import PodCluster
from tests.support.process_faults import kill
from tests.support.servers import Database, TestServers
from tests.support.streaming_client import StreamingClient, streaming_clients
from tests.support.workloads import shared_exchange

LONGEST_REQUEST_S = 3.0
NORMAL_WITHIN_S = 2.0
LONGEST_STREAM_GAP_S = 1.5
STREAMS = 6


@pytest.fixture
async def cluster(
    own_servers: TestServers, own_database: Database, tmp_path: Path, times: FaultTimes
) -> AsyncIterator[PodCluster]:
    environ = {**own_servers.redis_environ(), **times.environ()}
    async with (
        shared_exchange(tmp_path) as exchange,
        PodCluster(tmp_path, own_database, exchange, environ) as started,
    ):
        yield started


@pytest.fixture
async def clients(cluster: PodCluster) -> AsyncIterator[list[StreamingClient]]:
    """Two of each pod."""
    async with AsyncExitStack() as exits:
        made = await streaming_clients(exits, cluster, [f"reader-{number}" for number in range(STREAMS)])
        for client in made:
            client.longest_gap_s = 0.0
        yield made


async def test_postgres_restarted_and_gone(
    own_servers: TestServers,
    cluster: PodCluster,
    clients: list[StreamingClient],
    times: FaultTimes,
    outage_s: float,
    measured: Measured,
) -> None:
    postgres = own_servers.postgres
    pods, simulators = await _pods(cluster), await cluster.workloads.simulator_ids()
    assert len(pods) == len(cluster.pods)
    async with RestLoad(cluster.http) as load:
        for fault, away_s in (("restarted", 0.0), ("gone", outage_s)):
            await load.recovered(within_s=5)
            broken_at = time.monotonic()
            if fault == "restarted":
                await postgres.stop()
            else:
                kill(postgres.pid)
                await postgres.wait()
                await _healthy_and_not_ready(cluster, away_s)
            await postgres.start()
            back_at = time.monotonic()
            normal_at = await load.recovered(within_s=20)
            await asyncio.gather(*(pod.is_ready(within_s=5) for pod in cluster.pods))

            calls, during = load.since(broken_at), load.since(broken_at, back_at)
            longest_s = max(call.duration_s for call in calls)
            measured.row(
                f"PostgreSQL {fault} under three pods" + (f" for {away_s:g} s" if away_s else ""),
                longest_request_s=round(longest_s, 2),
                normal_after_s=round(max(0.0, normal_at - back_at), 2),
                longest_stream_gap_s=round(max(client.longest_gap_s for client in clients), 2),
                acknowledged=len(load.acknowledged),
            )
            assert {call.status for call in calls} <= {200, 201, 503}
            assert all(int(call.retry_after or 0) >= 1 for call in during if call.status == 503)
            assert fault == "restarted" or any(call.status == 503 for call in during), "nothing noticed the fault"
            assert longest_s <= LONGEST_REQUEST_S
            assert normal_at - back_at <= NORMAL_WITHIN_S

    for client in clients:
        await client.has_frames(5, within_s=5)
        assert len(client.pods) == 1
        assert client.longest_gap_s <= LONGEST_STREAM_GAP_S
        assert (client.gaps, client.duplicates) == (0, 0)
    # Silence of PostgreSQL is no pod's death, and no simulator's.
    await asyncio.sleep(times.settled_within_s)
    assert await _pods(cluster) == pods
    assert await cluster.workloads.simulator_ids() == simulators
    await _nothing_acknowledged_is_lost(cluster, load)
    await check_cluster_invariants(cluster, within_s=times.settled_within_s)


async def _healthy_and_not_ready(cluster: PodCluster, away_s: float) -> None:
    until = time.monotonic() + away_s
    while time.monotonic() < until:
        for pod in cluster.pods:
            started = time.monotonic()
            assert await pod.status("/health") == 200
            assert time.monotonic() - started <= 1.0
        await asyncio.sleep(0.1)
    assert [await pod.status("/readiness") for pod in cluster.pods] == [503, 503, 503]


async def _pods(cluster: PodCluster) -> set[tuple[str, bool]]:
    """The incarnations that are listed, and whether they are believed to be dead."""
    connection = await asyncpg.connect(cluster.database.owner_dsn)
    try:
        rows = await connection.fetch("SELECT pod_id, dead FROM session.pods")
    finally:
        await connection.close()
    return {(row["pod_id"], row["dead"]) for row in rows}


async def _nothing_acknowledged_is_lost(cluster: PodCluster, load: RestLoad) -> None:
    connection = await asyncpg.connect(cluster.database.owner_dsn)
    try:
        rows = await connection.fetch("SELECT session_id, user_id FROM session.active_sessions")
    finally:
        await connection.close()
    assert load.acknowledged
    assert set(load.acknowledged) <= {(row["session_id"], row["user_id"]) for row in rows}
