"""AUTH_MODE=service while the auth service hangs, fails or talks garbage: nobody unverified gets in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from session_service.local.ports import free_port
from tests.support.measured import Measured
from tests.support.pod_process import PodProcess, pod_process
from tests.support.servers import Database, TestServers
from tests.support.service import token
from tests.support.stalls import Stalls

LONGEST_REQUEST_S = 3.0 + 0.5  # and what a busy machine adds
MISBEHAVIOURS = [
    "hangs",
    "500",
    "garbage",
    "empty",
    "not-an-object",
    "no-user",
    "empty-user",
    "says-no-in-words",
    "redirects",
    "huge",
    "resets",
]


class MisbehavingAuthService:
    """POST /api/auth/validate, in whatever ``mood`` the test has put it."""

    def __init__(self) -> None:
        self.mood = "well"
        self.calls = 0

    async def validate(self, request: web.Request) -> web.StreamResponse:
        self.calls += 1
        bearer = request.headers.get("Authorization", "")
        match self.mood:
            case "well":
                valid = bearer.count(".") == 2
                return web.json_response({"valid": valid, "userId": "alice"} if valid else {"valid": False})
            case "hangs":
                await asyncio.sleep(60)
            case "500":
                raise web.HTTPInternalServerError
            case "garbage":
                return web.Response(body=b"\xff\xfe{{{", content_type="application/json")
            case "empty":
                return web.Response()
            case "not-an-object":
                return web.json_response([True, "alice"])
            case "no-user":
                return web.json_response({"valid": True})
            case "empty-user":
                return web.json_response({"valid": True, "userId": ""})
            case "says-no-in-words":
                return web.json_response({"valid": "false", "userId": "alice"})
            case "redirects":
                raise web.HTTPFound("/elsewhere")
            case "huge":
                return web.Response(body=b'{"valid": true, "userId": "' + b"a" * 10_000_000 + b'"}')
            case "resets":
                assert request.transport is not None
                request.transport.abort()
        return web.Response()

    async def elsewhere(self, _request: web.Request) -> web.Response:
        return web.json_response({"valid": True, "userId": "alice"})


@pytest.fixture
async def auth_service() -> AsyncIterator[tuple[MisbehavingAuthService, int]]:
    service, port = MisbehavingAuthService(), free_port()
    application = web.Application()
    application.router.add_post("/api/auth/validate", service.validate)
    application.router.add_route("*", "/elsewhere", service.elsewhere)
    runner = web.AppRunner(application, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    yield service, port
    await runner.cleanup()


@pytest.fixture
async def pod(
    servers: TestServers, database: Database, tmp_path: Path, auth_service: tuple[MisbehavingAuthService, int]
) -> AsyncIterator[PodProcess]:
    environ = {
        **database.environ(),
        **servers.redis_environ(),
        "AUTH_MODE": "service",
        "AUTH_SERVICE_URL": f"http://127.0.0.1:{auth_service[1]}",
    }
    async with pod_process(tmp_path, environ) as started:
        await started.is_ready()
        yield started


async def sessions_of(pod: PodProcess, bearer: str) -> tuple[int, str | None]:
    async with pod.http.get("/api/sessions", headers={"Authorization": f"Bearer {bearer}"}) as response:
        return response.status, response.headers.get("Retry-After")


async def test_whatever_it_does_nobody_unverified_gets_in(
    pod: PodProcess, auth_service: tuple[MisbehavingAuthService, int], measured: Measured, stalls: Stalls
) -> None:
    service, _port = auth_service
    known = token("alice", ttl_s=500)
    assert (await sessions_of(pod, known))[0] == 200
    longest_s, answers, accepted = 0.0, 0, 0
    for number, mood in enumerate(MISBEHAVIOURS):
        service.mood = mood
        for turn in range(3):
            unknown = token("mallory", ttl_s=600 + 10 * number + turn)
            started = time.monotonic()
            status, retry_after = await sessions_of(pod, unknown)
            longest_s = max(longest_s, stalls.took_s(started))
            answers += 1
            accepted += status == 200
            assert status in {401, 503}, (mood, status)
            if status == 503:
                assert int(retry_after or 0) >= 1, mood
        # A verdict that was given less than a minute ago still holds.
        assert (await sessions_of(pod, known))[0] == 200, mood
    assert await pod.status("/readiness") == 200
    measured.row(
        "auth service misbehaves",
        ways=len(MISBEHAVIOURS),
        unverified=answers,
        accepted=accepted,
        longest_request_s=round(longest_s, 2),
    )
    assert accepted == 0
    assert longest_s <= LONGEST_REQUEST_S


async def test_a_hanging_service_is_503_within_the_limit_and_then_at_once(
    pod: PodProcess, auth_service: tuple[MisbehavingAuthService, int], stalls: Stalls
) -> None:
    service, _port = auth_service
    service.mood = "hangs"
    started = time.monotonic()
    first = await asyncio.gather(*(sessions_of(pod, token("eve", ttl_s=1000 + number)) for number in range(10)))
    assert {status for status, _retry in first} == {503}
    assert stalls.took_s(started) <= LONGEST_REQUEST_S
    calls = service.calls
    started = time.monotonic()
    assert (await sessions_of(pod, token("eve", ttl_s=2000)))[0] == 503
    assert stalls.took_s(started) <= 1.0, "the breaker is open"  # a call would take 2 s
    assert service.calls <= calls + 1


async def test_a_socket_is_refused_the_same_way(
    pod: PodProcess, auth_service: tuple[MisbehavingAuthService, int]
) -> None:
    auth_service[0].mood = "500"
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await pod.http.ws_connect("/ws?deviceId=d", headers={"Authorization": f"Bearer {token('eve')}"})
    assert refused.value.status == 503
