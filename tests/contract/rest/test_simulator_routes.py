"""/api/simulators and their orders, on a real pod with real simulator processes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.support.servers import Database, TestServers
from tests.support.service import Service, bearer

MakeService = Callable[..., Awaitable[Service]]
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3,6})?Z")
MARKET_BUY = {"symbol": "AAPL", "side": "BUY", "quantity": 5, "orderType": "MARKET"}
CHEAP_LIMIT = {"symbol": "AAPL", "side": "BUY", "quantity": 5, "orderType": "LIMIT", "price": 1.0}


@pytest.fixture
async def make_service(servers: TestServers, database: Database) -> AsyncIterator[MakeService]:
    """Pods whose simulators are processes."""
    async with AsyncExitStack() as exits:

        async def make(**environ: str) -> Service:
            made = Service({**database.environ(), **servers.redis_environ(), **environ})
            return await exits.enter_async_context(made)

        yield make


async def call(service: Service, method: str, path: str, user: str = "user-1", **options: Any) -> tuple[int, Any]:
    async with service.http.request(method, path, headers=bearer(user), **options) as response:
        return response.status, await response.json()


async def new_session(service: Service, device_id: str = "d1", user: str = "user-1") -> str:
    _status, body = await call(service, "POST", "/api/sessions", user, json={"deviceId": device_id})
    session_id: str = body["sessionId"]
    return session_id


async def until_status(service: Service, simulator_id: str, *wanted: str) -> dict[str, Any]:
    async with asyncio.timeout(30):
        while True:
            _status, body = await call(service, "GET", f"/api/simulators/{simulator_id}")
            simulator: dict[str, Any] = body["simulator"]
            if simulator["status"] in wanted:
                return simulator
            assert simulator["status"] not in {"ERROR"} - set(wanted), simulator["reason"]
            await asyncio.sleep(0.05)


async def test_the_life_of_a_simulator_and_its_orders(service: Service) -> None:
    # One long story: a simulator's process takes seconds to start on a busy machine.
    session_id = await new_session(service)
    by_session = f"/api/simulators?sessionId={session_id}"
    assert await call(service, "GET", by_session) == (200, {"success": True, "simulator": None})
    assert await call(service, "DELETE", by_session) == (200, {"success": True, "status": "NONE"})

    wanted = {"initialSymbols": ["AAPL", "MSFT"], "initialCash": 5000}
    status, started = await call(service, "POST", "/api/simulators", json={"sessionId": session_id, **wanted})
    assert (status, started.keys(), started["status"]) == (202, {"success", "simulatorId", "status"}, "STARTING")
    simulator_id = started["simulatorId"]
    status, again = await call(service, "POST", "/api/simulators")
    assert (status, again["simulatorId"]) == (200, simulator_id)
    assert again["status"] in {"CREATING", "STARTING", "RUNNING"}
    status, body = await call(service, "GET", f"/api/simulators/{simulator_id}")
    assert body["simulator"].keys() == {
        "simulatorId",
        "sessionId",
        "status",
        "reason",
        "createdAt",
        "lastActive",
        "initialSymbols",
        "initialCash",
        "uptimeSeconds",
    }
    orders = f"/api/simulators/{simulator_id}/orders"
    if body["simulator"]["status"] != "RUNNING":
        status, early = await call(service, "POST", orders, json={**MARKET_BUY, "requestId": "early"})
        assert (status, early["code"]) in {(409, "SIMULATOR_NOT_RUNNING"), (200, None)}

    simulator = await until_status(service, simulator_id, "RUNNING")
    assert (simulator["sessionId"], simulator["reason"]) == (session_id, None)
    assert (simulator["initialSymbols"], simulator["initialCash"]) == (["AAPL", "MSFT"], 5000.0)
    assert INSTANT.fullmatch(simulator["createdAt"])
    assert INSTANT.fullmatch(simulator["lastActive"])
    assert isinstance(simulator["uptimeSeconds"], int)
    status, found = await call(service, "GET", by_session)
    assert found["simulator"]["simulatorId"] == simulator_id

    status, bought = await call(service, "POST", orders, json={**MARKET_BUY, "requestId": "r1"})
    assert (status, bought["success"], bought["status"], bought["filledQuantity"]) == (200, True, "FILLED", 5)
    assert bought["averagePrice"] > 0
    assert await call(service, "POST", orders, json={**MARKET_BUY, "requestId": "r1"}) == (200, bought)
    status, reused = await call(service, "POST", orders, json={**MARKET_BUY, "quantity": 6, "requestId": "r1"})
    assert (status, reused["code"]) == (409, "REQUEST_ID_REUSED")

    status, resting = await call(service, "POST", orders, json={**CHEAP_LIMIT, "requestId": "r2"})
    assert (status, resting["success"], resting["status"], resting["filledQuantity"]) == (200, True, "NEW", 0)
    status, listed = await call(service, "GET", orders)
    assert (status, listed.keys()) == (200, {"success", "orders"})
    assert [one["orderId"] for one in listed["orders"]][:2] == [resting["orderId"], bought["orderId"]]
    order = f"{orders}/{resting['orderId']}"
    assert (await call(service, "GET", order))[1]["status"] == "NEW"
    status, canceled = await call(service, "DELETE", order)
    assert (status, canceled["success"], canceled["status"]) == (200, True, "CANCELED")
    status, refused = await call(service, "DELETE", f"{orders}/{bought['orderId']}")
    assert (status, refused["code"]) == (409, "ORDER_NOT_CANCELABLE")
    for method in ("GET", "DELETE"):
        status, missing = await call(service, method, f"{orders}/no-such-order")
        assert (status, missing["code"]) == (404, "ORDER_NOT_FOUND")

    too_much = {**MARKET_BUY, "quantity": 1_000_000, "requestId": "r3"}
    status, rejected = await call(service, "POST", orders, json=too_much)
    assert (status, rejected["success"], rejected["status"]) == (200, False, "REJECTED")
    assert rejected["code"] == "ORDER_REJECTED"
    assert rejected["reason"] == rejected["error"] == rejected["errorMessage"] != ""

    for method, path in (("GET", orders), ("POST", orders), ("GET", order), ("DELETE", order)):
        status, foreign = await call(service, method, path, "stranger", json={**MARKET_BUY, "requestId": "x"})
        assert (status, foreign["code"]) == (404, "SIMULATOR_NOT_FOUND"), (method, path)
    assert (await call(service, "DELETE", f"/api/simulators/{simulator_id}", "stranger"))[0] == 404

    status, stopping = await call(service, "DELETE", f"/api/simulators/{simulator_id}")
    assert (status, stopping.keys()) == (200, {"success", "status"})
    assert stopping["status"] in {"STOPPING", "STOPPED"}
    await until_status(service, simulator_id, "STOPPED")
    assert await call(service, "DELETE", f"/api/simulators/{simulator_id}") == (
        200,
        {"success": True, "status": "STOPPED"},
    )
    status, late = await call(service, "POST", orders, json={**MARKET_BUY, "requestId": "late"})
    assert (status, late["code"]) == (409, "SIMULATOR_NOT_RUNNING")
    status, next_one = await call(service, "POST", "/api/simulators", json={"sessionId": session_id})
    assert (status, next_one["status"]) == (202, "STARTING")
    assert next_one["simulatorId"] != simulator_id
    assert await call(service, "DELETE", f"/api/sessions/{session_id}") == (
        200,
        {"success": True, "simulatorStopped": True},
    )


async def test_which_session_and_how_many(make_service: MakeService) -> None:
    service = await make_service(MAX_SIMULATORS_PER_USER="1")
    status, body = await call(service, "POST", "/api/simulators", json={})
    assert (status, body["code"]) == (400, "SESSION_REQUIRED")
    first, second = await new_session(service, "d1"), await new_session(service, "d2")
    status, body = await call(service, "POST", "/api/simulators", json={})
    assert (status, body["code"]) == (400, "SESSION_REQUIRED")
    assert (await call(service, "POST", "/api/simulators", json={"sessionId": first}))[0] == 202
    status, body = await call(service, "POST", "/api/simulators", json={"sessionId": second})
    assert (status, body["code"]) == (409, "SIMULATOR_LIMIT_REACHED")
    assert await call(service, "POST", "/api/simulators", json={"sessionId": "no-such"}) == (
        404,
        {
            "success": False,
            "code": "SESSION_NOT_FOUND",
            "error": "Session not found",
            "errorMessage": "Session not found",
        },
    )


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"initialSymbols": ["AAPL", "AAPL"]}, "initialSymbols"),
        ({"initialSymbols": []}, "initialSymbols"),
        ({"initialSymbols": ["aapl"]}, "initialSymbols[0]"),
        ({"initialCash": 0}, "initialCash"),
        ({"initialCash": "a lot"}, "initialCash"),
        ({"sessionId": 7}, "sessionId"),
    ],
)
async def test_simulators_that_cannot_be(make_service: MakeService, body: object, field: str) -> None:
    service = await make_service(SIMULATOR_BACKEND="service", EXCHANGE_MANAGER_SERVICE="127.0.0.1:1")
    status, answer = await call(service, "POST", "/api/simulators", json=body)
    assert (status, answer["code"]) == (400, "INVALID_REQUEST")
    assert answer["error"].startswith(f"{field}: ")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"quantity": 0}, "quantity"),
        ({"quantity": 1.5}, "quantity"),
        ({"quantity": -1}, "quantity"),
        ({"price": 1.0}, "price"),
        ({"orderType": "LIMIT"}, "price"),
        ({"side": "HOLD"}, "side"),
        ({"requestId": ""}, "requestId"),
        ({"requestId": None}, "requestId"),
        ({"symbol": "aapl"}, "symbol"),
    ],
)
async def test_orders_that_cannot_be(make_service: MakeService, change: dict[str, object], field: str) -> None:
    service = await make_service(SIMULATOR_BACKEND="service", EXCHANGE_MANAGER_SERVICE="127.0.0.1:1")
    order = {**MARKET_BUY, "requestId": "r", **change}
    status, answer = await call(service, "POST", "/api/simulators/any/orders", json=order)
    assert (status, answer["code"]) == (400, "INVALID_REQUEST")
    assert answer["error"].startswith(f"{field}: ")
