"""What each SQLSTATE leads to: once more, unavailable, an answer, or a fault (docs/operations.md, "PostgreSQL")."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from urllib.parse import unquote, urlsplit

import asyncpg
import pytest
from structlog.testing import capture_logs

from session_service import config
from session_service.database.postgres import REQUEST_LIMIT_S, Postgres
from session_service.errors import (
    ClaimLostError,
    DatabaseUnavailableError,
    InvalidRequestError,
    SessionNotFoundError,
    SessionServiceError,
)
from session_service.telemetry.metrics import Metrics
from tests.support.servers import Database
from tests.support.sql import Sql
from tests.support.stalls import Stalls
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiting import eventually

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


@pytest.mark.parametrize("state", ["22012", "42601", "23514", "P0001", "22023"])
async def test_anything_else_is_a_fault_and_shows(postgres: Postgres, sql: Sql, state: str) -> None:
    with pytest.raises(asyncpg.PostgresError):
        await postgres.fetch_value(CALL, state, 1, repeatable=True)
    assert await tries(sql) == 1


@pytest.mark.parametrize(
    ("state", "words", "expected"),
    [
        ("SB001", "CLAIM_LOST: by somebody", ClaimLostError()),
        ("P0002", "SESSION_NOT_FOUND: none", SessionNotFoundError()),
        (
            "22023",
            "visibility: must be more: much more",
            InvalidRequestError("visibility", "must be more: much more"),
        ),
    ],
)
async def test_what_functions_of_ours_say_is_an_answer(
    postgres: Postgres, state: str, words: str, expected: SessionServiceError
) -> None:
    block = f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{state}', MESSAGE = '{words}'; END $$"
    with pytest.raises(type(expected)) as raised:
        await postgres.execute(block, repeatable=True)
    assert (raised.value.code, raised.value.message) == (expected.code, expected.message)


async def test_a_server_that_says_nothing_is_unavailable_within_the_limit(database: Database, stalls: Stalls) -> None:
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
            assert stalls.took_s(started) <= REQUEST_LIMIT_S + 0.2
            assert {type(answer) for answer in answers} == {DatabaseUnavailableError}
            proxy.speak()
            assert await postgres.fetch_value("SELECT 1", repeatable=True) == 1
        finally:
            await postgres.close()


async def test_closing_does_not_wait_for_a_server_that_says_nothing(database: Database, stalls: Stalls) -> None:
    async with TcpProxy(database.port) as proxy:
        postgres = Postgres(settings(database, DB_PORT=str(proxy.port)), Metrics())
        await postgres.open()
        assert await postgres.fetch_value("SELECT 1") == 1
        proxy.go_silent()
        started = time.monotonic()
        await postgres.close(timeout_s=1)
        assert stalls.took_s(started) <= 2
        with pytest.raises(DatabaseUnavailableError):
            await postgres.fetch_value("SELECT 1")


# --- what the log says -------------------------------------------------------------------------------------------


async def test_an_outage_is_one_line_with_its_cause_and_one_when_it_is_over(database: Database, sql: Sql) -> None:
    """The first call meets a server that says nothing, the next ones a port where nobody listens."""
    owner = urlsplit(database.owner_dsn)
    assert owner.port is not None
    async with TcpProxy(owner.port) as proxy:
        postgres = Postgres(settings(database, DB_PORT=str(proxy.port)), Metrics())
        await postgres.open()
        with capture_logs() as logs:
            assert await postgres.fetch_value("SELECT 1") == 1
            proxy.go_silent()
            with pytest.raises(DatabaseUnavailableError):
                await postgres.fetch_value("SELECT 1", operation="silent")
            proxy.speak()
            proxy.refuse()
            proxy.reset()
            for _ in range(5):
                with pytest.raises(DatabaseUnavailableError):
                    await postgres.fetch_value("SELECT 1", operation="refused")
            await proxy.accept()

            async def told() -> bool:
                assert await postgres.fetch_value("SELECT 1") == 1
                return bool(logs[-1]["event"] == "database_back")

            await eventually(told, within_s=20, what="the end of the outage in the log")
        await postgres.close()
    away, *between, back = logs
    assert (away["log_level"], away["event"], away["operation"]) == ("error", "database_away", "silent")
    assert (away["stage"], away["error"]) == ("statement", "TimeoutError")
    assert re.fullmatch(r"no answer after \d\.\d s", away["detail"])
    assert {(line["log_level"], line["stage"], line["error"]) for line in between} == {
        ("debug", "connect", "ConnectionRefusedError")
    }
    assert (back["log_level"], back["away_s"] > 0) == ("info", True)


async def test_the_line_of_an_outage_counts_every_try_of_the_call(database: Database) -> None:
    owner = urlsplit(database.owner_dsn)
    assert owner.port is not None
    async with TcpProxy(owner.port) as proxy:
        postgres = Postgres(settings(database, DB_PORT=str(proxy.port)), Metrics())
        await postgres.open()
        assert await postgres.fetch_value("SELECT 1") == 1
        proxy.go_silent()
        with capture_logs() as logs, pytest.raises(DatabaseUnavailableError):
            await postgres.fetch_value("SELECT 1", repeatable=True)
        await postgres.close()
    (away,) = logs
    waited = re.fullmatch(r"no answer after (\d\.\d) s", away["detail"])
    assert waited is not None
    assert float(waited[1]) >= round(REQUEST_LIMIT_S, 1), "of its last try alone"


async def test_a_lock_that_takes_too_long_is_no_outage(postgres: Postgres, sql: Sql) -> None:
    with capture_logs() as logs, pytest.raises(DatabaseUnavailableError):
        await postgres.fetch_value(CALL, "55P03", 9, operation="stuck")
    assert [(line["log_level"], line["event"], line["operation"]) for line in logs] == [
        ("warning", "database_call_failed", "stuck")
    ]


async def test_a_pool_without_a_free_connection_says_so(postgres: Postgres) -> None:
    with capture_logs() as logs:
        # Two connections, each taken for 2 s, then by the next two calls: the fifth has none in its time.
        calls = (postgres.fetch_value("SELECT pg_sleep(30)", operation=f"call-{n}") for n in range(5))
        await asyncio.gather(*calls, return_exceptions=True)
    assert "pool" in {line["stage"] for line in logs}
