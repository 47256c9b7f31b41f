"""JSON answers and bodies, encoded and decoded once with msgspec."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from session_service.errors import InvalidRequestError, PayloadTooLargeError
from session_service.wire.rest import Body, decode_body

MAX_BODY_BYTES = 64 * 1024

_encode = msgspec.json.Encoder().encode


def json_response(answer: msgspec.Struct | dict[str, Any], *, status: int = 200) -> web.Response:
    return web.Response(body=_encode(answer), status=status, content_type="application/json")


async def read_body(
    request: web.Request, decoder: msgspec.json.Decoder[Body], *, max_bytes: int = MAX_BODY_BYTES
) -> Body:
    """The request's body, which must be a JSON object.

    Raises InvalidRequestError; PayloadTooLargeError past ``max_bytes``, also for a chunked body;
    ``web.RequestPayloadError`` for a body that cannot be read.
    """
    if "Content-Encoding" in request.headers:
        raise InvalidRequestError(None, "A compressed body is not accepted")
    if max_bytes != request.client_max_size:  # the application's
        request = request.clone(client_max_size=max_bytes)
    try:
        raw = await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise PayloadTooLargeError(None, f"The body is larger than {max_bytes // 1024} KiB") from None
    return decode_body(decoder, raw)
