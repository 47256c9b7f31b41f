"""A pod that starts before what it depends on, or beside a port that is taken."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import asyncpg

from session_service.local.ports import free_port
from tests.support.api_client import ApiClient
from tests.support.pod_process import pod_process
from tests.support.servers import Database, TestServers
from tests.support.stalls import Stalls
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import eventually


async def test_a_pod_without_any_dependency_lives_waits_and_recovers_by_itself(
    servers: TestServers, database: Database, tmp_path: Path
) -> None:
    redis = servers.redis_environ()
    async with TcpProxy(database.port) as postgres_proxy, TcpProxy(int(redis["REDIS_PORT"])) as redis_proxy:
        postgres_proxy.refuse()
        redis_proxy.refuse()
        environ = {
            **database.environ(),
            **redis,
            "DB_PORT": str(postgres_proxy.port),
            "REDIS_PORT": str(redis_proxy.port),
        }
        async with pod_process(tmp_path, environ) as pod:

            async def lives() -> bool:
                return await pod.status("/health") == 200

            await eventually(lives, within_s=40, what="/health 200")
            assert await pod.status("/readiness") == 503
            status, body = await ApiClient(pod.http).call("POST", "/api/sessions", json={"deviceId": "d"})
            assert (status, body["code"]) == (503, "SERVICE_UNAVAILABLE")
            async with pod.http.get("/ws?deviceId=d", headers=ApiClient(pod.http).headers) as response:
                assert response.status in {400, 503}
            assert await pod.status("/health") == 200
            await postgres_proxy.accept()
            await pod.is_ready(within_s=6)
            api = ApiClient(pod.http)
            simulator = await api.start_simulator(await api.open_session())
            await redis_proxy.accept()
            assert (await api.simulator(simulator))["status"] == "RUNNING"
            pod.signal(signal.SIGTERM)
            assert await pod.ended() == 0


async def test_a_pod_that_ends_while_everything_is_away_still_ends(tmp_path: Path) -> None:
    nobody = str(free_port())
    environ = {"DB_HOST": "127.0.0.1", "DB_PORT": nobody, "REDIS_HOST": "127.0.0.1", "REDIS_PORT": nobody}
    async with pod_process(tmp_path, environ) as pod:

        async def lives() -> bool:
            return await pod.status("/health") == 200

        await eventually(lives, within_s=40, what="/health 200")
        pod.signal(signal.SIGTERM)
        assert await pod.ended(within_s=40) == 0


async def test_silence_instead_of_a_refusal_is_no_different(
    servers: TestServers, database: Database, tmp_path: Path, stalls: Stalls
) -> None:
    """A black hole: connections open, and no byte comes."""
    async with TcpProxy(database.port) as proxy:
        proxy.go_silent()
        environ = {**database.environ(), **servers.redis_environ(), "DB_PORT": str(proxy.port)}
        async with pod_process(tmp_path, environ) as pod:

            async def lives() -> bool:
                return await pod.status("/health") == 200

            await eventually(lives, within_s=40, what="/health 200")
            began = time.monotonic()
            status, _body = await ApiClient(pod.http).call("POST", "/api/sessions", json={"deviceId": "d"})
            assert status == 503
            assert stalls.took_s(began) <= 3.5  # 3 s, and what a busy machine adds
            proxy.speak()
            await pod.is_ready(within_s=6)
            proxy.reset()
            status, _body = await ApiClient(pod.http).call("POST", "/api/sessions", json={"deviceId": "d"})
            assert status in {200, 201}


async def test_a_wrong_password_or_a_database_without_the_schema_is_not_ready_and_no_fault(
    servers: TestServers, database: Database, tmp_path: Path
) -> None:
    owner = await asyncpg.connect(database.owner_dsn)
    try:
        wrong = {**database.environ(), "DB_PASSWORD": "wrong"}
        empty = {**database.environ(), "DB_NAME": "postgres"}
        for name, environ in (("wrong", wrong), ("empty", empty)):
            async with pod_process(tmp_path / name, {**environ, **servers.redis_environ()}) as pod:

                async def lives() -> bool:
                    return await pod.status("/health") == 200

                await eventually(lives, within_s=40, what="/health 200")
                assert await pod.status("/readiness") == 503, name
                status, body = await ApiClient(pod.http).call("POST", "/api/sessions", json={"deviceId": "d"})
                assert (status, body["code"]) == (503, "SERVICE_UNAVAILABLE"), name
                assert "wrong" not in str(body)
                pod.signal(signal.SIGTERM)
                assert await pod.ended(within_s=40) == 0, name
    finally:
        await owner.close()


async def test_a_taken_port_is_said_and_ends_with_1(servers: TestServers, database: Database, tmp_path: Path) -> None:
    environ = {**database.environ(), **servers.redis_environ()}
    async with pod_process(tmp_path / "first", environ) as first:
        await first.is_ready()
        async with pod_process(tmp_path / "second", {**environ, "PORT": str(first.port)}) as second:
            assert await second.ended(within_s=40) == 1
            assert "cannot start: " in second.output
            assert "Traceback" not in second.output
        assert await first.status("/readiness") == 200
