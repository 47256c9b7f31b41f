"""The cheapest client that still reads every frame: a WebSocket by hand on one transport (RFC 6455 §5)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import cast

import msgspec

CLOSE_NORMAL = 1000
NO_CLOSE_FRAME = 1006
_TEXT, _CLOSE = 0x1, 0x8


class Frame(msgspec.Struct, rename="camel"):
    """What a benchmark needs of any server frame; other fields are skipped."""

    type: str
    epoch: int | None = None
    from_sequence: int = 0
    sequence: int | None = None
    snapshot: bool = False
    resumed: bool = False
    reconnect_after_ms: float = 0.0


_decode = msgspec.json.Decoder(Frame).decode


def upgrade_request(query: str, bearer: str = "") -> bytes:
    """The request of ``GET /ws?query``, as a browser would send it, and a token where there is one."""
    lines = [
        f"GET /ws?{query} HTTP/1.1",
        "Host: localhost",
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0 Safari/537.36",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
    ]
    if bearer:
        lines.append(f"Authorization: Bearer {bearer}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


class SessionSocket(asyncio.Protocol):
    """``on_frame`` is called with each frame. ``ended`` resolves with the close code; with 1006 where there was none.

    A refused upgrade ends it too: ``refused`` is its status and ``retry_after_s`` what the answer said.
    """

    def __init__(self, request: bytes, on_frame: Callable[[Frame], None]) -> None:
        self.refused: int | None = None
        self.retry_after_s = 1
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._request = request
        self._on_frame = on_frame
        self._upgraded = False
        self._received = b""
        self._close_code = NO_CLOSE_FRAME
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._received = self._received + data if self._received else data
        if not self._upgraded and not self._read_head():
            return
        self._read_frames()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(self._close_code)

    def leave(self) -> None:
        """The closing handshake with 1000; the server ends the connection."""
        payload, mask = CLOSE_NORMAL.to_bytes(2, "big"), os.urandom(4)
        masked = bytes(byte ^ key for byte, key in zip(payload, mask, strict=False))
        self._transport.write(bytes((0x80 | _CLOSE, 0x80 | len(payload))) + mask + masked)

    def lose(self) -> None:
        """End as a network does, without a close frame."""
        self._transport.abort()

    def _read_head(self) -> bool:
        head, separator, rest = self._received.partition(b"\r\n\r\n")
        if not separator:
            return False
        status = int(head[9:12])
        if status != 101:
            self.refused = status
            _, found, value = head.lower().partition(b"\r\nretry-after: ")
            if found:
                self.retry_after_s = int(value.partition(b"\r\n")[0])
            self._transport.abort()
            return False
        self._upgraded, self._received = True, rest
        return True

    def _read_frames(self) -> None:
        data, start = self._received, 0
        while len(data) - start >= 2:
            length, begin = data[start + 1], start + 2
            if length == 126:
                length, begin = int.from_bytes(data[start + 2 : start + 4], "big"), start + 4
            elif length == 127:
                length, begin = int.from_bytes(data[start + 2 : start + 10], "big"), start + 10
            if len(data) < begin + length:
                break
            opcode = data[start] & 0x0F
            payload = data[begin : begin + length]
            start = begin + length
            if opcode == _TEXT:
                self._on_frame(_decode(payload))
            elif opcode == _CLOSE:
                self._close_code = int.from_bytes(payload[:2], "big")
        self._received = data[start:]
