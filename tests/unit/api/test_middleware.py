"""What surrounds a request: ids, metrics, the log line, and errors as answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import aiohttp
import pytest
import structlog
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from structlog.testing import capture_logs

from session_service.api.middleware import (
    add_common_headers,
    error_middleware,
    metrics_middleware,
    request_context_middleware,
)
from session_service.errors import FencedError, SessionNotFoundError
from session_service.telemetry.metrics import Metrics
from session_service.wire.proxies import trusted_networks

Connect = Callable[[web.Application], Awaitable[TestClient[web.Request, web.Application]]]


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


async def raise_what_is_asked(request: web.Request) -> web.Response:
    match request.match_info["what"]:
        case "session":
            raise SessionNotFoundError
        case "fenced":
            raise FencedError(7)
        case "bug":
            raise RuntimeError("the password is hunter2")
        case "connection":
            raise ConnectionRefusedError("a dependency's, not the client's")
    return web.Response(text="fine")


async def stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"event")
    return response


@pytest.fixture
async def client(metrics: Metrics, aiohttp_client: Connect) -> TestClient[web.Request, web.Application]:
    app = web.Application(
        middlewares=[
            request_context_middleware,
            metrics_middleware(metrics, trusted_networks(["127.0.0.0/8"])),
            error_middleware,
        ]
    )
    app.on_response_prepare.append(add_common_headers)
    app.router.add_get("/things/{what}", raise_what_is_asked)
    app.router.add_get("/stream", stream)
    app.router.add_get("/health", raise_what_is_asked_nothing)
    return await aiohttp_client(app)


async def raise_what_is_asked_nothing(request: web.Request) -> web.Response:
    return web.Response(text="fine")


def lines(logs: list[MutableMapping[str, Any]], event: str) -> list[MutableMapping[str, Any]]:
    return [line for line in logs if line["event"] == event]


@pytest.mark.parametrize("offered", ["abc-123", "!~", "x" * 128])
async def test_a_sane_request_id_is_kept(client: TestClient[web.Request, web.Application], offered: str) -> None:
    response = await client.get("/things/fine", headers={"X-Request-ID": offered})
    assert response.headers["X-Request-ID"] == offered


@pytest.mark.parametrize("offered", ["", "with space", "x" * 129, "ümlaut", "tab\tbed"])
async def test_an_odd_request_id_is_replaced(client: TestClient[web.Request, web.Application], offered: str) -> None:
    response = await client.get("/things/fine", headers={"X-Request-ID": offered})
    made = response.headers["X-Request-ID"]
    assert made != offered
    assert len(made) == 32


async def test_every_kind_of_answer_has_the_common_headers(client: TestClient[web.Request, web.Application]) -> None:
    for path in ("/things/fine", "/things/bug", "/things/session", "/nowhere", "/stream"):
        response = await client.get(path)
        await response.read()
        assert response.headers["X-Content-Type-Options"] == "nosniff", path
        assert response.headers["Cache-Control"] == "no-store", path
        assert response.headers["X-Request-ID"], path


async def test_a_bug_is_logged_with_its_request_and_answered_without_details(
    client: TestClient[web.Request, web.Application],
) -> None:
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logs:
        response = await client.get("/things/bug", headers={"X-Request-ID": "find-me"})
    assert response.status == 500
    assert await response.json() == {
        "success": False,
        "code": "INTERNAL_ERROR",
        "error": "Internal error",
        "errorMessage": "Internal error",
    }
    [line] = lines(logs, "request_failed")
    assert line["request_id"] == "find-me"
    assert line["exc_info"]
    assert line["route"] == "/things/{what}"


@pytest.mark.parametrize(
    ("what", "status", "code"),
    [("session", 404, "SESSION_NOT_FOUND"), ("fenced", 500, "INTERNAL_ERROR"), ("connection", 500, "INTERNAL_ERROR")],
)
async def test_errors_become_answers(
    client: TestClient[web.Request, web.Application], what: str, status: int, code: str
) -> None:
    with capture_logs() as logs:
        response = await client.get(f"/things/{what}")
    assert response.status == status
    assert (await response.json())["code"] == code
    assert len(lines(logs, "request_failed")) == (1 if status == 500 else 0)


async def test_unknown_routes_and_methods_have_the_same_shape(
    client: TestClient[web.Request, web.Application],
) -> None:
    missing, wrong = await client.get("/nowhere"), await client.put("/things/x")
    assert (missing.status, (await missing.json())["code"]) == (404, "NOT_FOUND")
    assert (wrong.status, (await wrong.json())["code"]) == (405, "METHOD_NOT_ALLOWED")
    assert wrong.headers["Allow"] == "GET,HEAD"


async def test_requests_are_counted_by_template_never_by_path(
    client: TestClient[web.Request, web.Application], metrics: Metrics
) -> None:
    for path in ("/things/one", "/things/two", "/things/session", "/nowhere/at/all"):
        await client.get(path)
    text = metrics.render()[0].decode()
    assert 'session_rest_requests_total{method="GET",route="/things/{what}",status="200"} 2.0' in text
    assert 'session_rest_requests_total{method="GET",route="/things/{what}",status="404"} 1.0' in text
    assert 'session_rest_requests_total{method="GET",route="unmatched",status="404"} 1.0' in text
    assert "nowhere" not in text


async def test_a_stream_is_counted_and_not_timed(
    client: TestClient[web.Request, web.Application], metrics: Metrics
) -> None:
    await (await client.get("/stream")).read()
    text = metrics.render()[0].decode()
    assert 'session_rest_requests_total{method="GET",route="/stream",status="200"} 1.0' in text
    assert "session_rest_request_duration_seconds_count 0.0" in text


async def test_one_log_line_without_query_or_token(client: TestClient[web.Request, web.Application]) -> None:
    headers = {"Authorization": "Bearer canary-token", "X-Forwarded-For": "198.51.100.7"}
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logs:
        await client.get("/things/one?token=canary-query", headers=headers)
    [line] = lines(logs, "http_request")
    assert (line["method"], line["route"], line["status"]) == ("GET", "/things/{what}", 200)
    assert line["client"] == "198.51.100.7"
    assert "canary" not in repr(logs)


async def test_probes_do_not_fill_the_log(client: TestClient[web.Request, web.Application]) -> None:
    with capture_logs() as logs:
        await client.get("/health")
    [line] = lines(logs, "http_request")
    assert line["log_level"] == "debug"


async def test_nothing_bound_by_one_request_reaches_the_next(metrics: Metrics) -> None:
    async def bind(request: web.Request) -> web.Response:
        seen = structlog.contextvars.get_contextvars().get("user_id")
        structlog.contextvars.bind_contextvars(user_id="somebody")
        return web.Response(text=str(seen))

    app = web.Application(middlewares=[request_context_middleware])
    app.router.add_get("/", bind)
    connector = aiohttp.TCPConnector(limit=1)  # one connection for both requests
    async with TestServer(app) as server, aiohttp.ClientSession(connector=connector) as session:
        for _ in range(2):
            async with session.get(server.make_url("/")) as response:
                assert await response.text() == "None"


async def test_a_client_that_goes_away_is_counted_as_499(metrics: Metrics) -> None:
    entered = asyncio.Event()

    async def wait(request: web.Request) -> web.Response:
        entered.set()
        await asyncio.Event().wait()
        raise AssertionError

    app = web.Application(middlewares=[metrics_middleware(metrics, ()), error_middleware])
    app.router.add_get("/", wait)
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        call = asyncio.create_task(session.get(server.make_url("/")))
        await entered.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        async with asyncio.timeout(20):
            while 'status="499"} 1.0' not in metrics.render()[0].decode():
                await asyncio.sleep(0.01)
