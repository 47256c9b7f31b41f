"""``GET /``, its assets, and ``GET /page.json``: the trading page (BROWSER_PAGE), everything it shows from here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib.resources.abc import Traversable

from aiohttp import web

from session_service import __version__
from session_service.api.page_files import PageFile, read_page
from session_service.api.responses import json_response
from session_service.config import LocalRunSettings
from session_service.wire.content_coding import IDENTITY, choose_coding
from session_service.wire.page import LocalControl, PageConfiguration, loopback_origins
from session_service.wire.proxies import serialized_origin

FOREVER = "public, max-age=31536000, immutable"  # RFC 8246: a changed asset has another name
REVALIDATE = "no-cache"

_OWN_ORIGIN_ONLY = {"Cross-Origin-Resource-Policy": "same-origin"}
_PAGE_HEADERS = {
    **_OWN_ORIGIN_ONLY,
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
}
_NOT_BUILT = b"""<!doctype html>
<html lang="en">
<title>session-service</title>
<h1>The page is not built</h1>
<p>This pod serves everything but its page. Run <code>make browser</code> where the source is, with Node.js 20.19 or
newer or with a package index to get it from, and start the pod again. <a href="/docs">The API</a> is there already.
</html>
"""


def page_routes(directory: Traversable, local_run: LocalRunSettings) -> Sequence[web.RouteDef]:
    """The routes of the page that was built in ``directory``; where there is none, ``GET /`` says how to build it."""
    page = read_page(directory)
    headers = {**_PAGE_HEADERS, "Content-Security-Policy": content_security_policy(_other_addresses(local_run))}
    configuration = web.get("/page.json", _configuration(local_run))
    if page is None:
        return [web.get("/", _not_built(headers)), configuration]
    return [
        web.get("/", _serve({"": page.index}, {**headers, "Cache-Control": REVALIDATE})),
        web.get("/assets/{name}", _serve(page.assets, {**_OWN_ORIGIN_ONLY, "Cache-Control": FOREVER})),
        configuration,
    ]


def content_security_policy(connect_to: Sequence[str]) -> str:
    """What the page may load and call (CSP Level 3): this origin, and ``connect_to`` (in the local run)."""
    return "; ".join(
        [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' data:",
            "font-src 'self'",
            " ".join(["connect-src", "'self'", *connect_to]),
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        ]
    )


def _other_addresses(local_run: LocalRunSettings) -> list[str]:
    """The pods, for calls and for WebSockets, and the local control."""
    control = [local_run.control_url] if local_run.control_url else []
    sockets = [url.replace("http:", "ws:", 1) for url in local_run.pod_urls]
    return [*local_run.pod_urls, *sockets, *control]


def _serve(
    files: Mapping[str, PageFile], headers: Mapping[str, str]
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        file = files.get(request.match_info.get("name", ""))
        if file is None:
            raise web.HTTPNotFound
        available = [coding for coding in file.representations if coding != IDENTITY]
        coding = choose_coding(request.headers.get("Accept-Encoding"), available)
        chosen = file.representations[coding]
        answer = {**headers, "ETag": chosen.etag}
        if available:
            answer["Vary"] = "Accept-Encoding"
        known = request.if_none_match or ()
        if any(tag.value in {"*", chosen.etag.strip('"')} for tag in known):  # weak comparison (RFC 9110 §13.1.2)
            return web.Response(status=304, headers=answer)
        answer["Content-Type"] = file.content_type
        if coding != IDENTITY:
            answer["Content-Encoding"] = coding
        return web.Response(body=chosen.body, headers=answer)

    return handle


def _not_built(headers: Mapping[str, str]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        return web.Response(
            status=503, body=_NOT_BUILT, content_type="text/html", charset="utf-8", headers={**headers}
        )

    return handle


def _configuration(local_run: LocalRunSettings) -> Callable[[web.Request], Awaitable[web.Response]]:
    """The key of the local control goes only to who asked for this very machine by its address.

    A page whose name was made to point here (DNS rebinding) shares its origin with these answers. And one that came
    over a forwarded port cannot reach the other pods, which take no page of its origin either: it has its own alone.
    """
    pods = local_run.pod_urls
    own_origins = frozenset(loopback_origins(pods))
    control = None
    if local_run.control_url and local_run.control_key:
        control = LocalControl(control_url=local_run.control_url, control_key=local_run.control_key)
    with_control = PageConfiguration(local=control, pods=pods, version=__version__)
    without = PageConfiguration(local=None, pods=(), version=__version__)

    async def handle(request: web.Request) -> web.Response:
        asked = serialized_origin("http", request.headers.get("Host", ""))
        answer = json_response(with_control if asked in own_origins else without)
        answer.headers.update(_OWN_ORIGIN_ONLY)
        return answer

    return handle
