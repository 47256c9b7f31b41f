"""One WebSocket of a client: opened, read, written, left."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp

from session_service_client.errors import SessionServiceClientError, TransportError
from session_service_client.events import Position
from session_service_client.heartbeats import Heartbeats
from session_service_client.rest import retry_after_s, transport_error
from session_service_client.sequence import SequenceChecker
from session_service_client.silence import Silence
from session_service_client.slot import Slot

CLOSE_LIMIT_S = 2.0  # a service that does not answer a close within it is dropped
SEND_LIMIT_S = 5.0  # commands are small: who has no room for one does not read
MAX_FRAME_BYTES = 4 * 1024 * 1024


class RefusedError(SessionServiceClientError):
    """The upgrade was answered with another status than 101."""

    def __init__(self, status: int, retry_after_s: float | None) -> None:
        super().__init__(f"the upgrade was refused with HTTP {status}")
        self.status = status
        self.retry_after_s = retry_after_s


class ClosedOnOpenError(SessionServiceClientError):
    """The socket was closed before ``connected``; ``code`` and ``reason``: of an ``error`` frame before that."""

    def __init__(self, close_code: int | None, code: str | None, reason: str) -> None:
        super().__init__(f"closed with {close_code} before it was connected")
        self.close_code = close_code
        self.code = code
        self.reason = reason


class LiveSocket:
    """A socket that got ``connected``, and what belongs to it alone.

    ``superseded``: the client left it for a newer one; what it says and how it ends are of no interest any more.
    ``ended`` is set when nothing more comes of it; ``close_code`` then, None where the network ended it.
    """

    __slots__ = (
        "_web_socket",
        "attempt",
        "blocked",
        "checker",
        "close_code",
        "connected",
        "delivers",
        "end_code",
        "end_reason",
        "ended",
        "ended_at_s",
        "heartbeats",
        "last_heard_s",
        "opened_at_s",
        "refresh_asked_s",
        "refresh_at_s",
        "silence",
        "simulator_runs",
        "slot",
        "superseded",
        "token",
        "url",
    )

    def __init__(
        self,
        web_socket: aiohttp.ClientWebSocketResponse,
        connected: Mapping[str, Any],
        *,
        url: str,
        attempt: int,
        token: str,
        stated: Position | None,
        now_s: float,
        silence_limit_s: float,
    ) -> None:
        self._web_socket = web_socket
        self.connected = connected
        self.url = url
        self.attempt = attempt
        self.token = token
        self.checker = SequenceChecker(stated if connected["resumed"] else None)
        self.opened_at_s = now_s
        self.last_heard_s = now_s
        self.heartbeats = Heartbeats(now_s, connected["heartbeatIntervalMs"] / 1000)
        self.silence = Silence(now_s, silence_limit_s)
        self.simulator_runs: bool = connected["simulatorStatus"] == "RUNNING"
        self.refresh_at_s: float | None = None  # when the token is to be renewed
        self.refresh_asked_s: float | None = None  # when a snapshot was asked for, to mend the sequence
        self.slot: Slot | None = None
        self.delivers = False
        self.blocked = False
        self.superseded = False
        self.ended = False
        self.ended_at_s = 0.0
        self.close_code: int | None = None
        self.end_code: str | None = None  # what the service said of the end before it closed
        self.end_reason = ""

    def __repr__(self) -> str:
        return f"LiveSocket({self.url}, attempt {self.attempt})"

    @property
    def must_speak(self) -> bool:
        """Whether the service has promised frames, and they are read."""
        return self.simulator_runs and not self.blocked and not self.ended

    async def frames(self) -> AsyncIterator[Mapping[str, Any]]:
        """Every text frame until the socket ends, however it does; what is no JSON object is passed over."""
        web_socket = self._web_socket
        while True:
            message = await web_socket.receive()
            if message.type is aiohttp.WSMsgType.TEXT:
                frame = _decode(message.data)
                if frame is not None:
                    yield frame
            elif message.type is not aiohttp.WSMsgType.BINARY:
                # The library also says 1000 for a connection that ended without a close frame.
                self.close_code = message.data if message.type is aiohttp.WSMsgType.CLOSE else None
                return

    async def send(self, message: Mapping[str, Any]) -> None:
        """On a socket that is lost nothing happens: its end is told by ``frames``.

        One sender at a time: the library lets all senders of a socket wait for one future, which a cancelled one
        takes down. A peer that does not take the message in time is dropped.
        """
        try:
            async with asyncio.timeout(SEND_LIMIT_S):
                await self._web_socket.send_str(json.dumps(message, separators=(",", ":")))
        except TimeoutError:
            self.abandon()
        except (ConnectionError, aiohttp.ClientError):
            return

    async def leave(self) -> None:
        """Close with 1000, and drop it where that is not answered in time."""
        try:
            async with asyncio.timeout(2 * CLOSE_LIMIT_S):
                await self._web_socket.close()
        except TimeoutError:
            self.abandon()

    def abandon(self) -> None:
        """Drop the connection without a word: the peer is not there to hear one."""
        connection = self._web_socket.get_extra_info("socket")
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


async def open_socket(
    http: aiohttp.ClientSession,
    url: str,
    query: Mapping[str, str],
    token: str,
    *,
    attempt: int,
    stated: Position | None,
    limit_s: float,
    silence_limit_s: float,
) -> LiveSocket:
    """Connect, and wait for ``connected``; ``limit_s`` is for both. ``stated``: the position that the query states.

    Raises RefusedError, ClosedOnOpenError, TransportError. A call that is cancelled leaves no connection behind.
    """
    try:
        async with asyncio.timeout(limit_s):
            web_socket = await http.ws_connect(
                f"{url}/ws",
                params=query,
                headers={"Authorization": f"Bearer {token}"},
                timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_LIMIT_S),
                max_msg_size=MAX_FRAME_BYTES,
            )
            try:
                connected = await _connected(web_socket)
            except BaseException:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(CLOSE_LIMIT_S):
                        await web_socket.close()
                raise
    except aiohttp.WSServerHandshakeError as error:
        retry_after = None if error.headers is None else error.headers.get("Retry-After")
        failure: SessionServiceClientError = RefusedError(error.status, retry_after_s(retry_after))
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        failure = transport_error(error)
    else:
        if isinstance(connected, ClosedOnOpenError):
            raise connected
        now_s = asyncio.get_running_loop().time()
        try:
            return LiveSocket(
                web_socket,
                connected,
                url=url,
                attempt=attempt,
                token=token,
                stated=stated,
                now_s=now_s,
                silence_limit_s=silence_limit_s,
            )
        except (KeyError, TypeError):
            await web_socket.close()
            failure = TransportError("a `connected` frame that cannot be read")
    raise failure  # outside the handler: the library's error holds the request's headers


async def _connected(
    web_socket: aiohttp.ClientWebSocketResponse,
) -> Mapping[str, Any] | ClosedOnOpenError:
    """The first frame, which is ``connected``, or what came instead."""
    code, reason = None, ""
    while True:
        message = await web_socket.receive()
        if message.type is not aiohttp.WSMsgType.TEXT:
            return ClosedOnOpenError(web_socket.close_code, code, reason)
        frame = _decode(message.data) or {}
        if frame.get("type") == "connected":
            return frame
        if frame.get("type") == "error":
            code, reason = frame.get("errorCode"), frame.get("message", "")


def _decode(text: str) -> Mapping[str, Any] | None:
    """A JSON object, or None."""
    try:
        frame = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return frame if isinstance(frame, dict) else None
