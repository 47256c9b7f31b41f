"""A WebSocket client for tests, and a raw one for what no library would send."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Protocol

import aiohttp
import msgspec

from tests.support.service import Service, bearer

RECEIVE_LIMIT_S = 30.0


class HasHttp(Protocol):
    """A pod, in this process or in one of its own."""

    @property
    def http(self) -> aiohttp.ClientSession: ...


class ClosedError(Exception):
    """The server closed the connection with ``code`` while a message was waited for."""

    def __init__(self, code: int | None) -> None:
        super().__init__(f"closed with {code}")
        self.code = code


class Client:
    """One socket. ``frames``: every JSON message received so far, in order."""

    def __init__(self, web_socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = web_socket
        self.frames: list[dict[str, Any]] = []
        self._numbers = iter(range(1, 1_000_000))

    async def send(self, message: Mapping[str, Any]) -> None:
        await self.socket.send_str(msgspec.json.encode(message).decode())

    async def receive(self) -> dict[str, Any]:
        """The next message. Raises ClosedError."""
        async with asyncio.timeout(RECEIVE_LIMIT_S):
            message = await self.socket.receive()
        if message.type is not aiohttp.WSMsgType.TEXT:
            raise ClosedError(self.socket.close_code)
        frame: dict[str, Any] = msgspec.json.decode(message.data)
        self.frames.append(frame)
        return frame

    async def receive_type(self, *types: str) -> dict[str, Any]:
        """The next message of one of these types; others are passed over."""
        async with asyncio.timeout(RECEIVE_LIMIT_S):
            while True:
                frame = await self.receive()
                if frame["type"] in types:
                    return frame

    async def ask(self, message_type: str, **fields: Any) -> dict[str, Any]:
        """Send a command and return what answers its requestId."""
        request_id = fields.pop("requestId", f"r{next(self._numbers)}")
        await self.send({"type": message_type, "requestId": request_id, **fields})
        async with asyncio.timeout(RECEIVE_LIMIT_S):
            while True:
                frame = await self.receive()
                if frame.get("requestId") == request_id:
                    return frame

    def lose(self) -> None:
        """Break the connection as a network does: no close frame."""
        transport = self.socket.get_extra_info("socket")
        transport.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.shutdown(socket.SHUT_RDWR)

    async def close_code(self) -> int | None:
        """Read until the server closes; its code."""
        async with asyncio.timeout(RECEIVE_LIMIT_S):
            while True:
                try:
                    await self.receive()
                except ClosedError as closed:
                    return closed.code


@asynccontextmanager
async def connect(
    service: HasHttp,
    user_id: str = "user-1",
    *,
    headers: Mapping[str, str] | None = None,
    protocols: tuple[str, ...] = (),
    connected: bool = True,
    **query: str | int,
) -> AsyncIterator[Client]:
    """Open a socket with a Bearer header (or exactly ``headers``) and, unless told otherwise, read ``connected``."""
    query = {"deviceId": "device-1", **query}
    async with service.http.ws_connect(
        "/ws",
        params={name: str(value) for name, value in query.items()},
        headers=bearer(user_id) if headers is None else headers,
        protocols=protocols,
        max_msg_size=0,
    ) as web_socket:
        client = Client(web_socket)
        if connected:
            frame = await client.receive()
            assert frame["type"] == "connected", frame
        yield client


def subprotocol_token(token: str) -> str:
    return "bearer." + base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")


class RawSocket:
    """An upgraded connection over which any bytes can be sent."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def frame(self, opcode: int, payload: bytes = b"", *, final: bool = True, mask: bytes | None = None) -> bytes:
        """A client frame; masked by a random key unless ``mask`` is ``b""``."""
        key = os.urandom(4) if mask is None else mask
        length, bit = len(payload), 0x80 if key else 0
        header = bytes(((0x80 if final else 0) | opcode,))
        if length < 126:
            header += bytes((bit | length,))
        elif length < 65536:
            header += bytes((bit | 126,)) + length.to_bytes(2, "big")
        else:
            header += bytes((bit | 127,)) + length.to_bytes(8, "big")
        if key:
            repeated = (key * (length // 4 + 1))[:length]
            payload = (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(length, "big")
        return header + key + payload

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def read_frame(self) -> tuple[int, bytes]:
        """Opcode and payload of the server's next frame. Raises IncompleteReadError at the end."""
        async with asyncio.timeout(RECEIVE_LIMIT_S):
            first, length = await self.reader.readexactly(2)
            assert not length & 0x80, "server frames are not masked"
            if length == 126:
                length = int.from_bytes(await self.reader.readexactly(2), "big")
            elif length == 127:
                length = int.from_bytes(await self.reader.readexactly(8), "big")
            return first & 0x0F, await self.reader.readexactly(length)

    async def close_code(self) -> int | None:
        """Read until the server's close frame; None where the connection ends without one."""
        try:
            while True:
                opcode, payload = await self.read_frame()
                if opcode == 0x8:
                    return int.from_bytes(payload[:2], "big")
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    def stop_reading(self) -> None:
        """From now on the kernel's buffers fill up."""
        transport = self.writer.transport
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()

    async def at_end(self) -> bool:
        """Has the server closed its side, within the limit?"""
        async with asyncio.timeout(RECEIVE_LIMIT_S):
            try:
                while await self.reader.read(65536):
                    pass
            except ConnectionError:
                pass
            return True


@asynccontextmanager
async def raw_connect(
    service: Service, path: str = "/ws?deviceId=device-1", *, headers: Mapping[str, str] | None = None
) -> AsyncIterator[RawSocket]:
    """Upgrade by hand; with a Bearer header unless ``headers`` says otherwise. The answer must be 101."""
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    key = base64.b64encode(os.urandom(16)).decode()
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: 127.0.0.1:{service.port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
        *(f"{name}: {value}" for name, value in (bearer() if headers is None else headers).items()),
    ]
    try:
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101"), head
        yield RawSocket(reader, writer)
    finally:
        writer.close()
