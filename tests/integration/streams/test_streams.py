"""The data plane on a real simulator process: resumes at random moments, freezes, crashes, many sockets."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.frames import Frame
from websockets.protocol import Protocol, Side, State

from session_service.clients.exchange import ExchangeClient
from session_service.domain.simulator import OrderRequest, OrderStatus, OrderType, SimulatorAddress
from session_service.domain.simulator import Side as OrderSide
from session_service.errors import UnavailableError
from session_service.telemetry.metrics import Metrics
from session_service.websocket.streams import Attachment, Position, StreamManager
from session_service.wire.exchange_frames import ExchangeFrame
from tests.integration.streams.conftest import SimulatorProcess, until
from tests.support.stalls import Stalls

SESSION = "session-1"


class Client:
    """Takes every frame apart, and keeps the sequence rule."""

    def __init__(self, position: Position | None = None) -> None:
        self.position = position
        self.numbers: list[int] = []  # every sequence that was covered, in the order of arrival
        self.orders: list[dict[str, Any]] = []
        self.snapshots = 0
        self.last_at_s = time.monotonic()
        self._protocol = Protocol(Side.CLIENT, state=State.OPEN, max_size=None)

    def send_exchange_frame(self, frame: ExchangeFrame) -> None:
        self._protocol.receive_data(frame.websocket)
        for event in self._protocol.events_received():
            assert isinstance(event, Frame)
            self._take(json.loads(bytes(event.data)))
        self.last_at_s = time.monotonic()

    def _take(self, content: dict[str, Any]) -> None:
        first, last = content["fromSequence"], content["sequence"]
        if content["snapshot"]:
            self.snapshots += 1
            self.numbers = [last]
        else:
            assert self.position == Position(content["epoch"], first - 1)
            self.numbers.extend(range(first, last + 1))
        self.position = Position(content["epoch"], last)
        self.orders.extend(content["data"]["orderUpdates"])

    def unsent_bytes(self) -> int:
        return 0

    def too_slow(self) -> None:
        pytest.fail("too slow")


class Pod:
    """One stream manager, as one pod has it."""

    def __init__(self, exchange: ExchangeClient, simulator: SimulatorProcess) -> None:
        self.simulator = simulator
        self.lost_at_s: list[float] = []
        self.streams = StreamManager(exchange, self.address_of, Metrics())
        self.streams.on_stream_lost = lambda _session_id, _simulator_id: self.lost_at_s.append(time.monotonic())

    async def address_of(self, session_id: str) -> SimulatorAddress | None:
        return self.simulator.address(session_id)

    async def open(self, client: Client) -> Attachment:
        attachment = self.streams.attach(SESSION, "client-1", client, client.position, None)
        await attachment.ready(5.0)
        attachment.start()
        return attachment


@pytest.fixture
async def pods(exchange: ExchangeClient, simulator: SimulatorProcess) -> AsyncIterator[list[Pod]]:
    await exchange.start_simulator(simulator.address(), "user-1", ["AAPL", "MSFT"], 1e6)
    made = [Pod(exchange, simulator) for _ in range(2)]
    yield made
    for pod in made:
        await pod.streams.close()


async def test_a_hundred_disconnects_at_random_moments_lose_nothing(
    pods: list[Pod], exchange: ExchangeClient, simulator: SimulatorProcess
) -> None:
    chooser = random.Random(4)
    client = Client()
    numbers: list[int] = []
    for round_number in range(100):
        pod = chooser.choice(pods)
        client.numbers = []
        attachment = await pod.open(client)
        assert attachment.resumed == (round_number > 0)
        if chooser.random() < 0.3:
            order = OrderRequest("AAPL", OrderSide.BUY, 1, OrderType.MARKET, None, f"request-{round_number}")
            await exchange.submit_order(simulator.address(), order)
        await asyncio.sleep(chooser.random() * 0.06)
        attachment.detach()
        numbers.extend(client.numbers)
        await asyncio.sleep(chooser.random() * 0.04)
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert client.snapshots == 1
    assert len(numbers) > 100
    placed = {order.order_id for order in await exchange.list_orders(simulator.address())}
    attachment = await pods[0].open(client)
    await until(lambda: placed == {order["orderId"] for order in client.orders})
    attachment.detach()
    sequences = [order["sequence"] for order in client.orders]
    assert sequences == sorted(sequences)
    assert len(set(map(str, client.orders))) == len(client.orders)


async def test_a_frozen_simulator_is_noticed_within_five_seconds_and_continued_when_it_thaws(
    pods: list[Pod], simulator: SimulatorProcess, stalls: Stalls
) -> None:
    client = Client()
    attachment = await pods[0].open(client)
    await until(lambda: len(client.numbers) > 5)
    simulator.send(signal.SIGSTOP)
    frozen_at_s = time.monotonic()
    try:
        await until(lambda: bool(pods[0].lost_at_s))
    finally:
        simulator.send(signal.SIGCONT)
    assert stalls.took_s(frozen_at_s, pods[0].lost_at_s[0]) <= 5.0
    seen = len(client.numbers)
    await until(lambda: len(client.numbers) > seen + 10)
    assert client.snapshots == 1
    assert client.numbers == list(range(client.numbers[0], client.numbers[0] + len(client.numbers)))
    attachment.detach()


async def start_again(exchange: ExchangeClient, address: SimulatorAddress) -> None:
    """As the reconciler does: until the connection, which backs off for up to a second, is there again."""
    deadline_s = time.monotonic() + 30
    while True:
        try:
            await exchange.start_simulator(address, "user-1", ["AAPL"], 1e6)
        except UnavailableError:
            assert time.monotonic() < deadline_s
            await asyncio.sleep(0.1)
        else:
            return


async def test_a_killed_simulator_is_noticed_and_its_successor_begins_with_a_snapshot(
    pods: list[Pod], exchange: ExchangeClient, simulator: SimulatorProcess, stalls: Stalls
) -> None:
    client = Client()
    attachment = await pods[0].open(client)
    await until(lambda: len(client.numbers) > 5)
    assert client.position is not None
    epoch = client.position.epoch
    killed_at_s = time.monotonic()
    await simulator.kill()
    await until(lambda: bool(pods[0].lost_at_s))
    assert stalls.took_s(killed_at_s, pods[0].lost_at_s[0]) <= 5.0
    await simulator.start(simulator.endpoint.rpartition(":")[2], UPDATE_INTERVAL_MS="20")
    await start_again(exchange, simulator.address())
    await until(lambda: client.snapshots == 2)
    assert client.position.epoch != epoch
    attachment.detach()


async def test_a_thousand_sockets_share_one_stream(pods: list[Pod]) -> None:
    clients = [Client() for _ in range(1_000)]
    attachments = [await pods[0].open(client) for client in clients]
    await until(lambda: all(len(client.numbers) > 5 for client in clients), 60.0)
    for attachment in attachments:
        attachment.detach()
    heads = {client.position for client in clients}
    assert len(heads) == 1
    for client in clients:
        assert client.numbers == list(range(client.numbers[0], client.numbers[0] + len(client.numbers)))
        assert client.snapshots == 1


async def test_orders_are_listed_open_ones_first(exchange: ExchangeClient, simulator: SimulatorProcess) -> None:
    address = simulator.address("session-orders")
    await exchange.start_simulator(address, "user-1", ["AAPL"], 1e6)
    bought = await exchange.submit_order(
        address, OrderRequest("AAPL", OrderSide.BUY, 1, OrderType.MARKET, None, "request-1")
    )
    resting = await exchange.submit_order(
        address, OrderRequest("AAPL", OrderSide.BUY, 1, OrderType.LIMIT, 1.0, "request-2")
    )
    rejected = await exchange.submit_order(
        address, OrderRequest("NONE", OrderSide.BUY, 1, OrderType.MARKET, None, "request-3")
    )
    assert (bought.status, resting.status) == (OrderStatus.FILLED, OrderStatus.NEW)
    assert rejected.status is OrderStatus.REJECTED
    assert rejected.reason
    listed = await exchange.list_orders(address)
    assert listed[0].order_id == resting.order_id
    assert bought.order_id in {order.order_id for order in listed[1:]}
    assert (await exchange.cancel_order(address, resting.order_id)).status is OrderStatus.CANCELED
