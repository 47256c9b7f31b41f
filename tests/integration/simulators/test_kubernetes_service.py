"""A whole pod with the backend ``kubernetes``: a cluster's API over real HTTP, and real simulators as its Pods."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import grpc
import pytest

from session_service.simulators import start_attempts, steps
from session_service.simulators.backend import WorkloadPhase
from tests.support.api_client import ApiClient
from tests.support.fake_kubernetes.cluster import NAMESPACE, Cluster, Fate, fake_cluster
from tests.support.fake_kubernetes.kubelet import ProcessContainers
from tests.support.fake_kubernetes.mishaps import Mishap
from tests.support.service import Service
from tests.support.sql import Sql
from tests.support.waiting import eventually
from tests.support.websocket_client import connect

GONE_WITHIN_S = 30.0


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
def environ(cluster: Cluster, tmp_path: Path) -> dict[str, str]:
    """Of a pod on this cluster."""
    return {
        "SIMULATOR_BACKEND": "kubernetes",
        "SIMULATOR_IMAGE": "registry.example/simulator:1",
        "KUBERNETES_NAMESPACE": NAMESPACE,
        "KUBECONFIG": str(cluster.kubeconfig(tmp_path / "kubeconfig")),
    }


@pytest.fixture
async def service(environ: dict[str, str], make_service: Callable[..., Awaitable[Service]]) -> Service:
    return await make_service(**environ)


async def nothing_is_left(cluster: Cluster, sql: Sql) -> None:
    async def empty() -> bool:
        return cluster.is_empty() and not await sql.fetchval("SELECT count(*) FROM simulator.teardowns")

    await eventually(empty, within_s=GONE_WITHIN_S, what="no object and no teardown is left")


async def test_from_start_to_delete(service: Service, api: ApiClient, cluster: Cluster, sql: Sql) -> None:
    session_id = await api.open_session()
    simulator_id = await api.start_simulator(session_id, initialSymbols=["AAPL"], initialCash=5000)
    assert list(cluster.deployments()) == list(cluster.services()) == [f"simulator-{simulator_id}"]
    labels = cluster.deployments()[f"simulator-{simulator_id}"]["metadata"]["labels"]
    assert labels["session-db"] == await sql.fetchval("SELECT database_id::text FROM session.installation")
    assert (labels["session_id"], labels["user_id"]) == (session_id, "user-1")
    trusted = await ApiClient(service.http, "a-service", scope="simulators").session(session_id)
    assert trusted["simulator_endpoint"] == f"simulator-{simulator_id}.{NAMESPACE}.svc.cluster.local:50055"

    async with connect(service, sessionId=session_id) as client:
        frames = [await client.receive_type("exchange_data") for _ in range(5)]
        assert frames[0]["snapshot"]
        assert [quote["symbol"] for quote in frames[0]["data"]["marketData"]] == ["AAPL"]
        assert all(after["fromSequence"] == before["sequence"] + 1 for before, after in itertools.pairwise(frames))
    assert (await api.order(simulator_id, "order-1", quantity=2))["status"] in {"FILLED", "PARTIALLY_FILLED", "NEW"}

    status, _ = await api.call("DELETE", f"/api/simulators/{simulator_id}")
    assert status == 200
    await api.simulator_is(simulator_id, "STOPPED")
    await nothing_is_left(cluster, sql)
    assert [call for call in cluster.api.journal if call.status in {401, 403, 422}] == []


async def test_the_end_of_a_session_takes_its_objects_along(
    service: Service, api: ApiClient, cluster: Cluster, sql: Sql
) -> None:
    session_id = await api.open_session()
    await api.start_simulator(session_id)
    status, _ = await api.call("DELETE", f"/api/sessions/{session_id}")
    assert status == 200
    await nothing_is_left(cluster, sql)


async def test_the_last_pod_leaves_no_object(service: Service, api: ApiClient, cluster: Cluster) -> None:
    session_id = await api.open_session()
    await api.start_simulator(session_id)
    await ApiClient(service.http, "user-2").start_simulator(await ApiClient(service.http, "user-2").open_session())
    assert len(cluster.deployments()) == 2
    await service.server.shutdown("test over")
    assert cluster.is_empty()


@pytest.mark.parametrize("fate", [Fate.MEMORY, Fate.CRASH])
async def test_what_will_not_run_fails_with_its_reason(
    service: Service, api: ApiClient, cluster: Cluster, sql: Sql, fate: Fate
) -> None:
    cluster.fate = fate
    session_id = await api.open_session()
    _, body = await api.call("POST", "/api/simulators", json={"sessionId": session_id})
    simulator = await api.simulator_is(body["simulatorId"], "ERROR")
    assert simulator["reason"] == fate.value
    await nothing_is_left(cluster, sql)


async def test_what_keeps_it_waiting_is_told_while_it_waits(
    service: Service, api: ApiClient, cluster: Cluster, sql: Sql
) -> None:
    cluster.fate = Fate.IMAGE
    session_id = await api.open_session()
    async with connect(service, sessionId=session_id) as client:
        _, body = await api.call("POST", "/api/simulators", json={"sessionId": session_id})
        simulator_id = body["simulatorId"]
        while (told := await client.receive_type("simulator_status")).get("reason") != "ImagePullBackOff":
            assert told["status"] == "STARTING"
        assert (await api.simulator(simulator_id))["reason"] == "ImagePullBackOff"
        # The image is there at last.
        cluster.fate = Fate.READY
        await cluster.evict(f"simulator-{simulator_id}")
        while (told := await client.receive_type("simulator_status"))["status"] != "RUNNING":
            assert told["status"] == "STARTING"
        assert told.get("reason") is None
    assert (await api.simulator(simulator_id))["reason"] is None


async def test_a_create_that_is_refused_fails_at_once(
    service: Service, api: ApiClient, cluster: Cluster, sql: Sql
) -> None:
    cluster.api.mishaps.add(Mishap(verb="create", plural="deployments", status=403))
    _, body = await api.call("POST", "/api/simulators", json={"sessionId": await api.open_session()})
    simulator = await api.simulator_is(body["simulatorId"], "ERROR")
    assert simulator["reason"] == "Injected"  # the word of the API server


@pytest.mark.parametrize("plural", ["deployments", "services"])
async def test_a_create_whose_reply_is_lost_runs_all_the_same(
    service: Service, api: ApiClient, cluster: Cluster, sql: Sql, plural: str
) -> None:
    cluster.api.mishaps.add(Mishap(verb="create", plural=plural, reply_lost=True))
    simulator_id = await api.start_simulator(await api.open_session())
    assert len(cluster.deployments()) == len(cluster.services()) == 1
    # Long enough for the create that was not answered never to take effect any more.
    await sql.execute("UPDATE simulator.instances SET create_until = '-infinity'")
    await api.call("DELETE", f"/api/simulators/{simulator_id}")
    await nothing_is_left(cluster, sql)


async def test_while_it_starts_it_is_not_asked_after(service: Service, api: ApiClient, cluster: Cluster) -> None:
    cluster.fate = Fate.IMAGE
    _, body = await api.call("POST", "/api/simulators", json={"sessionId": await api.open_session()})

    async def told() -> bool:
        (pod,) = cluster.pods().values() or [{}]
        statuses = pod.get("status", {}).get("containerStatuses") or [{"state": {}}]
        return bool(statuses[0]["state"].get("waiting", {}).get("reason") == Fate.IMAGE)

    await eventually(told, within_s=20, what="its image cannot be had")
    await api.simulator_is(body["simulatorId"], "STARTING")
    rounds = await resyncs(service)
    before = len(cluster.api.journal)

    async def two_rounds_later() -> bool:
        """The reconciler has looked at it ten times and more."""
        return await resyncs(service) >= rounds + 2

    await eventually(two_rounds_later, within_s=40, what="two rounds of the reconciler")
    assert len(cluster.api.journal) - before <= 3  # one look, if its last news was still to be read


async def test_a_watch_that_says_nothing_is_not_waited_for(
    cluster: Cluster,
    environ: dict[str, str],
    make_service: Callable[..., Awaitable[Service]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(start_attempts, "LOOK_EVERY_S", 1.0)
    cluster.api.mishaps.add(Mishap(verb="watch", plural="pods", silent=True))
    service = await make_service(**environ)
    api = ApiClient(service.http)
    simulator_id = await api.start_simulator(await api.open_session())
    observed = service.server._backend.observed(simulator_id)
    assert observed is not None
    assert observed.phase is WorkloadPhase.PENDING  # as far as anybody has told


async def test_an_api_server_that_only_fails_ends_a_start(
    sql: Sql, service: Service, api: ApiClient, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "START_LIMIT_S", 1.0)
    cluster.api.mishaps.add(Mishap(plural="deployments", status=500, times=1_000_000))
    _, body = await api.call("POST", "/api/simulators", json={"sessionId": await api.open_session()})
    simulator = await api.simulator_is(body["simulatorId"], "ERROR")
    assert simulator["reason"] == "platform_unavailable"
    cluster.api.mishaps.clear()
    assert cluster.is_empty()
    # For all that the pod knows, its create may take effect yet: ending as the last, it would wait until its limit.
    await sql.execute("DELETE FROM simulator.teardowns")


async def resyncs(service: Service) -> float:
    name, labels = "session_background_pass_duration_seconds_count", {"loop": "simulator_resync"}
    return service.server.metrics.registry.get_sample_value(name, labels) or 0.0


async def test_the_api_server_may_be_away_while_simulators_run(
    service: Service, api: ApiClient, cluster: Cluster
) -> None:
    session_id = await api.open_session()
    simulator_id = await api.start_simulator(session_id)
    await cluster.api.__aexit__()
    async with connect(service, sessionId=session_id) as client:
        await client.receive_type("exchange_data")
    assert (await api.order(simulator_id, "order-1"))["orderId"]
    async with service.http.get("/readiness") as response:
        assert response.status == 200
    other = ApiClient(service.http, "user-2")
    _, body = await other.call("POST", "/api/simulators", json={"sessionId": await other.open_session()})
    await cluster.api.__aenter__()
    await other.simulator_is(body["simulatorId"], "RUNNING", within_s=30)
