"""Several pods in one process, on one database: with events and without rounds, or the other way round."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import msgspec
import pytest
import redis.asyncio as redis_asyncio

from session_service.database.events import CHANNEL
from session_service.server import SessionServer
from tests.support.servers import Database, TestServers
from tests.support.service import Service
from tests.support.sql import Sql
from tests.support.waiting import eventually


class Way(msgspec.Struct, frozen=True):
    """How pods hear of each other."""

    name: str
    has_rounds: bool
    environ: dict[str, str]


# Without the socket rounds, so that whatever is known was told by an event.
EVENTS = Way("events", False, {"POD_LEASE_SECONDS": "1"})
ROUNDS = Way("rounds", True, {"POD_LEASE_SECONDS": "1", "REDIS_HOST": "127.0.0.1", "REDIS_PORT": "1"})
NEITHER = Way("neither", False, ROUNDS.environ)


async def round_that_finds_nothing(_server: SessionServer) -> None:
    pass


MakePods = Callable[..., Awaitable[list[Service]]]


@pytest.fixture(params=[EVENTS, ROUNDS], ids=lambda way: way.name)
def way(request: pytest.FixtureRequest) -> Way:
    chosen: Way = request.param
    return chosen


@pytest.fixture
def make_pods(
    make_service: Callable[..., Awaitable[Service]], servers: TestServers, monkeypatch: pytest.MonkeyPatch
) -> MakePods:
    """``await make_pods(2, EVENTS)``: pods ``pod-1`` and ``pod-2``, which hear each other when it returns."""

    async def make(count: int, way: Way, **environ: str) -> list[Service]:
        if way is EVENTS:
            # No round tells what an event did not: a machine that stands still for a moment must not lose one.
            monkeypatch.setattr("session_service.database.redis.SOCKET_TIMEOUT_S", 10.0)
        if not way.has_rounds:
            monkeypatch.setattr(SessionServer, "_socket_round", round_that_finds_nothing)
        without_exchange = {"SIMULATOR_BACKEND": "service", "EXCHANGE_MANAGER_SERVICE": "127.0.0.1:1"}
        redis = redis_asyncio.Redis.from_url(servers.valkey.url())
        try:

            async def listeners() -> int:
                (_channel, number), *_ = await redis.pubsub_numsub(CHANNEL)
                return int(number)

            before = await listeners()
            pods = [
                await make_service(**{**without_exchange, **way.environ, "POD_NAME": f"pod-{number}", **environ})
                for number in range(1, count + 1)
            ]

            async def all_listen() -> bool:
                return way is not EVENTS or await listeners() >= before + count

            await eventually(all_listen, within_s=20, what="every pod's subscription")
        finally:
            await redis.aclose()
        return pods

    return make


@pytest.fixture
async def sql(database: Database) -> AsyncIterator[Sql]:
    connection = await asyncpg.connect(database.owner_dsn)
    yield connection
    await connection.close()
