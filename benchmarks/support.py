"""What the benchmarks of sockets share: readers in a process of their own, and the facts of a run."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import platform
import subprocess
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from multiprocessing.context import SpawnProcess
from multiprocessing.sharedctypes import Synchronized
from typing import Any, cast

import uvloop

UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
BUFFER_BYTES = 256 * 1024


class _Counting(asyncio.BufferedProtocol):
    """Asks for an upgrade and counts the bytes that come: the cheapest reader there is."""

    buffer = bytearray(BUFFER_BYTES)

    def __init__(self, count: Synchronized[int]) -> None:
        self._count = count

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).write(UPGRADE)  # uvloop's is no subclass

    def get_buffer(self, _sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._count.value += nbytes


def _read(port: int, connections: int, count: Synchronized[int]) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        for _ in range(connections):
            await loop.create_connection(lambda: _Counting(count), "127.0.0.1", port)
        await asyncio.Event().wait()

    uvloop.run(run())


class Readers:
    """``connections`` WebSocket clients of one port, in another process. Only this process writes ``_count``."""

    def __init__(self, port: int, connections: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._count: Synchronized[int] = context.Value("q", 0, lock=False)
        self._process: SpawnProcess = context.Process(
            target=_read, args=(port, connections, self._count), daemon=True
        )
        self._process.start()

    @property
    def bytes_read(self) -> int:
        return self._count.value

    def close(self) -> None:
        self._process.terminate()
        self._process.join()


async def until(condition: Callable[[], bool], what: str, timeout_s: float = 30.0) -> None:
    """Wait for a condition without using the processor that is being measured."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_s:
            raise TimeoutError(what)
        await asyncio.sleep(0.002)


async def cpu_s(body: Callable[[], Awaitable[None]]) -> float:
    """Seconds of this process's CPU, all threads, kernel time included: what a busy neighbour does not change."""
    began_s = time.process_time()
    await body()
    return time.process_time() - began_s


def report(benchmark: str, packages: tuple[str, ...], figures: dict[str, Any]) -> None:
    """Print the result as the one JSON line that ``python -m benchmarks`` reads."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    result = {
        "benchmark": benchmark,
        "machine": f"{platform.machine()} {platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {package: version(package) for package in packages},
        "commit": commit.stdout.strip() or "unknown",
        "figures": figures,
    }
    print(json.dumps(result))
