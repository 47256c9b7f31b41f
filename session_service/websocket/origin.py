"""The Origin check of an upgrade (RFC 6455 §10.2): CORS does not guard WebSockets, so this does.

Pure. A request without Origin does not come from a page in a browser and passes: it still needs a token.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from session_service.wire.proxies import serialized_origin

ANY_ORIGIN = "*"


def allowed_origins(configured: Iterable[str]) -> frozenset[str]:
    """CORS_ALLOWED_ORIGINS in the form that browsers send."""
    return frozenset(origin if origin == ANY_ORIGIN else _normalized(origin) or origin for origin in configured)


def may_connect(origins: list[str], own_origin: str, allowed: frozenset[str]) -> bool:
    """May a request with these Origin header values open a connection?

    ``own_origin``: the origin under which the client addressed this service. Several Origin headers, ``null`` and
    whatever is not exactly one serialized origin are refused; ``*`` in ``allowed`` admits every well-formed one.
    """
    if not origins:
        return True
    if len(origins) > 1:
        return False
    origin = _normalized(origins[0])
    if origin is None:
        return origins[0] in allowed  # `null` (sandboxed frames, files) only where it is listed by that name
    return origin == own_origin or origin in allowed or ANY_ORIGIN in allowed


def _normalized(origin: str) -> str | None:
    """``scheme://host[:port]`` without default port, lower case; None for anything that is more or less than that."""
    if not origin.isascii() or not origin.isprintable() or " " in origin:
        return None
    try:
        parts = urlsplit(origin)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None:
        return None
    if origin.lower() != f"{parts.scheme}://{parts.netloc}".lower() or (port is None and parts.netloc.endswith(":")):
        return None
    return serialized_origin(parts.scheme, parts.netloc)
