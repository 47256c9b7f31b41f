"""A simulator that is killed, frozen, or lost its state; others are not touched (docs/lifecycle.md#simulators)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.api_client import ApiClient
from tests.support.numbered_client import NumberedStream
from tests.support.process_faults import frozen, kill, simulator_process
from tests.support.service import Service
from tests.support.sql import Sql
from tests.support.stalls import Stalls
from tests.support.waiting import eventually
from tests.support.websocket_client import Client, connect

DETECTED_WITHIN_S = 5.0
FRAMES_WITHIN_S = 20.0


async def follow(client: Client, stream: NumberedStream, *, until: Callable[[], bool], within_s: float) -> None:
    """Read and check frames until ``until`` holds."""
    async with asyncio.timeout(within_s):
        while not until():
            frame = await client.receive()
            if frame["type"] == "exchange_data":
                stream.frame(frame)


async def status_told(client: Client, status: str) -> dict[str, Any]:
    while True:
        frame = await client.receive_type("simulator_status")
        if frame["status"] == status:
            return frame


async def test_a_killed_simulator_is_told_within_5_s_and_starts_again_with_a_new_epoch(
    service: Service, api: ApiClient, sql: Sql, stalls: Stalls
) -> None:
    async with connect(service) as client, connect(service, deviceId="other") as other:
        session_id, other_id = client.frames[0]["sessionId"], other.frames[0]["sessionId"]
        simulator_id, _ = await asyncio.gather(api.start_simulator(session_id), api.start_simulator(other_id))
        stream, others = NumberedStream(), NumberedStream()
        await follow(client, stream, until=lambda: stream.frames >= 3, within_s=FRAMES_WITHIN_S)
        first_epoch = stream.epoch
        kill(simulator_process(simulator_id).pid)
        killed = time.monotonic()
        told = await status_told(client, "ERROR")
        assert stalls.took_s(killed) <= DETECTED_WITHIN_S
        assert told["simulatorId"] == simulator_id
        assert told["reason"]
        assert (await api.simulator(simulator_id))["status"] == "ERROR"
        again = await client.ask("start_simulator")
        assert again["success"], again
        assert again["simulatorId"] != simulator_id
        await status_told(client, "RUNNING")
        stream = NumberedStream()
        await follow(client, stream, until=lambda: stream.frames >= 3, within_s=FRAMES_WITHIN_S)
        assert stream.snapshots == 1
        assert stream.epoch != first_epoch
        # The neighbour noticed nothing: its updates go on one by one to the present.
        await follow(other, others, until=lambda: others.frames >= 20, within_s=FRAMES_WITHIN_S)
        assert others.snapshots == 1


async def test_a_frozen_simulator_is_noticed_and_goes_on_when_it_thaws(
    service: Service, api: ApiClient, stalls: Stalls
) -> None:
    async with connect(service) as client, connect(service, deviceId="other") as other:
        session_id, other_id = client.frames[0]["sessionId"], other.frames[0]["sessionId"]
        simulator_id, other_sim = await asyncio.gather(api.start_simulator(session_id), api.start_simulator(other_id))
        stream, others = NumberedStream(), NumberedStream()
        await follow(client, stream, until=lambda: stream.frames >= 3, within_s=FRAMES_WITHIN_S)
        with frozen(simulator_process(simulator_id).pid):
            started = time.monotonic()
            body = {"symbol": "AAPL", "side": "BUY", "quantity": 1, "orderType": "MARKET", "requestId": "r1"}
            status, answer = await api.call("POST", f"/api/simulators/{simulator_id}/orders", json=body)
            assert status == 503, answer
            assert stalls.took_s(started) <= DETECTED_WITHIN_S
            before = others.frames
            order = time.monotonic()
            assert (await api.order(other_sim, "r1"))["success"]
            assert stalls.took_s(order) <= 1.0
            await follow(other, others, until=lambda: others.frames >= before + 20, within_s=FRAMES_WITHIN_S)
            assert others.snapshots == 1
        position = stream.sequence
        await follow(client, stream, until=lambda: stream.sequence >= position + 10, within_s=FRAMES_WITHIN_S)
        assert stream.snapshots == 1
        assert stream.snapshots_skipping == []
        # The same request id: whether or not the first call arrived, there is one order.
        assert (await api.order(simulator_id, "r1"))["orderId"] == (await api.order(simulator_id, "r1"))["orderId"]
        assert (await api.simulator(simulator_id))["status"] == "RUNNING"


async def test_one_that_is_only_a_row_yet_is_starting_in_the_words_of_an_error(
    service: Service, api: ApiClient, sql: Sql
) -> None:
    session_id = await api.open_session()
    # Owned by a pod that takes no step, so the row stays as it was written.
    await sql.execute("INSERT INTO session.pods (pod_id, pod_name, version) VALUES ('still#1', 'still', '1')")
    await sql.execute("UPDATE session.ownership SET pod_id = 'still#1', epoch = epoch + 1")
    _status, made = await api.call("POST", "/api/simulators", json={"sessionId": session_id})
    body = {"symbol": "AAPL", "side": "BUY", "quantity": 1, "orderType": "MARKET", "requestId": "r1"}
    status, answer = await api.call("POST", f"/api/simulators/{made['simulatorId']}/orders", json=body)
    assert (status, answer["code"]) == (409, "SIMULATOR_NOT_RUNNING")
    assert await sql.fetchval("SELECT status FROM simulator.instances") == "CREATING"
    assert "(status STARTING)" in answer["error"]
    # The service's end does not wait for what only that pod could stop.
    await sql.execute("UPDATE session.pods SET dead = TRUE, died_at = now() WHERE pod_id = 'still#1'")


async def test_a_simulator_that_lost_its_state_is_an_error(service: Service, api: ApiClient, stalls: Stalls) -> None:
    async with connect(service) as client:
        simulator_id = await api.start_simulator(client.frames[0]["sessionId"])
        await client.receive_type("exchange_data")
        # Somebody stops the session at the exchange itself, behind our back.
        ops = service.server._sessions.simulator_ops
        address = await ops.address(client.frames[0]["sessionId"])
        assert address is not None
        await service.server._exchange.stop_simulator(address)
        stopped = time.monotonic()
        body = {"symbol": "AAPL", "side": "BUY", "quantity": 1, "orderType": "MARKET", "requestId": "r1"}
        status, answer = await api.call("POST", f"/api/simulators/{simulator_id}/orders", json=body)
        assert (status, answer["code"]) == (409, "SIMULATOR_NOT_RUNNING")
        told = await status_told(client, "ERROR")
        assert told["reason"] == "state_lost"
        assert stalls.took_s(stopped) <= DETECTED_WITHIN_S
    assert (await api.simulator(simulator_id))["reason"] == "state_lost"


async def test_a_simulator_that_cannot_start_is_an_error_with_its_reason(api: ApiClient) -> None:
    session_id = await api.open_session()
    status, body = await api.call(
        "POST", "/api/simulators", json={"sessionId": session_id, "initialSymbols": ["AAPL", "AAPL,MSFT"]}
    )
    if status == 400:
        return  # refused before it was tried: as good
    failed = await api.simulator_is(body["simulatorId"], "ERROR")
    assert failed["reason"]


async def test_the_runner_killed_is_every_simulators_end_and_no_pods(
    service: Service, api: ApiClient, stalls: Stalls
) -> None:
    session_id = await api.open_session()
    simulator_id = await api.start_simulator(session_id)
    backend = service.server._backend
    kill(backend._own_runner.pid)  # type: ignore[attr-defined] # the process backend's own
    started = time.monotonic()
    await api.simulator_is(simulator_id, "ERROR")
    assert stalls.took_s(started) <= DETECTED_WITHIN_S
    await api.start_simulator(session_id)


@pytest.mark.parametrize("policy", ["handoff", "stop"])
async def test_the_last_pod_stops_its_simulators(make_service: Callable[..., Any], sql: Sql, policy: str) -> None:
    service: Service = await make_service(SIMULATOR_SHUTDOWN_POLICY=policy)
    api = ApiClient(service.http)
    process = simulator_process(await api.start_simulator(await api.open_session()))
    await service.server.shutdown("test")
    assert not process.is_running()
    row = await sql.fetchrow("SELECT status, reason FROM simulator.instances")
    assert tuple(row or ()) == ("STOPPED", "pod_terminated")
    assert await sql.fetchval("SELECT count(*) FROM session.pods") == 0
    assert service.server.exit_code == 0


async def test_shutdown_tells_clients_and_marks_their_sessions(service: Service, sql: Sql) -> None:
    async with connect(service) as client:
        assert client.frames[0]["type"] == "connected"
        ending = asyncio.create_task(service.server.shutdown("test"))
        terminating = await client.receive_type("pod_terminating")
        assert terminating["reason"] == "test"
        assert await client.close_code() == 1012
        await ending
    metadata = await sql.fetchrow(
        "SELECT metadata ->> 'pod_terminating' AS terminating, metadata ->> 'previous_pod' AS previous,"
        " metadata ->> 'frontend_connections' AS sockets, metadata -> 'termination_time' AS at"
        " FROM session.session_metadata"
    )
    assert metadata is not None
    assert (metadata["terminating"], metadata["previous"], metadata["sockets"]) == ("true", "pod-under-test", "0")
    assert int(metadata["at"]) > 1_700_000_000
    assert await sql.fetchval("SELECT status FROM session.active_sessions") == "RECONNECTING"
    assert await sql.fetchval("SELECT count(*) FROM session.sockets") == 0


async def test_nothing_is_waited_for_twice(service: Service) -> None:
    """Two calls of shutdown end together."""
    await asyncio.gather(service.server.shutdown("one"), service.server.shutdown("two"))

    async def is_set() -> bool:
        return service.server.shutdown_event.is_set()

    await eventually(is_set, within_s=10, what="shutdown_event")
