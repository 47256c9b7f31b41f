"""Which pages may open a WebSocket: 20 wrong origins get 403 before the upgrade, the right ones a connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.integration.websocket.test_authentication import refused
from tests.support.service import bearer
from tests.support.websocket_client import connect


async def test_wrong_origins_are_refused_before_the_upgrade(make_service: Callable[..., Any]) -> None:
    service = await make_service(CORS_ALLOWED_ORIGINS="https://app.example.com")
    own = service.url
    wrong = [
        "null",
        "https://evil.example",
        "http://app.example.com",
        "https://app.example.com:8443",
        "https://app.example.com.evil.example",
        "https://evil-app.example.com",
        "https://sub.app.example.com",
        "https://app.example.com/",
        "https://app.example.com/path",
        "https://user@app.example.com",
        "https://app.example.com https://evil.example",
        "https://app.example.com,https://evil.example",
        "app.example.com",
        "//app.example.com",
        "file://",
        "data:text/html,x",
        "*",
        own.replace("http://", "https://"),
        "http://127.0.0.1",
        own + ".evil.example",
        "http://localhost:" + own.rsplit(":", 1)[1],
        "https://app.example.com:",
        "https://app.example.com:99999",
    ]
    accepted = []
    for origin in wrong:
        status, body = await refused(service, {**bearer(), "Origin": origin}, deviceId="d")
        if (status, body["code"]) != (403, "ORIGIN_NOT_ALLOWED"):
            accepted.append((origin, status))
    assert accepted == []
    for origin in (own, own.upper(), "https://app.example.com", "https://app.example.com:443"):
        async with connect(service, headers={**bearer(), "Origin": origin}):
            pass


async def test_a_wrong_origin_is_403_also_for_session_v1_and_without_a_token(
    make_service: Callable[..., Any],
) -> None:
    service = await make_service()
    for headers in ({}, {"Sec-WebSocket-Protocol": "session.v1, bearer.x"}):
        status, _ = await refused(service, {**headers, "Origin": "https://evil.example"}, deviceId="d")
        assert status == 403


async def test_forwarded_headers_count_from_trusted_proxies_only(make_service: Callable[..., Any]) -> None:
    forwarded = {
        "Origin": "https://public.example",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "public.example",
    }
    plain = await make_service()
    assert (await refused(plain, {**bearer(), **forwarded}, deviceId="d"))[0] == 403
    behind_proxy = await make_service(TRUSTED_PROXIES="127.0.0.0/8")
    async with connect(behind_proxy, headers={**bearer(), **forwarded}):
        pass
