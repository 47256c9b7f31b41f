"""One exchange frame to 1,000 sockets of a session, and eight updates per tick (docs/performance.md, rows 1 and 2).

The product's whole way is measured: an update comes from a stream, is applied, encoded once and written by the real
WebSocketConnection of each socket. Comparators write the same payload: bare uvloop transports (the limit), aiohttp's
``send_str`` in a loop, websockets' ``broadcast``, picows. Each has 1,000 readers in a process of its own; rounds
alternate, and a figure is the best of its rounds, in updates delivered per second of the server's CPU.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import cast

import picows
import uvloop
from aiohttp import web
from websockets.asyncio.server import ServerConnection, broadcast, serve

from benchmarks.support import Readers, cpu_s, report, until
from session_service.domain.market import MarketUpdate, Quote
from session_service.domain.simulator import SimulatorAddress
from session_service.telemetry.metrics import Metrics
from session_service.websocket.connection import WebSocketConnection
from session_service.websocket.streams import StreamManager
from session_service.websocket.traffic import Traffic
from session_service.wire.exchange_frames import exchange_frame
from session_service.wire.messages import ClientMessage, UnreadableMessage
from session_service.wire.protocol import ProtocolLimits, SocketProtocol

SOCKETS = 1_000
TICKS = 40  # per round
ROUNDS = 4
BURST = 8  # updates per tick, in row 2
SYMBOLS = ("AAPL", "GOOGL", "MSFT", "AMZN", "TSLA")
LEAD_TICKS = 20  # the writer waits for readers that are further behind

Tick = Callable[[int], Awaitable[None]]


def update(sequence: int) -> MarketUpdate:
    quotes = tuple(Quote(symbol, 189.99, 190.02, 100, 700, 190.0, 100) for symbol in SYMBOLS)
    return MarketUpdate(3_667_506_599_548_055, sequence, sequence, sequence == 1, 1_795_168_839_725, quotes, (), None)


FRAME = exchange_frame(update(10_000), 1_795_168_839_729)
PAYLOAD = FRAME.event_stream.split(b"data: ", 1)[1].strip()


class Scripted:
    """A source of updates that come when the benchmark says."""

    def __init__(self) -> None:
        self.sequence = 0
        self._ready: deque[MarketUpdate] = deque()
        self._waiter: asyncio.Future[None] | None = None

    def publish(self, count: int) -> None:
        for _ in range(count):
            self.sequence += 1
            self._ready.append(update(self.sequence))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def stream(
        self, address: SimulatorAddress, client_id: str, epoch: int, from_sequence: int, symbols: Sequence[str] = ()
    ) -> AsyncGenerator[MarketUpdate]:
        while True:
            while self._ready:
                yield self._ready.popleft()
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter


class Silent:
    """The clients of this benchmark say nothing."""

    def on_message(self, connection: WebSocketConnection, message: ClientMessage) -> None: ...

    def on_refusal(self, connection: WebSocketConnection, refusal: UnreadableMessage) -> None: ...


class Accepted(asyncio.Protocol):
    """A bare socket."""

    def __init__(self, transports: list[asyncio.Transport]) -> None:
        self._transports = transports

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transports.append(cast("asyncio.Transport", transport))  # uvloop's is no subclass


async def accept(exits: AsyncExitStack) -> tuple[list[asyncio.Transport], Readers]:
    transports: list[asyncio.Transport] = []
    server = await asyncio.get_running_loop().create_server(
        lambda: Accepted(transports), "127.0.0.1", 0, backlog=SOCKETS
    )
    exits.callback(server.close)
    readers = Readers(server.sockets[0].getsockname()[1], SOCKETS)
    exits.callback(readers.close)
    await until(lambda: len(transports) == SOCKETS, "sockets")
    return transports, readers


async def bare(exits: AsyncExitStack) -> tuple[Tick, Readers]:
    transports, readers = await accept(exits)

    async def tick(count: int) -> None:
        for _ in range(count):
            for transport in transports:
                transport.write(FRAME.websocket)
        await asyncio.sleep(0)

    return tick, readers


async def own(exits: AsyncExitStack) -> tuple[Tick, Readers]:
    transports, readers = await accept(exits)
    metrics, source = Metrics(), Scripted()
    traffic = Traffic(metrics)

    async def address_of(session_id: str) -> SimulatorAddress:
        return SimulatorAddress(session_id, "simulator", "127.0.0.1:1", "")

    streams = StreamManager(source, address_of, metrics)
    exits.push_async_callback(streams.close)
    source.publish(1)
    for number, transport in enumerate(transports):
        protocol = SocketProtocol(ProtocolLimits(silence_s=3_600.0), time.monotonic(), authenticated=True)
        connection = WebSocketConnection(
            transport, traffic, time.monotonic, protocol, Silent(), client_id=f"client-{number}"
        )
        attachment = streams.attach("session", connection.client_id, connection, None, None)
        await attachment.ready(5.0)
        attachment.start()
    sent = traffic.exchange_frames

    async def tick(count: int) -> None:
        nonlocal sent
        source.publish(count)
        sent += count * SOCKETS
        while traffic.exchange_frames < sent:
            await asyncio.sleep(0)

    return tick, readers


async def aiohttp_loop(exits: AsyncExitStack) -> tuple[Tick, Readers]:
    sockets: list[web.WebSocketResponse] = []

    async def handle(request: web.Request) -> web.WebSocketResponse:
        response = web.WebSocketResponse(compress=False)
        await response.prepare(request)
        sockets.append(response)
        async for _message in response:
            pass
        return response

    app = web.Application()
    app.router.add_get("/ws", handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    exits.push_async_callback(runner.cleanup)
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=SOCKETS)
    await site.start()
    readers = Readers(runner.addresses[0][1], SOCKETS)
    exits.callback(readers.close)
    await until(lambda: len(sockets) == SOCKETS, "sockets")
    text = PAYLOAD.decode()

    async def tick(count: int) -> None:
        for _ in range(count):
            for socket in sockets:
                await socket.send_str(text)
        await asyncio.sleep(0)

    return tick, readers


async def websockets_broadcast(exits: AsyncExitStack) -> tuple[Tick, Readers]:
    async def handle(connection: ServerConnection) -> None:
        await connection.wait_closed()

    server = await exits.enter_async_context(
        serve(handle, "127.0.0.1", 0, compression=None, ping_interval=None, close_timeout=0.1, backlog=SOCKETS)
    )
    readers = Readers(next(iter(server.sockets)).getsockname()[1], SOCKETS)
    exits.callback(readers.close)
    await until(lambda: len(server.connections) == SOCKETS, "sockets")
    text = PAYLOAD.decode()

    async def tick(count: int) -> None:
        for _ in range(count):
            broadcast(server.connections, text)
        await asyncio.sleep(0)

    return tick, readers


async def picows_loop(exits: AsyncExitStack) -> tuple[Tick, Readers]:
    transports: list[picows.WSTransport] = []

    class Listener(picows.WSListener):
        def on_ws_connected(self, transport: picows.WSTransport) -> None:
            transports.append(transport)

    server = await picows.ws_create_server(lambda _request: Listener(), "127.0.0.1", 0, backlog=SOCKETS)
    exits.callback(server.close)
    readers = Readers(server.sockets[0].getsockname()[1], SOCKETS)
    exits.callback(readers.close)
    await until(lambda: len(transports) == SOCKETS, "sockets")

    async def tick(count: int) -> None:
        for _ in range(count):
            for transport in transports:
                transport.send(picows.WSMsgType.TEXT, PAYLOAD)
        await asyncio.sleep(0)

    return tick, readers


async def round_per_s(tick: Tick, readers: Readers, count: int) -> float:
    """Updates delivered per second of CPU in one round; every byte was read when it ends."""
    await asyncio.sleep(0.05)
    start = readers.bytes_read
    tick_bytes = SOCKETS * count * len(FRAME.websocket)
    gc.collect()

    async def body() -> None:
        for number in range(TICKS):
            await tick(count)
            behind = (number - LEAD_TICKS) * tick_bytes
            while readers.bytes_read - start < behind:
                await asyncio.sleep(0.001)

    seconds = await cpu_s(body)
    await until(lambda: readers.bytes_read - start >= 0.98 * TICKS * tick_bytes, "bytes")
    return SOCKETS * TICKS * count / seconds


async def main() -> None:
    contenders = {
        "own": own,
        "bare_transport_write": bare,
        "aiohttp_send_str": aiohttp_loop,
        "websockets_broadcast": websockets_broadcast,
        "picows": picows_loop,
    }
    async with AsyncExitStack() as exits:
        ready = {name: await prepare(exits) for name, prepare in contenders.items()}
        best = {(name, count): 0.0 for name in ready for count in (1, BURST)}
        for _ in range(ROUNDS):
            for (name, count), rate in list(best.items()):
                best[name, count] = max(rate, await round_per_s(*ready[name], count))
    figures: dict[str, float] = {
        f"{name}_{count}_per_tick_per_s": round(rate) for (name, count), rate in best.items()
    }
    figures["row1_ratio_to_limit"] = round(best["own", 1] / best["bare_transport_write", 1], 3)
    figures["row1_ratio_to_send_str"] = round(best["own", 1] / best["aiohttp_send_str", 1], 2)
    figures["row2_ratio_to_row1"] = round(best["own", BURST] / best["own", 1], 2)
    figures["frame_bytes"] = len(FRAME.websocket)
    report("fanout", ("aiohttp", "websockets", "picows", "uvloop", "msgspec"), figures)


if __name__ == "__main__":
    uvloop.run(main())
