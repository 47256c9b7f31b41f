"""PostgreSQL away while pods are told to go: whoever is left, or comes next, looks after what they had."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import AsyncIterator
from enum import StrEnum

import asyncpg
import msgspec
import pytest
import pytest_asyncio

from tests.support.cluster_template import ClusterTemplate
from tests.support.fault_times import FaultTimes
from tests.support.invariants import check_cluster_invariants
from tests.support.measured import Measured
from tests.support.pod_cluster import PODS, PodCluster
from tests.support.pod_process import PodProcess
from tests.support.process_faults import frozen, kill
from tests.support.servers import TestServers
from tests.support.waiting import eventually
from tests.support.workloads import SharedExchange, shared_exchange

# One cluster for all: after each case every pod runs again, and every user has a simulator.
pytestmark = pytest.mark.asyncio(loop_scope="module")

EXITS_BEFORE_GRACE_S = 5.0
USERS = [f"user-of-pod-{number}" for number in range(1, PODS + 1)]


class Fault(StrEnum):
    FROZEN = "frozen"
    KILLED = "killed"
    RESTARTED = "restarted"


class When(StrEnum):
    """When pods get SIGTERM."""

    BEFORE = "before"  # PostgreSQL goes while they drain
    DURING = "during"
    AFTER = "after"  # as soon as it answers again


class Case(msgspec.Struct, frozen=True):
    fault: Fault
    when: When
    told: tuple[int, ...]  # the numbers of the pods that get SIGTERM, all at once

    def __str__(self) -> str:
        return f"{self.fault} PostgreSQL, {self.when} that SIGTERM to {len(self.told)} of {PODS}"


# Which pods they are matters little, since they are alike: their number does.
EVERY = [
    Case(fault, when, tuple(range(1, count + 1)))
    for fault, when, count in itertools.product(Fault, When, range(1, PODS + 1))
    if not (fault is Fault.RESTARTED and when is When.DURING)  # it is not away for long enough
]
THE_MOST_TELLING = [
    Case(Fault.KILLED, When.DURING, (1, 2, 3)),
    Case(Fault.FROZEN, When.DURING, (3,)),
    Case(Fault.RESTARTED, When.AFTER, (1, 2, 3)),
]
CASES = EVERY if float(os.environ.get("FAULT_SCALE", "0")) >= 1 else THE_MOST_TELLING


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def own_servers(
    tmp_path_factory: pytest.TempPathFactory, cluster_template: ClusterTemplate
) -> AsyncIterator[TestServers]:
    servers = TestServers(tmp_path_factory.mktemp("servers"), cluster_template)
    await servers.start()
    yield servers
    await servers.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def exchange(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SharedExchange]:
    """It keeps what it has for longer than any outage, though nobody looks after it."""
    async with shared_exchange(tmp_path_factory.mktemp("exchange"), HEARTBEAT_TTL_S="3600") as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(
    own_servers: TestServers,
    exchange: SharedExchange,
    tmp_path_factory: pytest.TempPathFactory,
    times: FaultTimes,
) -> AsyncIterator[PodCluster]:
    environ = {**own_servers.redis_environ(), **times.environ()}
    database = await own_servers.create_database()
    async with PodCluster(tmp_path_factory.mktemp("pods"), database, exchange, environ) as started:
        yield started


@contextlib.asynccontextmanager
async def away(servers: TestServers, fault: Fault) -> AsyncIterator[None]:
    """PostgreSQL does not answer within the block, and does after it."""
    postgres = servers.postgres
    match fault:
        case Fault.FROZEN:
            with frozen(postgres.pid):
                yield
        case Fault.KILLED:
            kill(postgres.pid)
            await postgres.wait()
            yield
            await postgres.start()
        case Fault.RESTARTED:
            await postgres.stop()
            yield
            await postgres.start()


async def simulators(cluster: PodCluster) -> dict[str, tuple[str, str | None]]:
    """Status and reason of the newest simulator of every user."""
    connection = await asyncpg.connect(cluster.database.owner_dsn)
    try:
        rows = await connection.fetch(
            "SELECT DISTINCT ON (user_id) user_id, status, reason FROM simulator.instances"
            " ORDER BY user_id, created_at DESC"
        )
    finally:
        await connection.close()
    return {row["user_id"]: (row["status"], row["reason"]) for row in rows}


async def drain_is_known(cluster: PodCluster, told: list[PodProcess]) -> None:
    connection = await asyncpg.connect(cluster.database.owner_dsn)
    names = sorted(pod.name for pod in told)
    query = "SELECT array_agg(pod_name ORDER BY pod_name) FROM session.pods WHERE draining AND NOT dead"

    async def is_known() -> bool:
        return bool(await connection.fetchval(query) == names)

    try:
        await eventually(is_known, within_s=5, what="the drain of all of them")
    finally:
        await connection.close()


async def everyone_has_a_simulator(cluster: PodCluster) -> dict[str, str]:
    """Every user's session, at the pod of its number, each with a running simulator: user → session."""
    sessions = {}
    for user, pod in zip(USERS, cluster.pods, strict=True):
        api = cluster.api(user, pod)
        sessions[user] = await api.open_session()
        await api.start_simulator(sessions[user])
    return sessions


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_nothing_is_lost_and_nothing_is_left_over(
    case: Case,
    own_servers: TestServers,
    cluster: PodCluster,
    exchange: SharedExchange,
    times: FaultTimes,
    outage_s: float,
    measured: Measured,
) -> None:
    sessions = await everyone_has_a_simulator(cluster)
    workloads, starts = await exchange.simulator_ids(), exchange.starts
    told = [cluster[number] for number in case.told]

    if case.when is When.BEFORE:
        for pod in told:
            pod.terminate()
        await drain_is_known(cluster, told)
    async with away(own_servers, case.fault):
        if case.when is When.DURING:
            for pod in told:
                pod.terminate()
        if case.fault is not Fault.RESTARTED:
            await asyncio.sleep(outage_s)
    if case.when is When.AFTER:
        for pod in told:
            pod.terminate()
    took_s = max(await asyncio.gather(*(cluster.has_ended(pod) for pod in told)))
    assert took_s <= times.grace_period_s - EXITS_BEFORE_GRACE_S

    # Before anybody is started again: what the pods that are left, or nobody, have made of it.
    now = await simulators(cluster)
    if len(told) < PODS or case.when is When.DURING:
        assert set(now.values()) == {("RUNNING", None)}, now  # a pod is left, or nobody could be asked whether one is
    elif case.when is When.AFTER:
        assert set(now.values()) == {("STOPPED", "pod_terminated")}, now
    else:  # PostgreSQL went while they were asking: either, but the same for all
        assert set(now.values()) in ({("RUNNING", None)}, {("STOPPED", "pod_terminated")}), now

    for pod in told:
        await pod.start()
    await asyncio.gather(*(pod.is_ready() for pod in cluster.pods))
    await check_cluster_invariants(cluster, within_s=2 * times.settled_within_s)
    assert await simulators(cluster) == now
    assert {user: await cluster.api(user, cluster[2]).open_session() for user in USERS} == sessions
    if set(now.values()) == {("RUNNING", None)}:
        assert (await exchange.simulator_ids(), exchange.starts) == (workloads, starts)
    else:
        assert await exchange.simulator_ids() == set()
    kept = [user for user, (status, _) in now.items() if status == "RUNNING"]
    measured.row(str(case), longest_exit_s=round(took_s, 2), simulators_kept=len(kept))
