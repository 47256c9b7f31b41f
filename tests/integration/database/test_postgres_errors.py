"""What each SQLSTATE leads to: once more, unavailable, an answer, or a fault (docs/operations.md, "PostgreSQL")."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from urllib.parse import unquote, urlsplit

import asyncpg
import pytest

from session_service import config
from session_service.database.postgres import REQUEST_LIMIT_S, Postgres
from session_service.errors import DatabaseUnavailableError
from session_service.telemetry.metrics import Metrics
from tests.support.servers import Database
from tests.support.sql import Sql
from tests.support.tcp_proxy import TcpProxy

# Fails the first $2 times with SQLSTATE $1. The sequence is not rolled back: it counts the tries.
FAILS = """
    CREATE SEQUENCE tries;
    CREATE FUNCTION fails(state TEXT, times INT) RETURNS BIGINT AS $$
    DECLARE n BIGINT := nextval('tries');
    BEGIN
        IF n <= times THEN RAISE EXCEPTION USING ERRCODE = state, MESSAGE = 'as the test wants'; END IF;
        RETURN n;
    END;
    $$ LANGUAGE plpgsql;
"""
CALL = "SELECT fails($1, $2)"


def settings(database: Database, **changes: str) -> config.DatabaseSettings:
    owner = urlsplit(database.owner_dsn)
    environ = {
        **database.environ(),
        "DB_USER": owner.username or "",
        "DB_PASSWORD": unquote(owner.password or ""),
        "DB_MAX_CONNECTIONS": "2",
        **changes,
    }
    return config.load(environ).settings.database


@pytest.fixture
async def sql(database: Database) -> AsyncIterator[Sql]:
    connection = await asyncpg.connect(database.owner_dsn)
    await connection.execute(FAILS)
    yield connection
    await connection.close()


@pytest.fixture
async def postgres(database: Database, sql: Sql) -> AsyncIterator[Postgres]:
    made = Postgres(settings(database), Metrics())
    await made.open()
    yield made
    await made.close()


async def tries(sql: Sql) -> int:
    return int(await sql.fetchval("SELECT last_value FROM tries"))


@pytest.mark.parametrize("repeatable", [True, False])
@pytest.mark.parametrize("state", ["40001", "40P01"])
async def test_what_did_not_happen_is_made_again(postgres: Postgres, state: str, repeatable: bool) -> None:
    assert await postgres.fetch_value(CALL, state, 2, repeatable=repeatable) == 3


@pytest.mark.parametrize("state", ["40001", "40P01"])
async def test_a_transaction_is_made_again_whole(postgres: Postgres, sql: Sql, state: str) -> None:
    await sql.execute("CREATE TABLE made (n BIGINT)")

    async def work(connection: asyncpg.pool.PoolConnectionProxy[asyncpg.Record]) -> None:
        await connection.execute("INSERT INTO made VALUES (1)")
        await connection.fetchval(CALL, state, 1)

    await postgres.transaction(work, operation="test")
    assert await sql.fetchval("SELECT count(*) FROM made") == 1


@pytest.mark.parametrize("state", ["57P01", "57P02", "57P03", "08006", "53300"])
async def test_what_may_have_happened_is_made_again_only_where_that_does_no_harm(
    postgres: Postgres, sql: Sql, state: str
) -> None:
    assert await postgres.fetch_value(CALL, state, 1, repeatable=True) == 2
    with pytest.raises(DatabaseUnavailableError):
        await postgres.fetch_value(CALL, state, 3, repeatable=False)
    assert await tries(sql) == 3


@pytest.mark.parametrize("state", ["40001", "57P01"])
async def test_three_tries_are_enough(postgres: Postgres, sql: Sql, state: str) -> None:
    with pytest.raises(DatabaseUnavailableError):
        await postgres.fetch_value(CALL, state, 100, repeatable=True)
    assert await tries(sql) == 3


@pytest.mark.parametrize("state", ["25006", "42501", "42P01", "3F000", "53100", "58030"])
async def test_what_somebody_must_set_right_is_unavailable_at_once(postgres: Postgres, sql: Sql, state: str) -> None:
    with pytest.raises(DatabaseUnavailableError):
        await postgres.fetch_value(CALL, state, 1, repeatable=True)
    assert await tries(sql) == 1
    assert await postgres.fetch_value("SELECT 1") == 1


@pytest.mark.parametrize("state", ["22012", "42601", "23514", "P0001"])
async def test_anything_else_is_a_fault_and_shows(postgres: Postgres, sql: Sql, state: str) -> None:
    with pytest.raises(asyncpg.PostgresError):
        await postgres.fetch_value(CALL, state, 1, repeatable=True)
    assert await tries(sql) == 1


async def test_a_server_that_says_nothing_is_unavailable_within_the_limit(database: Database) -> None:
    async with TcpProxy(database.port) as proxy:
        postgres = Postgres(settings(database, DB_PORT=str(proxy.port)), Metrics())
        await postgres.open()
        try:
            assert await postgres.fetch_value("SELECT 1") == 1
            proxy.go_silent()
            started = time.monotonic()
            answers = await asyncio.gather(
                *(postgres.fetch_value("SELECT 1", repeatable=True) for _ in range(20)), return_exceptions=True
            )
            assert time.monotonic() - started <= REQUEST_LIMIT_S + 0.2
            assert {type(answer) for answer in answers} == {DatabaseUnavailableError}
            proxy.speak()
            assert await postgres.fetch_value("SELECT 1", repeatable=True) == 1
        finally:
            await postgres.close()


async def test_closing_does_not_wait_for_a_server_that_says_nothing(database: Database) -> None:
    async with TcpProxy(database.port) as proxy:
        postgres = Postgres(settings(database, DB_PORT=str(proxy.port)), Metrics())
        await postgres.open()
        assert await postgres.fetch_value("SELECT 1") == 1
        proxy.go_silent()
        started = time.monotonic()
        await postgres.close(timeout_s=1)
        assert time.monotonic() - started <= 2
        with pytest.raises(DatabaseUnavailableError):
            await postgres.fetch_value("SELECT 1")
