"""The server's side of the opening handshake: RFC 6455 §4.2, without extensions.

Written here because the HTTP library's own handshake logs the subprotocols that a client offers, one of which is its
token, and sets up a reader and a queue that ``wire.client_frames`` replaces.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Protocol

from aiohttp import web

from session_service.errors import InvalidRequestError

SUBPROTOCOL = "session.v1"
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_VERSION = "13"


def offered_subprotocols(request: web.Request) -> list[str]:
    return [
        offer.strip() for line in request.headers.getall("Sec-WebSocket-Protocol", ()) for offer in line.split(",")
    ]


def check_upgrade(request: web.Request) -> None:
    """Raises InvalidRequestError for a request that is no WebSocket upgrade."""
    headers = request.headers
    connection = {token.strip().lower() for line in headers.getall("Connection", ()) for token in line.split(",")}
    if headers.get("Upgrade", "").strip().lower() != "websocket" or "upgrade" not in connection:
        raise InvalidRequestError("Upgrade", "this address speaks WebSocket only")
    if headers.get("Sec-WebSocket-Version") != _VERSION:
        raise InvalidRequestError("Sec-WebSocket-Version", "must be 13")
    try:
        nonce = base64.b64decode(headers.get("Sec-WebSocket-Key", ""), validate=True)
    except (binascii.Error, ValueError):
        nonce = b""
    if len(nonce) != 16:
        raise InvalidRequestError("Sec-WebSocket-Key", "must be 16 bytes in base64")


async def accept(request: web.Request) -> web.StreamResponse:
    """Answer 101 to a checked upgrade. Of the subprotocols only ``session.v1`` is echoed, never the token."""
    key = request.headers["Sec-WebSocket-Key"].encode()
    digest = hashlib.sha1(key + _GUID, usedforsecurity=False).digest()
    response = web.StreamResponse(
        status=101,
        headers={
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Accept": base64.b64encode(digest).decode(),
        },
    )
    if SUBPROTOCOL in offered_subprotocols(request):
        response.headers["Sec-WebSocket-Protocol"] = SUBPROTOCOL
    response.force_close()
    await response.prepare(request)
    request.protocol.keep_alive(False)  # no idle timer of HTTP for a connection that is HTTP no more
    return response


class ByteReceiver(Protocol):
    """Who takes the bytes of a connection from its upgrade on."""

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Take bytes; the answer is always ``(False, b"")``: nothing is left over for another reader."""

    def feed_eof(self) -> None:
        """The connection is lost; called once, after which nothing follows."""


def take_over(request: web.Request, receiver: ByteReceiver) -> None:
    """Let an accepted connection's bytes go to ``receiver``, those first that came right behind the request."""
    request.protocol.set_parser(receiver)  # type: ignore[arg-type]  # it calls these two methods, whatever the class
