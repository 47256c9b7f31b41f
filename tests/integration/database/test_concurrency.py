"""Calls that meet in PostgreSQL: what one has not committed yet, the other must wait for, never overlook."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from session_service.database.sql_files import load_queries
from tests.support.servers import Database
from tests.support.sql import Sql
from tests.support.waiting import eventually

OPEN = (
    "SELECT outcome, (opened).session_id, ended_session_id "
    "FROM session.open_session($1, 'user-1', $2, interval '1 hour', $3, '{}', 'pod-1')"
)
OPEN_SOCKET = (
    "SELECT outcome "
    "FROM session.open_socket($1, 'client-1', 'pod-1', 1, 'websocket', interval '1 hour', '{}', NULL, 7)"
)


@pytest.fixture
async def one(database: Database) -> AsyncIterator[Sql]:
    connection = await asyncpg.connect(database.owner_dsn)
    await connection.execute("INSERT INTO session.pods (pod_id, pod_name, version) VALUES ('pod-1', 'pod', '1')")
    yield connection
    await connection.close()


@pytest.fixture
async def other(database: Database) -> AsyncIterator[Sql]:
    connection = await asyncpg.connect(database.owner_dsn)
    yield connection
    await connection.close()


@pytest.fixture
async def watcher(database: Database) -> AsyncIterator[Sql]:
    """Within a transaction pg_stat_activity stands still: whoever watches is outside of it."""
    connection = await asyncpg.connect(database.owner_dsn)
    yield connection
    await connection.close()


async def until_waiting(watcher: Sql, task: asyncio.Future[Any]) -> None:
    """Return when a statement of this database waits for a lock, or ``task`` has ended without waiting."""

    async def waits() -> bool:
        return task.done() or bool(
            await watcher.fetchval(
                "SELECT count(*) > 0 FROM pg_stat_activity "
                "WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
        )

    await eventually(waits, within_s=20, what="the statement to wait")


async def test_a_session_that_another_call_is_expiring_is_not_given_out(one: Sql, other: Sql, watcher: Sql) -> None:
    await one.fetchrow(OPEN, "old", "device-1", 10)
    await one.execute("UPDATE session.active_sessions SET expires_at = now() - interval '1 s'")
    transaction = one.transaction()
    await transaction.start()
    await one.fetch("SELECT session.expire_sessions()")
    opening = asyncio.ensure_future(other.fetchrow(OPEN, "new", "device-1", 10))
    await until_waiting(watcher, opening)
    await transaction.commit()
    row = await opening
    assert tuple(row or ()) == ("created", "new", None)


async def test_a_session_that_is_being_connected_does_not_make_room(one: Sql, other: Sql, watcher: Sql) -> None:
    await one.fetchrow(OPEN, "oldest", "device-1", 2)
    await one.fetchrow(OPEN, "second", "device-2", 2)
    transaction = one.transaction()
    await transaction.start()
    assert await one.fetchval(OPEN_SOCKET, "oldest") == "opened"
    opening = asyncio.ensure_future(other.fetchrow(OPEN, "third", "device-3", 2))
    await until_waiting(watcher, opening)
    await transaction.commit()
    row = await opening
    assert tuple(row or ()) == ("created", "third", "second")


async def test_room_that_another_call_makes_meanwhile_is_used(one: Sql, other: Sql, watcher: Sql) -> None:
    await one.fetchrow(OPEN, "oldest", "device-1", 2)
    await one.fetchrow(OPEN, "second", "device-2", 2)
    transaction = one.transaction()
    await transaction.start()
    await one.fetchval("SELECT session.end_session('oldest', 'user-1')")
    opening = asyncio.ensure_future(other.fetchrow(OPEN, "third", "device-3", 2))
    await until_waiting(watcher, opening)
    await transaction.commit()
    row = await opening
    assert tuple(row or ()) == ("created", "third", None)


async def test_cleanup_and_a_simulators_step_do_not_wait_for_each_other(one: Sql, other: Sql, watcher: Sql) -> None:
    """The cascade takes metadata before simulators; a simulator's step takes them the other way round."""
    queries = load_queries()
    await one.fetchrow(OPEN, "session-1", "device-1", 2)
    await one.fetchval(
        "SELECT r.outcome FROM simulator.request_start('sim-1', 'session-1', 'user-1', '[]', 1, 2, 'pod-1') r"
    )
    await one.execute("UPDATE session.active_sessions SET expires_at = now() - interval '1 s'")
    await one.fetch("SELECT session.expire_sessions()")
    async with one.transaction():
        await one.execute("SELECT 1 FROM session.ownership FOR SHARE")  # as the step's UPDATE takes them
        await one.execute("SELECT 1 FROM simulator.instances FOR UPDATE")
        cleaning = asyncio.ensure_future(other.fetchval(queries["sessions.cleanup"], 1000))
        await until_waiting(watcher, cleaning)
        assert len(await one.fetch(queries["simulators.stopped"], "sim-1", "session-1", "pod-1", 1)) == 1
    assert await cleaning == 1


async def test_a_socket_that_waited_for_a_start_gets_the_simulator_with_it(
    one: Sql, other: Sql, watcher: Sql
) -> None:
    """Its pod may have passed over the start already: there was no socket of the session yet."""
    await one.fetchrow(OPEN, "session-1", "device-1", 2)
    async with one.transaction():
        await one.fetchval(
            "SELECT r.outcome FROM simulator.request_start('sim-1', 'session-1', 'user-1', '[]', 1, 2, 'pod-1') r"
        )
        opening = asyncio.ensure_future(
            other.fetchrow(
                load_queries()["sockets.open"], "session-1", "tab", "pod-1", 0, "websocket", 60.0, "{}", None, 7
            )
        )
        await until_waiting(watcher, opening)
    row = await opening
    assert row is not None
    assert (row["outcome"], row["simulator_id"]) == ("opened", "sim-1")


async def test_sockets_that_waited_for_a_simulators_step_get_what_it_wrote(
    one: Sql, other: Sql, watcher: Sql
) -> None:
    queries = load_queries()
    await one.fetchrow(OPEN, "session-1", "device-1", 2)
    await one.fetchval(
        "SELECT r.outcome FROM simulator.request_start('sim-1', 'session-1', 'user-1', '[]', 1, 2, 'pod-1') r"
    )
    tabs = ["tab-1", "tab-2"]
    async with one.transaction():
        await one.execute("UPDATE simulator.instances SET status = 'STARTING'")
        opening = asyncio.ensure_future(
            other.fetch(
                queries["sockets.open_many"],
                ["session-1"] * 2,
                tabs,
                ["pod-1"] * 2,
                [0, 0],
                ["websocket"] * 2,
                60.0,
                ["{}"] * 2,
                [None, None],
                7,
            )
        )
        await until_waiting(watcher, opening)
    assert [(row["place"], row["status"]) for row in await opening] == [(1, "STARTING"), (2, "STARTING")]
