"""CPU of a pod per update delivered: 1,000 sessions, each its own simulator stream and socket (row 3).

One simulator process serves the sessions at ten updates a second each; the readers are a third process. The floor is
measured in the same run and the same way: a bare grpc.aio read of the same streams, undecoded, and one write of a
frame of the same size to a bare socket. CPU is the process's own, all its threads, kernel included.
"""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack

import grpc
import uvloop

from benchmarks.fanout import Accepted, Silent
from benchmarks.support import Readers, report, until
from exchange_api.exchange_pb2 import StreamRequest
from session_service.clients.exchange import CHANNEL_OPTIONS, ExchangeClient
from session_service.domain.simulator import SimulatorAddress
from session_service.telemetry.metrics import Metrics
from session_service.websocket.connection import WebSocketConnection
from session_service.websocket.streams import StreamManager
from session_service.websocket.traffic import Traffic
from session_service.wire.protocol import ProtocolLimits, SocketProtocol

SESSIONS = int(os.environ.get("BENCH_SESSIONS", "1000"))
MEASURE_S = 8.0
ROUNDS = 2


def start_simulator(exits: AsyncExitStack) -> str:
    """host:port of a process that serves any number of sessions."""
    environ = {"PATH": os.environ["PATH"], "PORT": "0", "HOST": "127.0.0.1", "LOG_LEVEL": "ERROR"}
    process = subprocess.Popen(
        [sys.executable, "-m", "exchange_simulator"], env=environ, stdout=subprocess.PIPE, text=True
    )
    exits.callback(process.wait)
    exits.callback(process.terminate)
    assert process.stdout is not None
    return process.stdout.readline().split()[-1]


async def sockets(exits: AsyncExitStack) -> tuple[list[asyncio.Transport], Readers]:
    transports: list[asyncio.Transport] = []
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Accepted(transports), "127.0.0.1", 0, backlog=SESSIONS)
    exits.callback(server.close)
    readers = Readers(server.sockets[0].getsockname()[1], SESSIONS)
    exits.callback(readers.close)
    await until(lambda: len(transports) == SESSIONS, "sockets")
    return transports, readers


async def measured(delivered: Callable[[], int]) -> tuple[float, float]:
    """(µs of CPU per update, updates per second) over MEASURE_S of the running load."""
    gc.collect()
    began, cpu_s = delivered(), time.process_time()
    await asyncio.sleep(MEASURE_S)
    count = delivered() - began
    return (time.process_time() - cpu_s) / count * 1e6, count / MEASURE_S


async def own(endpoint: str) -> tuple[float, float]:
    async with AsyncExitStack() as exits:
        transports, _ = await sockets(exits)
        metrics = Metrics()
        traffic = Traffic(metrics)
        exchange = ExchangeClient("bench", metrics, time.monotonic)
        exits.push_async_callback(exchange.close)

        async def address_of(session_id: str) -> SimulatorAddress:
            return SimulatorAddress(session_id, f"simulator-{session_id}", endpoint, "")

        streams = StreamManager(exchange, address_of, metrics)
        exits.push_async_callback(streams.close)
        for number, transport in enumerate(transports):
            connection = WebSocketConnection(
                transport,
                traffic,
                time.monotonic,
                SocketProtocol(ProtocolLimits(silence_s=3_600.0), time.monotonic(), authenticated=True),
                Silent(),
                client_id=f"client-{number}",
            )
            attachment = streams.attach(f"session-{number}", connection.client_id, connection, None, None)
            attachment.start()
        await until(lambda: traffic.exchange_frames > 3 * SESSIONS, "streams")
        return await measured(lambda: traffic.exchange_frames)


async def floor(endpoint: str, frame_bytes: int) -> tuple[float, float]:
    async with AsyncExitStack() as exits:
        transports, _ = await sockets(exits)
        frame = b"x" * frame_bytes
        channel = await exits.enter_async_context(grpc.aio.insecure_channel(endpoint, options=CHANNEL_OPTIONS))
        multicallable: grpc.aio.UnaryStreamMultiCallable[StreamRequest, bytes] = channel.unary_stream(
            "/exchange.ExchangeSimulator/StreamExchangeData", request_serializer=StreamRequest.SerializeToString
        )
        updates = 0

        async def copy(number: int, transport: asyncio.Transport) -> None:
            nonlocal updates
            async for _message in multicallable(StreamRequest(session_id=f"session-{number}", client_id="bench")):
                transport.write(frame)
                updates += 1

        tasks = [asyncio.create_task(copy(number, transport)) for number, transport in enumerate(transports)]
        await until(lambda: updates > 3 * SESSIONS, "streams")
        result = await measured(lambda: updates)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return result


async def main() -> None:
    async with AsyncExitStack() as exits:
        endpoint = start_simulator(exits)
        exchange = ExchangeClient("bench", Metrics(), time.monotonic)
        exits.push_async_callback(exchange.close)
        for number in range(SESSIONS):
            address = SimulatorAddress(f"session-{number}", f"simulator-session-{number}", endpoint, "")
            await exchange.start_simulator(address, "bench", (), 0.0)
        await exchange.close()
        rounds = [(await own(endpoint), await floor(endpoint, 560)) for _ in range(ROUNDS)]
    own_us = min(mine[0] for mine, _ in rounds)
    floor_us = min(bare[0] for _, bare in rounds)
    figures = {
        "sessions": SESSIONS,
        "updates_per_s": round(max(mine[1] for mine, _ in rounds)),
        "floor_updates_per_s": round(max(bare[1] for _, bare in rounds)),
        "own_us_per_update": round(own_us, 1),
        "floor_us_per_update": round(floor_us, 1),
        "row3_ratio_to_floor": round(own_us / floor_us, 2),
        "goal_ratio": 1.3,
    }
    report("stream_cost", ("grpcio", "protobuf", "uvloop", "msgspec"), figures)


if __name__ == "__main__":
    uvloop.run(main())
