"""JSON answers and bodies, encoded and decoded once with msgspec."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from session_service.errors import InvalidRequestError
from session_service.wire.rest import Body, decode_body

MAX_BODY_BYTES = 64 * 1024

_encode = msgspec.json.Encoder().encode


def json_response(answer: msgspec.Struct | dict[str, Any], *, status: int = 200) -> web.Response:
    return web.Response(body=_encode(answer), status=status, content_type="application/json")


async def read_body(request: web.Request, decoder: msgspec.json.Decoder[Body]) -> Body:
    """The request's body, which must be a JSON object.

    Raises InvalidRequestError; ``web.HTTPRequestEntityTooLarge`` past the application's ``client_max_size``, also for
    a chunked body; ``web.RequestPayloadError`` for a body that cannot be read.
    """
    if "Content-Encoding" in request.headers:
        raise InvalidRequestError(None, "A compressed body is not accepted")
    return decode_body(decoder, await request.read())
