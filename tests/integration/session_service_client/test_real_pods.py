"""The client on real pods: its whole life, cut connections, drains, ends, tokens."""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections.abc import Callable

import aiohttp
import pytest
from session_service_client import (
    Connected,
    ConnectionEndedError,
    Disconnected,
    Event,
    ExchangeData,
    PodTerminating,
    ServiceError,
    SessionClient,
    SessionEnded,
    SimulatorStatus,
    TransportError,
)

from tests.integration.session_service_client.recording import Recording, reconnected, streaming, until
from tests.support.service import Service, bearer, token
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import eventually

DEVICE = "device-1"
TTL_S = 4.0  # of a token that is refreshed: a busy machine may take a good part of it


async def test_five_lines_are_enough(trading_service: Service) -> None:
    kinds = []
    async with SessionClient(trading_service.url, token=token(), device_id=DEVICE) as client:
        await client.start_simulator(initial_symbols=["AAPL"])
        async for event in client.events():
            kinds.append(type(event))
            if isinstance(event, ExchangeData) and not event.snapshot:
                break
        assert client.view.quotes["AAPL"].bid > 0
        assert client.position == client.view.position
    assert kinds[0] is Connected
    assert SimulatorStatus in kinds
    assert client.end is not None
    assert client.end.code == "CLIENT_CLOSED"


async def test_orders_over_the_socket_and_over_rest_are_the_same_orders(trading_service: Service) -> None:
    told = Recording()
    async with SessionClient(trading_service.url, token=token(), device_id=DEVICE, on_event=told.add) as client:
        started = await client.start_simulator()
        assert started.simulator_id is not None
        await streaming(client)
        bought = await client.submit_order("AAPL", "BUY", 10, request_id="order-1")
        assert bought == await client.submit_order("AAPL", "BUY", 10, request_id="order-1")
        resting = await client.rest.submit_order(
            started.simulator_id, symbol="MSFT", side="BUY", quantity=1, order_type="LIMIT", price=1.0
        )
        assert {one.order_id for one in await client.rest.list_orders(started.simulator_id)} == {
            bought.order_id,
            resting.order_id,
        }
        assert (await client.cancel_order(resting.order_id)).status == "CANCELED"
        await until(
            lambda: client.view.orders[resting.order_id].status == "CANCELED", "the cancellation as an update"
        )
        rejected = await client.submit_order("AAPL", "BUY", 1_000_000_000)
        assert rejected.rejected
        assert rejected.reason
        with pytest.raises(ServiceError) as refused:
            await client.cancel_order("nobody")
        assert refused.value.code == "ORDER_NOT_FOUND"
        assert (await client.session_info()).simulator_id == started.simulator_id
        await client.stop_simulator()
    assert client.statistics.gaps == client.statistics.duplicates == 0


async def test_leaving_closes_as_a_client_does(trading_service: Service) -> None:
    async with SessionClient(trading_service.url, token=token(), device_id=DEVICE) as client:
        session_id = client.session_id
    assert session_id is not None
    headers = bearer()

    async def status() -> str:
        async with trading_service.http.get(f"/api/sessions/{session_id}", headers=headers) as response:
            return str((await response.json())["session"]["status"])

    async with asyncio.timeout(30):
        while await status() != "INACTIVE":  # a lost socket would leave RECONNECTING
            await asyncio.sleep(0.02)


async def test_a_cut_connection_is_resumed_without_a_gap(trading_service: Service) -> None:
    told = Recording()
    async with (
        TcpProxy(trading_service.port) as proxy,
        SessionClient(f"http://127.0.0.1:{proxy.port}", token=token(), device_id=DEVICE, on_event=told.add) as client,
    ):
        await client.start_simulator()
        await streaming(client)
        for cut in range(1, 4):
            proxy.reset()
            await reconnected(client, cut)
            await streaming(client)
        statistics = client.statistics
        assert client.session_id is not None
        session_id = client.session_id

        async def reconnects_counted() -> bool:
            return (await client.rest.get_session(session_id)).fields.get("reconnect_count") == 3

        await eventually(reconnects_counted, within_s=20, what="each reconnect counted by the service")
    assert (statistics.reconnects, statistics.resumed, statistics.not_resumed) == (3, 3, 0)
    assert (statistics.gaps, statistics.duplicates, statistics.snapshots_skipping) == (0, 0, 0)
    assert statistics.close_codes == {1006: 3}
    assert statistics.longest_pause_s > 0
    assert [one.attempt for one in told.of(Connected)] == [0, 1, 2, 3]
    numbers = [number for one in told.of(ExchangeData) for number in range(one.from_sequence, one.sequence + 1)]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


async def test_an_order_whose_answer_was_lost_is_answered_over_the_next_socket(trading_service: Service) -> None:
    async with (
        TcpProxy(trading_service.port) as proxy,
        SessionClient(f"http://127.0.0.1:{proxy.port}", token=token(), device_id=DEVICE) as client,
    ):
        started = await client.start_simulator()
        assert started.simulator_id is not None
        while not isinstance(await anext(client.events()), ExchangeData):
            pass
        proxy.go_silent()
        ordering = asyncio.create_task(client.submit_order("AAPL", "BUY", 10))
        await until(lambda: all(one.sent_over for one in client._commands._waiting.values()), "the order to be sent")
        proxy.reset()
        proxy.speak()
        order = await ordering
        orders = await client.rest.list_orders(started.simulator_id)
        assert [one.order_id for one in orders] == [order.order_id]


async def test_a_filter_holds_over_the_next_socket(trading_service: Service) -> None:
    told = Recording()
    async with SessionClient(trading_service.url, token=token(), device_id=DEVICE, on_event=told.add) as client:
        await client.start_simulator(initial_symbols=["AAPL", "MSFT"])
        await streaming(client)
        await client.subscribe(["MSFT"])
        await until(lambda: set(client.view.quotes) == {"MSFT"}, "the snapshot of the filter")
        told.events.clear()
        client.drop_connection()
        await reconnected(client, 1)
        await streaming(client)
    assert {quote.symbol for one in told.of(ExchangeData) for quote in one.quotes} == {"MSFT"}


async def test_a_draining_pod_is_left_without_a_break(
    make_service: Callable[..., object], exchange_port: int
) -> None:
    environ = {"SIMULATOR_BACKEND": "service", "EXCHANGE_MANAGER_SERVICE": f"127.0.0.1:{exchange_port}"}
    one: Service = await make_service(POD_NAME="pod-1", DRAIN_WINDOW_SECONDS="30", **environ)  # type: ignore[misc] # a fixture's callable is typed loosely
    two: Service = await make_service(POD_NAME="pod-2", **environ)  # type: ignore[misc] # as above
    told = Recording()
    async with SessionClient([one.url, two.url], token=token(), device_id=DEVICE, on_event=told.add) as client:
        await client.start_simulator()
        await streaming(client)
        draining = asyncio.create_task(one.server.shutdown("test"))
        await until(lambda: client.statistics.moves == 1, "the move")
        await client.submit_order("AAPL", "BUY", 1)
        await streaming(client)
        await draining
        await streaming(client)
        statistics = client.statistics
    assert [connected.pod_name for connected in told.of(Connected)] == ["pod-1", "pod-2"]
    assert told.of(Connected)[1].pause_s == 0
    assert len(told.of(PodTerminating)) == 1
    assert told.of(Disconnected) == []
    assert (statistics.gaps, statistics.duplicates, statistics.snapshots_skipping) == (0, 0, 0)
    assert statistics.resumed == 1
    assert [update.status for update in told.order_updates] == ["FILLED"]


async def test_without_a_simulator_connected_is_enough_to_move(make_service: Callable[..., object]) -> None:
    one: Service = await make_service(POD_NAME="pod-1", DRAIN_WINDOW_SECONDS="60")  # type: ignore[misc] # as above
    two: Service = await make_service(POD_NAME="pod-2")  # type: ignore[misc] # as above
    async with SessionClient([one.url, two.url], token=token(), device_id=DEVICE) as client:
        draining = asyncio.create_task(one.server.shutdown("test"))
        await until(lambda: client.statistics.moves == 1, "the move")
        await asyncio.wait_for(draining, 30)  # it waits for its clients, not for the window's end
        assert client.connection is not None
        assert client.connection.pod_name == "pod-2"


async def test_the_end_of_the_session_ends_the_iteration_and_says_why(trading_service: Service) -> None:
    seen: list[Event] = []

    async def follow(client: SessionClient) -> None:
        async for event in client.events():
            seen.append(event)  # noqa: PERF401 # what came before the error counts

    async with SessionClient(trading_service.url, token=token(), device_id=DEVICE) as client:
        await client.end_session()
        with pytest.raises(ConnectionEndedError) as ended:
            await follow(client)
        assert (ended.value.code, ended.value.close_code) == ("SESSION_ENDED", 4503)
        with pytest.raises(ConnectionEndedError):
            await client.start_simulator()
    assert SessionEnded("ended") in seen


async def test_a_session_that_ended_while_nobody_was_connected_is_final(trading_service: Service) -> None:
    told = Recording()
    async with TcpProxy(trading_service.port) as proxy:
        url = f"http://127.0.0.1:{proxy.port}"
        async with SessionClient(url, token=token(), device_id=DEVICE, on_event=told.add) as client:
            proxy.refuse()
            proxy.reset()
            await until(lambda: not client.connected, "the loss")
            async with trading_service.http.delete("/api/sessions", headers=bearer()) as response:
                assert response.status == 200
            await proxy.accept()
            ended = await asyncio.wait_for(client.wait_ended(), 30)
    assert ended.code == "SESSION_NOT_FOUND"
    assert told.of(SessionEnded) == [SessionEnded("ended")]


async def test_a_newer_connection_of_the_same_client_id_is_final(trading_service: Service) -> None:
    async with SessionClient(trading_service.url, token=token(), device_id=DEVICE, client_id="tab") as client:
        query = {"deviceId": DEVICE, "clientId": "tab", "attempt": "99"}
        async with trading_service.http.ws_connect("/ws", params=query, headers=bearer()) as socket:
            ended = await asyncio.wait_for(client.wait_ended(), 30)
            assert (ended.code, ended.close_code) == ("CONNECTION_REPLACED", 4504)
            assert client.statistics.connections == 1
            assert not socket.closed


async def test_a_token_is_refreshed_in_band_before_it_expires(trading_service: Service) -> None:
    asked: list[float] = []

    async def get_token() -> str:
        asked.append(time.time())
        return token(ttl_s=TTL_S)

    async with SessionClient(trading_service.url, token=get_token, device_id=DEVICE) as client:
        first_expiry = asked[0] + TTL_S
        await until(lambda: time.time() > first_expiry + 0.5, "the first token's end")
        assert len(asked) >= 2
        assert client.connected
        assert client.statistics.connections == 1, "a token that expires closes the socket"


async def test_a_fixed_token_ends_the_connection_when_it_expires(trading_service: Service) -> None:
    async with SessionClient(trading_service.url, token=token(ttl_s=3), device_id=DEVICE) as client:
        # A machine so slow that it has expired before it is read has the verifier's leeway of 30 s.
        ended = await asyncio.wait_for(client.wait_ended(), 60)
    assert (ended.code, ended.close_code) == ("AUTHENTICATION_FAILED", 4501)


async def test_a_refused_token_is_asked_for_once_more_and_shown_nowhere(
    trading_service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    wrong = token(secret="another-secret-of-enough-bytes-0123456789")
    asked = []

    async def get_token() -> str:
        asked.append(1)
        return wrong

    client = SessionClient(trading_service.url, token=get_token, device_id=DEVICE)
    with pytest.raises(ConnectionEndedError) as refused:
        async with client:
            pytest.fail("a wrong token was let in")
    assert refused.value.code == "AUTHENTICATION_FAILED"
    assert len(asked) == 2
    with pytest.raises(ConnectionEndedError) as fixed:
        async with SessionClient(trading_service.url, token=wrong, device_id=DEVICE):
            pytest.fail("a wrong token was let in")
    signature = wrong.rsplit(".", 1)[1]
    shown = [repr(client), repr(client.rest), repr(client.view), caplog.text]
    for error in (refused.value, fixed.value):
        seen: BaseException | None = error
        while seen is not None:
            shown += [repr(seen), str(seen), "".join(traceback.format_exception(seen))]
            seen = seen.__cause__ or seen.__context__
    assert not any(signature in text for text in shown)


async def test_nobody_there_is_a_transport_error(trading_service: Service) -> None:
    async with TcpProxy(trading_service.port) as proxy:
        port = proxy.port
    with pytest.raises(TransportError):
        async with SessionClient(f"http://127.0.0.1:{port}", token=token(), device_id=DEVICE, connect_timeout_s=0.5):
            pytest.fail("connected to nobody")


async def test_rest_goes_to_the_url_that_answers(trading_service: Service) -> None:
    async with TcpProxy(trading_service.port) as proxy:
        dead = f"http://127.0.0.1:{proxy.port}"
    async with SessionClient([dead, trading_service.url], token=token(), device_id=DEVICE) as client:
        assert client.session_id is not None
        assert (await client.rest.get_session(client.session_id)).fields["device_id"] == DEVICE
        assert [one.session_id for one in await client.rest.list_sessions()] == [client.session_id]
        assert await client.rest.keepalive(client.session_id)
        assert await client.rest.find_simulator(client.session_id) is None
        with pytest.raises(ServiceError) as refused:
            await client.rest.get_simulator("nobody")
        assert (refused.value.code, refused.value.status) == ("SIMULATOR_NOT_FOUND", 404)


async def test_many_clients_share_a_session_of_the_http_library(trading_service: Service) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        clients = [
            SessionClient(trading_service.url, token=token(f"u{number}"), device_id=DEVICE, http=http)
            for number in range(50)
        ]
        await asyncio.gather(*(client.__aenter__() for client in clients))
        assert all(client.connected for client in clients)
        await asyncio.gather(*(client.close() for client in clients))
        assert not http.closed
