"""Reading the body of an answer that is not trusted to be small."""

from __future__ import annotations

import aiohttp


class ResponseTooLargeError(Exception):
    """The body is longer than its limit; nothing of it is kept."""


async def read_bounded(response: aiohttp.ClientResponse, limit_bytes: int) -> bytes:
    """The whole body, as sent (the session must not decompress, or a small answer could become a large one).

    Raises ResponseTooLargeError beyond ``limit_bytes``, having read hardly more than that. Its time is bounded by the
    request's own timeout.
    """
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > limit_bytes:
            raise ResponseTooLargeError
    return bytes(body)
