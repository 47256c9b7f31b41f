"""A rolling restart of three pods under load, among stalled readers: clients move, and nothing else does."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

from tests.support.api_client import ApiClient
from tests.support.fault_times import FaultTimes
from tests.support.invariants import check_cluster_invariants
from tests.support.load import RestLoad
from tests.support.measured import Measured
from tests.support.pod_cluster import PodCluster
from tests.support.servers import Database, TestServers
from tests.support.service import bearer
from tests.support.stalled_reader import StalledReader
from tests.support.streaming_client import p99, streaming_clients
from tests.support.workloads import shared_exchange

STREAMS = 300  # at full length; what two cores take beside the other tests is less
FEWEST_STREAMS = 60
STALLED = 50
OF_ONE_SESSION = 5
PAUSE_P99_S = 1.0
EXITS_BEFORE_GRACE_S = 5.0


async def test_rolling_restart_under_load(
    servers: TestServers, database: Database, tmp_path: Path, times: FaultTimes, measured: Measured
) -> None:
    streams = max(FEWEST_STREAMS, round(STREAMS * times.scale))
    environ = {**servers.redis_environ(), **times.environ()}
    async with (
        shared_exchange(tmp_path, UPDATE_INTERVAL_MS="200") as exchange,
        PodCluster(tmp_path, database, exchange, environ) as cluster,
        AsyncExitStack() as exits,
    ):
        clients = await streaming_clients(exits, cluster, [f"user-{number}" for number in range(streams)])
        await _stalled_readers(exits, cluster)
        simulators = await exchange.simulator_ids()
        first_pods = list(cluster.pods)
        for client in clients:
            client.longest_gap_s = 0.0
        # From now on whoever comes is sent to the newest, as a load balancer does while a deployment is under way.
        cluster.balancer.spread = False
        began = time.monotonic()
        async with RestLoad(cluster.http) as load:
            await load.recovered(within_s=30)
            for pod in first_pods:
                await cluster.replace(pod)
            exits_s = await asyncio.gather(*(cluster.has_ended(pod) for pod in first_pods))
            await load.recovered(within_s=30)
        took_s = time.monotonic() - began
        await asyncio.gather(*(client.has_frames(2, within_s=30) for client in clients))
        statuses = Counter(call.status for call in load.calls)
        moves = [client.client.statistics.reconnects for client in clients]
        pauses_s = [client.longest_gap_s for client in clients]
        lost = [client.user_id for client in clients if len(client.session_ids) != 1]
        measured.row(
            f"rolling restart of three pods under {streams} streams, {STALLED} stalled readers",
            sessions_lost=len(lost),
            gaps=sum(client.gaps for client in clients),
            duplicates=sum(client.duplicates for client in clients),
            simulators_restarted=sum(count - 1 for count in exchange.starts.values()),
            calls=len(load.calls),
            errors_5xx=sum(count for status, count in statuses.items() if status >= 500),
            unanswered=statuses[0],
            pause_p99_s=round(p99(pauses_s), 2),
            moves_most=max(moves),
            made_before_broken=sum(client.client.statistics.moves for client in clients),
            longest_exit_s=round(max(exits_s), 2),
            took_s=round(took_s, 1),
        )
        assert lost == []
        assert sum(client.gaps for client in clients) == 0
        assert sum(client.duplicates for client in clients) == 0
        assert set(exchange.starts.values()) == {1}
        assert await exchange.simulator_ids() == simulators
        assert set(statuses) <= {200, 201}
        assert p99(pauses_s) <= PAUSE_P99_S
        assert max(moves) <= 1
        # How they spread over the new ones depends on how fast a busy machine starts those.
        assert {client.pods[-1] for client in clients} <= {"pod-4", "pod-5", "pod-6"}
        assert max(exits_s) <= times.grace_period_s - EXITS_BEFORE_GRACE_S
        await check_cluster_invariants(cluster, within_s=2 * times.settled_within_s)


async def _stalled_readers(exits: AsyncExitStack, cluster: PodCluster) -> None:
    """Their sessions have simulators, so that there is something that they do not read; on every pod."""
    for number in range(STALLED // OF_ONE_SESSION):
        user = f"stalled-{number}"
        api: ApiClient = cluster.api(user)
        await api.start_simulator(await api.open_session("stalled"))
        for _ in range(OF_ONE_SESSION):
            pod = cluster.pods[number % len(cluster.pods)]
            await exits.enter_async_context(StalledReader.connected(pod.port, bearer(user)))
