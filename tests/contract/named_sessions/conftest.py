"""One pod for each module here: its tests are many and small, and each has a user of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.named_client import NamedClient, random_user
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
    async with Service({**database.environ(), **servers.redis_environ()}) as started:
        yield started


@pytest.fixture
def user(service: Service) -> NamedClient:
    return NamedClient(service, random_user())


@pytest.fixture
def another_user(service: Service) -> NamedClient:
    return NamedClient(service, random_user())
