"""A plain connection to a test's own database, and what is waited for in it."""

from __future__ import annotations

import asyncio
from typing import Any, TypeAlias

import asyncpg

from tests.support.waiting import eventually

Sql: TypeAlias = "asyncpg.Connection[Any]"


async def until_waiting(watcher: Sql, *tasks: asyncio.Future[Any]) -> None:
    """Return when each of these statements waits for a lock, and no others do."""

    async def wait() -> bool:
        assert not any(task.done() for task in tasks), "it did not wait"
        return len(tasks) == int(
            await watcher.fetchval(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
        )

    await eventually(wait, within_s=20, what="the statement to wait")
