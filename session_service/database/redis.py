"""Redis: fast, early, and never needed. Every call has a short limit, and none raises.

The client library's own defaults wait a minute for a frozen server, so limits, pool and retries are set here. After a
few failures in a row a breaker leaves the server alone for a moment: a request must not feel a frozen Redis.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import redis.asyncio as redis_asyncio
import structlog
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from session_service.aiokit.cancellation import check_cancelled
from session_service.clients.circuit_breaker import BreakerState, CircuitBreaker
from session_service.config import RedisSettings
from session_service.errors import CircuitOpenError

log = structlog.get_logger(__name__)
T = TypeVar("T")

SOCKET_TIMEOUT_S = 0.25
POOL_SIZE = 20


class Redis:
    """A pool of connections behind a breaker. ``attempt`` answers the default where Redis does not answer."""

    def __init__(self, settings: RedisSettings, breaker: CircuitBreaker) -> None:
        self._breaker = breaker
        self._said_away = False
        # The library's own limits cost each command a task and two timers: an exchange has one around all of it.
        self._client = _client(settings, timeout_s=None)
        self._subscribers = _client(settings, timeout_s=SOCKET_TIMEOUT_S)

    @property
    def avoided(self) -> bool:
        """Whether calls are not made right now, since the last ones failed."""
        return self._breaker.state is not BreakerState.CLOSED

    async def attempt(self, call: Callable[[Any], Awaitable[T]], default: T) -> T:
        """Make ``call``; ``default`` when Redis is away, slow, or has been so just now."""
        return await self._attempt(lambda: self._breaker.call(lambda: self._bounded(call)), default)

    async def probe(self, call: Callable[[Any], Awaitable[T]], default: T) -> T:
        """As ``attempt``, also while Redis is avoided; its answer ends that. For loops, which nobody waits for."""

        async def made() -> T:
            answer = await self._bounded(call)
            self._breaker.reset()
            return answer

        return await self._attempt(made, default)

    async def _attempt(self, made: Callable[[], Awaitable[T]], default: T) -> T:
        answer = default
        try:
            answer = await made()
        except CircuitOpenError:
            pass
        except (RedisError, OSError, TimeoutError) as error:
            log.debug("redis_call_failed", error=type(error).__name__)
            if self.avoided and not self._said_away:
                self._said_away = True
                log.warning("redis_away", error=type(error).__name__, detail=str(error))
        else:
            if self._said_away:
                self._said_away = False
                log.info("redis_back")
        check_cancelled()
        return answer

    async def _bounded(self, call: Callable[[Any], Awaitable[T]]) -> T:
        # A whole exchange has the limit of one socket operation, however many a command needs. The library closes a
        # connection whose exchange was cut short.
        async with asyncio.timeout(SOCKET_TIMEOUT_S):
            return await call(self._client)

    async def ping(self) -> None:
        """Raises ConnectionError where Redis does not answer, or has not just now."""

        async def send(client: Any) -> bool:
            return bool(await client.ping())

        if not await self.attempt(send, False):
            raise ConnectionError("redis does not answer")

    def pubsub(self) -> Any:
        """A subscriber with a connection of its own."""
        return self._subscribers.pubsub(ignore_subscribe_messages=True)

    async def close(self) -> None:
        """Close every connection; bounded, never raises."""
        try:
            async with asyncio.timeout(1.0):
                for client in (self._client, self._subscribers):
                    await client.aclose(close_connection_pool=True)
        except (RedisError, OSError, TimeoutError):
            log.debug("redis_close_timed_out")


def _client(settings: RedisSettings, *, timeout_s: float | None) -> Any:
    """A client with a pool of its own. ``timeout_s``: of each wait, for a connection and on a socket."""
    return redis_asyncio.Redis(
        connection_pool=redis_asyncio.BlockingConnectionPool(
            host=settings.host,
            port=settings.port,
            db=settings.db,
            password=settings.password or None,
            max_connections=POOL_SIZE,
            timeout=timeout_s,
            socket_timeout=timeout_s,
            socket_connect_timeout=SOCKET_TIMEOUT_S,
            socket_keepalive=True,
            health_check_interval=10,  # a subscriber learns that its connection leads nowhere
            retry=Retry(NoBackoff(), 0),
            decode_responses=False,  # what others write need not be text: whoever reads it decides
        )
    )


class Script:
    """A Lua script that is sent once, and called by its digest from then on."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()  # the server's name for it

    async def run(self, client: Any, keys: Sequence[str], arguments: Sequence[str | int]) -> Any:
        """Its answer, by one round trip; by two where the server does not know it, or not any more."""
        try:
            return await client.evalsha(self._digest, len(keys), *keys, *arguments)
        except NoScriptError:
            return await client.eval(self._text, len(keys), *keys, *arguments)
