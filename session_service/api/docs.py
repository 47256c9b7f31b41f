"""``GET /openapi.json`` and ``GET /asyncapi.json``, and ``GET /docs``: a page of our own that shows the former."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from importlib.resources import files

import msgspec
from aiohttp import web

from session_service.api import asyncapi, openapi

_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGE_FILES = {
    "/docs": ("docs.html", "text/html"),
    "/docs/docs.js": ("docs.js", "text/javascript"),
    "/docs/docs.css": ("docs.css", "text/css"),
}


def docs_routes() -> Sequence[web.RouteDef]:
    """The routes, with every body read and encoded once."""
    assets = files("session_service.api") / "assets"
    return [
        web.get("/openapi.json", _serve(msgspec.json.encode(openapi.build_document()), "application/json")),
        web.get("/asyncapi.json", _serve(msgspec.json.encode(asyncapi.build_document()), "application/json")),
        *(
            web.get(path, _serve((assets / name).read_bytes(), content_type))
            for path, (name, content_type) in _PAGE_FILES.items()
        ),
    ]


def _serve(body: bytes, content_type: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    headers = {"Cache-Control": "no-cache", "Content-Security-Policy": _PAGE_POLICY, "Referrer-Policy": "no-referrer"}
    charset = None if content_type == "application/json" else "utf-8"

    async def handle(request: web.Request) -> web.Response:
        return web.Response(body=body, content_type=content_type, charset=charset, headers=headers)

    return handle
