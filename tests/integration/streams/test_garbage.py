"""Exchanges that answer garbage: the stream ends as unavailable, and the next one begins by a snapshot."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Sequence

import grpc
import pytest

from exchange_api import exchange_pb2 as pb
from session_service.clients.exchange import SILENCE_LIMIT_S, ExchangeClient, Fence
from session_service.domain.simulator import SimulatorAddress
from session_service.errors import (
    CircuitOpenError,
    ExchangeStateLostError,
    ExchangeUnavailableError,
    FencedError,
    OrderNotFoundError,
    SimulatorNotRunningError,
)
from session_service.telemetry.metrics import Metrics
from session_service.websocket.streams import StreamManager
from tests.integration.streams.conftest import until
from tests.support.scripted_exchange import Reader
from tests.support.stalls import Stalls

EPOCH = 99


def message(sequence: int, *, snapshot: bool = False, bid: float = 1.0, from_sequence: int | None = None) -> bytes:
    return pb.ExchangeDataUpdate(
        timestamp=1,
        epoch=EPOCH,
        sequence=sequence,
        from_sequence=sequence if from_sequence is None else from_sequence,
        snapshot=snapshot,
        market_data=[pb.MarketData(symbol="AAPL", bid=bid)],
    ).SerializeToString()


class RawExchange:
    """A gRPC server that sends the bytes, or refuses with the status, that a test says."""

    def __init__(self) -> None:
        self.streams: list[Sequence[bytes]] = []  # one answer per stream; then a well-behaved one
        self.opened = 0
        self.refusal: tuple[grpc.StatusCode, tuple[tuple[str, str], ...]] | None = None
        self.calls = 0
        self.metadata: dict[str, str | bytes] = {}
        self.answer = b""
        self.endpoint = ""
        self._server = grpc.aio.server()

    async def start(self) -> None:
        names = ("StartSimulator", "StopSimulator", "Heartbeat", "SubmitOrder", "CancelOrder", "GetOrderStatus")
        handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            name: grpc.unary_unary_rpc_method_handler(self._unary) for name in names
        }
        handlers["StreamExchangeData"] = grpc.unary_stream_rpc_method_handler(self._stream)
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("exchange.ExchangeSimulator", handlers),)
        )
        self.endpoint = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop(None)

    def address(self) -> SimulatorAddress:
        return SimulatorAddress("session-1", "simulator-1", self.endpoint, "the token")

    async def _unary(self, _request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        self.calls += 1
        self.metadata = dict(context.invocation_metadata() or ())
        if self.refusal is not None:
            await context.abort(self.refusal[0], "refused", self.refusal[1])
        return self.answer

    async def _stream(
        self, _request: bytes, _context: grpc.aio.ServicerContext[bytes, bytes]
    ) -> AsyncIterator[bytes]:
        self.opened += 1
        for answer in self.streams.pop(0) if self.streams else (message(50, snapshot=True), message(51)):
            yield answer
        await asyncio.sleep(3_600)


@pytest.fixture
async def raw() -> AsyncIterator[RawExchange]:
    exchange = RawExchange()
    await exchange.start()
    yield exchange
    await exchange.stop()


GARBAGE: dict[str, bytes] = {
    "not protobuf": b"\xff\xff\xff\xff",
    "NaN": message(11, bid=math.nan),
    "infinity": message(11, bid=-math.inf),
    "gap": message(12),
    "repetition": message(10),
    "regression": message(3),
    "range backwards": message(11, from_sequence=12),
    "epoch too large": pb.ExchangeDataUpdate(epoch=2**53, sequence=11, from_sequence=11).SerializeToString(),
    "5 MiB": pb.ExchangeDataUpdate(
        epoch=EPOCH, sequence=11, from_sequence=11, market_data=[pb.MarketData(symbol="x" * (5 << 20))]
    ).SerializeToString(),
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE.keys())
async def test_garbage_never_reaches_a_client(raw: RawExchange, exchange: ExchangeClient, garbage: bytes) -> None:
    raw.streams = [(message(10, snapshot=True), garbage)]

    async def address_of(_session_id: str) -> SimulatorAddress:
        return raw.address()

    streams = StreamManager(exchange, address_of, Metrics())
    reader = Reader()
    attachment = streams.attach("session-1", "client-1", reader, None, None)
    attachment.start()
    await until(lambda: len(reader.frames) >= 3)
    attachment.detach()
    await streams.close()
    assert reader.ranges == [(10, 10, True), (50, 50, True), (51, 51, False)]
    assert raw.opened == 2
    assert "NaN" not in json.dumps(reader.frames)


async def test_a_stream_that_falls_silent_is_ended(raw: RawExchange, stalls: Stalls) -> None:
    client = ExchangeClient("pod-1", Metrics(), time.monotonic, silence_limit_s=0.3)
    raw.streams = [(message(10, snapshot=True),)]
    began_s = time.monotonic()
    stream = client.stream(raw.address(), "client-1", 0, 0)
    assert (await anext(stream)).sequence == 10
    with pytest.raises(ExchangeUnavailableError):
        await anext(stream)
    assert time.monotonic() - began_s > 0.25
    assert stalls.took_s(began_s) < SILENCE_LIMIT_S
    await client.close()


@pytest.mark.parametrize(
    ("status", "trailers", "expected"),
    [
        (grpc.StatusCode.NOT_FOUND, (), ExchangeStateLostError),
        (grpc.StatusCode.FAILED_PRECONDITION, (("x-highest-epoch", "12"),), FencedError),
        (grpc.StatusCode.FAILED_PRECONDITION, (("x-highest-epoch", str(2**63 - 2)),), FencedError),
        # No BIGINT is above these.
        (grpc.StatusCode.FAILED_PRECONDITION, (("x-highest-epoch", str(2**63 - 1)),), ExchangeUnavailableError),
        (grpc.StatusCode.FAILED_PRECONDITION, (("x-highest-epoch", "9" * 5_000),), ExchangeUnavailableError),
        (grpc.StatusCode.FAILED_PRECONDITION, (), SimulatorNotRunningError),
        (grpc.StatusCode.UNAVAILABLE, (), ExchangeUnavailableError),
        (grpc.StatusCode.UNAUTHENTICATED, (), ExchangeUnavailableError),
    ],
)
async def test_what_a_status_means(
    raw: RawExchange,
    exchange: ExchangeClient,
    status: grpc.StatusCode,
    trailers: tuple[tuple[str, str], ...],
    expected: type[Exception],
) -> None:
    raw.refusal = (status, trailers)
    with pytest.raises(expected) as raised:
        await exchange.heartbeat(raw.address(), fence=Fence(7, "pod-1"))
    if isinstance(raised.value, FencedError):
        assert str(raised.value.highest_epoch) == trailers[0][1]
    assert raw.metadata["x-simulator-token"] == "the token"
    assert raw.metadata["x-simulator-id"] == "simulator-1"
    assert raw.metadata["x-owner-epoch"] == "7"
    assert raw.metadata["x-owner-pod"] == "pod-1"


async def test_refusals_leave_the_breaker_closed_and_failures_open_it(
    raw: RawExchange, exchange: ExchangeClient
) -> None:
    raw.refusal = (grpc.StatusCode.NOT_FOUND, ())
    for _ in range(10):
        with pytest.raises(ExchangeStateLostError):
            await exchange.heartbeat(raw.address())
    raw.refusal = (grpc.StatusCode.UNAVAILABLE, ())
    for _ in range(5):
        with pytest.raises(ExchangeUnavailableError):
            await exchange.heartbeat(raw.address())
    calls = raw.calls
    with pytest.raises(CircuitOpenError):
        await exchange.heartbeat(raw.address())
    assert raw.calls == calls


async def test_an_order_that_is_not_known_is_not_found_and_garbage_is_unavailable(
    raw: RawExchange, exchange: ExchangeClient
) -> None:
    with pytest.raises(OrderNotFoundError):
        await exchange.get_order(raw.address(), "order-1")
    raw.answer = pb.GetOrderStatusResponse(
        status=pb.GetOrderStatusResponse.FILLED, avg_price=math.nan
    ).SerializeToString()
    with pytest.raises(ExchangeUnavailableError):
        await exchange.get_order(raw.address(), "order-1")
    raw.answer = b"\xff\xff"
    with pytest.raises(ExchangeUnavailableError):
        await exchange.get_order(raw.address(), "order-1")
