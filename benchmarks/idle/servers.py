"""The servers that are compared: a pod of the product with its databases, aiohttp bare, websockets as it comes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import uvloop
from aiohttp import web
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from session_service.local.ports import free_port

START_LIMIT_S = 60.0
GREETING = json.dumps({"type": "connected", "padding": "x" * 350})
ANSWER = json.dumps({"type": "heartbeat_ack", "padding": "x" * 180})


class Server(msgspec.Struct, frozen=True):
    """One server under measurement. ``secret_key`` is empty where nobody asks for tokens."""

    port: int
    pid: int
    secret_key: str = ""

    def memory_bytes(self) -> int:
        """What the process has for itself (USS): shared libraries do not count."""
        return int(psutil.Process(self.pid).memory_full_info().uss)

    def cpu_s(self) -> float:
        """User and system time so far."""
        times = psutil.Process(self.pid).cpu_times()
        return times.user + times.system


@contextlib.contextmanager
def pod(**environ: str) -> Iterator[Server]:
    """A pod of ``session-service local``: the product as it runs, PostgreSQL and Redis in processes of their own."""
    with tempfile.TemporaryDirectory(prefix="session-bench-") as directory:
        data_dir = Path(directory) / "data"
        port = free_port()
        process = subprocess.Popen(
            [sys.executable, "-m", "session_service", "local", "--port", str(port), "--data-dir", str(data_dir)],
            env={**os.environ, "LOG_LEVEL": "WARNING", **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("ready "):
                    break
            description = json.loads((data_dir / "local.json").read_text(encoding="utf-8"))
            yield Server(port, description["pods"][0]["pid"], description["secret_key"])
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


@contextlib.contextmanager
def aiohttp_bare() -> Iterator[Server]:
    """Nothing but a WebSocketResponse that answers each message; no compression, no access log."""
    yield from _served(_run_aiohttp)


@contextlib.contextmanager
def websockets_default() -> Iterator[Server]:
    """A handler that answers each message, with the library's defaults."""
    yield from _served(_run_websockets)


def _served(target: object) -> Iterator[Server]:
    port = free_port()
    process = multiprocessing.get_context("spawn").Process(target=target, args=(port,), daemon=True)  # type: ignore[arg-type] # one of the two below
    process.start()
    deadline_s = time.monotonic() + START_LIMIT_S
    while not _listens(port):
        if time.monotonic() > deadline_s:
            raise TimeoutError("the server does not listen")
        time.sleep(0.05)
    assert process.pid is not None
    try:
        yield Server(port, process.pid)
    finally:
        process.terminate()
        process.join()


def _listens(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _run_aiohttp(port: int) -> None:
    async def handle(request: web.Request) -> web.WebSocketResponse:
        response = web.WebSocketResponse(compress=False)
        await response.prepare(request)
        await response.send_str(GREETING)
        async for _ in response:
            await response.send_str(ANSWER)
        return response

    async def main() -> None:
        app = web.Application()
        app.router.add_get("/ws", handle)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, backlog=2048).start()
        await asyncio.Event().wait()

    uvloop.run(main())


def _run_websockets(port: int) -> None:
    async def handle(connection: ServerConnection) -> None:
        await connection.send(GREETING)
        with contextlib.suppress(ConnectionClosed):  # the clients end without a word
            async for _ in connection:
                await connection.send(ANSWER)

    async def main() -> None:
        # Its own pings would come on top: the clients' heartbeats are what is measured.
        async with serve(handle, "127.0.0.1", port, backlog=2048, ping_interval=None):
            await asyncio.Event().wait()

    uvloop.run(main())
