"""One exchange process for many sessions: SIMULATOR_BACKEND=service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from exchange_simulator.server import serving
from exchange_simulator.settings import Settings as ExchangeSettings
from session_service.errors import ExchangeStateLostError
from tests.support.api_client import ApiClient
from tests.support.service import Service
from tests.support.sql import Sql
from tests.support.waiting import eventually
from tests.support.websocket_client import connect


@pytest.fixture
async def exchange_port() -> AsyncIterator[int]:
    async with serving(ExchangeSettings(host="127.0.0.1", port=0, seed=7)) as (port, _ticking):
        yield port


@pytest.fixture
async def shared(make_service: Callable[..., Any], exchange_port: int) -> Service:
    made: Service = await make_service(
        SIMULATOR_BACKEND="service",
        EXCHANGE_MANAGER_SERVICE=f"127.0.0.1:{exchange_port}",
        MAX_SIMULATORS_PER_USER="100",
        MAX_SESSIONS_PER_USER="100",
    )
    return made


async def test_many_sessions_at_one_exchange_trade_apart(shared: Service, sql: Sql) -> None:
    api = ApiClient(shared.http)
    session_ids = [await api.open_session(f"device-{number}") for number in range(20)]
    simulator_ids = await asyncio.gather(*(api.start_simulator(session_id) for session_id in session_ids))
    for number, simulator_id in enumerate(simulator_ids):
        order = await api.order(simulator_id, "same-id", quantity=number + 1)
        assert order["filledQuantity"] == number + 1
    for simulator_id in simulator_ids:
        orders = (await api.call("GET", f"/api/simulators/{simulator_id}/orders"))[1]["orders"]
        assert len(orders) == 1
    endpoints = await sql.fetch("SELECT DISTINCT endpoint FROM simulator.instances")
    assert len(endpoints) == 1


async def test_stop_and_start_again_is_a_new_state(shared: Service) -> None:
    api = ApiClient(shared.http)
    async with connect(shared) as client:
        session_id = client.frames[0]["sessionId"]
        first = await api.start_simulator(session_id)
        epoch = (await client.receive_type("exchange_data"))["epoch"]
        await api.order(first, "r1")
        await api.call("DELETE", f"/api/simulators/{first}")
        await api.simulator_is(first, "STOPPED")
        second = await api.start_simulator(session_id)
        while (frame := await client.receive_type("exchange_data"))["epoch"] == epoch:
            pass
        assert frame["snapshot"] is True
        assert frame["data"]["portfolio"]["positions"] == []
        assert (await api.call("GET", f"/api/simulators/{second}/orders"))[1]["orders"] == []


async def test_ended_sessions_leave_no_state_at_the_exchange(shared: Service, sql: Sql) -> None:
    api = ApiClient(shared.http)
    session_id = await api.open_session()
    await api.start_simulator(session_id)
    address = await shared.server._sessions.simulator_ops.address(session_id)
    assert address is not None
    await api.call("DELETE", f"/api/sessions/{session_id}")

    async def is_torn_down() -> bool:
        return bool(await sql.fetchval("SELECT NOT EXISTS (SELECT 1 FROM simulator.teardowns)"))

    await eventually(is_torn_down, within_s=20, what="teardown")
    with pytest.raises(ExchangeStateLostError):
        await shared.server._exchange.heartbeat(address)
