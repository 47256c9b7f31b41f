"""kill -9 of one of three pods under numbered streams: the others take over, and no client loses anything."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg

from tests.support.fault_times import FaultTimes
from tests.support.invariants import check_cluster_invariants
from tests.support.measured import Measured
from tests.support.pod_cluster import PodCluster
from tests.support.servers import Database, TestServers
from tests.support.streaming_client import p99, streaming_clients
from tests.support.waiting import eventually
from tests.support.workloads import shared_exchange

STREAMS = 300  # at full length; what two cores open again within a second, while others use them, is less
FEWEST_STREAMS = 60
RESUMED_WITHIN_S = 5.0
UPDATE_INTERVAL_MS = "500"  # of each simulator: what clients and pods of this test share is two cores


async def test_kill_of_one_of_three_pods_under_load(
    servers: TestServers, database: Database, tmp_path: Path, times: FaultTimes, measured: Measured
) -> None:
    streams = max(FEWEST_STREAMS, round(STREAMS * times.scale))
    environ = {**servers.redis_environ(), **times.environ()}
    async with (
        shared_exchange(tmp_path, UPDATE_INTERVAL_MS=UPDATE_INTERVAL_MS) as exchange,
        PodCluster(tmp_path, database, exchange, environ) as cluster,
        AsyncExitStack() as exits,
    ):
        clients = await streaming_clients(exits, cluster, [f"user-{number}" for number in range(streams)])
        simulators = await exchange.simulator_ids()
        victim = cluster[2]
        hit = [client for client in clients if client.pods[-1] == victim.name]
        assert len(hit) >= streams / 6, "the killed pod had hardly any streams"
        for client in clients:
            client.longest_gap_s = 0.0
        killed_at = time.monotonic()
        await victim.kill()

        async def all_are_back() -> bool:
            return all(client.pods[-1] != victim.name for client in hit)

        await eventually(all_are_back, within_s=30, what="every stream on another pod")
        await asyncio.gather(*(client.has_frames(2, within_s=30) for client in clients))

        async def all_are_owned() -> bool:
            return await _not_owned_by_the_living(cluster) == 0

        await eventually(all_are_owned, within_s=30, what="every session owned again")
        owned_after_s = cluster.stalls.took_s(killed_at)
        await check_cluster_invariants(cluster, within_s=2 * times.settled_within_s)
        after = await exchange.simulator_ids()
        resumed_s = [client.longest_gap_s for client in hit]
        others_s = [client.longest_gap_s for client in clients if client not in hit]
        lost = [client.user_id for client in clients if len(client.session_ids) != 1]
        measured.row(
            f"kill -9 of one of three pods under {streams} streams",
            streams_hit=len(hit),
            sessions_lost=len(lost),
            gaps=sum(client.gaps for client in clients),
            duplicates=sum(client.duplicates for client in clients),
            resume_p50_s=round(sorted(resumed_s)[len(hit) // 2], 2),
            resume_p99_s=round(p99(resumed_s), 2),
            others_longest_gap_s=round(max(others_s), 2),
            not_resumed=sum(client.client.statistics.not_resumed for client in clients),
            owned_again_s=round(owned_after_s, 2),
            orphans=len(after - simulators),
        )
        assert lost == []
        assert sum(client.gaps for client in clients) == 0
        assert sum(client.duplicates for client in clients) == 0
        assert p99(resumed_s) < RESUMED_WITHIN_S
        assert after == simulators
        assert max(exchange.starts.values()) == 1, "a simulator was started again"
        assert owned_after_s <= times.settled_within_s


async def _not_owned_by_the_living(cluster: PodCluster) -> int:
    """How many sessions have an owner that is dead, or none."""
    living = [pod.name for pod in cluster.running]
    connection = await asyncpg.connect(cluster.database.owner_dsn)
    try:
        return int(
            await connection.fetchval(
                """SELECT count(*) FROM session.ownership o
                   WHERE o.pod_id IS NULL OR split_part(o.pod_id, '#', 1) <> ALL ($1)""",
                living,
            )
        )
    finally:
        await connection.close()
