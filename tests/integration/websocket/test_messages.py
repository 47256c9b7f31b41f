"""Every client message and its answer, on a pod with a real exchange."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.support.service import Service, bearer
from tests.support.websocket_client import Client, connect


async def start_simulator(client: Client) -> dict[str, Any]:
    result = await client.ask("start_simulator", initialSymbols=["AAPL", "MSFT"], initialCash=50_000)
    assert result["success"], result
    while (await client.receive_type("simulator_status"))["status"] != "RUNNING":
        pass
    return result


async def test_start_tells_every_step_and_then_data_flows_from_a_snapshot(trading_service: Service) -> None:
    async with connect(trading_service) as client:
        result = await start_simulator(client)
        assert (result["type"], result["status"]) == ("result", "STARTING")
        statuses = [frame for frame in client.frames if frame["type"] == "simulator_status"]
        assert {frame["simulatorId"] for frame in statuses} == {result["simulatorId"]}
        assert [frame["status"] for frame in statuses][-1] == "RUNNING"
        assert "CREATING" not in {frame["status"] for frame in statuses}
        first = await client.receive_type("exchange_data")
        assert first["snapshot"] is True
        assert first["fromSequence"] == first["sequence"]
        assert {quote["symbol"] for quote in first["data"]["marketData"]} == {"AAPL", "MSFT"}
        assert first["data"]["portfolio"]["cashBalance"] == 50_000
        second = await client.receive_type("exchange_data")
        assert second["fromSequence"] == first["sequence"] + 1
        again = await client.ask("start_simulator")
        assert (again["success"], again["simulatorId"]) == (True, result["simulatorId"])
        stopped = await client.ask("stop_simulator")
        assert stopped["success"], stopped
        assert stopped["status"] in {"STOPPING", "STOPPED"}
        while (await client.receive_type("simulator_status"))["status"] != "STOPPED":
            pass


async def test_orders(trading_service: Service) -> None:
    order = {"symbol": "AAPL", "side": "BUY", "quantity": 10, "orderType": "MARKET"}
    async with connect(trading_service) as client:
        early = await client.ask("submit_order", **order)
        assert (early["success"], early["code"]) == (False, "SIMULATOR_NOT_RUNNING")
        await start_simulator(client)

        filled = await client.ask("submit_order", requestId="buy-1", **order)
        assert (filled["success"], filled["status"], filled["filledQuantity"]) == (True, "FILLED", 10)
        assert filled["averagePrice"] > 0
        repeated = await client.ask("submit_order", requestId="buy-1", **order)
        assert repeated["orderId"] == filled["orderId"]
        reused = await client.ask("submit_order", requestId="buy-1", **{**order, "quantity": 11})
        assert (reused["success"], reused["code"]) == (False, "REQUEST_ID_REUSED")

        resting = await client.ask("submit_order", **{**order, "orderType": "LIMIT", "price": 1.0})
        assert (resting["success"], resting["status"]) == (True, "NEW")
        canceled = await client.ask("cancel_order", orderId=resting["orderId"])
        assert (canceled["success"], canceled["status"]) == (True, "CANCELED")
        again = await client.ask("cancel_order", orderId=resting["orderId"])
        assert (again["success"], again["code"]) == (False, "ORDER_NOT_CANCELABLE")
        unknown = await client.ask("cancel_order", orderId="no-such-order")
        assert (unknown["success"], unknown["code"]) == (False, "ORDER_NOT_FOUND")

        unpriced = await client.ask("submit_order", **{**order, "orderType": "LIMIT"})
        assert (unpriced["success"], unpriced["code"], unpriced["field"]) == (False, "INVALID_REQUEST", "price")

        rejected = await client.ask("submit_order", **{**order, "quantity": 1_000_000})
        assert (rejected["success"], rejected["status"], rejected["code"]) == (False, "REJECTED", "ORDER_REJECTED")
        assert rejected["error"] == rejected["reason"]


async def test_a_wrong_order_is_named_by_its_field(service: Service) -> None:
    cases: list[tuple[str, dict[str, Any]]] = [
        ("quantity", {"quantity": 1.5}),
        ("quantity", {"quantity": 0}),
        ("quantity", {"quantity": -3}),
        ("side", {"side": "HOLD"}),
        ("orderType", {"orderType": "STOP"}),
        ("price", {"price": -1}),
        ("symbol", {"symbol": ""}),
    ]
    async with connect(service) as client:
        for field, change in cases:
            order = {"symbol": "AAPL", "side": "BUY", "quantity": 1, "orderType": "MARKET", **change}
            result = await client.ask("submit_order", **order)
            assert (result["type"], result["success"], result["code"]) == ("result", False, "INVALID_REQUEST"), field
            assert result["field"] == field
            assert result["error"].startswith(f"{field}:")


async def test_subscribe_filters_and_is_answered_by_a_snapshot(trading_service: Service) -> None:
    async with connect(trading_service) as client:
        await start_simulator(client)
        await client.receive_type("exchange_data")
        result = await client.ask("subscribe", symbols=["MSFT"])
        assert (result["success"], result["symbols"]) == (True, ["MSFT"])
        filtered = [await client.receive_type("exchange_data") for _ in range(4)]  # all of it after the result
        assert filtered[0]["snapshot"] is True
        assert {quote["symbol"] for frame in filtered for quote in frame["data"]["marketData"]} == {"MSFT"}
        unknown = await client.ask("subscribe", symbols=["nope"])
        assert (unknown["success"], unknown["code"]) == (False, "UNKNOWN_SYMBOL")
        assert (await client.ask("subscribe", symbols=[]))["success"] is True


async def test_a_refresh_is_answered_by_a_snapshot(trading_service: Service) -> None:
    async with connect(trading_service) as client:
        none = await client.ask("request_full_refresh")
        assert (none["success"], none["code"]) == (False, "SIMULATOR_NOT_RUNNING")
        await start_simulator(client)
        await client.receive_type("exchange_data")
        assert (await client.ask("request_full_refresh"))["success"] is True
        assert (await client.receive_type("exchange_data"))["snapshot"] is True


async def test_session_info(service: Service) -> None:
    async with connect(service) as client:
        info = await client.ask("request_session", requestId="mine")
    assert info["requestId"] == "mine"
    assert info["sessionId"] == client.frames[0]["sessionId"]
    assert (info["userId"], info["status"], info["deviceId"]) == ("user-1", "ACTIVE", "device-1")
    assert (info["simulatorId"], info["simulatorStatus"]) == (None, "NONE")
    assert info["createdAt"].endswith("Z")
    assert info["expiresAt"].endswith("Z")


async def test_in_band_reconnect_continues_exactly_where_the_client_says(trading_service: Service) -> None:
    async with connect(trading_service) as client:
        await start_simulator(client)
        first = await client.receive_type("exchange_data")
        for _ in range(3):
            await client.receive_type("exchange_data")
        result = await client.ask(
            "reconnect", deviceId="device-1", epoch=first["epoch"], sequence=first["sequence"], sessionToken="old"
        )
        assert result["type"] == "reconnect_result"
        assert (result["success"], result["resumed"], result["deviceIdValid"]) == (True, True, True)
        assert (result["sessionStatus"], result["simulatorStatus"]) == ("valid", "RUNNING")
        after = await client.receive()
        assert after["type"] == "exchange_data"
        assert after["fromSequence"] == first["sequence"] + 1
        unknown = await client.ask("reconnect", deviceId="device-1", epoch=1, sequence=5)
        assert (unknown["success"], unknown["resumed"]) == (True, False)
        assert (await client.receive_type("exchange_data"))["snapshot"] is True


async def test_reconnect_with_another_device_says_so_and_nothing_else_is_invalid(service: Service) -> None:
    async with connect(service) as client:
        result = await client.ask("reconnect", deviceId="device-2")
        assert (result["success"], result["deviceIdValid"], result["sessionStatus"]) == (False, False, "valid")
        await client.send({"type": "heartbeat", "timestamp": 1, "deviceId": "device-2"})
        assert (await client.receive_type("heartbeat_ack"))["deviceIdValid"] is False


async def test_resuming_after_a_lost_socket_misses_nothing(trading_service: Service) -> None:
    async with connect(trading_service, clientId="tab", attempt=1) as client:
        await start_simulator(client)
        last = await client.receive_type("exchange_data")
        last = await client.receive_type("exchange_data")
        client.lose()
    async with connect(
        trading_service, clientId="tab", attempt=2, epoch=last["epoch"], sequence=last["sequence"]
    ) as back:
        connected = back.frames[0]
        assert connected["resumed"] is True
        assert (connected["epoch"], connected["sequence"]) == (last["epoch"], last["sequence"])
        assert (await back.receive_type("exchange_data"))["fromSequence"] == last["sequence"] + 1


async def test_quality_reports_are_answered_and_show_in_heartbeats_and_metadata(service: Service) -> None:
    async with connect(service) as client:
        await client.send({"type": "connection_quality", "latencyMs": 12, "missedHeartbeats": 3})
        update = await client.receive_type("connection_quality_update")
        assert (update["quality"], update["reconnectRecommended"]) == ("POOR", True)
        await client.send({"type": "heartbeat", "timestamp": 1, "deviceId": "device-1"})
        ack = await client.receive_type("heartbeat_ack")
        assert (ack["connectionQuality"], ack["reconnectRecommended"]) == ("POOR", True)
        path = f"/api/sessions/{client.frames[0]['sessionId']}"
        async with asyncio.timeout(30):
            while True:
                async with service.http.get(path, headers=bearer()) as response:
                    session = (await response.json())["session"]
                if session["connection_quality"] == "POOR":
                    break
                await asyncio.sleep(0.1)
        assert (session["heartbeat_latency"], session["missed_heartbeats"]) == (12, 3)


async def test_what_cannot_be_read_gets_an_error_and_the_socket_stays_open(service: Service) -> None:
    cases = [
        ("nonsense", "INVALID_MESSAGE", None),
        ("[]", "INVALID_MESSAGE", None),
        ("", "INVALID_MESSAGE", None),
        ('"text"', "INVALID_MESSAGE", None),
        ("{}", "INVALID_MESSAGE", None),
        ('{"type": 1, "requestId": "a"}', "INVALID_MESSAGE", "a"),
        ('{"type": "no_such_type", "requestId": "b"}', "UNKNOWN_MESSAGE_TYPE", "b"),
        ('{"type": "heartbeat"}', "INVALID_REQUEST", None),
        ('{"type": "submit_order", "requestId": 7}', "INVALID_REQUEST", None),
        ('{"type": "heartbeat", "timestamp": 1, "deviceId": "a", "x": ' + "[" * 5000, "INVALID_MESSAGE", None),
    ]
    async with connect(service) as client:
        for text, code, request_id in cases:
            await client.socket.send_str(text)
            frame = await client.receive()
            assert (frame["type"], frame["errorCode"]) == ("error", code), text[:80]
            assert frame.get("requestId") == request_id, text[:80]
        assert (await client.ask("request_session"))["type"] == "session_info"


async def test_commands_of_one_socket_are_carried_out_in_their_order(trading_service: Service) -> None:
    async with connect(trading_service) as client:
        await start_simulator(client)
        for number in range(15):
            await client.send(
                {
                    "type": "submit_order",
                    "requestId": f"n{number}",
                    "symbol": "AAPL",
                    "side": "BUY",
                    "quantity": 1,
                    "orderType": "LIMIT",
                    "price": 1.0 + number / 100,
                }
            )
        answered = [(await client.receive_type("result"))["requestId"] for _ in range(15)]
        assert answered == [f"n{number}" for number in range(15)]
