"""Pods with a Redis of the test's own, that may be frozen, cut off, emptied or rolled back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import asyncpg
import pytest
import redis.asyncio as redis_asyncio

from session_service.local.binaries import find_valkey
from session_service.local.valkey import EmbeddedValkey
from tests.support import documented_table
from tests.support.active_sessions import ActiveSessions
from tests.support.servers import Database, TestServers
from tests.support.service import Service
from tests.support.sql import Sql

MakePod = Callable[..., Awaitable[Service]]


@pytest.fixture
async def valkey(tmp_path: Path) -> AsyncIterator[EmbeddedValkey]:
    server = EmbeddedValkey(find_valkey(), password="p", log=tmp_path / "valkey.log")
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def redis(valkey: EmbeddedValkey) -> AsyncIterator[redis_asyncio.Redis]:
    client = redis_asyncio.Redis.from_url(valkey.url(), decode_responses=True)
    yield client
    await client.aclose()


@pytest.fixture
async def sql(database: Database) -> AsyncIterator[Sql]:
    connection = await asyncpg.connect(database.owner_dsn)
    yield connection
    await connection.close()


@pytest.fixture
def truth(sql: Sql, redis: redis_asyncio.Redis) -> ActiveSessions:
    return ActiveSessions(sql, redis)


@pytest.fixture
def make_pod(valkey: EmbeddedValkey, make_service: Callable[..., Awaitable[Service]]) -> MakePod:
    """``await make_pod("pod-1", REDIS_PORT="1")``: a pod that believes the cache, unless it cannot."""

    async def make(name: str, **environ: str) -> Service:
        return await make_service(
            **{
                "POD_NAME": name,
                "SIMULATOR_BACKEND": "service",
                "EXCHANGE_MANAGER_SERVICE": "127.0.0.1:1",
                "REDIS_PORT": str(valkey.port),
                "REDIS_PASSWORD": "p",
                **environ,
            }
        )

    return make


@pytest.fixture
async def pod(make_pod: MakePod, truth: ActiveSessions) -> Service:
    """A pod that believes the cache."""
    made = await make_pod("pod-1")
    await truth.is_believed(made)
    return made


@pytest.fixture
async def old_dsn(servers: TestServers) -> AsyncIterator[str]:
    """An empty database, for a table that the documented service has left."""
    await servers._on_maintenance(f"CREATE DATABASE {documented_table.NAME}")
    yield servers.postgres.dsn(documented_table.NAME)
    await servers._on_maintenance(f"DROP DATABASE {documented_table.NAME} WITH (FORCE)")


@pytest.fixture
async def old(old_dsn: str) -> AsyncIterator[Sql]:
    connection = await asyncpg.connect(old_dsn)
    yield connection
    await connection.close()
