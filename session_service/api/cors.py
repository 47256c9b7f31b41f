"""Cross-origin rules of the REST API (CORS_ALLOWED_ORIGINS). The WebSocket upgrade checks its Origin by itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import aiohttp_cors
from aiohttp import web
from aiohttp.web_urldispatcher import AbstractRoute

_REQUEST_HEADERS = ("Authorization", "Content-Type", "Last-Event-ID", "X-Request-ID", "traceparent", "tracestate")
_EXPOSED_HEADERS = ("Retry-After", "X-Request-ID")
_PREFLIGHT_LIFETIME_S = 600


def setup_cors(app: web.Application, routes: Iterable[AbstractRoute], allowed_origins: Sequence[str]) -> None:
    """Let pages of ``allowed_origins`` (or of any, for ``*``) call ``routes``; without any, the same origin only.

    No credentials: callers are known by their Bearer token, never by a cookie.
    """
    if not allowed_origins:
        return
    options = aiohttp_cors.ResourceOptions(  # type: ignore[no-untyped-call] # the library is untyped
        allow_credentials=False,
        expose_headers=_EXPOSED_HEADERS,
        allow_headers=_REQUEST_HEADERS,
        max_age=_PREFLIGHT_LIFETIME_S,
    )
    cors = aiohttp_cors.setup(app, defaults=dict.fromkeys(allowed_origins, options))
    for route in routes:
        cors.add(route)
    app.on_response_prepare.append(_vary_by_origin)


async def _vary_by_origin(request: web.Request, response: web.StreamResponse) -> None:
    """A cache must not give one origin's answer to another (Fetch §3.3.7); aiohttp-cors leaves this out."""
    response.headers.add("Vary", "Origin")
