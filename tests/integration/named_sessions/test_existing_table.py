"""A database where the documented service has been: migrating it loses nothing, and only disorder is not served."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import asyncpg
import pytest

from session_service.database.migrations import NAMED_SESSIONS_NOT_IN_ORDER, migrate
from tests.support.documented_table import AS_WRITTEN, OF_THE_MODEL, ROWS, migrated, on
from tests.support.named_client import NamedClient
from tests.support.servers import Database
from tests.support.service import Service
from tests.support.sql import Sql
from tests.support.waiting import eventually

IN_ORDER = "INSERT INTO sessions (user_id, title, active) VALUES (1, 'a', FALSE), (1, 'b', TRUE), (2, 'a', TRUE)"
OUT_OF_ORDER = {
    "two active": "INSERT INTO sessions (user_id, title, active) VALUES (1, 'c', TRUE)",
    "a title twice": "INSERT INTO sessions (user_id, title, active) VALUES (1, 'a', FALSE)",
    "a title without characters": "INSERT INTO sessions (user_id, title, active) VALUES (1, '', FALSE)",
    "a long title": "INSERT INTO sessions (user_id, title, active) VALUES (1, repeat('x', 1001), FALSE)",
    "neither active nor not": "INSERT INTO sessions (user_id, title, active) VALUES (1, 'c', NULL)",
}
SHAPE = """
    SELECT column_name, data_type, is_nullable, column_default FROM information_schema.columns
    WHERE table_schema = 'public' AND table_name = 'sessions' ORDER BY 1
"""
INDEXES = (
    "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename = 'sessions' ORDER BY 1"
)


@pytest.mark.parametrize("made", [OF_THE_MODEL, AS_WRITTEN])
async def test_a_table_in_order_becomes_ours_with_its_rows(
    old_dsn: str, old: Sql, database: Database, sql: Sql, make_service: Callable[..., Any], made: str
) -> None:
    await old.execute(made)
    await old.execute(IN_ORDER)
    rows = await old.fetch(ROWS)
    assert NAMED_SESSIONS_NOT_IN_ORDER not in (await migrated(old_dsn)).notes
    assert await old.fetch(ROWS) == rows
    assert await old.fetch(SHAPE) == await sql.fetch(SHAPE)
    assert await old.fetch(INDEXES) == await sql.fetch(INDEXES)
    service: Service = await make_service(**on(database))
    client = NamedClient(service)
    assert {one["title"]: one["active"] for one in await client.sessions()} == {"a": False, "b": True}
    assert await client.active() == str(next(row["id"] for row in rows if (row["user_id"], row["title"]) == (1, "b")))
    await client.switch("a")
    assert (await client.try_delete("b"))[0] == 200
    assert (await NamedClient(service, 2).try_create("a"))[0] == 409


@pytest.mark.parametrize("disorder", OUT_OF_ORDER)
async def test_a_table_out_of_order_is_left_and_not_served_until_it_is_in_order(
    old_dsn: str, old: Sql, database: Database, make_service: Callable[..., Any], disorder: str
) -> None:
    await old.execute(AS_WRITTEN)
    await old.execute(IN_ORDER)
    await old.execute(OUT_OF_ORDER[disorder])
    rows = await old.fetch(ROWS)
    for _ in range(2):
        assert NAMED_SESSIONS_NOT_IN_ORDER in (await migrated(old_dsn)).notes
    assert await old.fetch(ROWS) == rows
    service: Service = await make_service(**on(database))
    client = NamedClient(service)
    for status, body in (
        await client.call("GET", "/"),
        await client.try_active(),
        await client.try_create("new"),
        await client.try_switch("a"),
        await client.try_delete("a"),
    ):
        assert status == 503
        assert body == {"detail": "Named sessions are not served before their table is in order"}
    async with service.http.get("/readiness") as response:
        assert response.status == 200
    await old.execute(
        "DELETE FROM public.sessions WHERE id NOT IN (SELECT id FROM public.sessions WHERE user_id = 2)"
    )
    assert await old.fetchval("SELECT session.order_named_sessions()")

    async def is_served() -> bool:
        return (await client.try_create("new"))[0] == 200

    await eventually(is_served, within_s=5, what="a creation that is served")


async def test_a_table_of_something_else_is_refused_by_name(old_dsn: str, old: Sql) -> None:
    await old.execute("CREATE TABLE public.sessions (id TEXT, active BOOLEAN)")
    wanted = "public.sessions is there, and is not the table of named sessions: it has no user_id, title, created_at"
    with pytest.raises(asyncpg.RaiseError, match=wanted):
        await migrate(old_dsn)


async def test_an_object_mapper_goes_on_working_beside_us(old_dsn: str, old: Sql) -> None:
    """Its statements name a subset of the columns, under a role that knows nothing of our schemas."""
    await old.execute(OF_THE_MODEL)
    await old.execute("CREATE ROLE of_the_old_service LOGIN PASSWORD 'p'")
    try:
        await old.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON public.sessions TO of_the_old_service")
        await migrated(old_dsn)
        await old.execute("SET ROLE of_the_old_service")
        await old.execute("INSERT INTO sessions (user_id, title, active) VALUES (1, 'a', TRUE)")
        await old.execute("UPDATE sessions SET active = FALSE WHERE user_id = 1 AND active")
        await old.execute("INSERT INTO sessions (user_id, title) VALUES (1, 'b')")
        await old.execute("DELETE FROM sessions WHERE title = 'a'")
        await old.execute("RESET ROLE")
        assert await old.fetchval("SELECT epoch FROM session.named_session_users WHERE user_id = 1") == 3
    finally:
        await old.execute("RESET ROLE")
        await old.execute("DROP OWNED BY of_the_old_service")
        await old.execute("DROP ROLE of_the_old_service")
