"""Probes, metrics, the document and common headers on a real pod."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import aiohttp
import pytest

from session_service.api.openapi import OPERATIONS
from session_service.local.ports import free_port
from tests.support.service import Service, bearer

TAKEOVERS = ("released", "dead", "draining", "moved")
REFUSALS = ("rate", "setups", "connections", "unauthenticated")

MakeService = Callable[..., Awaitable[Service]]


async def test_health_and_readiness(service: Service) -> None:
    async with service.http.get("/health") as response:
        body = await response.json()
        assert response.status == 200
        assert (body["status"], body["pod"]) == ("UP", "pod-under-test")
        assert abs(body["timestamp"] - time.time() * 1000) < 10_000
    async with service.http.get("/readiness") as response:
        body = await response.json()
        assert response.status == 200
        assert (body["status"], body["pod"], body["checks"]["database"]) == ("READY", "pod-under-test", "UP")
        assert isinstance(body["timestamp"], int)


async def test_metrics_use_templates(service: Service) -> None:
    async with service.http.get("/api/sessions/canary-id?token=canary", headers=bearer()) as response:
        assert response.status == 404
    async with service.http.get("/metrics") as response:
        assert response.content_type == "text/plain"
        text = await response.text()
    expected = 'session_rest_requests_total{method="GET",route="/api/sessions/{session_id}",status="404"} 1.0'
    assert expected in text
    assert "canary" not in text


async def test_counters_with_known_labels_begin_at_0(service: Service) -> None:
    """What appears with its first event already at 1 has no increase, and no alert sees it."""
    async with service.http.get("/metrics") as response:
        lines = (await response.text()).splitlines()
    assert {f'session_takeovers_total{{cause="{cause}"}} 0.0' for cause in TAKEOVERS} <= set(lines)
    assert {f'session_admission_refused_total{{reason="{reason}"}} 0.0' for reason in REFUSALS} <= set(lines)
    assert 'session_orphans_removed_total{kind="workload"} 0.0' in lines


async def test_metrics_on_a_port_of_their_own(make_service: MakeService) -> None:
    port = free_port()
    service = await make_service(METRICS_PORT=str(port))
    async with service.http.get("/metrics") as response:
        assert response.status == 404
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/metrics") as response,
    ):
        assert response.status == 200
        assert "session_rest_requests_total" in await response.text()


async def test_every_route_is_documented_and_every_documented_route_is_there(service: Service) -> None:
    served = {
        (route.method, route.resource.canonical)
        for route in service.server._app.router.routes()
        if route.resource is not None and route.method not in {"HEAD", "OPTIONS"}
    }
    assert served == {(operation.method, operation.path) for operation in OPERATIONS}


@pytest.mark.parametrize("path", ["/health", "/readiness", "/metrics", "/openapi.json", "/asyncapi.json", "/docs"])
async def test_operations_need_no_token_and_answer_head(service: Service, path: str) -> None:
    async with service.http.get(path) as response:
        assert response.status == 200
        length = len(await response.read())
    async with service.http.head(path) as response:
        assert response.status == 200
        assert await response.read() == b""
    assert length > 0


async def test_common_headers(service: Service) -> None:
    headers = {**bearer(), "X-Request-ID": "my-request"}
    async with service.http.get("/api/sessions", headers=headers) as response:
        assert response.headers["X-Request-ID"] == "my-request"
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Content-Type"] == "application/json"


async def test_origins(make_service: MakeService) -> None:
    service = await make_service(CORS_ALLOWED_ORIGINS="https://app.example.com")
    asked = {"Origin": "https://app.example.com", "Access-Control-Request-Method": "POST"}
    async with service.http.options("/api/sessions", headers=asked) as response:
        assert response.status == 200
        assert response.headers["Access-Control-Allow-Origin"] == "https://app.example.com"
    async with service.http.options("/api/sessions", headers={**asked, "Origin": "https://evil.example"}) as response:
        assert response.status == 403
    async with service.http.get("/api/sessions", headers={"Origin": "https://app.example.com"}) as response:
        assert response.status == 401
        assert response.headers["Access-Control-Allow-Origin"] == "https://app.example.com"
        assert "Retry-After" in response.headers["Access-Control-Expose-Headers"]
