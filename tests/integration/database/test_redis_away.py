"""What an outage of Redis leaves in the log: that it began, and that it is over."""

from __future__ import annotations

import asyncio
from typing import Any

from structlog.testing import capture_logs

from session_service import config
from session_service.clients.circuit_breaker import CircuitBreaker
from session_service.database.redis import Redis
from tests.support.servers import TestServers
from tests.support.tcp_proxy import TcpProxy


async def ping(client: Any) -> bool:
    return bool(await client.ping())


async def test_an_outage_is_told_once_and_its_end_too(servers: TestServers) -> None:
    there = config.load(servers.redis_environ()).settings.redis
    async with TcpProxy(there.port) as proxy:
        environ = {**servers.redis_environ(), "REDIS_PORT": str(proxy.port)}
        breaker = CircuitBreaker("redis", clock=asyncio.get_running_loop().time)
        redis = Redis(config.load(environ).settings.redis, breaker)
        with capture_logs() as logs:
            assert await redis.probe(ping, False)
            proxy.go_silent()
            for _ in range(20):
                await redis.attempt(ping, False)
            proxy.reset()
            proxy.speak()
            assert await redis.probe(ping, False)
        await redis.close()
    told = [(one["event"], one["log_level"]) for one in logs if one["log_level"] != "debug"]
    assert told == [("redis_away", "warning"), ("redis_back", "info")]
