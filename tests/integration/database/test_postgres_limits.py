"""What an operator sets on the server: what runs into its limits is unavailable, no fault of ours; and formats."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from session_service import config
from session_service.database.postgres import Postgres
from session_service.errors import DatabaseUnavailableError
from session_service.telemetry.metrics import Metrics
from tests.support.servers import Database


@pytest.fixture
async def limited(database: Database) -> AsyncIterator[Postgres]:
    """A pool whose server ends statements after 200 ms, and waits for locks after 100 ms."""
    connection = await asyncpg.connect(database.owner_dsn)
    await connection.execute(f'ALTER DATABASE "{database.name}" SET statement_timeout = 200')
    await connection.execute(f'ALTER DATABASE "{database.name}" SET lock_timeout = 100')
    await connection.close()
    postgres = Postgres(config.load(database.environ()).settings.database, Metrics())
    await postgres.open()
    yield postgres
    await postgres.close()


async def test_a_statement_that_takes_too_long(limited: Postgres) -> None:
    with pytest.raises(DatabaseUnavailableError):
        await limited.fetch_value("SELECT pg_sleep(1)")
    assert await limited.fetch_value("SELECT 1") == 1


async def test_a_lock_that_takes_too_long(limited: Postgres, database: Database) -> None:
    holder = await asyncpg.connect(database.owner_dsn)
    try:
        async with asyncio.timeout(20), holder.transaction():
            await holder.execute("LOCK TABLE session.pods IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(DatabaseUnavailableError):
                await limited.fetch_value("SELECT count(*) FROM session.pods")
        assert await limited.fetch_value("SELECT count(*) FROM session.pods") == 0
    finally:
        await holder.close()


async def test_instants_are_written_alike_whatever_the_database_is_set_to(database: Database) -> None:
    """Lists go on from an instant as PostgreSQL has written it."""
    owner = await asyncpg.connect(database.owner_dsn)
    await owner.execute(f"ALTER DATABASE \"{database.name}\" SET datestyle = 'German'")
    await owner.execute(f"ALTER DATABASE \"{database.name}\" SET timezone = 'Asia/Tokyo'")
    await owner.close()
    postgres = Postgres(config.load(database.environ()).settings.database, Metrics())
    await postgres.open()
    try:
        written = await postgres.fetch_value("SELECT '2026-01-02 03:04:05+00'::timestamptz::text")
        assert written == "2026-01-02 03:04:05+00"
    finally:
        await postgres.close()
