"""Whatever pods, PostgreSQL and replies do: nothing is written by a former owner, and each session gets one again."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from session_service import config
from session_service.database.sql_files import load_queries
from tests.support.ownership_world import RECORDS, OwnershipWorld, WorldPod
from tests.support.servers import Database
from tests.support.sql import Sql

SEEDS = 25
STEPS = 120
SESSIONS = ("s1", "s2")


@pytest.fixture
async def sql(database: Database) -> AsyncIterator[Sql]:
    connection = await asyncpg.connect(database.owner_dsn)
    await connection.execute(RECORDS)
    yield connection
    await connection.close()


@pytest.fixture
async def watcher(database: Database) -> AsyncIterator[Sql]:
    connection = await asyncpg.connect(database.owner_dsn)
    yield connection
    await connection.close()


@pytest.fixture
async def pods(database: Database) -> AsyncIterator[list[WorldPod]]:
    settings = config.load(database.environ()).settings.database
    made = [WorldPod(name, settings, load_queries()) for name in ("a", "b", "c")]
    for pod in made:
        await pod.open()
    yield made
    for pod in made:
        await pod.close()


async def begin_anew(sql: Sql, pods: list[WorldPod]) -> None:
    await sql.execute(
        "DELETE FROM session.active_sessions; DELETE FROM session.pods; DELETE FROM simulator.teardowns;"
        "TRUNCATE record.writes, record.owners"
    )
    for session_id in SESSIONS:
        await sql.execute(
            "INSERT INTO session.active_sessions (session_id, user_id, status, expires_at)"
            " VALUES ($1, 'user', 'ACTIVE', now() + interval '1 hour')",
            session_id,
        )
        await sql.execute("INSERT INTO session.session_metadata (session_id) VALUES ($1)", session_id)
    for pod in pods:
        await pod.register()


async def test_no_former_owner_writes_and_each_session_gets_an_owner_again(
    sql: Sql, watcher: Sql, pods: list[WorldPod]
) -> None:
    accepted = refused = 0
    for seed in range(SEEDS):
        await begin_anew(sql, pods)
        world = OwnershipWorld(seed, pods, SESSIONS, sql, watcher)
        await world.run(STEPS)
        trace = "\n".join(world.trace)
        assert await world.violations() == [], f"seed {seed}\n{trace}"
        await world.settle()
        assert await world.unsettled() == [], f"seed {seed}\n{trace}"
        assert await world.violations() == [], f"seed {seed}, while it settled\n{trace}"
        accepted += world.accepted
        refused += world.refused
    # Schedules that let everything through, or nothing, would say little.
    assert accepted > 5 * SEEDS
    assert refused > 2 * SEEDS
