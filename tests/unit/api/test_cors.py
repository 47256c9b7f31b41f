"""Cross-origin calls: none by default, the named origins otherwise."""

from __future__ import annotations

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from session_service.api.cors import setup_cors
from session_service.api.middleware import error_middleware
from session_service.errors import DatabaseUnavailableError

ORIGIN = "https://app.example.com"


async def unavailable(request: web.Request) -> web.Response:
    raise DatabaseUnavailableError


def client_of(*origins: str) -> TestClient[web.Request, web.Application]:
    app = web.Application(middlewares=[error_middleware])
    routes = app.router.add_routes([web.get("/api/{id}", unavailable), web.delete("/api/{id}", unavailable)])
    setup_cors(app, routes, origins)
    return TestClient(TestServer(app))


def preflight(origin: str) -> dict[str, str]:
    return {
        "Origin": origin,
        "Access-Control-Request-Method": "DELETE",
        "Access-Control-Request-Headers": "authorization, content-type",
    }


async def test_same_origin_only_by_default() -> None:
    async with client_of() as client:
        response = await client.options("/api/x", headers=preflight(ORIGIN))
        assert response.status == 405
        assert "Access-Control-Allow-Origin" not in response.headers


@pytest.mark.parametrize("allowed", [ORIGIN, "*"])
async def test_a_named_origin_may_call(allowed: str) -> None:
    async with client_of(allowed) as client:
        asked = await client.options("/api/x", headers=preflight(ORIGIN))
        assert asked.status == 200
        assert asked.headers["Access-Control-Allow-Origin"] == ORIGIN
        assert asked.headers["Access-Control-Allow-Methods"] == "DELETE"
        allowed_headers = asked.headers["Access-Control-Allow-Headers"].lower().split(",")
        assert sorted(allowed_headers) == ["authorization", "content-type"]
        called = await client.delete("/api/x", headers={"Origin": ORIGIN})
        assert called.status == 503
        assert called.headers["Access-Control-Allow-Origin"] == ORIGIN
        exposed = called.headers["Access-Control-Expose-Headers"].split(",")
        assert sorted(exposed) == ["Retry-After", "X-Request-ID"]
        assert called.headers["Vary"] == "Origin"
        assert "Access-Control-Allow-Credentials" not in called.headers


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://app.example.com", f"{ORIGIN}.evil.example"]
)
async def test_another_origin_may_not(origin: str) -> None:
    async with client_of(ORIGIN) as client:
        asked = await client.options("/api/x", headers=preflight(origin))
        assert asked.status == 403
        assert (await asked.json())["code"] == "ORIGIN_NOT_ALLOWED"
        called = await client.get("/api/x", headers={"Origin": origin})
        assert "Access-Control-Allow-Origin" not in called.headers
