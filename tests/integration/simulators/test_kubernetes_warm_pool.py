"""A whole pod that keeps spares on a cluster: what a start asks of the API server, and what is left in the end."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import grpc
import pytest

from tests.support.api_client import ApiClient
from tests.support.fake_kubernetes.cluster import NAMESPACE, Cluster, fake_cluster
from tests.support.fake_kubernetes.kubelet import ProcessContainers
from tests.support.fake_kubernetes.object_store import FOREGROUND, Key
from tests.support.service import Service
from tests.support.sql import Sql
from tests.support.waiting import eventually

SIZE = 2
WITHIN_S = 30.0


@pytest.fixture
async def cluster(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cluster]:
    """Its Services' names resolve in this process."""
    containers = ProcessContainers()
    async with fake_cluster(containers=containers) as made:
        real = grpc.aio.insecure_channel
        monkeypatch.setattr(
            grpc.aio, "insecure_channel", lambda target, **options: real(made.resolve(target), **options)
        )
        yield made
    await containers.stop_all()


@pytest.fixture
async def service(
    cluster: Cluster, make_service: Callable[..., Awaitable[Service]], tmp_path: Path, sql: Sql
) -> Service:
    """A pod whose spares are ready."""
    made = await make_service(
        SIMULATOR_BACKEND="kubernetes",
        SIMULATOR_IMAGE="registry.example/simulator:1",
        KUBERNETES_NAMESPACE=NAMESPACE,
        KUBECONFIG=str(cluster.kubeconfig(tmp_path / "kubeconfig")),
        SIMULATOR_WARM_POOL_SIZE=str(SIZE),
    )
    await is_full(sql)
    return made


async def spares(sql: Sql) -> set[str]:
    """Those that are ready."""
    rows = await sql.fetch("SELECT simulator_id FROM simulator.warm_pool WHERE status = 'READY'")
    return {row["simulator_id"] for row in rows}


async def is_full(sql: Sql) -> None:
    async def full() -> bool:
        return len(await spares(sql)) == SIZE

    await eventually(full, within_s=WITHIN_S, what="every spare is ready")


def created(cluster: Cluster) -> list[str]:
    """What was created so far, by its name."""
    return [json.loads(call.body)["metadata"]["name"] for call in cluster.api.calls("create")]


async def test_a_start_from_the_pool_creates_nothing(
    service: Service, api: ApiClient, cluster: Cluster, sql: Sql
) -> None:
    ready = await spares(sql)
    before, asked = cluster.pods(), len(cluster.api.journal)
    assert set(created(cluster)) == {f"simulator-{simulator_id}" for simulator_id in ready}
    session_id = await api.open_session()
    simulator_id = await api.start_simulator(session_id, initialSymbols=["AAPL"], initialCash=5000)
    name = f"simulator-{simulator_id}"

    assert simulator_id in ready
    # The same Pod in the same state: nothing was created, restarted or changed for it.
    mine = {key: pod for key, pod in before.items() if pod["metadata"]["labels"]["simulator_id"] == simulator_id}
    assert len(mine) == 1
    assert {key: cluster.pods()[key] for key in mine} == mine
    calls = [call for call in cluster.api.journal[asked:] if name in {call.name, json_name(call.body)}]
    assert {call.verb for call in calls} == {"get", "patch"}
    assert created(cluster).count(name) == 2  # its Deployment and its Service, when it was a spare
    for objects in (cluster.deployments(), cluster.services()):
        labels = objects[name]["metadata"]["labels"]
        assert (labels["session_id"], labels["user_id"]) == (session_id, "user-1")

    assert (await api.order(simulator_id, "order-1", quantity=2))["status"] in {"FILLED", "PARTIALLY_FILLED", "NEW"}
    await is_full(sql)
    assert simulator_id not in await spares(sql)
    assert [call for call in cluster.api.journal if call.status in {401, 403, 415, 422}] == []


def json_name(body: bytes) -> str:
    """Of a create's object."""
    metadata = json.loads(body or b"{}").get("metadata", {})
    return str(metadata.get("name", ""))


async def test_a_spare_that_somebody_removed_is_no_reason_for_a_start_to_fail(
    service: Service, api: ApiClient, cluster: Cluster, sql: Sql
) -> None:
    ready = await spares(sql)
    for simulator_id in ready:
        cluster.store.mark_ending(Key("deployments", NAMESPACE, f"simulator-{simulator_id}"), finalizer=FOREGROUND)
    simulator_id = await api.start_simulator(await api.open_session())
    assert simulator_id in ready
    replaced = {"operation": "replace", "status": "success"}
    registry = service.server.metrics.registry
    assert registry.get_sample_value("session_simulator_operations_total", replaced) == 1
    assert created(cluster).count(f"simulator-{simulator_id}") == 4  # a Deployment and a Service, twice
    assert [call for call in cluster.api.journal if call.status in {401, 403, 415, 422}] == []


@pytest.mark.usefixtures("service")
async def test_a_session_that_ends_takes_what_was_a_spare_along(api: ApiClient, cluster: Cluster, sql: Sql) -> None:
    session_id = await api.open_session()
    simulator_id = await api.start_simulator(session_id)
    assert (await api.call("DELETE", f"/api/sessions/{session_id}"))[0] == 200

    async def is_gone() -> bool:
        return f"simulator-{simulator_id}" not in cluster.deployments() and not await sql.fetchval(
            "SELECT count(*) FROM simulator.teardowns"
        )

    await eventually(is_gone, within_s=WITHIN_S, what="it is gone")
    await is_full(sql)
    assert set(cluster.deployments()) == {f"simulator-{one}" for one in await spares(sql)}


async def test_the_last_pod_leaves_no_spare(service: Service, api: ApiClient, cluster: Cluster) -> None:
    await api.start_simulator(await api.open_session())
    await service.server.shutdown("test over")
    assert cluster.is_empty()
