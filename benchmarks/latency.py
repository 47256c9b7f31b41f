"""From the simulator to the socket: how old an update is when a client's bytes arrive (row 10).

Sessions at ten updates a second each, as many as take about half a core of the pod (BENCH_SESSIONS). The age is the
reader's clock minus the update's own timestamp, which the simulator sets when it makes it: same machine, same clock,
whole milliseconds. Scheduling in the simulator and in the reader is part of it.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from contextlib import AsyncExitStack
from functools import partial

import uvloop

from benchmarks.fanout import Accepted, Silent
from benchmarks.stream_cost import start_simulator
from benchmarks.support import report, until
from session_service.clients.exchange import ExchangeClient
from session_service.domain.simulator import SimulatorAddress
from session_service.telemetry.metrics import Metrics
from session_service.websocket.connection import WebSocketConnection
from session_service.websocket.streams import StreamManager
from session_service.websocket.traffic import Traffic
from session_service.wire.protocol import ProtocolLimits, SocketProtocol

SESSIONS = int(os.environ.get("BENCH_SESSIONS", "100"))
MEASURE_S = 10.0
SAMPLED = 10  # sockets that are looked into; the others are only read
_TIMESTAMP = re.compile(rb'"data":\{"timestamp":(\d+)')


class Reader(asyncio.Protocol):
    """Notes the age of each update in what arrives."""

    def __init__(self, ages_ms: list[float] | None) -> None:
        self._ages_ms = ages_ms

    def data_received(self, data: bytes) -> None:
        if self._ages_ms is not None:
            now_ms = time.time() * 1000
            self._ages_ms.extend(now_ms - int(stamp) for stamp in _TIMESTAMP.findall(data))


async def main() -> None:
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as exits:
        endpoint = start_simulator(exits)
        metrics = Metrics()
        traffic = Traffic(metrics)
        exchange = ExchangeClient("bench", metrics, time.monotonic)
        exits.push_async_callback(exchange.close)

        async def address_of(session_id: str) -> SimulatorAddress:
            return SimulatorAddress(session_id, f"simulator-{session_id}", endpoint, "")

        for number in range(SESSIONS):
            await exchange.start_simulator(await address_of(f"session-{number}"), "bench", (), 0.0)
        transports: list[asyncio.Transport] = []
        server = await loop.create_server(lambda: Accepted(transports), "127.0.0.1", 0, backlog=SESSIONS)
        exits.callback(server.close)
        port = server.sockets[0].getsockname()[1]
        ages_ms: list[float] = []
        for number in range(SESSIONS):
            sampled = ages_ms if number % max(1, SESSIONS // SAMPLED) == 0 else None
            await loop.create_connection(partial(Reader, sampled), "127.0.0.1", port)
        await until(lambda: len(transports) == SESSIONS, "sockets")
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
            streams.attach(f"session-{number}", connection.client_id, connection, None, None).start()
        await until(lambda: traffic.exchange_frames > 5 * SESSIONS, "streams")
        ages_ms.clear()
        cpu_s = time.process_time()
        await asyncio.sleep(MEASURE_S)
        cores = (time.process_time() - cpu_s) / MEASURE_S
        ages = sorted(ages_ms)
    figures = {
        "sessions": SESSIONS,
        "samples": len(ages),
        "pod_and_reader_cores": round(cores, 2),
        "p50_ms": round(ages[len(ages) // 2], 1),
        "p99_ms": round(ages[len(ages) * 99 // 100], 1),
        "goal_p99_ms": 10,
    }
    report("latency", ("grpcio", "uvloop", "msgspec"), figures)


if __name__ == "__main__":
    uvloop.run(main())
