"""A pod goes while others stay: sessions change hands, simulators do not notice (docs/operations.md#shutdown)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any

import msgspec
import pytest

from tests.support.api_client import ApiClient
from tests.support.numbered_client import NumberedStream
from tests.support.service import Service
from tests.support.sql import Sql
from tests.support.waiting import eventually
from tests.support.websocket_client import Client, connect

LEASE_S = 1.0
WINDOW_S = 30.0  # of pods whose clients all leave: nobody waits for its end, and nothing is done because of it
SHORT_WINDOW_S = 8.0  # where a client stays to its end: the others need most of it on a busy machine
SOON_S = 12.0  # a round, and what a busy machine takes; not a window

MakePods = Callable[..., Awaitable[list[Service]]]


@pytest.fixture
def make_pods(exchange_port: int, make_service: Callable[..., Awaitable[Service]]) -> MakePods:
    """``await make_pods(SIMULATOR_SHUTDOWN_POLICY="stop")``: pod-1, pod-2 and pod-3 at one exchange."""

    async def make(**environ: str) -> list[Service]:
        settings = {
            "SIMULATOR_BACKEND": "service",
            "EXCHANGE_MANAGER_SERVICE": f"127.0.0.1:{exchange_port}",
            "POD_LEASE_SECONDS": f"{LEASE_S:g}",
            "DRAIN_WINDOW_SECONDS": f"{WINDOW_S:g}",
            **environ,
        }
        return [await make_service(POD_NAME=f"pod-{number}", **settings) for number in (1, 2, 3)]

    return make


@pytest.fixture
async def exits() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


class Rented(msgspec.Struct):
    """A user's session with a running simulator."""

    user_id: str
    session_id: str
    simulator_id: str


async def rented(pod: Service, user_id: str) -> Rented:
    """Made at this pod, which therefore looks after it."""
    api = ApiClient(pod.http, user_id)
    session_id = await api.open_session()
    return Rented(user_id, session_id, await api.start_simulator(session_id))


async def owner_of(sql: Sql, session_id: str) -> str | None:
    """The name of the pod that looks after the session."""
    pod_id = await sql.fetchval("SELECT pod_id FROM session.ownership WHERE session_id = $1", session_id)
    return None if pod_id is None else str(pod_id).partition("#")[0]


async def owned_by(sql: Sql, session_id: str, *names: str, within_s: float = SOON_S) -> None:
    async def is_owned() -> bool:
        return await owner_of(sql, session_id) in names

    await eventually(is_owned, within_s=within_s, what=f"an owner among {names}")


async def simulators(sql: Sql) -> dict[str, tuple[str, str | None]]:
    rows = await sql.fetch("SELECT simulator_id, status, reason FROM simulator.instances")
    return {row["simulator_id"]: (row["status"], row["reason"]) for row in rows}


def resumed(pod: Service, user_id: str, stream: NumberedStream) -> AbstractAsyncContextManager[Client]:
    """The second connection of this user's tab, from where ``stream`` stands."""
    position = stream.position
    return connect(pod, user_id, clientId="tab-1", attempt=2, epoch=position["epoch"], sequence=position["sequence"])


async def asked_to_move(client: Client, stream: NumberedStream) -> dict[str, Any]:
    """Read and check frames until the pod says that it goes; what it says."""
    while (frame := await client.receive())["type"] != "pod_terminating":
        if frame["type"] == "exchange_data":
            stream.frame(frame)
    return frame


async def followed(client: Client, stream: NumberedStream, frames: int) -> None:
    """Read and check so many frames of exchange data."""
    for _ in range(frames):
        stream.frame(await client.receive_type("exchange_data"))


async def test_a_session_without_a_socket_is_adopted_and_its_simulator_goes_on(
    make_pods: MakePods, sql: Sql, exits: AsyncExitStack
) -> None:
    first, second, _third = await make_pods()
    one = await rented(first, "user-1")
    stream = NumberedStream()
    async with connect(first, one.user_id, clientId="tab-1", attempt=1) as client:
        await followed(client, stream, 5)
    assert await owner_of(sql, one.session_id) == "pod-1"
    epoch_before = await sql.fetchval("SELECT epoch FROM session.ownership")
    asked_at = int(time.time())
    await first.server.shutdown("test")
    await owned_by(sql, one.session_id, "pod-2", "pod-3")
    assert await sql.fetchval("SELECT epoch FROM session.ownership") > epoch_before
    assert await simulators(sql) == {one.simulator_id: ("RUNNING", None)}
    shown = await ApiClient(second.http, one.user_id).session(one.session_id)
    assert (shown["pod_terminating"], shown["previous_pod"]) == (True, "pod-1")
    assert asked_at <= shown["termination_time"] <= time.time()
    assert shown["simulator_status"] == "RUNNING"
    # Whoever comes back finds the same market, at the number after the last that it saw.
    again = await exits.enter_async_context(resumed(second, one.user_id, stream))
    assert again.frames[0]["resumed"] is True
    assert again.frames[0]["sessionId"] == one.session_id
    await followed(again, stream, 5)
    assert stream.snapshots == 1
    await owned_by(sql, one.session_id, "pod-2")
    shown = await ApiClient(second.http, one.user_id).session(one.session_id)
    assert (shown["pod_terminating"], shown["pod_name"]) == (False, "pod-2")
    order = await ApiClient(second.http, one.user_id).order(one.simulator_id, "r1")
    assert order["success"]


async def test_a_client_that_moves_misses_nothing_and_takes_its_session_along(
    make_pods: MakePods, sql: Sql, exits: AsyncExitStack
) -> None:
    first, second, _third = await make_pods(DRAIN_WINDOW_SECONDS=f"{SHORT_WINDOW_S:g}")
    mover, stayer = await rented(first, "user-1"), await rented(first, "user-2")
    stream, others = NumberedStream(), NumberedStream()
    old = await exits.enter_async_context(connect(first, mover.user_id, clientId="tab-1", attempt=1))
    stays = await exits.enter_async_context(connect(first, stayer.user_id, clientId="tab-2", attempt=1))
    await followed(old, stream, 3)
    ending = asyncio.create_task(first.server.shutdown("test"))
    started_s = time.monotonic()
    assert (await asked_to_move(old, stream))["reason"] == "test"
    # It streams on here until it has its first frame there.
    await followed(old, stream, 3)
    new = await exits.enter_async_context(resumed(second, mover.user_id, stream))
    assert new.frames[0]["resumed"] is True
    await followed(new, stream, 3)
    assert await old.close_code() in {1000, 4504}
    await owned_by(sql, mover.session_id, "pod-2", within_s=SHORT_WINDOW_S / 2)
    # Who stays is served until the window ends, by the pod that looks after its session.
    assert time.monotonic() - started_s < SHORT_WINDOW_S, "too slow to tell"
    assert await owner_of(sql, stayer.session_id) == "pod-1"
    await followed(stays, others, 3)
    assert await stays.close_code() == 1012
    assert time.monotonic() - started_s >= SHORT_WINDOW_S * 0.9
    await ending
    await owned_by(sql, stayer.session_id, "pod-2", "pod-3")
    await followed(new, stream, 5)
    assert stream.snapshots == 1
    assert stream.snapshots_skipping == []
    assert await simulators(sql) == {
        mover.simulator_id: ("RUNNING", None),
        stayer.simulator_id: ("RUNNING", None),
    }


async def test_a_session_is_free_as_soon_as_its_last_socket_has_left(
    make_pods: MakePods, sql: Sql, exits: AsyncExitStack
) -> None:
    first, _second, _third = await make_pods()
    leaver, without = await rented(first, "user-1"), await rented(first, "user-2")
    tabs = [
        await exits.enter_async_context(connect(first, leaver.user_id, clientId=f"tab-{number}", attempt=1))
        for number in (1, 2)
    ]
    ending = asyncio.create_task(first.server.shutdown("test"))
    for tab in tabs:
        await tab.receive_type("pod_terminating")
    await owned_by(sql, without.session_id, "pod-2", "pod-3")  # nobody has to leave it
    await tabs[0].socket.close()
    assert await owner_of(sql, leaver.session_id) == "pod-1"  # for its other tab
    await tabs[1].socket.close()
    await owned_by(sql, leaver.session_id, "pod-2", "pod-3")
    await ending
    assert set((await simulators(sql)).values()) == {("RUNNING", None)}
    rows = await sql.fetch("SELECT session_id, metadata FROM session.session_metadata")
    assert {row["session_id"] for row in rows} == {leaver.session_id, without.session_id}
    for row in rows:
        metadata = msgspec.json.decode(row["metadata"])
        assert (metadata["pod_terminating"], metadata["previous_pod"]) == (True, "pod-1")
        assert metadata["frontend_connections"] == 0


async def test_with_the_policy_stop_only_its_own_simulators_go_with_a_pod(make_pods: MakePods, sql: Sql) -> None:
    first, second, _third = await make_pods(SIMULATOR_SHUTDOWN_POLICY="stop")
    goes, stays = await rented(first, "user-1"), await rented(second, "user-2")
    await first.server.shutdown("test")
    assert await simulators(sql) == {
        goes.simulator_id: ("STOPPED", "pod_terminated"),
        stays.simulator_id: ("RUNNING", None),
    }
    # The session itself is kept, and looked after by another pod, where it can have a new simulator.
    await owned_by(sql, goes.session_id, "pod-2", "pod-3")
    assert await ApiClient(second.http, goes.user_id).start_simulator(goes.session_id) != goes.simulator_id


@pytest.mark.parametrize("policy", ["handoff", "stop"])
async def test_the_last_pod_stops_every_simulator(make_pods: MakePods, sql: Sql, policy: str) -> None:
    pods = await make_pods(SIMULATOR_SHUTDOWN_POLICY=policy)
    all_rented = [await rented(pod, f"user-of-{number}") for number, pod in enumerate(pods)]
    for pod in pods[:2]:
        await pod.server.shutdown("test")
    running = {one.simulator_id for one in all_rented} if policy == "handoff" else {all_rented[2].simulator_id}
    assert {name for name, (status, _) in (await simulators(sql)).items() if status == "RUNNING"} == running
    await pods[2].server.shutdown("test")
    assert set((await simulators(sql)).values()) == {("STOPPED", "pod_terminated")}
    assert await sql.fetchval("SELECT count(*) FROM session.pods") == 0
    assert await sql.fetchval("SELECT count(*) FROM session.active_sessions") == 3
    statuses = await sql.fetch("SELECT metadata ->> 'simulator_status' AS status FROM session.session_metadata")
    assert {row["status"] for row in statuses} == {"STOPPED"}


async def test_pods_that_go_at_once_leave_no_simulator_and_no_pod(
    make_pods: MakePods, sql: Sql, exits: AsyncExitStack
) -> None:
    """Each sees the others drain: one of them has to be the last, and none may think that another will see to it."""
    window_s = 60.0
    pods = await make_pods(DRAIN_WINDOW_SECONDS=f"{window_s:g}")
    for number, pod in enumerate(pods):
        await rented(pod, f"user-of-{number}")
        client = await exits.enter_async_context(connect(pod, f"user-of-{number}", clientId="tab-1", attempt=1))
        await client.receive_type("exchange_data")
    started_s = time.monotonic()
    await asyncio.gather(*(pod.server.shutdown("test") for pod in pods))
    assert time.monotonic() - started_s < window_s / 3, "with no pod to move to there is nothing to wait for"
    assert set((await simulators(sql)).values()) == {("STOPPED", "pod_terminated")}
    assert await sql.fetchval("SELECT count(*) FROM session.pods") == 0
    assert await sql.fetchval("SELECT count(*) FROM simulator.teardowns") == 0
    assert await sql.fetchval("SELECT count(*) FROM session.sockets") == 0
