"""Clients that hold a socket each, check every frame, and come back when they lose it, as the protocol asks."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiohttp

from tests.support.numbered_client import NumberedStream
from tests.support.service import bearer
from tests.support.stalls import Stalls


class Follower:
    """One client of one session. ``stream`` checks what comes; ``last_frame_at`` is when the last one came.

    ``longest_gap_s``: between two frames, without what the machine took.
    """

    def __init__(self, http: aiohttp.ClientSession, user_id: str, device_id: str = "device-1") -> None:
        self.stream = NumberedStream()
        self.longest_gap_s = 0.0
        self.last_frame_at: float | None = None
        self.session_id: str | None = None
        self.connections = 0
        self.not_resumed = 0
        self.close_codes: list[int | None] = []
        self.others: list[dict[str, Any]] = []
        self._http = http
        self._user_id = user_id
        self._device_id = device_id
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._task: asyncio.Task[None] | None = None
        self._stalls = Stalls()

    async def __aenter__(self) -> Follower:
        self._stalls.__enter__()
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_exc: object) -> None:
        assert self._task is not None
        self._task.cancel()
        ended = await asyncio.gather(self._task, return_exceptions=True)
        self._stalls.__exit__(None, None, None)
        if isinstance(ended[0], Exception):
            raise ended[0]

    def check(self) -> None:
        """Raise what broke the follower, if anything did."""
        if self._task is not None and self._task.done():
            self._task.result()

    def drop(self) -> None:
        """Lose the connection, without a close frame, whatever is under way."""
        connection = None if self._socket is None else self._socket._response.connection
        if connection is not None and connection.transport is not None:
            connection.transport.abort()

    async def at_least(self, frames: int, *, within_s: float) -> None:
        """Wait until so many frames have come since now."""
        wanted = self.stream.frames + frames
        async with asyncio.timeout(within_s):
            while self.stream.frames < wanted:
                self.check()
                await asyncio.sleep(0.01)

    async def _run(self) -> None:
        while True:
            query = {
                "deviceId": self._device_id,
                "clientId": "tab-1",
                "attempt": str(self.connections + 1),
                **{name: str(value) for name, value in self.stream.position.items()},
            }
            try:
                async with self._http.ws_connect("/ws", params=query, headers=bearer(self._user_id)) as socket:
                    self._socket = socket
                    self.connections += 1
                    beating = asyncio.create_task(self._beat(socket))
                    try:
                        await self._read(socket)
                    finally:
                        beating.cancel()
                        await asyncio.gather(beating, return_exceptions=True)
                    self.close_codes.append(socket.close_code)
            except (aiohttp.ClientError, ConnectionError):
                await asyncio.sleep(0.05)

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in socket:
            had = self.stream.frames
            frame = self.stream.message(message)
            if frame is None:
                continue
            now = time.monotonic()
            if self.stream.frames > had:
                if self.last_frame_at is not None and now - self.last_frame_at > self.longest_gap_s:
                    self.longest_gap_s = max(self.longest_gap_s, self._stalls.took_s(self.last_frame_at, now))
                self.last_frame_at = now
            else:
                self.others.append(frame)
            if frame["type"] == "connected":
                self.session_id = frame["sessionId"]
                self.not_resumed += self.connections > 1 and not frame["resumed"]

    async def _beat(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        while True:
            await asyncio.sleep(1.0)
            await socket.send_json({"type": "heartbeat", "timestamp": 0, "deviceId": self._device_id})
