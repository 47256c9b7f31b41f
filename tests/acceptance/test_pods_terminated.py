"""SIGTERM to some pods, to all, to the last: simulators stop when nobody is left to look after them, never before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TypeAlias

import asyncpg
import pytest

from tests.support.balancer import BALANCED_URL
from tests.support.fault_times import FaultTimes
from tests.support.invariants import check_cluster_invariants
from tests.support.measured import Measured
from tests.support.pod_cluster import PodCluster
from tests.support.pod_process import PodProcess
from tests.support.servers import Database, TestServers
from tests.support.streaming_client import StreamingClient
from tests.support.workloads import SharedExchange, SharedRunner, Workloads, shared_exchange, shared_runner

EXITS_BEFORE_GRACE_S = 5.0

MakeCluster: TypeAlias = "Callable[..., Awaitable[PodCluster]]"


@pytest.fixture
async def exits() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
def make_cluster(
    exits: AsyncExitStack, servers: TestServers, database: Database, tmp_path: Path, times: FaultTimes
) -> MakeCluster:
    async def make(workloads: Workloads, **environ: str) -> PodCluster:
        settings = {**servers.redis_environ(), **times.environ(), **environ}
        return await exits.enter_async_context(PodCluster(tmp_path, database, workloads, settings))

    return make


@pytest.fixture
async def exchange(exits: AsyncExitStack, tmp_path: Path) -> SharedExchange:
    return await exits.enter_async_context(shared_exchange(tmp_path))


@pytest.fixture
async def runner(exits: AsyncExitStack, tmp_path: Path) -> SharedRunner:
    return await exits.enter_async_context(shared_runner(tmp_path))


async def one_each(exits: AsyncExitStack, cluster: PodCluster, *, stay: bool) -> dict[str, StreamingClient]:
    """A user of every pod, by the pod's name, with a simulator and a socket there; ``stay``: they go nowhere else."""

    async def one(pod: PodProcess) -> StreamingClient:
        user = f"user-of-{pod.name}"
        api = cluster.api(user, pod)
        await api.start_simulator(await api.open_session())
        return StreamingClient(cluster, user, url=pod.url if stay else BALANCED_URL)

    clients = await asyncio.gather(*(one(pod) for pod in cluster.pods))
    for client in clients:
        await exits.enter_async_context(client)
        await client.has_frames(2, within_s=40)
    return {pod.name: client for pod, client in zip(cluster.pods, clients, strict=True)}


async def all_end(cluster: PodCluster, pods: Sequence[PodProcess], times: FaultTimes) -> float:
    """SIGTERM to these at once; they end in order, in time. The longest, in seconds."""
    for pod in pods:
        pod.terminate()
    took_s = max(await asyncio.gather(*(cluster.has_ended(pod) for pod in pods)))
    assert took_s <= times.grace_period_s - EXITS_BEFORE_GRACE_S
    assert not any("Traceback" in pod.output for pod in pods)
    return took_s


async def simulators(cluster: PodCluster) -> dict[str, tuple[str, str | None]]:
    """Status and reason of every simulator, by its user."""
    connection = await asyncpg.connect(cluster.database.owner_dsn)
    try:
        rows = await connection.fetch("SELECT user_id, status, reason FROM simulator.instances")
    finally:
        await connection.close()
    return {row["user_id"]: (row["status"], row["reason"]) for row in rows}


async def nothing_is_left(cluster: PodCluster) -> None:
    """No workload, no teardown, no socket, and only pods that were killed, not told, are still listed."""
    assert set((await simulators(cluster)).values()) == {("STOPPED", "pod_terminated")}
    assert await cluster.workloads.simulator_ids() == set()
    connection = await asyncpg.connect(cluster.database.owner_dsn)
    try:
        assert await connection.fetchval("SELECT count(*) FROM simulator.teardowns") == 0
        assert await connection.fetchval("SELECT count(*) FROM session.pods WHERE NOT dead") == 0
        assert await connection.fetchval("SELECT count(*) FROM session.sockets") == 0
    finally:
        await connection.close()


async def test_all_pods_at_once(
    exits: AsyncExitStack, make_cluster: MakeCluster, runner: SharedRunner, times: FaultTimes, measured: Measured
) -> None:
    cluster = await make_cluster(runner)
    await one_each(exits, cluster, stay=False)
    took_s = await all_end(cluster, cluster.pods, times)
    measured.row("SIGTERM to all three pods at once", longest_exit_s=round(took_s, 2))
    await nothing_is_left(cluster)
    await check_cluster_invariants(cluster, within_s=0.0)


async def test_two_of_three_at_once_and_then_the_last(
    exits: AsyncExitStack, make_cluster: MakeCluster, exchange: SharedExchange, times: FaultTimes, measured: Measured
) -> None:
    """As long as a pod lives, no portfolio is stopped: what the two owned goes to the third."""
    cluster = await make_cluster(exchange)
    clients = await one_each(exits, cluster, stay=False)
    workloads = await cluster.workloads.simulator_ids()
    took_s = await all_end(cluster, cluster.pods[:2], times)
    assert set((await simulators(cluster)).values()) == {("RUNNING", None)}
    assert await cluster.workloads.simulator_ids() == workloads
    for client in clients.values():
        await client.has_frames(5, within_s=30)
        assert client.client.statistics.snapshots == 1  # the same simulator, continued where it was
    await check_cluster_invariants(cluster, within_s=2 * times.settled_within_s)

    last_s = await all_end(cluster, cluster.pods[2:], times)
    measured.row(
        "SIGTERM to two of three pods, then to the last", longest_exit_s=round(took_s, 2), last_s=round(last_s, 2)
    )
    await nothing_is_left(cluster)
    await check_cluster_invariants(cluster, within_s=0.0)


async def test_the_last_pod_finds_that_it_is_while_another_was_just_killed(
    exits: AsyncExitStack, make_cluster: MakeCluster, exchange: SharedExchange, times: FaultTimes, measured: Measured
) -> None:
    cluster = await make_cluster(exchange)
    clients = await one_each(exits, cluster, stay=False)
    first, second, third = cluster.pods
    await all_end(cluster, [first], times)
    assert set((await simulators(cluster)).values()) == {("RUNNING", None)}
    await clients[first.name].has_frames(2, within_s=30)
    await second.kill()
    took_s = await all_end(cluster, [third], times)
    measured.row("SIGTERM to the last pod, another killed a moment before", exit_s=round(took_s, 2))
    await nothing_is_left(cluster)
    await check_cluster_invariants(cluster, within_s=0.0)


async def test_with_the_policy_stop_a_pod_takes_its_sessions_simulators_along(
    exits: AsyncExitStack, make_cluster: MakeCluster, exchange: SharedExchange, times: FaultTimes, measured: Measured
) -> None:
    cluster = await make_cluster(exchange, SIMULATOR_SHUTDOWN_POLICY="stop")
    clients = await one_each(exits, cluster, stay=True)
    third = cluster.pods[2]
    took_s = await all_end(cluster, cluster.pods[:2], times)
    assert await simulators(cluster) == {
        "user-of-pod-1": ("STOPPED", "pod_terminated"),
        "user-of-pod-2": ("STOPPED", "pod_terminated"),
        "user-of-pod-3": ("RUNNING", None),
    }
    assert len(await cluster.workloads.simulator_ids()) == 1
    await clients[third.name].has_frames(3, within_s=30)
    assert clients[third.name].pods == [third.name]
    measured.row("SIGTERM to two of three pods, policy stop", longest_exit_s=round(took_s, 2))
    await check_cluster_invariants(cluster, within_s=2 * times.settled_within_s)
