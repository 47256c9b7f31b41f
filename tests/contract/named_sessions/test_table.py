"""Document 004, "Database Schema": table and indexes as they are written there, for whoever else reads them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from tests.support.servers import Database

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def connection(database: Database) -> AsyncIterator[asyncpg.Connection[Any]]:
    opened = await asyncpg.connect(database.owner_dsn)
    yield opened
    await opened.close()


async def test_the_columns(connection: asyncpg.Connection[Any]) -> None:
    rows = await connection.fetch(
        """SELECT column_name, data_type, column_default FROM information_schema.columns
           WHERE table_schema = 'public' AND table_name = 'sessions' ORDER BY ordinal_position"""
    )
    assert [tuple(row) for row in rows] == [
        ("id", "uuid", "gen_random_uuid()"),
        ("user_id", "integer", None),
        ("title", "character varying", None),
        ("active", "boolean", "false"),
        ("created_at", "timestamp with time zone", "CURRENT_TIMESTAMP"),
        ("updated_at", "timestamp with time zone", "CURRENT_TIMESTAMP"),
    ]


async def test_the_primary_key(connection: asyncpg.Connection[Any]) -> None:
    definition = await connection.fetchval(
        """SELECT pg_get_constraintdef(oid) FROM pg_constraint
           WHERE conrelid = 'public.sessions'::regclass AND contype = 'p'"""
    )
    assert definition == "PRIMARY KEY (id)"


async def test_the_indexes(connection: asyncpg.Connection[Any]) -> None:
    rows = await connection.fetch(
        "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename = 'sessions'"
    )
    found = {row["indexname"]: row["indexdef"] for row in rows}
    assert found["idx_sessions_user_id"].endswith("USING btree (user_id)")
    assert found["idx_sessions_active"].endswith("USING btree (user_id, active) WHERE (active = true)")


@pytest.mark.parametrize("statement", [
    "INSERT INTO sessions (user_id, title, active) VALUES (7, 'B', TRUE)",
    "INSERT INTO sessions (user_id, title) VALUES (7, 'A')",
    "INSERT INTO sessions (user_id, title) VALUES (7, '')",
    "INSERT INTO sessions (user_id, title) VALUES (NULL, 'C')",
    "INSERT INTO sessions (user_id, title) VALUES (7, NULL)",
], ids=["a second active session", "a title twice", "an empty title", "no user", "no title"])  # fmt: skip
async def test_plain_sql_cannot_break_the_rules(connection: asyncpg.Connection[Any], statement: str) -> None:
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute("INSERT INTO sessions (user_id, title, active) VALUES (7, 'A', TRUE)")
        with pytest.raises(asyncpg.IntegrityConstraintViolationError):
            await connection.execute(statement)
    finally:
        await transaction.rollback()
