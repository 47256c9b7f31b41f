"""``GET /page.json``: what the browser page is told at run time (docs/local-run.md#the-page)."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from session_service.wire.proxies import serialized_origin


class LocalControl(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """Where the local run's control is, and the key that each of its requests must show."""

    control_url: str
    control_key: str


class PageConfiguration(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """``pods``: their URLs in port order. Empty, and ``local`` None, where the page has its own origin only."""

    local: LocalControl | None
    pods: tuple[str, ...]
    version: str


class CutConnections(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a page that cuts its own connection: how many sockets of this client id were here."""

    success: bool = True
    cut: int


def loopback_origins(pod_urls: Iterable[str]) -> list[str]:
    """The origins under which a browser on this machine opens pods at ``http://127.0.0.1:PORT``, by either name."""
    return [
        serialized_origin("http", url.removeprefix("http://").replace("127.0.0.1", name, 1))
        for url in pod_urls
        for name in ("127.0.0.1", "localhost")
    ]
