"""What a test takes away from its pods for a while."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from tests.support.servers import Database, TestServers


@asynccontextmanager
async def no_database(servers: TestServers, database: Database) -> AsyncIterator[None]:
    """This test's database lets no pod in, and whoever is in is thrown out."""
    connection = await asyncpg.connect(servers.postgres.dsn("postgres"))
    await connection.execute(f'ALTER DATABASE "{database.name}" CONNECTION LIMIT 0')
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", database.name
    )
    try:
        yield
    finally:
        await connection.execute(f'ALTER DATABASE "{database.name}" CONNECTION LIMIT -1')
        await connection.close()
