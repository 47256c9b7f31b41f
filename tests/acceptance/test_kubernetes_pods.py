"""Pods on a cluster's API: one is killed, one is rolled, and the simulators that they made run on until removed."""

from __future__ import annotations

import asyncio
import math
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.support.api_client import ApiClient
from tests.support.census import Census, Owners
from tests.support.fake_kubernetes.network import why_no_node
from tests.support.fault_times import FaultTimes
from tests.support.invariants import check_cluster_invariants
from tests.support.measured import Measured
from tests.support.metrics_reader import metric_total
from tests.support.pod_cluster import PodCluster
from tests.support.servers import Database, TestServers
from tests.support.shared_cluster import shared_cluster
from tests.support.streaming_client import streaming_clients
from tests.support.waiting import eventually

SIMULATORS = 12
FEW_SIMULATORS = 4
STARTED_WITHIN_S = 60.0  # the longest back-off of a backend that was away, and a busy machine
SESSION_TIMEOUT_S = 8
REMOVED_WITHIN_S = 20.0

NO_NODE = why_no_node()


@pytest.mark.skipif(NO_NODE is not None, reason=str(NO_NODE))
async def test_simulators_outlive_a_killed_and_a_rolled_pod_and_leave_nothing(
    servers: TestServers, database: Database, tmp_path: Path, times: FaultTimes, measured: Measured
) -> None:
    environ = {
        **servers.redis_environ(),
        **times.environ(),
        "SESSION_TIMEOUT_SECONDS": str(SESSION_TIMEOUT_S),
        "WEBSOCKET_HEARTBEAT_INTERVAL": "1",
        "SIMULATOR_HEARTBEAT_INTERVAL": "1",
    }
    async with (
        shared_cluster(tmp_path / "cluster", UPDATE_INTERVAL_MS="200") as kubernetes,
        PodCluster(tmp_path, database, kubernetes, environ, launcher=kubernetes.launcher) as cluster,
    ):
        async with AsyncExitStack() as exits:
            clients = await streaming_clients(exits, cluster, [f"user-{number}" for number in range(SIMULATORS)])
            at_first, first_owners = Census.of(kubernetes), await Owners.of(database)
            assert len(at_first.deployments) == len(at_first.services) == len(at_first.processes) == SIMULATORS
            victim = cluster[2]
            lost = first_owners.sessions_by_pod[victim.name]
            assert lost, "the killed pod looked after nothing"
            await victim.kill()

            await _owned_by_the_living(cluster, within_s=times.settled_within_s + 5.0)
            assert (await Owners.of(database)).taken_since(first_owners) >= lost
            taken = [await metric_total(pod, "session_takeovers_total") for pod in cluster.running]
            await asyncio.gather(*(client.has_frames(2, within_s=10) for client in clients))
            await check_cluster_invariants(cluster, within_s=times.settled_within_s)
            await cluster.replace(cluster[1])
            await cluster.has_ended(cluster[1])
            await asyncio.gather(*(client.has_frames(2, within_s=10) for client in clients))
            await check_cluster_invariants(cluster, within_s=times.settled_within_s)
            measured.row(
                f"kill -9 and a roll under {SIMULATORS} simulators of a cluster",
                taken_over=sum(taken),
                gaps=sum(client.gaps for client in clients),
                duplicates=sum(client.duplicates for client in clients),
                not_resumed=sum(client.client.statistics.not_resumed for client in clients),
            )
            assert sum(taken) >= lost
            assert sum(client.gaps for client in clients) == 0
            assert sum(client.duplicates for client in clients) == 0
            assert {len(client.session_ids) for client in clients} == {1}
            assert Census.of(kubernetes) == at_first, "an object or a process was made anew"
            assert [call for call in kubernetes.cluster.api.journal if call.status in {400, 401, 403, 422}] == []
        await _remove(cluster, [client.user_id for client in clients])

        async def nothing_stands() -> bool:
            return Census.of(kubernetes).is_empty

        await eventually(
            nothing_stands, within_s=REMOVED_WITHIN_S + SESSION_TIMEOUT_S, what="no object is left in the cluster"
        )
        await check_cluster_invariants(cluster, within_s=times.settled_within_s)
        assert sum([await metric_total(pod, "session_orphans_removed_total") for pod in cluster.running]) == 0


@pytest.mark.skipif(NO_NODE is not None, reason=str(NO_NODE))
async def test_a_pod_may_be_killed_while_the_api_server_is_away(
    servers: TestServers, database: Database, tmp_path: Path, times: FaultTimes
) -> None:
    environ = {**servers.redis_environ(), **times.environ(), "SIMULATOR_HEARTBEAT_INTERVAL": "1"}
    async with (
        shared_cluster(tmp_path / "cluster", UPDATE_INTERVAL_MS="200") as kubernetes,
        PodCluster(tmp_path, database, kubernetes, environ, launcher=kubernetes.launcher) as cluster,
        AsyncExitStack() as exits,
    ):
        clients = await streaming_clients(exits, cluster, [f"user-{number}" for number in range(FEW_SIMULATORS)])
        at_first = Census.of(kubernetes)
        await kubernetes.cluster.api.__aexit__()
        await cluster[2].kill()
        await _owned_by_the_living(cluster, within_s=times.settled_within_s + 5.0)
        await asyncio.gather(*(client.has_frames(2, within_s=10) for client in clients))
        late = cluster.api("late")
        _, body = await late.call("POST", "/api/simulators", json={"sessionId": await late.open_session()})
        await kubernetes.cluster.api.__aenter__()
        await late.simulator_is(body["simulatorId"], "RUNNING", within_s=STARTED_WITHIN_S)
        now = Census.of(kubernetes)
        assert now.deployments.items() > at_first.deployments.items()
        assert now.processes.items() > at_first.processes.items()
        assert sum(client.gaps + client.duplicates for client in clients) == 0
        await check_cluster_invariants(cluster, within_s=times.settled_within_s)


async def _owned_by_the_living(cluster: PodCluster, *, within_s: float) -> None:
    """Wait until every session is looked after by a pod that runs."""

    async def all_are() -> bool:
        owners = await Owners.of(cluster.database)
        return owners.sessions_by_pod.keys() <= {pod.name for pod in cluster.running}

    await eventually(all_are, within_s=within_s, what="every session owned again")


async def _remove(cluster: PodCluster, users: list[str]) -> None:
    """Some stop their simulators, some end their sessions, and some never come back."""
    third = math.ceil(len(users) / 3)

    async def stop(api: ApiClient) -> None:
        session_id = await api.open_session()
        status, body = await api.call("DELETE", f"/api/simulators?sessionId={session_id}")
        assert status == 200, body

    async def sign_out(api: ApiClient) -> None:
        status, body = await api.call("DELETE", "/api/sessions")
        assert status == 200, body

    await asyncio.gather(*(stop(cluster.api(user)) for user in users[:third]))
    await asyncio.gather(*(sign_out(cluster.api(user)) for user in users[third : 2 * third]))
