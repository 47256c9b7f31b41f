"""All clients of a pod lose it at once and come back together: all are let in, and nobody's stream suffers."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path

from tests.support.fault_times import FaultTimes
from tests.support.invariants import check_cluster_invariants
from tests.support.measured import Measured
from tests.support.pod_cluster import PodCluster
from tests.support.servers import Database, TestServers
from tests.support.streaming_client import StreamingClient, p99, streaming_clients
from tests.support.waiting import eventually
from tests.support.workloads import shared_exchange

CLIENTS = 2_000  # at full length; what two cores take beside the other tests is less
FEWEST_CLIENTS = 500
BACK_P99_S = 10.0
WATCHED = 6
LONGEST_GAP_OF_OTHERS_S = 1.0


async def test_all_clients_of_a_pod_come_back(
    servers: TestServers, database: Database, tmp_path: Path, times: FaultTimes, measured: Measured
) -> None:
    count = max(FEWEST_CLIENTS, round(CLIENTS * times.scale))
    environ = {**servers.redis_environ(), **times.environ(), "POD_LEASE_SECONDS": "3"}
    async with (
        shared_exchange(tmp_path) as exchange,
        PodCluster(tmp_path, database, exchange, environ) as cluster,
        AsyncExitStack() as exits,
    ):
        watched = await streaming_clients(exits, cluster, [f"watched-{number}" for number in range(WATCHED)])
        cluster.balancer.spread = False
        victim = next(pod for pod in cluster.pods if pod.url == cluster.urls()[0])
        at_once = asyncio.Semaphore(64)

        async def one(number: int) -> StreamingClient:
            async with at_once:
                return await exits.enter_async_context(StreamingClient(cluster, f"user-{number}"))

        clients = await asyncio.gather(*(one(number) for number in range(count)))
        assert {client.pods[-1] for client in clients} == {victim.name}
        cluster.balancer.spread = True
        others = [client for client in watched if client.pods[-1] != victim.name]
        for client in watched:
            client.longest_gap_s = 0.0
        dropped_at = time.monotonic()
        await victim.kill()

        async def all_are_back() -> bool:
            return all(client.pods[-1] != victim.name for client in [*clients, *watched])

        await eventually(all_are_back, within_s=6 * BACK_P99_S, what=f"{count} clients on other pods")
        back_s = [cluster.stalls.took_s(dropped_at, client.connected_at) for client in clients]
        lost = [client.user_id for client in clients if len(client.session_ids) != 1]
        measured.row(
            f"{count} clients dropped at once",
            back_p50_s=round(sorted(back_s)[count // 2], 2),
            back_p99_s=round(p99(back_s), 2),
            sessions_lost=len(lost),
            refused=sum(client.client.statistics.refused for client in clients),
            longest_gap_of_others_s=round(max(client.longest_gap_s for client in others), 2),
        )
        assert lost == []
        assert p99(back_s) < BACK_P99_S
        assert others
        assert max(client.longest_gap_s for client in others) <= LONGEST_GAP_OF_OTHERS_S
        await check_cluster_invariants(cluster, within_s=30.0)
