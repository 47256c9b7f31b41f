"""The service as its clients see it (docs/simulator.md)."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import grpc
import pytest

from exchange_api import exchange_pb2 as pb

if TYPE_CHECKING:  # the generated stubs have this class, the generated module does not
    from exchange_api.exchange_pb2_grpc import ExchangeSimulatorAsyncStub as Client

    Serve = Callable[..., Awaitable[Client]]

SESSION = "session"
TTL_S = 1.5  # what a busy machine may take between two heartbeats of 50 ms
DEADLINE_S = 20.0
BUY, SELL = pb.SubmitOrderRequest.Side.BUY, pb.SubmitOrderRequest.Side.SELL
MARKET, LIMIT = pb.SubmitOrderRequest.Type.MARKET, pb.SubmitOrderRequest.Type.LIMIT


def start_request(session_id: str = SESSION, **fields: object) -> pb.StartSimulatorRequest:
    return pb.StartSimulatorRequest(session_id=session_id, **fields)  # type: ignore[arg-type] # any field


def order_request(quantity: float = 1, *, request_id: str = "", price: float = 0.0) -> pb.SubmitOrderRequest:
    return pb.SubmitOrderRequest(
        session_id=SESSION,
        symbol="AAPL",
        side=BUY,
        quantity=quantity,
        price=price,
        type=LIMIT if price else MARKET,
        request_id=request_id,
    )


@asynccontextmanager
async def streaming(
    client: Client, **fields: object
) -> AsyncIterator[grpc.aio.UnaryStreamCall[pb.StreamRequest, pb.ExchangeDataUpdate]]:
    request = pb.StreamRequest(session_id=SESSION, **fields)  # type: ignore[arg-type] # any field
    call = client.StreamExchangeData(request, timeout=30)
    try:
        yield call
    finally:
        call.cancel()


async def take(
    call: grpc.aio.UnaryStreamCall[pb.StreamRequest, pb.ExchangeDataUpdate], count: int
) -> list[pb.ExchangeDataUpdate]:
    updates: list[pb.ExchangeDataUpdate] = []
    async for update in call:
        updates.append(update)
        if len(updates) == count:
            break
    return updates


async def status_of(call: Awaitable[object]) -> grpc.StatusCode:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def poll_until(condition: Callable[[], Awaitable[bool]]) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not await condition():
        assert time.monotonic() < deadline_s, "the condition did not come true in time"
        await asyncio.sleep(0.01)


async def test_start_gives_a_snapshot_and_then_every_update(serve: Serve) -> None:
    client = await serve()
    started = await client.StartSimulator(start_request(initial_symbols=["AAPL", "ZZZ"], initial_cash=500))
    assert started.success
    async with streaming(client) as call:
        snapshot, *live = await take(call, 6)
    assert snapshot.snapshot
    assert [quote.symbol for quote in snapshot.market_data] == ["AAPL", "ZZZ"]
    assert snapshot.portfolio.cash_balance == 500
    assert 1 <= snapshot.epoch < 2**53
    numbers = range(snapshot.sequence + 1, snapshot.sequence + 6)
    assert [(u.from_sequence, u.sequence, u.snapshot) for u in live] == [(n, n, False) for n in numbers]
    assert {update.epoch for update in live} == {snapshot.epoch}


async def test_start_is_idempotent_while_the_state_lives_and_new_after_a_stop(serve: Serve) -> None:
    client = await serve()
    first = await client.StartSimulator(start_request(initial_cash=500))
    again = await client.StartSimulator(start_request(initial_cash=900))
    assert again == first
    async with streaming(client) as call:
        (before,) = await take(call, 1)
        assert before.portfolio.cash_balance == 500
        assert (await client.StopSimulator(pb.StopSimulatorRequest(session_id=SESSION))).success
        async for _ in call:  # what was still on its way
            pass
        assert await call.code() is grpc.StatusCode.OK
    assert (await client.StopSimulator(pb.StopSimulatorRequest(session_id=SESSION))).success
    renewed = await client.StartSimulator(start_request(initial_cash=900))
    assert renewed.simulator_id != first.simulator_id
    async with streaming(client, epoch=before.epoch, from_sequence=1) as call:
        (after,) = await take(call, 1)
    assert after.snapshot
    assert after.epoch != before.epoch


@pytest.mark.parametrize(
    "request_",
    [
        start_request(initial_cash=-1),
        start_request(initial_cash=math.nan),
        start_request(initial_cash=math.inf),
        start_request(initial_cash=1e15),
        start_request(initial_symbols=["no good"]),
        start_request(initial_symbols=[""]),
        start_request(initial_symbols=[f"S{number}" for number in range(101)]),
        start_request("s" * 129),
        start_request(""),
    ],
    ids=str,
)
async def test_start_with_unusable_arguments_says_what_is_wrong(
    serve: Serve, request_: pb.StartSimulatorRequest
) -> None:
    client = await serve()
    answer = await client.StartSimulator(request_)
    assert not answer.success
    assert answer.error_message
    status = client.GetSimulatorStatus(pb.GetSimulatorStatusRequest(session_id=request_.session_id))
    assert await status_of(status) is grpc.StatusCode.NOT_FOUND


async def test_a_client_that_is_cut_off_a_hundred_times_gets_exactly_one_to_n(serve: Serve) -> None:
    client = await serve()
    await client.StartSimulator(start_request())
    async with streaming(client) as call:
        epoch = (await take(call, 1))[0].epoch
    chooser = random.Random(4)
    received: list[int] = []
    for cut in range(100):
        async with streaming(client, epoch=epoch, from_sequence=len(received) + 1) as call:
            updates = await take(call, chooser.randint(1, 6))
        assert not any(update.snapshot for update in updates)
        received.extend(update.sequence for update in updates)
        if cut % 10 == 0:
            await client.SubmitOrder(order_request())
    assert received == list(range(1, len(received) + 1))


async def test_a_replayed_update_is_byte_for_byte_the_live_one(serve: Serve) -> None:
    client = await serve()
    await client.StartSimulator(start_request())
    async with streaming(client) as live:
        snapshot, *seen = await take(live, 20)
        async with streaming(client, epoch=snapshot.epoch, from_sequence=seen[0].sequence) as replay:
            assert await take(replay, len(seen)) == seen


@pytest.mark.parametrize("ahead", [2, 10**6, 2**63])
async def test_a_position_that_cannot_be_resumed_gets_a_snapshot(serve: Serve, ahead: int) -> None:
    client = await serve(update_interval_ms=60_000)
    await client.StartSimulator(start_request())
    async with streaming(client) as call:
        head = (await take(call, 1))[0]
    for epoch, from_sequence in ((head.epoch, head.sequence + ahead), (head.epoch + 1, 1), (0, 1)):
        async with streaming(client, epoch=epoch, from_sequence=from_sequence) as call:
            (first,) = await take(call, 1)
        assert (first.snapshot, first.sequence) == (True, head.sequence)


async def test_the_update_after_the_head_is_waited_for(serve: Serve) -> None:
    client = await serve(update_interval_ms=60_000)
    await client.StartSimulator(start_request())
    async with streaming(client) as call:
        head = (await take(call, 1))[0]
    async with streaming(client, epoch=head.epoch, from_sequence=head.sequence + 1) as call:
        await call.wait_for_connection()
        order = await client.SubmitOrder(order_request())
        (update,) = await take(call, 1)
    assert (update.snapshot, update.from_sequence) == (False, head.sequence + 1)
    assert [told.order_id for told in update.order_updates] == [order.order_id]


async def test_a_filter_limits_quotes_but_neither_numbers_nor_orders(serve: Serve) -> None:
    client = await serve()
    await client.StartSimulator(start_request())
    async with streaming(client, symbols=["TSLA"]) as call:
        snapshot = (await take(call, 1))[0]
        await client.SubmitOrder(order_request())
        updates = await take(call, 30)
    assert [quote.symbol for quote in snapshot.market_data] == ["TSLA"]
    assert [update.sequence for update in updates] == [snapshot.sequence + 1 + n for n in range(30)]
    assert {quote.symbol for update in updates for quote in update.market_data} == {"TSLA"}
    assert [told.symbol for update in updates for told in update.order_updates] == ["AAPL"]
    async with streaming(client, symbols=["NOPE"]) as call:
        assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_an_order_is_told_at_once_in_an_update_of_its_own(serve: Serve) -> None:
    client = await serve(update_interval_ms=60_000)
    await client.StartSimulator(start_request())
    async with streaming(client) as call:
        await take(call, 1)
        placed = await client.SubmitOrder(order_request(10))
        resting = await client.SubmitOrder(order_request(10, price=1.0))
        cancel = pb.CancelOrderRequest(session_id=SESSION, order_id=resting.order_id)
        assert (await client.CancelOrder(cancel)).success
        refused = await client.SubmitOrder(order_request(0.5))
        updates = await take(call, 4)
        assert not (await client.CancelOrder(cancel)).success
    told = [(order.order_id, order.status) for update in updates for order in update.order_updates]
    assert told == [
        (placed.order_id, "FILLED"),
        (resting.order_id, "NEW"),
        (resting.order_id, "CANCELED"),
        (refused.order_id, "REJECTED"),
    ]
    assert all(order.sequence == update.sequence for update in updates for order in update.order_updates)
    assert (refused.success, refused.status) == (False, "REJECTED")
    assert refused.error_message == updates[3].order_updates[0].reason != ""
    status = await client.GetOrderStatus(pb.GetOrderStatusRequest(session_id=SESSION, order_id=placed.order_id))
    assert (status.status, status.filled_quantity) == (pb.GetOrderStatusResponse.Status.FILLED, 10)
    unknown = await client.GetOrderStatus(pb.GetOrderStatusRequest(session_id=SESSION, order_id="?"))
    assert unknown.status == pb.GetOrderStatusResponse.Status.UNKNOWN
    assert unknown.error_message


async def test_a_request_id_places_one_order(serve: Serve) -> None:
    client = await serve()
    await client.StartSimulator(start_request())
    answers = await asyncio.gather(*(client.SubmitOrder(order_request(request_id="r")) for _ in range(20)))
    assert len({answer.order_id for answer in answers}) == 1
    other = client.SubmitOrder(order_request(2, request_id="r"))
    assert await status_of(other) is grpc.StatusCode.ALREADY_EXISTS
    too_long = client.SubmitOrder(order_request(request_id="r" * 65))
    assert await status_of(too_long) is grpc.StatusCode.INVALID_ARGUMENT
    async with streaming(client) as call:
        assert len((await take(call, 1))[0].order_updates) == 1


async def test_a_session_nobody_started_is_not_found(serve: Serve) -> None:
    client = await serve()
    calls: list[Awaitable[object]] = [
        client.Heartbeat(pb.HeartbeatRequest(session_id=SESSION)),
        client.SubmitOrder(order_request()),
        client.CancelOrder(pb.CancelOrderRequest(session_id=SESSION)),
        client.GetOrderStatus(pb.GetOrderStatusRequest(session_id=SESSION)),
        client.GetSimulatorStatus(pb.GetSimulatorStatusRequest(session_id=SESSION)),
        client.StreamExchangeData(pb.StreamRequest(session_id=SESSION)).read(),
    ]
    assert {await status_of(call) for call in calls} == {grpc.StatusCode.NOT_FOUND}
    assert (await client.StopSimulator(pb.StopSimulatorRequest(session_id=SESSION))).success


async def test_every_call_needs_the_token(serve: Serve) -> None:
    client = await serve(token="secret")
    for metadata in ((), (("x-simulator-token", "wrong"),), (("x-simulator-token", ""),)):
        calls: list[Awaitable[object]] = [
            client.StartSimulator(start_request(), metadata=metadata),
            client.StopSimulator(pb.StopSimulatorRequest(session_id=SESSION), metadata=metadata),
            client.Heartbeat(pb.HeartbeatRequest(session_id=SESSION), metadata=metadata),
            client.SubmitOrder(order_request(), metadata=metadata),
            client.CancelOrder(pb.CancelOrderRequest(session_id=SESSION), metadata=metadata),
            client.GetOrderStatus(pb.GetOrderStatusRequest(session_id=SESSION), metadata=metadata),
            client.GetSimulatorStatus(pb.GetSimulatorStatusRequest(session_id=SESSION), metadata=metadata),
            client.StreamExchangeData(pb.StreamRequest(session_id=SESSION), metadata=metadata).read(),
        ]
        assert {await status_of(call) for call in calls} == {grpc.StatusCode.UNAUTHENTICATED}
    right = (("x-simulator-token", "secret"),)
    assert (await client.StartSimulator(start_request(), metadata=right)).success


async def test_a_process_of_one_session_refuses_others(serve: Serve) -> None:
    client = await serve(session_id=SESSION, simulator_id="sim", symbols=("ZZZ",), cash=7.0)
    other = client.StartSimulator(start_request("another"))
    assert await status_of(other) is grpc.StatusCode.FAILED_PRECONDITION
    status = client.GetSimulatorStatus(pb.GetSimulatorStatusRequest(session_id=SESSION))
    assert await status_of(status) is grpc.StatusCode.NOT_FOUND
    assert (await client.StartSimulator(start_request())).simulator_id == "sim"
    async with streaming(client) as call:
        (snapshot,) = await take(call, 1)
    assert [quote.symbol for quote in snapshot.market_data] == ["ZZZ"]
    assert snapshot.portfolio.cash_balance == 7


async def test_a_process_of_a_single_session_is_the_first_ones_for_good(serve: Serve) -> None:
    """Also when that one was stopped, or dropped for its silence: what it left is nobody else's to find."""
    client = await serve(single_session=True, simulator_id="sim")
    stop = pb.StopSimulatorRequest(session_id=SESSION)
    assert (await client.StopSimulator(pb.StopSimulatorRequest(session_id="another"))).success  # binds nothing
    refused = await client.StartSimulator(start_request("another", initial_cash=-1))
    assert not refused.success  # nor does this
    for _ in range(2):
        assert (await client.StartSimulator(start_request())).simulator_id == "sim"
        for again in range(2):
            for call in (
                client.StartSimulator(start_request("another")),
                client.StopSimulator(pb.StopSimulatorRequest(session_id="another")),
                client.StreamExchangeData(pb.StreamRequest(session_id="another")).read(),
            ):
                assert await status_of(call) is grpc.StatusCode.FAILED_PRECONDITION, again
            assert (await client.StopSimulator(stop)).success


async def test_a_call_meant_for_a_predecessor_is_refused(serve: Serve) -> None:
    client = await serve()
    mine, late = (("x-simulator-id", "second"),), (("x-simulator-id", "first"),)
    assert (await client.StartSimulator(start_request(), metadata=mine)).simulator_id == "second"
    stop = pb.StopSimulatorRequest(session_id=SESSION)
    for call in (
        client.StopSimulator(stop, metadata=late),
        client.StartSimulator(start_request(), metadata=late),
        client.SubmitOrder(order_request(), metadata=late),
        client.StreamExchangeData(pb.StreamRequest(session_id=SESSION), metadata=late).read(),
    ):
        assert await status_of(call) is grpc.StatusCode.FAILED_PRECONDITION
    assert (await client.GetSimulatorStatus(pb.GetSimulatorStatusRequest(session_id=SESSION))).status == "RUNNING"
    assert (await client.StopSimulator(stop, metadata=mine)).success


async def test_a_former_owner_is_fenced_also_after_a_stop(serve: Serve) -> None:
    client = await serve()

    def owner(epoch: int, pod: str) -> tuple[tuple[str, str], ...]:
        return (("x-owner-epoch", str(epoch)), ("x-owner-pod", pod))

    await client.StartSimulator(start_request(), metadata=owner(4, "a"))
    heartbeat, stop = pb.HeartbeatRequest(session_id=SESSION), pb.StopSimulatorRequest(session_id=SESSION)
    assert (await client.Heartbeat(heartbeat, metadata=owner(5, "b"))).success
    for call in (
        client.Heartbeat(heartbeat, metadata=owner(4, "a")),
        client.Heartbeat(heartbeat, metadata=owner(5, "a")),
        client.StopSimulator(stop, metadata=owner(4, "a")),
        client.StartSimulator(start_request(), metadata=owner(4, "a")),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert dict(caught.value.trailing_metadata())["x-highest-epoch"] == "5"
    assert (await client.Heartbeat(heartbeat)).success  # without an epoch no fence is asked for
    assert (await client.StopSimulator(stop, metadata=owner(5, "b"))).success
    late = client.StartSimulator(start_request(), metadata=owner(4, "a"))
    assert await status_of(late) is grpc.StatusCode.FAILED_PRECONDITION
    unreadable = client.Heartbeat(heartbeat, metadata=(("x-owner-epoch", "x"),))
    assert await status_of(unreadable) is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_silent_session_is_dropped_a_streamed_or_heartbeating_one_is_not(serve: Serve) -> None:
    client = await serve(heartbeat_ttl_s=TTL_S)
    status = pb.GetSimulatorStatusRequest(session_id=SESSION)

    async def is_gone() -> bool:
        return await status_of(client.GetSimulatorStatus(status)) is grpc.StatusCode.NOT_FOUND

    await client.StartSimulator(start_request())
    async with streaming(client) as call:
        await take(call, round(1.2 * TTL_S / 0.01))  # at 10 ms each
    assert not await is_gone()
    beats_until_s = time.monotonic() + 1.2 * TTL_S
    while time.monotonic() < beats_until_s:
        assert (await client.Heartbeat(pb.HeartbeatRequest(session_id=SESSION))).success
        await asyncio.sleep(0.05)
    assert not await is_gone()
    await poll_until(is_gone)


async def test_sessions_of_one_process_are_separate(serve: Serve) -> None:
    client = await serve(max_sessions=2)
    for session_id in ("a", "b"):
        assert (await client.StartSimulator(start_request(session_id))).success
    third = client.StartSimulator(start_request("c"))
    assert await status_of(third) is grpc.StatusCode.RESOURCE_EXHAUSTED
    order = order_request()
    order.session_id = "a"
    assert (await client.SubmitOrder(order)).success
    for session_id, orders in (("a", 1), ("b", 0)):
        call = client.StreamExchangeData(pb.StreamRequest(session_id=session_id))
        (snapshot,) = await take(call, 1)
        call.cancel()
        assert len(snapshot.order_updates) == orders
