"""Pods for calls that start no simulator: with a backend that has no processes of its own, they start at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from tests.support.servers import Database, TestServers
from tests.support.service import Service

MakeService = Callable[..., Awaitable[Service]]


@pytest.fixture
async def make_service(servers: TestServers, database: Database) -> AsyncIterator[MakeService]:
    """``await make_service(MAX_SESSIONS_PER_USER="2")`` starts a pod with these variables beside the usual ones."""
    async with AsyncExitStack() as exits:

        async def make(**environ: str) -> Service:
            return await exits.enter_async_context(
                Service(
                    {
                        **database.environ(),
                        **servers.redis_environ(),
                        "SIMULATOR_BACKEND": "service",
                        "EXCHANGE_MANAGER_SERVICE": "127.0.0.1:1",
                        **environ,
                    }
                )
            )

        yield make


@pytest.fixture
async def service(make_service: MakeService) -> Service:
    """A pod with the usual settings."""
    return await make_service()
