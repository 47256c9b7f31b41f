"""The service's own faults in the form of document 004: 503 for what PostgreSQL cannot do, 500 for the unforeseen."""

from __future__ import annotations

import asyncpg
import pytest

from tests.support.named_client import NamedClient
from tests.support.outages import no_database
from tests.support.servers import Database, TestServers
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

CALLS = [("GET", "/"), ("POST", "/"), ("POST", "/active/A"), ("DELETE", "/A")]


async def test_without_the_database_calls_may_come_again(
    user: NamedClient, servers: TestServers, database: Database
) -> None:
    await user.create("A")
    async with no_database(servers, database):
        for method, path in CALLS:
            async with user.request(method, path, json={"title": "B"}) as response:
                assert response.status == 503, (method, path)
                assert int(response.headers["Retry-After"]) >= 1
                assert (await response.json()).keys() == {"detail"}

        async def lookup_is_refused() -> bool:
            return (await user.call("GET", "/active"))[0] == 503

        await eventually(lookup_is_refused, within_s=10, what="the cache is not believed without the database")

    async def is_back() -> bool:
        return (await user.call("GET", "/"))[0] == 200

    await eventually(is_back, within_s=10, what="the database answers again")
    assert await user.titles() == {"A": True}


async def test_what_the_database_says_reaches_nobody(user: NamedClient, database: Database) -> None:
    connection = await asyncpg.connect(database.owner_dsn)
    await connection.execute("ALTER TABLE public.sessions RENAME TO sessions_elsewhere")
    try:
        for method, path in CALLS:
            status, body = await user.call(method, path, json={"title": "B"})
            assert status == 503, (method, path)
            assert body.keys() == {"detail"}
            assert "elsewhere" not in body["detail"]
            assert "relation" not in body["detail"]
    finally:
        await connection.execute("ALTER TABLE public.sessions_elsewhere RENAME TO sessions")
        await connection.close()


async def test_what_nobody_foresaw_is_500_without_particulars(user: NamedClient, database: Database) -> None:
    """A function that somebody replaced by one that answers something else."""
    connection = await asyncpg.connect(database.owner_dsn)
    original = await connection.fetchval("SELECT pg_get_functiondef('session.delete_named_session'::regproc)")
    await connection.execute(
        """CREATE OR REPLACE FUNCTION session.delete_named_session(p_user_id INTEGER, p_title TEXT) RETURNS TEXT
           AS $$ SELECT 'something else' $$ LANGUAGE sql"""
    )
    try:
        status, body = await user.call("DELETE", "/A")
        assert status == 500
        assert body == {"detail": "Internal Server Error"}
    finally:
        await connection.execute(original)
        await connection.close()
