"""A WebSocket client that connects, reads ``connected``, and then reads no more."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator, Mapping

RECEIVE_BUFFER_BYTES = 4096


class StalledReader:
    def __init__(self, peer: socket.socket, session_id: str) -> None:
        self.peer = peer
        self.session_id = session_id

    @classmethod
    @contextlib.asynccontextmanager
    async def connected(
        cls, port: int, headers: Mapping[str, str], path: str = "/ws?deviceId=stalled"
    ) -> AsyncIterator[StalledReader]:
        """``path`` without a client id: the pod gives one."""
        loop = asyncio.get_running_loop()
        peer = socket.socket()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        peer.setblocking(False)
        try:
            async with asyncio.timeout(15):
                await loop.sock_connect(peer, ("127.0.0.1", port))
                lines = [
                    f"GET {path} HTTP/1.1",
                    f"Host: 127.0.0.1:{port}",
                    "Upgrade: websocket",
                    "Connection: Upgrade",
                    f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
                    "Sec-WebSocket-Version: 13",
                    *(f"{name}: {value}" for name, value in headers.items()),
                ]
                await loop.sock_sendall(peer, ("\r\n".join(lines) + "\r\n\r\n").encode())
                received = b""
                while (end := received.find(b"\r\n\r\n")) < 0 or b"}" not in received[end:]:
                    received += await loop.sock_recv(peer, 2048)
            assert received.startswith(b"HTTP/1.1 101"), received
            body = received[end + 4 :]
            text, _ = json.JSONDecoder().raw_decode(body[body.index(b"{") :].decode(errors="replace"))
            assert text["type"] == "connected", text
            yield cls(peer, text["sessionId"])
        finally:
            peer.close()

    async def is_closed(self, *, within_s: float) -> bool:
        """Read what was left, to the end of the connection, however it ends."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(within_s):
                while await loop.sock_recv(self.peer, 65536):
                    pass
        except ConnectionError:
            return True
        except TimeoutError:
            return False
        return True
