"""Simulators as real processes: started, found again, limited, stopped (docs/lifecycle.md#simulators)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import psutil

from tests.support.api_client import ApiClient
from tests.support.process_faults import simulator_process
from tests.support.service import Service
from tests.support.sql import Sql
from tests.support.waiting import eventually
from tests.support.websocket_client import connect


async def ends(process: psutil.Process, *, within_s: float = 20.0) -> None:
    async def has_ended() -> bool:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE

    await eventually(has_ended, within_s=within_s, what=f"the end of {process}")


async def test_from_start_to_delete_with_its_scope(service: Service, api: ApiClient, sql: Sql) -> None:
    session_id = await api.open_session()
    status, body = await api.call("GET", f"/api/simulators?sessionId={session_id}")
    assert (status, body["simulator"]) == (200, None)
    status, body = await api.call("POST", "/api/simulators", json={"initialCash": 500, "initialSymbols": ["AAPL"]})
    assert (status, body["status"]) == (202, "STARTING")
    simulator = await api.simulator_is(body["simulatorId"], "RUNNING")
    assert simulator["sessionId"] == session_id
    assert (simulator["initialSymbols"], simulator["initialCash"]) == (["AAPL"], 500)
    # Again: the one that runs.
    status, again = await api.call("POST", "/api/simulators", json={"sessionId": session_id})
    assert (status, again["simulatorId"], again["status"]) == (200, body["simulatorId"], "RUNNING")

    session = await api.session(session_id)
    assert (session["simulator_id"], session["simulator_status"]) == (body["simulatorId"], "RUNNING")
    assert "simulator_endpoint" not in session
    assert "simulator_token" not in session
    trusted = await ApiClient(service.http, "a-service", scope="simulators").session(session_id)
    assert trusted["simulator_endpoint"].startswith("127.0.0.1:")
    assert len(trusted["simulator_token"]) >= 32
    assert (await ApiClient(service.http, "a-stranger").call("GET", f"/api/sessions/{session_id}"))[0] == 404

    process = simulator_process(body["simulatorId"])
    assert process.environ()["SIMULATOR_TOKEN"] == trusted["simulator_token"]
    status, ended = await api.call("DELETE", f"/api/sessions/{session_id}")
    assert (status, ended["simulatorStopped"]) == (200, True)
    await ends(process)

    async def nothing_is_left() -> bool:
        return bool(await sql.fetchval("SELECT NOT EXISTS (SELECT 1 FROM simulator.teardowns)"))

    await eventually(nothing_is_left, within_s=20, what="no teardown left")


async def test_concurrent_starts_make_one(api: ApiClient, sql: Sql) -> None:
    session_id = await api.open_session()
    answers = await asyncio.gather(
        *(api.call("POST", "/api/simulators", json={"sessionId": session_id}) for _ in range(30))
    )
    assert Counter(status for status, _body in answers) == {202: 1, 200: 29}
    [simulator_id] = {body["simulatorId"] for _status, body in answers}
    await api.simulator_is(simulator_id, "RUNNING")
    assert await sql.fetchval("SELECT count(*) FROM simulator.instances") == 1


async def test_the_limit_holds_among_concurrent_starts(make_service: Callable[..., Any], sql: Sql) -> None:
    service: Service = await make_service(MAX_SIMULATORS_PER_USER="2")
    api = ApiClient(service.http)
    session_ids = [await api.open_session(f"device-{number}") for number in range(8)]
    answers = await asyncio.gather(
        *(api.call("POST", "/api/simulators", json={"sessionId": session_id}) for session_id in session_ids)
    )
    assert Counter(status for status, _body in answers) == {202: 2, 409: 6}
    assert {body["code"] for status, body in answers if status == 409} == {"SIMULATOR_LIMIT_REACHED"}
    assert await sql.fetchval("SELECT count(*) FROM simulator.instances") == 2
    # One that is asked to stop makes room at once.
    started = next(body["simulatorId"] for status, body in answers if status == 202)
    await api.call("DELETE", f"/api/simulators/{started}")
    free = next(session_id for session_id, (status, _body) in zip(session_ids, answers, strict=True) if status == 409)
    assert (await api.call("POST", "/api/simulators", json={"sessionId": free}))[0] == 202


async def test_a_start_over_a_stop_waits_until_the_process_is_gone(api: ApiClient) -> None:
    session_id = await api.open_session()
    first = await api.start_simulator(session_id)
    process = simulator_process(first)
    assert (await api.call("DELETE", f"/api/simulators/{first}"))[1]["status"] in {"STOPPING", "STOPPED"}
    status, body = await api.call("POST", "/api/simulators", json={"sessionId": session_id})
    assert status == 202
    assert body["simulatorId"] != first
    await api.simulator_is(body["simulatorId"], "RUNNING")
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    assert (await api.simulator(first))["status"] == "STOPPED"
    # Stopping is idempotent.
    assert (await api.call("DELETE", f"/api/simulators/{first}"))[1]["status"] == "STOPPED"


async def test_clients_are_told_every_step(service: Service, api: ApiClient) -> None:
    async with connect(service) as client:
        assert client.frames[0]["simulatorStatus"] == "NONE"
        assert (await client.ask("start_simulator"))["success"]
        frame = await client.receive_type("exchange_data")
        assert frame["snapshot"] is True
        assert (await client.ask("stop_simulator"))["success"]

        def statuses() -> list[str]:
            return [frame["status"] for frame in client.frames if frame["type"] == "simulator_status"]

        while "STOPPED" not in statuses():
            await client.receive()
        order = ["CREATING", "STARTING", "RUNNING", "STOPPING", "STOPPED"]
        assert statuses() == sorted(statuses(), key=order.index)
        assert {"RUNNING", "STOPPING", "STOPPED"} <= set(statuses())


async def test_nobody_uses_it_and_it_stops(make_service: Callable[..., Any], sql: Sql) -> None:
    service: Service = await make_service(SIMULATOR_INACTIVITY_TIMEOUT="60")
    api = ApiClient(service.http)
    idle, used, watched = [await api.open_session(f"device-{number}") for number in range(3)]
    long_ago = "UPDATE simulator.instances SET last_active = now() - interval '61 s' WHERE session_id = ANY ($1)"
    await api.call("DELETE", f"/api/sessions/{used}")  # a user may have two
    async with connect(service, deviceId="device-2"):
        stopped, kept = await api.start_simulator(idle), await api.start_simulator(watched)
        process = simulator_process(stopped)
        await sql.execute(long_ago, [idle, watched])
        await service.server._simulators.stop_inactive(60)
        # Asking for it would be a use: the row is read.

        async def has_stopped() -> bool:
            query = "SELECT status FROM simulator.instances WHERE simulator_id = $1"
            return bool(await sql.fetchval(query, stopped) == "STOPPED")

        await eventually(has_stopped, within_s=20, what="STOPPED")
        await ends(process)
        simulator = await api.simulator(stopped)
        assert simulator["reason"] == "inactive"
        assert (await api.simulator(kept))["status"] == "RUNNING"


async def test_heartbeats_alone_do_not_keep_a_simulator_and_calls_do(
    make_service: Callable[..., Any], sql: Sql
) -> None:
    service: Service = await make_service(SIMULATOR_HEARTBEAT_INTERVAL="0.2")
    api = ApiClient(service.http)
    session_id = await api.open_session()
    simulator_id = await api.start_simulator(session_id)

    async def heartbeat_was_sent() -> Any:
        return (await api.session(session_id)).get("last_simulator_heartbeat_sent")

    assert await eventually(heartbeat_was_sent, within_s=20, what="last_simulator_heartbeat_sent") > 1_700_000_000
    last_active = "SELECT extract(epoch FROM now() - last_active)::float8 FROM simulator.instances"
    await service.server._activity.flush()  # of the calls above; what follows is not written again for a while
    await sql.execute("UPDATE simulator.instances SET last_active = now() - interval '50 s'")
    await service.server._reconciler.beat()
    await service.server._metadata.flush()
    assert await sql.fetchval(last_active) >= 50
    service.server._activity.forget(session_id)
    await api.simulator(simulator_id)
    await service.server._activity.flush()
    assert await sql.fetchval(last_active) < 5


async def test_expiry_and_cleanup_by_hand_end_the_process(api: ApiClient, sql: Sql) -> None:
    session_id = await api.open_session()
    process = simulator_process(await api.start_simulator(session_id))
    async with sql.transaction():
        await sql.execute("UPDATE session.active_sessions SET expires_at = now() - interval '1 minute'")
        assert await sql.fetchval("SELECT session.cleanup_expired_sessions()") == 1
    await ends(process)


async def test_a_row_deleted_by_hand_ends_the_process(api: ApiClient, sql: Sql) -> None:
    process = simulator_process(await api.start_simulator(await api.open_session()))
    await sql.execute("DELETE FROM simulator.instances")
    await ends(process)


async def test_an_expired_sessions_simulator_stops(api: ApiClient, sql: Sql) -> None:
    process = simulator_process(await api.start_simulator(await api.open_session()))
    async with sql.transaction():
        await sql.execute("UPDATE session.active_sessions SET expires_at = now() - interval '1 minute'")
        await sql.fetch("SELECT session.expire_sessions()")
    await ends(process)


async def test_rows_of_an_earlier_run_settle(make_service: Callable[..., Any], sql: Sql) -> None:
    first: Service = await make_service()
    api = ApiClient(first.http)
    session_id = await api.open_session()
    simulator_id = await api.start_simulator(session_id)
    # The pod ends as by kill -9: nothing is recorded, and its processes are gone with it.
    row = await sql.fetchrow("SELECT * FROM simulator.instances")
    await first.server.shutdown("test")
    await sql.execute(
        "UPDATE simulator.instances SET status = 'RUNNING', target = 'RUNNING', reason = NULL, endpoint = $1",
        row["endpoint"] if row else None,
    )
    second: Service = await make_service()
    api = ApiClient(second.http)
    simulator = await api.simulator_is(simulator_id, "ERROR", within_s=20)
    assert simulator["reason"] == "workload_gone"
    assert await api.start_simulator(session_id) != simulator_id
