"""The event bus on a real server: the channel is anybody's to write to (docs/operations.md#redis)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import redis.asyncio as redis_asyncio

from session_service import config
from session_service.clients.circuit_breaker import CircuitBreaker
from session_service.database.events import CHANNEL, EventBus
from session_service.database.redis import Redis
from session_service.domain.events import SessionEvent
from tests.support.servers import TestServers
from tests.support.waiting import eventually

EVENT = b'{"type": "session_ended", "pod_name": "other", "timestamp": 1, "session_id": "session-1"}'
GARBAGE = {
    "no UTF-8": b"\xff\xfe",
    "UTF-8 that ends early": EVENT[:-2] + b'\xc3"}',
    "no JSON": b"{",
    "another shape": b'["session_ended"]',
    "an unknown type": EVENT.replace(b"session_ended", b"session_forgotten"),
    "nested deeply": EVENT[:-1] + b', "more": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
async def test_garbage_on_the_channel_does_not_end_the_subscription(servers: TestServers, garbage: bytes) -> None:
    settings = config.load(servers.redis_environ()).settings
    loop = asyncio.get_running_loop()
    redis = Redis(settings.redis, CircuitBreaker("redis", clock=loop.time))
    bus = EventBus(redis, "this-pod")
    received: list[SessionEvent] = []
    bus.subscribe(received.append)
    inbox = asyncio.create_task(bus.run_inbox())
    publisher: Any = redis_asyncio.Redis.from_url(servers.valkey.url())

    async def arrives() -> bool:
        assert not inbox.done(), inbox
        await publisher.publish(CHANNEL, EVENT)
        return bool(received)

    try:
        await eventually(arrives, within_s=20, what="the first event")
        await publisher.publish(CHANNEL, garbage)
        received.clear()
        await eventually(arrives, within_s=20, what="an event after the garbage")
        assert {event.session_id for event in received} == {"session-1"}
    finally:
        inbox.cancel()
        await asyncio.wait([inbox])
        await publisher.aclose()
        await redis.close()
