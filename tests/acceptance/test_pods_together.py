"""Three pods and no fault: what happens on one is known on the others, early with Redis and in a round without.

All of it runs twice. With Redis the lease is so long that no round can have told what was told in time.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import msgspec
import pytest
import pytest_asyncio

from session_service.local.ports import free_port
from tests.support.invariants import check_cluster_invariants
from tests.support.measured import Measured
from tests.support.pod_cluster import PodCluster
from tests.support.servers import TestServers
from tests.support.waiting import eventually
from tests.support.websocket_client import Client, ClosedError, connect
from tests.support.workloads import shared_exchange

TOLD_WITHIN_S = 1.0
MACHINE_S = 0.5  # what a busy machine adds to a round
ONE_GLANCE_S = 0.05  # what comes over two sockets this close together is read in any order
STAYS_OPEN_S = 1.5
CALLS = 200

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Together(msgspec.Struct, frozen=True):
    """``told_within_s``: what another pod learns of, it must have learned by then."""

    cluster: PodCluster
    with_redis: bool
    lease_s: float

    @property
    def told_within_s(self) -> float:
        return TOLD_WITHIN_S if self.with_redis else self.lease_s / 3 + MACHINE_S

    @property
    def label(self) -> str:
        return "with Redis" if self.with_redis else "without Redis"


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=[True, False], ids=["redis", "no-redis"])
async def together(
    request: pytest.FixtureRequest, servers: TestServers, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Together]:
    with_redis: bool = request.param
    lease_s = 30.0 if with_redis else 4.5
    database = await servers.create_database()
    directory = tmp_path_factory.mktemp("together")
    redis = servers.redis_environ() if with_redis else {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(free_port())}
    async with AsyncExitStack() as exits:
        exits.push_async_callback(servers.drop_database, database)
        exchange = await exits.enter_async_context(shared_exchange(directory))
        environ = {**redis, "POD_LEASE_SECONDS": f"{lease_s:g}"}
        yield Together(
            await exits.enter_async_context(PodCluster(directory, database, exchange, environ)), with_redis, lease_s
        )


@pytest.fixture
def user(request: pytest.FixtureRequest) -> str:
    """Another one for every test: they share their pods."""
    name: str = request.node.name
    return name


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def invariants(together: Together) -> AsyncIterator[None]:
    yield
    await check_cluster_invariants(together.cluster, within_s=20.0)


class Reader:
    """Reads one socket to its end in the background; ``frames`` is what came, ``ended`` the close code."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.frames = client.frames
        self.first_data_at: float | None = None
        self.ended_at: float | None = None
        self.ended = asyncio.create_task(self._read())

    async def _read(self) -> int | None:
        while True:
            try:
                frame = await self.client.receive()
            except ClosedError as closed:
                self.ended_at = time.monotonic()
                return closed.code
            if frame["type"] == "exchange_data" and self.first_data_at is None:
                self.first_data_at = time.monotonic()

    def types(self) -> list[str]:
        return [frame["type"] for frame in self.frames]

    async def stop(self) -> None:
        self.ended.cancel()
        await asyncio.gather(self.ended, return_exceptions=True)


@pytest_asyncio.fixture(loop_scope="module")
async def exits() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def reading(
    exits: AsyncExitStack,
    together: Together,
    pod: int,
    user: str,
    client_id: str,
    *,
    attempt: int = 1,
    connected: bool = True,
) -> Reader:
    client = await exits.enter_async_context(
        connect(
            together.cluster[pod],
            user,
            protocols=("session.v1",),  # so that a refusal is a close code
            connected=connected,
            clientId=client_id,
            attempt=attempt,
        )
    )
    reader = Reader(client)
    exits.push_async_callback(reader.stop)
    return reader


async def test_a_session_that_ends_on_one_pod_closes_its_sockets_on_the_others(
    together: Together, user: str, exits: AsyncExitStack, measured: Measured
) -> None:
    api = together.cluster.api(user, together.cluster[1])
    session_id = await api.open_session()
    readers = [await reading(exits, together, pod, user, f"tab-{pod}") for pod in (1, 2, 3)]
    ended_at = time.monotonic()
    assert (await api.call("DELETE", f"/api/sessions/{session_id}"))[0] == 200
    async with asyncio.timeout(30):
        codes = await asyncio.gather(*(reader.ended for reader in readers))
    took_s = [together.cluster.stalls.took_s(ended_at, reader.ended_at) for reader in readers]
    measured.row(f"a session's end, told to other pods {together.label}", longest_s=round(max(took_s), 3))
    assert codes == [4503, 4503, 4503]
    assert all("session_ended" in reader.types() for reader in readers)
    assert max(took_s) <= together.told_within_s


async def test_the_newer_attempt_of_a_client_wins_on_whichever_pod(
    together: Together, user: str, exits: AsyncExitStack, measured: Measured
) -> None:
    api = together.cluster.api(user)
    await api.start_simulator(await api.open_session())
    older = await reading(exits, together, 1, user, "tab", attempt=1)

    async def streams() -> bool:
        return older.first_data_at is not None

    await eventually(streams, within_s=20, what="the first frame of the older socket")
    newer_at = time.monotonic()
    newer = await reading(exits, together, 2, user, "tab", attempt=2)
    async with asyncio.timeout(30):
        assert await older.ended == 4504
    assert older.ended_at is not None
    took_s = together.cluster.stalls.took_s(newer_at, older.ended_at)
    measured.row(f"a newer attempt on another pod {together.label}", closed_after_s=round(took_s, 3))
    assert took_s <= together.told_within_s
    assert "connection_replaced" in older.types()
    # Make before break: the older one goes only after the newer one has its first frame.
    assert newer.first_data_at is not None
    assert together.cluster.stalls.took_s(older.ended_at, newer.first_data_at) <= ONE_GLANCE_S

    # An upgrade that was held up on its way comes last and is the loser all the same.
    late = await reading(exits, together, 3, user, "tab", attempt=1, connected=False)
    async with asyncio.timeout(30):
        assert await late.ended == 4504
    had = len(newer.frames)
    await asyncio.sleep(STAYS_OPEN_S)
    assert not newer.ended.done(), newer.types()[-3:]

    async def goes_on() -> bool:
        return len(newer.frames) > had

    await eventually(goes_on, within_s=20, what="frames of the newer socket")


async def test_the_ninth_connection_evicts_the_most_silent_wherever_it_is(
    together: Together, user: str, exits: AsyncExitStack, measured: Measured
) -> None:
    readers = {
        number: await reading(exits, together, 1 + number % 3, user, f"tab-{number}") for number in range(1, 9)
    }
    silent = 1
    others = [reader for number, reader in readers.items() if number != silent]
    talking_until = time.monotonic() + 2 * together.lease_s / 3 + MACHINE_S if not together.with_redis else 0.0
    while True:
        for reader in others:
            await reader.client.send({"type": "heartbeat", "timestamp": 0, "deviceId": "device-1"})
        if time.monotonic() >= talking_until:
            break
        await asyncio.sleep(0.2)
    ninth_at = time.monotonic()
    ninth = await reading(exits, together, 3, user, "tab-9")
    async with asyncio.timeout(30):
        assert await readers[silent].ended == 4504
    took_s = together.cluster.stalls.took_s(ninth_at, readers[silent].ended_at)
    measured.row(f"the ninth connection over three pods {together.label}", evicted_after_s=round(took_s, 3))
    assert took_s <= together.told_within_s
    await asyncio.sleep(STAYS_OPEN_S)
    assert not any(reader.ended.done() for reader in [*others, ninth])


async def test_a_simulators_status_is_told_on_every_pod(
    together: Together, user: str, exits: AsyncExitStack, measured: Measured
) -> None:
    api = together.cluster.api(user, together.cluster[1])
    session_id = await api.open_session()
    readers = [await reading(exits, together, pod, user, f"tab-{pod}") for pod in (2, 3)]

    def told(reader: Reader, simulator_id: str) -> list[str]:
        return [
            frame["status"]
            for frame in reader.frames
            if frame["type"] == "simulator_status" and frame["simulatorId"] == simulator_id
        ]

    async def all_told(simulator_id: str, status: str) -> float:
        began = time.monotonic()

        async def are_told() -> bool:
            return all(status in told(reader, simulator_id) for reader in readers)

        await eventually(are_told, within_s=30, what=f"{status} on the other pods")
        return together.cluster.stalls.took_s(began)

    simulator_id = await api.start_simulator(session_id)
    running_s = await all_told(simulator_id, "RUNNING")
    elsewhere = together.cluster.api(user, together.cluster[3])
    assert (await elsewhere.call("DELETE", f"/api/simulators/{simulator_id}"))[0] == 200
    await api.simulator_is(simulator_id, "STOPPED")
    stopped_s = await all_told(simulator_id, "STOPPED")
    measured.row(
        f"a simulator's status, told to other pods {together.label}",
        running_s=round(running_s, 3),
        stopped_s=round(stopped_s, 3),
    )
    assert max(running_s, stopped_s) <= together.told_within_s
    for reader in readers:
        statuses = told(reader, simulator_id)
        assert statuses == [status for status, _ in itertools.groupby(statuses)], "told twice"


async def test_200_concurrent_posts_of_one_device_make_one_session(
    together: Together, user: str, measured: Measured
) -> None:
    apis = [together.cluster.api(user, pod) for pod in together.cluster.pods]
    began = time.monotonic()
    answers = await asyncio.gather(
        *(apis[number % 3].call("POST", "/api/sessions", json={"deviceId": "one"}) for number in range(CALLS))
    )
    took_s = time.monotonic() - began
    statuses = Counter(status for status, _ in answers)
    sessions = {body["sessionId"] for _, body in answers}
    measured.row(
        f"{CALLS} concurrent POSTs of one (user, device) on three pods {together.label}",
        sessions=len(sessions),
        made=statuses[201],
        errors_5xx=sum(count for status, count in statuses.items() if status >= 500),
        took_s=round(took_s, 2),
    )
    assert statuses == {201: 1, 200: CALLS - 1}
    assert len(sessions) == 1
    assert [body["isNew"] for status, body in answers if status == 201] == [True]


async def test_concurrent_starts_on_three_pods_make_one_simulator(
    together: Together, user: str, measured: Measured
) -> None:
    apis = [together.cluster.api(user, pod) for pod in together.cluster.pods]
    session_id = await apis[0].open_session()
    answers = await asyncio.gather(
        *(apis[number % 3].call("POST", "/api/simulators", json={"sessionId": session_id}) for number in range(30))
    )
    statuses = Counter(status for status, _ in answers)
    simulators = {body["simulatorId"] for _, body in answers}
    [simulator_id] = simulators
    await apis[2].simulator_is(simulator_id, "RUNNING")
    measured.row(
        f"30 concurrent starts of one session on three pods {together.label}",
        simulators=len(simulators),
        made=statuses[202],
        errors_5xx=sum(count for status, count in statuses.items() if status >= 500),
    )
    assert set(statuses) <= {200, 202}
    assert simulator_id in await together.cluster.workloads.simulator_ids()
