"""Pods create no more than they may between them, users take turns, and clients are told their place meanwhile."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.support.api_client import ApiClient
from tests.support.fake_kubernetes.cluster import NAMESPACE, Cluster, Fate, fake_cluster
from tests.support.fake_kubernetes.kubelet import ProcessContainers
from tests.support.fake_kubernetes.mishaps import Mishap
from tests.support.service import Service
from tests.support.sql import Sql
from tests.support.waiting import eventually
from tests.support.websocket_client import Client, ClosedError, connect

SLOTS = 2
STARTS = 10
TOLD_WITHIN_S = 20.0
RUN_WITHIN_S = 120.0
WITHOUT_REDIS = {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": "1"}

MakePods = Callable[..., Awaitable[list[Service]]]


@pytest.fixture
async def cluster(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cluster]:
    """Its Services' names resolve in this process."""
    containers = ProcessContainers(starts_at_once=SLOTS)
    async with fake_cluster(containers=containers) as made:
        real = grpc.aio.insecure_channel
        monkeypatch.setattr(
            grpc.aio, "insecure_channel", lambda target, **options: real(made.resolve(target), **options)
        )
        yield made
    await containers.stop_all()


@pytest.fixture
def make_pods(cluster: Cluster, make_service: Callable[..., Awaitable[Service]], tmp_path: Path) -> MakePods:
    async def make(count: int, **environ: str) -> list[Service]:
        return [
            await make_service(
                POD_NAME=f"pod-{number}",
                SIMULATOR_BACKEND="kubernetes",
                SIMULATOR_IMAGE="registry.example/simulator:1",
                SIMULATOR_MAX_CONCURRENT_STARTS=str(SLOTS),
                MAX_SIMULATORS_PER_USER="100",
                MAX_SESSIONS_PER_USER="100",
                KUBERNETES_NAMESPACE=NAMESPACE,
                KUBECONFIG=str(cluster.kubeconfig(tmp_path / f"kubeconfig-{number}")),
                **environ,
            )
            for number in range(1, count + 1)
        ]

    return make


class Waiter:
    """A client that starts a simulator and reads what it is told of it, until it runs."""

    def __init__(self, client: Client, simulator_id: str) -> None:
        self.simulator_id = simulator_id
        self.told: list[tuple[str, int | None]] = []  # status and place
        self.reading = asyncio.create_task(self._read(client))

    async def _read(self, client: Client) -> None:
        while True:
            try:
                frame = await client.receive()
            except (ClosedError, TimeoutError):
                return
            if frame["type"] == "simulator_status" and frame["simulatorId"] == self.simulator_id:
                self.told.append((frame["status"], frame.get("queuePosition")))
                if frame["status"] not in {"STARTING", "CREATING"}:
                    return

    @property
    def place(self) -> int | None:
        """As it was told last."""
        return self.told[-1][1] if self.told else None

    @property
    def places(self) -> list[int]:
        return [place for _status, place in self.told if place is not None]


@pytest.fixture
async def clients() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


async def start(clients: AsyncExitStack, user_id: str, device_id: str, called: Service, connected: Service) -> Waiter:
    """A start asked for at one pod, by a client whose socket is at another."""
    api = ApiClient(called.http, user_id)
    session_id = await api.open_session(device_id)
    client = await clients.enter_async_context(connect(connected, user_id, deviceId=device_id, sessionId=session_id))
    status, body = await api.call("POST", "/api/simulators", json={"sessionId": session_id})
    assert (status, body["status"]) == (202, "STARTING")
    waiter = Waiter(client, body["simulatorId"])
    clients.callback(waiter.reading.cancel)
    return waiter


async def places_become(waiters: list[Waiter], expected: set[int]) -> None:
    async def told() -> bool:
        return {waiter.place for waiter in waiters if waiter.place is not None} == expected

    await eventually(told, within_s=TOLD_WITHIN_S, what=f"the places {expected}")


async def all_run(waiters: list[Waiter]) -> None:
    async with asyncio.timeout(RUN_WITHIN_S):
        await asyncio.gather(*(waiter.reading for waiter in waiters))
    assert [waiter.told[-1] for waiter in waiters] == [("RUNNING", None)] * len(waiters)


def created_at_once(cluster: Cluster) -> int:
    """The most Deployments that stood there at one moment without a Pod that had been ready."""
    creating: set[str] = set()
    most = 0
    for event in cluster.store.events_since(0):
        if event.key.plural == "deployments" and event.type == "ADDED":
            creating.add(event.key.name)
        elif event.key.plural == "deployments" and event.type == "DELETED":
            creating.discard(event.key.name)
        elif event.key.plural == "pods" and _is_ready(event.object):
            creating.discard(f"simulator-{event.object['metadata']['labels']['simulator_id']}")
        most = max(most, len(creating))
    return most


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions") or []
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


@pytest.mark.parametrize("environ", [{}, WITHOUT_REDIS], ids=["redis", "without-redis"])
async def test_ten_starts_of_one_and_one_of_another(
    cluster: Cluster, make_pods: MakePods, clients: AsyncExitStack, sql: Sql, environ: dict[str, str]
) -> None:
    one, other = await make_pods(2, **environ)
    cluster.fate = Fate.IMAGE  # the first two keep their slots, until the image is there
    anns = [
        await start(clients, "ann", f"device-{number}", *pods)
        for number, pods in zip(range(STARTS), itertools.cycle([(one, other), (other, one)]), strict=False)
    ]
    await places_become(anns, set(range(1, STARTS - SLOTS + 1)))
    await sql.execute(
        "UPDATE simulator.instances SET admitted_at = admitted_at + interval '1 hour' WHERE admitted_at IS NOT NULL"
    )
    ben = await start(clients, "ben", "device", one, other)
    await places_become([ben], {1})  # Ann's waiting ones have had two turns before them
    await places_become(anns, set(range(2, STARTS - SLOTS + 2)))
    assert len(cluster.deployments()) == SLOTS
    last = max(anns, key=lambda waiter: waiter.place or 0)
    seen = await ApiClient(other.http, "ann").simulator(last.simulator_id)
    assert (seen["status"], seen["queuePosition"]) == ("CREATING", last.place)

    overtaken = {waiter.simulator_id: len(waiter.told) - 1 for waiter in anns}
    cluster.fate = Fate.READY
    for name in cluster.deployments():
        await cluster.evict(name)
    await all_run([*anns, ben])

    assert created_at_once(cluster) == SLOTS
    for waiter in anns:
        since = [place for _status, place in waiter.told[overtaken[waiter.simulator_id] :] if place is not None]
        assert since == sorted(set(since), reverse=True), waiter.told
        assert waiter.told[-2] == ("STARTING", None)  # the wait is over before it runs
    assert ben.places == [1]
    order = await sql.fetch("SELECT user_id FROM simulator.instances ORDER BY admitted_at, created_at")
    assert [row["user_id"] for row in order] == ["ben"] + ["ann"] * STARTS  # two of hers were before all that waited
    seen = await ApiClient(one.http, "ann").simulator(last.simulator_id)
    assert "queuePosition" not in seen


async def test_one_that_waits_is_stopped_at_once_and_its_place_is_anothers(
    cluster: Cluster, make_pods: MakePods, clients: AsyncExitStack, sql: Sql
) -> None:
    (pod,) = await make_pods(1)
    cluster.fate = Fate.IMAGE
    anns = [await start(clients, "ann", f"device-{number}", pod, pod) for number in range(SLOTS + 2)]
    await places_become(anns, {1, 2})
    first, second = sorted((waiter for waiter in anns if waiter.place), key=lambda waiter: waiter.place or 0)
    api = ApiClient(pod.http, "ann")
    assert await api.call("DELETE", f"/api/simulators/{first.simulator_id}") == (
        200,
        {"success": True, "status": "STOPPED"},
    )
    await places_become([second], {1})
    await first.reading
    assert first.told[-1] == ("STOPPED", None)
    # One that holds a slot gives it back, whatever its platform still has to remove.
    holder = next(waiter for waiter in anns if not waiter.places)
    cluster.fate = Fate.READY
    await api.call("DELETE", f"/api/simulators/{holder.simulator_id}")
    await all_run([second])
    names = {event.key.name for event in cluster.store.events_since(0) if event.key.plural == "deployments"}
    assert f"simulator-{first.simulator_id}" not in names


async def test_a_start_that_was_asked_for_patience_is_not_tried_before(
    cluster: Cluster, make_pods: MakePods, sql: Sql
) -> None:
    """Neither by the rounds that look at all that is on its way, nor by whoever asks how it is."""
    (pod,) = await make_pods(1)
    cluster.api.mishaps.add(Mishap(verb="create", plural="deployments", status=429, retry_after="3600"))
    api = ApiClient(pod.http, "ann")
    status, body = await api.call("POST", "/api/simulators", json={"sessionId": await api.open_session()})
    assert status == 202

    async def refused() -> bool:
        return len(cluster.api.calls("create", "deployments")) == 1

    await eventually(refused, within_s=TOLD_WITHIN_S, what="the API server's answer")
    before = resyncs(pod)

    async def three_rounds_later() -> bool:
        return resyncs(pod) >= before + 3

    await eventually(three_rounds_later, within_s=60, what="three rounds of the reconciler")
    assert await refused()
    status, _ = await api.call("DELETE", f"/api/simulators/{body['simulatorId']}")
    assert status == 200
    await sql.execute("UPDATE simulator.instances SET create_until = '-infinity'")
    await api.simulator_is(body["simulatorId"], "STOPPED")  # its end does not wait for that hour


def resyncs(pod: Service) -> float:
    name, labels = "session_background_pass_duration_seconds_count", {"loop": "simulator_resync"}
    return pod.server.metrics.registry.get_sample_value(name, labels) or 0.0


async def test_a_start_that_waits_is_taken_over_with_its_session(
    cluster: Cluster, make_pods: MakePods, clients: AsyncExitStack, sql: Sql
) -> None:
    one, other = await make_pods(2)
    cluster.fate = Fate.IMAGE
    for number in range(SLOTS):
        await start(clients, "ann", f"device-{number}", other, other)
    waiter = await start(clients, "ben", "device", one, other)
    await places_become([waiter], {1})
    await one.server.shutdown("test")
    cluster.fate = Fate.READY
    for name in cluster.deployments():
        await cluster.evict(name)
    await all_run([waiter])
