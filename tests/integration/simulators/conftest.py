"""A pod with real simulator processes, and a connection to its database."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.support.api_client import ApiClient
from tests.support.invariants import check_invariants
from tests.support.servers import Database
from tests.support.service import Service
from tests.support.sql import Sql


@pytest.fixture
async def sql(database: Database) -> AsyncIterator[Sql]:
    """The owner's connection. After the test the invariants are checked over it."""
    connection = await asyncpg.connect(database.owner_dsn)
    yield connection
    await connection.close()
    await check_invariants(database.owner_dsn)


@pytest.fixture
def api(service: Service) -> ApiClient:
    return ApiClient(service.http)
