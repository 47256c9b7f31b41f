"""Idle WebSocket clients in a process of their own: they connect, and send heartbeats if they are asked to."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import time
from multiprocessing.context import SpawnProcess
from multiprocessing.sharedctypes import Synchronized
from typing import cast

import uvloop

from session_service.clients.token_signer import sign_token

CONNECTING_AT_ONCE = 100


class IdleClients:
    """``count`` clients of one port. With a ``secret_key`` each is a user of its own, with a device and a session.

    ``first`` numbers the first of them: clients of several calls are different users.
    """

    def __init__(
        self, port: int, count: int, *, first: int = 0, secret_key: str = "", heartbeat_interval_s: float = 0.0
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._count = count
        self._open: Synchronized[int] = context.Value("q", 0, lock=False)
        self._answers: Synchronized[int] = context.Value("q", 0, lock=False)
        self._process: SpawnProcess = context.Process(
            target=_run,
            args=(port, first, count, secret_key, heartbeat_interval_s, self._open, self._answers),
            daemon=True,
        )
        self._process.start()

    @property
    def answers(self) -> int:
        """Heartbeats that were answered."""
        return self._answers.value

    def wait_until_open(self, limit_s: float) -> float:
        """Block until every client has had its first frame; seconds that it took."""
        began_s = time.monotonic()
        while self._open.value < self._count:
            if time.monotonic() > began_s + limit_s or not self._process.is_alive():
                raise TimeoutError(f"{self._open.value} of {self._count} clients are connected")
            time.sleep(0.05)
        return time.monotonic() - began_s

    def close(self) -> None:
        self._process.terminate()
        self._process.join()


class _Client(asyncio.Protocol):
    def __init__(self, request: bytes, opened: asyncio.Future[None], answers: Synchronized[int]) -> None:
        self._request = request
        self._opened = opened
        self._answers = answers
        self._head = b""
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if self._opened.done():
            self._answers.value += 1
            return
        self._head += data
        # The first frame, whatever it says, comes behind the answer to the upgrade.
        _, separator, frames = self._head.partition(b"\r\n\r\n")
        if separator and frames:
            self._head = b""
            self._opened.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._opened.done():
            self._opened.set_exception(ConnectionError(f"refused: {self._head[:200]!r}"))


def _run(
    port: int,
    first: int,
    count: int,
    secret_key: str,
    heartbeat_interval_s: float,
    opened: Synchronized[int],
    answers: Synchronized[int],
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        clients: list[_Client] = []
        places = asyncio.Semaphore(CONNECTING_AT_ONCE)

        async def connect(number: int) -> None:
            async with places:
                ready: asyncio.Future[None] = loop.create_future()
                request = _upgrade(number, secret_key)
                _, client = await loop.create_connection(lambda: _Client(request, ready, answers), "127.0.0.1", port)
                await ready
            clients.append(client)
            opened.value += 1

        await asyncio.gather(*(connect(number) for number in range(first, first + count)))
        if not heartbeat_interval_s:
            await asyncio.Event().wait()
        # One after the other around the interval, as clients that came at different times do.
        due_s, number = loop.time(), 0
        while True:
            clients[number % count].transport.write(_heartbeat(number))
            number += 1
            due_s += heartbeat_interval_s / count
            await asyncio.sleep(max(0.0, due_s - loop.time()))

    uvloop.run(main())


def _upgrade(number: int, secret_key: str) -> bytes:
    lines = [
        f"GET /ws?deviceId=device-1&clientId=tab-{number} HTTP/1.1",
        "Host: localhost",
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0 Safari/537.36",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",  # as every browser
    ]
    if secret_key:
        token = sign_token(secret_key, "HS256", f"user-{number}", now_s=time.time(), ttl_s=3600)
        lines.append(f"Authorization: Bearer {token}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _heartbeat(number: int) -> bytes:
    text = json.dumps({"type": "heartbeat", "timestamp": 1_795_168_839_725 + number, "deviceId": "device-1"}).encode()
    mask = os.urandom(4)
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(text))
    return bytes((0x81, 0x80 | len(text))) + mask + masked
