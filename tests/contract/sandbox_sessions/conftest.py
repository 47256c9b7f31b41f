"""One pod for each module here: its tests are many and small, and name the rows that they made."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.sandbox_client import SandboxClient
from tests.support.servers import Database, TestServers
from tests.support.service import Service


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def database(servers: TestServers) -> AsyncIterator[Database]:
    """The module's own."""
    made = await servers.create_database()
    yield made
    await servers.drop_database(made)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(servers: TestServers, database: Database) -> AsyncIterator[Service]:
    environ = {"SIMULATOR_BACKEND": "service", "EXCHANGE_MANAGER_SERVICE": "127.0.0.1:1"}
    async with Service({**database.environ(), **servers.redis_environ(), **environ}) as started:
        yield started


@pytest.fixture
def client(service: Service) -> SandboxClient:
    return SandboxClient(service)
